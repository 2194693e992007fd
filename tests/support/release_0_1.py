"""A worker of release 0.1: its tables and its statements, as they were, past any store of today.

Rules of residence: SQL and Lua text of that release, and how its values are written. No test. Marks in braces are names
of tables, and parameters as literals; nothing else differs from what 0.1 sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import redis
from over_sql import Place
from servers_redis import RedisServer

IDLE, LIFE = 600.0, 86_400.0

SQLITE_TABLES = (
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
        lease_until REAL
    ) WITHOUT ROWID""",
    """CREATE TABLE attribute (
        session_id BLOB NOT NULL REFERENCES session (id) ON DELETE CASCADE,
        name BLOB NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (session_id, name)
    )""",
    "CREATE INDEX session_expires ON session (expires)",
    "PRAGMA application_id=1181959539",
    "PRAGMA user_version=1",
    "PRAGMA journal_mode=WAL",
)
SQLITE_CREATE = (
    """INSERT INTO session (id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, version)
    VALUES ({id}, {verifier}, NULL, {now}, {now}, {idle}, {not_after}, min({now} + {idle}, {not_after}), 1)
    ON CONFLICT (id) DO NOTHING""",
)
SQLITE_UPDATE = (
    """UPDATE session SET accessed = max(accessed, {now}), idle_timeout = coalesce(NULL, idle_timeout),
        expires = min(max(accessed, {now}) + coalesce(NULL, idle_timeout), not_after), version = version + 1
    WHERE id = {id} AND expires > {now} AND verifier = {verifier}
        AND (NULL IS NULL OR (lease_owner = NULL AND lease_until > {now}))""",
)
SQLITE_REGENERATE = (
    """UPDATE session SET verifier = {new_verifier}, regenerated_at = {now}, not_after = {not_after},
        accessed = max(accessed, {now}), idle_timeout = coalesce(NULL, idle_timeout),
        expires = min(max(accessed, {now}) + coalesce(NULL, idle_timeout), {not_after}), version = version + 1
    WHERE id = {id} AND expires > {now} AND verifier = {verifier}
        AND (NULL IS NULL OR (lease_owner = NULL AND lease_until > {now}))""",
)

POSTGRESQL_TABLES = (
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
    lease_until double precision
) with (fillfactor = 80)""",
    """create table if not exists {session}_attribute (
    session_id bytea not null references {session} (id) on delete cascade,
    name bytea not null,
    value bytea not null,
    primary key (session_id, name)
)""",
    "alter table {session}_attribute alter column value set storage external",
    "create index if not exists {session}_expire_hour on {session} (expire_hour)",
)
MARIADB_TABLES = (
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
    index expire_hour (expire_hour)
) engine = InnoDB""",
    """create table if not exists {session}_attribute (
    session_id varbinary(16) not null,
    name varbinary(255) not null,
    value longblob not null,
    primary key (session_id, name),
    foreign key (session_id) references {session} (id) on delete cascade
) engine = InnoDB""",
)
SQL_CREATE = (
    """insert into {session} (id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, expire_hour,
        version)
    values ({id}, {verifier}, null, {now}, {now}, {idle}, {not_after}, least({now} + {idle}, {not_after}),
        floor(least({now} + {idle}, {not_after}, 1e15) / 3600), 1)""",
)
SQL_UPDATE = (
    """update {session} set accessed = greatest(accessed, {now}), idle_timeout = coalesce(null, idle_timeout),
    version = version + 1, expires = least(greatest(accessed, {now}) + coalesce(null, idle_timeout), not_after),
    expire_hour = floor(least(least(greatest(accessed, {now}) + coalesce(null, idle_timeout), not_after), 1e15) / 3600)
    where id = {id} and expires > {now} and verifier = {verifier}""",
)
SQL_REGENERATE = (
    """update {session} set verifier = {new_verifier}, regenerated_at = {now}, not_after = {not_after},
    accessed = greatest(accessed, {now}), idle_timeout = coalesce(null, idle_timeout), version = version + 1,
    expires = least(greatest(accessed, {now}) + coalesce(null, idle_timeout), {not_after}),
    expire_hour = floor(least(least(greatest(accessed, {now}) + coalesce(null, idle_timeout), {not_after}), 1e15)
        / 3600)
    where id = {id} and expires > {now} and verifier = {verifier}""",
)

