"""Concurrent requests and the model calls that they become."""

import threading
import time

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from app.serving.batching import Batcher
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry
from tests import models
from tests.doubles import BrightnessRuntime
from tests.pictures import constant


class Recorder:
    """Writes down every call; each waits for `gate`, and one with an image of nothing but 13 fails."""

    device = "CPU"

    def __init__(self):
        self._inner = BrightnessRuntime()
        self.manifest = self._inner.manifest
        self.calls = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    def memory_bytes(self):
        return 0

    def predict(self, images):
        self._note("predict", images)
        return self._inner.predict(images)

    def evidence(self, images, targets):
        self._note(f"evidence of {targets.shape[1]}", images)
        return self._inner.evidence(images, targets)

    def _note(self, kind, images):
        self.calls.append((kind, len(images)))
        self.entered.set()
        self.gate.wait(timeout=30)
        if (images == 13).all(axis=(1, 2, 3)).any():
            raise RuntimeError("thirteen")


BRIGHT, DARK, BAD = (np.repeat(constant(level, 8, 8)[..., None], 3, -1) for level in (255, 20, 13))
ONE, TWO = np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32)[:2]


def conversation(script, *, max_batch_size=8, window_s=0.0):
    """Run `script(batcher, runtime, group)`; gives the runtime."""

    async def run():
        runtime = Recorder()
        with Workers(2) as workers:
            batcher = Batcher(runtime, workers, Telemetry(), max_batch_size=max_batch_size, window_s=window_s)
            async with anyio.create_task_group() as group:
                await script(batcher, runtime, group)
        return runtime

    return anyio.run(run)


async def busy(batcher, runtime, group):
    """The model has begun with one image, and is kept at it."""
    group.start_soon(batcher.predict, BRIGHT)
    await anyio.to_thread.run_sync(runtime.entered.wait)


def test_what_gathers_while_the_model_computes_is_one_call():
    """The first goes alone, at once; the five that come meanwhile go together."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        for _ in range(5):
            group.start_soon(batcher.predict, DARK)
        await anyio.sleep(0.01)
        runtime.gate.set()

    assert conversation(script).calls == [("predict", 1), ("predict", 5)]


def test_a_call_takes_no_more_than_the_batch_size():
    """The rest goes with the next."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        for _ in range(5):
            group.start_soon(batcher.predict, DARK)
        await anyio.sleep(0.01)
        runtime.gate.set()

    assert conversation(script, max_batch_size=3).calls == [("predict", 1), ("predict", 3), ("predict", 2)]


def test_each_gets_its_own_answer():
    """Bright and dark images in one call, some of them with a question."""

    async def script(batcher, runtime, _group):
        answers = {}

        async def ask(key, pixels, targets):
            if targets is None:
                answers[key] = await batcher.predict(pixels)
            else:
                answers[key] = await batcher.evidence(pixels, targets)

        async with anyio.create_task_group() as crowd:
            await busy(batcher, runtime, crowd)
            for key, (pixels, targets) in enumerate([(BRIGHT, None), (DARK, ONE), (DARK, None), (BRIGHT, ONE)]):
                crowd.start_soon(ask, key, pixels, targets)
            await anyio.sleep(0.01)
            runtime.gate.set()
        assert [int(answers[key].probabilities.argmax()) for key in range(4)] == [2, 0, 0, 2]
        assert answers[1].gradients.shape == (1, 8, 8, 1)
        assert answers[1].gradients.max() == -1
        assert answers[3].gradients.min() == 1

    assert conversation(script).calls == [("predict", 1), ("evidence of 1", 4)]


def test_different_numbers_of_questions_do_not_share_a_call():
    """The order of arrival is kept among those that can't go together."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        for targets in (ONE, TWO, ONE, TWO):
            group.start_soon(batcher.evidence, DARK, targets)
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.01)
        runtime.gate.set()

    assert conversation(script).calls == [("predict", 1), ("evidence of 1", 2), ("evidence of 2", 2)]


def test_a_request_that_has_gone_never_reaches_the_model():
    """Cancelled while it waited."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        with anyio.move_on_after(0.01):
            await batcher.predict(DARK)
        group.start_soon(batcher.predict, DARK)
        await anyio.sleep(0.01)
        runtime.gate.set()

    assert conversation(script).calls == [("predict", 1), ("predict", 1)]


