"""Twins of the films that the field reported: headers that contradict themselves, and what wins."""

import struct
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
)

from app.errors import CorruptImageError, UnsupportedImageError
from app.imaging.decoding import decode
from app.imaging.headers import identify
from tests.dicoms import dicom, header, written
from tests.pictures import noise
from tests.reference import Film, Lut
from tests.reference import shown as reference

LIMIT = 1_000_000
FILM = np.random.default_rng(3).integers(300, 3900, (24, 32), np.uint16)
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
WINDOWED = Film(12, window=(2048, 4096))
RANGE = Film(12)
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
RAMP = range(4096)


def raw(keyword_tag: int, vr: str, value: bytes) -> RawDataElement:
    return RawDataElement(Tag(keyword_tag), vr, len(value), value, 0, False, True)


def texts(pixels: np.ndarray = FILM, **values: str) -> bytes:
    """A film of 12 bits with elements whose text is written as it stands."""
    tags = {
        "WindowCenter": 0x00281050,
        "WindowWidth": 0x00281051,
        "PixelSpacing": 0x00280030,
        "RescaleIntercept": 0x00281052,
        "RescaleSlope": 0x00281053,
        "PixelAspectRatio": 0x00280034,
    }
    dataset = header(pixels, BitsStored=12)
    for keyword, value in values.items():
        text = value.encode() + b" " * (len(value) % 2)
        dataset._dict[Tag(tags[keyword])] = raw(tags[keyword], "DS", text)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return written(dataset)


def table(
    entries, bits: int, first: int = 0, *, count: int | None = None, packed: bool = False, order: str = "<"
) -> list:
    item = Dataset()
    item.add_new(0x00283002, "US", [(len(entries) if count is None else count) & 0xFFFF, first & 0xFFFF, bits])
    if packed and order == ">":
        entries = [entry for pair in zip(entries[1::2], entries[::2], strict=True) for entry in pair]
    data = bytes(entries) if packed else struct.pack(f"{order}{len(entries)}H", *entries)
    item.add_new(0x00283006, "OW", data)
    item.ModalityLUTType = "US"
    return [item]


def picture(data: bytes):
    return decode(identify(data), max_pixels=LIMIT)


def check(data: bytes, film: Film, words: np.ndarray = FILM) -> None:
    """Shown as the reference shows it, to within rounding, and without a warning."""
    found = picture(data)
    np.testing.assert_allclose(np.asarray(found.image), reference(film, words), atol=0.51)
    assert found.warnings == ()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("first", [-1024, -32768, 0, 200])
def test_the_first_value_of_a_table_has_the_sign_of_the_values(first, syntax):
    """64512 is -1024 where what is looked up can be negative: by the pixels, or by the rescale."""
    order = "<" if syntax.is_little_endian else ">"
    entries = [min(4095, max(0, index + first + 1024)) for index in range(36000)]
    voi = table(entries, 12, first, order=order)
    rescaled = dicom(FILM, syntax, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=voi)
    check(rescaled, Film(12, intercept=-1024, voi=Lut(first, 12, entries)))
    signed = (FILM.astype(np.int32) - 1024).astype(np.int16)
    check(dicom(signed, syntax, VOILUTSequence=voi), Film(16, signed=True, voi=Lut(first, 12, entries)), signed)


def test_an_unsigned_first_value_stays_unsigned():
    """Where no value is negative, however the descriptor is written."""
    words = FILM + 40_000
    entries = list(RAMP)
    check(dicom(words, VOILUTSequence=table(entries, 12, 40_000)), Film(16, voi=Lut(40_000, 12, entries)), words)
    item = table(entries, 12)[0]
    item.add_new(0x00283002, "SS", [4096, 40_000 - 65536, 12])
    check(dicom(words, VOILUTSequence=[item]), Film(16, voi=Lut(40_000, 12, entries)), words)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_8_bits_in_words_or_in_bytes(keyword, packed, syntax):
    """Both are written."""
    entries = [255 - (value >> 4) for value in RAMP]
    order = "<" if syntax.is_little_endian else ">"
    data = dicom(FILM, syntax, BitsStored=12, **{keyword: table(entries, 8, packed=packed, order=order)})
    lut = Lut(0, 8, entries)
    check(data, Film(12, voi=lut) if keyword == "VOILUTSequence" else Film(12, modality=lut))


