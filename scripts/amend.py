"""`python -m scripts.amend`: give an artefact golden cases, a sanity check and thresholds; its SavedModel stays."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from app.artifact.store import ANYTHING, Expectation, Manifest, read_manifest, seal
from app.errors import ArtifactError
from scripts.datasets.films import read_films, read_pixels
from scripts.errors import ScriptError
from scripts.exporting.expectations import add_expectations, expectation_of
from scripts.exporting.golden_cases import examined


def amend(entry: Path, data: Path | None = None, expects: Expectation = ANYTHING) -> Manifest:
    """Examine the artefact `entry`, an older one that lacks it or one whose examination has changed, and reseal it.

    Every file is verified before; of the artefact only `manifest.json` and the golden cases are written, the manifest
    last and at once. With `data`, the folder that the model was trained on, thresholds for cautions are measured;
    `expects`, unless it is anything, replaces what a DICOM header is expected to say.

    Raises:
        ArtifactError: the artefact is refused.
        ScriptError: the data can't be used.
    """
    images = None if data is None else read_pixels(read_films(data), read_manifest(entry).input)
    manifest = examined(entry, images)
    if expects != ANYTHING:
        manifest = manifest.model_copy(update={"input": manifest.input.model_copy(update={"expects": expects})})
    return seal(entry, manifest)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 1 with a message where it can't be done."""
    parser = argparse.ArgumentParser(prog="python -m scripts.amend", description=__doc__)
    parser.add_argument("model", type=Path, help="a version folder: model_store/NAME/VERSION")
    parser.add_argument("--data", type=Path, help="the films that it was trained on, for the thresholds of cautions")
    add_expectations(parser)
    options = parser.parse_args(arguments)
    try:
        manifest = amend(options.model, options.data, expectation_of(options))
    except (ScriptError, ArtifactError) as error:
        print(f"amend: {error}", file=sys.stderr)
        return 1
    assert manifest.sanity is not None
    print(f"amended {options.model}; randomised, its maps correlate by {manifest.sanity.correlations}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
