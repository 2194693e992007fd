"""SQLStore on real servers: the contract, races, lost connections, kill -9, and what can be wrong with a database."""

from __future__ import annotations

import asyncio
import gc
import math
import re
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest
from clocks import FakeClock
from servers_sql import MariaDB, PostgreSQL, Server, free_port
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from store_verbs import ID, OTHER_ID, OWNER, V1, V2, V3, Verbs, content, fields, make

from fastersession.errors import ConfigError, StoreError
from fastersession.stores import _sql_mysql, _sql_statements
from fastersession.stores.base import Change
from fastersession.stores.sql import SQLStore

KINDS: dict[str, type[Server]] = {"asyncpg": PostgreSQL, "psycopg": PostgreSQL, "asyncmy": MariaDB}
numbers = count()


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[type[Server], Server]]:
    """Each kind once, started when it is first asked for."""
    running: dict[type[Server], Server] = {}
    yield running
    for server in running.values():
        server.close()


class Place:
    """A server, a driver, and tables that no other test uses."""

    def __init__(self, server: Server, driver: str) -> None:
        self.server, self.url, self.table = server, server.url(driver), f"session_{next(numbers)}"

    def store(self, **options: Any) -> SQLStore:
        return SQLStore(self.url, **{"table": self.table, **options})

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[SQLStore]:
        store = self.store(**options)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    def run(self, scenario: Callable[[SQLStore], Coroutine[Any, Any, Any]], **options: Any) -> Any:
        async def main() -> Any:
            async with self.opened(**options) as store:
                return await scenario(store)

        return asyncio.run(main())

    def count(self, what: str = "") -> int:
        return int(self.server.execute(f"select count(*) from {self.table}{what}"))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, servers: dict[type[Server], Server]) -> Place:
    kind = KINDS[request.param]
    if kind not in servers:
        servers[kind] = kind()
    return Place(servers[kind], request.param)


@pytest.fixture
def postgresql(servers: dict[type[Server], Server]) -> Place:
    return Place(servers.setdefault(PostgreSQL, servers.get(PostgreSQL) or PostgreSQL()), "asyncpg")


@pytest.fixture
def mariadb(servers: dict[type[Server], Server]) -> Place:
    return Place(servers.setdefault(MariaDB, servers.get(MariaDB) or MariaDB()), "asyncmy")


class TestVerbs(Verbs):
    """The verbs of a SQLStore."""

    @pytest.fixture(autouse=True)
    def _place(self, place: Place) -> None:
        self.make = lambda clock: place.store(clock=clock)

    def bare(self, store: SQLStore) -> None:
        """Cancel what works on the connection itself, at each of its awaits."""
        store._do = store._attempts  # type: ignore[method-assign]


# --- races ---


def test_l8_a_delete_sees_what_was_inserted_while_it_waited(place: Place) -> None:
    """L8: behind another writer's lock, a save with a delete and a set has both of its effects, or neither."""

    async def scenario(store: SQLStore) -> None:
        await make(store)
        engine = create_async_engine(place.url)
        change = Change(store.clock(), {"y": b"mine"}, ("x",))
        try:
            async with engine.begin() as other:
                table, raw = place.table, {"id": ID, "x": b"x", "y": b"y", "value": b"theirs"}
                await other.execute(text(f"update {table} set version = version + 1 where id = :id"), raw)
                for name in "xy":
                    insert = f"insert into {table}_attribute (session_id, name, value) values (:id, :{name}, :value)"
                    await other.execute(text(insert), raw)
                save = asyncio.ensure_future(store.update(ID, V1, change))
                await waits(place)
            assert await save
        finally:
            await engine.dispose()
        assert await content(store) == {"y": b"mine"}

    place.run(scenario)


@pytest.mark.parametrize("verb", ["update", "regenerate", "touch", "lock"])
def test_l5_a_save_that_waited_for_a_logout_writes_nothing(place: Place, verb: str) -> None:
    """L5: it began while the record was there, and finds it gone when the logout has been committed."""

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        engine = create_async_engine(place.url)
        change = Change(store.clock(), {"b": b"2"}, ("a",))
        calls = {
            "update": lambda: store.update(ID, V1, change._replace(deletes=())),
            "regenerate": lambda: store.regenerate(ID, V1, V2, math.inf, change),
            "touch": lambda: store.touch(ID, V1, store.clock()),
            "lock": lambda: store.lock(ID, V1, OWNER, 5.0),
        }
        try:
            async with engine.begin() as other:
                await other.execute(text(f"delete from {place.table} where id = :id"), {"id": ID})
                save = asyncio.ensure_future(calls[verb]())
                await waits(place)
            assert await save is False
        finally:
            await engine.dispose()
        assert await store.load(ID) is None

    place.run(scenario)
    assert place.count("_attribute") == 0


