"""From what a producer yields to the log, and from there to the readers of this process.

Rules of residence: the frames of one run on their way: gathered, cut, written, held while the store is away. When they
are written is ``writer``'s; who yields them, and how a run ends, is ``own``'s.

A frame is in the log before a reader has it, so nobody holds a cursor that the log lacks. Only if the store is away for
longer than ``HELD_SECONDS`` readers get what it does not have, without ids.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..events import RunUnlogged
from ..stores.logs import ORIGIN, TERMINAL, Batch, Outcome, Position, Run
from .frames import size_of
from .packed import Packed
from .tail import Piece, Tail
from .writer import Writer

MOST_OF_A_PIECE = 64 * 1024  # bytes of frames that are written at once, or one frame
MOST_OF_A_FRAME = 1024 * 1024
MOST_WAITING = 256 * 1024  # bytes that wait for the log; then the producer does, too
HELD_SECONDS = 5.0
FORWARD_SECONDS = 0.1  # between two pieces for readers while the store is away


class TooLarge(ValueError):  # noqa: N818 - its name is shown to clients
    """A frame, or a run, has too many bytes."""


class Pump:
    """The frames of one run that is produced here.

    :param packed: makes batches of them.
    :param max_bytes: of all frames.
    :param fenced: is called when the run has ended elsewhere, or its log is gone. Nothing is written from then on.
    """

    def __init__(
        self, run: Run, packed: Packed, tail: Tail, writer: Writer, max_bytes: int, fenced: Callable[[], None]
    ) -> None:
        self.run = run
        self.keeper = packed.keeper
        self.tail = tail
        self.written_at = float("-inf")  # the loop's time
        self.is_fenced = False
        self.is_refused = False  # the log takes nothing of this run, be it there or not
        self.acknowledged = 0  # the last frame that the log has
        self.error: Exception | None = None  # why a frame could not be packed
        self._packed = packed
        self._writer = writer
        self._max_bytes = max_bytes
        self._fenced = fenced
        self._loop = asyncio.get_running_loop()
        self._buffer: list[Any] = []
        self._queue: deque[Piece] = deque()  # cut, and not acknowledged
        self._batch: Batch | None = None  # of the first of them: the very same bytes for each try
        self._forwarded = 0  # of the queue, that readers have
        self._last = self._total = self._buffered = self._queued = 0  # frames that were cut; bytes in all, and waiting
        self._before = 0  # the frame before the last piece that was acknowledged
        self._is_marked = False  # the writer has it
        self._have: int | None = None  # while what the store has lost is sought: the last frame that it has
        self._failing_since: float | None = None
        self._is_unlogged = False
        self._forwarding: asyncio.TimerHandle | None = None
        self._moved = asyncio.Event()

    # --- the producer's side ---

    def put(self, frame: Any) -> bool:
        """Take a frame; return whether there is room for more.

        :raises TypeError: it is no frame.
        :raises TooLarge: it, or the run, has too many bytes.
        """
        size = len(frame) if type(frame) is str and frame.isascii() else size_of(frame)
        if self.error is not None:
            return True
        self._total += size
        if size > MOST_OF_A_FRAME or self._total > self._max_bytes:
            raise TooLarge
        self._buffer.append(frame)
        self._buffered += size
        if not self._is_marked:
            self._is_marked = True
            self._writer.add(self)
        if self._is_unlogged:
            self._forward_soon()
            return True
        return self._buffered + self._queued < MOST_WAITING

    async def room(self) -> None:
        """Wait until there is room for another frame."""
        while not (self.is_fenced or self._is_unlogged or self._buffered + self._queued < MOST_WAITING):
            await self._move()

    async def flushed(self) -> None:
        """Wait until the log has all, or takes nothing more. What it has not is written at once."""
        if self._buffer:
            self._writer.hurry(self)
        while not self.is_fenced and (self._buffer or self._queue):
            await self._move()

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    # --- the writer's side ---

    def take(self) -> Batch | None:
        """Return what is to be written next."""
        if self.is_fenced or not (self._queue or self._buffer):
            self._is_marked = False
            return None
        if not self._queue:
            self._cut()
        if self._batch is None:
            piece = self._queue[0]
            try:
                self._batch = self._packed.batch(piece.last, piece.frames, piece.size)
            except Exception as error:
                self._refuse(error)
                return None
        return self._batch

    def written(self, outcome: Outcome) -> None:
        """Hear what became of the batch that was taken."""
        if self.is_fenced:
            return
        if outcome is not Outcome.DONE:
            self.is_refused = outcome is Outcome.GONE
            self.fence()
            return
        piece = self._queue.popleft()
        self._batch, self._failing_since = None, None
        self._before, self.acknowledged = piece.first - 1, piece.last
        self._queued -= piece.size
        piece.is_logged = True
        if self._forwarded:
            self._forwarded -= 1
        else:
            self.tail.add(piece)
        self._is_unlogged = self._is_unlogged and bool(self._queue)
        self._is_marked = bool(self._queue or self._buffer)
        if self._is_marked:
            if self._queue:
                self.written_at = float("-inf")  # it is behind
            self._writer.add(self)
        self._moved.set()

    def fence(self) -> None:
        """Write nothing more."""
        if self.is_fenced:
            return
        self.discard()
        self._writer.remove(self)
        self._fenced()

    def discard(self) -> None:
        """Let go of what no log will have."""
        self.is_fenced = True
        self._buffer.clear()
        self._queue.clear()
        self._buffered = self._queued = self._forwarded = 0
        if self._forwarding is not None:
            self._forwarding.cancel()
        self._moved.set()

    def _refuse(self, error: Exception) -> None:
        """Give up on frames that the codec does not keep; those before them are in the log."""
        self.error = error
        self._queue.clear()
        self._buffer.clear()
        self._buffered = self._queued = 0
        self._is_marked = True  # nothing is written from here on but the end
        self._fenced()
        self._moved.set()

    def _cut(self) -> None:
        """Cut a piece off what waits."""
        frames, size = self._buffer, self._buffered
        if size > MOST_OF_A_PIECE:
            count = size = 0
            for frame in self._buffer:
                of_it = size_of(frame)
                if count and size + of_it > MOST_OF_A_PIECE:
                    break
                count, size = count + 1, size + of_it
            frames, self._buffer = self._buffer[:count], self._buffer[count:]
        else:
            self._buffer = []
        piece = Piece(self._last + 1, frames, size, is_logged=False)
        self._buffered -= size
        self._queued += size
        self._last = piece.last
        self._queue.append(piece)

    # --- while the store is away, and after it ---

    def failing(self) -> None:
        """Hear that the store could not be asked."""
        now = self._loop.time()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= HELD_SECONDS and not self._is_unlogged and not self.is_fenced:
            self._is_unlogged = True
            self.keeper.events.tell(RunUnlogged(run=self.run.run.hex(), seconds=int(HELD_SECONDS)))
            self._forward()
            self._moved.set()

    def _forward_soon(self) -> None:
        if self._forwarding is None:
            self._forwarding = self._loop.call_later(FORWARD_SECONDS, self._forward)

    def _forward(self) -> None:
        """Give readers what the log does not have."""
        self._forwarding = None
        while self._is_unlogged and self._buffer:
            self._cut()
        for piece in list(self._queue)[self._forwarded :]:
            self._forwarded += 1
            self.tail.add(piece)

    def probe(self) -> Position:
        """Return above which position the store is to be read, to compare what it has with what it has acknowledged."""
        return (1, self._before if self._have is None else self._have)

    def compare(self, found: Sequence[tuple[Position, Any]] | None) -> bool:
        """Compare, and note what must be written again; return whether all is known.

        A failover may have lost what was acknowledged last. It always breaks a connection before.
        """
        if found is None or any(position == TERMINAL for position, _ in found):
            self.fence()
            return True
        seqs = [position[1] for position, _ in found if position > ORIGIN]
        if self._have is None:
            if self.acknowledged in (0, *seqs):
                return True
            self._have = max(self.tail.first - 2, 0)
            return False
        if seqs:
            self._have = max(seqs)
            return False
        have, self._have = self._have, None
        self._put_back(have)
        return True

    def _put_back(self, have: int) -> None:
        if have < self.tail.first - 1:  # more is missing than is held
            self.fence()
            return
        lost = [piece for piece in self.tail.pieces if have < piece.last <= self.acknowledged]
        self._queue.extendleft(reversed(lost))
        self._forwarded += len(lost)
        self._queued += sum(piece.size for piece in lost)
        self._batch = None
        self.acknowledged = have
