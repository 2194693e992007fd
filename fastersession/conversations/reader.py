"""A run in the hands of who reads it: ``Run``.

Rules of residence: where its frames come from, in which order, and until when. How they look on the wire is ``sse``'s.

A run that is produced here is read from memory, any other is followed. What neither has any more is read from the log.
A reader that leaves ends nothing but itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from ..errors import Gone
from .cursor import parse, prefix_of
from .ending import Ending
from .runs import Runs
from .sse import BEFORE, COMMENT, HEADERS, Events
from .tail import Piece, Tail, Terminal

READ_BYTES = 256 * 1024
COMMENT_SECONDS = 15.0  # without a frame, until a comment shows proxies that the stream lives


class Frame(NamedTuple):
    """A frame as it was yielded. ``id`` is where to go on after it; ``None`` if the log does not have it."""

    id: str | None
    data: Any


class Chunk(NamedTuple):
    """Frames that came together, and the number of the first. ``is_logged``: the log has them."""

    first: int
    frames: Sequence[Any]
    is_logged: bool


class Run:
    """A run of a conversation: an answer that is, or was, produced.

    Any number of tasks may read it, each from where it likes. Reading does not keep it, and leaving does not end it.

    :ivar entry: the answer in the history, if the run has ended and one is known to be there; else ``None``.
    """

    def __init__(
        self, runs: Runs, ending: Ending, *, after: int = 0, head: dict[str, Any] | None = None,
        terminal: Terminal | None = None, entry: Any = None, guard: Callable[[], Awaitable[Any]] | None = None,
        left: Callable[[], None] | None = None, is_spent: bool = False,
    ) -> None:  # fmt: skip
        own = runs.own.get(ending.run)
        self._runs = runs
        self._ending = ending
        self._tail: Tail | None = None if own is None else own.tail
        self._head = head
        self._terminal = terminal
        self._entry = entry
        self._guard = guard
        self._left = left  # is called when a reader leaves before the end
        self._is_spent = is_spent  # its frames are kept no longer
        self.after = after

    @property
    def id(self) -> str:
        """The run's id, 32 hex digits, as entries of the history name it."""
        return self._ending.run.run.hex()

    @property
    def status(self) -> str:
        """What is known of it here: "running", "completed", "failed", "cancelled", "interrupted" or "lost".

        Of a run of another process it changes when a reader has come to the end.
        """
        terminal = self._known_end()
        return "running" if terminal is None else terminal.status

    @property
    def error(self) -> str | None:
        """The name of the class of what has failed; never its text."""
        terminal = self._known_end()
        return None if terminal is None else terminal.error

    @property
    def entry(self) -> Any:
        """The answer in the history, if the run has ended and one is known to be there; else ``None``."""
        return self._entry if self._tail is None or self._entry is not None else self._tail.entry

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a response that streams it: nobody stores, compresses or gathers it."""
        return dict(HEADERS)

    # --- reading ---

    async def frames(self, after: str | None = None) -> AsyncIterator[Frame]:
        """Yield the frames as they were yielded, each with the id to go on after.

        :param after: an id, or what a client says is one; ``None``: from where ``chat.run()`` was told.
        :raises Gone: the conversation was deleted, or the session that reads it has ended.
        """
        prefix = f"1{prefix_of(self._ending.run.run)}."
        async for chunk in self._chunks(self._seq(after)):
            if chunk is not None:
                for seq, frame in enumerate(chunk.frames, chunk.first):
                    yield Frame(f"{prefix}{seq}" if chunk.is_logged else None, frame)

    async def events(self, after: str | None = None) -> AsyncIterator[dict[str, str]]:
        """Yield ``{"id", "data"}`` for each frame, as sse-starlette's ``EventSourceResponse`` takes them.

        :raises Gone: as ``frames``.
        """
        seq = self._seq(after)
        events = Events(self._ending.run.run, seq, are_blocks=False)
        async for chunk in self._chunks(max(seq - BEFORE, 0)):
            if chunk is not None:
                for event in events.dicts(*chunk):
                    yield event

    async def sse(self, after: str | None = None, end: Callable[[str], str] | None = None) -> AsyncIterator[str]:
        """Yield the text of an event stream: one piece for all that came together, and a comment every 15 s.

        :param after: as of ``frames``.
        :param end: makes a last block of the status.
        :raises Gone: as ``frames``.
        """
        seq = self._seq(after)
        events = Events(self._ending.run.run, seq, are_blocks=(await self._said()).get("format") == "sse")
        yield COMMENT
        async for chunk in self._chunks(max(seq - BEFORE, 0), COMMENT_SECONDS):
            text = COMMENT if chunk is None else events.text(*chunk)
            if text:
                yield text
        if end is not None:
            yield end(self.status)

    async def _said(self) -> dict[str, Any]:
        """Return the head of the run."""
        if self._head is None:
            self._head = {} if self._is_spent else await self._ending.head(patiently=True)
        return self._head

    def _seq(self, after: str | None) -> int:
        if after is None:
            return self.after
        cursor = parse(after)
        return cursor.seq if cursor is not None and cursor.is_of(self._ending.run.run) else 0

    async def _chunks(self, seq: int, idle: float | None = None) -> AsyncIterator[Chunk | None]:
        """Yield what comes after a number, until the end; ``None`` after ``idle`` seconds of silence."""
        if self._is_spent:
            return
        while self._tail is None:
            pieces, terminal = await self._read(seq)
            for piece in pieces:
                yield _cut(piece, seq)
                seq = max(seq, piece.last)
            if terminal is not None:
                self._terminal = _complete(terminal, seq)
                return
            if not pieces:
                break
        with self._source(seq) as tail, self._guarded(tail) as is_cut:
            try:
                while True:
                    found = tail.after(seq)
                    if found is None:
                        found, _ = await self._read(seq)
                    if is_cut():
                        raise Gone("the session that reads this run has ended")
                    for piece in found:
                        yield _cut(piece, seq)
                        seq = piece.last
                    if found:
                        continue
                    if tail.is_gone:
                        raise Gone("the conversation of this run is gone")
                    if tail.terminal is not None:
                        self._terminal = _complete(tail.terminal, seq)
                        return
                    if not await _changed(tail, idle):
                        yield None
            finally:
                if self._left is not None and not tail.is_over:
                    self._left()

    async def _read(self, seq: int) -> tuple[list[Piece], Terminal | None]:
        """Read from the log what comes after a number, and the end where nothing more comes.

        :raises Gone: the log is gone.
        """
        found = (await self._ending.persist("read", {self._ending.run: (1, seq)}, READ_BYTES))[self._ending.run]
        if found is None:
            raise Gone("the conversation of this run is gone")
        return self._ending.packed.pieces(found)

    async def is_read(self) -> bool:
        """Return whether it has ended, and has nothing after where it is to be read on."""
        if self._known_end() is None or self._is_spent:
            return self._is_spent
        return not (await self._read(self.after))[0]

    @contextmanager
    def _source(self, seq: int) -> Iterator[Tail]:
        """Follow the run while it is read; one that has ended is read from the log alone."""
        if self._tail is not None:
            self._tail.readers += 1
            try:
                yield self._tail
            finally:
                self._tail.readers -= 1
        else:
            with self._runs.following.tail_of(self._ending, seq) as tail:
                yield tail

    @contextmanager
    def _guarded(self, tail: Tail) -> Iterator[Callable[[], bool]]:
        """Wake the reader when its session ends."""
        if self._guard is None:
            yield lambda: False
            return
        ended = asyncio.ensure_future(self._guard())
        ended.add_done_callback(lambda _: tail.wake())
        try:
            yield ended.done
        finally:
            ended.cancel()

    def _known_end(self) -> Terminal | None:
        return self._terminal if self._terminal is not None or self._tail is None else self._tail.terminal


def _cut(piece: Piece, seq: int) -> Chunk:
    """Return what of a piece comes after a number. A reader may be ahead of a log that has lost its last.

    :raises Gone: frames are missing between them.
    """
    if piece.first > seq + 1:
        raise Gone("frames of this run are missing")
    skipped = seq + 1 - piece.first
    return Chunk(seq + 1, piece.frames[skipped:] if skipped else piece.frames, piece.is_logged)


def _complete(terminal: Terminal, seq: int) -> Terminal:
    """Return the end that was reached after a number.

    :raises Gone: its producer has written more frames than there are.
    """
    if terminal.frames is not None and seq < terminal.frames:
        raise Gone("frames of this run are missing")
    return terminal


async def _changed(tail: Tail, idle: float | None) -> bool:
    """Wait until there is something new; ``False`` if there is nothing within ``idle`` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(idle):
            await tail.changed()
            return True
    return False
