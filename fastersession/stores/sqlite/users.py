"""The verbs of a ``SQLiteStore`` that know whose sessions they are, as jobs.

Rules of residence: as for ``jobs``. A job that refuses has written nothing, for others share its transaction. Nothing
here is bound before it is confirmed: the index is one of SQLite's, over the record's own row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ..base import Record
from ..rows import name_of, name_to_bytes, record_of
from ..users import ABOUT, FOUND, MARK_SECONDS, Login, LoginOutcome, Outcome
from . import ends, jobs
from .jobs import COLUMNS, OVER, PROVEN, PURGE_EACH, Parameters

LEASED = "(:lease IS NULL OR (lease_owner = :lease AND lease_until > :now))"
TAKEN = "SELECT NULL FROM session WHERE id = :id AND NOT (expires <= :now AND {OVER})".replace("{OVER}", OVER)
OWN = """
    SELECT user_id FROM session
    WHERE id = :id AND expires > :now AND verifier = :old AND {LEASED}""".replace("{LEASED}", LEASED)
IS_REVOKED = """
    SELECT 1 FROM mark WHERE user_id IN ({IDS}) AND spared IS NOT ? AND (not_before > ? OR (? AND not_before = ?))"""
OTHERS = """
    SELECT id FROM session INDEXED BY session_user WHERE user_id IN ({IDS}) AND expires > ? AND id IS NOT ?
    ORDER BY accessed DESC, created DESC LIMIT -1 OFFSET ?"""
LOGIN = """
    UPDATE session SET verifier = :verifier, verifier_before = CASE WHEN :is_same_user THEN :old END,
        verifier_after = CASE WHEN :is_same_user THEN :verifier END, user_id = :user, retention = :retention,
        regenerated_at = :accessed, not_after = :not_after, accessed = max(accessed, :accessed), idle_timeout = :idle,
        expires = min(max(accessed, :accessed) + :idle, :not_after), version = version + 1
    WHERE id = :id"""
NAMES = "SELECT name FROM attribute WHERE session_id = ?"
RETIRE = """
    UPDATE session SET verifier = randomblob(32), verifier_before = NULL, verifier_after = NULL, user_id = NULL,
        regenerated_at = :now, not_after = min(not_after, :until), expires = min(expires, :until),
        ended_reason = 'replaced'
    WHERE id = :id AND expires > :now AND verifier = :verifier"""
RENEW = """
    UPDATE session SET accessed = max(accessed, :accessed), idle_timeout = coalesce(:idle, idle_timeout),
        not_after = :not_after, version = version + 1,
        expires = min(max(accessed, :accessed) + coalesce(:idle, idle_timeout), :not_after)
    WHERE id = :id AND expires > :now AND verifier = :verifier AND {LEASED}""".replace("{LEASED}", LEASED)
FIND = """
    SELECT id, {COLUMNS}, value FROM session INDEXED BY session_user JOIN attribute ON session_id = id AND name = ?
    WHERE user_id IN ({IDS}) AND expires > ? ORDER BY accessed DESC LIMIT ?""".replace("{COLUMNS}", COLUMNS)
PAGE = """
    SELECT id, {COLUMNS}, value FROM session LEFT JOIN attribute ON session_id = id AND name = ?
    WHERE id > ? AND expires > ? ORDER BY id LIMIT ?""".replace("{COLUMNS}", COLUMNS)
MARK = """
    INSERT INTO mark (user_id, not_before, spared) VALUES (?, ?, ?) ON CONFLICT (user_id) DO UPDATE
    SET not_before = max(not_before, excluded.not_before), spared = excluded.spared"""
FORGET = """
    DELETE FROM mark WHERE user_id IN
        (SELECT user_id FROM mark WHERE not_before < ? ORDER BY not_before LIMIT ?)"""
TAKE = """
    SELECT name, value FROM attribute JOIN session ON id = session_id
    WHERE session_id = :id AND expires > :now AND {PROVEN} AND substr(name, 1, length(:prefix)) = :prefix
    """.replace("{PROVEN}", PROVEN)
TAKEN_FROM = "UPDATE session SET version = version + 1 WHERE id = :id"


def login(
    connection: sqlite3.Connection, parameters: Parameters, login: Login, sets: Mapping[str, bytes]
) -> LoginOutcome:
    """Look at all that may refuse it, and only then write. The login's record is the caller's: it is not looked at."""
    is_new = parameters["old"] is None
    row = connection.execute(TAKEN if is_new else OWN, parameters).fetchone()
    if (row is None) is not is_new:
        return LoginOutcome(Outcome.ABSENT)
    if _is_revoked(connection, parameters["id"], login):
        return LoginOutcome(Outcome.REVOKED)
    is_his = row is not None and row[0] in login.tags
    surplus = [] if is_his or login.limit is None else _surplus(connection, parameters, login.tags, login.limit)
    if surplus and not login.evicts:
        return LoginOutcome(Outcome.FULL)
    _end(connection, surplus, parameters["now"], "evicted")
    if is_new:
        jobs.create(connection, parameters, sets)
        jobs.purge(connection, parameters["now"], PURGE_EACH)
    else:
        going = _going(connection, parameters["id"], login, sets)
        jobs.merge(connection, LOGIN, parameters, sets, going)
    return LoginOutcome(Outcome.DONE, tuple(surplus))


def _is_revoked(connection: sqlite3.Connection, record_id: bytes, login: Login) -> bool:
    at = login.authenticated_at
    values = (*login.tags, record_id, at, login.strictly, at)
    return connection.execute(jobs.among(IS_REVOKED, len(login.tags)), values).fetchone() is not None


def _surplus(connection: sqlite3.Connection, parameters: Parameters, tags: Sequence[bytes], limit: int) -> list[bytes]:
    """Return those beyond the limit when one more has come, the least recently used."""
    values = (*tags, parameters["now"], parameters["id"], max(limit - 1, 0))
    return [record_id for (record_id,) in connection.execute(jobs.among(OTHERS, len(tags)), values)]


def _going(
    connection: sqlite3.Connection, record_id: bytes, login: Login, sets: Mapping[str, bytes]
) -> tuple[str, ...]:
    """Return the names of the attributes that go: of all that the store has, too, not only of those that are known."""
    if login.keep is None:
        return login.deletes
    staying = {ABOUT, *login.keep, *sets}
    names = [name_of(name) for (name,) in connection.execute(NAMES, (record_id,))]
    return (*login.deletes, *(name for name in names if name not in staying))


def _end(connection: sqlite3.Connection, record_ids: Sequence[bytes], now: float, reason: str) -> None:
    for record_id in record_ids:
        ends.delete(connection, {"id": record_id, "now": now, "reason": reason})


def find(connection: sqlite3.Connection, tags: Sequence[bytes], now: float) -> list[tuple[bytes, Record]]:
    """Return the sessions of a user that say whose they are."""
    rows = connection.execute(jobs.among(FIND, len(tags)), (name_to_bytes(ABOUT), *tags, now, FOUND))
    return [(record_id, record_of(row, {ABOUT: about})) for record_id, *row, about in rows]


def page(
    connection: sqlite3.Connection, after: bytes, now: float, count: int
) -> tuple[list[tuple[bytes, Record]], bytes | None]:
    """Return sessions in the order of their ids."""
    rows = connection.execute(PAGE, (name_to_bytes(ABOUT), after, now, count)).fetchall()
    found = [(record_id, record_of(row, {} if about is None else {ABOUT: about})) for record_id, *row, about in rows]
    return found, found[-1][0] if len(found) == count else None


def revoke(
    connection: sqlite3.Connection, tags: Sequence[bytes], keep: bytes | None, at: float, now: float
) -> list[bytes]:
    """Set the marks, and end what is there."""
    for tag in tags:
        connection.execute(MARK, (tag, at, keep))
    forget(connection, now, 2 * len(tags))
    ending = [one for (one,) in connection.execute(jobs.among(OTHERS, len(tags)), (*tags, now, keep, 0))]
    _end(connection, ending, now, "revoked")
    return ending


def forget(connection: sqlite3.Connection, now: float, limit: int) -> int:
    """Remove marks that refuse nothing any more, the oldest first, and return how many."""
    return connection.execute(FORGET, (now - MARK_SECONDS, limit)).rowcount


def take(connection: sqlite3.Connection, parameters: Parameters) -> dict[str, Any]:
    """Remove the attributes with a prefix, and return them."""
    taken = {name_of(name): value for name, value in connection.execute(TAKE, parameters)}
    if taken:
        jobs.merge(connection, TAKEN_FROM, parameters, {}, taken)
    return taken
