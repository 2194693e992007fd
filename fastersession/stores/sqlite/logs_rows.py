"""The tables of conversations in a ``SQLiteStore``, and what their rows say.

Rules of residence: as for ``jobs``; finding one conversation or run, and nothing that writes but the tables themselves.

They are made by the first verb, so a file without conversations has none. A session's go with its row; where that is
kept for its end to be told, they are absent at once, and removed by the next purge.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, NamedTuple

from ..logs import Entry, Log, Place, Position, Status
from .jobs import PROVEN

TABLES = (
    """CREATE TABLE IF NOT EXISTS conversation (
        id BLOB PRIMARY KEY NOT NULL,
        session BLOB REFERENCES session (id) ON DELETE CASCADE,
        log BLOB NOT NULL,
        owner BLOB NOT NULL,
        about BLOB NOT NULL,
        version INTEGER NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        expires REAL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        run BLOB,
        run_user BLOB,
        entered INTEGER NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS entry (
        conversation BLOB NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        value BLOB NOT NULL,
        run BLOB,
        "key" BLOB,
        PRIMARY KEY (conversation, epoch, seq)
    )""",
    """CREATE TABLE IF NOT EXISTS run (
        conversation BLOB NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
        id BLOB NOT NULL,
        user_id BLOB,
        is_running INTEGER NOT NULL,
        lease_until REAL NOT NULL,
        kept_until REAL NOT NULL,
        terminal BLOB,
        PRIMARY KEY (conversation, id)
    )""",
    """CREATE TABLE IF NOT EXISTS frame (
        conversation BLOB NOT NULL,
        run BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (conversation, run, epoch, seq),
        FOREIGN KEY (conversation, run) REFERENCES run (conversation, id) ON DELETE CASCADE
    )""",
    "CREATE INDEX IF NOT EXISTS conversation_session ON conversation (session)",
    "CREATE INDEX IF NOT EXISTS conversation_owner ON conversation (owner, updated, id)",
    "CREATE INDEX IF NOT EXISTS conversation_expires ON conversation (expires) WHERE expires IS NOT NULL",
    'CREATE UNIQUE INDEX IF NOT EXISTS entry_key ON entry (conversation, "key") WHERE "key" IS NOT NULL',
    "CREATE INDEX IF NOT EXISTS entry_run ON entry (conversation, run, epoch, seq) WHERE run IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS run_kept ON run (kept_until) WHERE is_running = 0",
)
ALIVE = "(c.expires IS NULL OR c.expires > :now) AND (c.session IS NULL OR s.expires > :now)"
META = """
    SELECT c.id, c.log, c.about, c.version, c.created, c.updated, c.epoch, c.seq, c.run, c.run_user, c.entered,
        s.user_id, c.session IS NULL OR coalesce({PROVEN}, 0)
    FROM conversation c LEFT JOIN session s ON s.id = c.session
    WHERE c.id = :conversation AND c.session IS :session AND {ALIVE}
    """.replace(
    "{PROVEN}",
    PROVEN.replace("verifier_", "s.verifier_")
    .replace("(verifier =", "(s.verifier =")
    .replace("= verifier)", "= s.verifier)"),
).replace("{ALIVE}", ALIVE)
IS_PROVEN = "SELECT {PROVEN} FROM session WHERE id = :session AND expires > :now".replace("{PROVEN}", PROVEN)
RUN = "SELECT user_id, is_running, lease_until, kept_until, terminal FROM run WHERE conversation = ? AND id = ?"
CARRIED = "SELECT 1 FROM entry WHERE conversation = ? AND run = ? LIMIT 1"
COLUMNS = 'epoch, seq, value, run, "key"'


class Meta(NamedTuple):
    """A conversation's row, and what its session's says."""

    id: bytes
    log: bytes
    about: bytes
    version: int
    created: float
    updated: float
    epoch: int
    seq: int
    run: bytes | None
    run_user: bytes | None  # who was logged in to the session when it began
    entered: int
    user: bytes | None
    proven: int

    @property
    def top(self) -> Position:
        """The top of the history."""
        return self.epoch, self.seq

    def is_next(self, position: Position) -> bool:
        """Return whether an entry may have this position."""
        return position == (self.epoch, self.seq + 1)


class RunRow(NamedTuple):
    """A run's row."""

    user: bytes | None
    is_running: int
    lease_until: float
    kept_until: float
    terminal: bytes | None

    def is_over(self) -> bool:
        """Return whether its frames are kept no longer."""
        return time.time() >= self.kept_until

    def seconds_left(self) -> float:
        """Return how long its lease will be."""
        return max(self.lease_until - time.time(), 0.0) if self.is_running else 0.0


def make(connection: sqlite3.Connection) -> None:
    """Make the tables where they are missing."""
    for statement in TABLES:
        connection.execute(statement)


def are_there(connection: sqlite3.Connection) -> bool:
    """Return whether anybody has made the tables."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'frame'").fetchone()
    return found is not None


def parameters_of(place: Place, now: float) -> dict[str, Any]:
    """Return what the statements about a conversation take."""
    return {
        "conversation": place.conversation, "session": place.session, "verifier": place.verifier or b"", "now": now
    }  # fmt: skip


def meta_at(connection: sqlite3.Connection, place: Place, now: float) -> Meta | None:
    """Return what is at a place."""
    row = connection.execute(META, parameters_of(place, now)).fetchone()
    return None if row is None else Meta(*row)


def meta_of(connection: sqlite3.Connection, log: Log, now: float) -> Meta | None:
    """Return what is there of this very log."""
    meta = meta_at(connection, log.place, now)
    return meta if meta is not None and meta.log == log.log else None


def proven_meta(connection: sqlite3.Connection, log: Log, now: float) -> Meta | None:
    """Return it for a request that writes."""
    meta = meta_of(connection, log, now)
    return meta if meta is not None and meta.proven else None


def run_row(connection: sqlite3.Connection, conversation: bytes, run: bytes | None) -> RunRow | None:
    """Return the row of a run."""
    row = connection.execute(RUN, (conversation, run)).fetchone()
    return None if row is None else RunRow(*row)


def is_running(connection: sqlite3.Connection, meta: Meta) -> bool:
    """Return whether the turn is taken."""
    row = run_row(connection, meta.id, meta.run)
    return row is not None and bool(row.is_running)


def status_of(connection: sqlite3.Connection, meta: Meta, run: bytes | None) -> Status | None:
    """Return the status of a run whose frames are kept, or that has not ended, or that an entry carries."""
    if run is None:
        return None
    row = run_row(connection, meta.id, run)
    carried = connection.execute(CARRIED, (meta.id, run)).fetchone() is not None
    if row is not None and (row.is_running or not row.is_over()):
        is_entered = carried or (run == meta.run and bool(meta.entered))
        return Status(run, bool(row.is_running), row.seconds_left(), is_entered, row.terminal)
    return Status(run, False, is_entered=True) if carried else None


def entry_of(row: Any) -> Entry:
    """Return the entry of a row."""
    epoch, seq, value, run, key = row
    return Entry((epoch, seq), value, run, key, len(value))
