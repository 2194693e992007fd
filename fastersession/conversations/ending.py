"""How a run ends, whoever ends it: its producer, who stops it, or who finds that its process is gone.

Rules of residence: the end in the store, and the answer in the history. What runs here is not known.

The first end wins, and fences all others. The producer's comes with the folded answer, in one step. Any other comes
first, and then the answer of what the log has is appended. Its key is the id of the run, so it is there once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from ..events import FoldFailed
from ..stores.logs import ORIGIN, TERMINAL, Append, End, Entry, Outcome, Position, Run
from .options import Fold
from .packed import Packed
from .tail import Piece, Tail, Terminal
from .writer import PAUSES

if TYPE_CHECKING:
    from .handle import Handle
    from .keeper import Keeper

READ_BYTES = 256 * 1024  # of frames at once
NOTHING: Any = object()


class Ending:
    """Ends one run.

    :param top: of the history, as far as it is known.
    :param fold: makes the answer of the frames as they were yielded; ``None``: there is none.
    """

    def __init__(self, handle: Handle, run: Run, top: Position, fold: Fold | None) -> None:
        self.keeper: Keeper = handle.keeper
        self.run = run
        self.fold = fold
        self.packed = Packed(handle.keeper, run)
        self._handle = handle
        self._top = top
        self._keep = None if run.log.place.session is not None else handle.keeper.retention

    async def end(self, tail: Tail, terminal: Terminal, count: int) -> None:
        """End it with this status, when the log has all frames. A store that is away is asked until it answers."""
        terminal = terminal._replace(frames=count)
        value = self.packed.terminal(terminal)
        answer = await self._answer(tail, count)
        known = self.keeper.known(self.run.log.place.conversation)
        if known is not None and known[0].log == self.run.log.log:
            self._top = max(self._top, known[1])
        while True:
            entry = self._entry(answer)
            ended = await self.persist("end", self._end(value, entry))
            if ended.outcome is not Outcome.TAKEN or not ended.status.is_running:
                break
            self._top = ended.top
        if ended.outcome is Outcome.DONE:
            self.keeper.note(self.run.log, ended.top)
            tail.entry = entry if entry is None else self._handle.public(entry, self.run.log)
            tail.end(terminal)
        else:
            await self.learn(tail, count)

    async def learn(self, tail: Tail, count: int, status: str = "lost") -> None:
        """Find out how it has ended elsewhere, and append the answer of the frames that the log has.

        :param status: with which it ends if it has not: the log has lost what nobody holds any more; or it takes
            nothing of this run, for another user has logged in to the session.
        """
        while not tail.is_over:
            found = (await self.persist("read", {self.run: (1, count)}, READ_BYTES))[self.run]
            if found is None:
                tail.go()
            elif not found:
                await self.persist("end", self._end(self.packed.terminal(Terminal(status)), None))
            else:
                count = max([count, *(position[1] for position, _ in found if position < TERMINAL)])
                self.packed.hear(tail, found)
        if tail.terminal is not None:
            await self._enter(await self._answer(tail, count), tail)

    async def stop(self, status: str) -> Terminal | None:
        """End it now; return the end, or ``None`` if it is not running.

        :raises StoreError: the store failed.
        """
        terminal = Terminal(status)
        value = self.packed.terminal(terminal)
        ended = await self.ask("end", self._end(value, None))
        return terminal if ended.outcome is Outcome.DONE else None

    async def lost(self) -> bool:
        """End it if its lease is over, and append the answer of what the log has; return whether it was lost."""
        value = self.packed.terminal(Terminal("lost"))
        try:
            ended = await self.ask("end", self._end(value, None, if_lost=True))
            if ended.outcome is Outcome.DONE:
                await self.enter_late()
        except StoreError:
            return False
        return bool(ended.outcome is not Outcome.BUSY)

    async def enter_late(self) -> None:
        """Append the answer of what the log has, after the end."""
        await self._enter(await self._answer(Tail(), 0), None)

    async def head(self, *, patiently: bool = False) -> dict[str, Any]:
        """Return what was said at its begin; nothing if that is kept no longer."""
        found = (await (self.persist if patiently else self.ask)("read", {self.run: (0, 0)}, 1))[self.run]
        return self.packed.read_head(found[0][1]) if found and found[0][0] == ORIGIN else {}

    # --- the answer ---

    async def _answer(self, tail: Tail, count: int) -> Any:
        """Return the folded answer; ``NOTHING`` if there is none."""
        if self.fold is None:
            return NOTHING
        is_here = tail.first == 1 and tail.last == count > 0 and all(piece.is_logged for piece in tail.pieces)
        pieces = list(tail.pieces) if is_here else await self._read()
        frames = [frame for piece in pieces for frame in piece.frames]
        if not frames:
            return NOTHING
        try:
            answer = self.fold(frames)
        except Exception as error:
            self._tell(error)
            return NOTHING
        return NOTHING if answer is None else answer

    async def _read(self) -> list[Piece]:
        """Return all frames that the log has."""
        pieces: list[Piece] = []
        last = 0
        while True:
            found = (await self.ask("read", {self.run: (1, last)}, READ_BYTES))[self.run]
            more, terminal = self.packed.pieces(found or ())
            pieces += more
            if terminal is not None or not more:
                return pieces
            last = more[-1].last

    async def _enter(self, answer: Any, tail: Tail | None) -> None:
        """Append the answer, unless it is there, or a later run has begun."""
        while (entry := self._entry(answer)) is not None:
            appended = (await self.persist("append", [Append(self.run.log, entry, self._keep)]))[0]
            if appended.outcome is not Outcome.TAKEN:
                there = entry if appended.outcome is Outcome.DONE else appended.there
                if tail is not None and there is not None:
                    tail.entry = self._handle.public(there, self.run.log)
                return
            self._top = appended.top

    def _entry(self, answer: Any) -> Entry | None:
        """Return the entry behind the top; ``None`` if there is no answer, or none that can be kept."""
        if answer is NOTHING:
            return None
        epoch, seq = self._top
        try:
            return self._handle.entry_at(self.run.log, (epoch, seq + 1), answer, self.run.run, self.run.run)
        except Exception as error:
            self._tell(error)
            return None

    def _tell(self, error: Exception) -> None:
        self.keeper.events.tell(FoldFailed(run=self.run.run.hex(), error=type(error).__name__), error)

    # --- the store ---

    def _end(self, value: Any, entry: Entry | None, *, if_lost: bool = False) -> End:
        return End(self.run, value, self.keeper.bounds.linger, entry, if_lost, self._keep)

    async def ask(self, verb: str, *arguments: Any) -> Any:
        """Ask the store, once more if it fails: its reply may have been lost."""
        try:
            return await self.keeper.call(verb, *arguments)
        except StoreError:
            await asyncio.sleep(PAUSES[0])
            return await self.keeper.call(verb, *arguments)

    async def persist(self, verb: str, *arguments: Any) -> Any:
        """Ask the store until it answers, or the run would have been over long ago."""
        loop = asyncio.get_running_loop()
        until, tries = loop.time() + self.keeper.bounds.max_seconds, 0
        while True:
            try:
                return await self.keeper.call(verb, *arguments)
            except StoreError:
                if loop.time() >= until:
                    raise
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1


def bare(run: Run) -> Run:
    """Return a run whose place names no verifier: whoever reads or ends it, it is the same."""
    return run._replace(log=run.log._replace(place=run.log.place._replace(verifier=None)))
