"""The table of live records behind ``MemoryStore``, with its verbs as plain functions.

Rules of residence: a dict of records, and the two orders kept over it (by use, for eviction; by deadline, for expiry).
No operation walks over all sessions: each does a bounded piece of the work that is due.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..base import AHEAD, AHEAD_TEXT, Change, Record

__all__ = ["Table"]

SHARDS = 256  # a dict of a million entries resizes in 17 ms; 1/256 of it in 70 µs
BUCKET_SECONDS = 15  # deadlines are filed this coarsely: a session outlives its deadline unseen, by so much at most
EXPIRE_AT_ONCE = 16  # entries looked at by one operation: more than the one that an operation can add, so it keeps up
PURGE_SLICE = 1000  # entries between two pauses of purge(): about a millisecond
EVICT_LOOK_AT = 64  # records in use that one eviction passes over before it gives up
NEVER = float("inf")
NEVER_CAME_BACK, ANONYMOUS, WITH_USER = range(3)  # the order of eviction

logger = logging.getLogger("fastersession")


class _Ring:
    """The head of a ring of records: by use (newer, older) or by deadline (after, before)."""

    __slots__ = ("after", "before", "newer", "older")

    def __init__(self) -> None:
        self.after: _Node = self
        self.before: _Node = self
        self.newer: _Node = self
        self.older: _Node = self


class _LiveRecord(Record):
    __slots__ = ("after", "before", "lease", "newer", "older", "rank", "record_id")

    after: _Node | None
    before: _Node | None
    lease: tuple[bytes, float] | None  # owner, end
    newer: _Node
    older: _Node
    rank: int
    record_id: bytes

    def deadline(self) -> float:
        return min(self.accessed_at + self.idle_timeout, self.not_after)

    def expired(self, now: float) -> bool:
        """Tell if the record is absent by now. A running request keeps it from idling out, an open socket does not."""
        return now >= self.not_after or (now >= self.accessed_at + self.idle_timeout and not self.requests)

    def leasable(self, owner: bytes, now: float) -> bool:
        """Tell if the lease is free, over, or the owner's own."""
        return self.lease is None or self.lease[0] == owner or now >= self.lease[1]

    def admits(self, change: Change, now: float) -> bool:
        """Tell if a save may be made: always, but under a lease that is another's by now."""
        return change.lease is None or (
            self.lease is not None and self.lease[0] == change.lease and now < self.lease[1]
        )

    def merge(self, change: Change) -> None:
        """Publish new attributes; the mapping that requests hold stays as it is."""
        accessed_at, sets, deletes, _, _ = change
        merged = {**self.attributes, **sets}
        for name in deletes:
            merged.pop(name, None)
        self.attributes = merged
        self.version += 1
        if accessed_at > self.accessed_at:
            self.accessed_at = accessed_at


_Node = _Ring | _LiveRecord


