"""The histories of a ``SQLiteStore``, as jobs.

Rules of residence: as for ``jobs``. A job that refuses has written nothing, for others share its transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from ..logs import (
    MOST_OF_A_SESSION,
    ORIGIN,
    Append,
    Appended,
    Created,
    Entry,
    Listed,
    Log,
    Look,
    Outcome,
    Place,
    Position,
)
from .logs_rows import (
    ALIVE,
    COLUMNS,
    IS_PROVEN,
    Meta,
    entry_of,
    is_running,
    meta_at,
    meta_of,
    parameters_of,
    proven_meta,
    status_of,
)

LOWEST, HIGHEST = (-1, 0), (2**62, 0)

INSERT = """
    INSERT INTO conversation (id, session, log, owner, about, version, created, updated, expires, epoch, seq, entered)
    VALUES (:conversation, :session, :log, :owner, :about, 1, :now, :now, :now + :keep, 1, 0, 0)"""
REMOVE = "DELETE FROM conversation WHERE id = ?"
COUNT = "SELECT count(*) FROM conversation WHERE session = ?"
AT = "SELECT value FROM entry WHERE conversation = ? AND epoch = ? AND seq = ?"
BY_KEY = 'SELECT {COLUMNS} FROM entry WHERE conversation = ? AND "key" = ?'.replace("{COLUMNS}", COLUMNS)
BY_RUN = "SELECT {COLUMNS} FROM entry WHERE conversation = ? AND run = ? ORDER BY epoch DESC, seq DESC LIMIT 1".replace(
    "{COLUMNS}", COLUMNS
)
ENTER = "INSERT INTO entry (conversation, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)".replace("{COLUMNS}", COLUMNS)
RAISE = """
    UPDATE conversation SET epoch = :epoch, seq = :seq, entered = entered OR :entered WHERE id = :conversation"""
TOUCH = """
    UPDATE conversation SET updated = max(updated, :now), expires = coalesce(:now + :keep, expires)
    WHERE id = :conversation"""
BETWEEN = """
    SELECT {COLUMNS} FROM entry WHERE conversation = ? AND (epoch, seq) > (?, ?) AND (epoch, seq) < (?, ?)
    ORDER BY epoch, seq LIMIT ?""".replace("{COLUMNS}", COLUMNS)
BACK = BETWEEN.replace("ORDER BY epoch, seq", "ORDER BY epoch DESC, seq DESC")
LAST_BELOW = """
    SELECT seq FROM entry WHERE conversation = ? AND (epoch, seq) <= (?, ?) ORDER BY epoch DESC, seq DESC LIMIT 1"""
FIRST_ABOVE = "SELECT seq FROM entry WHERE conversation = ? AND (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT 1"
CUT_TAIL = "DELETE FROM entry WHERE conversation = ? AND (epoch, seq) > (?, ?)"
CUT_HEAD = "DELETE FROM entry WHERE conversation = ? AND (epoch, seq) < (?, ?)"
SET_TOP = "UPDATE conversation SET epoch = ?, seq = ? WHERE id = ?"
DESCRIBE = """
    UPDATE conversation SET about = :about, version = version + 1, updated = max(updated, :now)
    WHERE id = :conversation"""
_LISTED = """
    SELECT c.id, c.session, c.log, c.about, c.created, c.updated,
        EXISTS (SELECT 1 FROM run r WHERE r.conversation = c.id AND r.id = c.run AND r.is_running)
    FROM conversation c LEFT JOIN session s ON s.id = c.session WHERE {ALIVE}""".replace("{ALIVE}", ALIVE)
OWNED = (
    _LISTED
    + """
    AND c.owner = :owner AND (c.updated, c.id) < (:updated, :id) ORDER BY c.updated DESC, c.id DESC LIMIT :count"""
)
PAGE = _LISTED + " AND c.id > :after AND +c.session IS NULL ORDER BY c.id LIMIT :count"
OVER = """
    DELETE FROM conversation WHERE id IN (
        SELECT id FROM (SELECT id FROM conversation WHERE expires <= :now LIMIT :limit)
        UNION ALL
        SELECT id FROM (
            SELECT c.id FROM session s JOIN conversation c ON c.session = s.id WHERE s.expires <= :now LIMIT :limit))"""
OVER_RUNS = """
    DELETE FROM run WHERE rowid IN (
        SELECT rowid FROM run WHERE is_running = 0 AND kept_until <= :time LIMIT :limit)"""


def create(
    connection: sqlite3.Connection, place: Place, log: bytes, owner: bytes, about: bytes, keep: float | None, now: float
) -> Created:
    """Insert, in the place of one that is over, too."""
    parameters = parameters_of(place, now)
    if place.session is not None:
        row = connection.execute(IS_PROVEN, parameters).fetchone()
        if row is None or not row[0]:
            return Created(Outcome.GONE)
    meta = meta_at(connection, place, now)
    if meta is not None:
        return Created(Outcome.DONE, meta.log, meta.top)
    if place.session is not None and connection.execute(COUNT, (place.session,)).fetchone()[0] >= MOST_OF_A_SESSION:
        return Created(Outcome.FULL)
    connection.execute(REMOVE, (place.conversation,))
    connection.execute(INSERT, {**parameters, "log": log, "owner": owner, "about": about, "keep": keep})
    return Created(Outcome.DONE, log, ORIGIN)


def append(connection: sqlite3.Connection, appends: Sequence[Append], now: float) -> list[Appended]:
    """Append each by itself."""
    return [_append(connection, *one, now) for one in appends]


def _append(connection: sqlite3.Connection, log: Log, entry: Entry, keep: float | None, now: float) -> Appended:
    meta = meta_of(connection, log, now)
    if meta is None or not (meta.proven or entry.run is not None):
        return Appended(Outcome.GONE)
    if entry.run is not None and entry.run != meta.run:
        return Appended(Outcome.SUPERSEDED, meta.top)
    if entry.run is not None and meta.run_user != meta.user:
        return Appended(Outcome.GONE)
    there = connection.execute(AT, (meta.id, *entry.position)).fetchone()
    if there is not None and there[0] == entry.value:
        return Appended(Outcome.DONE, meta.top)
    if entry.key is not None:
        row = connection.execute(BY_KEY, (meta.id, entry.key)).fetchone()
        if row is not None:
            return Appended(Outcome.SAME, meta.top, entry_of(row))
    if not meta.is_next(entry.position):
        return Appended(Outcome.TAKEN, meta.top)
    enter(connection, meta, entry)
    touch(connection, meta, keep, now)
    return Appended(Outcome.DONE, entry.position)


def enter(connection: sqlite3.Connection, meta: Meta, entry: Entry) -> None:
    """Write an entry at the next position."""
    connection.execute(ENTER, (meta.id, *entry.position, entry.value, entry.run, entry.key))
    epoch, seq = entry.position
    more = {"conversation": meta.id, "epoch": epoch, "seq": seq, "entered": entry.run is not None}
    connection.execute(RAISE, more)


def touch(connection: sqlite3.Connection, meta: Meta, keep: float | None, now: float) -> None:
    """Note that something was written, and until when it is kept."""
    connection.execute(TOUCH, {"conversation": meta.id, "now": now, "keep": keep})


def between(
    connection: sqlite3.Connection, meta: Meta, after: Position | None, before: Position | None, count: int,
    limit: int, newest: bool,
) -> list[Entry]:  # fmt: skip
    """Return entries, as ``LogStore.entries`` says."""
    found: list[Entry] = []
    parameters = (meta.id, *(after or LOWEST), *(before or HIGHEST), count)
    rows = connection.execute(BACK if newest else BETWEEN, parameters)
    for row in rows:
        entry = entry_of(row)
        limit -= entry.size
        if found and limit < 0:
            rows.close()
            break
        found.append(entry)
    return found[::-1] if newest else found


def entries(connection: sqlite3.Connection, log: Log, now: float, *bounds: Any) -> list[Entry] | None:
    """Return them; ``None`` if the log is gone."""
    connection.execute("BEGIN")
    meta = meta_of(connection, log, now)
    found = None if meta is None else between(connection, meta, *bounds)
    connection.execute("COMMIT")
    return found


def find(connection: sqlite3.Connection, log: Log, key: bytes | None, run: bytes | None, now: float) -> Entry | None:
    """Return the entry of a key, or the last of a run."""
    connection.execute("BEGIN")
    meta = meta_of(connection, log, now)
    row = None
    if meta is not None:
        query, value = (BY_KEY, key) if key is not None else (BY_RUN, run)
        row = connection.execute(query, (meta.id, value)).fetchone()
    connection.execute("COMMIT")
    return None if row is None else entry_of(row)


def look(connection: sqlite3.Connection, places: Sequence[Place], count: int, limit: int, now: float) -> Look | None:
    """Return the first that is there, from one snapshot."""
    connection.execute("BEGIN")
    found = None
    for place in places:
        meta = meta_at(connection, place, now)
        if meta is not None:
            last = between(connection, meta, None, None, count, limit, True) if count else []
            status = status_of(connection, meta, meta.run)
            said = meta.about, meta.version, meta.created, meta.updated
            found = Look(Log(place, meta.log), meta.top, *said, last, status)
            break
    connection.execute("COMMIT")
    return found


def cut(
    connection: sqlite3.Connection, log: Log, after: Position | None, before: Position | None, now: float
) -> Appended:
    """Remove the tail or the head."""
    meta = proven_meta(connection, log, now)
    if meta is None:
        return Appended(Outcome.GONE)
    if after is not None and is_running(connection, meta):
        return Appended(Outcome.BUSY, meta.top)
    top = meta.top
    if after is not None and after <= top:
        last = connection.execute(LAST_BELOW, (meta.id, *after)).fetchone()
        first = connection.execute(FIRST_ABOVE, (meta.id, *after)).fetchone()
        seq = last[0] if last is not None else min(after[1], meta.seq, *([first[0] - 1] if first else []))
        top = meta.epoch + 1, seq
        connection.execute(CUT_TAIL, (meta.id, *after))
        connection.execute(SET_TOP, (*top, meta.id))
    if before is not None:
        connection.execute(CUT_HEAD, (meta.id, *before))
    return Appended(Outcome.DONE, top)


def describe(connection: sqlite3.Connection, log: Log, about: bytes, version: int, now: float) -> Outcome:
    """Replace what is said."""
    meta = proven_meta(connection, log, now)
    if meta is None:
        return Outcome.GONE
    if meta.version != version:
        return Outcome.TAKEN
    connection.execute(DESCRIBE, {"conversation": meta.id, "about": about, "now": now})
    return Outcome.DONE


def delete(connection: sqlite3.Connection, place: Place, log: bytes | None, top: Position | None, now: float) -> bool:
    """Remove a conversation."""
    meta = meta_at(connection, place, now)
    if meta is None or not meta.proven or log not in (None, meta.log) or top not in (None, meta.top):
        return False
    connection.execute(REMOVE, (meta.id,))
    return True


def owned(
    connection: sqlite3.Connection, owner: bytes, count: int, before: tuple[float, bytes] | None, now: float
) -> list[Listed]:
    """Return what an owner has."""
    updated, last = before or (float("inf"), b"")
    parameters = {"now": now, "owner": owner, "updated": updated, "id": last, "count": count}
    return [_listed(row) for row in connection.execute(OWNED, parameters)]


def page(
    connection: sqlite3.Connection, after: bytes | None, count: int, now: float
) -> tuple[list[Listed], bytes | None]:
    """Return users' conversations in the order of their ids."""
    rows = connection.execute(PAGE, {"now": now, "after": after or b"", "count": count})
    found = [_listed(row) for row in rows]
    return found, found[-1].place.conversation if len(found) == count else None


def _listed(row: Any) -> Listed:
    conversation, session, log, about, created, updated, running = row
    return Listed(Place(conversation, session), log, about, created, updated, bool(running))


def purge(connection: sqlite3.Connection, time: float, limit: int, now: float) -> tuple[int, bool]:
    """Remove conversations that are over, and frames. Return how many conversations, and whether there may be more."""
    removed = connection.execute(OVER, {"now": now, "limit": limit}).rowcount
    runs = connection.execute(OVER_RUNS, {"time": time, "limit": limit}).rowcount
    return removed, max(removed, runs) >= limit
