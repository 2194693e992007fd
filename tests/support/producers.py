"""Producers of runs that say what a test tells them, and what the tests of runs share.

Rules of residence: async iterators, and how a run is read. No store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

END = object()


class Producer:
    """An async iterator of frames. ``closed`` is set when it was closed, or has ended."""

    def __init__(self, *frames: Any, ends: bool = False) -> None:
        self.entered = 0
        self.closed = asyncio.Event()
        self.waits = asyncio.Event()  # it has said all, and waits for more
        self._said: asyncio.Queue[Any] = asyncio.Queue()
        for frame in frames:
            self.say(frame)
        if ends:
            self.end()

    def say(self, *frames: Any) -> None:
        """Yield these, then wait."""
        self.waits.clear()
        for frame in frames:
            self._said.put_nowait(frame)

    def end(self, error: BaseException | None = None) -> None:
        """End, or raise."""
        self.say(END if error is None else error)

    async def generate(self) -> AsyncIterator[Any]:
        """Be the generator."""
        self.entered += 1
        try:
            while True:
                if self._said.empty():
                    self.waits.set()
                said = await self._said.get()
                if said is END:
                    return
                if isinstance(said, BaseException):
                    raise said
                yield said
        finally:
            self.closed.set()


async def read(run: Any, after: str | None = None) -> list[Any]:
    """Return all that a run says, to its end."""
    return [frame.data async for frame in run.frames(after)]


class Reader:
    """A task that reads a run, and what it has got so far."""

    def __init__(self, run: Any, after: str | None = None) -> None:
        self.frames: list[Any] = []
        self._news = asyncio.Event()
        self.task = asyncio.ensure_future(self._read(run, after))

    async def _read(self, run: Any, after: str | None) -> None:
        try:
            async for frame in run.frames(after):
                self.frames.append(frame)
                self._news.set()
        finally:
            self._news.set()

    @property
    def data(self) -> list[Any]:
        """What it has got."""
        return [frame.data for frame in self.frames]

    async def until(self, count: int) -> list[Any]:
        """Wait until it has got so many frames, and return them."""
        while len(self.frames) < count:
            assert not self.task.done(), self.task
            self._news.clear()
            await self._news.wait()
        return self.frames

    async def leave(self) -> None:
        """Read no more."""
        self.task.cancel()
        await asyncio.wait({self.task})


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until something is so, turn by turn of the loop."""
    while not is_so():
        await asyncio.sleep(0.001)
