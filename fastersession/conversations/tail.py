"""The newest frames of a run, as the readers of one process share them.

Rules of residence: frames in memory and who waits for them. Where they come from is ``pump``'s and ``following``'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

MOST_HELD = 256 * 1024  # bytes of frames for readers that are a little behind, and for a store that has lost its last


class Terminal(NamedTuple):
    """The end of a run."""

    status: str  # "completed", "failed", "cancelled", "interrupted" or "lost"
    error: str | None = None  # the name of a class
    frames: int | None = None  # how many it has, if its producer has written this


class Piece:
    """Frames that are written as one batch. The first frame of a run is number 1.

    :ivar last: the number of its last frame, by which its position is named.
    """

    __slots__ = ("first", "frames", "is_logged", "last", "size")

    def __init__(self, first: int, frames: Sequence[Any], size: int, *, is_logged: bool = True) -> None:
        self.first = first
        self.last = first + len(frames) - 1
        self.frames = frames
        self.size = size
        self.is_logged = is_logged


class Tail:
    """What a run has said last, and whether it has ended.

    :param keeps_all: it keeps all pieces, and not only the last ``MOST_HELD`` bytes.
    :param count: is told by how many bytes it has grown.
    """

    def __init__(self, *, keeps_all: bool = False, count: Callable[[int], None] | None = None) -> None:
        self.pieces: deque[Piece] = deque()
        self.size = 0
        self.last = 0  # frame that was added; before any, the frame after which it begins
        self.keeps_all = keeps_all
        self.terminal: Terminal | None = None
        self.entry: Any = None  # the answer in the history, where this process has written it
        self.is_gone = False
        self.readers = 0
        self._count = count or _nothing
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.is_gone or self.terminal is not None

    @property
    def first(self) -> int:
        """The number of the first frame that is held, or would be."""
        return self.pieces[0].first if self.pieces else self.last + 1

    def add(self, piece: Piece) -> None:
        """Add what comes next, and wake who waits for it."""
        self.pieces.append(piece)
        self.last = piece.last
        self.size += piece.size
        self._count(piece.size)
        if self.size > MOST_HELD and not self.keeps_all:
            self.trim()
        if self._waiting:
            self.wake()

    def trim(self) -> None:
        """Let go of the oldest beyond the bound, never of the last, nor of what no log has."""
        while self.size > MOST_HELD and len(self.pieces) > 1 and self.pieces[0].is_logged:
            size = self.pieces.popleft().size
            self.size -= size
            self._count(-size)

    def uncount(self) -> None:
        """Be counted no more: only readers that have it keep it."""
        self._count(-self.size)
        self._count = _nothing

    def after(self, seq: int) -> list[Piece] | None:
        """Return the pieces with frames above a number; ``None`` if the first of them is not held any more."""
        if seq + 1 < self.first:
            return None
        found: list[Piece] = []
        for piece in reversed(self.pieces):
            if piece.last <= seq:
                break
            found.append(piece)
        return found[::-1]

    def end(self, terminal: Terminal) -> None:
        """Note the end. The first one counts."""
        if not self.is_over:
            self.terminal = terminal
        self.wake()

    def go(self) -> None:
        """Note that the log is gone."""
        if not self.is_over:
            self.is_gone = True
        self.wake()

    async def changed(self) -> None:
        """Wait until there is something new, or an end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def wake(self) -> None:
        """Wake all that wait."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


def _nothing(size: int) -> None:
    pass
