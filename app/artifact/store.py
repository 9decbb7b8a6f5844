"""The model store: find, verify and write its entries.

`<store>/<name>/<version>/` holds a SavedModel (`saved_model.pb`, `variables/`), `manifest.json`, and for trained
models `report/`. The layout is TensorFlow Serving's.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from app.artifact.manifest import MANIFEST, NAME, VERSION, Manifest
from app.errors import ArtifactNotFoundError, DigestMismatchError, ManifestError

_PARTIAL = f".{MANIFEST}.partial"
# Pictures of patients: never listed in the manifest, so that a model can be passed on without them.
PRIVATE = PurePosixPath("report/films")

# What tells whether an entry's files have changed: the path, size and modification time of each.
Fingerprint = tuple[tuple[str, int, int], ...]


def model_names(store: Path) -> list[str]:
    """The names of the models in `store` that have at least one version, sorted."""
    if not store.is_dir():
        raise ArtifactNotFoundError(f"there is no model store at {store}")
    return sorted(path.name for path in store.iterdir() if NAME.fullmatch(path.name) and _versions(path))


def model_versions(store: Path, name: str) -> list[int]:
    """The versions of `name` in `store`, ascending; folders that are no positive integer don't count."""
    return _versions(store / name) if NAME.fullmatch(name) else []


def _versions(model: Path) -> list[int]:
    if not model.is_dir():
        return []
    return sorted(int(path.name) for path in model.iterdir() if VERSION.fullmatch(path.name) and path.is_dir())


def find_artifact(store: Path, name: str, version: int | None = None) -> Path:
    """The folder of `name` at `version` (default: the highest).

    Raises:
        ArtifactNotFoundError: the store, the model or the version isn't there; the message says what is.
    """
    versions = model_versions(store, name)
    if not versions:
        held = ", ".join(model_names(store)) or "no model"
        raise ArtifactNotFoundError(f"no model {name!r} in {store}, which holds: {held}")
    if version is not None and version not in versions:
        raise ArtifactNotFoundError(f"no version {version} of {name!r} in {store}, which holds: {versions}")
    return store / name / str(versions[-1] if version is None else version)


def fingerprint(entry: Path) -> Fingerprint | None:
    """What `entry` holds at this moment, without reading it; None where it is no version, or not yet, or no more."""
    if not (entry / MANIFEST).is_file():
        return None
    try:
        files = ((path, path.stat()) for path in sorted(entry.rglob("*")) if path.is_file())
        return tuple((path.relative_to(entry).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in files)
    except FileNotFoundError:  # it is being removed
        return None


def verify_files(entry: Path, manifest: Manifest) -> None:
    """Compare every file that `manifest` lists with its digest.

    Raises:
        DigestMismatchError: a file is missing or differs, or the manifest does not cover the SavedModel's graph.
    """
    required = {"saved_model.pb", "variables/variables.index"}
    if missing := sorted(required - manifest.files.keys()):
        raise DigestMismatchError(f"{entry / MANIFEST} lists no digest of {', '.join(missing)}")
    for name, expected in manifest.files.items():
        path = entry / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DigestMismatchError(f"{entry / MANIFEST} lists a file outside of the entry: {name!r}")
        if not path.is_file():
            raise DigestMismatchError(f"{path} is missing; the manifest lists it")
        if (actual := _sha256(path)) != expected:
            raise DigestMismatchError(f"{path} has SHA-256 {actual}; the manifest says {expected}")


@contextmanager
def new_version(store: Path, name: str, version: int | None = None) -> Iterator[tuple[Path, int]]:
    """A folder to fill, and the version that it becomes (default: one above the highest) once the block ends well.

    The folder lies in the store under a name that is no version, and is renamed only when it is complete: a block
    that is interrupted leaves no half-written version. Blocks that run at once get versions of their own. The block's
    last act is `seal`.

    Raises:
        ArtifactNotFoundError: `version` exists already, or is being written.
        ManifestError: `name` is no model name.
    """
    if not NAME.fullmatch(name):
        raise ManifestError(f"{name!r} is no model name: letters, digits, '.', '_' and '-', at most 128")
    (store / name).mkdir(parents=True, exist_ok=True)
    partial, number = _reserved(store / name, version)
    try:
        yield partial, number
        partial.rename(store / name / str(number))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _reserved(model: Path, version: int | None) -> tuple[Path, int]:
    """A folder that no other process fills, and the version that it will become.

    The folder's name holds the version, and only one process can make it. One that was killed leaves its folder, and
    with it a gap in the versions.
    """
    number = max(_versions(model), default=0) + 1 if version is None else version
    while True:
        partial = model / f".partial-{number}"
        with suppress(FileExistsError):
            partial.mkdir()
            if not (model / str(number)).exists():
                return partial, number
            partial.rmdir()
        if version is not None:
            raise ArtifactNotFoundError(
                f"{model / str(version)} exists already or is being written; choose another version, or none for the "
                "next one"
            )
        number += 1


def seal(entry: Path, manifest: Manifest) -> Manifest:
    """Write `manifest` into `entry` with the digests of all its files, and return it so completed.

    A manifest that is there already is replaced at once: whoever reads it finds the old one or the new one, whole.
    """
    files = {
        relative.as_posix(): _sha256(entry / relative)
        for relative in sorted(path.relative_to(entry) for path in entry.rglob("*") if path.is_file())
        if relative.as_posix() not in (MANIFEST, _PARTIAL)
        and PRIVATE not in (relative, *PurePosixPath(relative).parents)
    }
    sealed = manifest.model_copy(update={"files": files})
    partial = entry / _PARTIAL
    partial.write_text(sealed.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(entry / MANIFEST)
    return sealed


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
