"""The artefact: one version folder of the model store. Its manifest's schema; find, verify, read and write an entry.

`<store>/<name>/<version>/` holds a SavedModel (`saved_model.pb`, `variables/`), `manifest.json`, and for trained
models `report/`. The layout is TensorFlow Serving's.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from app.errors import ArtifactNotFoundError, DigestMismatchError, ManifestError
from app.imaging.geometry import Fit

MANIFEST = "manifest.json"
_PARTIAL = f".{MANIFEST}.partial"
# Pictures of patients: never listed in the manifest, so that a model can be passed on without them.
PRIVATE = PurePosixPath("report/films")

# What tells whether an entry's files have changed: the path, size and modification time of each.
Fingerprint = tuple[tuple[str, int, int], ...]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

DEFAULT_INTENDED_USE = (
    "Research use only. Not a medical device. The heatmap highlights what the model used, not lesions."
)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Expectation(_Frozen):
    """What a DICOM header may say of an image that the model was made for; an empty field expects nothing.

    Coded terms of DICOM PS3.6: `modality` (0008,0060), `body_part` (0018,0015), `view` (0018,5101).
    """

    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()


ANYTHING = Expectation()


class InputSpec(_Frozen):
    """What the network takes: uint8 images `[height, width, channels]`, and how an image is fitted to that."""

    height: PositiveInt
    width: PositiveInt
    channels: Literal[1, 3]
    fit: Fit
    expects: Expectation = ANYTHING


class FeatureLayer(_Frozen):
    """The layer at which explanations are read: its name and its output's shape, without the batch axis."""

    name: str
    height: PositiveInt
    width: PositiveInt
    channels: PositiveInt


class NoveltySpec(_Frozen):
    """How the novelty score was made, and the score above which an image is called out of distribution."""

    method: str
    threshold: float


class HeatThresholds(_Frozen):
    """Of one CAM method: the share of heat in the outer ring of cells, and the entropy of the heat (0..1), above which
    a heatmap is unlike those of the training films.
    """

    border_heat: float
    diffuse_heat: float


class CautionSpec(_Frozen):
    """From where on an answer calls for a caution, measured on `films` training films.

    `heat` holds, by CAM method, the `quantile` of the films' heatmaps for their predicted class; `low_margin` is the
    (1 - `quantile`) of the difference between their two best probabilities, None where there is one class.
    """

    quantile: Annotated[float, Field(gt=0.5, lt=1)]
    films: PositiveInt
    low_margin: float | None
    heat: dict[str, HeatThresholds]


class SelfTestSpec(_Frozen):
    """The golden cases, `cases` of them in `file`, and how far a replay may be from them.

    `probability_tolerance` is absolute; `relative_tolerance`, for logits, novelty and maps, is a share of the largest
    absolute value that was recorded.
    """

    file: str
    cases: PositiveInt
    probability_tolerance: Annotated[float, Field(gt=0)]
    relative_tolerance: Annotated[float, Field(gt=0)]


class SanitySpec(_Frozen):
    """How heatmaps follow the weights: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018.

    `correlations` are mean Spearman correlations of the maps with the original ones, after one more layer at a time was
    randomised, from the logits down; `control` the same for an edge detector, which knows no weights. Maps whose last
    correlation is `limit` or more do not depend on what the network has learnt.
    """

    cases: PositiveInt
    correlations: tuple[float, ...]
    control: tuple[float, ...]
    limit: float

    @property
    def passed(self) -> bool:
        return not self.correlations or self.correlations[-1] < self.limit


class Manifest(_Frozen):
    """What a model means: `manifest.json`, schema version 1.

    `classes` are in logit order. `temperature` divides the logits before the softmax (Guo et al., "On Calibration of
    Modern Neural Networks", ICML 2017). `cautions`, `self_test` and `sanity` are None in artefacts that were packed
    before there were any, and `cautions` where the training films are unknown. `files` maps every other file of the
    entry to its SHA-256.
    """

    schema_version: Literal[1] = 1
    name: str
    version: PositiveInt
    created: datetime
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input: InputSpec
    feature_layer: FeatureLayer
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    novelty: NoveltySpec | None = None
    cautions: CautionSpec | None = None
    self_test: SelfTestSpec | None = None
    sanity: SanitySpec | None = None
    training: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    intended_use: str = DEFAULT_INTENDED_USE
    files: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _is_a_model_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no model name: letters, digits, '.', '_' and '-', at most 128")
        return name

    @model_validator(mode="after")
    def _has_distinct_classes(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or not all(self.classes):
            raise ValueError(f"class names must be distinct and not empty: {list(self.classes)}")
        return self


def model_names(store: Path) -> list[str]:
    """The names of the models in `store` that have at least one version, sorted."""
    if not store.is_dir():
        raise ArtifactNotFoundError(f"there is no model store at {store}")
    return sorted(path.name for path in store.iterdir() if _NAME.fullmatch(path.name) and _versions(path))


def model_versions(store: Path, name: str) -> list[int]:
    """The versions of `name` in `store`, ascending; folders that are no positive integer don't count."""
    return _versions(store / name) if _NAME.fullmatch(name) else []


def _versions(model: Path) -> list[int]:
    if not model.is_dir():
        return []
    return sorted(int(path.name) for path in model.iterdir() if _VERSION.fullmatch(path.name) and path.is_dir())


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


def read_manifest(entry: Path) -> Manifest:
    """The manifest of `entry`, a version folder.

    Where it lies in a store decides the name and the version, as in TensorFlow Serving: an artefact may be copied.

    Raises:
        ManifestError: it is missing, not JSON, or not valid; the message names the fields.
    """
    path = entry / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} can't be read: {error}") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in error.errors())
        raise ManifestError(f"{path} is not a valid manifest: {faults}") from error
    name, version = entry.resolve().parts[-2:]
    if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version)):
        return manifest
    return manifest.model_copy(update={"name": name, "version": int(version)})


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
    that is interrupted leaves no half-written version. The block's last act is `seal`.

    Raises:
        ArtifactNotFoundError: `version` exists already.
        ManifestError: `name` is no model name.
    """
    if not _NAME.fullmatch(name):
        raise ManifestError(f"{name!r} is no model name: letters, digits, '.', '_' and '-', at most 128")
    versions = model_versions(store, name)
    number = version if version is not None else max(versions, default=0) + 1
    target = store / name / str(number)
    if target.exists():
        raise ArtifactNotFoundError(f"{target} exists already; choose another version, or none for the next one")
    (store / name).mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=store / name))
    try:
        partial.chmod(0o755)
        yield partial, number
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
