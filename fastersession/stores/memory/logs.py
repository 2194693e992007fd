"""Conversations in this process: live objects, beside the table of sessions.

Rules of residence: the verbs of ``LogStore`` over one dict. No verb suspends, so each is one step. What a conversation
is by itself is ``conversation``'s; which there are, for how long, and how many, stands here.
"""

from __future__ import annotations

import logging
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
from .record import LiveRecord
from .users import UserTable

MOST_ENTRIES = 1_000_000  # in all; an entry is an object of the application's, mostly small
MOST_FRAME_BYTES = 256 * 2**20  # in all
LOOK_AT = 64  # conversations that one eviction passes over because they run

logger = logging.getLogger("fastersession")


class MemoryLogs:
    """The conversations of one ``MemoryStore``. Above a bound the least recently used goes, never one that runs."""

    def __init__(self, table: UserTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock
        self._all: dict[bytes, Conversation] = {}  # by id, the least recently used first
        self._owned: dict[bytes, dict[bytes, Conversation]] = {}
        self._entries = self._frame_bytes = 0
        self._warned = False
        table.watch(self.told)

    def told(self, record: LiveRecord, reason: str, is_over: bool) -> None:
        """Remove the conversations of a session that has ended."""
        if is_over and record.record_id in self._owned:
            for conversation in list(self._owned[record.record_id].values()):
                if conversation.session is not None:
                    self._remove(conversation)

    # --- histories ---

    async def create(self, place: Place, log: bytes, owner: bytes, about: Any, keep: float | None = None) -> Created:
        there = self._there(place)
        if not self._is_proven(place):
            return Created(Outcome.GONE)
        if there is None:
            if place.session is not None and len(self._owned.get(owner, ())) >= MOST_OF_A_SESSION:
                return Created(Outcome.FULL)
            there = Conversation(place, log, owner, about, self._clock(), keep)
            self._all[place.conversation] = self._owned.setdefault(owner, {})[place.conversation] = there
        return Created(Outcome.DONE, there.log, there.top)

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        return [self._append(one) for one in appends]

    async def entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, limit: int, *, newest: bool
    ) -> list[Entry] | None:
        conversation = self._of(log)
        return None if conversation is None else conversation.between(after, before, count, limit, newest)

    async def find(self, log: Log, key: bytes | None, run: bytes | None) -> Entry | None:
        conversation = self._of(log)
        return None if conversation is None else conversation.find(key, run)

    async def look(self, places: Sequence[Place], count: int, limit: int) -> Look | None:
        for place in places:
            there = self._there(place)
            if there is not None:
                entries = there.between(None, None, count, limit, newest=True)
                status = there.status(there.last)
                times = there.created_at, there.updated_at
                return Look(Log(place, there.log), there.top, there.about, there.version, *times, entries, status)
        return None

    async def cut(self, log: Log, after: Position | None, before: Position | None) -> Appended:
        conversation = self._proven(log)
        if conversation is None:
            return Appended(Outcome.GONE)
        if after is not None and conversation.is_running:
            return Appended(Outcome.BUSY, conversation.top)
        self._entries -= conversation.cut(after, before)
        return Appended(Outcome.DONE, conversation.top)

    async def describe(self, log: Log, about: Any, version: int) -> Outcome:
        conversation = self._proven(log)
        if conversation is None:
            return Outcome.GONE
        if conversation.version != version:
            return Outcome.TAKEN
        conversation.about, conversation.version = about, version + 1
        self._use(conversation, None)
        return Outcome.DONE

    async def delete(self, place: Place, log: bytes | None = None, top: Position | None = None) -> bool:
        there = self._there(place)
        if there is None or not self._is_proven(place) or log not in (None, there.log) or top not in (None, there.top):
            return False
        self._remove(there)
        return True

    async def owned(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        there = [one for one in map(self._alive, list(self._owned.get(owner, {}).values())) if one is not None]
        there.sort(key=Conversation.order, reverse=True)
        return [one.listed() for one in there if before is None or one.order() < before][:count]

    async def page(self, after: bytes | None, count: int) -> tuple[list[Listed], bytes | None]:
        ids = sorted(cid for cid, one in self._all.items() if one.session is None and (after is None or cid > after))
        there = [one for one in (self._alive(self._all[cid]) for cid in ids[:count]) if one is not None]
        return [one.listed() for one in there], ids[count - 1] if len(ids) > count else None

    # --- runs ---

    async def begin(self, begin: Begin) -> Begun:
        conversation, run = self._proven(begin.run.log), begin.run.run
        if conversation is None:
            return Begun(Outcome.GONE)
        self._frame_bytes -= conversation.forget()
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
        conversation.begin(run, Frames(self._tag_of(conversation), begin.head, begin.seconds, begin.kept))
        if begin.entry is not None:
            self._enter(conversation, begin.entry)
        self._use(conversation, begin.keep)
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
        conversation = self._of(end.run.log)
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
        is_his = frames.tag == self._tag_of(conversation)
        if end.entry is not None and is_his and not conversation.is_next(end.entry.position):
            return Ended(Outcome.TAKEN, conversation.status(end.run.run), conversation.top)
        were_over = frames.are_over()
        frames.end(end.value, -1 if were_over else end.lingers)
        if end.entry is not None and is_his:
            self._enter(conversation, end.entry)
        self._use(conversation, end.keep)
        return Ended(Outcome.DONE, conversation.status(end.run.run), conversation.top)

    async def purge(self) -> int:
        before = len(self._all)
        for conversation in list(self._all.values()):
            if self._alive(conversation) is not None:
                self._frame_bytes -= conversation.forget()
        return before - len(self._all)

    # --- how they work ---

    def _there(self, place: Place) -> Conversation | None:
        there = self._all.get(place.conversation)
        return None if there is None or there.session != place.session else self._alive(there)

    def _alive(self, conversation: Conversation) -> Conversation | None:
        """Return a conversation unless it is over, or its session is."""
        if conversation.session is not None:
            self._table.peek(conversation.session)  # which tells of it, if it is over
        elif conversation.expires is not None and self._clock() >= conversation.expires:
            self._remove(conversation)
        return conversation if self._all.get(conversation.id) is conversation else None

    def _of(self, log: Log) -> Conversation | None:
        there = self._there(log.place)
        return there if there is not None and there.log == log.log else None

    def _proven(self, log: Log) -> Conversation | None:
        return self._of(log) if self._is_proven(log.place) else None

    def _is_proven(self, place: Place) -> bool:
        if place.session is None:
            return True
        record = self._table.peek(place.session)
        return record is not None and place.verifier in (record.verifier, record.verifier_before)

    def _frames_of(self, run: Run) -> Frames | None:
        conversation = self._of(run.log)
        return None if conversation is None else conversation.kept(run.run)

    def _tag_of(self, conversation: Conversation) -> bytes | None:
        record = None if conversation.session is None else self._table.peek(conversation.session)
        return None if record is None else record.extra.tag

    def _append(self, append: Append) -> Appended:
        log, entry, keep = append
        conversation = self._of(log) if entry.run is not None else self._proven(log)
        if conversation is None:
            return Appended(Outcome.GONE)
        if entry.run is not None:
            frames = conversation.runs.get(entry.run)
            if entry.run != conversation.last:
                return Appended(Outcome.SUPERSEDED, conversation.top)
            if frames is not None and frames.tag != self._tag_of(conversation):
                return Appended(Outcome.GONE)
        there = conversation.at(entry.position)
        if there is not None and is_same(there.value, entry.value):
            return Appended(Outcome.DONE, conversation.top)
        there = None if entry.key is None else conversation.keys.get(entry.key)
        if there is not None:
            return Appended(Outcome.SAME, conversation.top, there)
        if not conversation.is_next(entry.position):
            return Appended(Outcome.TAKEN, conversation.top)
        self._enter(conversation, entry)
        self._use(conversation, keep)
        return Appended(Outcome.DONE, conversation.top)

    def _write(self, run: Run, position: Position, value: Any, size: int) -> Outcome:
        conversation = self._of(run.log)
        frames = None if conversation is None else conversation.kept(run.run)
        if conversation is None or frames is None or frames.tag != self._tag_of(conversation):
            return Outcome.GONE
        if frames.has(position, value):
            return Outcome.DONE
        if not frames.is_running or position <= frames.top or position >= TERMINAL:
            return Outcome.TAKEN
        frames.add(position, value, size)
        self._frame_bytes += size
        if self._frame_bytes > MOST_FRAME_BYTES:
            self._make_room()
        return Outcome.DONE

    def _enter(self, conversation: Conversation, entry: Entry) -> None:
        conversation.enter(entry)
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            self._make_room()

    def _use(self, conversation: Conversation, keep: float | None) -> None:
        now = self._clock()
        conversation.updated_at = max(conversation.updated_at, now)
        conversation.expires = conversation.expires if keep is None else now + keep
        self._all[conversation.id] = self._all.pop(conversation.id)

    def _remove(self, conversation: Conversation) -> None:
        del self._all[conversation.id]
        owned = self._owned[conversation.owner]
        del owned[conversation.id]
        if not owned:
            del self._owned[conversation.owner]
        self._entries -= len(conversation.entries)
        self._frame_bytes -= conversation.frame_bytes()

    def _make_room(self) -> None:
        for conversation in list(self._all.values())[:LOOK_AT]:
            if self._entries <= MOST_ENTRIES and self._frame_bytes <= MOST_FRAME_BYTES:
                return
            if conversation.is_running:
                self._all[conversation.id] = self._all.pop(conversation.id)
            else:
                self._remove(conversation)
                self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "MemoryStore: more than %d entries or %d bytes of frames of conversations; those least recently used "
                "are removed: keep them in another store",
                MOST_ENTRIES, MOST_FRAME_BYTES, extra={"event": "store.full", "session_id": None},
            )  # fmt: skip
