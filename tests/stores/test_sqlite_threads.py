"""SQLiteStore's two threads: loops that share them, callers that give up, groups of writes, and the disk."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from over_sqlite import run, traced
from store_subject import ID, V1, V2, content, make
from stores import shorten

from fastersession.errors import StoreError
from fastersession.stores.base import Change
from fastersession.stores.sqlite import SQLiteStore
from fastersession.stores.sqlite import threads as _sqlite_threads


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.005)


async def handed_over() -> None:
    """Let the tasks of this moment ask, and the thread get it: in the turn after that."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_two_event_loops_share_a_store(path: Path) -> None:
    """Each gets its own outcomes."""
    store = SQLiteStore(path)
    asyncio.run(make(store))
    failures: list[BaseException] = []

    async def work(name: str) -> None:
        for turn in range(200):
            assert await store.update(ID, V1, Change(store.clock(), {name: b"%d" % turn}))
            assert (await content(store))[name] == b"%d" % turn

    def thread(name: str) -> None:
        try:
            asyncio.run(work(name))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread, args=(name,)) for name in "ab"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    asyncio.run(store.close())
    assert failures == []


def test_a_loop_that_closed_meanwhile_harms_nobody(path: Path) -> None:
    """The outcome has nowhere to go; the thread goes on."""
    store = SQLiteStore(path)
    asyncio.run(make(store))
    gate = threading.Event()

    async def hang_up() -> None:
        store._threads[os.getpid()].writer.submit(lambda connection: gate.wait(10))
        await handed_over()

    asyncio.run(hang_up())
    gate.set()
    assert asyncio.run(content(store)) == {}
    asyncio.run(store.close())


def test_a_cancelled_job_that_has_not_begun_is_not_run(path: Path) -> None:
    """A request that gave up leaves no work behind."""

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        gate = threading.Event()
        held = store._threads[os.getpid()].writer.submit(lambda connection: gate.wait(10))
        await handed_over()
        while store._threads[os.getpid()].writer._queue.qsize():
            await asyncio.sleep(0)
        late = asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {"late": b"1"})))
        await handed_over()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        gate.set()
        await held
        assert await store.update(ID, V1, Change(store.clock(), {"next": b"1"}))
        assert await content(store) == {"next": b"1"}

    run(path, scenario)


def test_a_forgotten_store_ends_its_threads(path: Path) -> None:
    """Not closed, only dropped."""
    store = SQLiteStore(path)
    asyncio.run(store.open())
    threads = [store._threads[os.getpid()].reader._thread, store._threads[os.getpid()].writer._thread]
    del store
    gc.collect()
    until(lambda: not any(thread.is_alive() for thread in threads))


def test_a_long_group_is_cut(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its time a transaction ends with what is done, and the rest is done in the next."""
    monkeypatch.setattr(_sqlite_threads, "GROUP_SECONDS", 0)
    statements = traced(monkeypatch)

    async def scenario(store: SQLiteStore) -> None:
        await asyncio.gather(*(make(store, bytes([n]) * 16) for n in range(10)))

    run(path, scenario)
    assert statements.count("BEGIN IMMEDIATE") == 1 + 10  # the tables, and each job


@pytest.mark.parametrize("bound", [{"GROUP_SECONDS": 0}, {"GROUP": 2}], ids=["seconds", "jobs"])
def test_what_is_left_of_a_group_comes_before_what_is_new(
    path: Path, monkeypatch: pytest.MonkeyPatch, bound: dict[str, Any]
) -> None:
    """No later write of a record overtakes an earlier one."""
    shorten(monkeypatch, **bound)

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        saves = []
        for turn in range(60):
            saves.append(asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {"a": b"%d" % turn}))))
            if turn % 6 == 0:
                await handed_over()
        assert all(await asyncio.gather(*saves))
        assert await content(store) == {"a": b"59"}

    run(path, scenario)


def test_what_is_left_of_a_group_may_be_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has not begun, so it is not run."""
    shorten(monkeypatch, GROUP_SECONDS=0)

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        begun, gate = threading.Event(), threading.Event()

        def hold(connection: sqlite3.Connection) -> None:
            begun.set()
            gate.wait(10)

        held = store._threads[os.getpid()].writer.submit(hold)
        left = asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {"left": b"1"})))
        await handed_over()
        until(begun.is_set)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        gate.set()
        await held
        assert await store.update(ID, V1, Change(store.clock(), {"next": b"1"}))
        assert await content(store) == {"next": b"1"}

    run(path, scenario)


