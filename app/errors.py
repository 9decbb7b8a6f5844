"""Everything that can go wrong, as one tree. It knows no HTTP: `main` gives each class its status.

LightboxError
├── InputError                     the caller can mend it
│   ├── MalformedBodyError         the envelope (multipart, JSON, base64) can't be read
│   │   └── NoImageError           … or holds no image
│   ├── UploadTooLargeError        more bytes than the limit
│   ├── UnsupportedImageError      not an image by its magic bytes, or a kind not supported
│   ├── ImageTooLargeError         more pixels than the limit
│   ├── CorruptImageError          a supported kind, but truncated or damaged
│   ├── QuestionError              a question that has no answer
│   │   └── UnknownNameError       a class, method, format or colormap that there isn't
│   └── NotAcceptableError         no answer type that the caller accepts
├── UnknownModelError              no such model or version in the store
├── CredentialsError               no key that is known
├── ModelNotLoadedError            the model that is asked is not in memory yet
│   └── ModelRefusedError          … and won't be: its artefact is refused
├── DeadlineExceededError          no result in time
├── QueueFullError                 too many requests at once
├── SetupError                     the service is not set up as its settings ask
└── ArtifactError                  a model-store entry is refused
    ├── ArtifactNotFoundError      there is none
    ├── ManifestError              manifest.json is missing or not valid
    ├── DigestMismatchError        a file is not the one that was exported
    ├── SignatureError             the SavedModel lacks a signature, or its shapes contradict the manifest
    └── SelfTestError              it does not answer as it did when it was exported
"""

from __future__ import annotations

from collections.abc import Iterable


class LightboxError(Exception):
    """Root of the tree; `str(error)` says what failed, what was expected and what to do."""


class InputError(LightboxError):
    """The request can't be answered as it came."""


class MalformedBodyError(InputError):
    """The multipart form, the JSON or its base64 can't be read."""


class NoImageError(MalformedBodyError):
    """The body holds no image."""


class UploadTooLargeError(InputError):
    """The body has more bytes than the limit."""


class UnsupportedImageError(InputError):
    """The bytes are not an image of a supported kind."""


class ImageTooLargeError(InputError):
    """The image has more pixels than the limit."""


class CorruptImageError(InputError):
    """The image is of a supported kind and can't be decoded."""


class QuestionError(InputError):
    """The question about the image has no answer."""


class UnknownNameError(QuestionError):
    """A name that is not among the valid ones, which the message lists."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self.valid = tuple(valid)
        shown = name if len(name) <= 80 else f"{name[:80]}…"
        super().__init__(f"unknown {kind} {shown!r}; valid: {', '.join(self.valid)}")


class NotAcceptableError(InputError):
    """None of the answer types that the caller accepts can be made."""


class UnknownModelError(LightboxError):
    """The model store has no model of that name, or not in that version."""


class CredentialsError(LightboxError):
    """The request has no API key, or one that is not known."""


class ModelNotLoadedError(LightboxError):
    """The model that is asked is not in memory yet."""


class ModelRefusedError(ModelNotLoadedError):
    """The model that is asked is refused; the message says why."""


class DeadlineExceededError(LightboxError):
    """The answer was not ready in time."""


class QueueFullError(LightboxError):
    """As many requests as the limit allows are being answered already."""


class SetupError(LightboxError):
    """What a setting asks for is not installed."""


class ArtifactError(LightboxError):
    """A model-store entry is refused."""


class ArtifactNotFoundError(ArtifactError):
    """The store has no such model or version."""


class ManifestError(ArtifactError):
    """manifest.json is missing or not valid."""


class DigestMismatchError(ArtifactError):
    """A file of the entry is missing, or is not the one that was exported."""


class SignatureError(ArtifactError):
    """The SavedModel lacks a signature, or its shapes contradict the manifest."""


class SelfTestError(ArtifactError):
    """The model does not reproduce the golden cases that were recorded at its export, or failed its sanity check."""
