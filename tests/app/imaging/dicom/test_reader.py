"""DICOM objects: their pixels as they are shown, what their headers say, and nothing of their patients."""

import io
import logging
import struct
import zlib

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from app.errors import CorruptImageError, ImageTooLargeError, InputError, QuestionError, UnsupportedImageError
from app.imaging.decoding import decode
from app.imaging.dicom.reader import decode_dicom, read_header
from app.imaging.headers import identify
from app.imaging.picture import HeaderFacts
from tests.dicoms import PATIENT, dicom, header, packaged, written
from tests.pictures import noise

LIMIT = 1_000_000
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LOSSLESS = [*NATIVE, RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]


def shown(data: bytes, **options) -> np.ndarray:
    return np.asarray(decode(identify(data), max_pixels=options.pop("max_pixels", LIMIT), **options).image)


def film(bits: int, *, signed: bool = False) -> np.ndarray:
    """All values that `bits` can store, as a picture."""
    values = np.linspace(0, 2**bits - 1, 48 * 32).astype(np.int64).reshape(32, 48)
    if signed:
        return (values - 2 ** (bits - 1)).astype(np.int8 if bits <= 8 else np.int16)
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_every_lossless_syntax_gives_the_same_pixels(syntax, bits, signed, meaning):
    """Of any depth, signed or not; without a window the values' range is what is shown."""
    pixels = film(bits, signed=signed)
    data = dicom(pixels, syntax, BitsStored=bits, PhotometricInterpretation=meaning)
    low, high = int(pixels.min()), int(pixels.max())
    expected = (pixels.astype(np.int64) - low) / (high - low)
    expected = 1 - expected if meaning == "MONOCHROME1" else expected
    np.testing.assert_array_equal(shown(data), (expected * 255 + 0.5).astype(np.uint8))


@pytest.mark.parametrize(("syntax", "bits"), [(JPEGBaseline8Bit, 8), (JPEGExtended12Bit, 12)])
def test_lossy_syntaxes_come_near(syntax, bits):
    """Within what JPEG at quality 100 loses."""
    pixels = film(bits)
    window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
    lossless = shown(dicom(pixels, BitsStored=bits, **window)).astype(int)
    assert abs(shown(dicom(pixels, syntax, BitsStored=bits, **window)).astype(int) - lossless).max() <= 3


@pytest.mark.parametrize("pixels", [noise(64, 96), noise(64, 96).astype(np.uint16) * 257], ids=["8 bits", "16 bits"])
def test_high_throughput_jpeg_2000(pixels):
    """The newest of the syntaxes."""
    dataset = header(pixels, HTJ2KLossless)
    dataset.PixelData = encapsulate([imagecodecs.htj2k_encode(pixels, reversible=True)])
    assert (shown(written(dataset)) == shown(dicom(pixels))).all()


def test_the_chest_film_and_its_twin_are_the_same():
    """Lossless JPEG 2000 to the bit, lossy nearly; air dark, spine bright."""
    original = shown(packaged("RG1_UNCR.dcm"), max_pixels=64_000_000)
    assert original.shape == (1955, 1841)
    assert original[60:100, 30:110].mean() < 90
    assert original[900:1100, 880:960].mean() > 170
    assert (shown(packaged("RG1_J2KR.dcm"), max_pixels=64_000_000) == original).all()
    lossy = shown(packaged("RG1_J2KI.dcm"), max_pixels=64_000_000)
    assert 0 < abs(lossy.astype(int) - original).mean() < 1


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("693_UNCR.dcm", "693_J2KR.dcm"),
        ("MR2_UNCR.dcm", "MR2_J2KR.dcm"),
        ("US1_UNCR.dcm", "US1_J2KR.dcm"),
        ("JPEG2000_UNC.dcm", "JPEG2000.dcm"),
        ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"),
        ("MR_small.dcm", "MR_small_bigendian.dcm"),
        ("MR_small.dcm", "MR_small_implicit.dcm"),
        ("MR_small.dcm", "MR_small_RLE.dcm"),
        ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
        ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
        ("SC_rgb.dcm", "SC_rgb_rle.dcm"),
        ("SC_rgb.dcm", "SC_rgb_gdcm2k_uncompressed.dcm"),
        ("SC_rgb.dcm", "SC_rgb_16bit.dcm"),
    ],
)
def test_real_objects_agree_with_their_twins(name, twin):
    """Of other modalities and makers, grey, palette and colour."""
    assert (shown(packaged(name), max_pixels=2**21) == shown(packaged(twin), max_pixels=2**21)).all()