@pytest.mark.parametrize(
    ("bits", "scale"), [(16, 1), (12, 16), (16, 4), (16, 0.25), (10, 1), (8, 1), (12, 0.6), (12, 1), (16, 16), (15, 8)]
)
def test_a_table_is_scaled_by_what_it_holds(bits, scale):
    """Where its descriptor says 16 bits, or a number that its entries contradict."""
    entries = [int(value * scale) for value in RAMP]
    check(dicom(FILM, BitsStored=12, VOILUTSequence=table(entries, bits)), Film(12, voi=Lut(0, bits, entries)))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_that_lacks_its_last_entry_is_padded(keyword, packed):
    """Its last one stands for what is missing; more than one is a contradiction."""
    entries = [value >> 4 for value in range(4000)]
    lut = Lut(0, 8, entries)
    film = Film(12, voi=lut) if keyword == "VOILUTSequence" else Film(12, modality=lut)
    check(dicom(FILM, BitsStored=12, **{keyword: table(entries, 8, count=4001, packed=packed)}), film)
    with pytest.raises(CorruptImageError, match=r"LUT Data \(0028,3006\) .*fewer entries"):
        picture(dicom(FILM, BitsStored=12, **{keyword: table(entries, 8, count=9000, packed=packed)}))


@pytest.mark.parametrize("item", [Dataset(), table([], 0)[0], None])
def test_an_empty_table_is_none(item):
    """The next item counts, then the window."""
    if item is None:
        item = Dataset()
        item.add_new(0x00283002, "US", None)
        item.LUTExplanation = "NORMAL"
    check(dicom(FILM, BitsStored=12, VOILUTSequence=[item], **WINDOW), WINDOWED)
    check(dicom(FILM, BitsStored=12, ModalityLUTSequence=[item], **WINDOW), WINDOWED)
    entries = [4095 - value for value in RAMP]
    both = [item, *table(entries, 12)]
    check(dicom(FILM, BitsStored=12, VOILUTSequence=both, **WINDOW), Film(12, voi=Lut(0, 12, entries)))


@pytest.mark.parametrize("bits", [1, 8, 10, 12, 14, 15, 16])
def test_a_modality_table_of_any_depth(bits):
    """Its entries are the values."""
    entries = [value % 2**bits for value in RAMP]
    data = dicom(FILM, BitsStored=12, ModalityLUTSequence=table(entries, bits), **WINDOW)
    found, expected = picture(data), reference(Film(12, modality=Lut(0, bits, entries), window=(2048, 4096)), FILM)
    np.testing.assert_allclose(np.asarray(found.image), expected, atol=0.51)


def test_a_table_of_65536_entries_says_0():
    """As sixteen bits can't say it."""
    entries = [65535 - value for value in range(65536)]
    words = FILM * 16
    check(dicom(words, VOILUTSequence=table(entries, 16)), Film(16, voi=Lut(0, 16, entries)), words)


@pytest.mark.parametrize("syntax", [*SYNTAXES, JPEGLosslessSV1, JPEG2000Lossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 15), (8, 15)])
def test_a_high_bit_above_the_stored_ones_shifts_them_down(bits, high, signed, syntax):
    """With an overlay in the bits below."""
    shift = high + 1 - bits
    values = np.random.default_rng(0).integers(0, 2**bits, (64, 64)).astype(np.uint16)
    words = values << shift | ((1 << shift) - 1 if not syntax.is_encapsulated else 0)
    pixels = words.view(np.int16) if signed else words
    if syntax.is_encapsulated:
        dataset = header(pixels, syntax, BitsStored=bits, HighBit=high)
        if syntax == JPEGLosslessSV1:
            stream = imagecodecs.jpeg8_encode(words, lossless=True, bitspersample=16)
        else:
            stream = imagecodecs.jpeg2k_encode(words, codecformat="j2k", reversible=True, level=0)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].is_undefined_length = True
        data = written(dataset)
    else:
        data = dicom(pixels, syntax, BitsStored=bits, HighBit=high)
    check(data, Film(bits, shift=shift, signed=signed), words)


