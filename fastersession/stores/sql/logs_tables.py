"""The tables of conversations behind ``SQLStore``, and what their rows say.

Rules of residence: their statements' common parts, how the databases spell them, and how they are made. No verb.

They are made by the first verb, so a database without conversations has none. A session's go with its row; where that
is kept for its end to be told, they are absent at once, and removed by the next purge. Locks are taken in one order:
the session's row (shared), the conversation's, the runs' by id. Who writes frames locks runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ...errors import StoreError
from ..logs import Entry, Position, Status
from .engine import error_text
from .mysql import MySQL
from .postgresql import PostgreSQL

TRIES = 5  # several workers may make the tables at the same time
NAMES = ("conversation", "entry", "run", "frame")
TABLES = (
    """create table {conversation} (
    id <id> not null primary key,
    session_id <id>,
    log <id> not null,
    owner_id <id> not null,
    about <value> not null,
    version bigint not null,
    created <real> not null,
    updated <real> not null,
    expires <real>,
    epoch bigint not null,
    seq bigint not null,
    run <id>,
    run_user <id>,
    entered smallint not null,
    foreign key (session_id) references {session} (id) on delete cascade
)<engine>""",
    """create table {entry} (
    conversation <id> not null,
    epoch bigint not null,
    seq bigint not null,
    value <value> not null,
    run <id>,
    entry_key <id>,
    primary key (conversation, epoch, seq),
    unique (conversation, entry_key),
    foreign key (conversation) references {conversation} (id) on delete cascade
)<engine>""",
    """create table {run} (
    conversation <id> not null,
    id <id> not null,
    user_id <id>,
    is_running smallint not null,
    lease_until <real> not null,
    kept_until <real> not null,
    terminal <value>,
    primary key (conversation, id),
    foreign key (conversation) references {conversation} (id) on delete cascade
)<engine>""",
    "create index {conversation_bare}_session on {conversation} (session_id)",
    "create index {conversation_bare}_owner on {conversation} (owner_id, updated, id)",
    "create index {conversation_bare}_expires on {conversation} (expires)",
    "create index {entry_bare}_run on {entry} (conversation, run)",
    "create index {run_bare}_kept on {run} (kept_until)",
    # The last: where it is there, all is.
    """create table {frame} (
    conversation <id> not null,
    run <id> not null,
    epoch bigint not null,
    seq bigint not null,
    value <value> not null,
    primary key (conversation, run, epoch, seq),
    foreign key (conversation, run) references {run} (conversation, id) on delete cascade
)<engine>""",
)
TYPES = {
    "postgresql": {"<id>": "bytea", "<value>": "bytea", "<real>": "double precision", "<engine>": ""},
    "mysql": {"<id>": "varbinary(16)", "<value>": "longblob", "<real>": "double", "<engine>": " engine = InnoDB"},
}
# The server's time in seconds, by which leases and frames last.
TIME = {
    "postgresql": "cast(extract(epoch from clock_timestamp()) as double precision)",
    "mysql": "cast(unix_timestamp(sysdate(6)) as double)",
}
SHARE = {"postgresql": "for share", "mysql": "lock in share mode"}

PROOF = """
    select user_id, verifier = bytes(:verifier) or (verifier_before = bytes(:verifier) and verifier_after = verifier)
    from {session} where id = bytes(:session) and expires > real(:now)"""
META = """
    select id, log, about, version, created, updated, epoch, seq, run, run_user, entered, session_id
    from {conversation} where id = bytes(:conversation) and (expires is null or expires > real(:now))"""
RUN = """
    select user_id, is_running, case when lease_until > <now> then lease_until - <now> else 0 end,
        case when kept_until <= <now> then 1 else 0 end, terminal
    from {run} where conversation = bytes(:conversation) and id = bytes(:run)"""
CARRIED = "select 1 from {entry} where conversation = bytes(:conversation) and run = bytes(:run) limit 1"
COLUMNS = "epoch, seq, value, run, entry_key"


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
    session: bytes | None
    user: bytes | None = None
    proven: bool = True

    @property
    def top(self) -> Position:
        """The top of the history."""
        return self.epoch, self.seq

    def is_next(self, position: Position) -> bool:
        """Return whether an entry may have this position."""
        return position == (self.epoch, self.seq + 1)


class RunRow(NamedTuple):
    """A run's row. ``is_over``: its frames are kept no longer."""

    user: bytes | None
    is_running: int
    seconds_left: float
    is_over: int
    terminal: bytes | None


class LogTables:
    """The statements of conversations for one database, and the tables."""

    def __init__(self, database: PostgreSQL | MySQL, session: str, *, create: bool) -> None:
        kind = "postgresql" if isinstance(database, PostgreSQL) else "mysql"
        self.database = database
        self._create = create
        self.time, self.share = TIME[kind], SHARE[kind]
        self._names = {name: f"{session}_{name}" for name in NAMES}
        bare = {f"{name}_bare": table.rpartition(".")[2] for name, table in self._names.items()}
        self.ddl = tuple(_spelt(text, {**self._names, **bare, "session": session}, TYPES[kind]) for text in TABLES)
        self.ready = False

    def compiled(self, *texts: str) -> Any:
        """Return a statement."""
        text = " ".join(texts).replace("<now>", self.time)
        for name, table in self._names.items():
            text = text.replace("{" + name + "}", table)
        return self.database.compiled(text)

    def name(self, table: str) -> str:
        """Return the name of a table."""
        return self._names[table]

    def prepare(self, connection: Connection) -> None:
        """Make the tables where they are missing.

        :raises StoreError: they are, and may not be made.
        """
        for _ in range(TRIES):
            missing = self._missing(connection)
            if missing is None:
                self.ready = True
                return
            if not self._create:
                break
            for statement in self.ddl:
                try:
                    connection.exec_driver_sql(statement)
                except DBAPIError as error:  # another worker was faster, or it is not allowed: the next look tells
                    missing = error_text(error.orig or error)
        raise StoreError(
            f"the tables of conversations cannot be used ({missing}): make them with the statements of "
            "SQLStore.logs.ddl, or let create_tables=True do it, with an account that may"
        )

    def are_there(self, connection: Connection) -> bool:
        """Return whether anybody has made them."""
        return self.ready or self._missing(connection) is None

    def _missing(self, connection: Connection) -> str | None:
        for table in self._names.values():
            try:
                connection.exec_driver_sql(" ".join(("select 1 from", table, "where 1 = 0")))
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                return error_text(error.orig or error)
        return None


def _spelt(text: str, tables: dict[str, str], types: dict[str, str]) -> str:
    for name, table in tables.items():
        text = text.replace("{" + name + "}", table)
    for mark, type_ in types.items():
        text = text.replace(mark, type_)
    return text


def status(run: bytes, row: RunRow | None, *, carried: bool, is_entered: bool) -> Status | None:
    """Return the status of a run whose frames are kept, or that has not ended, or that an entry carries."""
    if row is not None and (row.is_running or not row.is_over):
        left = float(row.seconds_left) if row.is_running else 0.0
        return Status(run, bool(row.is_running), left, carried or is_entered, row.terminal)
    return Status(run, False, is_entered=True) if carried else None


def entry_of(row: Sequence[Any]) -> Entry:
    """Return the entry of a row."""
    epoch, seq, value, run, key = row
    return Entry((epoch, seq), value, run, key, len(value))
