"""Admission control: a bounded number of concurrent requests, each for a bounded time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from app.errors import DeadlineExceededError, QueueFullError
from app.telemetry.metrics import Metrics

# A request whose body has stalled for this long gives up its slot to a request that waits for one.
STALLED_S = 1.0


@dataclass(slots=True, eq=False)
class Slot:
    """What one admitted request holds: `arriving` while its body is read, of which a piece last came at `moved`."""

    scope: anyio.CancelScope
    clock: Callable[[], float]
    moved: float
    arriving: bool = True
    displaced: bool = False

    def progress(self) -> None:
        """A piece of the body has come."""
        self.moved = self.clock()

    def complete(self) -> None:
        """The body is complete; from now on the request keeps its slot until the answer or the deadline."""
        self.arriving = False


class Admission:
    """At most `limit` concurrent requests, each for at most `timeout_s` seconds from its first byte to its answer.

    When all slots are taken, a request whose body has stalled loses its slot to the newcomer, so that clients that send
    nothing can't keep out those that do.
    """

    def __init__(
        self, limit: int, timeout_s: float, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._clock = clock
        self._slots: set[Slot] = set()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Hold a slot for the duration of the block.

        Raises:
            QueueFullError: all slots are taken; or this one was given to another request because the body stalled.
            DeadlineExceededError: the block took longer than `timeout_s`.
        """
        if len(self._slots) >= self._limit and not self._displace():
            self._metrics.rejections.labels("queue_full").inc()
            raise QueueFullError(f"{self._limit} requests are being answered already; try again later")
        with anyio.move_on_after(self._timeout_s) as scope:
            slot = Slot(scope, self._clock, self._clock())
            self._slots.add(slot)
            self._count()
            try:
                yield slot
            finally:
                self._slots.discard(slot)
                self._count()
        if scope.cancelled_caught and slot.displaced:
            self._metrics.rejections.labels("stalled").inc()
            raise QueueFullError("the body stalled while other requests waited for a slot; send it again")
        if scope.cancelled_caught:
            self._metrics.rejections.labels("deadline").inc()
            raise DeadlineExceededError(f"no result within {self._timeout_s:g} s")

    def _displace(self) -> bool:
        """Free the slot of the request whose body has stalled for longest; False if none has."""
        arriving = [slot for slot in self._slots if slot.arriving]
        longest = min(arriving, key=lambda slot: slot.moved, default=None)
        if longest is None or self._clock() - longest.moved < STALLED_S:
            return False
        longest.displaced = True
        self._slots.discard(longest)
        longest.scope.cancel()
        return True

    def _count(self) -> None:
        self._metrics.in_flight.set(len(self._slots))