async def waits(place: Place) -> None:
    """Wait until a statement of a store waits for a lock."""
    query = (
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        if isinstance(place.server, PostgreSQL)
        else "select count(*) from information_schema.innodb_lock_waits"
    )
    async with asyncio.timeout(20):
        while not int(await asyncio.to_thread(place.server.execute, query)):
            await asyncio.sleep(0.01)


def test_several_workers_open_at_once(place: Place) -> None:
    """All make the tables; all find them."""

    async def main() -> None:
        stores = [place.store() for _ in range(8)]
        try:
            await asyncio.gather(*(store.open() for store in stores))
            await make(stores[0], a=b"1")
            assert await content(stores[7]) == {"a": b"1"}
        finally:
            await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(main())


def test_three_purgers_remove_each_session_once(place: Place) -> None:
    """While others write; what they count adds up."""
    clock = FakeClock()

    async def main() -> None:
        async with (
            place.opened(clock=clock) as one,
            place.opened(clock=clock) as two,
            place.opened(clock=clock) as three,
        ):
            await asyncio.gather(*(make(one, number.to_bytes(16), a=b"1") for number in range(1200)))
            clock.advance(100)
            await make(one, b"a" * 16, V1)
            saves = [one.update(b"a" * 16, V1, Change(clock(), {str(n): b"x"})) for n in range(30)]
            removed = await asyncio.gather(one.purge(), two.purge(), three.purge(), *saves)
            assert all(removed[3:])
            assert sum(removed[:3]) == 1200
            assert len(await content(one, b"a" * 16)) == 30

    asyncio.run(main())
    assert place.count() == 1


PROCESS = """
import asyncio, sys
sys.path.insert(0, {here!r})
from store_verbs import *
from fastersession.stores.sql import SQLStore
async def main():
    store = SQLStore({url!r}, table={table!r})
    await store.open()
    async def save(turn):
        sets = {{f"{number} {{turn}}": b"x", "same": b"x"}}
        assert await store.update(ID, V1, Change(store.clock(), sets, ("none",)))
    for turn in range(0, 50, 5):
        await asyncio.gather(*map(save, range(turn, turn + 5)))
    await store.close()
asyncio.run(main())
"""


def test_l8_several_processes_write_one_record(place: Place) -> None:
    """Nothing is lost, and no deadlock comes out."""
    place.run(make)
    code = {"here": str(__file__.rpartition("/")[0]), "url": place.url, "table": place.table}
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS.format(**code, number=n)], stderr=subprocess.PIPE
        )
        for n in range(3)
    ]
    outcomes = [(worker.communicate()[1].decode(), worker.returncode) for worker in workers]
    assert outcomes == [("", 0)] * 3
    assert len(place.run(content)) == 151


# --- what fails, and comes back ---


def test_s10_a_dropped_connection_is_replaced_unnoticed(place: Place) -> None:
    """The server ends all connections; the next calls, many at once, work."""

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        for _ in range(3):
            await asyncio.gather(*(store.load(ID) for _ in range(20)))
            await asyncio.to_thread(place.server.drop_clients)
            assert await store.update(ID, V1, Change(store.clock(), {"b": b"2"}, ("a",)))
            await asyncio.to_thread(place.server.drop_clients)
            records = await asyncio.gather(*(store.load(ID) for _ in range(20)))
            assert [dict(record.attributes) for record in records if record] == [{"b": b"2"}] * 20

    place.run(scenario)


class UnheardError(DBAPIError):
    """The connection was lost after the server had done its work, before it could say so."""

    def __init__(self) -> None:
        super().__init__("statement", {}, RuntimeError("lost"), connection_invalidated=True)


def test_a_repetition_that_finds_its_own_outcome_has_succeeded(place: Place) -> None:
    """create and regenerate, whose first attempt was carried out unheard; a foreign outcome stays a failure."""

    async def scenario(store: SQLStore) -> None:
        database = store._database
        works = {"create": database.create, "merge": database.merge}

        def unheard(verb: str) -> None:
            lost = iter([UnheardError()])

            def once(*arguments: Any, **named: Any) -> Any:
                outcome = works[verb](*arguments, **named)
                for error in lost:
                    raise error
                return outcome

            setattr(database, verb, once)

        unheard("create")
        await make(store, a=b"1")
        unheard("create")
        assert await store.create(ID, V2, 1.0, 5.0, math.inf, {}) is None
        unheard("merge")
        assert await store.regenerate(ID, V1, V2, math.inf, Change(store.clock()))
        unheard("merge")
        assert not await store.regenerate(ID, V1, V3, math.inf, Change(store.clock()))
        unheard("merge")
        assert await store.update(ID, V2, Change(store.clock(), {"b": b"2"}))
        assert await content(store) == {"a": b"1", "b": b"2"}

    place.run(scenario)


