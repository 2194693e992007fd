"""What a store is, as a dict: the same verbs as plain functions, with the outcomes of the contract.

Rules of residence: no event loop, no store. The model is copied and asked again, so it never changes what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fastersession.stores.base import Change

__all__ = ["Model", "Row"]


@dataclass(frozen=True)
class Row:
    """One record; as frozen as the mappings in it are treated."""

    verifier: bytes
    created_at: float
    accessed_at: float
    idle_timeout: float
    not_after: float
    user: str | None
    attributes: dict[str, Any]
    regenerated_at: float | None = None
    version: int = 1
    lease: tuple[bytes, float] | None = field(default=None, compare=False)

    @property
    def end(self) -> float:
        return min(self.accessed_at + self.idle_timeout, self.not_after)

    def fields(self) -> dict[str, Any]:
        """What a load returns; the lease is no field of a record."""
        return {name: value for name, value in vars(self).items() if name != "lease"}

    def merged(self, change: Change) -> Row:
        attributes = {**self.attributes, **change.sets}
        return replace(
            self,
            attributes={name: value for name, value in attributes.items() if name not in change.deletes},
            accessed_at=max(self.accessed_at, change.accessed_at),
            idle_timeout=self.idle_timeout if change.idle_timeout is None else change.idle_timeout,
            version=self.version + 1,
        )


class Model:
    """The rows by id, at the time of a clock."""

    def __init__(self, clock: Callable[[], float], rows: Mapping[bytes, Row] | None = None) -> None:
        self.clock, self.rows = clock, dict(rows or {})

    def copy(self) -> Model:
        return Model(self.clock, self.rows)

    def expired(self, row: Row) -> bool:
        return self.clock() >= row.end

    def alive(self, record_id: bytes) -> Row | None:
        row = self.rows.get(record_id)
        return None if row is None or self.expired(row) else row

    def own(self, record_id: bytes, verifier: bytes, lease: bytes | None = None) -> Row | None:
        row = self.alive(record_id)
        if row is None or row.verifier != verifier or (lease is not None and self.holder(row) != lease):
            return None
        return row

    def holder(self, row: Row) -> bytes | None:
        return None if row.lease is None or self.clock() >= row.lease[1] else row.lease[0]

    def lease(self, record_id: bytes) -> tuple[bytes, float] | None:
        row = self.alive(record_id)
        return None if row is None or self.holder(row) is None else row.lease

    def free(self, record_id: bytes) -> None:
        row = self.rows.get(record_id)
        if row is not None:
            self.rows[record_id] = replace(row, lease=None)

    def load(self, record_id: bytes) -> dict[str, Any] | None:
        row = self.alive(record_id)
        return None if row is None else row.fields()

    def create(
        self,
        record_id: bytes,
        verifier: bytes,
        created_at: float,
        idle_timeout: float,
        not_after: float,
        attributes: Mapping[str, Any],
        user: str | None = None,
    ) -> dict[str, Any] | None:
        if self.alive(record_id) is not None:
            return None
        times = created_at, created_at, idle_timeout, not_after
        row = self.rows[record_id] = Row(verifier, *times, user, dict(attributes))
        return row.fields()

    def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        row = self.own(record_id, verifier, change.lease)
        if row is not None:
            self.rows[record_id] = row.merged(change)
        return row is not None

    def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        row = self.own(record_id, verifier)
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
        row = self.own(record_id, verifier, change.lease)
        if row is not None:
            fresh = replace(row, verifier=new_verifier, not_after=not_after, regenerated_at=change.accessed_at)
            self.rows[record_id] = fresh.merged(change)
        return row is not None

    def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        row = self.own(record_id, verifier)
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
