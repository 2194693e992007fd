"""The verbs of a ``SQLiteStore`` as jobs: functions of a connection inside a transaction.

Rules of residence: statements about sessions, values only as bound parameters. A job has the same effect when it is
rolled back and run again. An attribute is written only after the session's own row was updated by the same job.

Writes are done one by one, in their transaction: to decide for many in one statement who may write, and then to write,
costs more than the statements that it saves. Loads are done together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..base import Record
from ..rows import name_of, name_to_bytes, record_of
from .threads import LATER, Job

Parameters = Mapping[str, Any]

PURGE_EACH = 2  # sessions purged on the side of a create: twice what it adds, so it keeps up

SMALL = 65_536  # bytes of an attribute that is read together with those of others
SMALL_BYTES = 1 << 20  # of all that is read together: about a millisecond

COLUMNS = """verifier, user_id, created, accessed, idle_timeout, not_after, regenerated_at, version, verifier_before,
    verifier_after"""
LOAD = """
    SELECT {COLUMNS}, name, value FROM session LEFT JOIN attribute ON session_id = id
    WHERE id = :id AND expires > :now""".replace("{COLUMNS}", COLUMNS)
LOAD_SOME = "SELECT id, expires, {COLUMNS} FROM session WHERE id IN ({IDS})".replace("{COLUMNS}", COLUMNS)
LOAD_ATTRIBUTES = """
    SELECT session_id, name, CASE WHEN length(value) <= {SMALL} THEN value END
    FROM attribute WHERE session_id IN ({IDS}) ORDER BY session_id""".replace("{SMALL}", str(SMALL))
CREATE = """
    INSERT INTO session (id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, retention, version)
    VALUES (:id, :verifier, :user, :created, :created, :idle, :not_after, min(:created + :idle, :not_after),
        :retention, 1)
    ON CONFLICT (id) DO NOTHING"""
# The verifier before counts only while the one that came after it is the record's own: a release that knows nothing of
# it leaves both as they are when it regenerates.
PROVEN = "(verifier = :verifier OR (verifier_before = :verifier AND verifier_after = verifier))"
UPDATE = """
    UPDATE session SET accessed = max(accessed, :accessed), idle_timeout = coalesce(:idle, idle_timeout),
        expires = min(max(accessed, :accessed) + coalesce(:idle, idle_timeout), not_after), version = version + 1
    WHERE id = :id AND expires > :now AND {PROVEN}
        AND (:lease IS NULL OR (lease_owner = :lease AND lease_until > :now))""".replace("{PROVEN}", PROVEN)
REGENERATE = """
    UPDATE session SET verifier = :new_verifier, verifier_before = :verifier, verifier_after = :new_verifier,
        regenerated_at = :accessed, not_after = :not_after,
        accessed = max(accessed, :accessed), idle_timeout = coalesce(:idle, idle_timeout),
        expires = min(max(accessed, :accessed) + coalesce(:idle, idle_timeout), :not_after), version = version + 1
    WHERE id = :id AND expires > :now AND verifier = :verifier
        AND (:lease IS NULL OR (lease_owner = :lease AND lease_until > :now))"""
TOUCH = """
    UPDATE session SET accessed = max(accessed, :accessed),
        expires = min(max(accessed, :accessed) + idle_timeout, not_after)
    WHERE id = :id AND expires > :now AND {PROVEN}""".replace("{PROVEN}", PROVEN)
LOCK = """
    UPDATE session SET lease_owner = :owner, lease_until = :now + :seconds
    WHERE id = :id AND expires > :now AND {PROVEN}
        AND (lease_owner IS NULL OR lease_owner = :owner OR lease_until <= :now)""".replace("{PROVEN}", PROVEN)
UNLOCK = """
    UPDATE session SET lease_owner = NULL, lease_until = NULL
    WHERE id = :id AND expires > :now AND lease_owner = :owner AND lease_until > :now"""
# A record with a retention is not removed when it ends: ``expires`` becomes the moment until which it is kept, negated.
# So it is absent by every clock, and one range of the index has all that may be removed.
OVER = "(retention IS NULL OR CASE WHEN expires < 0 THEN -expires ELSE expires + retention END <= :now)"
DELETE_EXPIRED = "DELETE FROM session WHERE id = :id AND expires <= :now AND {OVER}".replace("{OVER}", OVER)
# It looks at no more than it may remove: what is in the way waits for its retention, or for ``ends.keep``.
PURGE = """
    DELETE FROM session WHERE {OVER} AND id IN
        (SELECT id FROM session WHERE expires >= -:now AND expires <= :now ORDER BY expires LIMIT :limit)
    """.replace("{OVER}", OVER)
SET_ATTRIBUTE = """
    INSERT INTO attribute (session_id, name, value) VALUES (?, ?, ?)
    ON CONFLICT (session_id, name) DO UPDATE SET value = excluded.value"""
DELETE_ATTRIBUTE = "DELETE FROM attribute WHERE session_id = ? AND name = ?"


def nothing(connection: sqlite3.Connection) -> None:
    """Show that the file can be opened."""


def load(connection: sqlite3.Connection, parameters: Parameters) -> Record | None:
    """Return the record. One statement sees one snapshot."""
    rows = connection.execute(LOAD, parameters).fetchall()
    if not rows:
        return None
    return record_of(rows[0][:-2], {name_of(name): value for *_, name, value in rows if name is not None})


def load_together(connection: sqlite3.Connection, wanted: Sequence[tuple[Parameters]]) -> list[Any]:
    """Return what ``load`` does for each, or ``LATER``. A record that several want is read once, and made for each."""
    ids = list(dict.fromkeys([parameters["id"] for (parameters,) in wanted]))
    ids += ids[-1:] * ((1 << (len(ids) - 1).bit_length()) - len(ids))  # to a power of two: few statements are prepared
    connection.execute("BEGIN")  # both statements see one snapshot
    sessions = {row[0]: row for row in connection.execute(among(LOAD_SOME, len(ids)), ids)}
    attributes, large = _attributes(connection, ids)
    connection.execute("COMMIT")
    found: list[Any] = []
    for (parameters,) in wanted:
        row = sessions.get(parameters["id"])
        if row is None or row[1] <= parameters["now"]:
            found.append(None)
        elif parameters["id"] in large:
            found.append(LATER)
        else:
            found.append(record_of(row[2:], dict(attributes.get(parameters["id"], ()))))
    return found


def _attributes(
    connection: sqlite3.Connection, ids: Sequence[bytes]
) -> tuple[dict[bytes, dict[str, bytes]], set[bytes]]:
    """Return the attributes by record, and the records that are large, or beyond what may be read together."""
    attributes: dict[bytes, dict[str, bytes]] = {}
    large: set[bytes] = set()
    room = SMALL_BYTES
    for record_id, name, value in (rows := connection.execute(among(LOAD_ATTRIBUTES, len(ids)), ids)):
        if value is None:
            large.add(record_id)
            continue
        attributes.setdefault(record_id, {})[name_of(name)] = value
        room -= len(value)
        if room < 0:
            rows.close()
            large.update(other for other in ids if other >= record_id)  # they come in this order
            break
    return attributes, large


@lru_cache(32)
def among(statement: str, count: int) -> str:
    """Return a statement with so many marks in the place of ``{IDS}``."""
    return statement.replace("{IDS}", ", ".join("?" * count))


def one(connection: sqlite3.Connection, statement: str, parameters: Parameters) -> bool:
    """Run a statement that changes one session or none. Return whether it changed one."""
    return connection.execute(statement, parameters).rowcount == 1


def create(connection: sqlite3.Connection, parameters: Parameters, sets: Mapping[str, bytes]) -> bool:
    """Insert, in the place of an expired record too, but of none that is kept."""
    if not one(connection, CREATE, parameters):
        if not one(connection, DELETE_EXPIRED, parameters):
            return False
        one(connection, CREATE, parameters)
    _set(connection, parameters["id"], sets)
    return True


def merge(
    connection: sqlite3.Connection,
    statement: str,
    parameters: Parameters,
    sets: Mapping[str, bytes],
    deletes: Iterable[str],
) -> bool:
    """Update the session's row, and its attributes if the row was there."""
    if not one(connection, statement, parameters):
        return False
    _set(connection, parameters["id"], sets)
    for name in deletes:
        connection.execute(DELETE_ATTRIBUTE, (parameters["id"], name_to_bytes(name)))
    return True


def purge(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Remove up to ``limit`` sessions that have ended and are not kept, the oldest first."""
    return connection.execute(PURGE, {"now": now, "limit": limit}).rowcount


def purge_aside(connection: sqlite3.Connection, group: Sequence[Job]) -> None:
    """Purge beside the creates of a group."""
    times = [job.arguments[0]["now"] for job in group if job.work is create]
    if times:
        purge(connection, times[-1], PURGE_EACH * len(times))


def _set(connection: sqlite3.Connection, record_id: bytes, sets: Mapping[str, bytes]) -> None:
    for name, value in sets.items():
        connection.execute(SET_ATTRIBUTE, (record_id, name_to_bytes(name), value))
