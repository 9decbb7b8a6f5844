"""What TensorFlow Serving's REST API says about a model: the state of its versions, and its signatures.

The bodies are the JSON of the messages GetModelStatusResponse and GetModelMetadataResponse of TensorFlow Serving.
"""

from __future__ import annotations

from typing import Any

from app.api.protocols.images import ENCODED, PIXELS
from app.api.protocols.inference import TensorSpec, inputs_of, outputs_of
from app.api.protocols.instances import SIGNATURES
from app.artifact.manifest import Manifest
from app.serving.interface import ModelState

_DTYPES = {"BYTES": "DT_STRING", "UINT8": "DT_UINT8", "FP32": "DT_FLOAT"}


def version_status(state: ModelState, version: int | None) -> list[dict[str, Any]]:
    """Return the status of `version`, or of all versions, the highest first."""
    numbers = [version] if version is not None else sorted(state.versions, reverse=True)
    return [_status(state, number) for number in numbers]


def signature_metadata(manifest: Manifest) -> dict[str, Any]:
    """Return the signatures of a model: `serving_default` takes encoded images, `pixels` the input of the network."""
    outputs = {spec.name: _tensor_info(spec) for spec in outputs_of(manifest, explains=False)}
    inputs = {spec.name: _tensor_info(spec) for spec in inputs_of(manifest)}
    signatures = {
        signature: {
            "inputs": {name: inputs[name]},
            "outputs": outputs,
            "method_name": "tensorflow/serving/predict",
        }
        for signature, name in zip(SIGNATURES, (ENCODED, PIXELS), strict=True)
    }
    return {
        "model_spec": {"name": manifest.name, "signature_name": "", "version": str(manifest.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _status(state: ModelState, version: int) -> dict[str, Any]:
    """Return the state of a version; one that waits for its first request is known and not loaded: `START`."""
    if version in state.loaded:
        return _version(version, "AVAILABLE", "OK", "")
    if version in state.refused:
        return _version(version, "END", "FAILED_PRECONDITION", "the version is refused; GET /models says why")
    return _version(version, "START", "OK", "")


def _version(version: int, state: str, code: str, message: str) -> dict[str, Any]:
    return {"version": str(version), "state": state, "status": {"error_code": code, "error_message": message}}


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(size), "name": ""} for size in spec.shape]
    return {
        "dtype": _DTYPES[spec.datatype],
        "tensor_shape": {"dim": sizes, "unknown_rank": False},
        "name": spec.name,
    }
