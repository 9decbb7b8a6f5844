"""The threads that work is done in: some for images and answers, one for the model."""

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
    """Two pools, shared by all models: as many threads for images and answers as there are cores, one for inference.

    A model call uses every core by itself, so a second one at its side would only slow both. The pools bound how many
    whole images are in memory at once, and the event loop never waits for either.

    While they are open, NumPy's linear algebra has no threads of its own in this process: they would wait for more work
    at the cost of whole cores, beside the model (docs/performance.md).
    """

    def __init__(self, cores: int) -> None:
        self._general = ThreadPoolExecutor(cores, thread_name_prefix="worker")
        self._inference = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._algebra = ExitStack()

    async def run(self, call: Callable[[], T]) -> T:
        """The result of `call`; if its caller is cancelled before it begins, it never does."""
        return await _run(self._general, call)

    async def infer(self, call: Callable[[], T]) -> T:
        """The result of `call`, which runs the model."""
        return await _run(self._inference, call)

    def __enter__(self) -> Self:
        self._algebra.enter_context(threadpool_limits(1, user_api="blas"))
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what has not begun, and let the threads end."""
        for pool in (self._general, self._inference):
            pool.shutdown(wait=False, cancel_futures=True)
        self._algebra.close()


async def _run(pool: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    context = contextvars.copy_context()  # log records and spans of the thread belong to the request
    return await asyncio.wrap_future(pool.submit(context.run, call))
