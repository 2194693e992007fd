"""SQLStore: given engines, and what is particular to PostgreSQL or MariaDB."""

from __future__ import annotations

import asyncio
import math

from clocks import FakeClock
from over_sql import Place, numbers
from servers_redis import until
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from store_subject import ID, OTHER_ID, V1, content, fields, make

from fastersession.stores.base import Change, Record
from fastersession.stores.sql import SQLStore
from fastersession.stores.sql import mysql as _sql_mysql
from fastersession.stores.sql import statements as _sql_statements

CLIENTS = {
    "PostgreSQL": "select count(*) from pg_stat_activity where backend_type = 'client backend' "
    "and pid <> pg_backend_pid()",
    "MariaDB": "select count(*) from information_schema.processlist where user = 't'",
}


def test_closing_closes_every_connection(place: Place) -> None:
    """After close() the server has none of the store's connections; a later call makes new ones."""

    def clients() -> int:
        return int(place.server.execute(CLIENTS[type(place.server).__name__]))

    async def main() -> None:
        before = clients()
        for _ in range(2):
            store = place.store()
            await store.open()
            await make(store)
            assert all(await asyncio.gather(*(content_there(store) for _ in range(8))))
            assert await store.delete(ID)
            assert clients() > before
            await store.close()
            until(lambda: clients() == before, "the end of the connections")

    async def content_there(store: SQLStore) -> bool:
        return await store.load(ID) is not None

    asyncio.run(main())


def test_a_given_engine_keeps_its_settings_and_stays_open(place: Place) -> None:
    """Whatever its isolation level: the store sets its own on its connections, and the engine is not disposed of."""

    async def main() -> None:
        for level in (None, "AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"):
            engine = create_async_engine(place.url, **({"isolation_level": level} if level else {}))
            store = SQLStore(engine, table=place.table)
            await store.open()
            await make(store, a=b"1")
            saves = [store.update(ID, V1, Change(store.clock(), {str(n): b"x"}, ("a",))) for n in range(20)]
            assert all(await asyncio.gather(*saves))
            assert len(await content(store)) == 20
            await store.close()
            assert await store.delete(ID)
            assert engine.pool.checkedin() > 0
            async with engine.connect() as connection:
                assert (await connection.execute(text("select 1"))).scalar() == 1
                await connection.rollback()
            await engine.dispose()

    asyncio.run(main())


def test_a_schema_may_stand_before_the_name(on_postgresql: Place) -> None:
    """The index goes with its table."""
    schema = f"schema_{next(numbers)}"
    on_postgresql.server.execute(f"create schema {schema}")
    on_postgresql.table = f"{schema}.session"

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        assert await content(store) == {"a": b"1"}

    on_postgresql.run(scenario)
    indexes = on_postgresql.server.execute(f"select indexname from pg_indexes where schemaname = '{schema}'").split()
    assert "session_expire_hour" in indexes


def test_postgresql_keeps_values_uncompressed_and_touches_without_index_work(on_postgresql: Place) -> None:
    """Storage external; a touch within the hour is a heap-only update."""

    async def scenario(store: SQLStore) -> None:
        await make(store)
        for n in range(5):
            assert await store.touch(ID, V1, store.clock() + n / 1000)

    clock = FakeClock(1_700_000_000.0 // 3600 * 3600 + 10)
    on_postgresql.run(scenario, clock=clock)
    storage = f"select attstorage from pg_attribute where attrelid = '{on_postgresql.table}_attribute'::regclass "
    assert on_postgresql.server.execute(storage + "and attname = 'value'").strip() == "e"
    page = f"select min(expire_hour) - floor(min(expires) / 3600), count(*) from {on_postgresql.table}"
    assert on_postgresql.server.execute(page).strip() == "0|1"


def test_mariadb_finds_a_session_by_its_key(on_mariadb: Place) -> None:
    """Although the id travels as base64, the primary key is used, not a scan."""
    for n in range(3):
        on_mariadb.run(lambda store, n=n: make(store, bytes([n]) * 16))
    plan = on_mariadb.server.execute(
        f"explain select * from {on_mariadb.table} where id = from_base64('AQEBAQEBAQEBAQEBAQEBAQ==') and expires > 5"
    )
    assert "const" in plan


def test_mariadb_takes_more_than_one_packet(on_mariadb: Place) -> None:
    """A save of 24 MB is split below what the server takes at once."""
    sets = {str(n): bytes([n]) * 2_000_000 for n in range(12)}

    async def scenario(store: SQLStore) -> None:
        await make(store)
        assert await store.update(ID, V1, Change(store.clock(), sets))
        assert await content(store) == sets

    on_mariadb.run(scenario)


def test_infinity_has_a_stand_in_where_the_database_has_none(on_mariadb: Place) -> None:
    """Far above every time, and it does not grow by adding to it."""

    async def scenario(store: SQLStore) -> None:
        assert await store.create(OTHER_ID, Record(V1, store.clock(), math.inf, math.inf, {})) is True
        assert await store.touch(OTHER_ID, V1, store.clock() + 1e9)
        record = fields(await store.load(OTHER_ID))
        assert (record["idle_timeout"], record["not_after"]) == (math.inf, math.inf)
        assert await store.purge() == 0

    on_mariadb.run(scenario)
    assert _sql_mysql.FOREVER + 1e9 == _sql_statements.FOREVER
