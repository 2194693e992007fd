"""The file of a ``SQLiteStore``: its tables, and how a connection to it is made.

Rules of residence: connecting, creating, recognising. No statement about a single session, no thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

from ...errors import StoreError

APPLICATION_ID = 0x46734573  # "FsEs" in the header of the file: it is ours, and not an application's own database
SCHEMA_VERSION = 1  # raised only by what an older release could not live with; a column that is added is not
BUSY_SECONDS = 1.5  # wait for other processes: below the 2 s after which a request gives up
CACHE_KIB = 8192  # of pages, for each connection
_READ_ONLY = (
    "this process may not write there: it needs the rights to read and write the file, and to make files in its folder "
    "(-wal and -shm stand beside it)"
)

# No STRICT tables: SQLite >= 3.37 only, and distributions of today still carry 3.34.
# Names are kept as bytes: compared as they are, with NULs and lone surrogates.
TABLES = (
    """CREATE TABLE session (
        id BLOB PRIMARY KEY NOT NULL,
        verifier BLOB NOT NULL,
        user_id BLOB,
        created REAL NOT NULL,
        accessed REAL NOT NULL,
        idle_timeout REAL NOT NULL,
        not_after REAL NOT NULL,
        expires REAL NOT NULL,
        regenerated_at REAL,
        version INTEGER NOT NULL,
        lease_owner BLOB,
        lease_until REAL,
        verifier_before BLOB,
        verifier_after BLOB,
        retention REAL,
        ended_reason TEXT,
        claimed_until REAL
    ) WITHOUT ROWID""",
    """CREATE TABLE attribute (
        session_id BLOB NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        name BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (session_id, name)
    )""",
    "CREATE INDEX session_expires ON session (expires)",
)
# Since 0.1, whose workers go on with the same file: they never name these, so NULL is what they insert. Whoever has no
# user and no retention is in none of the indexes.
ADD = "ALTER TABLE session ADD COLUMN"
ADDED_COLUMNS = {
    "verifier_before": "BLOB", "verifier_after": "BLOB", "retention": "REAL", "ended_reason": "TEXT",
    "claimed_until": "REAL",
}  # fmt: skip
ADDED_OBJECTS = {
    "session_user": "CREATE INDEX session_user ON session (user_id) WHERE user_id IS NOT NULL",
    "session_kept": "CREATE INDEX session_kept ON session (expires) WHERE retention IS NOT NULL",
    "mark": """CREATE TABLE mark (
        user_id BLOB PRIMARY KEY NOT NULL,
        not_before REAL NOT NULL,
        spared BLOB
    ) WITHOUT ROWID""",
    "mark_not_before": "CREATE INDEX mark_not_before ON mark (not_before)",
}


def connect_writer(path: str) -> sqlite3.Connection:
    """Connect for writing. The thread waits for locks itself, in shorter steps than SQLite."""
    return _told(path, os.R_OK | os.W_OK, "busy_timeout=0")


def connect_reader(path: str) -> sqlite3.Connection:
    """Connect for reading only."""
    return _told(path, os.R_OK, "query_only=ON")


def _told(path: str, access: int, role: str) -> sqlite3.Connection:
    """Connect, and tell a failure with the path and what to do."""
    try:
        connection = _connect(path, role)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"SQLite cannot use {path}: {_reason(path, error)}") from error
    if not os.access(path, access):  # SQLite reads such a file, and fails at the first write
        connection.close()
        raise StoreError(f"SQLite cannot use {path}: {_READ_ONLY}")
    return connection


def _reason(path: str, error: Exception) -> str:
    """Return what is wrong with the place. It is looked at anew: SQLite has the same words for most faults."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f"{folder} is no folder" if os.path.exists(folder) else f"the folder {folder} is missing: make it"
    if os.path.isdir(path):
        return "it is a folder: name a file in it"
    if os.path.exists(path) and not os.path.isfile(path):
        return "it is no regular file"
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
        return "it is no SQLite database: name another file, or remove this one"
    if not os.access(folder, os.W_OK | os.X_OK) or (os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK)):
        return _READ_ONLY
    return getattr(error, "strerror", None) or str(error)


def _connect(path: str, role: str) -> sqlite3.Connection:
    """Connect, making the file (readable for its owner only) and the tables where they are missing."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        _ensure_tables(path, connection)
        for pragma in ("foreign_keys=ON", f"cache_size=-{CACHE_KIB}", "temp_store=MEMORY", role):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _ensure_tables(path: str, connection: sqlite3.Connection) -> None:
    if not _missing(path, connection):
        return
    _use_wal(path, connection)
    connection.execute("BEGIN IMMEDIATE")
    for statement in _missing(path, connection):  # none if another process was faster
        connection.execute(statement)
    connection.execute("COMMIT")


def _missing(path: str, connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the statements that the file lacks: all for an empty one, what was added since for an older release's.

    :raises StoreError: it is a database of something else, or of a version that this release cannot read.
    """
    (application,), (version,), (objects,) = (
        connection.execute(query).fetchone()
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if application == APPLICATION_ID and version == SCHEMA_VERSION:
        return _added_since(connection)
    if application == APPLICATION_ID:
        raise StoreError(
            f"{path}: its tables are of version {version}, this fastersession knows version {SCHEMA_VERSION}: a newer "
            "release made them; upgrade fastersession, or give it another file (GUIDE.md, Schema versions)"
        )
    if application or version or objects:
        raise StoreError(f"{path}: is a database of something else; give the sessions a file of their own")
    header = f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={SCHEMA_VERSION}"
    return (*TABLES, *ADDED_OBJECTS.values(), *header)


def _added_since(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the statements that bring what an older release made to today's tables."""
    columns = {column for _, column, *_ in connection.execute("PRAGMA table_info(session)")}
    objects = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return (
        *(f"{ADD} {name} {kind}" for name, kind in ADDED_COLUMNS.items() if name not in columns),
        *(statement for name, statement in ADDED_OBJECTS.items() if name not in objects),
    )


def _use_wal(path: str, connection: sqlite3.Connection) -> None:
    """Switch the file to WAL. SQLite does not wait for others here, so we do."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            raise StoreError(f"{path}: cannot be kept in WAL mode (journal_mode is {mode}): is it on a network share?")
        return
