"""Running coroutines to their end: at once where nothing suspends, else in tasks that no cancellation reaches.

Rules of residence: asyncio and coroutines, nothing about sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["Repeat", "run_now", "shielded"]

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that does not suspend, and return its result.

    :raises RuntimeError: it did suspend, so its store is wrong to say ``live``.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a store that says it is live suspended")


async def shielded(coroutine: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> T:
    """Run a coroutine in a task of its own to its end, however often the caller is cancelled; then be cancelled.

    A plain ``asyncio.shield`` returns at the first cancellation, and the work is lost when the loop closes. The task
    stands in ``tasks`` while it runs.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is None:
            return task.result()
        if not task.cancelled():
            task.exception()  # marks it as retrieved: who cancelled does not wait for it
        raise cancelled
    finally:
        del task, cancelled  # an exception's traceback holds this frame: together they would be a cycle


class Repeat:
    """Calls ``work`` every ``period()`` seconds, in tasks of the running loop, until ``cancel()``."""

    __slots__ = ("_period", "_tasks", "_timer", "_work")

    def __init__(
        self,
        period: Callable[[], float],
        work: Callable[[], Coroutine[Any, Any, Any]],
        tasks: set[asyncio.Task[Any]],
    ) -> None:
        self._period, self._work, self._tasks = period, work, tasks
        self._timer = asyncio.get_running_loop().call_later(period(), self._fire)

    def cancel(self) -> None:
        """Call no more."""
        self._timer.cancel()

    def _fire(self) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._timer = loop.call_later(self._period(), self._fire)
