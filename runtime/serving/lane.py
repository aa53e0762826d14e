"""A model's own threads, fed by a bounded queue, so that the event loop never waits for a model."""

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from runtime.serving.errors import BusyError

Result = TypeVar("Result")
Job = Callable[[], None]


class Lane:
    """Runs jobs in the order in which they came, `threads` at a time."""

    def __init__(self, name: str, *, threads: int = 1, queue_limit: int = 256) -> None:
        self._name, self._limit = name, queue_limit
        # Requests refused at the limit cost nothing more; SimpleQueue is the cheap one of its kind.
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"lane-{name}-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def call(self, function: Callable[[], Result]) -> Result:
        """Return what the function returns, from the event loop; raise BusyError if too many wait.

        A caller that is cancelled does not stop its job.
        """
        if self._jobs.qsize() >= self._limit:
            raise BusyError(f"{self._name}: {self._limit} requests wait already: try again later")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def job() -> None:
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                loop.call_soon_threadsafe(_fail, future, error)
            else:
                loop.call_soon_threadsafe(_settle, future, result)

        self._jobs.put(job)
        return await future

    def wait_for(self, function: Callable[[], Result]) -> Result:
        """Return what the function returns, to a thread of its own; it waits for its turn."""
        future: concurrent.futures.Future[Result] = concurrent.futures.Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
                future.set_exception(error)

        self._jobs.put(job)
        return future.result()

    def close(self, timeout_s: float = 5.0) -> None:
        """End the threads once what waits is done, or leave them behind after `timeout_s`."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout_s)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