def test_one_bad_image_fails_alone():
    """The batch that it spoilt is tried again, one by one."""

    async def script(batcher, runtime, _group):
        outcomes = []

        async def ask(pixels):
            try:
                outcomes.append(int((await batcher.predict(pixels)).probabilities.argmax()))
            except RuntimeError as error:
                outcomes.append(str(error))

        async with anyio.create_task_group() as crowd:
            await busy(batcher, runtime, crowd)
            for pixels in (BRIGHT, BAD, DARK):
                crowd.start_soon(ask, pixels)
            await anyio.sleep(0.01)
            runtime.gate.set()
        assert outcomes == [2, "thirteen", 0]

    assert conversation(script).calls == [("predict", 1), ("predict", 3), *[("predict", 1)] * 3]


def test_a_lone_request_does_not_wait_for_the_window():
    """Nobody else is on the way, so an hour's window costs nothing."""

    async def script(batcher, runtime, _group):
        runtime.gate.set()
        with anyio.fail_after(5):
            with batcher.approach():
                pass
            await batcher.predict(DARK)

    conversation(script, window_s=3600)


def test_a_batch_waits_for_what_is_on_its_way():
    """The second image is still being decoded when the first is ready: they go together."""

    async def script(batcher, runtime, group):
        runtime.gate.set()
        with batcher.approach():
            group.start_soon(batcher.predict, DARK)
            await anyio.sleep(0.05)
            assert not runtime.calls
        await batcher.predict(BRIGHT)

    assert conversation(script, window_s=3600).calls == [("predict", 2)]


def test_a_batch_waits_no_longer_than_the_window():
    """The second image takes too long to decode."""

    async def script(batcher, runtime, _group):
        runtime.gate.set()
        with batcher.approach(), anyio.fail_after(5):
            await batcher.predict(DARK)

    assert conversation(script, window_s=0.01).calls == [("predict", 1)]


def test_times_and_sizes_are_measured():
    """Time in the queue, time in the model, batch sizes, what was dropped."""
    telemetry = Telemetry()

    async def run():
        runtime = Recorder()
        with Workers(2) as workers:
            batcher = Batcher(runtime, workers, telemetry, max_batch_size=8, window_s=0)
            async with anyio.create_task_group() as group:
                await busy(batcher, runtime, group)
                with anyio.move_on_after(0.01):
                    await batcher.predict(DARK)
                for _ in range(2):
                    group.start_soon(batcher.predict, DARK)
                await anyio.sleep(0.05)
                runtime.gate.set()

    start = time.perf_counter()
    anyio.run(run)
    text = telemetry.metrics.exposition().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["lightbox_batch_size_sum"]) == 3
    assert float(values["lightbox_batch_size_count"]) == 2
    assert float(values["lightbox_dropped_total"]) == 1
    assert float(values["lightbox_queue_depth"]) == 0
    assert float(values['lightbox_stage_seconds_count{stage="queue"}']) == 3
    assert 0.05 < float(values['lightbox_stage_seconds_sum{stage="inference"}']) < 3 * (time.perf_counter() - start)
    assert 0.1 < float(values['lightbox_stage_seconds_sum{stage="queue"}']) < 3 * (time.perf_counter() - start)


@pytest.mark.parametrize("questions", [1, 2])
def test_a_row_of_a_batch_is_what_it_is_alone(runtime_of, questions):
    """Through a really exported model, whatever its neighbours are."""
    runtime = runtime_of(models.batch_norm_dropout)
    spec = runtime.manifest.input
    images = np.random.default_rng(3).integers(0, 256, (4, spec.height, spec.width, spec.channels), np.uint8)
    targets = np.eye(len(runtime.manifest.classes), dtype=np.float32)[:questions]
    rows = []

    async def run():
        with Workers(2) as workers:
            batcher = Batcher(runtime, workers, Telemetry(), max_batch_size=4, window_s=3600)

            async def ask(index):
                rows.append((index, await batcher.evidence(images[index], targets)))

            with batcher.approach():
                async with anyio.create_task_group() as group:
                    for index in range(4):
                        group.start_soon(ask, index)

    anyio.run(run)
    for index, row in rows:
        alone = runtime.evidence(images[index][None], targets[None])
        assert row.probabilities == pytest.approx(alone.probabilities[0], abs=1e-5)
        assert row.gradients == pytest.approx(alone.gradients[0], abs=1e-5)
