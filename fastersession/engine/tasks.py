"""Running coroutines to their end: at once where nothing suspends, else in tasks that no cancellation reaches.

Rules of residence: asyncio and coroutines, nothing about sessions.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

__all__ = ["Repeat", "Repeats", "TimeLimit", "on_asyncio", "run_now", "shielded"]

T = TypeVar("T")
TICKS = 20  # in which a time limit is counted


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


def on_asyncio() -> bool:
    """Tell if the code that runs is a task of asyncio, and not of trio, say."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False


async def shielded(coroutine: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> T:
    """Run a coroutine in a task of its own to its end, however often the caller is cancelled; then be cancelled.

    A plain ``asyncio.shield`` returns at the first cancellation, and the work is lost when the loop closes. The task
    stands in ``tasks`` while it runs. The first cancellation wakes the caller, no later one does.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(coroutine)
    tasks.add(task)
    waiter: asyncio.Future[None] = loop.create_future()  # asyncio.wait does the same, and is six times as dear
    task.add_done_callback(partial(_end, tasks, waiter))
    cancelled: asyncio.CancelledError | None = None
    try:
        try:
            await waiter
        except asyncio.CancelledError as error:
            cancelled = error
        if cancelled is None:
            return task.result()
        cancelled = await _outlasted(task) or cancelled
        if not task.cancelled():
            task.exception()  # marks it as retrieved: who cancelled does not wait for it
        raise cancelled
    finally:
        del task, cancelled  # an exception's traceback holds this frame: together they would be a cycle


def _end(tasks: set[asyncio.Task[Any]], waiter: asyncio.Future[None], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not waiter.done():
        waiter.set_result(None)


async def _outlasted(task: asyncio.Task[Any]) -> asyncio.CancelledError | None:
    """Wait for the end of a task; return the last cancellation of the caller that came meanwhile.

    A cancelled scope of anyio cancels again in every turn of the loop, until it is left or shielded from. A shield of
    anyio's holds back its own scopes only, and a ``_Deaf`` the rest: both are needed.
    """
    if task.done():
        return None
    waiter = _Deaf(loop=task.get_loop())
    task.add_done_callback(waiter.end)
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)  # where nobody has loaded it, there are no scopes
    with nullcontext() if scope is None else scope(shield=True):
        await waiter
    return waiter.cancellation


class _Deaf(asyncio.Future[None]):
    """A future whose awaiting task a cancellation does not wake. Who awaits it must raise ``cancellation`` then."""

    cancellation: asyncio.CancelledError | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Note that the task which awaits this was cancelled."""
        self.cancellation = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        return True

    def end(self, task: asyncio.Future[Any]) -> None:
        """Wake the task that awaits this: a callback of the work's end."""
        self.set_result(None)


class TimeLimit:
    """Bounds many bodies at once, with one timer that runs only while there are any: ``with limit.bound(): ...``.

    ``asyncio.timeout``, which makes a timer for each, costs ten times as much. A body is ended after ``seconds``, up
    to a twentieth earlier, and ``TimeoutError`` is raised; an event loop that stood still is no reason to end one.
    """

    __slots__ = ("_bodies", "_loop", "_tick", "_ticks")

    def __init__(self, seconds: float) -> None:
        self._tick = seconds / TICKS
        self._ticks = 0
        self._bodies: dict[_Bounded, None] = {}  # the oldest first
        self._loop: asyncio.AbstractEventLoop | None = None  # that has the timer, while it runs

    def bound(self) -> _Bounded:
        """Return a context manager for one body, to be entered at once."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only a task awaits a store
        loop = task.get_loop()
        if self._loop is not loop:
            self._bodies.clear()  # of a loop that is gone
            self._loop = loop
            loop.call_later(self._tick, self._count, loop)
        bounded = _Bounded(task, self._ticks + TICKS, self._bodies)
        self._bodies[bounded] = None
        return bounded

    def _count(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        self._ticks += 1
        for bounded in [bounded for bounded in self._bodies if bounded.until <= self._ticks]:
            bounded.expire()
        if self._bodies:
            loop.call_later(self._tick, self._count, loop)
        else:
            self._loop = None


class _Bounded:
    """One body under a time limit. The rules of cancelling are those of ``asyncio.timeout``."""

    __slots__ = ("_bodies", "_cancelling", "_expired", "_task", "until")

    def __init__(self, task: asyncio.Task[Any], until: int, bodies: dict[_Bounded, None]) -> None:
        self.until = until
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = False
        self._bodies = bodies

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if not self._expired:
            self._bodies.pop(self, None)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """End the body."""
        del self._bodies[self]
        self._expired = True
        self._task.cancel()


class Repeats:
    """Calls functions again and again, in tasks of the running loop, with one timer for all: most are over before.

    :param tasks: where the tasks stand while they run.
    """

    __slots__ = ("_all", "_due", "_loop", "_tasks", "_timer")

    def __init__(self, tasks: set[asyncio.Task[Any]]) -> None:
        self._tasks = tasks
        self._all: dict[Repeat, float] = {}  # and the loop's time when it is due
        self._due = 0.0  # when the timer is: uvloop returns one without when() for a time that has come
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, period: Callable[[], float], work: Callable[[], Coroutine[Any, Any, Any]]) -> Repeat:
        """Call ``work`` every ``period()`` seconds, the first time after one period, until it is cancelled."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._timer = loop, None
            self._all.clear()  # of a loop that is gone
        repeat = Repeat(self._all, period, work)
        self._all[repeat] = due = loop.time() + period()
        if self._timer is None or due < self._due:
            self._set(loop, due)
        return repeat

    def _set(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        self._timer = loop.call_at(due, self._fire, loop, due)

    def _fire(self, loop: asyncio.AbstractEventLoop, time: float) -> None:
        if self._loop is not loop:
            return
        self._timer = None
        time = max(time, loop.time())  # all that a busy loop is late with: one a turn would never catch up
        for repeat in [repeat for repeat, due in self._all.items() if due <= time]:
            task = loop.create_task(repeat.work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._all[repeat] = loop.time() + repeat.period()
        if self._all:
            self._set(loop, min(self._all.values()))


class Repeat:
    """One of the functions."""

    __slots__ = ("_all", "period", "work")

    def __init__(
        self, all_: dict[Repeat, float], period: Callable[[], float], work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> None:
        self._all, self.period, self.work = all_, period, work

    def cancel(self) -> None:
        """Call it no more."""
        self._all.pop(self, None)
