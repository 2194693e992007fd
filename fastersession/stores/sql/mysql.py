"""MariaDB and MySQL behind ``SQLStore``.

Rules of residence: what they spell or do otherwise than the rest. Its functions run on a connection in AUTOCOMMIT: a
statement is a transaction, unless one is begun by hand. Bytes travel as base64: the driver writes them into the
statement's text, where nothing may depend on how a server reads quotes and backslashes, and escaping is slow.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from . import statements as sql
from .statements import FOREVER, Statement, named, transaction

# VARBINARY, not a character set: the collations fold letters, or pad with spaces ("a" = "a ").
TABLES = (
    """create table if not exists {session} (
    id varbinary(16) not null primary key,
    verifier varbinary(32) not null,
    user_id blob,
    created double not null,
    accessed double not null,
    idle_timeout double not null,
    not_after double not null,
    expires double not null,
    expire_hour bigint not null,
    regenerated_at double,
    version bigint not null,
    lease_owner varbinary(16),
    lease_until double,
    verifier_before varbinary(32),
    verifier_after varbinary(32),
    index expire_hour (expire_hour)
) engine = InnoDB""",
    """create table if not exists {attribute} (
    session_id varbinary(16) not null,
    name varbinary(255) not null,
    value longblob not null,
    primary key (session_id, name),
    foreign key (session_id) references {session} (id) on delete cascade
) engine = InnoDB""",
)
SET = "insert into {attribute} (session_id, name, value) values"
ROW = "(from_base64(%s), from_base64(%s), from_base64(%s))"
OVERWRITE = "on duplicate key update value = values(value)"
DELETE_ATTRIBUTE = "delete from {attribute} where session_id = bytes(:id) and name = bytes(:name)"
FIND_EXPIRED = """
    select id from {session} where expire_hour <= floor(real(:now) / 3600) and expires <= real(:now)
    limit :limit for update skip locked"""
DELETE_EXPIRED = "delete from {session} where id in (<>)"
STATEMENT_BYTES = 2**20  # of values in one INSERT: servers take 16 MB by default, and base64 adds a third


class MySQL:
    """What ``SQLStore`` does on a connection to MariaDB or MySQL."""

    minimum = (8, 0, 1)
    added_type = "varbinary(32)"  # of a column of ``ADDED``
    minimum_mariadb = (10, 6)
    marks = {"bytes": "from_base64({})", "real": "{}"}  # noqa: RUF012

    def __init__(self, style: str, session: str, attribute: str) -> None:
        tables = {"session": session, "attribute": attribute}

        def compiled(text: str) -> Statement:
            return Statement(text, style, self.marks, tables, _bind)

        self.ddl = tuple(named(text, tables) for text in TABLES)
        self._set, self._delete_expired = named(SET, tables), named(DELETE_EXPIRED, tables)
        self._load, self._create = compiled(sql.LOAD), compiled(sql.CREATE)
        self._one = {kind: compiled(kind) for kind in sql.ROW_KINDS}
        self._delete_attribute, self._find_expired = compiled(DELETE_ATTRIBUTE), compiled(FIND_EXPIRED)

    def load(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Return a row for each attribute, with the session's columns in front. Without any, one row has NULLs."""
        return [
            (*row[:4], _unbound(row[4]), _unbound(row[5]), *row[6:])
            for row in map(tuple, self._load.run(connection, parameters).fetchall())
        ]

    def one(self, connection: Connection, kind: str, parameters: Mapping[str, Any]) -> bool:
        """Run a statement about one session's row."""
        return self._one[kind].one(connection, parameters)

    def create(self, connection: Connection, parameters: Mapping[str, Any], sets: Mapping[bytes, bytes]) -> bool:
        """Insert in one transaction, in the place of an expired record too."""
        while True:
            try:
                with transaction(connection):
                    self._create.run(connection, parameters)
                    self._write(connection, parameters["id"], sets)
            except IntegrityError:
                if not self.one(connection, sql.DELETE_EXPIRED, parameters):
                    return False
            else:
                return True

    def merge(
        self,
        connection: Connection,
        kind: str,
        parameters: Mapping[str, Any],
        sets: Mapping[bytes, bytes],
        deletes: Sequence[bytes],
    ) -> bool:
        """Update the session's row first, whose lock the attributes are written behind, in order."""
        if not sets and not deletes:
            return self.one(connection, kind, parameters)
        with transaction(connection):
            merged = self.one(connection, kind, parameters)
            if merged:
                self._write(connection, parameters["id"], sets)
                for name in sorted(deletes):
                    self._delete_attribute.run(connection, {"id": parameters["id"], "name": name})
        return merged

    def purge(self, connection: Connection, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired sessions, passing over those that somebody else is at."""
        with transaction(connection):
            found = self._find_expired.run(connection, {"now": now, "limit": limit}).fetchall()
            if found:
                marks = ", ".join(["from_base64(%s)"] * len(found))
                text = self._delete_expired.replace("<>", marks)
                connection.exec_driver_sql(text, tuple(_bind(record_id) for (record_id,) in found))
        return len(found)

    def _write(self, connection: Connection, record_id: bytes, sets: Mapping[bytes, bytes]) -> None:
        for part in _parts(sorted(sets.items())):
            text = " ".join((self._set, ", ".join([ROW] * len(part)), OVERWRITE))
            values = [_bind(value) for name, content in part for value in (record_id, name, content)]
            connection.exec_driver_sql(text, tuple(values))


def _bind(value: Any) -> Any:
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    return min(value, FOREVER) if isinstance(value, float) else value


def _unbound(value: float) -> float:
    return float("inf") if value >= FOREVER else value


def _parts(items: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Split attributes so that no statement gets too large."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for name, value in items:
        if part and size + len(value) > STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append((name, value))
        size += len(value)
    if part:
        yield part
