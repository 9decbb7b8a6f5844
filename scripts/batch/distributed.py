"""Explain every image of a folder with Ray Data: list, read, a pool of model actors, Parquet and overlays."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.artifact.manifest import Manifest, read_manifest
from app.cluster.local_ray import prepare_environment, start
from app.errors import InputError, SetupError
from app.explain.question import Question
from app.imaging.headers import identify
from app.imaging.overlay import Style
from app.serving.analyzer import Analyzer, Drawing, Limits
from app.serving.environment import prepare_tensorflow
from app.serving.workers import Workers
from app.settings import Settings
from app.telemetry.cores import available_cores
from app.telemetry.stages import Telemetry
from scripts.batch.folder import answer_columns, question_text
from scripts.batch.locations import File, Location
from scripts.batch.parts import Row, combine, finished, write_part
from scripts.batch.results_table import columns
from scripts.datasets.images import MAX_PIXELS

LOCAL = "local"
# The unit of work: what is lost when a run is killed, and what an actor works on at a time.
_IMAGES = 32
_BATCH_SIZE = 8
_WINDOW_S = 0.05
# An actor of a whole CPU on every CPU would leave none to the readers, and wait for them forever. With these, all
# actors and as many readers, two at least, fit into the CPUs that there are.
ACTOR_CPUS = 0.8
READER_CPUS = 0.1


@dataclass(frozen=True, slots=True)
class DistributedJob:
    """The question about each image of `folder`; `entry` is the version folder of the model, on every machine.

    `side` is the longest side of an overlay in pixels.
    """

    folder: Location
    out: Location
    entry: Path
    question: Question
    style: Style
    side: int = 1024

    def header(self, manifest: Manifest) -> list[str]:
        """Return the columns of the table."""
        return columns(manifest.classes, multi_label=manifest.task == "multi_label", region=manifest.region is not None)

    @property
    def question_text(self) -> str:
        """The question and the style as text; images are explained again if it changes."""
        return question_text(self.question, self.style, self.side)


def explain_distributed(job: DistributedJob, address: str) -> tuple[int, int]:
    """Explain every image of `job` with the Ray cluster at `address`, and write its table.

    `address` is `local` for Ray on this machine, for as long as it takes, or what `ray.init` takes.

    Returns:
        The number of files, and how many of them can't be read.

    Raises:
        QuestionError: the question names an unknown class or method, or the method can't answer it.
        ArtifactError: the model is refused.
        SetupError: Ray can't be started.
        OSError: the folder can't be listed, or the results can't be written.
    """
    manifest = read_manifest(job.entry)
    job.question.check(manifest.classes, locates_organ=manifest.region is not None)
    header = job.header(manifest)
    files = sorted(job.folder.files(leave_out=job.out), key=lambda file: file.name)
    done = finished(job.out, header, files, _model(manifest), job.question_text)
    done &= {file.name.removeprefix("overlays/")[: -len(job.style.format) - 1] for file in job.out.files()}
    pending = [file for file in files if file.name not in done]
    if pending:
        _run(job, pending, address, len(files))
    return combine(job.out, header, files)


def _run(job: DistributedJob, pending: Sequence[File], address: str, total: int) -> None:
    prepare_environment()
    import ray  # noqa: PLC0415  # it reads the environment
    import ray.data  # noqa: PLC0415  # likewise

    if address == LOCAL:
        if not start(available_cores()):
            raise SetupError("Ray can't be started on this machine")
    else:
        ray.init(address=address)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # it has one of its own
        actors = max(1, int(ray.cluster_resources()["CPU"]))
        work = [{"name": file.name, "size": file.size, "modified": file.modified} for file in pending]
        finished_rows = (
            ray.data.from_items(work, override_num_blocks=max(1, len(work) // _IMAGES))
            .map_batches(
                _read,
                fn_kwargs={"folder": job.folder},
                batch_size=_IMAGES,
                num_cpus=READER_CPUS,
                concurrency=max(2, actors),
            )
            .map_batches(
                Explainer,
                fn_constructor_args=(job,),
                batch_size=_IMAGES,
                num_cpus=ACTOR_CPUS,
                concurrency=actors,
            )
        )
        with tqdm(total=total, initial=total - len(pending), unit="image") as progress:
            for batch in finished_rows.iter_batches(batch_size=None):
                progress.update(len(batch["name"]))
    finally:
        ray.shutdown()


def _read(batch: dict[str, Any], folder: Location) -> dict[str, Any]:
    """Add the bytes of each file, or the reason why it can't be read."""
    contents, errors = [], []
    for name in batch["name"]:
        try:
            contents.append(folder.read(str(name)))
            errors.append("")
        except OSError as error:
            contents.append(b"")
            errors.append(str(error))
    return {**batch, "data": np.array(contents, object), "error": np.array(errors, object)}


class Explainer:
    """An actor with the model, which writes the overlays and the rows of the images that it gets."""

    def __init__(self, job: DistributedJob) -> None:
        prepare_tensorflow(Settings(intra_op_threads=1), cores=1)
        from app.artifact.runtimes.tensorflow import TensorFlowRuntime  # noqa: PLC0415  # it reads the environment

        self._job = job
        self._loop = asyncio.new_event_loop()
        self._workers = Workers(1)
        self._workers.__enter__()  # for as long as the process lives
        runtime = TensorFlowRuntime(job.entry)
        limits = Limits(MAX_PIXELS, job.side, _BATCH_SIZE, _WINDOW_S)
        self._analyzer = Analyzer(runtime, self._workers, Telemetry(), limits)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Explain a batch; its part is on disk when this returns."""
        rows = self._loop.run_until_complete(self._explain(batch))
        write_part(self._job.out, self._job.header(self._analyzer.manifest), rows)
        return {"name": batch["name"]}

    async def _explain(self, batch: dict[str, Any]) -> list[Row]:
        files = [
            File(str(name), int(size), str(modified))
            for name, size, modified in zip(batch["name"], batch["size"], batch["modified"], strict=True)
        ]
        work = zip(files, batch["data"], batch["error"], strict=True)
        return list(await asyncio.gather(*(self._row(file, bytes(data), str(error)) for file, data, error in work)))

    async def _row(self, file: File, data: bytes, error: str) -> Row:
        job = self._job
        row = {"file": file.name, "size": str(file.size), "modified": file.modified}
        row |= {"model": _model(self._analyzer.manifest), "question": job.question_text}
        if error:
            return row | {"error": error}
        row["sha256"] = hashlib.sha256(data).hexdigest()
        overlay = f"overlays/{file.name}.{job.style.format}"
        try:
            explanation = await self._analyzer.explain(identify(data), job.question, Drawing(job.style))
        except InputError as refusal:
            return row | {"error": str(refusal)}
        assert explanation.overlay is not None
        picture = explanation.overlay.data
        await asyncio.to_thread(lambda: job.out.write(overlay, picture))
        return row | answer_columns(explanation) | {"overlay": overlay}


def _model(manifest: Manifest) -> str:
    return f"{manifest.name}/{manifest.version}"
