"""DICOM objects made by code, and the real ones that packages carry."""

from __future__ import annotations

import io
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
    generate_uid,
)

PATIENT = "Musterfrau^Erika"
_JPEG = {
    JPEGBaseline8Bit: {"level": 100},
    JPEGExtended12Bit: {"level": 100},
    JPEGLossless: {"lossless": True, "predictor": 6},
    JPEGLosslessSV1: {"lossless": True, "predictor": 1},
}


def header(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """A chest film of `pixels` (`[H, W]` or `[H, W, 3]`, 8 or 16 bits); `elements` overwrite, None removes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    colour = pixels.ndim == 3
    basic = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(entropy_srcs=["instance"]),
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "PatientName": PATIENT,
        "PatientID": "4711",
        "PatientBirthDate": "19640812",
        "PatientSex": "F",
        "StudyID": "1",
        "StudyDate": "20260102",
        "StudyTime": "101112",
        "AccessionNumber": "A-1",
        "ReferringPhysicianName": "Mustermann^Max",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if colour else 1,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": 8 * pixels.dtype.itemsize,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    if colour:
        basic["PlanarConfiguration"] = 0
    for keyword, value in (basic | elements).items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "HighBit" not in elements:
        dataset.HighBit = dataset.BitsStored - 1
    dataset.file_meta.MediaStorageSOPClassUID = basic["SOPClassUID"]
    dataset.file_meta.MediaStorageSOPInstanceUID = basic["SOPInstanceUID"]
    return dataset


def dicom(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """The object of `header` with its pixels, written in `syntax`."""
    dataset = header(pixels, ExplicitVRLittleEndian if syntax.is_encapsulated else syntax, **elements)
    data = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    if syntax in _JPEG:
        bits = dataset.BitsStored
        samples = pixels.view(f"u{pixels.itemsize}") & (2**bits - 1)
        stream = imagecodecs.jpeg8_encode(samples, bitspersample=bits, **_JPEG[syntax])
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = syntax
    elif syntax.is_encapsulated and not syntax.is_deflated:
        options = {"encoding_plugin": "pydicom"} if syntax == RLELossless else {}
        dataset.compress(syntax, generate_instance_uid=False, **options)
    return written(dataset)


def frames(pixels: Sequence[np.ndarray]) -> bytes:
    """Several 8-bit frames in one object."""
    dataset = header(pixels[0], NumberOfFrames=len(pixels))
    dataset.PixelData = np.stack(pixels).tobytes()
    dataset["PixelData"].VR = "OB"
    return written(dataset)


def written(dataset: Dataset) -> bytes:
    """`dataset` as a file."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def packaged(name: str) -> bytes:
    """A file that pydicom-data or pydicom carries; nothing is downloaded."""
    listed = [Path(str(file.locate())) for file in files("pydicom-data") or [] if file.name == name]
    return (listed or [Path(pydicom.__file__).parent / "data" / "test_files" / name])[0].read_bytes()
