"""Headers of every kind against an independent reference, and that reference against dcmtk."""

import math
import shutil
import struct
import subprocess
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from app.imaging.decoding import decode
from app.imaging.headers import identify
from tests.dicoms import header, written
from tests.reference import Film, Lut, shown

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
_DS = {
    "WindowCenter": 0x00281050,
    "WindowWidth": 0x00281051,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
}


@dataclass(frozen=True)
class Writing:
    """The freedoms that makers take: of numbers as text, of tables, of signs."""

    form: str = "plain"
    packed: bool = False
    short: bool = False
    wrong_vr: bool = False
    needless_rescale: bool = False


WRITINGS = st.builds(
    Writing, st.sampled_from(["plain", "comma", "spaces"]), st.booleans(), st.booleans(), st.booleans(), st.booleans()
)


def text(value: float, form: str) -> bytes:
    """A number as headers write it."""
    written_as = {"plain": f"{value:.10g}", "comma": f"{value:.10g}".replace(".", ","), "spaces": f" {value:.10g} "}[
        form
    ]
    return written_as.encode() + b" " * (len(written_as) % 2)


@st.composite
def luts(draw, low: int, high: int, *, voi: bool) -> Lut:
    """Tables over about the values `low` to `high`, of honest and of wrong bits."""
    bits = draw(st.integers(6, 16))
    count = draw(st.integers(5, min(4096, high - low + 20)))  # of fewer, bytes and words look alike
    # A table that covers no value may lie anywhere: the sign of its first value can't be told then.
    first = max(-32768, low + draw(st.integers(-4 if low < 0 else 0, 10)))
    steps = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 2**bits, count)
    entries = np.sort(steps) if draw(st.booleans()) else steps
    return Lut(first, draw(st.sampled_from([bits, bits, 16, 12] if voi and bits > 8 else [bits])), entries.tolist())


@st.composite
def films(draw) -> Film:
    """What a header may mean."""
    bits = draw(st.integers(2, 16))
    shift = draw(st.integers(0, (8 if bits <= 8 else 16) - bits))
    signed = draw(st.booleans())
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    slope, intercept, modality = 1.0, 0.0, None
    match draw(st.sampled_from(["none", "rescale", "table"])):
        case "rescale":
            slope = draw(st.sampled_from([1.0, 2.0, 0.5, -1.0, 1e-5, 37.25]))
            intercept = float(draw(st.sampled_from([0, -1024, 7, 0.5, 30000])))
        case "table":
            modality = draw(luts(low, high, voi=False))
    ends = sorted([low * slope + intercept, high * slope + intercept])
    if modality:
        ends = [0.0, float(max(modality.entries))]
    voi, window = None, None
    shown_by = draw(st.sampled_from(["range", "window", "table"]))
    if shown_by == "table" and ends[1] < 40_000 and ends[0] > -20_000 and slope in (1.0, 2.0, -1.0):
        voi = draw(luts(math.floor(ends[0]), math.ceil(ends[1]), voi=True))
    elif shown_by == "window":
        span = ends[1] - ends[0] or 1.0
        window = (ends[0] + span * draw(st.floats(-0.2, 1.2)), span * draw(st.floats(0.01, 3)))
        window = tuple(float(f"{value:.10g}") for value in window)
    padding = None
    if draw(st.booleans()):
        start = draw(st.integers(low, high))
        padding = (start, min(high, start + draw(st.sampled_from([0, 0, 3]))))
    function = draw(st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    inverted = draw(st.booleans())
    return Film(bits, shift, signed, inverted, modality, slope, intercept, voi, window, function, padding)


def sequence(lut: Lut, order: str, how: Writing) -> list[Dataset]:
    """A table as one of the ways in which it is written."""
    entries = list(lut.entries)
    count = len(entries)
    packed = how.packed and lut.bits <= 8 and max(entries) < 256
    # The last entry is left to the reader, unless the byte that makes the length even would look like it.
    if how.short and entries[-1] == entries[-2] and not (packed and count % 2 == 0):
        entries.pop()
    item = Dataset()
    if how.wrong_vr and count < 32768:
        item.add_new(0x00283002, "SS", [count, lut.first - 65536 if lut.first > 32767 else lut.first, lut.bits])
    else:
        item.add_new(0x00283002, "US", [count & 0xFFFF, lut.first & 0xFFFF, lut.bits])
    if packed:
        if order == ">":
            entries += [0] * (len(entries) % 2)
            entries = [entry for pair in zip(entries[1::2], entries[::2], strict=True) for entry in pair]
        data = bytes(entries) + b"\0" * (len(entries) % 2)
    else:
        data = struct.pack(f"{order}{len(entries)}H", *entries)
    item.add_new(0x00283006, "OW", data)
    item.ModalityLUTType = "US"
    return [item]


def dicom(film: Film, words: np.ndarray, syntax=ExplicitVRLittleEndian, how: Writing = Writing()) -> bytes:
    """`film` written so."""
    order = "<" if syntax.is_little_endian else ">"
    dataset = header(words, syntax, BitsStored=film.bits, HighBit=film.shift + film.bits - 1)
    dataset.PixelRepresentation = int(film.signed)
    dataset.PhotometricInterpretation = "MONOCHROME1" if film.inverted else "MONOCHROME2"
    values = {}
    if film.modality:
        dataset.ModalityLUTSequence = sequence(film.modality, order, how)
    elif (film.slope, film.intercept) != (1.0, 0.0) or how.needless_rescale:
        values |= {"RescaleSlope": film.slope, "RescaleIntercept": film.intercept}
    if film.voi:
        dataset.VOILUTSequence = sequence(film.voi, order, how)
    if film.window:
        values |= {"WindowCenter": film.window[0], "WindowWidth": film.window[1]}
        dataset.VOILUTFunction = film.function
    for keyword, value in values.items():
        data = text(value, how.form)
        dataset._dict[Tag(_DS[keyword])] = RawDataElement(Tag(_DS[keyword]), "DS", len(data), data, 0, False, True)
    if film.padding:
        for tag, value in zip((0x00280120, 0x00280121), film.padding, strict=True):
            if value > 32767 or (film.signed and how.wrong_vr):
                dataset.add_new(tag, "US", value & 0xFFFF)
            else:
                dataset.add_new(tag, "SS" if film.signed else "US", value)
    dataset.PixelData = words.astype(words.dtype.newbyteorder(order)).tobytes()
    dataset["PixelData"].VR = "OB" if words.itemsize == 1 else "OW"
    return written(dataset)


def pixels(film: Film, seed: int) -> np.ndarray:
    """Words whose bits beside the stored ones hold anything."""
    kind = np.uint8 if film.bits + film.shift <= 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2 ** (8 * np.dtype(kind).itemsize), (8, 10)).astype(kind)


