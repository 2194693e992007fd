"""Frames that are put, as the async iterator that a run takes them from.

Rules of residence: one producer that is not a generator, and one run. What the frames are of is not known here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from .frames import size_of
from .pump import MOST_OF_A_FRAME, TooLarge

MOST_WAITING = 64 * 1024  # bytes that the run has not taken; then who puts waits


class Bridge:
    """From who puts frames to a run.

    :param max_bytes: of all frames.
    :param stopped: is called when the run ends before its producer has.
    """

    def __init__(self, max_bytes: int, stopped: Callable[[], None]) -> None:
        self.is_full = False  # the run has as many bytes as one may have
        self.producer_over = asyncio.Event()
        self._left = max_bytes
        self._stopped = stopped
        self._frames: deque[tuple[Any, int]] = deque()
        self._waiting = 0
        self._is_ended = self._is_closed = False
        self._error: BaseException | None = None
        self._moved = asyncio.Event()

    async def put(self, frame: Any) -> bool:
        """Take a frame; ``False`` if it, or the run, has too many bytes: then the run has failed.

        It waits while the run has much to take. What is put after the run's end is dropped.
        """
        size = size_of(frame)
        self._left -= size
        if self._left < 0 or size > MOST_OF_A_FRAME:
            self.is_full = True
            self.end(TooLarge())
            return False
        if self._is_ended or self._is_closed:
            return True
        self._frames.append((frame, size))
        self._waiting += size
        self._moved.set()
        while self._waiting > MOST_WAITING and not self._is_closed:
            await self._move()
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Note that nothing more comes, or that the producer has failed. The first time counts."""
        if not self._is_ended:
            self._is_ended, self._error = True, error
            self._moved.set()

    async def frames(self) -> AsyncIterator[Any]:
        """Yield what is put. A run that ends before waits until the producer is over."""
        try:
            while True:
                while self._frames:
                    frame, size = self._frames.popleft()
                    self._waiting -= size
                    self._moved.set()
                    yield frame
                if self._is_ended:
                    break
                await self._move()
        finally:
            self._is_closed = True
            self._moved.set()
            if not self._is_ended:
                self._stopped()
                await self.producer_over.wait()
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # the traceback holds this frame: together they would be a cycle

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()