def test_colour_of_other_spaces_becomes_rgb():
    """YBR_FULL and its halved chroma show the colours of the same picture in RGB."""
    original = shown(packaged("SC_rgb.dcm")).astype(int)
    for name in ("SC_ybr_full_uncompressed.dcm", "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm"):
        assert abs(shown(packaged(name)).astype(int) - original).mean() < 3


def test_rescale_and_the_first_window():
    """12 bits, rescaled by 2·v − 100, window centre 400 and width 201: 300 is black, 500 white; a second is ignored."""
    pixels = np.array([[0, 199, 225, 250, 300, 4095]], np.uint16)
    window = {"WindowCenter": [400.5, 9], "WindowWidth": [201, 9], "RescaleSlope": 2, "RescaleIntercept": -100}
    grey = shown(dicom(pixels, BitsStored=12, **window))
    assert grey.tolist() == [[0, 0, 64, 128, 255, 255]]


def test_a_voi_table_goes_before_a_window():
    """The maker's tone curve: three entries of ten bits, from the value 10."""
    table = Dataset()
    table.LUTDescriptor = [3, 10, 10]
    table.LUTData = struct.pack("<3H", 0, 512, 1023)
    pixels = np.array([[0, 10, 11, 12, 99]], np.uint16)
    data = dicom(pixels, VOILUTSequence=[table], WindowCenter=1, WindowWidth=1)
    assert shown(data).tolist() == [[0, 0, 128, 255, 255]]


def test_a_modality_table_comes_first():
    """Values 0, 1, 2 stand for 30, 20, 10; the range of what they stand for is shown."""
    table = Dataset()
    table.LUTDescriptor = [3, 0, 16]
    table.LUTData = struct.pack("<3H", 30, 20, 10)
    table.ModalityLUTType = "US"
    assert shown(dicom(np.array([[0, 1, 2]], np.uint16), ModalityLUTSequence=[table])).tolist() == [[255, 128, 0]]


def test_padding_is_left_out_of_the_range_and_black():
    """A collimator's edge must neither flatten the film nor glare when it is inverted."""
    pixels = np.array([[0, 1000, 1500, 2000]], np.uint16)
    padded = {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}
    assert shown(dicom(pixels, BitsStored=12, **padded)).tolist() == [[0, 255, 128, 0]]


def test_bits_above_the_stored_ones_are_no_part_of_the_value():
    """Old objects draw overlays there."""
    pixels = np.array([[0, 2048, 4095]], np.uint16)
    assert (shown(dicom(pixels | 0xF000, BitsStored=12)) == shown(dicom(pixels, BitsStored=12))).all()


@pytest.mark.parametrize(
    ("element", "value", "size"),
    [
        ("PixelAspectRatio", [2, 1], (30, 40)),
        ("PixelSpacing", [0.1, 0.2], (60, 20)),
        ("ImagerPixelSpacing", [0.2, 0.1], (30, 40)),
        ("PixelSpacing", [0.2, 0.2], (30, 20)),
        ("PixelSpacing", [0, 0], (30, 20)),
    ],
)
def test_pixels_become_square(element, value, size):
    """(width, height): the coarser direction is resampled to the finer."""
    picture = decode(identify(dicom(noise(20, 30), **{element: value})), max_pixels=LIMIT)
    assert (picture.width, picture.height) == size


def test_one_of_several_frames_has_to_be_named():
    """A refusal says how many there are."""
    data = packaged("OBXXXX1A_2frame.dcm")
    with pytest.raises(QuestionError, match="2 frames"):
        decode(identify(data), max_pixels=LIMIT)
    first, second = (shown(data, frame=frame) for frame in (1, 2))
    assert (first == shown(packaged("OBXXXX1A.dcm"))).all()
    assert first.shape == second.shape
    for frame in (0, 3):
        with pytest.raises(QuestionError, match="has 2"):
            decode(identify(data), max_pixels=LIMIT, frame=frame)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
