"""Concurrent requests and the model calls that they become."""

import threading
import time

import anyio
import numpy as np
import pytest

from app.serving.batching import Batcher
from app.serving.workers import Workers
from app.telemetry.stages import Telemetry
from tests import models
from tests.doubles import BrightnessRuntime
from tests.pictures import constant


class Recorder:
    """Records every call; each waits for `gate`, and one with an image of nothing but 13 fails."""

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


def conversation(script, *, max_batch_size=8, window_s=0.0, telemetry=None):
    """Run `script(batcher, runtime, group)`, and return the runtime."""

    async def run():
        runtime = Recorder()
        with Workers(2) as workers:
            batcher = Batcher(
                runtime, workers, telemetry or Telemetry(), max_batch_size=max_batch_size, window_s=window_s
            )
            async with anyio.create_task_group() as group:
                await script(batcher, runtime, group)
        return runtime

    return anyio.run(run)


async def busy(batcher, runtime, group):
    """Occupy the model with one image until the gate opens."""
    group.start_soon(batcher.predict, BRIGHT)
    await anyio.to_thread.run_sync(runtime.entered.wait)


def test_requests_that_arrive_while_the_model_computes_share_the_next_call():
    """The first goes alone and without waiting; the five that arrive meanwhile go together."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        for _ in range(5):
            group.start_soon(batcher.predict, DARK)
        await anyio.wait_all_tasks_blocked()
        runtime.gate.set()

    assert conversation(script).calls == [("predict", 1), ("predict", 5)]


def test_a_call_takes_no_more_images_than_the_batch_size():
    """The images that do not fit go with the next call."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        for _ in range(5):
            group.start_soon(batcher.predict, DARK)
        await anyio.wait_all_tasks_blocked()
        runtime.gate.set()

    assert conversation(script, max_batch_size=3).calls == [("predict", 1), ("predict", 3), ("predict", 2)]


def test_each_request_gets_its_own_answer():
    """A call may mix bright and dark images, with and without a question."""

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
            await anyio.wait_all_tasks_blocked()
            runtime.gate.set()
        assert [int(answers[key].probabilities.argmax()) for key in range(4)] == [2, 0, 0, 2]
        assert answers[1].gradients.shape == (1, 8, 8, 1)
        assert answers[1].gradients.max() == -1
        assert answers[3].gradients.min() == 1

    assert conversation(script).calls == [("predict", 1), ("evidence of 1", 4)]


