"""Dynamic batching: combines the images of concurrent requests into one model call."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from app.arrays import Float32Array, UInt8Array
from app.artifact.runtimes.base import Evidence, Runtime, Scores, split_rows
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Job:
    """One image `[H, W, C]` and its `targets` `[T, classes]`, or None if only its scores are needed.

    It was queued at `queued` and passed to the model at `started`, in nanoseconds of the performance counter.
    """

    pixels: UInt8Array
    targets: Float32Array | None
    answer: asyncio.Future[Scores | Evidence]
    queued: int
    started: int = 0

    @property
    def target_count(self) -> int:
        """T. An image without targets counts as one: sharing a call with images of one target costs next to nothing."""
        return 1 if self.targets is None else len(self.targets)


class Rendezvous:
    """Where `count` images meet when they are ready for the queue, so that they enter it as one batch.

    They all go on in the same iteration of the event loop, before the batcher can look at its queue. An
    `asyncio.Barrier` would let them go one by one.
    """

    def __init__(self, count: int) -> None:
        self._missing = count
        self._complete = asyncio.Event()

    async def wait(self) -> None:
        """Wait until all images are here."""
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


class Batcher:
    """Queues the images for one model while it is busy, and passes them to it in batches. Use it from one event loop.

    When the model becomes free, the images in the queue form the next batch. An image that finds the model idle starts
    immediately. A batch waits only while further images are being decoded, and no longer than `window_s` seconds, so
    that a lone request never waits.

    Images that need scores and images that need evidence share a call: evidence includes the scores, and the trunk of
    the network, which takes nearly all the time, is the same. Images with different numbers of targets do not.
    """

    def __init__(
        self, runtime: Runtime, workers: Workers, telemetry: Telemetry, *, max_batch_size: int, window_s: float
    ) -> None:
        self._runtime = runtime
        self._workers = workers
        self._telemetry = telemetry
        self._max_batch_size = max_batch_size
        self._window_s = window_s
        self._queue: deque[_Job] = deque()
        self._expected = 0
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @contextmanager
    def expect(self) -> Iterator[None]:
        """Announce an image that is being prepared in this block, so that a batch can wait for it."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._changed.set()

    async def predict(self, pixels: UInt8Array) -> Scores:
        """Return the scores of one image `[H, W, C]`, without the batch axis."""
        answer = await self._submit(pixels, None)
        return Scores(answer.probabilities, answer.novelty, answer.box, answer.regions)

    async def evidence(self, pixels: UInt8Array, targets: Float32Array) -> Evidence:
        """Return the evidence for one image `[H, W, C]` and `targets` `[T, classes]`, without the batch axis."""
        answer = await self._submit(pixels, targets)
        assert isinstance(answer, Evidence)
        return answer

    async def _submit(self, pixels: UInt8Array, targets: Float32Array | None) -> Scores | Evidence:
        """Queue an image and wait for the model. If the caller is cancelled meanwhile, the image is dropped."""
        job = _Job(pixels, targets, asyncio.get_running_loop().create_future(), time.perf_counter_ns())
        self._queue.append(job)
        self._update_depth()
        self._changed.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._run())
        answer = await job.answer
        self._telemetry.elapsed("queue", job.queued, job.started)
        self._telemetry.elapsed("inference", job.started, time.perf_counter_ns())
        return answer

    async def _run(self) -> None:
        """Process batches until the queue is empty."""
        try:
            while self._queue:
                await self._wait_for_expected()
                batch = self._next_batch()
                if batch:
                    await self._process(batch)
        finally:
            self._worker = None

    async def _wait_for_expected(self) -> None:
        """Wait until all expected images are queued, the batch is full, or the window is over."""
        try:
            async with asyncio.timeout(self._window_s):
                while self._expected and len(self._queue) < self._max_batch_size:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    def _next_batch(self) -> list[_Job]:
        """Return the oldest image in the queue and later ones that can share its call; drop cancelled ones."""
        batch: list[_Job] = []
        others: deque[_Job] = deque()
        while self._queue and len(batch) < self._max_batch_size:
            job = self._queue.popleft()
            if job.answer.done():
                self._telemetry.metrics.dropped.inc()
            elif not batch or job.target_count == batch[0].target_count:
                batch.append(job)
            else:
                others.append(job)
        self._queue.extendleft(reversed(others))
        self._update_depth()
        return batch

    async def _process(self, batch: list[_Job]) -> None:
        for job in batch:
            job.started = time.perf_counter_ns()
        self._telemetry.metrics.batch_size.observe(len(batch))
        try:
            rows = await self._workers.infer(lambda: self._compute(batch))
        except Exception as error:  # noqa: BLE001  # each request gets the error as its own
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            # An image that fails, or a batch too large for the memory, must not fail the other requests.
            log.warning("a batch of %d failed; retrying its images one by one: %s", len(batch), error)
            for job in batch:
                await self._process([job])
            return
        for job, row in zip(batch, rows, strict=True):
            _settle(job, row)

    def _compute(self, batch: Sequence[_Job]) -> Sequence[Scores | Evidence]:
        images = np.stack([job.pixels for job in batch])
        if all(job.targets is None for job in batch):
            return split_rows(self._runtime.predict(images))
        return split_rows(self._runtime.evidence(images, self._targets(batch)))

    def _targets(self, batch: Sequence[_Job]) -> Float32Array:
        """Stack the targets to `[B, T, classes]`. An image without targets gets a row of zeros, the predicted class."""
        predicted = np.zeros((1, len(self._runtime.manifest.classes)), np.float32)
        return np.stack([predicted if job.targets is None else job.targets for job in batch])

    def _update_depth(self) -> None:
        self._telemetry.metrics.queue_depth.set(len(self._queue))


def _settle(job: _Job, outcome: Scores | Evidence | Exception) -> None:
    if job.answer.done():  # its request was cancelled
        return
    if isinstance(outcome, Exception):
        job.answer.set_exception(outcome)
    else:
        job.answer.set_result(outcome)
