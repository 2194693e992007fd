"""How sessions end in a ``SQLiteStore``, and how long those are kept that somebody is to be told of, as jobs.

Rules of residence: as for ``jobs``. An ended record has a retention, and its ``expires`` is negative.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..base import Extra
from ..rows import name_of, record_of
from ..users import CLAIM_SECONDS, CLAIMED, Ended
from . import jobs
from .jobs import COLUMNS, Parameters

CLEARED = 100  # that a claim makes way for
CLAIMED_BYTES = 1 << 20  # of attributes, after which a claim takes no more records
ASKED = 500  # ids of one statement: SQLite before 3.32 takes 999 parameters

DELETE = "DELETE FROM session WHERE id = :id AND expires > :now AND retention IS NULL"
END = """
    UPDATE session SET expires = -(:now + retention), ended_reason = coalesce(ended_reason, :reason)
    WHERE id = :id AND expires > :now AND retention IS NOT NULL"""
KEEP = """
    UPDATE session SET expires = -(expires + retention), ended_reason = coalesce(ended_reason, 'expired') WHERE id IN
        (SELECT id FROM session INDEXED BY session_kept
        WHERE retention IS NOT NULL AND expires > 0 AND expires <= :now ORDER BY expires LIMIT :limit)"""
IS_ANY_DUE = """
    SELECT 1 FROM session INDEXED BY session_kept
    WHERE retention IS NOT NULL AND expires <= :now AND coalesce(claimed_until, 0) <= :now LIMIT 1"""
DUE = """
    SELECT id, ended_reason, retention, claimed_until, {COLUMNS} FROM session INDEXED BY session_kept
    WHERE retention IS NOT NULL AND expires < -:now AND coalesce(claimed_until, 0) <= :now
    ORDER BY expires DESC LIMIT :limit""".replace("{COLUMNS}", COLUMNS)
CLAIM = "UPDATE session SET claimed_until = ? WHERE id = ?"
ATTRIBUTES = "SELECT name, value FROM attribute WHERE session_id = ?"
SETTLE = "DELETE FROM session WHERE id = :id AND expires < 0 AND retention IS NOT NULL"
REASONS = """
    SELECT id, CASE WHEN expires > ? THEN ended_reason ELSE coalesce(ended_reason, 'expired') END
    FROM session WHERE id IN ({IDS})"""


class Cleared(NamedTuple):
    """What one clearing did. ``is_more``: another one has something to do."""

    removed: int
    is_more: bool


def delete(connection: sqlite3.Connection, parameters: Parameters) -> bool:
    """Remove a session, or keep it as an ended one. Whoever has no retention costs one statement."""
    return jobs.one(connection, DELETE, parameters) or jobs.one(connection, END, parameters)


def keep(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Make ended records of those that have expired by themselves: from here on they are that by every clock."""
    return connection.execute(KEEP, {"now": now, "limit": limit}).rowcount


def clear(connection: sqlite3.Connection, now: float, limit: int) -> Cleared:
    """Remove what has ended and is not kept."""
    kept = keep(connection, now, limit)
    removed = jobs.purge(connection, now, limit)
    return Cleared(removed, max(kept, removed) == limit)


def is_any_due(connection: sqlite3.Connection, now: float) -> bool:
    """Return whether ``due`` has something to do. It only reads, so whoever asks each second holds up no writer."""
    return connection.execute(IS_ANY_DUE, {"now": now}).fetchone() is not None


def due(connection: sqlite3.Connection, now: float) -> list[Ended]:
    """Claim ended records, those first that are kept the shortest."""
    clear(connection, now, CLEARED)
    claimed: list[Ended] = []
    room = CLAIMED_BYTES
    rows = connection.execute(DUE, {"now": now, "limit": CLAIMED}).fetchall()
    for record_id, reason, retention, before, *row in rows:
        attributes = {name_of(name): value for name, value in connection.execute(ATTRIBUTES, (record_id,))}
        connection.execute(CLAIM, (now + CLAIM_SECONDS, record_id))
        record = record_of(row, attributes)
        record.extra = Extra(record.extra.tag, retention)
        claimed.append(Ended(record_id, record, reason, before is not None))
        room -= sum(map(len, attributes.values()))
        if room < 0:
            break
    return claimed


def ended(connection: sqlite3.Connection, record_ids: Sequence[bytes], now: float) -> Mapping[bytes, str]:
    """Return the reasons of those that are absent or retired."""
    found: dict[bytes, Any] = {}
    for start in range(0, len(record_ids), ASKED):
        some = record_ids[start : start + ASKED]
        found.update(connection.execute(jobs.among(REASONS, len(some)), (now, *some)).fetchall())
    return {record_id: reason for record_id in record_ids if (reason := found.get(record_id, "")) is not None}
