"""SQLStore when others write the same records: behind their locks, at once, and from several processes."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys

import pytest
from clocks import FakeClock
from over_sql import Place
from paths import SUPPORT
from servers_sql import PostgreSQL
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from store_subject import ID, OWNER, V1, V2, content, make

from fastersession.stores.base import Change
from fastersession.stores.sql import SQLStore


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


async def waits(place: Place, number: int = 1) -> None:
    """Wait until so many statements of stores wait for a lock."""
    query = (
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        if isinstance(place.server, PostgreSQL)
        else "select count(distinct requesting_trx_id) from information_schema.innodb_lock_waits"
    )
    async with asyncio.timeout(20):
        while int(await asyncio.to_thread(place.server.execute, query)) < number:
            await asyncio.sleep(0.2)  # InnoDB makes this table anew where nobody has read it for 0.1 s only


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
    """While others write: what they count adds up, with what is left to the next when one was broken off."""
    clock = FakeClock()

    async def main() -> None:
        async with (
            place.opened(clock=clock) as one,
            place.opened(clock=clock) as two,
            place.opened(clock=clock) as three,
        ):
            for start in range(0, 1200, 100):
                await asyncio.gather(*(make(one, n.to_bytes(16), a=b"1") for n in range(start, start + 100)))
            clock.advance(100)
            await make(one, b"a" * 16, V1)
            saves = [one.update(b"a" * 16, V1, Change(clock(), {str(n): b"x"})) for n in range(30)]
            removed = await asyncio.gather(one.purge(), two.purge(), three.purge(), *saves)
            assert all(removed[3:])
            assert sum(removed[:3]) + await one.purge() == 1200  # MariaDB breaks deadlocks of purgers
            assert len(await content(one, b"a" * 16)) == 30

    asyncio.run(main())
    assert place.count() == 1


PROCESS = """
import asyncio, sys
sys.path.insert(0, {here!r})
from store_subject import *
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
    code = {"here": str(SUPPORT), "url": place.url, "table": place.table}
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROCESS.format(**code, number=n)], stderr=subprocess.PIPE
        )
        for n in range(3)
    ]
    outcomes = [(worker.communicate()[1].decode(), worker.returncode) for worker in workers]
    assert outcomes == [("", 0)] * 3
    assert len(place.run(content)) == 151
