"""What the relational stores share: how a record and its attributes' names look as columns.

Rules of residence: pure translations between a ``Record`` and plain column values. No driver, no statement, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import NOTHING_MORE, Extra, Record


def name_to_bytes(name: str) -> bytes:
    """Return a name as it is compared: byte by byte. Collations fold, pad or refuse what differs here."""
    return name.encode("utf-8", "surrogatepass")


def name_of(name: bytes) -> str:
    """Undo ``name_to_bytes``."""
    return name.decode("utf-8", "surrogatepass")


def record_of(row: Any, attributes: Mapping[str, bytes]) -> Record:
    """Return the record of a row, whose columns stand in this order.

    :raises ValueError: somebody else has written it: SQLite keeps text in a column of numbers.
    """
    verifier, tag, created, accessed, idle_timeout, not_after, regenerated_at, version, before, after = row
    times = float(created), float(idle_timeout), float(not_after)
    record = Record(verifier, *times, attributes, NOTHING_MORE if tag is None else Extra(tag))
    record.regenerated_at = None if regenerated_at is None else float(regenerated_at)
    record.accessed_at, record.version = float(accessed), version
    record.verifier_before = before if after == verifier else None  # else an older release has regenerated since
    return record
