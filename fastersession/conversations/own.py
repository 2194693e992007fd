"""A run whose producer is in this process: from its first frame to its end.

Rules of residence: the tasks of one run, its bounds in time, and who stops it. Frames on their way are ``pump``'s, what
is written at the end is ``ending``'s.

Two tasks: the producer's own, in a copy of the context of who began it, and one that waits for its end and writes it.
A producer that does not end when it is told to is left behind, and the run ends all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from ..events import RunFailed, RunStuck
from ..stores.logs import Run
from .ending import Ending
from .packed import Packed
from .pump import Pump
from .tail import Tail, Terminal
from .writer import Writer

if TYPE_CHECKING:
    from .holding import Holding

CLOSE_SECONDS = 5.0  # for a producer to end when it is told to


class Home(Protocol):
    """What the runs of a process share."""

    writer: Writer
    is_full: bool

    def count(self, size: int) -> None:
        """Note that so many more bytes are held."""

    def begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin work in a task of its own."""


class OwnRun:
    """One run that is produced here.

    :param frames: the producer; it is closed at the end.
    :param is_left: tells whether the request that has begun it is over, if that is to end the run, too.
    :param holding: is let go of at the end.
    """

    def __init__(
        self, runs: Home, ending: Ending, frames: AsyncIterator[Any], context: Context,
        is_left: Callable[[], bool], holding: Holding | None,
    ) -> None:  # fmt: skip
        self.ending = ending
        self.keeper = ending.keeper
        self.tail = Tail(keeps_all=ending.fold is not None and not runs.is_full, count=runs.count)
        self.is_left = is_left
        self._bounds = bounds = ending.keeper.bounds
        self.pump = Pump(self.run, Packed(self.keeper, self.run), self.tail, runs.writer, bounds.max_bytes, self._fence)
        self._runs = runs
        self._frames = frames
        self._holding = holding
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._stop: asyncio.Future[Terminal | None] = self._loop.create_future()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._has_learnt = False
        self.read_at = self._loop.time()  # when somebody read it last

    @property
    def run(self) -> Run:
        """Which run it is."""
        return self.ending.run

    def stop(self, status: str, error: str | None = None) -> None:
        """End the run with this status, unless it is about to end already."""
        if not self._stop.done():
            self._stop.set_result(Terminal(status, error))

    def ended_elsewhere(self, terminal: Terminal | None) -> None:
        """Hear that the run has ended in the store; ``None``: its log is gone."""
        if terminal is None:
            self.tail.go()
        else:
            self.tail.end(terminal)
        self.pump.fence()

    def _fence(self) -> None:
        """Hear that the log takes nothing more, or a frame could not be packed."""
        if not self._stop.done():
            self._stop.set_result(None)

    async def over(self) -> None:
        """Wait until the run has ended, and its answer is in the history."""
        await asyncio.wait({self._over})

    def look(self, now: float) -> None:
        """End the run if nobody wants it any more; asked once a second."""
        if self.tail.readers:
            self.read_at = now
        after = self._bounds.abandon_after
        if self.is_left() or (after is not None and now - self.read_at >= after):
            self.stop("cancelled")

    async def main(self) -> None:
        """Produce, write, and end."""
        try:
            terminal = await self._produced()
            await self.pump.flushed()
            if self.pump.is_fenced:
                await self._learn()
            else:
                await self.ending.end(self.tail, terminal, self.pump.acknowledged)
        except Exception as error:
            self.keeper.events.tell(RunFailed(run=self.run.run.hex(), error=type(error).__name__), error)
        finally:
            if self._holding is not None:
                self._holding.let_go()
            if not self._stop.done():
                self._stop.cancel()
            self.pump.discard()
            if not self.tail.is_over:
                self.tail.go()
            self._over.set_result(None)

    async def _produced(self) -> Terminal:
        """Wait until the producer has ended, or was told to; return what the run ends with."""
        producer = self._loop.create_task(self._produce(), context=self._context)
        limit = self._loop.call_later(self._bounds.max_seconds, self.stop, "failed", "TimeoutError")
        try:
            ends: set[asyncio.Future[Any]] = {producer, self._stop}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            learning = self._runs.begin(self._learn()) if self.pump.is_fenced else None
            if not producer.done():
                await self._close(producer)
            if learning is not None:
                await learning
        finally:
            limit.cancel()
            producer.cancel()
        return self._terminal(producer)

    async def _close(self, producer: asyncio.Task[None]) -> None:
        """Cancel the producer and wait until it has cleaned up, for a while."""
        producer.cancel()
        await asyncio.wait({producer}, timeout=CLOSE_SECONDS)
        if not producer.done():
            self.keeper.events.tell(RunStuck(run=self.run.run.hex(), seconds=int(CLOSE_SECONDS)))
            producer.add_done_callback(_seen)

    async def _learn(self) -> None:
        """Find out how the run has ended elsewhere, once."""
        if not self._has_learnt:
            self._has_learnt = True
            status = "interrupted" if self.pump.is_refused else "lost"
            await self.ending.learn(self.tail, self.pump.acknowledged, status)

    def _terminal(self, producer: asyncio.Task[None]) -> Terminal:
        """Return what the run ends with, unless it has ended elsewhere."""
        told = self._stop.result() if self._stop.done() and not self._stop.cancelled() else None
        error: BaseException | None = self.pump.error
        if producer.done():
            failure = asyncio.CancelledError() if producer.cancelled() else producer.exception()
            if not isinstance(failure, asyncio.CancelledError) or not self._stop.done():
                error = error or failure
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.keeper.events.tell(RunFailed(run=self.run.run.hex(), error=type(error).__name__), error)
        if told is not None:
            return told
        return Terminal("completed") if error is None else Terminal("failed", type(error).__name__)

    async def _produce(self) -> None:
        frames, pump, stop = self._frames, self.pump, self._stop
        try:
            async for frame in frames:
                if stop.done():
                    break
                if not pump.put(frame):
                    await pump.room()
        finally:
            close = getattr(frames, "aclose", None)
            if close is not None:
                await close()


def _seen(producer: asyncio.Task[None]) -> None:
    if not producer.cancelled():
        producer.exception()
