"""The errors of the service, as one tree. `app.api.problems` maps each class to an HTTP status.

LightboxError
├── InputError                     the caller can correct the request
│   ├── MalformedBodyError         the multipart form, the JSON or its base64 can't be read
│   │   └── NoImageError           the body contains no image
│   ├── UploadTooLargeError        the body exceeds the limit in bytes
│   ├── UnsupportedImageError      the format or the pixel type is not supported
│   ├── UnsupportedEncodingError   the Content-Encoding of the body is not supported
│   ├── ImageTooLargeError         the image exceeds the limit in pixels
│   ├── CorruptImageError          the image is truncated or damaged
│   ├── TensorError                an input tensor is not one that the model takes
│   ├── UnsupportedFeatureError    a part of a protocol that the service does not support
│   ├── QuestionError              the question can't be answered
│   │   └── UnknownNameError       no such parameter, class, method, format or colormap
│   └── NotAcceptableError         no response type that the caller accepts
├── UnknownModelError              the store has no such model or version
├── CredentialsError               the API key is missing or unknown
├── ModelNotLoadedError            the model is not in memory yet
│   └── ModelRefusedError          the model can't be loaded: its artefact is refused
├── DeadlineExceededError          the request exceeded its time limit
├── QueueFullError                 too many concurrent requests
├── SetupError                     a setting needs a package that is not installed
└── ArtifactError                  an entry of the model store is refused
    ├── ArtifactNotFoundError      the store has no such model or version
    ├── ManifestError              manifest.json is missing or invalid
    ├── DigestMismatchError        a file differs from the one that was exported
    ├── SignatureError             the SavedModel lacks a signature, or its shapes contradict the manifest
    └── SelfTestError              the model's outputs differ from those at export
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


class LightboxError(Exception):
    """Base class of all errors; `str(error)` says what failed, what was expected and what to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled as a call with its message, which the initialisers of some subclasses don't take.
        return _restore, (type(self), str(self)), vars(self)


class InputError(LightboxError):
    """The request is invalid; the caller can correct it."""


class MalformedBodyError(InputError):
    """The multipart form, the JSON or its base64 can't be read."""


class NoImageError(MalformedBodyError):
    """The body contains no image."""


class UploadTooLargeError(InputError):
    """The request body exceeds the limit in bytes."""


class UnsupportedImageError(InputError):
    """The format of the image, or the type of its pixels, is not supported."""


class UnsupportedEncodingError(InputError):
    """The `Content-Encoding` of the body is not supported; `supported` lists those that are."""

    def __init__(self, reason: str, supported: Iterable[str]) -> None:
        self.supported = tuple(supported)
        super().__init__(f"{reason}; supported: {', '.join(self.supported)}")


class ImageTooLargeError(InputError):
    """The image exceeds the limit in pixels."""


class CorruptImageError(InputError):
    """The image is of a supported format but truncated or damaged."""


class TensorError(InputError):
    """The name, the datatype, the shape or the content of an input tensor is not what the model takes."""


class UnsupportedFeatureError(InputError):
    """The request needs a part of its protocol that the service does not support."""


class QuestionError(InputError):
    """The question about the image can't be answered."""


class UnknownNameError(QuestionError):
    """A name is unknown; the message lists the valid ones."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self.valid = tuple(valid)
        shown = name if len(name) <= 80 else f"{name[:80]}…"
        super().__init__(f"unknown {kind} {shown!r}; valid: {', '.join(self.valid)}")


class NotAcceptableError(InputError):
    """The service can produce none of the media types that the caller accepts."""


class UnknownModelError(LightboxError):
    """The model store has no such model or version."""


class CredentialsError(LightboxError):
    """The request has no API key, or an unknown one."""


class ModelNotLoadedError(LightboxError):
    """The requested model is not in memory yet."""


class ModelRefusedError(ModelNotLoadedError):
    """The requested model is refused; the message says why."""


class DeadlineExceededError(LightboxError):
    """The request exceeded its time limit."""


class QueueFullError(LightboxError):
    """The service is handling its maximum number of concurrent requests."""


class SetupError(LightboxError):
    """A setting needs a package that is not installed."""


class ArtifactError(LightboxError):
    """An entry of the model store is refused."""


class ArtifactNotFoundError(ArtifactError):
    """The store has no such model or version."""


class ManifestError(ArtifactError):
    """manifest.json is missing or invalid."""


class DigestMismatchError(ArtifactError):
    """A file of the entry is missing or differs from the one that was exported."""


class SignatureError(ArtifactError):
    """The SavedModel lacks a signature, or its shapes contradict the manifest."""


class SelfTestError(ArtifactError):
    """The model does not reproduce the golden cases from its export, or failed its sanity check."""


@contextmanager
def of_image(index: int, count: int) -> Iterator[None]:
    """Name the image at `index`, counted from 0, in an `InputError` of the block, if the request has several."""
    try:
        yield
    except InputError as error:
        if count > 1:
            error.args = (f"image {index}: {error}",)
        raise


def _restore(kind: type[LightboxError], message: str) -> LightboxError:
    """Make a pickled error again, without calling its initialiser."""
    return kind.__new__(kind, message)
