"""SQLiteStore, asked by many at once: loads share statements, writes a transaction, and each has its own outcome."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock
from over_sqlite import run, traced
from store_subject import ID, V1, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Extra, Record
from fastersession.stores.sqlite import SQLiteStore, jobs
from fastersession.stores.sqlite import store as sqlite
from fastersession.stores.sqlite.threads import Job

IDS = [bytes([number]) * 16 for number in range(100)]


async def fill(store: SQLiteStore, number: int) -> None:
    """Make records, each with its number."""
    await asyncio.gather(*(make(store, record_id, n=b"%d" % n) for n, record_id in enumerate(IDS[:number])))


async def at_once(store: SQLiteStore, ids: list[bytes]) -> list[Record | None]:
    return await asyncio.gather(*map(store.load, ids))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the reader tells SQLite."""
    statements: list[str] = []
    connect = sqlite.connect_reader

    def spying(path: str) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite, "connect_reader", spying)
    return statements


@contextlib.contextmanager
def spoilt(path: Path, record_id: bytes) -> Iterator[None]:
    """Have text in a record where numbers belong, as only another program writes it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE session SET created = 'noon' WHERE id = ?", (record_id,))
    yield


@pytest.mark.parametrize("number", [2, 3, 50, 64, 65, 100])
def test_loads_at_once_are_two_statements(path: Path, read: list[str], number: int) -> None:
    """For up to 64, and each gets its own record."""

    async def scenario(store: SQLiteStore) -> None:
        await fill(store, number)
        await store.load(ID)
        read.clear()
        found = await at_once(store, IDS[:number])
        assert [dict(record.attributes) for record in found if record] == [{"n": b"%d" % n} for n in range(number)]

    run(path, scenario)
    selects = sum("SELECT" in statement for statement in read)
    assert selects == {65: 3, 100: 4}.get(number, 2)
    assert {statement.upper().count("X'") for statement in read if " IN (" in statement} <= {2, 4, 64}  # few to prepare


def test_a_record_that_many_load_is_read_once(path: Path, read: list[str]) -> None:
    """And made for each: the caller writes into it."""

    async def scenario(store: SQLiteStore) -> None:
        await make(store, a=b"1")
        await store.load(ID)
        read.clear()
        first, *others = await at_once(store, [ID] * 20)
        assert first is not None
        first.extra, first.accessed_at = Extra(b"a" * 16), 0.0
        first.attributes.clear()  # type: ignore[attr-defined]
        for record in others:
            assert record is not None
            assert (record.extra.tag, dict(record.attributes)) == (None, {"a": b"1"})
            assert record.accessed_at > 0

    run(path, scenario)
    assert sum("FROM attribute WHERE" in statement for statement in read) == 1


def test_absent_ones_among_loads_at_once(path: Path) -> None:
    """Each outcome is that of its own id, and of the time at which it was asked."""
    times = itertools.count(1_000_000.0)

    async def scenario(store: SQLiteStore) -> None:
        await asyncio.gather(*(store.create(record_id, Record(V1, 1e6, 50.0, 2e6, {})) for record_id in IDS[:3]))
        found = await at_once(store, [ID, *IDS[:3], IDS[9]] * 20)  # a second passes with each
        assert [record is not None for record in found] == [n < 47 and n % 5 in (1, 2, 3) for n in range(100)]

    run(path, scenario, clock=lambda: next(times))


def test_large_records_are_read_alone_and_after_the_small_ones(path: Path) -> None:
    """However many there are, and one that is deleted in the meantime is absent."""

    async def scenario(store: SQLiteStore) -> None:
        await fill(store, 20)
        for record_id in IDS[:10]:
            large = {"large": bytes(jobs.SMALL + 1), "limit": bytes(jobs.SMALL)}
            assert await store.update(record_id, V1, Change(store.clock(), large))
        assert await store.update(IDS[10], V1, Change(store.clock(), {"limit": bytes(jobs.SMALL)}))
        ended: list[bytes] = []

        async def load(record_id: bytes) -> None:
            record = await store.load(record_id)
            assert record is not None
            assert len(record.attributes) == (3 if record_id in IDS[:10] else 2 if record_id == IDS[10] else 1)
            ended.append(record_id)

        await asyncio.gather(*map(load, IDS[:20]))
        assert set(ended[:10]) == set(IDS[10:20])
        assert ended[10:] == IDS[:10]

    run(path, scenario)


def test_one_large_record_is_read_between_two_groups(
    path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]
) -> None:
    """So neither those that are small nor those that are large wait for all of the others."""
    together = jobs.load_together
    more: list[list[Job]] = []

    def with_more(connection: sqlite3.Connection, wanted: list[Any]) -> list[Any]:
        if more:
            reader._queue.put(more.pop())
        return together(connection, wanted)

    monkeypatch.setattr(jobs, "load_together", with_more)
    store = SQLiteStore(path)
    reader = store._threads[os.getpid()].reader

    async def scenario() -> None:
        await fill(store, 4)
        large = Change(store.clock(), {"large": bytes(jobs.SMALL + 1)})
        assert all(await asyncio.gather(*(store.update(record_id, V1, large) for record_id in IDS[1:4])))
        loop, asked = asyncio.get_running_loop(), ({"id": IDS[0], "now": store.clock()},)
        pairs = [[Job(jobs.load, asked, False, loop, loop.create_future()) for _ in "ab"] for _ in range(20)]
        more.extend(pairs)
        await asyncio.gather(*map(store.load, IDS[:4]), *(job.future for pair in pairs for job in pair))
        await store.close()

    asyncio.run(scenario())
    kinds = ["alone" if "LEFT JOIN" in statement else "together" for statement in read if "name, " in statement]
    assert kinds == ["together", "alone"] * 3 + ["together"] * 18


@pytest.mark.parametrize("most", [4_500, 5_000])
def test_much_is_not_read_together(path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """What is beyond the bytes of one reading comes whole in another, whichever attribute was the last."""
    monkeypatch.setattr(jobs, "SMALL_BYTES", most)

    async def scenario(store: SQLiteStore) -> None:
        for n, record_id in enumerate(IDS[:20]):
            await make(store, record_id, a=bytes([99 - n]) * 700, b=bytes([n]) * 700)
        for record, n in zip(await at_once(store, IDS[:20]), range(20), strict=True):
            assert record is not None
            assert dict(record.attributes) == {"a": bytes([99 - n]) * 700, "b": bytes([n]) * 700}

    run(path, scenario)


def test_one_bad_record_spoils_no_other_load(path: Path) -> None:
    """What another program has written where numbers belong fails alone."""

    async def scenario(store: SQLiteStore) -> None:
        await fill(store, 20)
        with spoilt(path, IDS[7]):
            found = await asyncio.gather(*map(store.load, IDS[:20]), return_exceptions=True)
        assert isinstance(found.pop(7), StoreError)
        assert all(isinstance(record, Record) for record in found)

    run(path, scenario)


def test_a_load_that_is_given_up_spoils_no_other(path: Path) -> None:
    """Before it is handed over, after it, and while a large one waits to be read alone."""

    async def scenario(store: SQLiteStore) -> None:
        await fill(store, 20)
        large = Change(store.clock(), {"large": bytes(jobs.SMALL + 1)})
        assert all(await asyncio.gather(*(store.update(record_id, V1, large) for record_id in IDS[:10])))
        for turns in range(4):
            loads = [asyncio.ensure_future(store.load(record_id)) for record_id in IDS[:20]]
            for _ in range(turns):
                await asyncio.sleep(0)
            for load in loads[::2]:
                load.cancel()
            found = await asyncio.gather(*loads, return_exceptions=True)
            assert [len(record.attributes) for record in found[1::2]] == [2] * 5 + [1] * 5  # type: ignore[union-attr]

    run(path, scenario)


def test_a_load_sees_what_was_acknowledged_before_it_was_asked(path: Path) -> None:
    """Also when it is asked in the very turn in which others are handed over or read."""

    async def scenario(store: SQLiteStore) -> None:
        await make(store)

        async def writer(name: str) -> None:
            for turn in range(50):
                assert await store.update(ID, V1, Change(store.clock(), {name: b"%d" % turn}))
                assert (await content(store))[name] == b"%d" % turn

        await asyncio.gather(*map(writer, "abcdefghij"))

    run(path, scenario)


def test_writes_at_once_are_one_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of several records, and what is purged beside creates is purged once."""
    statements = traced(monkeypatch)

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        statements.clear()
        await fill(store, 50)

    run(path, scenario)
    assert statements.count("BEGIN IMMEDIATE") == 1
    assert sum("ORDER BY expires" in statement for statement in statements) == 1
    assert sum("expires <=" in statement for statement in statements) == 1  # that one: no taken id was looked for


