"""Backfill the golden cases, sanity check and warning thresholds of an artefact from an older exporter."""

from __future__ import annotations

from pathlib import Path

from app.artifact.manifest import ANYTHING, Expectation, Manifest, read_manifest
from app.artifact.store import seal
from scripts.datasets.films import read_films, read_pixels
from scripts.exporting.golden_cases import add_golden_cases


def backfill(entry: Path, data: Path | None = None, expects: Expectation = ANYTHING) -> Manifest:
    """Add golden cases and a sanity check to the artefact `entry`, or renew them, and reseal it.

    The function verifies every file first. It writes only the golden cases and `manifest.json`, which it replaces last,
    atomically.

    Args:
        entry: the version folder of the artefact.
        data: the folder of the training data, on which the thresholds of warnings are measured. Without it, existing
            thresholds are kept.
        expects: the expected values of a DICOM header. `ANYTHING` keeps the expectation of the manifest.

    Returns:
        The new manifest.

    Raises:
        ArtifactError: if the artefact can't be loaded or verified.
        ScriptError: if the data can't be used.
    """
    images = None if data is None else read_pixels(read_films(data), read_manifest(entry).input)
    manifest = add_golden_cases(entry, images)
    if expects != ANYTHING:
        manifest = manifest.model_copy(update={"input": manifest.input.model_copy(update={"expects": expects})})
    return seal(entry, manifest)
