"""What can be done with the runs of a conversation: the second half of what ``chats["main"]`` is.

Rules of residence: the public verbs of runs, and what they check. How a run begins is ``beginning``'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..engine.tasks import on_asyncio
from ..errors import Busy, ConfigError
from ..stores.logs import ORIGIN, Log, Look, Outcome, Position, Run, Status
from . import reader
from .beginning import POLICIES, Beginning, stopped
from .cursor import parse
from .ending import Ending, bare
from .options import Fold
from .own import OwnRun
from .runs import Runs
from .tail import Terminal
from .wish import NO_ENTRY, Wish

if TYPE_CHECKING:
    from .handle import Handle

LOOK_BYTES = 256 * 1024
MOST_KEY = 255  # characters


class Turns:
    """The runs of one conversation, of which one at a time runs."""

    _handle: Handle

    async def start(
        self, frames: AsyncIterator[Any], *, key: str | None = None, when_busy: str = "reject",
        fold: Fold | None = None, entry: Any = NO_ENTRY, on_disconnect: str = "continue",
        format: str | None = None,  # noqa: A002 - the word of the public interface
    ) -> reader.Run:  # fmt: skip
        """Let an async iterator produce an answer, whoever reads it, and return the run.

        It runs in a task of this process, in a copy of the caller's context, until it ends, is stopped, or exceeds a
        bound of the middleware. Each frame is a ``str``, ``bytes``, or a ``dict`` or ``list`` for JSON, which nobody
        changes any more. It is in the store before anybody gets it. If the caller is cancelled the run runs all the
        same.

        :param frames: closed unused if no run begins.
        :param key: of the request. A run that has begun with it before is returned instead, never a second one.
        :param when_busy: if another runs: "reject"; "enqueue", wait for its end for up to 30 s; "interrupt", end it;
            "rollback", end it and remove what its question and it have added to the history.
        :param fold: makes the answer, which is appended to the history at the end, of a list of the frames. ``None``:
            the middleware's. If it returns ``None``, or there are no frames, there is no answer.
        :param entry: the question: appended in the same step, or not at all.
        :param on_disconnect: "continue", or "cancel": when a reader of the returned run leaves, or this request ends.
        :param format: "sse" if each frame is a whole block of an event stream.
        :raises Busy: another run runs, or there are too many in this process, or it shuts down (503).
        :raises KeyReused: the key has come before with another ``entry``.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed. Nothing runs.
        """
        made: list[OwnRun] = []
        try:
            _check(frames, key, when_busy, on_disconnect, format)
            wish = Wish(self._handle, frames, fold, entry, key, on_disconnect == "cancel", format, made)
            return await self._handle.certain(partial(self._start, wish, when_busy))
        finally:
            if not made:
                await _unused(frames)

    async def _start(self, wish: Wish, when_busy: str) -> reader.Run:
        handle, keeper = wish.handle, wish.handle.keeper
        known = await handle.reached(make=True)
        assert known is not None  # noqa: S101 - it was to be made
        runs: Runs = keeper.runs
        run = Run(known.log, wish.run_id(known.log))
        if not runs.takes(keeper):
            look = await self._looked(0)
            if look is None or look.run is None or look.run.run != run.run:
                raise Busy("this process has as many runs as it takes, or shuts down", 503)
        await wish.check_key(run)
        begun = await Beginning(wish, run, known.top).begun(when_busy)
        if begun.outcome is Outcome.DONE:
            return self._reader(wish.made[0].ending, left=wish.left, head=wish.head)
        await wish.check_question(known.log)
        assert begun.status is not None  # noqa: S101 - what has begun before is there
        return await self._attached(known.log, begun.status)

    async def run(self, last_event_id: str | None = None) -> reader.Run | None:
        """Return the run that a client is to read on; ``None``: there is nothing to resume (204).

        Without an id that is the run of ``look``: one that runs, or has ended with no answer in the history. With the
        id of a frame, as the client has got it, it is that frame's run, from that frame on, as long as anything is
        there after it.

        :param last_event_id: what the client says. An id that is none of this conversation is as none at all.
        :raises Gone: the conversation was deleted.
        :raises StoreError: the store failed.
        """
        cursor = None if last_event_id is None else parse(last_event_id)
        look = await self._looked(0)
        if look is None or look.run is None:
            return None
        status = look.run
        if cursor is None or not cursor.is_of(status.run):
            return None if _is_told(status) else await self._attached(look.log, status)
        found = await self._attached(look.log, status, cursor.seq)
        return None if await found.is_read() else found

    async def stop(self) -> bool:
        """End the run that runs, wherever that is; return whether one did. When it returns, the run writes no more.

        :raises Gone: the conversation was deleted.
        :raises StoreError: the store failed.
        """
        look = await self._looked(0)
        if look is None or look.run is None or not look.run.is_running:
            return False
        return await stopped(self._handle.keeper.runs, self._ending(look.log, look.run.run, look.top), "cancelled")

    async def look(self, count: int = 20, *, max_bytes: int = LOOK_BYTES) -> tuple[list[Any], reader.Run | None]:
        """Return what a page draws, at one moment: the last entries, the oldest first, and the run that is not in them.

        That is one which runs, or which has ended with no answer in the history.

        :raises Gone: the conversation was deleted.
        :raises StoreError: the store failed.
        """
        look = await self._looked(count, max_bytes)
        if look is None:
            return [], None
        entries = [self._handle.public(entry, look.log) for entry in look.entries]
        run = None if look.run is None or _is_told(look.run) else await self._attached(look.log, look.run)
        return [entry for entry in entries if entry is not None], run

    async def _looked(self, count: int, max_bytes: int = LOOK_BYTES) -> Look | None:
        """Look; a run that is lost is ended, and looked at again.

        :raises Gone: the conversation that this handle has seen was deleted.
        """
        handle = self._handle
        look: Look | None = await handle.keeper.call("look", handle.places, count, max_bytes)
        status = None if look is None else look.run
        if look is not None and status is not None and status.is_running and status.seconds_left <= 0:
            await self._ending(look.log, status.run, look.top).lost()
            look = await handle.keeper.call("look", handle.places, count, max_bytes)
        if look is not None:
            handle.saw(look.log, look.top)
        elif handle.seen is not None:
            raise handle.lost()
        return look

    async def _attached(self, log: Log, status: Status, after: int = 0) -> reader.Run:
        """Return a run that has begun before."""
        ending = self._ending(log, status.run)
        if status.is_running:
            return self._reader(ending, after)
        terminal = None if status.terminal is None else ending.packed.read_terminal(status.terminal)
        found = await ending.ask("find", ending.run.log, None, status.run) if status.is_entered else None
        entry = None if found is None else self._handle.public(found, log)
        return self._reader(
            ending, after, terminal=terminal or Terminal("completed"), entry=entry, is_spent=not terminal
        )

    def _ending(self, log: Log, run: bytes, top: Position = ORIGIN) -> Ending:
        return Ending(self._handle, bare(Run(log, run)), top, self._handle.keeper.fold)

    def _reader(self, ending: Ending, after: int = 0, **known: Any) -> reader.Run:
        return reader.Run(self._handle.keeper.runs, ending, after=after, guard=self._handle.guard, **known)


def _is_told(status: Status) -> bool:
    """Return whether a run is over, and in the history."""
    return not status.is_running and status.is_entered


def _check(frames: Any, key: str | None, when_busy: str, on_disconnect: str, format: str | None) -> None:  # noqa: A002
    """Refuse what cannot work."""
    if not hasattr(frames, "__aiter__"):
        raise TypeError(f"start() takes an async iterator, and this is a {type(frames).__name__}")
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MOST_KEY):
        raise ValueError(f"start(): key must be a str of 1 to {MOST_KEY} characters")
    if when_busy not in POLICIES:
        raise ValueError(f"start(): when_busy must be one of {', '.join(POLICIES)}")
    if on_disconnect not in ("continue", "cancel"):
        raise ValueError('start(): on_disconnect must be "continue" or "cancel"')
    if format not in (None, "sse"):
        raise ValueError('start(): format must be "sse" or None')
    if not on_asyncio():
        raise ConfigError("start() needs asyncio: run the application on it, not on trio")


async def _unused(frames: Any) -> None:
    close = getattr(frames, "aclose", None)
    if close is not None:
        await close()
