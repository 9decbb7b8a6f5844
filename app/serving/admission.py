"""Admission control: limits the number of concurrent requests and the time that each may take."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from app.errors import DeadlineExceededError, ModelNotLoadedError, QueueFullError
from app.telemetry.metrics import Metrics

# A request whose body has stalled for this long can lose its slot to a new request.
STALLED_S = 1.0


@dataclass(slots=True, eq=False)
class Slot:
    """The slot of one admitted request.

    `receiving` is true while the body is read. `progressed` is when its last chunk arrived, in seconds of `clock`.
    """

    scope: anyio.CancelScope
    clock: Callable[[], float]
    progressed: float
    receiving: bool = True
    evicted: bool = False

    def progress(self) -> None:
        """Record that a chunk of the body has arrived."""
        self.progressed = self.clock()

    def complete(self) -> None:
        """Record that the body is complete. The request now keeps its slot until its response or its deadline."""
        self.receiving = False


class Admission:
    """Admits at most `limit` concurrent requests, each for at most `timeout_s` seconds from first byte to response.

    When all slots are taken, a new request evicts one whose body has stalled, so that clients that send nothing can't
    keep others out.
    """

    def __init__(
        self, limit: int, timeout_s: float, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._clock = clock
        self._slots: set[Slot] = set()
        self._closed = False

    @property
    def in_flight(self) -> int:
        """The number of requests that hold a slot."""
        return len(self._slots)

    def close(self) -> None:
        """Admit no further request; those that hold a slot go on."""
        self._closed = True

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """Hold a slot during the block.

        Raises:
            ModelNotLoadedError: if it is closed.
            QueueFullError: if all slots are taken, or if the request was evicted because its body stalled.
            DeadlineExceededError: if the block takes longer than `timeout_s`.
        """
        if self._closed:
            raise ModelNotLoadedError("the service is stopping; try again later")
        if len(self._slots) >= self._limit and not self._evict_stalled():
            self._metrics.rejections.labels("queue_full").inc()
            raise QueueFullError(f"the service is handling {self._limit} requests, which is its limit; try again later")
        with anyio.move_on_after(self._timeout_s) as scope:
            slot = Slot(scope, self._clock, self._clock())
            self._slots.add(slot)
            self._count()
            try:
                yield slot
            finally:
                self._slots.discard(slot)
                self._count()
        if scope.cancelled_caught and slot.evicted:
            self._metrics.rejections.labels("stalled").inc()
            raise QueueFullError("the request body stalled and a new request took the slot; send the request again")
        if scope.cancelled_caught:
            self._metrics.rejections.labels("deadline").inc()
            raise DeadlineExceededError(f"the request took longer than its limit of {self._timeout_s:g} s")

    def _evict_stalled(self) -> bool:
        """Evict the request whose body has stalled the longest; return False if none has stalled."""
        receiving = [slot for slot in self._slots if slot.receiving]
        longest = min(receiving, key=lambda slot: slot.progressed, default=None)
        if longest is None or self._clock() - longest.progressed < STALLED_S:
            return False
        longest.evicted = True
        self._slots.discard(longest)
        longest.scope.cancel()
        return True

    def _count(self) -> None:
        self._metrics.in_flight.set(len(self._slots))
