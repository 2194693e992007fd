"""The reference: what a store is, as a dict, with the same verbs as plain functions and the contract's outcomes.

Rules of residence: no event loop, no store. It is copied and asked again, so it never changes what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...stores.base import Change, Record


@dataclass(frozen=True)
class Row:
    """One record; as frozen as the mappings in it are treated."""

    verifier: bytes
    created_at: float
    accessed_at: float
    idle_timeout: float
    not_after: float
    tag: bytes | None
    attributes: dict[str, Any]
    regenerated_at: float | None = None
    verifier_before: bytes | None = None
    version: int = 1
    lease: tuple[bytes, float] | None = field(default=None, compare=False)

    @property
    def end(self) -> float:
        """Return when the record expires."""
        return min(self.accessed_at + self.idle_timeout, self.not_after)

    def fields(self) -> dict[str, Any]:
        """Return what a load returns; the lease is no field of a record."""
        return {name: value for name, value in vars(self).items() if name != "lease"}

    def merged(self, change: Change) -> Row:
        """Return the row with a change."""
        attributes = {**self.attributes, **change.sets}
        return replace(
            self,
            attributes={name: value for name, value in attributes.items() if name not in change.deletes},
            accessed_at=max(self.accessed_at, change.accessed_at),
            idle_timeout=self.idle_timeout if change.idle_timeout is None else change.idle_timeout,
            version=self.version + 1,
        )


class Reference:
    """The rows by id, at the time of a clock."""

    def __init__(self, clock: Callable[[], float], rows: Mapping[bytes, Row] | None = None) -> None:
        self.clock, self.rows = clock, dict(rows or {})

    def expired(self, row: Row) -> bool:
        """Return whether a row has expired by now."""
        return self.clock() >= row.end

    def alive(self, record_id: bytes) -> Row | None:
        """Return the row, unless it is absent."""
        row = self.rows.get(record_id)
        return None if row is None or self.expired(row) else row

    def proven(self, record_id: bytes, verifier: bytes, lease: bytes | None = None) -> Row | None:
        """Return the row if the verifier is its own or the one before, and the lease, if one is given, that owner's."""
        row = self.alive(record_id)
        if row is None or verifier not in (row.verifier, row.verifier_before):
            return None
        return None if lease is not None and self.holder(row) != lease else row

    def holder(self, row: Row) -> bytes | None:
        """Return who holds the lease of a row."""
        return None if row.lease is None or self.clock() >= row.lease[1] else row.lease[0]

    def lease(self, record_id: bytes) -> tuple[bytes, float] | None:
        """Return holder and end of a lease."""
        row = self.alive(record_id)
        return None if row is None or self.holder(row) is None else row.lease

    def free(self, record_id: bytes) -> None:
        """Take the lease away."""
        row = self.rows.get(record_id)
        if row is not None:
            self.rows[record_id] = replace(row, lease=None)

    def load(self, record_id: bytes) -> dict[str, Any] | None:
        row = self.alive(record_id)
        return None if row is None else row.fields()

    def create(self, record_id: bytes, record: Record) -> bool:
        if self.alive(record_id) is not None:
            return False
        times = record.created_at, record.created_at, record.idle_timeout, record.not_after
        self.rows[record_id] = Row(record.verifier, *times, record.extra.tag, dict(record.attributes))
        return True

    def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        row = self.proven(record_id, verifier, change.lease)
        if row is not None:
            self.rows[record_id] = row.merged(change)
        return row is not None

    def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        row = self.proven(record_id, verifier)
        if row is not None:
            self.rows[record_id] = replace(row, accessed_at=max(row.accessed_at, accessed_at))
        return row is not None

    def delete(self, record_id: bytes) -> bool:
        found = self.alive(record_id) is not None
        self.rows.pop(record_id, None)
        return found

    def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        row = self.proven(record_id, verifier, change.lease)
        if row is None or row.verifier != verifier:
            return False
        fresh = replace(row, verifier=new_verifier, verifier_before=verifier, not_after=not_after)
        self.rows[record_id] = replace(fresh, regenerated_at=change.accessed_at).merged(change)
        return True

    def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        row = self.proven(record_id, verifier)
        if row is None or self.holder(row) not in (None, owner):
            return False
        self.rows[record_id] = replace(row, lease=(owner, self.clock() + seconds))
        return True

    def unlock(self, record_id: bytes, owner: bytes) -> bool:
        row = self.alive(record_id)
        if row is None or self.holder(row) != owner:
            return False
        self.rows[record_id] = replace(row, lease=None)
        return True

    def purge(self) -> int:
        gone = [record_id for record_id, row in self.rows.items() if self.expired(row)]
        for record_id in gone:
            del self.rows[record_id]
        return len(gone)