class Table:
    """Records by id. See ``MemoryStore`` for the parameters."""

    def __init__(self, max_sessions: int, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.count = 0
        self._max_sessions = max_sessions
        self._shards: tuple[dict[bytes, _LiveRecord], ...] = tuple({} for _ in range(SHARDS))
        self._by_use = (_Ring(), _Ring(), _Ring())
        self._buckets: dict[float, _Ring] = {}
        self._bucket_order: list[float] = []
        self._due_at = NEVER
        self._warned: set[str] = set()

    def load(self, record_id: bytes) -> Record | None:
        """See :meth:`Store.load`."""
        clock = self.clock
        now = clock()
        if now >= self._due_at:
            self._expire(now, EXPIRE_AT_ONCE)
        try:
            record = self._shards[record_id[0]][record_id]
        except KeyError:
            return None
        if (now >= record.accessed_at + record.idle_timeout or now >= record.not_after) and record.expired(now):
            self._remove(record)
            return None
        if record.newer is not self._by_use[record.rank] or record.rank == NEVER_CAME_BACK:
            if record.rank == NEVER_CAME_BACK:
                record.rank = ANONYMOUS if record.user is None else WITH_USER
                self._check_ahead(record, now)
            self._use(record)
        return record

    def create(
        self,
        record_id: bytes,
        verifier: bytes,
        created_at: float,
        idle_timeout: float,
        not_after: float,
        attributes: Mapping[str, Any],
        user: str | None = None,
    ) -> Record | None:
        """See :meth:`Store.create`."""
        if created_at >= self._due_at:
            self._expire(self.clock(), EXPIRE_AT_ONCE)
        shard = self._shards[record_id[0]]
        if record_id in shard and self._find(record_id) is not None:
            return None
        if self.count >= self._max_sessions:
            self._make_room()
        record = _LiveRecord(verifier, created_at, idle_timeout, not_after, attributes, user)
        record.record_id = record_id
        record.rank = NEVER_CAME_BACK
        record.before = record.after = record.lease = None
        shard[record_id] = record
        self.count += 1
        ring = self._by_use[NEVER_CAME_BACK]
        last = ring.older
        last.newer = ring.older = record
        record.older, record.newer = last, ring
        deadline = created_at + idle_timeout
        self._file(record, deadline if deadline < not_after else not_after)
        return record

    def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """See :meth:`Store.update`."""
        record = self._proven(record_id, verifier)
        if record is None or not record.admits(change, self.clock()):
            return False
        record.merge(change)
        if record.accessed_at > change.accessed_at:
            self._check_ahead(record, change.accessed_at)
        if change.idle_timeout is not None:
            record.idle_timeout = change.idle_timeout
            self._refile(record)
        return True

    def swap(
        self, record: _LiveRecord, verifier: bytes, base: Mapping[str, Any], content: Mapping[str, Any], now: float
    ) -> bool:
        """Publish ``content`` if the record is alive, its own, and its attributes are still the very ``base``.

        ``False`` also where ``update`` must look: when no request runs that keeps the record from idling out.
        """
        if record.attributes is not base or record.verifier is not verifier:
            return False
        if now >= record.not_after or not record.requests:
            return False
        record.attributes = content
        record.version += 1
        if now > record.accessed_at:
            record.accessed_at = now
        else:
            self._check_ahead(record, now)
        return True

    def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        """See :meth:`Store.touch`."""
        record = self._proven(record_id, verifier)
        if record is None:
            return False
        record.accessed_at = max(record.accessed_at, accessed_at)
        return True

    def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        """See :meth:`Store.lock`."""
        record, now = self._proven(record_id, verifier), self.clock()
        if record is None or not record.leasable(owner, now):
            return False
        record.lease = owner, now + seconds
        return True

    def unlock(self, record_id: bytes, owner: bytes) -> bool:
        """See :meth:`Store.unlock`."""
        record = self._find(record_id)
        if record is None or record.lease is None or record.lease[0] != owner or self.clock() >= record.lease[1]:
            return False
        record.lease = None
        return True

    def delete(self, record_id: bytes) -> bool:
        """See :meth:`Store.delete`."""
        record = self._find(record_id)
        if record is None:
            return False
        self._remove(record)
        return True

    def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """See :meth:`Store.regenerate`."""
        record = self._find(record_id)
        if record is None or record.verifier != verifier or not record.admits(change, self.clock()):
            return False
        record.verifier_before, record.verifier = verifier, new_verifier
        record.regenerated_at = change.accessed_at
        record.not_after = not_after
        record.idle_timeout = record.idle_timeout if change.idle_timeout is None else change.idle_timeout
        record.merge(change)
        self._refile(record)
        return True

    def purge(self, now: float) -> Iterator[int]:
        """Remove what has expired by ``now``, in slices; yield how many each has removed."""
        while now >= self._due_at:
            yield self._expire(now, PURGE_SLICE)
        number = now // BUCKET_SECONDS  # has come only partly; in the next is what was in use when it was due
        buckets = [self._buckets[near] for near in (number, number + 1) if near in self._buckets]
        records = [record for bucket in buckets for record in _records(bucket)]
        for start in range(0, len(records), PURGE_SLICE):
            yield sum(self._remove_expired(record, now) for record in records[start : start + PURGE_SLICE])

    def _remove_expired(self, record: _LiveRecord, now: float) -> bool:
        there = self._shards[record.record_id[0]].get(record.record_id) is record
        if there and record.expired(now):
            self._remove(record)
            return True
        return False

    def _find(self, record_id: bytes) -> _LiveRecord | None:
        record = self._shards[record_id[0]].get(record_id)
        if record is not None and record.expired(self.clock()):
            self._remove(record)
            return None
        return record

    def _proven(self, record_id: bytes, verifier: bytes) -> _LiveRecord | None:
        """Find a record by its verifier or the one before."""
        record = self._shards[record_id[0]].get(record_id)
        if record is None or verifier not in (record.verifier, record.verifier_before):
            return None
        if record.expired(self.clock()):
            self._remove(record)
            return None
        return record

    def _remove(self, record: _LiveRecord) -> None:
        del self._shards[record.record_id[0]][record.record_id]
        self.count -= 1
        _unlink_use(record)
        _unlink_deadline(record)
        del record.newer, record.older  # a request that still holds the record must not hold its neighbours too
        record.verifier, record.verifier_before = b"", None  # nobody's: it can prove nothing any more

    def _use(self, record: _LiveRecord) -> None:
        _unlink_use(record)
        _link_newest(record, self._by_use[record.rank])

    def _make_room(self) -> None:
        for _ in range(2):  # one more than is added, so that a bound once exceeded is reached again
            if self.count >= self._max_sessions:
                self._evict_one()

    def _evict_one(self) -> None:
        for ring in self._by_use:
            first = ring.newer
            for _ in range(EVICT_LOOK_AT):
                record = ring.newer
                if not isinstance(record, _LiveRecord):
                    break
                if not (record.requests or record.sockets):
                    self._remove(record)
                    return
                self._use(record)  # in use, so it is not the least recently used
                if ring.newer is first:
                    break  # all of this ring are in use
            else:
                return  # looked at enough for one operation; the next goes on from here
        self._warn_full()

    def _warn_full(self) -> None:
        if "full" not in self._warned:
            self._warned.add("full")
            logger.warning(
                "MemoryStore: all of %d sessions are in use by running requests, so the bound is exceeded; "
                "raise max_sessions",
                self._max_sessions,
                extra={"event": "store.full", "session_id": None},
            )

    def _check_ahead(self, record: _LiveRecord, now: float) -> None:
        """Warn of a clock that was set back. Not at each load: where a record is looked at for something rarer."""
        if record.accessed_at - now > AHEAD and "ahead" not in self._warned:
            self._warned.add("ahead")
            logger.warning(AHEAD_TEXT, extra={"event": "clock.ahead", "session_id": record.record_id.hex()})

    def _file(self, record: _LiveRecord, deadline: float) -> None:
        if deadline == NEVER:
            return
        number = deadline // BUCKET_SECONDS
        if number in self._buckets:
            bucket = self._buckets[number]
        else:
            bucket = self._buckets[number] = _Ring()
            heapq.heappush(self._bucket_order, number)
            self._due_at = (self._bucket_order[0] + 1) * BUCKET_SECONDS
        last = bucket.before
        last.after = bucket.before = record
        record.before, record.after = last, bucket

    def _refile(self, record: _LiveRecord) -> None:
        _unlink_deadline(record)
        self._file(record, record.deadline())

    def _expire(self, now: float, limit: int) -> int:
        """Look at up to ``limit`` records whose filed deadline has passed: remove them, or file them anew."""
        before = self.count
        while limit and now >= self._due_at:
            bucket = self._buckets[self._bucket_order[0]]
            record = bucket.after
            if not isinstance(record, _LiveRecord):
                del self._buckets[heapq.heappop(self._bucket_order)]
                self._due_at = (self._bucket_order[0] + 1) * BUCKET_SECONDS if self._bucket_order else NEVER
            elif record.expired(now):
                self._remove(record)
            else:
                _unlink_deadline(record)
                self._file(record, max(record.deadline(), now + BUCKET_SECONDS))
            limit -= 1
        return before - self.count


def _records(ring: _Ring) -> Iterator[_LiveRecord]:
    node: _Node | None = ring.after
    while isinstance(node, _LiveRecord):
        yield node
        node = node.after


def _unlink_use(record: _LiveRecord) -> None:
    older, newer = record.older, record.newer
    older.newer, newer.older = newer, older


def _link_newest(record: _LiveRecord, ring: _Ring) -> None:
    last = ring.older
    last.newer = ring.older = record
    record.older, record.newer = last, ring


def _unlink_deadline(record: _LiveRecord) -> None:
    before, after = record.before, record.after
    if before is not None and after is not None:
        before.after, after.before = after, before
        record.before = record.after = None