def test_s10_a_server_that_hangs_costs_a_call_and_no_more(place: Place) -> None:
    """The caller's own bound ends the call; when the server answers again, so does the store."""

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        with place.server.silent():
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await store.load(ID)
            assert time.monotonic() - start < 1.5
            async with asyncio.timeout(20):
                while store._running:
                    await asyncio.sleep(0.01)
        assert await content(store) == {"a": b"1"}

    place.run(scenario)


def test_a_server_that_hangs_does_not_keep_the_store_from_closing(place: Place) -> None:
    """However many connections it has: they are left, all at once."""

    async def main() -> None:
        store = place.store()
        await store.open()
        await asyncio.gather(*(store.load(ID) for _ in range(8)))
        with place.server.silent():
            async with asyncio.timeout(8):
                await store.close()

    asyncio.run(main())


def test_a_call_that_fails_when_nobody_waits_for_it_any_more_is_no_stray_error() -> None:
    """What it raises reaches neither the caller, who has gone, nor the loop's exception handler."""

    async def main() -> None:
        strays: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: strays.append(context))
        store, gate = SQLStore("postgresql://h/d"), asyncio.Event()

        async def failing(*_: Any) -> None:
            await gate.wait()
            raise StoreError("late")

        store._attempts = failing  # type: ignore[method-assign, assignment]
        call = asyncio.ensure_future(store.load(ID))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        gate.set()
        while store._running:
            await asyncio.sleep(0)
        gc.collect()
        assert strays == []

    asyncio.run(main())


@pytest.mark.parametrize("driver", KINDS)
def test_kill_9_of_the_server_loses_nothing_acknowledged(driver: str) -> None:
    """With the durable settings, in a storm of saves: errors while it is away, all acknowledged saves afterwards."""
    server = KINDS[driver](durable=True)
    place = Place(server, driver)
    acknowledged: dict[int, int] = {}

    async def scenario(store: SQLStore) -> None:
        dead = asyncio.Event()

        async def writer(number: int) -> None:
            record_id = bytes([number]) * 16
            await make(store, record_id)
            for turn in count():
                value = b"%d" % turn
                try:
                    assert await store.update(record_id, V1, Change(store.clock(), {"turn": value, "twin": value}))
                except StoreError:
                    dead.set()
                    return
                acknowledged[number] = turn

        writers = asyncio.gather(*map(writer, range(8)))
        async with asyncio.timeout(30):
            while sum(acknowledged.values()) < 400:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        await writers
        assert dead.is_set()
        with pytest.raises(StoreError):
            await store.load(ID)
        await asyncio.to_thread(server.start)
        for number, turn in acknowledged.items():
            kept = await content(store, bytes([number]) * 16)
            assert int(kept["turn"]) in (turn, turn + 1)
            assert kept["turn"] == kept["twin"]
            assert await store.delete(bytes([number]) * 16)

    try:
        place.run(scenario)
    finally:
        server.close()


def test_a_deadlock_is_repeated(place: Place) -> None:
    """By SQLSTATE or error number, a bounded number of times."""

    async def scenario(store: SQLStore) -> None:
        class CollisionError(Exception):
            sqlstate = "40P01"

        def collide(times: int) -> None:
            load = type(store._database).load
            left = iter(range(times))

            def colliding(*arguments: Any, **named: Any) -> Any:
                if next(left, None) is not None:
                    raise DBAPIError("statement", {}, CollisionError(1213, "Deadlock found"))
                return load(store._database, *arguments, **named)

            store._database.load = colliding

        await make(store)
        collide(3)
        assert await content(store) == {}
        collide(1000)
        with pytest.raises(StoreError, match="CollisionError"):
            await store.load(ID)

    place.run(scenario)


# --- what can be wrong with a database ---


def refused(place: Place, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match):
        place.run(lambda store: store.load(ID), **options)


def test_missing_tables_are_one_clear_error(place: Place) -> None:
    """With create_tables=False; nothing is made, and the documented statements are all that it takes."""
    refused(place, f"{place.table} and .* SQLStore.ddl", create_tables=False)
    refused(place, f"{place.table} and .* SQLStore.ddl", create_tables=False)
    for statement in place.store().ddl:
        place.server.execute(statement)
    assert place.run(lambda store: store.load(ID), create_tables=False) is None