def test_images_with_different_numbers_of_questions_do_not_share_a_call():
    """Those that can't share a call keep their order of arrival."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        for targets in (ONE, TWO, ONE, TWO):
            group.start_soon(batcher.evidence, DARK, targets)
            await anyio.wait_all_tasks_blocked()
        runtime.gate.set()

    assert conversation(script).calls == [("predict", 1), ("evidence of 1", 2), ("evidence of 2", 2)]


async def cancelled(batcher):
    """Ask for a prediction, and hang up while it waits."""
    async with anyio.create_task_group() as asking:
        asking.start_soon(batcher.predict, DARK)
        await anyio.wait_all_tasks_blocked()
        asking.cancel_scope.cancel()


def test_a_request_that_is_cancelled_while_it_waits_never_reaches_the_model():
    """Only the first request and the one after the cancelled one are computed."""

    async def script(batcher, runtime, group):
        await busy(batcher, runtime, group)
        await cancelled(batcher)
        group.start_soon(batcher.predict, DARK)
        await anyio.wait_all_tasks_blocked()
        runtime.gate.set()

    assert conversation(script).calls == [("predict", 1), ("predict", 1)]


def test_one_bad_image_fails_alone():
    """The images of the failed batch are tried again one by one."""

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
            await anyio.wait_all_tasks_blocked()
            runtime.gate.set()
        assert outcomes == [2, "thirteen", 0]

    assert conversation(script).calls == [("predict", 1), ("predict", 3), *[("predict", 1)] * 3]


def test_a_lone_request_does_not_wait_for_the_window():
    """No other request is on its way, so a window of an hour costs nothing."""

    async def script(batcher, runtime, _group):
        runtime.gate.set()
        with anyio.fail_after(5):
            with batcher.expect():
                pass
            await batcher.predict(DARK)

    conversation(script, window_s=3600)


def test_a_batch_waits_for_images_that_are_on_their_way():
    """The second image is still being decoded when the first is ready, so they go together."""

    async def script(batcher, runtime, group):
        runtime.gate.set()
        with batcher.expect():
            group.start_soon(batcher.predict, DARK)
            await anyio.wait_all_tasks_blocked()
            assert not runtime.calls
        await batcher.predict(BRIGHT)

    assert conversation(script, window_s=3600).calls == [("predict", 2)]


def test_a_batch_waits_no_longer_than_the_window():
    """An image that takes too long to decode is left behind."""

    async def script(batcher, runtime, _group):
        runtime.gate.set()
        with batcher.expect(), anyio.fail_after(5):
            await batcher.predict(DARK)

    assert conversation(script, window_s=0.01).calls == [("predict", 1)]


def test_times_and_sizes_are_measured():
    """Metrics tell the time in the queue and with the model, the sizes of the batches, and what was dropped."""
    telemetry, moments = Telemetry(), {}

    async def script(batcher, runtime, group):
        moments["start"] = time.perf_counter()
        await busy(batcher, runtime, group)
        moments["model entered"] = time.perf_counter()
        await cancelled(batcher)
        for _ in range(2):
            group.start_soon(batcher.predict, DARK)
        await anyio.wait_all_tasks_blocked()
        moments["two wait"] = time.perf_counter()
        moments["gate opens"] = time.perf_counter()
        runtime.gate.set()

    conversation(script, telemetry=telemetry)
    taken = time.perf_counter() - moments["start"]
    text = telemetry.metrics.exposition().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values["lightbox_batch_size_sum"]) == 3
    assert float(values["lightbox_batch_size_count"]) == 2
    assert float(values["lightbox_dropped_total"]) == 1
    assert float(values["lightbox_queue_depth"]) == 0
    assert float(values['lightbox_stage_seconds_count{stage="queue"}']) == 3
    assert float(values['lightbox_stage_seconds_count{stage="inference"}']) == 3
    held = moments["gate opens"] - moments["model entered"]
    waited = moments["gate opens"] - moments["two wait"]
    assert held < float(values['lightbox_stage_seconds_sum{stage="inference"}']) < 3 * taken
    assert 2 * waited < float(values['lightbox_stage_seconds_sum{stage="queue"}']) < 3 * taken


@pytest.mark.parametrize("questions", [1, 2])
def test_an_image_gets_the_same_answer_in_a_batch_as_alone(runtime_of, questions):
    """An exported model answers each image regardless of its neighbours."""
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

            with batcher.expect():
                async with anyio.create_task_group() as group:
                    for index in range(4):
                        group.start_soon(ask, index)

    anyio.run(run)
    for index, row in rows:
        alone = runtime.evidence(images[index][None], targets[None])
        assert row.probabilities == pytest.approx(alone.probabilities[0], abs=1e-5)
        assert row.gradients == pytest.approx(alone.gradients[0], abs=1e-5)


def test_each_request_gets_the_box_and_the_regions_of_its_own_image(runtime_of):
    """In one call of a real model: a bright rectangle on the left, one on the right, and none."""
    films = np.zeros((3, 32, 32, 3), np.uint8)
    films[0, 8:24, :8, 0] = films[1, :16, 16:, 0] = 255
    found = [None] * 4

    async def ask():
        with Workers(2) as workers:
            batcher = Batcher(runtime_of(models.red_organ), workers, Telemetry(), max_batch_size=8, window_s=0.0)

            async def one(number):
                found[number] = await batcher.predict(films[number])

            async def explained():
                found[3] = await batcher.evidence(films[0], np.zeros((1, 2), np.float32))

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(one, number)
                group.start_soon(explained)

    anyio.run(ask)
    boxes = [answer.box.tolist() for answer in found]
    assert boxes == [[0, 0.25, 0.25, 0.75], [0.5, 0, 1, 0.5], [0, 0, 1, 1], [0, 0.25, 0.25, 0.75]]
    assert [answer.regions.min() for answer in found] == [1, 1, 0, 1]
