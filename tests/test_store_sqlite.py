"""SQLiteStore on real files: the contract, several processes, kill -9, and what can be wrong with a file."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock
from store_verbs import ID, OTHER_ID, V1, V2, Verbs, content, make

from fastersession.errors import ConfigError, StoreError
from fastersession.stores import _sqlite_threads, sqlite
from fastersession.stores.base import Change
from fastersession.stores.sqlite import SQLiteStore

HERE = Path(__file__).parent


class TestVerbs(Verbs):
    """The verbs of a SQLiteStore."""

    @pytest.fixture(autouse=True, params=["process", "power"])
    def _place(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        self.make = lambda clock: SQLiteStore(tmp_path / "s.db", durability=request.param, clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


def run(path: Path, scenario: Callable[[SQLiteStore], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def main() -> Any:
        store = SQLiteStore(path, **options)
        try:
            return await scenario(store)
        finally:
            await store.close()

    return asyncio.run(main())


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come true"
        time.sleep(0.005)


# --- several processes ---

PRELUDE = """
import asyncio, os, sys, time
sys.path.insert(0, {here!r})
from store_verbs import *
from fastersession.stores.sqlite import SQLiteStore
path, number = sys.argv[1], int(sys.argv[2])
"""

STORM = """
async def main():
    store = SQLiteStore(path)
    async def writer(task):
        record_id = bytes([number, task]) * 8
        await make(store, record_id)
        for turn in range(1_000_000):
            await store.update(record_id, V1, Change(store.clock(), {"turn": b"%d" % turn, "twin": b"%d" % turn}))
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
    command = [sys.executable, "-W", "error", "-c", PRELUDE.format(here=str(HERE)) + code, str(path), str(number)]
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
            process.communicate()
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


# --- threads and loops ---


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
        store._started().writer.submit(lambda connection: gate.wait(10))

    asyncio.run(hang_up())
    gate.set()
    assert asyncio.run(content(store)) == {}
    asyncio.run(store.close())


def test_a_cancelled_job_that_has_not_begun_is_not_run(path: Path) -> None:
    """A request that gave up leaves no work behind."""

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        gate = threading.Event()
        held = store._started().writer.submit(lambda connection: gate.wait(10))
        await asyncio.sleep(0)
        while store._started().writer._queue.qsize():
            await asyncio.sleep(0)
        late = asyncio.ensure_future(store.update(ID, V1, Change(store.clock(), {"late": b"1"})))
        await asyncio.sleep(0)
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
    threads = [store._started().reader._thread, store._started().writer._thread]
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


# --- durability ---


def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    statements: list[str] = []
    connect = sqlite.connect_writer

    def spying(path: str) -> sqlite3.Connection:
        statements.append("BEGIN IMMEDIATE")  # of the tables
        connection = connect(path)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite, "connect_writer", spying)
    return statements


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

        writer = store._started().writer
        assert await writer.submit(level) == 1
        assert await writer.submit(level, durable=True) == 2
        assert await writer.submit(level) == 1

    run(path, scenario)


# --- what can be wrong ---


