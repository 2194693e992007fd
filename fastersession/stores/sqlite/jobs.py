"""The verbs of a ``SQLiteStore`` as jobs: functions of a connection inside a transaction.

Rules of residence: statements about sessions, values only as bound parameters. A job has the same effect when it is
rolled back and run again. An attribute is written only after the session's own row was updated by the same job.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from ..base import Record
from ..rows import name_of, name_to_bytes, record_of

Parameters = Mapping[str, Any]

PURGE_EACH = 2  # sessions purged on the side of a create: twice what it adds, so it keeps up

LOAD = """
    SELECT verifier, user_id, created, accessed, idle_timeout, not_after, regenerated_at, version, verifier_before,
        verifier_after
    FROM session WHERE id = :id AND expires > :now"""
LOAD_ATTRIBUTES = "SELECT name, value FROM attribute WHERE session_id = ?"
CREATE = """
    INSERT INTO session (id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, version)
    VALUES (:id, :verifier, :user, :created, :created, :idle, :not_after, min(:created + :idle, :not_after), 1)
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
DELETE = "DELETE FROM session WHERE id = :id AND expires > :now"
DELETE_EXPIRED = "DELETE FROM session WHERE id = :id AND expires <= :now"
PURGE = "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires <= ? ORDER BY expires LIMIT ?)"
SET_ATTRIBUTE = """
    INSERT INTO attribute (session_id, name, value) VALUES (?, ?, ?)
    ON CONFLICT (session_id, name) DO UPDATE SET value = excluded.value"""
DELETE_ATTRIBUTE = "DELETE FROM attribute WHERE session_id = ? AND name = ?"


def nothing(connection: sqlite3.Connection) -> None:
    """Show that the file can be opened."""


def load(connection: sqlite3.Connection, parameters: Parameters) -> Record | None:
    """Return the record. Both statements see one snapshot."""
    row = connection.execute(LOAD, parameters).fetchone()
    if row is None:
        return None
    attributes = connection.execute(LOAD_ATTRIBUTES, (parameters["id"],))
    return record_of(row, {name_of(name): value for name, value in attributes})


def one(connection: sqlite3.Connection, statement: str, parameters: Parameters) -> bool:
    """Run a statement that changes one session or none. Return whether it changed one."""
    return connection.execute(statement, parameters).rowcount == 1


def create(connection: sqlite3.Connection, parameters: Parameters, sets: Mapping[str, bytes]) -> bool:
    """Insert, in the place of an expired record too."""
    purge(connection, parameters["now"], PURGE_EACH)
    connection.execute(DELETE_EXPIRED, parameters)
    if not one(connection, CREATE, parameters):
        return False
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
    """Remove up to ``limit`` expired sessions, the oldest first."""
    return connection.execute(PURGE, (now, limit)).rowcount


def _set(connection: sqlite3.Connection, record_id: bytes, sets: Mapping[str, bytes]) -> None:
    for name, value in sets.items():
        connection.execute(SET_ATTRIBUTE, (record_id, name_to_bytes(name), value))
