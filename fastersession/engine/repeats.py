"""What is done again and again: with one timer for all of it.

Rules of residence: when something is called. What it does is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol


class Repeated(Protocol):
    """What ``Repeats`` calls again and again."""

    def pause(self) -> float:
        """Return the seconds until the next call."""

    def again(self) -> Coroutine[Any, Any, Any]:
        """Return the work."""


@dataclass(eq=False, slots=True)
class Repeat:
    """Two functions that are repeated."""

    pause: Callable[[], float]
    again: Callable[[], Coroutine[Any, Any, Any]]


class Repeats:
    """Calls work again and again, in tasks of the running loop, with one timer for all: most are over before.

    :param tasks: where the tasks stand while they run.
    """

    __slots__ = ("_all", "_due", "_loop", "_tasks", "_timer")

    def __init__(self, tasks: set[asyncio.Task[Any]]) -> None:
        self._tasks = tasks
        self._all: dict[Repeated, float] = {}  # and the loop's time when it is due
        self._due = 0.0  # when the timer is: uvloop returns one without when() for a time that has come
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, repeated: Repeated, seconds: float) -> None:
        """Call this after so many seconds, and then after each of its pauses, until it is removed."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._timer = loop, None
            self._all.clear()  # of a loop that is gone
        self._all[repeated] = due = loop.time() + seconds
        if self._timer is None or due < self._due:
            self._set(loop, due)

    def once(self, repeated: Repeated, seconds: float) -> None:
        """Do what ``add`` does, unless it is called already in this event loop."""
        if repeated not in self._all or self._loop is not asyncio.get_running_loop():
            self.add(repeated, seconds)

    def remove(self, repeated: Repeated) -> None:
        """Call this no more; nothing where it is not called."""
        self._all.pop(repeated, None)

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
        for repeated in [repeated for repeated, due in self._all.items() if due <= time]:
            task = loop.create_task(repeated.again())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._all[repeated] = loop.time() + repeated.pause()
        if self._all:
            self._set(loop, min(self._all.values()))
