"""PostgreSQL behind ``SQLStore``.

Rules of residence: what PostgreSQL spells or does otherwise than the rest. Its functions run on a connection in
AUTOCOMMIT: a statement is a transaction, unless one is begun by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from . import statements as sql
from .batches import LARGE
from .exchange import transaction
from .records import Found, Write, attributes_of, columns
from .statements import Statement, named

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
    verifier_after bytea,
    ended_reason bytea,
    claimed_until double precision,
    retention double precision
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
# No index of the table of users but its key is unique: an upsert waits at the one that it names, and fails elsewhere.
USER_TABLES = (
    "create index if not exists {user_index} on {session} (user_id) where user_id is not null",
    """create table if not exists {user} (
    user_id bytea primary key,
    not_before double precision,
    kept bytea,
    expire_hour bigint not null
)""",
    "create index if not exists {hour_index} on {user} (expire_hour)",
)
KEPT = """kept as (
        insert into {attribute} (session_id, name, value)
        select own.id, x.name, x.value
        from own, unnest(cast(:names as bytea[]), cast(:values as bytea[])) as x (name, value)
        on conflict (session_id, name) do update set value = excluded.value)
    select count(*) from own"""
DELETE_ATTRIBUTES = "delete from {attribute} where session_id = bytes(:id) and name = any(cast(:names as bytea[]))"
# One statement for many sessions. `update ... from` alone would lock in any order, and two of them deadlock: what is
# asked of is locked first, in the order of the ids. The update sees a row that had to be waited for as it is then.
HELD = """held as (
        select id as held_id from {session} where id = any(cast(cast(:id_each as text) as bytea[])) order by id
        for update)"""
FROM_HELD = "from asked join held on held_id = asked_id where"
FROM_ASKED = "from asked order by asked_id on conflict (id) do nothing returning id"
KEPT_OF_EACH = """kept as (
        insert into {attribute} (session_id, name, value)
        select own.id, x.name, x.value
        from own join unnest(
            cast(cast(:owner_each as text) as bytea[]), cast(cast(:name_each as text) as bytea[]),
            cast(:value_each as bytea[])
        ) as x (owner, name, value) on x.owner = own.id
        on conflict (session_id, name) do update set value = excluded.value)
    select id from own"""
HOLD = "own as (select id from {session} where id = bytes(:id))"
ARRAYS = {"bytes": "bytea[]", "real": "double precision[]"}
PURGE = f"""
    delete from {{session}} where id in (
        select id from {{session}} where expire_hour <= hour(:now) and expires <= real(:now) and {sql.KEPT_NO_MORE}
        limit :limit for update skip locked)"""  # noqa: S608 - ours


class PostgreSQL:
    """The statements of PostgreSQL, behind the same methods as ``MySQL`` has."""

    minimum = (12,)
    least = 2  # writes of a statement for many: one for a single one is planned only once
    added_types = {"bytes": "bytea", "word": "bytea", "real": "double precision"}  # noqa: RUF012
    added_index = ""  # has a statement of its own
    begin = ("start transaction isolation level read committed", 1)  # and how many statements that is
    unbound = tuple  # of a row's times
    by_key = ""  # it never scans a table to lock a few of its rows
    marks = {  # noqa: RUF012
        "bytes": "cast({} as bytea)", "real": "cast({} as double precision)", "among": "= any(cast({} as bytea[]))",
        "hour": "cast(floor(cast({} as double precision) / 3600) as bigint)",  # else no index is of use
    }  # fmt: skip

    def __init__(self, style: str, session: str, attribute: str) -> None:
        self._style, self._tables = style, {"session": session, "attribute": attribute, "user": f"{session}_user"}
        name, compiled = session.rpartition(".")[2], self.compiled
        known = {**self._tables, "index": f"{name}_expire_hour", "user_index": f"{name}_user_id"}
        known["hour_index"] = f"{name}_user_hour"
        self.user_ddl = tuple(named(text, known) for text in USER_TABLES)
        self.ddl = tuple(named(text, known) for text in TABLES) + self.user_ddl
        self._load = compiled(sql.LOAD)
        self._load_many = compiled(sql.LOAD_MANY.replace("<>", "= any(cast(cast(:ids as text) as bytea[]))"))
        update = sql.of_each(sql.UPDATE).replace("where", FROM_HELD, 1)
        self._merge_many = compiled(
            "with", asked(sql.MERGED_OF_EACH), ",", HELD, ", own as (", update, "returning id),", KEPT_OF_EACH
        )
        create = sql.of_each(sql.CREATE).replace("values (", "select ").removesuffix(")")
        self._create_many = compiled(
            "with", asked(sql.CREATED_OF_EACH), ", own as (", create, FROM_ASKED, "),", KEPT_OF_EACH
        )
        self._create = compiled("with own as (", sql.CREATE, "on conflict (id) do nothing returning id),", KEPT)
        self._merge = {
            kind: compiled("with own as (", kind, "returning id),", KEPT)
            for kind in (sql.UPDATE, sql.REGENERATE, sql.RENEW)
        }
        self._one = {kind: compiled(kind) for kind in sql.ROW_KINDS}
        self._delete_attributes, self._set = compiled(DELETE_ATTRIBUTES), compiled("with", HOLD, ",", KEPT)
        self._purge = compiled(PURGE)

    def compiled(self, *texts: str) -> Statement:
        """Return a statement for these tables."""
        return Statement(" ".join(texts), self._style, self.marks, self._tables)

    def load(self, connection: Connection, record_id: bytes, now: float) -> Found:
        """Read one session."""
        return Found(self._load.run(connection, {"id": record_id, "now": now}))

    def load_many(self, connection: Connection, record_ids: Sequence[bytes], now: float) -> Found:
        """Read several sessions, but for the large ones."""
        ids = array_of(set(record_ids), "bytes")
        return Found(self._load_many.run(connection, {"ids": ids, "now": now, "large": LARGE}))

    def one(self, connection: Connection, kind: str, parameters: Mapping[str, Any]) -> bool:
        """Run a statement about one session's row."""
        return self._one[kind].one(connection, parameters)

    def create(self, connection: Connection, parameters: Mapping[str, Any], sets: Mapping[bytes, bytes]) -> bool:
        """Insert in one statement, in the place of an expired record too."""
        everything = {**parameters, "names": list(sets), "values": list(sets.values())}
        while not self._create.run(connection, everything)[0][0]:
            if not self.one(connection, sql.DELETE_EXPIRED, parameters):
                return False
        return True

    insert = create  # in a transaction

    def put(self, connection: Connection, record_id: bytes, sets: Mapping[bytes, bytes]) -> None:
        """Set attributes of a session whose row this transaction has changed."""
        if sets:
            self._set.run(connection, {"id": record_id, "names": list(sets), "values": list(sets.values())})

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
            return bool(self._merge[kind].run(connection, {**parameters, **values})[0][0])
        with transaction(connection):
            merged = self.one(connection, kind, parameters)
            if merged:
                self._delete_attributes.run(connection, {"id": parameters["id"], "names": list(deletes)})
                self.put(connection, parameters["id"], sets)
        return merged

    def merge_many(self, connection: Connection, writes: Sequence[Write], now: float) -> set[bytes]:
        """Update several sessions, and set attributes of theirs. Return the ids of those that were updated."""
        return _run_of_each(self._merge_many, sql.MERGED_OF_EACH, connection, writes, now)

    def create_many(self, connection: Connection, writes: Sequence[Write], now: float) -> set[bytes]:
        """Insert several sessions. Return the ids of those that were inserted."""
        return _run_of_each(self._create_many, sql.CREATED_OF_EACH, connection, writes, now)

    def purge(self, connection: Connection, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired sessions, passing over those that somebody else is at."""
        return self._purge.count(connection, {"now": now, "limit": limit})


def asked(columns: Mapping[str, str]) -> str:
    """Return a table of what differs from session to session."""
    arrays = ", ".join([f"cast(cast(:{name}_each as text) as {ARRAYS[kind]})" for name, kind in columns.items()])
    names = ", ".join([f"asked_{name}" for name in columns])
    return f"asked as (select * from unnest({arrays}) as x ({names}))"  # noqa: S608 - names of ours


def array_of(values: Iterable[Any], kind: str) -> str:
    """Return the text of an array, of ``bytes`` or ``real``, with NULL for ``None``.

    asyncpg asks of each element of a list whether it is a list, too: that takes longer than all else about it. Values
    of attributes, which may be large, go as a list all the same: as text they would be twice as long.
    """
    if kind == "real":
        words = [repr(value) for value in values]
    else:
        words = [f'"\\\\x{value.hex()}"' if value is not None else "None" for value in values]
    return f"{{{','.join(words).replace('None', 'NULL')}}}"


def _run_of_each(
    statement: Statement, kinds: Mapping[str, str], connection: Connection, writes: Sequence[Write], now: float
) -> set[bytes]:
    """Run a statement for many writes. Return the ids that it returns."""
    of_each = zip(kinds.items(), columns(writes, kinds), strict=True)
    parameters: dict[str, Any] = {f"{name}_each": array_of(values, kind) for (name, kind), values in of_each}
    owners, names, values = zip(*attributes, strict=True) if (attributes := attributes_of(writes)) else ((), (), ())
    parameters |= {"owner_each": array_of(owners, "bytes"), "name_each": array_of(names, "bytes")}
    rows = statement.run(connection, {**parameters, "value_each": list(values), "now": now})
    return {row[0] for row in rows}
