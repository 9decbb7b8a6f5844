"""Who is let in: a bounded number of requests, each for a bounded time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from app.errors import DeadlineExceededError, QueueFullError
from app.telemetry.metrics import Metrics

# A body of which nothing came for so long gives its place to a request that wants one.
STALLED_S = 1.0


@dataclass(slots=True, eq=False)
class Place:
    """One request's stay. `arriving` while its body is being read; `moved` when a piece of it last came."""

    scope: anyio.CancelScope
    moved: float
    arriving: bool = True
    displaced: bool = False

    def progress(self) -> None:
        """A piece of the body has come."""
        self.moved = time.monotonic()

    def complete(self) -> None:
        """The body is there; from now on the place is kept until the answer or the deadline."""
        self.arriving = False


class Admission:
    """At most `limit` requests inside, each no longer than `timeout_s` from its first byte to its answer.

    Where all places are taken, a body that has stalled loses its place to the newcomer, so that clients who send
    nothing can't keep out those who do.
    """

    def __init__(self, limit: int, timeout_s: float, metrics: Metrics) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._places: set[Place] = set()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place for the time of the block.

        Raises:
            QueueFullError: all are taken; or this one was, by another request, because nothing came here.
            DeadlineExceededError: the time is over.
        """
        if len(self._places) >= self._limit and not self._displace():
            self._metrics.rejections.labels("queue_full").inc()
            raise QueueFullError(f"{self._limit} requests are being answered already; try again later")
        with anyio.move_on_after(self._timeout_s) as scope:
            place = Place(scope, time.monotonic())
            self._places.add(place)
            self._count()
            try:
                yield place
            finally:
                self._places.discard(place)
                self._count()
        if scope.cancelled_caught and place.displaced:
            self._metrics.rejections.labels("stalled").inc()
            raise QueueFullError("the body stalled while other requests waited for a place; send it again")
        if scope.cancelled_caught:
            self._metrics.rejections.labels("deadline").inc()
            raise DeadlineExceededError(f"no result within {self._timeout_s:g} s")

    def _displace(self) -> bool:
        """Take the place of the body that has stalled for longest; False if none has."""
        arriving = [place for place in self._places if place.arriving]
        longest = min(arriving, key=lambda place: place.moved, default=None)
        if longest is None or time.monotonic() - longest.moved < STALLED_S:
            return False
        longest.displaced = True
        self._places.discard(longest)
        longest.scope.cancel()
        return True

    def _count(self) -> None:
        self._metrics.in_flight.set(len(self._places))
