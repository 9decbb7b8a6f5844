"""The parameters of a protocol's request: those of `/predict` and `/explain`, with the same names and validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from app.api.parameters import parse_parameters
from app.api.schemas import PredictParameters
from app.errors import UnknownModelError, UnsupportedFeatureError

P = TypeVar("P", bound=PredictParameters)

# What clients add by themselves. It decides nothing about the answer, or the codec has read it already.
_IGNORED = frozenset({"binary_data_output", "content_type", "headers", "priority", "timeout"})
# Extensions of Triton's that would need a state of their own (its documentation: "sequence", "shared memory").
_UNSUPPORTED = ("sequence_", "shared_memory_", "classification")


def options(
    schema: type[P], name: str, version: str, given: Iterable[tuple[str, object]], query: Iterable[tuple[str, str]] = ()
) -> P:
    """Validate the parameters of a request.

    Args:
        schema: the model of the parameters.
        name: the model's name, which the address has and the parameters must not repeat.
        version: its version, likewise; empty if the address has none.
        given: the request's parameters.
        query: those in the query of the address.

    Raises:
        UnsupportedFeatureError: if a parameter needs an extension of a protocol that the service lacks.
        UnknownModelError: if `version` is not a number.
        QuestionError: as of `parse_parameters`, whose other errors it raises as well.
    """
    parameters = [(key, value) for key, value in given if key not in _IGNORED]
    for key, _ in parameters:
        refuse_extensions(key)
    address: list[tuple[str, object]] = [("model", name)]
    if version:
        address.append(("version", version_number(name, version)))
    return parse_parameters(schema, [*address, *query, *parameters])


def refuse_extensions(key: str) -> None:
    """Refuse the parameter `key` of a request or of a tensor if it belongs to an extension that the service lacks.

    Raises:
        UnsupportedFeatureError: if it does.
    """
    if key.startswith(_UNSUPPORTED):
        raise UnsupportedFeatureError(
            f"{key[:80]!r} belongs to an extension that Lightbox does not support (sequences, shared memory, "
            "classification); send the image itself"
        )


def version_number(name: str, version: str) -> int:
    """Return a version as a number.

    Raises:
        UnknownModelError: if it is none, as the store has no such version then.
    """
    if not (version.isascii() and version.isdigit() and int(version[:18]) > 0 and len(version) <= 18):
        raise UnknownModelError(f"{name[:80]!r} has no version {version[:80]!r}; versions are positive whole numbers")
    return int(version)


def refuse_without_output(parameters: Mapping[str, object]) -> None:
    """Refuse parameters whose result no tensor carries.

    Raises:
        UnsupportedFeatureError: if one of them is set.
    """
    if asked := [name for name, value in parameters.items() if value]:
        raise UnsupportedFeatureError(
            f"no output of this protocol carries the result of {asked[0]!r}; ask `/explain`, or V1's `:explain`"
        )