def test_tables_of_another_layout_are_refused(place: Place) -> None:
    """And left as they are."""
    place.server.execute(f"create table {place.table} (id int)")
    refused(place, "cannot be used")
    assert place.count() == 0


def test_a_server_too_old_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming what it is and what it should be."""
    for name in ("minimum", "minimum_mariadb"):
        monkeypatch.setattr(type(place.store()._database), name, (99, 1), raising=False)
    refused(place, r"(PostgreSQL|MariaDB) 1[0-9.]+ is too old for SQLStore: it needs 99\.1")


def test_no_server_no_database_no_password(place: Place) -> None:
    """One error each, that shows no password; the driver's own is its cause."""
    port = str(place.server.port)
    for url in (place.url.replace(port, str(free_port())), place.url.rpartition("/")[0] + "/missing"):
        store = SQLStore(url)
        with pytest.raises(StoreError) as caught:
            asyncio.run(store.open())
        assert caught.value.__cause__ is not None


def test_a_wrong_password(mariadb: Place) -> None:
    """Neither the error nor the store's repr shows it."""
    store = SQLStore(mariadb.url.replace("t:t@", "t:hidden@"))
    with pytest.raises(StoreError) as caught:
        asyncio.run(store.open())
    error: BaseException | None = caught.value
    while error is not None:
        assert "hidden" not in str(error)
        error = error.__context__
    assert "hidden" not in repr(store)


def test_k9_errors_show_no_content(place: Place) -> None:
    """K9: a failing save's whole chain of exceptions names no value, whatever the engine's settings."""
    secret = b"hidden-value"

    async def main() -> None:
        engine = create_async_engine(place.url)
        store = SQLStore(engine, table=place.table)
        await store.open()
        await make(store)
        place.server.execute(f"drop table {place.table}_attribute")
        with pytest.raises(StoreError) as caught:
            await store.update(ID, V1, Change(store.clock(), {"a": secret}))
        error: BaseException | None = caught.value
        while error is not None:
            assert "hidden" not in f"{error} {error!r}"
            error = error.__context__
        with pytest.raises(TypeError, match=r"must be bytes, not str$"):
            await store.update(ID, V1, Change(store.clock(), {"a": "hidden"}))
        await engine.dispose()

    asyncio.run(main())


# --- engines, names, statements ---


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


def test_s9_cancellation_leaks_no_connection_of_a_given_engine(place: Place) -> None:
    """However far a verb has come when its caller gives up; and no connection is handed on half-used."""

    async def main() -> None:
        engine = create_async_engine(place.url, pool_size=2, max_overflow=0, pool_timeout=5)
        store = SQLStore(engine, table=place.table)
        await store.open()
        await make(store, a=b"1")
        await make(store, OTHER_ID, V2)
        verbs = (
            lambda: store.load(ID),
            lambda: store.touch(ID, V1, store.clock()),
            lambda: store.update(ID, V1, Change(store.clock(), {"b": b"2"}, ("c",))),
            lambda: store.create(secrets.token_bytes(16), V3, store.clock(), 5.0, math.inf, {"b": b"2"}),
            store.purge,
        )
        for verb in verbs:
            for steps in range(0, 60, 3):
                task = asyncio.ensure_future(verb())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                both = await asyncio.gather(store.load(ID), store.load(OTHER_ID))
                assert [record and record.verifier for record in both] == [V1, V2]
        await store.close()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await engine.dispose()

    asyncio.run(main())


def test_a_schema_may_stand_before_the_name(postgresql: Place) -> None:
    """The index goes with its table."""
    schema = f"schema_{next(numbers)}"
    postgresql.server.execute(f"create schema {schema}")
    postgresql.table = f"{schema}.session"

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        assert await content(store) == {"a": b"1"}

    postgresql.run(scenario)
    indexes = postgresql.server.execute(f"select indexname from pg_indexes where schemaname = '{schema}'").split()
    assert "session_expire_hour" in indexes


