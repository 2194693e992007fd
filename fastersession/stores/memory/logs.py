"""Conversations in this process: live objects, beside the table of sessions.

Rules of residence: the verbs of ``LogStore`` over a shelf. No verb suspends, so each is one step. What a conversation
is by itself is ``conversation``'s; which there are is ``shelf``'s.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..logs import (
    MOST_OF_A_SESSION,
    ORIGIN,
    TERMINAL,
    Append,
    Appended,
    Batch,
    Begin,
    Begun,
    Created,
    End,
    Ended,
    Entry,
    Listed,
    Log,
    Look,
    Outcome,
    Place,
    Position,
    Run,
)
from .conversation import Conversation, Frames, is_same
from .shelf import Shelf
from .users import UserTable


class MemoryLogs:
    """The conversations of one ``MemoryStore``, as its attribute ``logs``."""

    def __init__(self, table: UserTable, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.shelf = Shelf(table, clock)

    # --- histories ---

    async def create(self, place: Place, log: bytes, owner: bytes, about: Any, keep: float | None = None) -> Created:
        there = self.shelf.there(place)
        if not self.shelf.is_proven(place):
            return Created(Outcome.GONE)
        if there is None:
            if place.session is not None and len(self.shelf.owned(owner)) >= MOST_OF_A_SESSION:
                return Created(Outcome.FULL)
            there = Conversation(place, log, owner, about, self._clock(), keep)
            self.shelf.add(there)
        return Created(Outcome.DONE, there.log, there.top)

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        return [self._append(one) for one in appends]

    async def entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, limit: int, *, newest: bool
    ) -> list[Entry] | None:
        conversation = self.shelf.of(log)
        return None if conversation is None else conversation.between(after, before, count, limit, newest)

    async def find(self, log: Log, key: bytes | None, run: bytes | None) -> Entry | None:
        conversation = self.shelf.of(log)
        return None if conversation is None else conversation.find(key, run)

    async def look(self, places: Sequence[Place], count: int, limit: int) -> Look | None:
        for place in places:
            there = self.shelf.there(place)
            if there is not None:
                entries = there.between(None, None, count, limit, newest=True)
                status = there.status(there.last)
                times = there.created_at, there.updated_at
                return Look(Log(place, there.log), there.top, there.about, there.version, *times, entries, status)
        return None

    async def cut(self, log: Log, after: Position | None, before: Position | None) -> Appended:
        conversation = self.shelf.proven(log)
        if conversation is None:
            return Appended(Outcome.GONE)
        if after is not None and conversation.is_running:
            return Appended(Outcome.BUSY, conversation.top)
        self.shelf.count(-conversation.cut(after, before), 0)
        return Appended(Outcome.DONE, conversation.top)

    async def describe(self, log: Log, about: Any, version: int) -> Outcome:
        conversation = self.shelf.proven(log)
        if conversation is None:
            return Outcome.GONE
        if conversation.version != version:
            return Outcome.TAKEN
        conversation.about, conversation.version = about, version + 1
        self.shelf.keep(conversation, None)
        return Outcome.DONE

    async def delete(self, place: Place, log: bytes | None = None, top: Position | None = None) -> bool:
        there = self.shelf.there(place)
        if (
            there is None
            or not self.shelf.is_proven(place)
            or log not in (None, there.log)
            or top not in (None, there.top)
        ):
            return False
        self.shelf.remove(there)
        return True

    async def owned(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        there = sorted(self.shelf.owned(owner), key=Conversation.order, reverse=True)
        return [one.listed() for one in there if before is None or one.order() < before][:count]

    async def page(self, after: bytes | None, count: int) -> tuple[list[Listed], bytes | None]:
        users = [one for one in self.shelf.all() if one.session is None and (after is None or one.id > after)]
        found = heapq.nsmallest(count, users, key=lambda one: one.id)
        there = [one.listed() for one in found if self.shelf.alive(one) is not None]
        return there, found[-1].id if len(users) > count else None

    # --- runs ---

    async def begin(self, begin: Begin) -> Begun:
        conversation, run = self.shelf.proven(begin.run.log), begin.run.run
        if conversation is None:
            return Begun(Outcome.GONE)
        self.shelf.count(0, -conversation.forget())
        status = conversation.status(run)
        if status is not None:
            frames = conversation.runs.get(run)
            is_retry = frames is not None and frames.has(ORIGIN, begin.head)
            return Begun(Outcome.DONE if is_retry else Outcome.SAME, status, conversation.top)
        is_other = begin.instead_of is not None and conversation.last != begin.instead_of
        if conversation.is_running or is_other:
            return Begun(Outcome.BUSY, conversation.status(conversation.last), conversation.top)
        if begin.entry is not None and not conversation.is_next(begin.entry.position):
            return Begun(Outcome.TAKEN, conversation.status(conversation.last), conversation.top)
        conversation.begin(run, Frames(self.shelf.tag_of(conversation), begin.head, begin.seconds, begin.kept))
        if begin.entry is not None:
            self.shelf.enter(conversation, begin.entry)
        self.shelf.keep(conversation, begin.keep)
        return Begun(Outcome.DONE, conversation.status(run), conversation.top)

    async def write(self, batches: Sequence[Batch]) -> list[Outcome]:
        return [self._write(*batch) for batch in batches]

    async def read(self, after: Mapping[Run, Position], limit: int) -> Mapping[Run, list[tuple[Position, Any]] | None]:
        found: dict[Run, list[tuple[Position, Any]] | None] = {}
        for run, position in after.items():
            frames = self._frames_of(run)
            found[run] = None if frames is None else frames.after(position, limit)
        return found

    async def renew(self, runs: Sequence[Run], seconds: float) -> set[Run]:
        ended = set()
        for run in runs:
            frames = self._frames_of(run)
            if frames is None or not frames.is_running:
                ended.add(run)
            else:
                frames.renew(seconds)
        return ended

    async def end(self, end: End) -> Ended:
        conversation = self.shelf.of(end.run.log)
        frames = None if conversation is None else conversation.runs.get(end.run.run)
        if conversation is None or frames is None:
            return Ended(Outcome.GONE)
        if not frames.is_running:
            if frames.are_over():
                return Ended(Outcome.GONE)
            outcome = Outcome.DONE if is_same(frames.terminal, end.value) else Outcome.TAKEN
            return Ended(outcome, conversation.status(end.run.run), conversation.top)
        if end.if_lost and frames.seconds_left() > 0:
            return Ended(Outcome.BUSY, conversation.status(end.run.run), conversation.top)
        is_his = frames.tag == self.shelf.tag_of(conversation)
        if end.entry is not None and is_his and not conversation.is_next(end.entry.position):
            return Ended(Outcome.TAKEN, conversation.status(end.run.run), conversation.top)
        were_over = frames.are_over()
        frames.end(end.value, -1 if were_over else end.lingers)
        if end.entry is not None and is_his:
            self.shelf.enter(conversation, end.entry)
        self.shelf.keep(conversation, end.keep)
        return Ended(Outcome.DONE, conversation.status(end.run.run), conversation.top)

    async def purge(self) -> int:
        there = self.shelf.all()
        alive = [one for one in there if self.shelf.alive(one) is not None]
        self.shelf.count(0, -sum(one.forget() for one in alive))
        return len(there) - len(alive)

    # --- how they work ---

    def _frames_of(self, run: Run) -> Frames | None:
        conversation = self.shelf.of(run.log)
        return None if conversation is None else conversation.kept(run.run)

    def _append(self, append: Append) -> Appended:
        log, entry, keep = append
        conversation = self.shelf.of(log) if entry.run is not None else self.shelf.proven(log)
        if conversation is None:
            return Appended(Outcome.GONE)
        if entry.run is not None:
            if entry.run != conversation.last:
                return Appended(Outcome.SUPERSEDED, conversation.top)
            if conversation.tag != self.shelf.tag_of(conversation):
                return Appended(Outcome.GONE)
        there = conversation.at(entry.position)
        if there is not None and is_same(there.value, entry.value):
            return Appended(Outcome.DONE, conversation.top)
        there = None if entry.key is None else conversation.keys.get(entry.key)
        if there is not None:
            return Appended(Outcome.SAME, conversation.top, there)
        if not conversation.is_next(entry.position):
            return Appended(Outcome.TAKEN, conversation.top)
        self.shelf.enter(conversation, entry)
        self.shelf.keep(conversation, keep)
        return Appended(Outcome.DONE, conversation.top)

    def _write(self, run: Run, position: Position, value: Any, size: int) -> Outcome:
        conversation = self.shelf.of(run.log)
        frames = None if conversation is None else conversation.kept(run.run)
        if conversation is None or frames is None or frames.tag != self.shelf.tag_of(conversation):
            return Outcome.GONE
        if frames.has(position, value):
            return Outcome.DONE
        if not frames.is_running or position <= frames.top or position >= TERMINAL:
            return Outcome.TAKEN
        frames.add(position, value, size)
        self.shelf.use(conversation)
        self.shelf.count(0, size)
        return Outcome.DONE