def test_one_bad_save_spoils_no_other_of_its_group(path: Path) -> None:
    """What cannot be bound fails alone, and its error does not show the value."""

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        changes = [Change(store.clock(), {str(n): b"x"}) for n in range(20)]
        changes[7] = Change(store.clock(), {"other": b"x", "bad": ["hidden"]})
        outcomes = await asyncio.gather(*(store.update(ID, V1, change) for change in changes), return_exceptions=True)
        assert isinstance(outcomes.pop(7), StoreError)
        assert outcomes == [True] * 19
        assert len(await content(store)) == 19
        with pytest.raises(StoreError) as caught:
            await store.update(ID, V1, changes[7])
        assert "hidden" not in f"{caught.value} {caught.value.__cause__}"

    run(path, scenario)


@pytest.mark.parametrize("durability", ["process", "power"])
def test_l4_deletes_and_regenerations_wait_for_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, durability: str
) -> None:
    """By the setting in force at each COMMIT; with "power" every write does."""
    statements = traced(monkeypatch)
    modes: dict[str, str] = {}

    async def scenario(store: SQLiteStore) -> None:
        for verb, call in {
            "create": lambda: make(store),
            "update": lambda: store.update(ID, V1, Change(store.clock(), {"a": b"1"})),
            "regenerate": lambda: store.regenerate(ID, V1, V2, store.clock() + 9, Change(store.clock())),
            "touch": lambda: store.touch(ID, V2, store.clock()),
            "delete": lambda: store.delete(ID),
        }.items():
            assert await call()
            pragmas = [statement for statement in statements if "synchronous" in statement]
            modes[verb] = pragmas[-1].partition("=")[2]
        assert statements[-1] == "COMMIT"

    run(path, scenario, durability=durability)
    saves = "NORMAL" if durability == "process" else "FULL"
    assert modes == {"create": saves, "update": saves, "regenerate": "FULL", "touch": saves, "delete": "FULL"}


def test_synchronous_full_takes_effect_on_the_same_connection(path: Path) -> None:
    """SQLite itself says so, between two transactions."""

    async def scenario(store: SQLiteStore) -> None:
        def level(connection: sqlite3.Connection) -> int:
            return connection.execute("PRAGMA synchronous").fetchone()[0]

        writer = store._threads[os.getpid()].writer
        assert await writer.submit(level) == 1
        assert await writer.submit(level, durable=True) == 2
        assert await writer.submit(level) == 1

    run(path, scenario)


def test_a_group_waits_for_the_disk_whichever_of_its_jobs_must(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logout that others share a transaction with is on the disk when it is told, as one alone."""
    statements = traced(monkeypatch)

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("begin immediate")
            first = asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {"a": b"0"})))
            await handed_over()
            until(lambda: statements[-1] == "BEGIN IMMEDIATE")  # in vain: what comes from here on is one group
            jobs = [store.update(ID, V1, Change(store.clock(), {"a": b"1"})) for _ in range(10)]
            jobs = [first, *(asyncio.ensure_future(job) for job in [*jobs, store.delete(ID)])]
            await handed_over()
            other.execute("rollback")
            await asyncio.gather(*jobs)

    run(path, scenario)
    deleted = max(n for n, statement in enumerate(statements) if "DELETE FROM session WHERE id" in statement)
    begun = max(n for n, statement in enumerate(statements[:deleted]) if statement == "BEGIN IMMEDIATE")
    assert sum("UPDATE session" in statement for statement in statements[begun:deleted]) > 0
    assert [s for s in statements[:begun] if "synchronous" in s][-1:] == ["PRAGMA synchronous=FULL"]


def test_closing_ends_both_threads(path: Path) -> None:
    """When close() has returned, nothing of the store runs any more, and what was handed over is in the file."""
    before = set(threading.enumerate())

    async def main() -> None:
        store = SQLiteStore(path)
        await make(store)
        handed = [asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {"a": b"1"}))) for _ in range(50)]
        await asyncio.sleep(0)
        await store.close()
        assert not [thread for thread in set(threading.enumerate()) - before if "fastersession" in thread.name]
        assert all(await asyncio.gather(*handed))

    asyncio.run(main())