def test_a_compressed_frame_of_the_stored_bits_is_not_shifted():
    """Its decoder gives the values, whatever High Bit says; one that lies outside of the word says nothing."""
    data = dicom(FILM, JPEGLosslessSV1, BitsStored=12, HighBit=15, **WINDOW)
    check(data, WINDOWED)
    for high in (3, 40):
        check(dicom(FILM, BitsStored=12, HighBit=high, **WINDOW), WINDOWED)


@pytest.mark.parametrize("slope", ["0", "0.0", "NaN", "inf", "-Infinity", "1e400", "text"])
def test_a_slope_that_can_not_be_one_is_as_if_absent(slope):
    """And its intercept with it, as where the slope is missing."""
    check(texts(RescaleSlope=slope, RescaleIntercept="-1024", WindowCenter="2048", WindowWidth="4096"), WINDOWED)
    check(texts(RescaleSlope="2", RescaleIntercept=slope if slope[0] != "0" else "nan"), RANGE)
    check(texts(RescaleIntercept="-1024", WindowCenter="2048", WindowWidth="4096"), WINDOWED)


def test_empty_rescale_values_are_1_and_0():
    """Each for itself."""
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    check(texts(RescaleSlope="", RescaleIntercept="", **window), WINDOWED)
    check(texts(RescaleSlope="", RescaleIntercept="-100", **window), Film(12, intercept=-100, window=(2048, 4096)))
    check(texts(RescaleSlope="0,5", RescaleIntercept="", **window), Film(12, slope=0.5, window=(2048, 4096)))


@pytest.mark.parametrize(
    ("center", "width", "window"),
    [
        ("2048,0", "4096,0", (2048, 4096)),
        ("2048,0\\100", "4096,0\\200", (2048, 4096)),
        ("\\2048", "\\4096", (2048, 4096)),
        ("\\2048", "4096", (2048, 4096)),
        ("2048", "\\4096", (2048, 4096)),
        (" 2048 ", "4096.", (2048, 4096)),
        ("NaN\\2048", "3000\\4096", (2048, 4096)),
        ("2.048E3", "+4096", (2048, 4096)),
        ("NaN", "3000", None),
        ("2048", "inf", None),
        ("2048", "NaN", None),
        ("2048", "0", None),
        ("2048", "-4096", None),
        ("2048", "", None),
        ("", "", None),
        ("text", "4096", None),
        ("1_000", "4096", None),
    ],
)
def test_a_window_as_it_is_written(center, width, window):
    """The first pair that is one; without any, the range of the values."""
    check(texts(WindowCenter=center, WindowWidth=width), Film(12, window=window))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("scale", [1e-6, 1e-4, 0.01, 1, 1000])
def test_a_window_of_any_width(function, scale):
    """Below 1 it is taken exactly: the formula of the standard counts in whole steps."""
    data = dicom(
        FILM,
        BitsStored=12,
        RescaleSlope=scale,
        RescaleIntercept=0,
        WindowCenter=2048 * scale,
        WindowWidth=4000 * scale,
        VOILUTFunction=function,
    )
    check(data, Film(12, slope=scale, window=(2048 * scale, 4000 * scale), function=function))


@pytest.mark.parametrize(("vr", "value"), [("US", 63536), ("SS", -2000)])
@pytest.mark.parametrize("limit", [None, -1990])
def test_padding_has_the_sign_of_the_pixels(vr, value, limit):
    """However it is written; it is black, and no part of the range."""
    pixels = FILM.astype(np.int16)
    pixels[:6] = -2000
    pixels[6] = -1995 if limit else -2000
    dataset = header(pixels, BitsStored=16)
    dataset.add_new(0x00280120, vr, value)
    if limit:
        dataset.add_new(0x00280121, vr, limit if vr == "SS" else limit + 65536)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    check(written(dataset), Film(16, signed=True, padding=(-2000, limit or -2000)), pixels)