def test_creates_at_once_purge_twice_what_they_add(path: Path) -> None:
    """And no more, so that a group stays short."""
    clock = FakeClock()

    async def scenario(store: SQLiteStore) -> None:
        await fill(store, 20)
        clock.advance(100)
        await asyncio.gather(*(make(store, record_id) for record_id in IDS[20:25]))
        assert await store.purge() == 10

    run(path, scenario, clock=clock)


def test_what_a_loop_that_has_ended_asked_is_done(path: Path) -> None:
    """Asked in its last turn, and handed over before whatever is asked next in another loop."""
    store = SQLiteStore(path)
    asyncio.run(make(store))

    def ask(value: bytes) -> None:
        now = store.clock()
        parameters = {"id": ID, "now": now, "verifier": V1, "accessed": now, "idle": None, "lease": None}
        store._threads[os.getpid()].writer.submit(jobs.merge, jobs.UPDATE, parameters, {"a": value}, ())

    async def read() -> dict[str, bytes]:
        ask(b"second")
        assert await store.touch(ID, V1, store.clock())
        return await content(store)

    loop = asyncio.new_event_loop()
    loop.call_soon(loop.stop)
    loop.call_soon(ask, b"first")
    loop.run_forever()
    loop.close()
    assert store._threads[os.getpid()].writer._queue.empty()
    assert asyncio.run(read()) == {"a": b"second"}
    asyncio.run(store.close())
