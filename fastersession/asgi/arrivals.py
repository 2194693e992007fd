"""What a client sends to an application that is not to learn that it has left (``session.detach()``).

Rules of residence: the messages that come in, of one request. What goes out is ``connection``'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from .messages import Message

DISCONNECT: Message = {"type": "http.disconnect"}
TASKS: set[asyncio.Task[Any]] = set()  # which nobody else may hold


class Arrivals:
    """One request's messages. They pass as they are until ``hides`` is set.

    :param left: is called when the client has left.
    """

    def __init__(self, receive: Any, left: Callable[[], None]) -> None:
        self.hides = False  # that the client has left, until the answer is complete
        self.is_left = False
        self._receive = receive
        self._left = left
        self._is_watched = False
        self._is_answered = asyncio.Event()
        self._direct = 0  # calls of the application that wait for the server
        self._waiting: deque[Message] = deque()
        self._has_come = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        """Receive a message; that the client has left, only after the answer is complete."""
        if self._watcher is not None or (self._is_watched and self.is_left):
            return await self._next()
        self._direct += 1
        try:
            message: Message = await self._receive()
        finally:
            self._direct -= 1
            self._watch()
        if message["type"] == "http.disconnect" and self.hides:
            self.leave()
            await self._is_answered.wait()
        return message

    async def _next(self) -> Message:
        while not self._waiting:
            if self._is_answered.is_set():
                return DISCONNECT
            self._has_come.clear()
            await self._has_come.wait()
        return self._waiting.popleft()

    def watch(self) -> None:
        """See from here on when the client leaves, whether the application waits for messages or not."""
        self._is_watched = True
        self._watch()

    def _watch(self) -> None:
        """Wait for messages, unless a call of the application does: no server takes two who wait for them."""
        if self._is_watched and self._watcher is None and not self._direct and not self.is_left:
            self._watcher = begun(self._watching())

    async def _watching(self) -> None:
        while not self.is_left:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.leave()
            else:
                self._waiting.append(message)
                self._has_come.set()

    def leave(self) -> None:
        """Note that the client has left."""
        self.is_left = True
        self._left()

    def answered(self) -> None:
        """Note that the answer is complete: what comes from here on is the end."""
        self._is_answered.set()
        self._has_come.set()

    def close(self) -> None:
        """Wait for nothing any more."""
        self._is_watched = False
        if self._watcher is not None:
            self._watcher.cancel()


def begun(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Begin work in a task of its own."""
    task = asyncio.get_running_loop().create_task(work)
    TASKS.add(task)
    task.add_done_callback(TASKS.discard)
    return task
