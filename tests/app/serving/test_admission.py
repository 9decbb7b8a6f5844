"""Who is let in, and for how long."""

from contextlib import AsyncExitStack

import anyio
import pytest

from app.errors import DeadlineExceededError, QueueFullError
from app.serving.admission import STALLED_S, Admission
from app.telemetry.metrics import Metrics


def admission(limit=4, timeout_s=10.0):
    return Admission(limit, timeout_s, Metrics())


def test_as_many_are_admitted_as_the_limit_allows():
    """One more is refused at once; one that leaves makes room."""

    async def crowd():
        full = admission()
        async with AsyncExitStack() as inside:
            for _ in range(4):
                (await inside.enter_async_context(full.place())).complete()
            with pytest.raises(QueueFullError, match="4 requests"):
                async with full.place():
                    pass
        async with full.place():
            return True

    assert anyio.run(crowd)


def test_a_stay_ends_at_the_deadline():
    """Whatever is being waited for."""

    async def slow():
        async with admission(timeout_s=0.05).place():
            await anyio.sleep_forever()

    with pytest.raises(DeadlineExceededError, match=r"0\.05 s"):
        anyio.run(slow)


def test_a_body_that_stalls_gives_its_place_to_a_newcomer():
    """And learns that it did."""

    async def crowd():
        full, outcomes = admission(limit=1), []

        async def stalled():
            try:
                async with full.place():
                    await anyio.sleep_forever()
            except QueueFullError as error:
                outcomes.append(str(error))

        async with anyio.create_task_group() as group:
            group.start_soon(stalled)
            await anyio.sleep(STALLED_S + 0.05)
            async with full.place():
                await anyio.sleep(0.01)
                return outcomes

    (said,) = anyio.run(crowd)
    assert "stalled" in said


@pytest.mark.parametrize("what", ["complete", "progress"])
def test_who_is_being_answered_or_goes_on_sending_keeps_the_place(what):
    """The newcomer is refused."""

    async def crowd():
        full = admission(limit=1)
        async with full.place() as place:
            await anyio.sleep(STALLED_S + 0.05)
            getattr(place, what)()
            async with full.place():
                pass

    with pytest.raises(QueueFullError, match="try again"):
        anyio.run(crowd)