def test_frames_are_numbered_from_one(syntax):
    """Each is the one that was written there."""
    frames = np.stack([noise(64, 64, seed=seed) for seed in range(3)])
    dataset = header(frames[0], NumberOfFrames=3)
    dataset.PixelData = frames.tobytes()
    dataset["PixelData"].VR = "OB"
    if syntax.is_encapsulated:
        dataset.compress(syntax, generate_instance_uid=False)
    for number in (1, 2, 3):
        expected = shown(dicom(frames[number - 1]))
        assert (shown(written(dataset), frame=number) == expected).all()


def test_a_file_without_its_preamble_is_read():
    """As old archives keep them: from group 2 on, or the data set alone."""
    data = dicom(noise(20, 30))
    expected = shown(data)
    assert (shown(data[132:]) == expected).all()
    bare = data[132 + 12 + struct.unpack("<I", data[140:144])[0] :]
    assert (shown(bare) == expected).all()
    implicit = dicom(noise(20, 30), ImplicitVRLittleEndian)
    assert (shown(implicit[132 + 12 + struct.unpack("<I", implicit[140:144])[0] :]) == expected).all()


def test_pixels_are_counted_before_they_are_decoded():
    """By the header, after resampling too."""
    data = dicom(noise(20, 30), PixelSpacing=[0.2, 0.1])
    assert decode(identify(data), max_pixels=1200).height == 40
    with pytest.raises(ImageTooLargeError):
        decode(identify(data), max_pixels=1199)
    with pytest.raises(ImageTooLargeError, match="65535 x 65535"):
        decode(identify(dicom(noise(20, 30), Rows=65535, Columns=65535)), max_pixels=64_000_000)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_a_frame_larger_than_its_header_says_is_refused(syntax):
    """The header was counted; what hides behind it must be the same."""
    data = dicom(noise(200, 300), syntax)
    dataset = header(noise(20, 30), syntax)
    dataset.PixelData = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)).PixelData
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(CorruptImageError, match="300 x 200"):
        decode(identify(written(dataset)), max_pixels=LIMIT)


def test_run_lengths_can_not_outgrow_the_image():
    """Two bytes stand for 128: an upload of 20 MiB would become 1.3 GB."""
    dataset = header(noise(20, 30), RLELossless)
    dataset.PixelData = encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 100_000])
    dataset["PixelData"].is_undefined_length = True
    with pytest.raises(CorruptImageError):
        decode(identify(written(dataset)), max_pixels=LIMIT)


def test_a_deflated_object_can_not_outgrow_the_limit():
    """A thousand to one is what zlib reaches."""
    data = dicom(noise(20, 30), DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack("<I", data[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = data[:start] + packer.compress(b"\0" * 200_000_000) + packer.flush()
    with pytest.raises(CorruptImageError, match="inflates"):
        decode(identify(bomb), max_pixels=LIMIT)


@pytest.mark.parametrize("nested", [False, True])
def test_a_header_of_nothing_but_elements_is_refused(nested):
    """Millions of tiny ones would hold a thread for a long time."""
    element = struct.pack("<HH2sH", 9, 0x1010, b"LO", 0)
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    sequence = struct.pack("<HH2sHI", 9, 0x1011, b"SQ", 0, 0xFFFFFFFF) + item
    start = dicom(noise(4, 4))[:144]
    start += dicom(noise(4, 4))[144 : 144 + struct.unpack("<I", start[140:144])[0]]
    for content in (sequence + element * 600_000 if nested else element * 600_000, sequence * 5_000):
        with pytest.raises(CorruptImageError):
            decode(identify(start + content), max_pixels=LIMIT)


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtstruct.dcm", "waveform_ecg.dcm", "rtdose_1frame.dcm"])
def test_what_is_no_picture_is_unsupported(name):
    """Reports, contours, curves, doses."""
    with pytest.raises(UnsupportedImageError):
        decode(identify(packaged(name)), max_pixels=LIMIT)


@pytest.mark.parametrize(
    "syntax",
    [JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless],
    ids=lambda uid: uid.name,
)
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_frames_are_corrupt(syntax, kept):
    """Half a film is not a film, whichever decoder it would come from."""
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    pixels = noise(64, 64) if bits == 8 else noise(64, 64).astype(np.uint16) * 16
    dataset = pydicom.dcmread(io.BytesIO(dicom(pixels, syntax, BitsStored=bits)))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: int(len(frame) * kept)]])
    with pytest.raises(CorruptImageError):
        decode(identify(written(dataset)), max_pixels=LIMIT)


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "emri_small_jpeg_2k_lossless_too_short.dcm"])
def test_truncated_objects_are_corrupt(name):
    """Compressed or not."""
    with pytest.raises(CorruptImageError):
        decode(identify(packaged(name)), max_pixels=LIMIT)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@settings(deadline=None, max_examples=60)  # these machines are noisy
