"""Conversations in a SQLite file: what the file pays, which statements walk it, and several processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import secrets
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock

from fastersession.stores.logs import Append, Batch, Begin, Entry, Log, Outcome, Place, Run
from fastersession.stores.sqlite import SQLiteStore, logs_jobs, logs_rows, runs_jobs

VERB = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE)")
TABLES = {"conversation", "entry", "run", "frame"}


def tables(path: Path) -> set[str]:
    """Return the names of the tables of a file."""
    with sqlite3.connect(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


async def made(store: SQLiteStore, entries: int = 0) -> Log:
    """Make a conversation of so many entries."""
    log = Log(Place(secrets.token_bytes(16)), secrets.token_bytes(16))
    await store.logs.create(log.place, log.log, b"o" * 16, b"about")
    for start in range(1, entries + 1, 500):
        appends = [Append(log, Entry((1, seq), b"x" * 100)) for seq in range(start, min(start + 500, entries + 1))]
        found = await asyncio.gather(*(store.logs.append([one]) for one in appends))
        assert {one[0].outcome for one in found} == {Outcome.DONE}
    return log


def test_a_file_without_conversations_has_no_tables_for_them(tmp_path: Path) -> None:
    """They come with the first use, also into a file that is there."""

    async def scenario() -> None:
        store = SQLiteStore(tmp_path / "s.db")
        await store.open()
        await store.purge()
        assert not tables(tmp_path / "s.db") & TABLES
        assert await store.logs.look([Place(b"c" * 16)], 1, 1) is None
        assert tables(tmp_path / "s.db") >= TABLES
        await store.close()

    asyncio.run(scenario())


def test_a_purge_finds_what_another_process_has_made(tmp_path: Path) -> None:
    """As that of the command line, which has used no conversation."""
    clock = FakeClock()

    async def scenario() -> None:
        store = SQLiteStore(tmp_path / "s.db", clock=clock)
        await store.logs.create(Place(b"c" * 16), b"l" * 16, b"o" * 16, b"about", 10.0)
        clock.advance(10)
        other = SQLiteStore(tmp_path / "s.db", clock=clock)
        await other.purge()
        assert await store.logs.purge() == 0
        await other.close()
        await store.close()

    asyncio.run(scenario())


def statements() -> dict[str, str]:
    """Return every statement about conversations."""
    return {
        name: text
        for module in (logs_rows, logs_jobs, runs_jobs)
        for name, text in vars(module).items()
        if name.isupper()
        and name[0] != "_"
        and isinstance(text, str)
        and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE)", text)
    }


@pytest.mark.parametrize("name", statements())
def test_no_statement_walks_a_table(name: str, tmp_path: Path) -> None:
    """Each finds its rows by an index."""

    async def make() -> None:
        store = SQLiteStore(tmp_path / "s.db")
        await made(store, 3)
        await store.close()

    asyncio.run(make())
    text = statements()[name]
    named = dict.fromkeys(re.findall(r":([a-z_]+)", text), 1)
    with sqlite3.connect(tmp_path / "s.db") as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", named or (1,) * text.count("?"))]
    walks = [step for step in plan if step.startswith("SCAN") and "subquery" not in step.lower()]
    assert not [step for step in walks if "CONSTANT ROW" not in step and "INDEX" not in step], plan


def steps(connection: sqlite3.Connection, work: Any, *arguments: Any) -> int:
    """Return how many hundred instructions of SQLite's a job takes."""
    count = 0

    def counted() -> int:
        nonlocal count
        count += 1
        return 0

    connection.set_progress_handler(counted, 10)
    connection.execute("BEGIN IMMEDIATE")
    work(connection, *arguments)
    connection.execute("ROLLBACK")
    connection.set_progress_handler(None, 0)
    return count


def test_an_append_costs_the_same_on_a_long_history(tmp_path: Path) -> None:
    """Ten thousand entries or ten: the same instructions, to a tenth."""

    async def make() -> list[Log]:
        store = SQLiteStore(tmp_path / "s.db")
        logs = [await made(store, 10), await made(store, 10_000)]
        await store.close()
        return logs

    short, long = asyncio.run(make())
    connection = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    costs = []
    for log, seq in ((short, 11), (long, 10_001)):
        append = Append(log, Entry((1, seq), b"x" * 100, key=b"k" * 16))
        costs.append(steps(connection, logs_jobs.append, [append], 1.0))
    connection.close()
    assert costs[1] <= 1.1 * costs[0]


def writer(path: str, log: Log, count: int) -> None:
    """Append in a process of its own, each behind what others have."""

    async def write() -> None:
        store = SQLiteStore(path)
        top = (1, 0)
        for _ in range(count):
            value = secrets.token_bytes(16)
            while True:
                (found,) = await store.logs.append([Append(log, Entry((top[0], top[1] + 1), value))])
                top = found.top
                if found.outcome is Outcome.DONE:
                    break
        await store.close()

    asyncio.run(write())


def test_processes_append_to_one_history(tmp_path: Path) -> None:
    """Each entry has a place of its own, and none is lost."""
    path = str(tmp_path / "s.db")

    async def make() -> Log:
        store = SQLiteStore(path)
        log = await made(store)
        await store.close()
        return log

    log = asyncio.run(make())
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=writer, args=(path, log, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0

    async def read() -> None:
        store = SQLiteStore(path)
        found = await store.logs.entries(log, None, None, 1000, 10**6, newest=False)
        assert found is not None
        assert [entry.position for entry in found] == [(1, seq) for seq in range(1, 151)]
        await store.close()

    asyncio.run(read())


def producer(path: str, run: Run, pipe: Any) -> None:
    """Write frames until this process is killed, and tell which were acknowledged."""

    async def write() -> None:
        store = SQLiteStore(path)
        for seq in range(1, 100_000):
            assert await store.logs.write([Batch(run, (1, seq), b"%d" % seq, 8)]) == [Outcome.DONE]
            pipe.send(seq)

    asyncio.run(write())


def test_a_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """kill -9 in mid-run: all frames are there, and the turn is freed when the lease is over."""
    path = str(tmp_path / "s.db")
    clock = FakeClock()

    async def begin() -> Run:
        store = SQLiteStore(path, clock=clock)
        run = Run(await made(store), secrets.token_bytes(16))
        begun = await store.logs.begin(Begin(run, 0.0, 1000.0, b"head"))
        assert begun.outcome is Outcome.DONE
        await store.close()
        return run

    run = asyncio.run(begin())
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=producer, args=(path, run, theirs))
    process.start()
    last = 0
    while last < 50:
        last = ours.recv()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    while ours.poll():
        last = ours.recv()

    async def read() -> None:
        store = SQLiteStore(path, clock=clock)
        found = (await store.logs.read({run: (1, 0)}, 10**6))[run]
        assert found is not None
        assert [value for _, value in found][:last] == [b"%d" % seq for seq in range(1, last + 1)]
        look = await store.logs.look([run.log.place], 1, 1)
        assert look is not None
        assert look.run is not None
        assert look.run.seconds_left == 0.0
        await store.close()

    asyncio.run(read())
