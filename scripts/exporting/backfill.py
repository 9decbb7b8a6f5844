"""Give an artefact of an older version of the exporter what it lacks."""

from __future__ import annotations

from pathlib import Path

from app.artifact.manifest import ANYTHING, Expectation, Manifest, read_manifest
from app.artifact.store import seal
from scripts.datasets.films import read_films, read_pixels
from scripts.exporting.golden_cases import add_golden_cases


def backfill(entry: Path, data: Path | None = None, expects: Expectation = ANYTHING) -> Manifest:
    """Examine the artefact `entry`, an older one that lacks it or one whose examination has changed, and reseal it.

    Every file is verified before; of the artefact only `manifest.json` and the golden cases are written, the manifest
    last and at once. With `data`, the folder that the model was trained on, thresholds for warnings are measured;
    `expects`, unless it is anything, replaces what a DICOM header is expected to say.

    Raises:
        ArtifactError: the artefact is refused.
        ScriptError: the data can't be used.
    """
    images = None if data is None else read_pixels(read_films(data), read_manifest(entry).input)
    manifest = add_golden_cases(entry, images)
    if expects != ANYTHING:
        manifest = manifest.model_copy(update={"input": manifest.input.model_copy(update={"expects": expects})})
    return seal(entry, manifest)
