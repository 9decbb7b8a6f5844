"""The worker threads: one per core for images and responses, and one for inference."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self, TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")


class Workers:
    """Two thread pools shared by all models: one thread per core for images and responses, and one for inference.

    A model call uses all cores, so a second concurrent call would slow both down. The pools limit the number of decoded
    images in memory, and keep the event loop free.

    While the pools are open, NumPy's linear algebra has no threads of its own in this process: between calls they would
    busy-wait, and take whole cores from the model (docs/performance.md).
    """

    def __init__(self, cores: int) -> None:
        self._general = ThreadPoolExecutor(cores, thread_name_prefix="worker")
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._algebra = ExitStack()

    async def run(self, call: Callable[[], T]) -> T:
        """Return the result of `call`. If the caller is cancelled before `call` starts, it never runs."""
        return await _run(self._general, call)

    async def infer(self, call: Callable[[], T]) -> T:
        """Return the result of `call`, which runs the model."""
        return await _run(self._inference, call)

    def __enter__(self) -> Self:
        self._algebra.enter_context(threadpool_limits(1, user_api="blas"))
        return self

    def __exit__(self, *_: object) -> None:
        """Drop calls that have not started, and stop the threads."""
        for pool in (self._general, self._inference):
            pool.shutdown(wait=False, cancel_futures=True)
        self._algebra.close()


async def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    context = contextvars.copy_context()  # for the request id of log records, and the parent of spans
    return await asyncio.wrap_future(pool.submit(context.run, call))
