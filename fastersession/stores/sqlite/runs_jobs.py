"""The runs of a ``SQLiteStore``, as jobs.

Rules of residence: as for ``jobs``. A job that refuses has written nothing, for others share its transaction. The
clock of the file's machine says how long leases and frames last.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..logs import ORIGIN, TERMINAL, Batch, Begin, Begun, End, Ended, Outcome, Position, Run
from .logs_jobs import enter, touch
from .logs_rows import Meta, RunRow, is_running, meta_of, proven_meta, run_row, status_of

FORGET = "DELETE FROM run WHERE conversation = ? AND is_running = 0 AND kept_until <= ?"
FRAME = "SELECT value FROM frame WHERE conversation = ? AND run = ? AND epoch = ? AND seq = ?"
TOP = "SELECT epoch, seq FROM frame WHERE conversation = ? AND run = ? ORDER BY epoch DESC, seq DESC LIMIT 1"
FRAMES = """
    SELECT epoch, seq, value FROM frame WHERE conversation = ? AND run = ? AND (epoch, seq) > (?, ?)
    ORDER BY epoch, seq"""
WRITE = "INSERT INTO frame (conversation, run, epoch, seq, value) VALUES (?, ?, ?, ?, ?)"
BEGIN = """
    INSERT INTO run (conversation, id, user_id, is_running, lease_until, kept_until) VALUES (?, ?, ?, 1, ?, ?)"""
LAST = "UPDATE conversation SET run = ?, run_user = ?, entered = 0 WHERE id = ?"
RENEW = "UPDATE run SET lease_until = ? WHERE conversation = ? AND id = ?"
END = "UPDATE run SET is_running = 0, terminal = ?, kept_until = ? WHERE conversation = ? AND id = ?"
REMOVE = "DELETE FROM run WHERE conversation = ? AND id = ?"


def begin(connection: sqlite3.Connection, begin: Begin, now: float) -> Begun:
    """Take the turn, and write head and question."""
    meta, run = proven_meta(connection, begin.run.log, now), begin.run.run
    if meta is None:
        return Begun(Outcome.GONE)
    connection.execute(FORGET, (meta.id, time.time()))
    status = status_of(connection, meta, run)
    if status is not None:
        is_retry = _has(connection, meta.id, run, ORIGIN, begin.head)
        return Begun(Outcome.DONE if is_retry else Outcome.SAME, status, meta.top)
    is_other = begin.instead_of is not None and meta.run != begin.instead_of
    if is_other or is_running(connection, meta):
        return Begun(Outcome.BUSY, status_of(connection, meta, meta.run), meta.top)
    if begin.entry is not None and not meta.is_next(begin.entry.position):
        return Begun(Outcome.TAKEN, status_of(connection, meta, meta.run), meta.top)
    at = time.time()
    connection.execute(BEGIN, (meta.id, run, meta.user, at + begin.seconds, at + begin.kept))
    connection.execute(WRITE, (meta.id, run, *ORIGIN, begin.head))
    connection.execute(LAST, (run, meta.user, meta.id))
    if begin.entry is not None:
        enter(connection, meta, begin.entry)
    touch(connection, meta, begin.keep, now)
    meta = meta._replace(run=run, entered=0)
    top = meta.top if begin.entry is None else begin.entry.position
    return Begun(Outcome.DONE, status_of(connection, meta, run), top)


def write(connection: sqlite3.Connection, batches: Sequence[Batch], now: float) -> list[Outcome]:
    """Write frames, each batch by itself."""
    return [_write(connection, *batch[:3], now) for batch in batches]


def _write(connection: sqlite3.Connection, run: Run, position: Position, value: bytes, now: float) -> Outcome:
    found = _kept(connection, run, now)
    if found is None or found[0].user != found[1].user:
        return Outcome.GONE
    meta, row = found
    if _has(connection, meta.id, run.run, position, value):
        return Outcome.DONE
    top = connection.execute(TOP, (meta.id, run.run)).fetchone()
    if not row.is_running or position <= top or position >= TERMINAL:
        return Outcome.TAKEN
    connection.execute(WRITE, (meta.id, run.run, *position, value))
    return Outcome.DONE


def read(
    connection: sqlite3.Connection, after: Mapping[Run, Position], limit: int, now: float
) -> dict[Run, list[tuple[Position, Any]] | None]:
    """Return what runs have above positions, from one snapshot."""
    connection.execute("BEGIN")
    found: dict[Run, list[tuple[Position, Any]] | None] = {}
    for run, position in after.items():
        kept = _kept(connection, run, now)
        found[run] = None if kept is None else _frames(connection, kept[0].id, run.run, position, limit)
    connection.execute("COMMIT")
    return found


def renew(connection: sqlite3.Connection, runs: Sequence[Run], seconds: float, now: float) -> set[Run]:
    """Renew leases; return the runs that are not running."""
    ended = set()
    for run in runs:
        found = _kept(connection, run, now)
        if found is None or not found[1].is_running:
            ended.add(run)
        else:
            connection.execute(RENEW, (time.time() + seconds, found[0].id, run.run))
    return ended


def end(connection: sqlite3.Connection, end: End, now: float) -> Ended:
    """End a run, and write the answer."""
    run = end.run.run
    meta = meta_of(connection, end.run.log, now)
    row = None if meta is None else run_row(connection, meta.id, run)
    if meta is None or row is None:
        return Ended(Outcome.GONE)
    if not row.is_running:
        if row.is_over():
            return Ended(Outcome.GONE)
        outcome = Outcome.DONE if row.terminal == end.value else Outcome.TAKEN
        return Ended(outcome, status_of(connection, meta, run), meta.top)
    if end.if_lost and row.seconds_left() > 0:
        return Ended(Outcome.BUSY, status_of(connection, meta, run), meta.top)
    entry = end.entry if row.user == meta.user else None
    if entry is not None and not meta.is_next(entry.position):
        return Ended(Outcome.TAKEN, status_of(connection, meta, run), meta.top)
    if row.is_over():
        connection.execute(REMOVE, (meta.id, run))
    else:
        connection.execute(WRITE, (meta.id, run, *TERMINAL, end.value))
        connection.execute(END, (end.value, time.time() + end.lingers, meta.id, run))
    if entry is not None:
        enter(connection, meta, entry)
        meta = meta._replace(epoch=entry.position[0], seq=entry.position[1], entered=1)
    touch(connection, meta, end.keep, now)
    return Ended(Outcome.DONE, status_of(connection, meta, run), meta.top)


def _kept(connection: sqlite3.Connection, run: Run, now: float) -> tuple[Meta, RunRow] | None:
    """Return a conversation and its run, if its frames are kept."""
    meta = meta_of(connection, run.log, now)
    row = None if meta is None else run_row(connection, meta.id, run.run)
    return None if meta is None or row is None or row.is_over() else (meta, row)


def _has(connection: sqlite3.Connection, conversation: bytes, run: bytes, position: Position, value: bytes) -> bool:
    row = connection.execute(FRAME, (conversation, run, *position)).fetchone()
    return row is not None and row[0] == value


def _frames(
    connection: sqlite3.Connection, conversation: bytes, run: bytes, after: Position, limit: int
) -> list[tuple[Position, Any]]:
    found: list[tuple[Position, Any]] = []
    rows = connection.execute(FRAMES, (conversation, run, *after))
    for epoch, seq, value in rows:
        if found and limit < len(value):
            rows.close()
            break
        limit -= len(value)
        found.append(((epoch, seq), value))
    return found
