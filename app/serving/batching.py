"""Concurrent requests become one model call: dynamic batching."""

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
from app.artifact.runtimes.base import Evidence, Runtime, Scores
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Job:
    """One image `[H, W, C]` and what is asked of it: `targets` `[T, classes]`, or None for its scores alone.

    It waits from `since`, and is with the model from `began`, in nanoseconds of the performance counter.
    """

    pixels: UInt8Array
    targets: Float32Array | None
    answer: asyncio.Future[Scores | Evidence]
    since: int
    began: int = 0

    @property
    def questions(self) -> int:
        """T; an image that is only scored can be answered beside one question at no cost worth naming."""
        return 1 if self.targets is None else len(self.targets)


class Batcher:
    """Collects what is asked of one model while the model is busy, and asks it all at once.

    While the model computes, requests gather; when it is free, the next batch is what has gathered. A request that
    finds the model idle starts at once. Only where more requests are known to be on their way (their images are being
    decoded) does a batch wait for them, and no longer than the window: a lone request never does.

    Scores and evidence go into one call: evidence contains the scores, and the network's trunk, where nearly all the
    time goes, is the same. Images with different numbers of questions do not share a call.

    Use it from one event loop.
    """

    def __init__(
        self, runtime: Runtime, workers: Workers, telemetry: Telemetry, *, max_batch_size: int, window_s: float
    ) -> None:
        self._runtime = runtime
        self._workers = workers
        self._telemetry = telemetry
        self._max_batch_size = max_batch_size
        self._window_s = window_s
        self._waiting: deque[_Job] = deque()
        self._coming = 0
        self._news = asyncio.Event()
        self._rounds: asyncio.Task[None] | None = None

    @contextmanager
    def approach(self) -> Iterator[None]:
        """An image is being prepared in this block, and will be asked about soon after it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._news.set()

    async def predict(self, pixels: UInt8Array) -> Scores:
        """The scores of one image `[H, W, C]`, without the batch axis."""
        answer = await self._ask(pixels, None)
        return Scores(answer.probabilities, answer.novelty)

    async def evidence(self, pixels: UInt8Array, targets: Float32Array) -> Evidence:
        """The evidence of one image `[H, W, C]` for `targets` `[T, classes]`, without the batch axis."""
        answer = await self._ask(pixels, targets)
        assert isinstance(answer, Evidence)
        return answer

    async def _ask(self, pixels: UInt8Array, targets: Float32Array | None) -> Scores | Evidence:
        """Wait for the answer; a request that is cancelled while it waits is dropped before it reaches the model."""
        job = _Job(pixels, targets, asyncio.get_running_loop().create_future(), time.perf_counter_ns())
        self._waiting.append(job)
        self._count()
        self._news.set()
        if self._rounds is None:
            self._rounds = asyncio.create_task(self._serve())
        answer = await job.answer
        self._telemetry.elapsed("queue", job.since, job.began)
        self._telemetry.elapsed("inference", job.began, time.perf_counter_ns())
        return answer

    async def _serve(self) -> None:
        """Batch after batch until nothing waits."""
        try:
            while self._waiting:
                await self._gather()
                batch = self._next_batch()
                if batch:
                    await self._answer(batch)
        finally:
            self._rounds = None

    async def _gather(self) -> None:
        """Give what is on its way the window's time to arrive."""
        try:
            async with asyncio.timeout(self._window_s):
                while self._coming and len(self._waiting) < self._max_batch_size:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass  # the window is over: go with what is there

    def _next_batch(self) -> list[_Job]:
        """The oldest waiting image, and those after it that can share its call; what nobody waits for is dropped."""
        batch: list[_Job] = []
        others: deque[_Job] = deque()
        while self._waiting and len(batch) < self._max_batch_size:
            job = self._waiting.popleft()
            if job.answer.done():
                self._telemetry.metrics.dropped.inc()
            elif not batch or job.questions == batch[0].questions:
                batch.append(job)
            else:
                others.append(job)
        self._waiting.extendleft(reversed(others))
        self._count()
        return batch

    async def _answer(self, batch: list[_Job]) -> None:
        for job in batch:
            job.began = time.perf_counter_ns()
        self._telemetry.metrics.batch_size.observe(len(batch))
        try:
            rows = await self._workers.infer(lambda: self._compute(batch))
        except Exception as error:  # noqa: BLE001  # the boundary of a request: whatever it is becomes its answer
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            # One image's failure (or a batch too large for the memory) must not be its neighbours'.
            log.warning("a batch of %d failed and is tried one by one: %s", len(batch), error)
            for job in batch:
                await self._answer([job])
            return
        for job, row in zip(batch, rows, strict=True):
            _settle(job, row)

    def _compute(self, batch: Sequence[_Job]) -> Sequence[Scores | Evidence]:
        images = np.stack([job.pixels for job in batch])
        if all(job.targets is None for job in batch):
            scores = self._runtime.predict(images)
            return [Scores(*row) for row in zip(scores.probabilities, scores.novelty, strict=True)]
        evidence = self._runtime.evidence(images, self._targets(batch))
        fields = (getattr(evidence, name) for name in Evidence.__dataclass_fields__)
        return [Evidence(*row) for row in zip(*fields, strict=True)]

    def _targets(self, batch: Sequence[_Job]) -> Float32Array:
        """`[B, T, classes]`; an image that is only scored is asked about its predicted class."""
        nothing = np.zeros((1, len(self._runtime.manifest.classes)), np.float32)
        return np.stack([nothing if job.targets is None else job.targets for job in batch])

    def _count(self) -> None:
        self._telemetry.metrics.queue_depth.set(len(self._waiting))


def _settle(job: _Job, outcome: Scores | Evidence | Exception) -> None:
    if job.answer.done():  # its request has gone
        return
    if isinstance(outcome, Exception):
        job.answer.set_exception(outcome)
    else:
        job.answer.set_result(outcome)
