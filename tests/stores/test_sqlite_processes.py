"""SQLiteStore in several processes on one file: kill -9 in a storm, forks, and an interpreter that ends."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from over_sqlite import run
from paths import SUPPORT
from store_subject import content, make

from fastersession.stores.sqlite import SQLiteStore

PRELUDE = """
import asyncio, os, sys, time
sys.path.insert(0, {here!r})
from store_subject import *
from fastersession.stores.sqlite import SQLiteStore
path, number = sys.argv[1], int(sys.argv[2])
"""


STORM = """
from fastersession import StoreError
async def done(verb, *arguments):
    while True:
        try:
            return await verb(*arguments)
        except StoreError as error:
            if "locked" not in str(error):  # by the other process, for 1.5 s: it got no moment of a busy machine
                raise
async def main():
    store = SQLiteStore(path)
    async def writer(task):
        record_id = bytes([number, task]) * 8
        await done(make, store, record_id)
        for turn in range(1_000_000):
            change = Change(store.clock(), {"turn": b"%d" % turn, "twin": b"%d" % turn})
            await done(store.update, record_id, V1, change)
            os.write(1, b"%d %d\\n" % (task, turn))
    await asyncio.gather(*map(writer, range(8)))
asyncio.run(main())
"""


SHARED = """
async def main():
    store = SQLiteStore(path)
    while await store.load(ID) is None:
        await asyncio.sleep(0.005)
    for turn in range(100):
        assert await store.update(ID, V1, Change(store.clock(), {f"{number} {turn}": b"x"}))
    await store.close()
asyncio.run(main())
"""


FORK = """
async def main(store, name):
    assert await store.update(ID, V1, Change(store.clock(), {name: b"x"}))
    return sorted(await content(store))
store = SQLiteStore(path)
asyncio.run(make(store))
asyncio.run(main(store, "before"))
child = os.fork()
if child == 0:
    os._exit(asyncio.run(main(store, "child")) != ["before", "child"])
assert os.waitpid(child, 0)[1] == 0
assert asyncio.run(main(store, "parent")) == ["before", "child", "parent"]
"""


LEAVING = """
async def main():
    store = SQLiteStore(path)
    await make(store)
    for n in range(50):
        asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {str(n): b"x"})))
    for _ in range(3):
        await asyncio.sleep(0)
    os.write(1, b"handed over")
    sys.exit(0)
asyncio.run(main())
"""


def start(code: str, path: Path, number: int = 0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", "-c", PRELUDE.format(here=str(SUPPORT)) + code, str(path), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> bytes:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    return out


def test_kill_9_in_a_storm_loses_nothing_acknowledged(path: Path) -> None:
    """Two writing processes, one killed: the file is whole, all that was acknowledged is there, the other goes on."""
    victim, survivor = start(STORM, path, 1), start(STORM, path, 2)
    try:
        assert victim.stdout is not None
        assert survivor.stdout is not None
        lines = [victim.stdout.readline() for _ in range(3000)]
        victim.kill()
        lines += victim.stdout.readlines()
        after = [survivor.stdout.readline() for _ in range(500)]
        assert all(after)
    finally:
        for process in (victim, survivor):
            process.kill()
        errors = [process.communicate()[1].decode() for process in (victim, survivor)]
    assert errors == ["", ""]
    acknowledged: dict[int, int] = {}
    for line in lines:
        if line.endswith(b"\n"):
            task, turn = map(int, line.split())
            acknowledged[task] = turn
    assert len(acknowledged) == 8

    async def check(store: SQLiteStore) -> None:
        for task, turn in acknowledged.items():
            kept = await content(store, bytes([1, task]) * 8)
            assert int(kept["turn"]) in (turn, turn + 1)  # one more may have been on its way
            assert kept["turn"] == kept["twin"]

    run(path, check)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_l8_several_processes_on_one_file(path: Path) -> None:
    """All open a file that is not there yet, all write one record, nothing is lost and nobody fails."""
    workers = [start(SHARED, path, number) for number in range(4)]
    run(path, make)
    for worker in workers:
        finished(worker)
    assert len(run(path, content)) == 400


def test_a_forked_child_opens_the_file_anew(path: Path) -> None:
    """After the parent has used the store; neither spoils the other."""
    finished(start(FORK, path))


def test_what_was_handed_over_is_written_before_the_interpreter_ends(path: Path) -> None:
    """Without any close, and with nobody waiting."""
    assert finished(start(LEAVING, path)) == b"handed over"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (1,)
