"""What a verb of the session returns.

Rules of residence: awaitables; what they await is the verb's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class Awaited(Coroutine[Any, Any, T]):
    """Work that begins when this is awaited, or made a task of. Left alone, it gives no warning."""

    __slots__ = ("_running", "_work")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._running: Coroutine[Any, Any, T] | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work().__await__()

    def send(self, value: Any) -> Any:
        if self._running is None:
            self._running = self._work()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        if self._running is None:
            self._running = self._work()
        try:
            return self._running.throw(*error)
        finally:
            del error  # the traceback holds this frame: together they would be a cycle

    def close(self) -> None:
        if self._running is not None:
            self._running.close()


class Pending(Awaited[None]):
    """What a verb returns: await it, or make a task of it, to have the work done now.

    Left alone, the next save point does the work.
    """

    __slots__ = ()


class Ended(Awaited[str]):
    """What ``session.ended`` is: await it, or make a task of it, to get the reason of the session's end."""

    __slots__ = ()