def test_postgresql_keeps_values_uncompressed_and_touches_without_index_work(postgresql: Place) -> None:
    """Storage external; a touch within the hour is a heap-only update."""

    async def scenario(store: SQLStore) -> None:
        await make(store)
        for n in range(5):
            assert await store.touch(ID, V1, store.clock() + n / 1000)

    clock = FakeClock(1_700_000_000.0 // 3600 * 3600 + 10)
    postgresql.run(scenario, clock=clock)
    storage = f"select attstorage from pg_attribute where attrelid = '{postgresql.table}_attribute'::regclass "
    assert postgresql.server.execute(storage + "and attname = 'value'").strip() == "e"
    page = f"select min(expire_hour) - floor(min(expires) / 3600), count(*) from {postgresql.table}"
    assert postgresql.server.execute(page).strip() == "0|1"


def test_mariadb_finds_a_session_by_its_key(mariadb: Place) -> None:
    """Although the id travels as base64, the primary key is used, not a scan."""
    for n in range(3):
        mariadb.run(lambda store, n=n: make(store, bytes([n]) * 16))
    plan = mariadb.server.execute(
        f"explain select * from {mariadb.table} where id = from_base64('AQEBAQEBAQEBAQEBAQEBAQ==') and expires > 5"
    )
    assert "const" in plan


def test_mariadb_takes_more_than_one_packet(mariadb: Place) -> None:
    """A save of 24 MB is split below what the server takes at once."""
    sets = {str(n): bytes([n]) * 2_000_000 for n in range(12)}

    async def scenario(store: SQLStore) -> None:
        await make(store)
        assert await store.update(ID, V1, Change(store.clock(), sets))
        assert await content(store) == sets

    mariadb.run(scenario)


def test_infinity_has_a_stand_in_where_the_database_has_none(mariadb: Place) -> None:
    """Far above every time, and it does not grow by adding to it."""

    async def scenario(store: SQLStore) -> None:
        assert await store.create(OTHER_ID, V1, store.clock(), math.inf, math.inf, {}) is not None
        assert await store.touch(OTHER_ID, V1, store.clock() + 1e9)
        record = fields(await store.load(OTHER_ID))
        assert (record["idle_timeout"], record["not_after"]) == (math.inf, math.inf)
        assert await store.purge() == 0

    mariadb.run(scenario)
    assert _sql_mysql.FOREVER + 1e9 == _sql_statements.FOREVER


@pytest.mark.parametrize(
    "name", ["", "a b", "a;b", "A", 'a"', "a`", "1a", "a.b.c", ".a", "a.", "a\n", "é", "x" * 50, 5]
)
def test_s7_table_names_are_validated(name: Any) -> None:
    """S7: they are the only thing that is put into a statement."""
    with pytest.raises(ConfigError, match=r"^table: .*; attribute_table: .*; clock: "):
        SQLStore("postgresql://h/d", table=name, attribute_table=name + "\0" if name != 5 else 6, clock=5)  # type: ignore[arg-type]


def test_the_tables_must_differ() -> None:
    """One would overwrite the other."""
    with pytest.raises(ConfigError, match="attribute_table: must differ"):
        SQLStore("postgresql://h/d", table="same", attribute_table="same")


@pytest.mark.parametrize(
    "url", ["", "nonsense", None, 5, "sqlite:///x.db", "oracle://h/d", "postgresql+psycopg2://h/d"]
)
def test_a_url_of_something_else_is_refused(url: Any) -> None:
    """At construction, with what would work."""
    with pytest.raises(ConfigError, match=r"engine_or_url: .*postgresql"):
        SQLStore(url)


def test_a_url_without_a_driver_takes_the_usual_one() -> None:
    """As applications write them."""
    for url, driver in {"postgresql://h/d": "asyncpg", "mysql://h/d": "asyncmy", "mariadb://h/d": "asyncmy"}.items():
        assert SQLStore(url)._engine.dialect.driver == driver


def test_an_engine_of_something_else_is_refused() -> None:
    """An engine with another driver names the ones that work."""
    engine = create_async_engine("postgresql+asyncpg://h/d")
    assert repr(SQLStore(engine)) == "<SQLStore postgresql+asyncpg://h/d fastersession_session>"
    engine.url = engine.url.set(drivername="mysql+aiomysql")
    with pytest.raises(ConfigError, match=r"mysql\+aiomysql is not known; use .*mysql\+asyncmy"):
        SQLStore(engine)


BLOCKED = """
import sys
sys.modules[{module!r}] = None
try:
    from fastersession.stores.sql import SQLStore
    SQLStore("postgresql://h/d")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("sqlalchemy", 'ImportError .*pip install "fastersession\\[sql\\]"'),
        ("asyncpg", "ConfigError .*pip install asyncpg"),
    ],
)
def test_a_missing_extra_says_what_to_install(module: str, text: str) -> None:
    """The extra, or the driver, which the user brings."""
    code = BLOCKED.format(module=module)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert re.match(text, done.stdout), done.stdout + done.stderr


def test_s1_no_secret_reaches_the_database(place: Place) -> None:
    """S1: a row holds the verifier and times; names and values are the attribute table's."""
    place.run(lambda store: make(store, ID, V3, a=b"value"))
    assert place.count() == place.count("_attribute") == 1