def test_padding_as_the_bare_bits_of_a_signed_value():
    """2096 is -2000 in twelve bits."""
    pixels = FILM.astype(np.int16) // 2
    pixels[:6] = -2000
    dataset = header(pixels, BitsStored=12)
    dataset.add_new(0x00280120, "US", 2096)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    check(written(dataset), Film(12, signed=True, padding=(-2000, -2000)), pixels)


COLOURS = np.stack(
    [np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1)), noise(48, 64), noise(48, 64, seed=1)], -1
)


@pytest.mark.parametrize("said", ["YBR_FULL", "YBR_RCT", "YBR_ICT", "RGB", "YBR_FULL_422"])
def test_colours_that_jpeg_2000_transformed_are_converted_once(said):
    """The codestream knows whether it was."""
    stream = imagecodecs.jpeg2k_encode(COLOURS, codecformat="j2k", reversible=True, level=0, mct=True)
    assert (shown_stream(stream, JPEG2000Lossless, said) == COLOURS).all()


def test_colours_that_jpeg_2000_left_alone_are_what_the_header_says():
    """RGB as it is, YBR_FULL converted."""
    stream = imagecodecs.jpeg2k_encode(COLOURS, codecformat="j2k", reversible=True, level=0, mct=False)
    assert (shown_stream(stream, JPEG2000Lossless, "RGB") == COLOURS).all()
    luma = np.full((48, 64, 3), 128, np.uint8)
    luma[..., 0] = noise(48, 64)
    stream = imagecodecs.jpeg2k_encode(luma, codecformat="j2k", reversible=True, level=0, mct=False)
    found = shown_stream(stream, JPEG2000Lossless, "YBR_FULL")
    assert (found == luma[..., :1]).all()


@pytest.mark.parametrize("said", ["YBR_FULL_422", "YBR_FULL", "RGB"])
@pytest.mark.parametrize("space", ["RGB", "YCBCR"])
def test_a_jpeg_that_names_its_colours_is_believed(space, said):
    """Adobe's segment, or the components' names."""
    smooth = np.repeat(COLOURS[:, :, :1], 3, -1)
    smooth[..., 1] //= 2
    stream = imagecodecs.jpeg8_encode(smooth, level=100, colorspace="RGB", outcolorspace=space)
    np.testing.assert_allclose(shown_stream(stream, JPEGBaseline8Bit, said).astype(int), smooth, atol=6)


def shown_stream(stream: bytes, syntax, said: str) -> np.ndarray:
    dataset = header(COLOURS, syntax, PhotometricInterpretation=said, PlanarConfiguration=None)
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].is_undefined_length = True
    return np.asarray(picture(written(dataset)).image)


@pytest.mark.parametrize(
    "missing",
    [
        ["SamplesPerPixel"],
        ["HighBit"],
        ["BitsStored"],
        ["PixelRepresentation"],
        ["BitsAllocated"],
        ["SamplesPerPixel", "HighBit", "PixelRepresentation", "BitsAllocated"],
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1], ids=lambda uid: uid.name)
def test_what_can_be_only_one_thing_need_not_be_said(missing, syntax):
    """It follows from the rest."""
    dataset = dcmread(BytesIO(dicom(FILM, syntax, BitsStored=12, **WINDOW)))
    for keyword in missing:
        delattr(dataset, keyword)
    check(written(dataset), WINDOWED)


@pytest.mark.parametrize("missing", ["SamplesPerPixel", "PlanarConfiguration"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless], ids=lambda uid: uid.name
)
def test_colours_need_not_say_how_they_lie(missing, syntax):
    """By pixel; a compressed frame knows it itself."""
    smooth = np.repeat(COLOURS[:, :, :1], 3, -1)
    dataset = dcmread(BytesIO(dicom(smooth, syntax)))
    if missing in dataset:
        delattr(dataset, missing)
    np.testing.assert_allclose(np.asarray(picture(written(dataset)).image).astype(int), smooth, atol=3)


