"""Who is admitted, and for how long."""

from contextlib import AsyncExitStack

import anyio
import pytest

from app.errors import DeadlineExceededError, QueueFullError
from app.serving.admission import STALLED_S, Admission
from app.telemetry.metrics import Metrics


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def admission(limit=4, timeout_s=10.0, clock=None):
    return Admission(limit, timeout_s, Metrics(), clock=clock or Clock())


def test_as_many_are_admitted_as_the_limit_allows():
    """One more is refused without waiting; one that leaves makes room."""

    async def crowd():
        full = admission()
        async with AsyncExitStack() as inside:
            for _ in range(4):
                (await inside.enter_async_context(full.slot())).complete()
            with pytest.raises(QueueFullError, match="4 requests"):
                async with full.slot():
                    pass
        async with full.slot():
            return True

    assert anyio.run(crowd)


def test_a_request_ends_at_the_deadline():
    """Whatever it waits for."""

    async def slow():
        async with admission(timeout_s=0.05).slot():
            await anyio.sleep_forever()

    with pytest.raises(DeadlineExceededError, match=r"0\.05 s"):
        anyio.run(slow)


def test_a_body_that_stalls_loses_its_slot_to_a_newcomer():
    """The stalled request is told why; the newcomer is served."""

    async def crowd():
        clock, outcomes = Clock(), []
        full, holding, told = admission(limit=1, clock=clock), anyio.Event(), anyio.Event()

        async def stalled():
            try:
                async with full.slot():
                    holding.set()
                    await anyio.sleep_forever()
            except QueueFullError as error:
                outcomes.append(str(error))
                told.set()

        async with anyio.create_task_group() as group:
            group.start_soon(stalled)
            await holding.wait()
            clock.now += STALLED_S
            async with full.slot():
                await told.wait()
        return outcomes

    (said,) = anyio.run(crowd)
    assert "stalled" in said


@pytest.mark.parametrize("what", ["complete", "progress"])
def test_a_request_that_is_worked_on_or_goes_on_sending_keeps_its_slot(what):
    """The newcomer is refused."""

    async def crowd():
        clock = Clock()
        full = admission(limit=1, clock=clock)
        async with full.slot() as slot:
            clock.now += STALLED_S
            getattr(slot, what)()
            async with full.slot():
                pass

    with pytest.raises(QueueFullError, match="try again"):
        anyio.run(crowd)