def test_reading_goes_on_while_another_process_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A held lock stops writes only, for a bounded time and with a clear error; then all goes on."""
    monkeypatch.setattr(_sqlite_threads, "BUSY_SECONDS", 0.05)

    async def scenario(store: SQLiteStore) -> None:
        await make(store, a=b"1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("DELETE FROM session")
            assert await content(store) == {"a": b"1"}
            with pytest.raises(StoreError, match="locked"):
                await store.touch(ID, V1, store.clock())
            assert await content(store) == {"a": b"1"}
            other.execute("ROLLBACK")
        assert await store.touch(ID, V1, store.clock())

    run(path, scenario)


@pytest.mark.parametrize(
    ("pragma", "text"), [("max_page_count=12", "full"), ("query_only=ON", "readonly")], ids=["full", "read-only"]
)
def test_s10_a_full_or_read_only_disk(path: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, text: str) -> None:
    """A clear error, nothing half-written, reading goes on; and the next save after recovery works."""
    connect = sqlite.connect_writer
    broken = False

    def hampered(path: str) -> sqlite3.Connection:
        connection = connect(path)
        if broken:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    monkeypatch.setattr(sqlite, "connect_writer", hampered)

    async def scenario(store: SQLiteStore) -> None:
        nonlocal broken
        await make(store, a=b"1")
        await store.close()
        broken = True
        change = Change(store.clock(), {"a": b"2", "large": bytes(100_000)})
        with pytest.raises(StoreError, match=text) as caught:
            await store.update(ID, V1, change)
        assert isinstance(caught.value.__cause__, sqlite3.Error)
        assert await content(store) == {"a": b"1"}
        broken = False
        assert await store.update(ID, V1, change)
        assert (await content(store))["a"] == b"2"

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


def test_a_file_of_something_else_is_refused(path: Path) -> None:
    """And left as it is: another application's database, and what is no database at all."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (a)")
    before = path.read_bytes()
    for verb in ("open", "load", "delete"):
        with pytest.raises(StoreError, match="of something else"):
            run(path, lambda store, verb=verb: getattr(store, verb)(*([] if verb == "open" else [ID])))
    assert path.read_bytes() == before
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(StoreError, match="not a database"):
        run(path, lambda store: store.open())
    assert path.read_bytes() == b"no database " * 1000


def test_tables_of_another_version_are_refused(path: Path) -> None:
    """With what to do about it."""
    run(path, make)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=2")
    with pytest.raises(StoreError, match="version 2, this fastersession knows version 1"):
        run(path, lambda store: store.open())


def test_a_missing_folder_is_an_error_until_it_is_there(tmp_path: Path) -> None:
    """The same store works as soon as it can."""
    path = tmp_path / "later" / "s.db"

    async def scenario(store: SQLiteStore) -> None:
        with pytest.raises(StoreError, match="later"):
            await store.open()
        with pytest.raises(StoreError):
            await store.load(ID)
        path.parent.mkdir()
        await make(store)
        assert await content(store) == {}

    run(path, scenario)


def test_load_alone_makes_the_file(path: Path) -> None:
    """Whichever verb comes first."""
    assert run(path, lambda store: store.load(ID)) is None
    assert run(path, lambda store: store.delete(ID)) is False


def test_the_file_is_its_owners(path: Path) -> None:
    """Sessions are nobody else's to read."""
    run(path, make)
    assert path.stat().st_mode & 0o777 == 0o600


def test_creating_purges_on_the_side(path: Path) -> None:
    """Twice as many as it adds, so that expired sessions do not pile up without a purge."""
    clock = FakeClock()

    async def scenario(store: SQLiteStore) -> None:
        for n in range(10):
            await make(store, bytes([n, 1]) * 8, a=b"1")
        clock.advance(100)
        for n in range(5):
            await make(store, bytes([n, 2]) * 8, a=b"1")
        assert await store.purge() == 0

    run(path, scenario, clock=clock)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM session").fetchone() == (5,)
        assert connection.execute("SELECT count(*) FROM attribute").fetchone() == (5,)


def test_s1_the_verifier_is_all_that_is_kept_of_the_secret(path: Path) -> None:
    """The repr names the file, and nothing that is in it."""
    store = SQLiteStore(path)
    asyncio.run(make(store, OTHER_ID, password=b"hidden"))
    assert repr(store) == f"<SQLiteStore {os.fspath(path)!r}>"
    asyncio.run(store.close())


@pytest.mark.parametrize("given", ["", ":memory:", b"s.db", 5, None, "a\0b"])
def test_a_path_must_name_a_file(given: Any) -> None:
    """All faults in one error, before anything is opened."""
    with pytest.raises(ConfigError, match=r"path: .*; durability: .*'process', 'power'; clock: "):
        SQLiteStore(given, durability="never", clock=5)  # type: ignore[arg-type]


def test_the_folder_of_the_moment_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path means what it meant at construction."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("s.db")
    monkeypatch.chdir("/")
    asyncio.run(store.open())
    asyncio.run(store.close())
    assert (tmp_path / "s.db").exists()
