"""The two versions of a comparison: finds them, and checks that they answer the same question."""

from __future__ import annotations

from pathlib import Path

from app.artifact.manifest import MANIFEST, NAME, VERSION, Manifest
from app.artifact.store import find_artifact
from scripts.errors import CompareError


def find_version(text: str, store: Path) -> Path:
    """Return the version folder that `text` names: a folder with a manifest, `NAME/VERSION`, or `NAME` for the highest.

    Raises:
        ArtifactNotFoundError: `store` has no such model or version.
        CompareError: `text` is none of these.
    """
    if (Path(text) / MANIFEST).is_file():
        return Path(text)
    name, _, version = text.partition("/")
    if not NAME.fullmatch(name) or (version and not VERSION.fullmatch(version)):
        raise CompareError(f"{text!r} is not a version: expected NAME/VERSION, NAME, or a folder with {MANIFEST}")
    return find_artifact(store, name, int(version) if version else None)


def version_name(manifest: Manifest) -> str:
    """Return `NAME/VERSION`."""
    return f"{manifest.name}/{manifest.version}"


def check_comparable(first: Manifest, second: Manifest) -> None:
    """Check that two models have the same classes, in whatever order, and the same task.

    Raises:
        CompareError: they have not; the message says what only one of them has.
    """
    names = [version_name(first), version_name(second)]
    if first.task != second.task:
        raise CompareError(
            f"{names[0]} is {first.task} and {names[1]} {second.task}; only models of one task can be compared"
        )
    only = [sorted(set(one.classes) - set(other.classes)) for one, other in ((first, second), (second, first))]
    if any(only):
        told = " and ".join(
            f"only {name} has {', '.join(found)}" for name, found in zip(names, only, strict=True) if found
        )
        raise CompareError(f"the versions have different classes: {told}; compare versions with the same classes")