@given(data=st.data())
def test_damage_never_escapes_as_anything_but_an_input_error(syntax, data):
    """Whatever byte is flipped, the answer is pixels or a reason."""
    damaged = bytearray(dicom(noise(64, 64), syntax))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(132, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        picture = decode_dicom(bytes(damaged), max_pixels=LIMIT)
    except InputError:
        return
    assert picture.image.mode in ("L", "RGB")


@pytest.mark.parametrize(
    "broken",
    [
        {"PatientBirthDate": "12.8.1964", "PatientName": "Ä" * 200, "PatientID": "x" * 200},
        {"Columns": None},
        {"WindowCenter": "1", "WindowWidth": "2", "PhotometricInterpretation": PATIENT[:16].upper()},
        {"Modality": PATIENT[:16].upper(), "NumberOfFrames": "7"},
    ],
)
def test_nothing_of_a_patient_is_said_or_logged(broken, caplog, recwarn, capfd):
    """Not in a refusal, a log, a warning or on the terminal; nor does a decoded picture hold it."""
    caplog.set_level(logging.DEBUG)
    with pydicom.config.disable_value_validation():
        data = dicom(noise(8, 8), **broken)
    try:
        said = repr(decode(identify(data), max_pixels=LIMIT))
    except InputError as error:
        said = f"{error} {error.__cause__!r}"
    said += caplog.text + "".join(str(warning.message) for warning in recwarn) + "".join(capfd.readouterr())
    for secret in ("Musterfrau", "MUSTERFRAU", "ÄÄ", "4711", "xxx", "1964"):
        assert secret not in said


def test_only_what_is_asked_for_is_read():
    """The patient is not even parsed."""
    found = read_header(dicom(noise(8, 8)), ["Rows", "Modality"], max_bytes=LIMIT)
    assert {element.keyword for element in found} == {"Rows", "Modality"}


def test_the_header_says_what_kind_of_image_it_is():
    """In capitals; nothing where it is silent."""
    assert decode(identify(dicom(noise(8, 8))), max_pixels=LIMIT).facts == HeaderFacts("DX", "CHEST", "PA")
    silent = dicom(noise(8, 8), Modality="cr ", BodyPartExamined="", ViewPosition=None)
    assert decode(identify(silent), max_pixels=LIMIT).facts == HeaderFacts("CR", None, None)


@pytest.mark.parametrize(
    ("region", "view", "expected"),
    [
        ("816094009", "272479007", ("CHEST", "PA")),
        ("51185008", "399348003", ("CHEST", "AP")),
        ("T-D3000", "R-10236", ("CHEST", "LL")),
        ("T-D9600", "R-10232", ("T-D9600", "RL")),
    ],
)
def test_codes_stand_where_terms_are_missing(region, view, expected):
    """As in DX objects; a code that is not known is at least none of those expected."""

    def coded(value):
        item = Dataset()
        item.CodeValue = value
        return [item]

    missing = {"BodyPartExamined": None, "ViewPosition": ""}
    data = dicom(noise(8, 8), AnatomicRegionSequence=coded(region), ViewCodeSequence=coded(view), **missing)
    facts = decode(identify(data), max_pixels=LIMIT).facts
    assert (facts.body_part, facts.view) == expected
    assert decode(identify(dicom(noise(8, 8), ViewCodeSequence=coded(view))), max_pixels=LIMIT).facts.view == "PA"
    many = dicom(noise(8, 8), AnatomicRegionSequence=coded(region) * 10_000, **missing)
    assert decode(identify(many), max_pixels=LIMIT).facts.body_part is None