REDIS_HEAD = """
local k,a,c,m=KEYS[1],ARGV,redis.call,tonumber
local r=c('HMGET',k,'v','t','i','x','l','e')
local n,t,i,x=m(a[1]),m(r[2])or 0,m(r[3])or 0,m(r[4])or 0
local live=r[1] and n<t+i and n<x
"""
REDIS_OWN = "if not live or r[1]~=a[2] or a[3]~='' and (r[5]~=a[3] or n>=(m(r[6])or 0)) then return 0 end"
REDIS_MERGE = """
if m(a[4])>t then t=m(a[4]) c('HSET',k,'t',a[4]) end
if a[5]~='' then i=m(a[5]) c('HSET',k,'i',a[5]) end
c('HINCRBY',k,'n',1)
local s=10+a[9]
for j=s,#a,4000 do c('HSET',k,unpack(a,j,math.min(j+3999,#a))) end
for j=10,s-1 do c('HDEL',k,a[j]) end
local d=math.min(t+i,x)-n
if d<1e12 then c('PEXPIRE',k,string.format('%.0f',(d+60)*1000)) else c('PERSIST',k) end
return 1
"""
REDIS_UPDATE = REDIS_HEAD + REDIS_OWN + REDIS_MERGE
REDIS_REGENERATE = REDIS_HEAD + REDIS_OWN + " c('HSET',k,'v',a[6],'x',a[7],'r',a[4]) x=m(a[7]) " + REDIS_MERGE


class OldWorker:
    """What all of them do; ``now`` is the time of the stores beside it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock

    def make_tables(self) -> None:
        """Make what 0.1 makes at its first opening."""

    def create(self, record_id: bytes, verifier: bytes) -> None:
        """Create a session without attributes."""
        raise NotImplementedError

    def update(self, record_id: bytes, verifier: bytes) -> None:
        """Save, with nothing but a new version: whether it was taken shows there."""
        raise NotImplementedError

    def regenerate(self, record_id: bytes, verifier: bytes, new_verifier: bytes) -> None:
        """Replace the verifier."""
        raise NotImplementedError


class OldTables(OldWorker):
    """A worker of 0.1 that speaks SQL."""

    tables: tuple[str, ...] = ()
    statements: tuple[tuple[str, ...], ...] = ()

    def run(self, statements: tuple[str, ...]) -> None:
        raise NotImplementedError

    def literal(self, value: bytes) -> str:
        return f"x'{value.hex()}'"

    def filled(self, statements: tuple[str, ...], record_id: bytes, **verifiers: bytes) -> tuple[str, ...]:
        now = self.clock()
        given = {name: self.literal(value) for name, value in {"id": record_id, **verifiers}.items()}
        times: dict[str, Any] = {"now": repr(now), "idle": repr(IDLE), "not_after": repr(now + LIFE)}
        return tuple(text.format(session=self.table, **given, **times) for text in statements)

    table = "session"

    def make_tables(self) -> None:
        self.run(tuple(text.replace("{session}", self.table) for text in self.tables))

    def create(self, record_id: bytes, verifier: bytes) -> None:
        self.run(self.filled(self.statements[0], record_id, verifier=verifier))

    def update(self, record_id: bytes, verifier: bytes) -> None:
        self.run(self.filled(self.statements[1], record_id, verifier=verifier))

    def regenerate(self, record_id: bytes, verifier: bytes, new_verifier: bytes) -> None:
        self.run(self.filled(self.statements[2], record_id, verifier=verifier, new_verifier=new_verifier))


class OldSQLite(OldTables):
    """Over a file."""

    tables = SQLITE_TABLES
    statements = SQLITE_CREATE, SQLITE_UPDATE, SQLITE_REGENERATE

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.path = path

    def run(self, statements: tuple[str, ...]) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)


class OldSQL(OldTables):
    """Over PostgreSQL or MariaDB."""

    statements = SQL_CREATE, SQL_UPDATE, SQL_REGENERATE

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.place, self.table = place, place.table
        self.postgresql = "postgresql" in place.url
        self.tables = POSTGRESQL_TABLES if self.postgresql else MARIADB_TABLES

    def literal(self, value: bytes) -> str:
        return f"'\\x{value.hex()}'::bytea" if self.postgresql else super().literal(value)

    def run(self, statements: tuple[str, ...]) -> None:
        for statement in statements:
            self.place.server.execute(statement)


class OldRedis(OldWorker):
    """Over Redis, under the default prefix."""

    def __init__(self, server: RedisServer, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.client: Any = redis.Redis.from_url(server.url)

    def create(self, record_id: bytes, verifier: bytes) -> None:
        now = self.clock()
        fields = {"k": record_id, "v": verifier, "n": b"1", "c": repr(now), "t": repr(now), "i": repr(IDLE)}
        self.client.hset(self._key(record_id), mapping={**fields, "x": repr(now + LIFE)})

    def update(self, record_id: bytes, verifier: bytes) -> None:
        self._save(REDIS_UPDATE, record_id, verifier, "", "")

    def regenerate(self, record_id: bytes, verifier: bytes, new_verifier: bytes) -> None:
        self._save(REDIS_REGENERATE, record_id, verifier, new_verifier, repr(self.clock() + LIFE))

    def _save(self, script: str, record_id: bytes, *renewal: Any) -> None:
        verifier, new_verifier, not_after = renewal
        now = repr(self.clock())
        arguments = (now, verifier, "", now, "", new_verifier, not_after, "", 0)
        self.client.eval(script, 1, self._key(record_id), *arguments)

    @staticmethod
    def _key(record_id: bytes) -> str:
        return f"fs:{{{record_id.hex()}}}"
