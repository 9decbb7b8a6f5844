"""Explain every image of a folder, without a server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from app.artifact.runtimes.base import Runtime
from app.errors import InputError
from app.explain.question import Question
from app.explain.regions import RegionShare
from app.imaging.headers import identify
from app.imaging.overlay import Style
from app.serving.analyzer import Analyzer, Drawing, Limits
from app.serving.answers import Explanation
from app.serving.workers import Workers
from app.telemetry.cores import available_cores
from app.telemetry.stages import Telemetry
from scripts.batch.contact_sheet import write_contact_sheet
from scripts.batch.results_table import AnswerKey, ResultsTable
from scripts.datasets.images import MAX_PIXELS

CONCURRENT_IMAGES = 32
_BATCH_SIZE = 8
# No client waits for a single image, so the analyzer can wait until its batches are full.
_WINDOW_S = 0.05


@dataclass(frozen=True, slots=True)
class FolderJob:
    """The question about each image of `folder`, and how and where the results are written.

    `side` is the longest side of an overlay in pixels. `concurrent_images` images are processed concurrently: enough to
    fill the analyzer's batches, and few enough to fit into memory.
    """

    folder: Path
    out: Path
    question: Question
    style: Style
    side: int = 1024
    concurrent_images: int = CONCURRENT_IMAGES

    @property
    def question_text(self) -> str:
        """The question and the style as text; images are explained again if it changes."""
        return question_text(self.question, self.style, self.side)


def question_text(question: Question, style: Style, side: int) -> str:
    """Describe what is asked of each image: the question, the style of its overlay, and the longest side of that."""
    return (
        f"class={question.class_name or ''} against={question.against or ''} method={question.method} "
        f"format={style.format} alpha={style.alpha:g} colormap={style.colormap} side={side}"
        f"{' outline=true' if question.outline else ''}"
    )


def image_files(folder: Path, out: Path) -> list[Path]:
    """Return the files in `folder` and its sub-folders in order, except hidden files and files in `out`."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(out))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def explain_folder(job: FolderJob, runtime: Runtime) -> list[dict[str, str]]:
    """Explain every image of `job`, and return the rows of the results table in the order of the file names.

    Raises:
        QuestionError: the question names an unknown class or method, or the method can't answer it.
    """
    job.question.check(runtime.manifest.classes, locates_organ=runtime.manifest.region is not None)
    job.out.mkdir(parents=True, exist_ok=True)
    paths = image_files(job.folder, job.out)
    results = ResultsTable(
        job.out / "results.csv",
        runtime.manifest.classes,
        multi_label=runtime.manifest.task == "multi_label",
        region=runtime.manifest.region is not None,
    )
    asyncio.run(_explain_all(job, runtime, paths, results))
    results.keep(_name(path, job) for path in paths)
    write_contact_sheet(job.out / "index.html", runtime.manifest, results.rows)
    return results.rows


async def _explain_all(job: FolderJob, runtime: Runtime, paths: Sequence[Path], results: ResultsTable) -> None:
    pending = iter(paths)
    with Workers(available_cores()) as workers, results, tqdm(total=len(paths), unit="image") as progress:
        limits = Limits(MAX_PIXELS, job.side, _BATCH_SIZE, _WINDOW_S)
        analyzer = Analyzer(runtime, workers, Telemetry(), limits)
        async with asyncio.TaskGroup() as group:
            for _ in range(job.concurrent_images):
                group.create_task(_explain_pending(job, analyzer, pending, results, progress))


async def _explain_pending(
    job: FolderJob, analyzer: Analyzer, pending: Iterator[Path], results: ResultsTable, progress: tqdm
) -> None:
    for path in pending:
        await _explain_one(job, analyzer, path, results)
        progress.update()


async def _explain_one(job: FolderJob, analyzer: Analyzer, path: Path, results: ResultsTable) -> None:
    """Add the row of one image, unless its row and its overlay exist already."""
    name, manifest = _name(path, job), analyzer.manifest
    row = {"file": name, "model": f"{manifest.name}/{manifest.version}", "question": job.question_text}
    try:
        data = await asyncio.to_thread(path.read_bytes)
        row["sha256"] = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        overlay = Path("overlays") / f"{name}.{job.style.format}"
        if results.answer(AnswerKey(**row)) and (job.out / overlay).is_file():
            return
        explanation = await analyzer.explain(identify(data), job.question, Drawing(job.style))
        assert explanation.overlay is not None
        await asyncio.to_thread(_write, job.out / overlay, explanation.overlay.data)
    except (InputError, OSError) as error:
        results.add(row | {"error": str(error)})
    else:
        results.add(row | answer_columns(explanation) | {"overlay": overlay.as_posix()})


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def answer_columns(explanation: Explanation) -> dict[str, str]:
    """Return the columns of the results table that the explanation fills."""
    prediction = explanation.prediction
    original, novelty = prediction.original, prediction.novelty
    return {
        "label": prediction.label,
        "probability": f"{prediction.probabilities[prediction.label]:.6f}",
        **({} if prediction.labels is None else {"labels": json.dumps(prediction.labels, ensure_ascii=False)}),
        **{f"p:{name}": f"{value:.6f}" for name, value in prediction.probabilities.items()},
        **({} if explanation.region is None else _region_columns(explanation.region)),
        "novelty": f"{novelty.score:.6f}" if novelty else "",
        "novelty_threshold": f"{novelty.threshold:.6f}" if novelty else "",
        "out_of_distribution": str(novelty.out_of_distribution).lower() if novelty else "",
        "warnings": "; ".join(warning.detail for warning in explanation.warnings),
        "width": str(original.width),
        "height": str(original.height),
        "format": original.format,
    }


def _region_columns(region: RegionShare) -> dict[str, str]:
    return {
        "region_found": str(region.found).lower(),
        "region_share_of_heat": "" if region.share_of_heat is None else f"{region.share_of_heat:.6f}",
        "region_share_of_image": f"{region.share_of_image:.6f}",
    }


def _name(path: Path, job: FolderJob) -> str:
    """Return the name of an image in the table: its path in the folder, with undecodable bytes replaced."""
    return os.fsencode(path.relative_to(job.folder).as_posix()).decode("utf-8", "replace")
