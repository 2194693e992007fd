"""The sessions of users in memory: the index, the marks, and who is told of what has ended.

Rules of residence: the verbs of ``LiveUserStore`` over ``Table``. No verb suspends, so each is one step.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..base import Record
from ..users import FOUND, MARK_SECONDS, MOST_ENTRIES, Login, LoginOutcome, Outcome
from .record import LiveRecord
from .table import WITH_USER, Table

Watcher = Callable[[LiveRecord, str, bool], None]
SHARED = ("accessed_at", "extra", "idle_timeout", "not_after", "verifier")  # by a login


class UserTable(Table):
    """A table that knows whose its records are."""

    def __init__(self, max_sessions: int, clock: Callable[[], float]) -> None:
        super().__init__(max_sessions, clock)
        self._index: dict[bytes, dict[bytes, LiveRecord]] = {}  # by tag, then by id
        self._marks: dict[bytes, tuple[float, bytes | None]] = {}  # by tag, the oldest first: when, and who is spared
        self._retired: set[bytes] = set()  # ids of records that will have ended as replaced
        self._watchers: list[Callable[[], Watcher | None]] = []

    def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        record = self.peek(record_id)
        if verifier is None:
            is_free = record is None
        else:
            is_own = record is not None and record.verifier == verifier
            is_free = record is not None and is_own and record.admits(login.lease, self.clock())
        if not is_free:
            return LoginOutcome(Outcome.ABSENT)
        if self._is_revoked(record_id, login):
            return LoginOutcome(Outcome.REVOKED)
        evicted = self._room_for(record_id, login)
        if evicted is None:
            return LoginOutcome(Outcome.FULL)
        self._enter(record_id, record, login)
        return LoginOutcome(Outcome.DONE, evicted)

    def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool:
        record = self.peek(record_id)
        if record is None or record.verifier != verifier:
            return False
        self._leave(record)
        record.verifier, record.verifier_before = b"", None
        record.extra = record.extra._replace(tag=None)
        record.regenerated_at, record.not_after = self.clock(), min(until, record.not_after)
        self._refile(record)
        self._tell(record, "replaced", is_over=False)
        self._retired.add(record_id)
        return True

    def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        found = [record for tag in tags for record in self._alive(tag)]
        found.sort(key=lambda record: record.accessed_at, reverse=True)
        return [(record.record_id, record) for record in found[:FOUND]]

    def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]:
        for tag in tags:
            before = self._marks.pop(tag, (at, None))[0]
            self._marks[tag] = max(before, at), keep
        while self._marks and next(iter(self._marks.values()))[0] < at - MARK_SECONDS:
            del self._marks[next(iter(self._marks))]
        ending = [record for tag in tags for record in self._alive(tag) if record.record_id != keep]
        for record in ending:
            self._remove(record, "revoked")
        return [record.record_id for record in ending]

    def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        absent = {record_id: "" for record_id in record_ids if self.peek(record_id) is None}
        return absent | {record_id: "replaced" for record_id in record_ids if record_id in self._retired}

    def give(self, record_id: bytes, verifier: bytes, entries: Mapping[str, Any]) -> bool:
        record = self._proven(record_id, verifier)
        if record is None:
            return False
        kept = sorted({**(record.extra.entries or {}), **entries}.items())
        record.extra = record.extra._replace(entries=dict(kept[-MOST_ENTRIES:]))
        return True

    def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        record = self._proven(record_id, verifier)
        entries = {} if record is None else record.extra.entries or {}
        taken = {name: value for name, value in entries.items() if name.startswith(prefix)}
        if record is not None and taken:
            left = {name: value for name, value in entries.items() if name not in taken}
            record.extra = record.extra._replace(entries=left or None)
        return taken

    def take_attributes(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        """Remove and return attributes: for a subclass of ``MemoryStore`` whose verbs are coroutines."""
        record = self._proven(record_id, verifier)
        taken = {} if record is None else {n: v for n, v in record.attributes.items() if n.startswith(prefix)}
        if record is not None and taken:
            record.attributes = {name: value for name, value in record.attributes.items() if name not in taken}
            record.version += 1
        return taken

    def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        found: list[tuple[bytes, Record]] = []
        for shard in range(0 if after is None else after[0], len(self._shards)):
            if len(found) >= count:
                return found, bytes((shard,))
            found += [(key, record) for key in list(self._shards[shard]) if (record := self.peek(key)) is not None]
        return found, None

    def watch(self, watcher: Watcher) -> None:
        self._watchers = [known for known in self._watchers if known() is not None]
        self._watchers.append(weakref.WeakMethod(watcher))

    # --- how they work ---

    def _is_revoked(self, record_id: bytes, login: Login) -> bool:
        for at, spared in map(self._marks.get, login.tags, [(float("-inf"), None)] * len(login.tags)):
            late = login.authenticated_at <= at if login.strictly else login.authenticated_at < at
            if late and spared != record_id:
                return True
        return False

    def _room_for(self, record_id: bytes, login: Login) -> tuple[bytes, ...] | None:
        """Evict what is above the limit, and return the ids; ``None`` if nothing may be."""
        if login.limit is None or any(record_id in self._index.get(tag, {}) for tag in login.tags):
            return ()
        others = [record for tag in login.tags for record in self._alive(tag) if record.record_id != record_id]
        others.sort(key=lambda record: record.accessed_at)
        surplus = others[: max(len(others) + 1 - login.limit, 0)]
        if surplus and not login.evicts:
            return None
        for record in surplus:
            self._remove(record, "evicted")
        return tuple(record.record_id for record in surplus)

    def _enter(self, record_id: bytes, old: LiveRecord | None, login: Login) -> None:
        given: Any = login.record
        if old is None:
            self.create(record_id, given)
            record: LiveRecord = given
        elif login.keep is None:
            record = old
            self._leave(old)
            record.verifier_before, entries = old.verifier, old.extra.entries
            self._take_over(record, login, old.attributes)
            record.extra = record.extra._replace(entries=entries)
            self._refile(record)
        else:
            record = given
            record.created_at, record.version, lease = old.created_at, old.version, old.lease
            self._take_over(record, login, {n: old.attributes[n] for n in login.keep if n in old.attributes})
            self._drop(old)
            self._insert(record_id, record)
            record.lease = lease
        record.rank = WITH_USER
        self._use(record)
        tag = record.extra.tag
        if tag is not None:
            self._index.setdefault(tag, {})[record_id] = record

    def _take_over(self, record: LiveRecord, login: Login, kept: Mapping[str, Any]) -> None:
        """Make a record what the login says."""
        for name in SHARED:
            setattr(record, name, getattr(login.record, name))
        attributes = {**kept, **login.record.attributes}
        for name in login.deletes:
            attributes.pop(name, None)
        record.attributes, record.regenerated_at = attributes, login.record.accessed_at
        record.version += 1

    def _alive(self, tag: bytes | None) -> list[LiveRecord]:
        members = [] if tag is None else list(self._index.get(tag, {}))
        return [record for record in map(self.peek, members) if record is not None]

    def _leave(self, record: LiveRecord) -> None:
        """Take a record out of the index."""
        tag = record.extra.tag
        if tag is not None and (members := self._index.get(tag, {})).get(record.record_id) is record:
            del members[record.record_id]
            if not members:
                del self._index[tag]

    def _remove(self, record: LiveRecord, reason: str = "expired") -> None:
        self._leave(record)
        super()._remove(record, reason)
        if record.record_id in self._retired:
            self._retired.remove(record.record_id)
            reason = "replaced"
        self._tell(record, reason, is_over=True)

    def _tell(self, record: LiveRecord, reason: str, *, is_over: bool) -> None:
        for known in self._watchers:
            watcher = known()
            if watcher is not None:
                watcher(record, reason, is_over)
