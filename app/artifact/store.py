"""The model store: finds, verifies and writes its entries.

`<store>/<name>/<version>/` contains a SavedModel (`saved_model.pb`, `variables/`), `manifest.json` and, for trained
models, `report/`. TensorFlow Serving uses the same layout.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from app.artifact.manifest import MANIFEST, NAME, VERSION, Manifest
from app.errors import ArtifactNotFoundError, DigestMismatchError, ManifestError

_PARTIAL = f".{MANIFEST}.partial"
# Images of patients. The manifest never lists them, so that a model can be shared without them.
PRIVATE = PurePosixPath("report/films")

# Path, size and modification time of each file of an entry, which show whether a file has changed.
Fingerprint = tuple[tuple[str, int, int], ...]


def model_names(store: Path) -> list[str]:
    """Return the names of the models in `store` that have at least one version, sorted.

    Raises:
        ArtifactNotFoundError: if `store` is not a folder.
    """
    if not store.is_dir():
        raise ArtifactNotFoundError(f"there is no model store at {store}")
    return sorted(path.name for path in store.iterdir() if NAME.fullmatch(path.name) and _versions(path))


def model_versions(store: Path, name: str) -> list[int]:
    """Return the versions of `name` in `store`, ascending: the folders whose names are positive integers."""
    return _versions(store / name) if NAME.fullmatch(name) else []


def _versions(model: Path) -> list[int]:
    if not model.is_dir():
        return []
    return sorted(int(path.name) for path in model.iterdir() if VERSION.fullmatch(path.name) and path.is_dir())


def find_artifact(store: Path, name: str, version: int | None = None) -> Path:
    """Return the folder of `name` at `version`, by default the highest.

    Raises:
        ArtifactNotFoundError: if the store, the model or the version does not exist; the message lists what exists.
    """
    versions = model_versions(store, name)
    if not versions:
        available = ", ".join(model_names(store)) or "none"
        raise ArtifactNotFoundError(f"no model {name!r} in {store}; available: {available}")
    if version is not None and version not in versions:
        raise ArtifactNotFoundError(f"no version {version} of {name!r} in {store}; available: {versions}")
    return store / name / str(versions[-1] if version is None else version)


def fingerprint(entry: Path) -> Fingerprint | None:
    """Return the fingerprint of the files of `entry`, or None if it is not a complete version (any more)."""
    if not (entry / MANIFEST).is_file():
        return None
    try:
        files = ((path, path.stat()) for path in sorted(entry.rglob("*")) if path.is_file())
        return tuple((path.relative_to(entry).as_posix(), stat.st_size, stat.st_mtime_ns) for path, stat in files)
    except FileNotFoundError:  # the entry is being removed
        return None


def verify_files(entry: Path, manifest: Manifest) -> None:
    """Compare the files of `entry` with their digests in `manifest`.

    Raises:
        DigestMismatchError: if a file is missing or differs, or if the manifest does not list the SavedModel's graph.
    """
    required = {"saved_model.pb", "variables/variables.index"}
    if missing := sorted(required - manifest.files.keys()):
        raise DigestMismatchError(f"{entry / MANIFEST} lists no digest of {', '.join(missing)}")
    for name, expected in manifest.files.items():
        path = entry / name
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DigestMismatchError(f"{entry / MANIFEST} lists a file outside the entry: {name!r}")
        if not path.is_file():
            raise DigestMismatchError(f"{path} is missing; the manifest lists it")
        if (actual := _sha256(path)) != expected:
            raise DigestMismatchError(f"{path} has the SHA-256 {actual}; the manifest says {expected}")


@contextmanager
def new_version(store: Path, name: str, version: int | None = None) -> Iterator[tuple[Path, int]]:
    """Create a new version of the model `name`.

    The block gets a temporary folder in the store, and the version number, by default one above the highest. It fills
    the folder and finally calls `seal`. If the block succeeds, the folder is renamed to the version, so that a block
    that is interrupted leaves no incomplete version. Blocks that run at the same time get different versions.

    Raises:
        ArtifactNotFoundError: if `version` exists already, or another process is writing it.
        ManifestError: if `name` is not a valid model name.
    """
    if not NAME.fullmatch(name):
        raise ManifestError(f"{name!r} is not a valid model name: use at most 128 letters, digits, '.', '_' and '-'")
    (store / name).mkdir(parents=True, exist_ok=True)
    with _reserved(store / name, version) as (partial, number):
        try:
            yield partial, number
            partial.rename(store / name / str(number))
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _reserved(model: Path, version: int | None) -> Iterator[tuple[Path, int]]:
    """Yield a folder that no other process fills, and the version that it will become.

    A lock on the folder says that its process is alive. The folders of processes that were killed are removed.
    """
    with _locked(model) as unlock:  # nobody else makes or removes such a folder meanwhile
        for folder in model.glob(".partial-*"):
            # It is being filled, or has just been published.
            with suppress(BlockingIOError, FileNotFoundError), _locked(folder, wait=False):
                shutil.rmtree(folder)
        number = max(_versions(model), default=0) + 1 if version is None else version
        while (model / f".partial-{number}").exists() or (model / str(number)).exists():
            if version is not None:
                raise ArtifactNotFoundError(
                    f"{model / str(version)} exists already or is being written; choose another version, or none for "
                    "the next one"
                )
            number += 1
        partial = model / f".partial-{number}"
        partial.mkdir()
        with _locked(partial, wait=False):
            unlock()
            yield partial, number


@contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[Callable[[], None]]:
    """Hold an exclusive lock on `folder` during the block, or until it calls what it gets.

    The system releases the lock of a process that ends, however it ends.

    Raises:
        BlockingIOError: if another process holds the lock and this one does not `wait`.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lambda: fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def seal(entry: Path, manifest: Manifest) -> Manifest:
    """Add the digests of all files to `manifest`, write it to `entry`, and return it.

    An existing manifest is replaced atomically.
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
