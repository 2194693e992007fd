"""The record of a live session, and the rings that it is a link of: one by use, one by deadline.

Rules of residence: one record and its neighbours. Which rings there are, and when to walk them, is the table's.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..base import Change, Record


class Ring:
    """The head of a ring of records: by use (newer, older) or by deadline (after, before)."""

    __slots__ = ("after", "before", "newer", "older")

    after: Node
    before: Node
    newer: Node
    older: Node

    def __init__(self) -> None:
        self.after = self.before = self.newer = self.older = self


class LiveRecord(Record):
    """One session in this process. The table sets what is declared here when it takes the record in."""

    __slots__ = ("after", "before", "lease", "newer", "older", "rank", "record_id")

    after: Node | None
    before: Node | None
    lease: tuple[bytes, float] | None  # owner, end
    newer: Node
    older: Node
    rank: int
    record_id: bytes

    def deadline(self) -> float:
        """Return when the record idles out or ends, whichever comes first."""
        return min(self.accessed_at + self.idle_timeout, self.not_after)

    def expired(self, now: float) -> bool:
        """Return whether the record is absent by now. A running request keeps it from idling out, a socket does not."""
        return now >= self.not_after or (now >= self.accessed_at + self.idle_timeout and not self.requests)

    def leasable(self, owner: bytes, now: float) -> bool:
        """Return whether the lease is free, over, or the owner's own."""
        return self.lease is None or self.lease[0] == owner or now >= self.lease[1]

    def admits(self, lease: bytes | None, now: float) -> bool:
        """Return whether a save may be made: always, but under a lease that is another's by now."""
        return lease is None or (self.lease is not None and self.lease[0] == lease and now < self.lease[1])

    def merge(self, change: Change) -> None:
        """Publish new attributes. The mapping that requests hold stays as it is."""
        accessed_at, sets, deletes, *_ = change
        merged = {**self.attributes, **sets}
        for name in deletes:
            merged.pop(name, None)
        self.attributes = merged
        self.version += 1
        if accessed_at > self.accessed_at:
            self.accessed_at = accessed_at


Node = Ring | LiveRecord


def link_newest(record: LiveRecord, ring: Ring) -> None:
    """Put a record at the end of a ring by use."""
    last = ring.older
    last.newer = ring.older = record
    record.older, record.newer = last, ring


def unlink_use(record: LiveRecord) -> None:
    """Take a record out of its ring by use."""
    older, newer = record.older, record.newer
    older.newer, newer.older = newer, older


def unlink_deadline(record: LiveRecord) -> None:
    """Take a record out of its ring by deadline, if it is in one."""
    before, after = record.before, record.after
    if before is not None and after is not None:
        before.after, after.before = after, before
        record.before = record.after = None


def records_by_deadline(ring: Ring) -> Iterator[LiveRecord]:
    """Walk a ring by deadline."""
    node: Node | None = ring.after
    while isinstance(node, LiveRecord):
        yield node
        node = node.after
