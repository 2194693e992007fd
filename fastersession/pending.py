"""What a verb of the session returns.

Rules of residence: one awaitable; what it awaits is the verb's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Pending(Coroutine[Any, Any, None]):
    """What a verb returns: await it, or make a task of it, to have the work done now.

    Left alone, the next save point does the work, and no warning is given.
    """

    __slots__ = ("_running", "_work")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._running: Coroutine[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._work().__await__()

    def send(self, value: Any) -> Any:
        if self._running is None:
            self._running = self._work()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        if self._running is None:
            self._running = self._work()
        return self._running.throw(*error)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()