@settings(deadline=None, max_examples=300)  # these machines are noisy
@given(films(), st.sampled_from(SYNTAXES), st.integers(0, 2**32), WRITINGS)
def test_a_film_is_shown_as_the_reference_shows_it(film, syntax, seed, how):
    """Windows, tables, rescale, bits and padding in any combination, however they are written."""
    words = pixels(film, seed)
    picture = decode(identify(dicom(film, words, syntax, how)), max_pixels=1000)
    np.testing.assert_allclose(np.asarray(picture.image), shown(film, words), atol=0.51)


def rendered_by_dcmtk(data: bytes, film: Film, folder) -> np.ndarray:
    """What dcm2pnm makes of an object: the first table, else the first window, else the range."""
    source, target = folder / "film.dcm", folder / "film.pgm"
    source.write_bytes(data)
    how = ["--use-voi-lut", "1"] if film.voi else ["--use-window", "1"] if film.window else ["--min-max-window"]
    command = [str(shutil.which("dcm2pnm")), "--no-overlays", *how, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(Image.open(target))


COMPARED = {
    "range": Film(12),
    "signed range": Film(12, signed=True),
    "shifted": Film(10, shift=6),
    "window": Film(12, window=(1800, 2500)),
    "inverted window": Film(12, inverted=True, window=(1800, 2500)),
    "rescaled window": Film(12, slope=2.0, intercept=-1024.0, window=(2000, 5000)),
    "signed window": Film(16, signed=True, window=(1000, 30000)),
    "sigmoid": Film(12, window=(2048, 2000), function="SIGMOID"),
    "table": Film(12, voi=Lut(0, 12, [4095 - value for value in range(4096)])),
    "table of 8 bits": Film(12, voi=Lut(0, 8, [value >> 4 for value in range(4096)])),
    "table of rescaled values": Film(12, intercept=-1024.0, voi=Lut(-1024, 12, list(range(4096)))),
    "modality table": Film(12, modality=Lut(0, 16, [65535 - 16 * value for value in range(4096)])),
    "modality table and window": Film(
        12, modality=Lut(0, 16, [4 * value for value in range(4096)]), window=(8000, 16000)
    ),
}


@pytest.mark.skipif(shutil.which("dcm2pnm") is None, reason="needs dcm2pnm (dcmtk)")
@pytest.mark.parametrize("name", COMPARED)
def test_the_reference_agrees_with_dcmtk(name, tmp_path):
    """On headers that contradict nothing; dcmtk cuts off where the reference rounds."""
    film = COMPARED[name]
    words = pixels(film, 5)
    high = film.shift + film.bits
    words &= np.array((1 << high) - 1, words.dtype)
    if film.signed and high == 12:
        words = (words.astype(np.int32) << 4).astype(np.int16) >> 4
        words = words.view(np.uint16)
    rendered = rendered_by_dcmtk(dicom(film, words), film, tmp_path)
    np.testing.assert_allclose(rendered, shown(film, words), atol=1.5)
