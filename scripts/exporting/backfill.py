"""Backfill the golden cases, sanity check and warning thresholds of an artefact from an older exporter."""

from __future__ import annotations

from pathlib import Path

from app.artifact.manifest import ANYTHING, Expectation, Manifest, read_manifest
from app.artifact.store import seal
from scripts.datasets.films import read_films, read_pixels
from scripts.exporting.golden_cases import add_golden_cases


def backfill(entry: Path, data: Path | None = None, expects: Expectation = ANYTHING) -> Manifest:
    """Add golden cases and a sanity check to the artefact `entry`, or renew them, and reseal it.

    Every file is verified first. Only `manifest.json` and the golden cases are written; the manifest is replaced last,
    atomically.

    Args:
        entry: the version folder of the artefact.
        data: the folder of the training data. With it, the thresholds of warnings are measured; without it, existing
            thresholds are kept.
        expects: what a DICOM header is expected to say. `ANYTHING` keeps what the manifest has.

    Returns:
        The new manifest.

    Raises:
        ArtifactError: the artefact can't be loaded or verified.
        ScriptError: the data can't be used.
    """
    images = None if data is None else read_pixels(read_films(data), read_manifest(entry).input)
    manifest = add_golden_cases(entry, images)
    if expects != ANYTHING:
        manifest = manifest.model_copy(update={"input": manifest.input.model_copy(update={"expects": expects})})
    return seal(entry, manifest)
