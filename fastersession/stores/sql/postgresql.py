"""PostgreSQL behind ``SQLStore``.

Rules of residence: what PostgreSQL spells or does otherwise than the rest. Its functions run on a connection in
AUTOCOMMIT: a statement is a transaction, unless one is begun by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from . import statements as sql
from .statements import Statement, named, transaction

# `expire_hour` is what is indexed: an index on the expiry itself would end heap-only updates at every touch.
# Values are sealed, so they cannot be compressed: `external` spares the attempt.
TABLES = (
    """create table if not exists {session} (
    id bytea primary key,
    verifier bytea not null,
    user_id bytea,
    created double precision not null,
    accessed double precision not null,
    idle_timeout double precision not null,
    not_after double precision not null,
    expires double precision not null,
    expire_hour bigint not null,
    regenerated_at double precision,
    version bigint not null,
    lease_owner bytea,
    lease_until double precision,
    verifier_before bytea,
    verifier_after bytea
) with (fillfactor = 80)""",
    """create table if not exists {attribute} (
    session_id bytea not null references {session} (id) on delete cascade,
    name bytea not null,
    value bytea not null,
    primary key (session_id, name)
)""",
    "alter table {attribute} alter column value set storage external",
    "create index if not exists {index} on {session} (expire_hour)",
)
KEPT = """kept as (
        insert into {attribute} (session_id, name, value)
        select own.id, x.name, x.value
        from own, unnest(cast(:names as bytea[]), cast(:values as bytea[])) as x (name, value)
        on conflict (session_id, name) do update set value = excluded.value)
    select count(*) from own"""
DELETE_ATTRIBUTES = "delete from {attribute} where session_id = bytes(:id) and name = any(cast(:names as bytea[]))"
HOLD = "own as (select id from {session} where id = bytes(:id))"
PURGE = """
    delete from {session} where id in (
        select id from {session} where expire_hour <= floor(real(:now) / 3600) and expires <= real(:now)
        limit :limit for update skip locked)"""


class PostgreSQL:
    """The statements of PostgreSQL, behind the same methods as ``MySQL`` has."""

    minimum = (12,)
    added_type = "bytea"  # of a column of ``ADDED``
    marks = {"bytes": "cast({} as bytea)", "real": "cast({} as double precision)"}  # noqa: RUF012

    def __init__(self, style: str, session: str, attribute: str) -> None:
        tables = {"session": session, "attribute": attribute}
        index = {**tables, "index": session.rpartition(".")[2] + "_expire_hour"}

        def compiled(*texts: str) -> Statement:
            return Statement(" ".join(texts), style, self.marks, tables)

        self.ddl = tuple(named(text, index) for text in TABLES)
        self._load = compiled(sql.LOAD)
        self._create = compiled("with own as (", sql.CREATE, "on conflict (id) do nothing returning id),", KEPT)
        self._merge = {
            kind: compiled("with own as (", kind, "returning id),", KEPT) for kind in (sql.UPDATE, sql.REGENERATE)
        }
        self._one = {kind: compiled(kind) for kind in sql.ROW_KINDS}
        self._delete_attributes, self._set = compiled(DELETE_ATTRIBUTES), compiled("with", HOLD, ",", KEPT)
        self._purge = compiled(PURGE)

    def load(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Return a row for each attribute, with the session's columns in front. Without any, one row has NULLs."""
        return self._load.run(connection, parameters).fetchall()

    def one(self, connection: Connection, kind: str, parameters: Mapping[str, Any]) -> bool:
        """Run a statement about one session's row."""
        return self._one[kind].one(connection, parameters)

    def create(self, connection: Connection, parameters: Mapping[str, Any], sets: Mapping[bytes, bytes]) -> bool:
        """Insert in one statement, in the place of an expired record too."""
        everything = {**parameters, "names": list(sets), "values": list(sets.values())}
        while not self._create.run(connection, everything).scalar():
            if not self.one(connection, sql.DELETE_EXPIRED, parameters):
                return False
        return True

    def merge(
        self,
        connection: Connection,
        kind: str,
        parameters: Mapping[str, Any],
        sets: Mapping[bytes, bytes],
        deletes: Sequence[bytes],
    ) -> bool:
        """Update the session's row, and its attributes if that was there.

        One statement, but for deletes. A statement sees what was committed when it began, and it may then wait for
        the row: it would miss an attribute that was inserted meanwhile. A second statement, behind the row's lock,
        sees it.
        """
        values = {"names": list(sets), "values": list(sets.values())}
        if not deletes:
            if not sets:
                return self.one(connection, kind, parameters)
            return bool(self._merge[kind].run(connection, {**parameters, **values}).scalar())
        with transaction(connection):
            merged = self.one(connection, kind, parameters)
            if merged:
                self._delete_attributes.run(connection, {"id": parameters["id"], "names": list(deletes)})
                self._set.run(connection, {"id": parameters["id"], **values})
        return merged

    def purge(self, connection: Connection, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired sessions, passing over those that somebody else is at."""
        return self._purge.run(connection, {"now": now, "limit": limit}).rowcount
