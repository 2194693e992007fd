"""What goes to the databases of ``SQLStore`` and what comes back: writes, and rows that become records.

Rules of residence: pure translations, the same for every database. No statement, no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection

from ..base import Record
from ..rows import record_of
from .batches import AGAIN, Again
from .statements import from_key


class Write(NamedTuple):
    """A verb that changes one record.

    ``work`` does it alone. ``found`` tells, after a repetition that came to nothing, whether the attempt before had
    succeeded unheard. ``parameters`` and ``sets`` are what a statement for many sessions needs.
    """

    work: Callable[[Connection], Any]
    found: Callable[[Connection], Any] | None = None
    parameters: Mapping[str, Any] = MappingProxyType({})
    sets: Mapping[bytes, bytes] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return sum(map(len, self.sets.values()))


def columns(writes: Sequence[Write], names: Iterable[str]) -> list[list[Any]]:
    """Return a list for each parameter, with the value that each write has, ``None`` where it has none."""
    return [[write.parameters.get(name) for write in writes] for name in names]


def attributes_of(writes: Sequence[Write]) -> list[tuple[bytes, bytes, bytes]]:
    """Return all attributes that are set, as id, name and value, in the order of the primary key."""
    return sorted((write.parameters["id"], name, value) for write in writes for name, value in write.sets.items())


class Found:
    """The sessions that some rows have, and their attributes.

    A row has the columns of a session, or NULLs for them, then an attribute, or NULLs for it. A session with an
    attribute whose value is NULL was too large.
    """

    __slots__ = ("_attributes", "_large", "_rows", "_unbound", "size")

    def __init__(self, rows: Iterable[Any], unbound: Callable[[Any], Any] = tuple) -> None:
        self._rows: dict[bytes, Any] = {}
        self._attributes: dict[bytes, dict[str, bytes]] = {}
        self._large: set[bytes] = set()
        self._unbound = unbound
        self.size = 0  # bytes of the attributes' values
        for row in rows:
            record_id, verifier, name, value = row[0], row[1], row[11], row[12]
            if verifier is not None:
                self._rows[record_id] = row
            if name is None:
                continue
            if value is None:
                self._large.add(record_id)
                continue
            self.size += len(value)
            name, value = from_key(name, value)
            if record_id in self._attributes:
                self._attributes[record_id][name] = value
            else:
                self._attributes[record_id] = {name: value}

    def get(self, record_id: bytes) -> Record | Again | None:
        """Return a new record, ``None`` if there is none of this id, ``Again`` if it was too large."""
        return AGAIN if record_id in self._large else self.record(record_id)

    def record(self, record_id: bytes) -> Record | None:
        """Return a new record, ``None`` if there is none of this id."""
        row = self._rows.get(record_id)
        return None if row is None else record_of(self._unbound(row[1:11]), dict(self._attributes.get(record_id, ())))

    def records(self) -> list[tuple[bytes, Record]]:
        """Return new records of all sessions, in the order of their rows."""
        return [(record_id, record) for record_id in self._rows if (record := self.record(record_id)) is not None]

    def verifier(self, record_id: bytes) -> bytes | None:
        """Return the verifier of a session, ``None`` if there is none of this id."""
        row = self._rows.get(record_id)
        return None if row is None else row[1]