@pytest.mark.parametrize(
    ("spacing", "size"),
    [
        ("0.14", (32, 24)),
        ("0.14\\", (32, 24)),
        ("\\0.14", (32, 24)),
        ("0,14\\0,14", (32, 24)),
        ("0,2\\0,1", (32, 48)),
        ("text", (32, 24)),
        ("unknown\\unknown", (32, 24)),
        ("NaN\\0.1", (32, 24)),
        ("0.2\\0.1\\7", (32, 48)),
        ("", (32, 24)),
    ],
)
def test_a_spacing_as_it_is_written(spacing, size):
    """One number, or none, means square pixels."""
    found = picture(texts(PixelSpacing=spacing))
    assert (found.width, found.height) == size


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Rows": None}, r"Rows \(0028,0010\) is missing"),
        ({"Columns": None}, r"Columns \(0028,0011\) is missing"),
        ({"PhotometricInterpretation": None}, r"Photometric Interpretation \(0028,0004\) is missing"),
        ({"SamplesPerPixel": 3}, r"Samples per Pixel \(0028,0002\) contradicts"),
        ({"BitsStored": 17, "HighBit": 16}, r"Bits Stored \(0028,0101\) is larger"),
        ({"PixelRepresentation": 7}, r"Pixel Representation \(0028,0103\) is neither"),
        ({"PixelSpacing": [1, 100]}, r"Pixel Spacing \(0028,0030\) says"),
        ({"VOILUTSequence": table([1, 2], 16, count=50)}, r"LUT Data \(0028,3006\)"),
    ],
)
def test_a_refusal_says_which_attribute_is_wrong(elements, said):
    """Not that the film were damaged."""
    with pytest.raises(CorruptImageError, match=said) as refusal:
        picture(dicom(FILM, **elements))
    assert "truncated" not in str(refusal.value)


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"BitsAllocated": 12}, r"Bits Allocated \(0028,0100\)"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_420"}, r"Photometric Interpretation \(0028,0004\)"),
    ],
)
def test_what_is_not_supported_is_named(elements, said):
    """And what is supported."""
    with pytest.raises(UnsupportedImageError, match=said):
        picture(dicom(FILM, BitsStored=12, **elements))


def test_truncated_is_said_of_what_is():
    """Fewer pixels than the header says."""
    dataset = header(FILM)
    dataset.PixelData = FILM.tobytes()[:-100]
    dataset["PixelData"].VR = "OW"
    with pytest.raises(CorruptImageError, match="truncated or damaged"):
        picture(written(dataset))


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 30000, "WindowWidth": 10},
        {"WindowCenter": 0, "WindowWidth": 1e9},
        {"WindowCenter": 2000, "WindowWidth": 1},
        {"VOILUTSequence": table([4095, 4095], 12)},
        {"RescaleSlope": 1e-6, "RescaleIntercept": 0, **WINDOW},
        {"ModalityLUTSequence": table([7] * 4096, 12)},
    ],
)
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_a_window_that_leaves_no_contrast_is_said_so(elements, meaning):
    """Always, for any model: the network sees what is shown."""
    found = picture(dicom(FILM, BitsStored=12, PhotometricInterpretation=meaning, **elements))
    assert [warning.code for warning in found.warnings] == ["low_contrast"]


def test_a_film_that_has_no_contrast_itself_is_not_the_windows_fault():
    """Nor is one whose range an outlier doesn't fill, or whose padding is most of it."""
    assert picture(dicom(np.full((24, 32), 2000, np.uint16), BitsStored=12, **WINDOW)).warnings == ()
    padded = np.zeros((24, 32), np.uint16)
    padded[-2:] = FILM[-2:]
    assert picture(dicom(padded, BitsStored=12, PixelPaddingValue=0, **WINDOW)).warnings == ()
    outlier = FILM // 64
    outlier[0, 0] = 4095
    assert [warning.code for warning in picture(dicom(outlier, BitsStored=12)).warnings] == ["low_contrast"]
