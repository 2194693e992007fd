"""The live store behind ``MemoryStore``: a table of records.

Rules of residence: a dict of records, and the two orders kept over it (by use, for eviction; by deadline, for expiry).
No operation walks over all sessions: each does a bounded piece of the work that is due.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..base import AHEAD, AHEAD_TEXT, Change, Record, Renewal
from .record import LiveRecord, Ring, link_newest, records_by_deadline, unlink_deadline, unlink_use

SHARDS = 256  # a dict of a million entries resizes in 17 ms; 1/256 of it in 70 µs
BUCKET_SECONDS = 15  # deadlines are filed this coarsely: a session outlives its deadline unseen, by so much at most
EXPIRE_AT_ONCE = 16  # entries looked at by one operation: more than the one that an operation can add, so it keeps up
PURGE_SLICE = 1000  # entries between two pauses of purge(): about a millisecond
EVICT_LOOK_AT = 64  # records in use that one eviction passes over before it gives up
NEVER = float("inf")
NEVER_CAME_BACK, ANONYMOUS, WITH_USER = range(3)  # the order of eviction

logger = logging.getLogger("fastersession")


class Table:
    """Records by id. ``MemoryStore`` explains the parameters."""

    record_type: type[Record] = LiveRecord

    def __init__(self, max_sessions: int, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.count = 0
        self._max_sessions = max_sessions
        self._shards: tuple[dict[bytes, LiveRecord], ...] = tuple({} for _ in range(SHARDS))
        self._by_use = (Ring(), Ring(), Ring())
        self._buckets: dict[float, Ring] = {}
        self._bucket_order: list[float] = []
        self._due_at = NEVER
        self._warned: set[str] = set()

    def load(self, record_id: bytes) -> Record | None:
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
                record.rank = ANONYMOUS if record.extra.tag is None else WITH_USER
                self._check_ahead(record, now)
            self._use(record)
        return record

    def create(self, record_id: bytes, record: Any) -> bool:
        if record.created_at >= self._due_at:
            self._expire(self.clock(), EXPIRE_AT_ONCE)
        shard = self._shards[record_id[0]]
        if record_id in shard and self.peek(record_id) is not None:
            return False
        if self.count >= self._max_sessions:
            self._make_room()
        self._insert(record_id, record)
        return True

    def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        record = self._proven(record_id, verifier)
        if record is None or not record.admits(change.lease, self.clock()):
            return False
        if change.renewal is not None and not self._renewed(record, verifier, change.renewal):
            return False
        record.merge(change)
        if record.accessed_at > change.accessed_at:
            self._check_ahead(record, change.accessed_at)
        if change.idle_timeout is not None:
            record.idle_timeout = change.idle_timeout
            self._refile(record)
        return True

    def swap(
        self, record: Any, verifier: bytes, base: Mapping[str, Any], content: Mapping[str, Any], now: float
    ) -> bool:
        """Publish new attributes. ``False`` also when no request runs that keeps the record from idling out."""
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
        record = self._proven(record_id, verifier)
        if record is None:
            return False
        record.accessed_at = max(record.accessed_at, accessed_at)
        return True

    def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        record, now = self._proven(record_id, verifier), self.clock()
        if record is None or not record.leasable(owner, now):
            return False
        record.lease = owner, now + seconds
        return True

    def unlock(self, record_id: bytes, owner: bytes) -> bool:
        record = self.peek(record_id)
        if record is None or record.lease is None or record.lease[0] != owner or self.clock() >= record.lease[1]:
            return False
        record.lease = None
        return True

    def delete(self, record_id: bytes, reason: str = "invalidated") -> bool:
        record = self.peek(record_id)
        if record is None:
            return False
        self._remove(record, reason)
        return True

    def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        record = self.peek(record_id)
        if record is None or record.verifier != verifier or not record.admits(change.lease, self.clock()):
            return False
        record.verifier_before, record.verifier = verifier, new_verifier
        record.regenerated_at = change.accessed_at
        record.not_after = not_after
        record.idle_timeout = record.idle_timeout if change.idle_timeout is None else change.idle_timeout
        record.merge(change)
        self._refile(record)
        return True

    def purge(self, now: float) -> Iterator[int]:
        """Remove what has expired by ``now``, in slices. Yield how many each has removed."""
        while now >= self._due_at:
            yield self._expire(now, PURGE_SLICE)
        number = now // BUCKET_SECONDS  # has come only partly; in the next is what was in use when it was due
        buckets = [self._buckets[near] for near in (number, number + 1) if near in self._buckets]
        records = [record for bucket in buckets for record in records_by_deadline(bucket)]
        for start in range(0, len(records), PURGE_SLICE):
            yield sum(self._remove_expired(record, now) for record in records[start : start + PURGE_SLICE])

    def _remove_expired(self, record: LiveRecord, now: float) -> bool:
        there = self._shards[record.record_id[0]].get(record.record_id) is record
        if there and record.expired(now):
            self._remove(record)
            return True
        return False

    def peek(self, record_id: bytes) -> LiveRecord | None:
        """Return a record, which does not count as a use of it; ``None`` if it is absent."""
        record = self._shards[record_id[0]].get(record_id)
        if record is not None and record.expired(self.clock()):
            self._remove(record)
            return None
        return record

    def _proven(self, record_id: bytes, verifier: bytes) -> LiveRecord | None:
        """Find a record by its verifier or the one before."""
        record = self._shards[record_id[0]].get(record_id)
        if record is None or verifier not in (record.verifier, record.verifier_before):
            return None
        if record.expired(self.clock()):
            self._remove(record)
            return None
        return record

    def _renewed(self, record: LiveRecord, verifier: bytes, renewal: Renewal) -> bool:
        if record.verifier != verifier:
            return False
        record.not_after = renewal.not_after
        if renewal.identity is not None:
            record.extra = record.extra._replace(identity=renewal.identity)
        self._refile(record)
        return True

    def _insert(self, record_id: bytes, record: LiveRecord) -> None:
        """Take a record in. What costs a new session most: ``deadline``, in place."""
        record.record_id = record_id
        record.rank = NEVER_CAME_BACK
        record.before = record.after = record.lease = None
        self._shards[record_id[0]][record_id] = record
        self.count += 1
        ring = self._by_use[NEVER_CAME_BACK]
        last = ring.older
        last.newer = ring.older = record
        record.older, record.newer = last, ring
        idles_out, not_after = record.accessed_at + record.idle_timeout, record.not_after
        self._file(record, idles_out if idles_out < not_after else not_after)

    def _remove(self, record: LiveRecord, reason: str = "expired") -> None:
        """Remove a record, and say to nobody why: whoever tells it overrides this."""
        self._drop(record)

    def _drop(self, record: LiveRecord) -> None:
        del self._shards[record.record_id[0]][record.record_id]
        self.count -= 1
        unlink_use(record)
        unlink_deadline(record)
        del record.newer, record.older  # a request that still holds the record must not hold its neighbours too
        record.verifier, record.verifier_before = b"", None  # nobody's: it can prove nothing any more

    def _use(self, record: LiveRecord) -> None:
        unlink_use(record)
        link_newest(record, self._by_use[record.rank])

    def _make_room(self) -> None:
        for _ in range(2):  # one more than is added, so that a bound once exceeded is reached again
            if self.count >= self._max_sessions:
                self._evict_one()

    def _evict_one(self) -> None:
        for ring in self._by_use:
            first = ring.newer
            for _ in range(EVICT_LOOK_AT):
                record = ring.newer
                if not isinstance(record, LiveRecord):
                    break
                if not (record.requests or record.sockets):
                    self._remove(record, "evicted")
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

    def _check_ahead(self, record: LiveRecord, now: float) -> None:
        """Warn of a clock that was set back. Not at each load: where a record is looked at for something rarer."""
        if record.accessed_at - now > AHEAD and "ahead" not in self._warned:
            self._warned.add("ahead")
            logger.warning(AHEAD_TEXT, extra={"event": "clock.ahead", "session_id": record.record_id.hex()})

    def _file(self, record: LiveRecord, deadline: float) -> None:
        if deadline == NEVER:
            return
        number = deadline // BUCKET_SECONDS
        if number in self._buckets:
            bucket = self._buckets[number]
        else:
            bucket = self._buckets[number] = Ring()
            heapq.heappush(self._bucket_order, number)
            self._due_at = (self._bucket_order[0] + 1) * BUCKET_SECONDS
        last = bucket.before
        last.after = bucket.before = record
        record.before, record.after = last, bucket

    def _refile(self, record: LiveRecord) -> None:
        unlink_deadline(record)
        self._file(record, record.deadline())

    def _expire(self, now: float, limit: int) -> int:
        """Look at up to ``limit`` records whose filed deadline has passed: remove them, or file them anew."""
        before = self.count
        while limit and now >= self._due_at:
            bucket = self._buckets[self._bucket_order[0]]
            record = bucket.after
            if not isinstance(record, LiveRecord):
                del self._buckets[heapq.heappop(self._bucket_order)]
                self._due_at = (self._bucket_order[0] + 1) * BUCKET_SECONDS if self._bucket_order else NEVER
            elif record.expired(now):
                self._remove(record)
            else:
                unlink_deadline(record)
                self._file(record, max(record.deadline(), now + BUCKET_SECONDS))
            limit -= 1
        return before - self.count
