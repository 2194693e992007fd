"""Tables, files and records of an older release: brought to today's at the opening, and shared with its workers."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from over_sql import Place
from paths import ROOT, SUPPORT
from release_0_1 import OldRedis, OldSQL, OldSQLite, OldWorker
from servers_redis import RedisServer
from store_subject import ID, OTHER_ID, OWNER, START, V1, V2, V3, Change, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Extra, Record
from fastersession.stores.redis import RedisStore
from fastersession.stores.sqlite import SQLiteStore
from fastersession.stores.users import ABOUT, Login, Outcome
from fastersession.testing import FakeClock

GUIDE = ROOT / "GUIDE.md"
V4 = b"4" * 32
KINDS = ("sqlite", "redis", "asyncpg", "psycopg", "asyncmy")
Beside = Callable[[], tuple[OldWorker, Any]]


@pytest.fixture(params=KINDS)
def beside(request: pytest.FixtureRequest) -> Beside:
    """What makes a worker of 0.1 and a store of today over the same place."""
    clock, ask = FakeClock(START), request.getfixturevalue

    def sqlite() -> tuple[OldWorker, Any]:
        return OldSQLite(ask("path"), clock), SQLiteStore(ask("path"), clock=clock)

    def redis() -> tuple[OldWorker, Any]:
        return OldRedis(ask("one"), clock), RedisStore(ask("one").url, clock=clock)

    def sql() -> tuple[OldWorker, Any]:
        place = Place(ask("mariadb" if request.param == "asyncmy" else "postgresql"), request.param)
        return OldSQL(place, clock), place.store(clock=clock)

    return {"sqlite": sqlite, "redis": redis}.get(request.param, sql)


@asynccontextmanager
async def opened(store: Any) -> AsyncIterator[Any]:
    try:
        await store.open()
        yield store
    finally:
        await store.close()


async def saves(store: Any, verifier: bytes) -> bool:
    """Tell if a verifier is a proof; a save of each size says the same."""
    changes = [Change(store.clock(), {f"{size}": b"x" * size}) for size in (10, 5_000)]
    outcomes = {await store.update(ID, verifier, change) for change in changes}
    outcomes |= {await store.touch(ID, verifier, store.clock()), await store.lock(ID, verifier, OWNER, 60.0)}
    (outcome,) = outcomes
    return bool(outcome)


async def regenerated(store: Any, old: bytes, new: bytes) -> bool:
    return bool(await store.regenerate(ID, old, new, store.clock() + 1_000, Change(store.clock())))


@in_loop
async def test_what_0_1_made_goes_on(beside: Beside) -> None:
    """A session that 0.1 made in tables of its own is loaded, saved and regenerated, and has a verifier before."""
    old, store = beside()
    old.make_tables()
    old.create(ID, V1)
    async with opened(store):
        assert await saves(store, V1)
        assert (await store.load(ID)).verifier_before is None
        assert await regenerated(store, V1, V2)
        assert (await store.load(ID)).verifier_before == V1
        assert await saves(store, V1)


@pytest.mark.parametrize("made_by", ["0.1", "this release"])
@in_loop
async def test_workers_of_0_1_go_on_beside(beside: Beside, made_by: str) -> None:
    """They create, save and regenerate in the same tables, whoever made these."""
    old, store = beside()
    if made_by == "0.1":
        old.make_tables()
    async with opened(store):
        old.create(ID, V1)
        version = (await store.load(ID)).version
        old.update(ID, V1)
        assert (await store.load(ID)).version == version + 1
        assert await regenerated(store, V1, V2)
        old.update(ID, V2)
        old.update(ID, V1)  # which no worker of 0.1 ever takes
        assert (await store.load(ID)).version == version + 3
        old.regenerate(ID, V2, V3)
        assert (await store.load(ID)).verifier == V3
        await make(store, OTHER_ID)
        old.update(OTHER_ID, V1)
        assert (await store.load(OTHER_ID)).version == 2


@in_loop
async def test_l3_what_a_worker_of_0_1_leaves_opens_nothing(beside: Beside) -> None:
    """L3: it regenerates and leaves the verifier before as it stands, which is two generations back from then on."""
    old, store = beside()
    old.make_tables()
    async with opened(store):
        old.create(ID, V1)
        assert await regenerated(store, V1, V2)
        assert await saves(store, V1)
        old.regenerate(ID, V2, V3)
        found = await store.load(ID)
        assert (found.verifier, found.verifier_before) == (V3, None)
        assert [await saves(store, verifier) for verifier in (V1, V2, V3)] == [False, False, True]
        assert not await regenerated(store, V1, V4)
        assert await regenerated(store, V3, V4)
        assert [await saves(store, verifier) for verifier in (V1, V2, V3, V4)] == [False, False, True, True]
        assert await store.delete(ID)
        old.create(ID, V4)
        assert [await saves(store, verifier) for verifier in (V3, V4)] == [False, True]


OPENING = """
import asyncio, sys
sys.path.insert(0, {here!r})
from store_subject import *
from fastersession.stores.sql import SQLStore
from fastersession.stores.sqlite import SQLiteStore
async def main():
    store = {store}
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    assert await store.load(ID) is not None
    await store.close()
asyncio.run(main())
"""


def open_at_once(store: str, number: int = 6) -> None:
    """Open a store in several processes, all of which wait for the same moment."""
    code = OPENING.format(here=str(SUPPORT), store=store)
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    workers = [subprocess.Popen([sys.executable, "-W", "error", "-c", code], **pipes) for _ in range(number)]
    for worker in workers:
        assert worker.stdout.readline() == b"ready\n", worker.communicate()
    for worker in workers:
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    outcomes = [(worker.communicate()[1].decode(), worker.returncode) for worker in workers]
    assert outcomes == [("", 0)] * number


def test_replicas_that_start_at_once_all_open_the_tables(place: Place) -> None:
    """Each finds the tables of 0.1 and wants to change them; one does, and none fails."""
    old = OldSQL(place, lambda: 4e9)
    old.make_tables()
    old.create(ID, V1)
    open_at_once(f"SQLStore({place.url!r}, table={place.table!r}, clock=lambda: 4e9)")


def test_processes_that_start_at_once_all_open_the_file(path: Path) -> None:
    """The same over one file."""
    old = OldSQLite(path, lambda: 4e9)
    old.make_tables()
    old.create(ID, V1)
    open_at_once(f"SQLiteStore({str(path)!r}, clock=lambda: 4e9)")


def test_the_statement_in_the_error_is_all_that_it_takes(place: Place) -> None:
    """With create_tables=False old tables are left as they are; what the error names makes them today's."""
    OldSQL(place, lambda: START).make_tables()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"an older release made them.*Schema versions") as caught:
            place.run(lambda store: store.load(ID), create_tables=False)
    statement = re.search(r"(?<=run once: )create .*?(?=, or let)", str(caught.value))
    assert statement is not None
    place.server.execute(statement[0])
    place.run(make, create_tables=False)
    assert place.run(content, create_tables=False) == {}


def test_the_guide_has_the_statement(place: Place) -> None:
    """What GUIDE.md says for this database is all that it takes, too."""
    OldSQL(place, lambda: START).make_tables()
    section = GUIDE.read_text().partition("\n## Schema versions\n")[2].partition("\n## ")[0]
    kind = "bytea" if "postgresql" in place.url else "varbinary"
    (statement,) = [block for block in re.findall(r"```sql\n(.*?)```", section, re.DOTALL) if kind in block]
    assert "fastersession_session " in statement
    place.server.execute(statement.replace("fastersession_session", place.table))
    place.run(make, create_tables=False)


def test_an_account_that_may_not_change_the_tables_is_told_the_statement(on_postgresql: Place) -> None:
    """The store does not go on half blind; who may runs the statement."""
    place = on_postgresql
    OldSQL(place, lambda: START).make_tables()
    role = f"guest_of_{place.table}"
    place.server.execute(f"create role {role} login")
    place.server.execute(f"grant select, insert, update, delete on {place.table}, {place.table}_attribute to {role}")
    modest = Place(place.server, "asyncpg")
    modest.url, modest.table = place.url.replace("//t@", f"//{role}@"), place.table
    with pytest.raises(StoreError, match=f"run once: .*alter table {place.table} add column verifier_before bytea"):
        modest.run(lambda store: store.load(ID))


def test_only_columns_that_were_added_are_added(place: Place) -> None:
    """A table that lacks another column is not ours, or a newer release's: refused, and left as it is."""
    OldSQL(place, lambda: START).make_tables()
    place.server.execute(f"alter table {place.table} drop column lease_until")
    with pytest.raises(StoreError, match="cannot be used"):
        place.run(lambda store: store.load(ID))
    with pytest.raises(AssertionError, match=r"verifier_before.* does not exist|Unknown column 'verifier_before'"):
        place.server.execute(f"select verifier_before from {place.table}")


def test_a_file_of_a_newer_release_is_refused(path: Path) -> None:
    """In words that say what to do; it is left as it is."""
    asyncio.run(make(SQLiteStore(path)))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=2")
    with pytest.raises(StoreError, match="newer release made them; upgrade fastersession, or give it another file"):
        asyncio.run(SQLiteStore(path).open())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_workers_of_0_1_still_open_the_file(path: Path) -> None:
    """They look at the number in it, which only a change that they could not live with raises."""
    OldSQLite(path, lambda: START).make_tables()
    asyncio.run(make(SQLiteStore(path), OTHER_ID))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA application_id").fetchone() == (0x46734573,)


BETWEEN = [f"ALTER TABLE session ADD COLUMN verifier_{which} BLOB" for which in ("before", "after")]


@pytest.mark.parametrize("since", [[], BETWEEN], ids=["0.1", "after 0.1"])
def test_a_file_of_an_older_release_is_brought_to_what_a_new_one_is(path: Path, since: list[str]) -> None:
    """The same columns, the same tables and the same indexes."""
    old, new = OldSQLite(path, lambda: START), path.with_name("new.db")
    old.make_tables()
    old.run(tuple(since))

    def shape(path: Path) -> tuple[set[Any], set[Any]]:
        asyncio.run(SQLiteStore(path).open())
        with closing(sqlite3.connect(path)) as connection:
            columns = {row[1:] for row in connection.execute("PRAGMA table_info(session)")}
            others = "SELECT type, name, sql FROM sqlite_master WHERE name <> 'session'"
            return columns, set(connection.execute(others))

    assert shape(path) == shape(new)


@in_loop
async def test_a_worker_of_0_1_leaves_a_session_its_user(path: Path) -> None:
    """It saves to the session and regenerates it; the user's list has it, and a revocation ends it."""
    clock = FakeClock(START)
    old = OldSQLite(path, clock)
    old.make_tables()
    async with opened(SQLiteStore(path, clock=clock)) as store:
        old.create(ID, V1)
        tags = (b"\x01" * 16,)
        record = Record(V2, START, 600.0, START + 600.0, {ABOUT: b"about"}, Extra(tags[0]))
        assert (await store.login(ID, V1, Login(record, tags, START, keep=frozenset()))).outcome is Outcome.DONE
        old.update(ID, V2)
        old.regenerate(ID, V2, V3)
        ((found, record),) = await store.find(tags)
        assert (found, record.verifier, record.version) == (ID, V3, 4)
        assert await store.revoke(tags, None, START) == [ID]


@in_loop
async def test_a_worker_of_0_1_leaves_a_session_in_redis_its_user(one: RedisServer) -> None:
    """It saves to the session and regenerates it; the user's list has it, and a revocation ends it. What has ended and
    is to be told is absent for it, too.
    """
    clock = FakeClock(START)
    old = OldRedis(one, clock)
    async with opened(RedisStore(one.url, clock=clock)) as store:
        old.create(ID, V1)
        tags = (b"\x01" * 16,)
        record = Record(V2, START, 600.0, START + 600.0, {ABOUT: b"about"}, Extra(tags[0], 90.0))
        login = Login(record, tags, START, keep=frozenset())
        assert (await store.login(ID, V1, login)).outcome is Outcome.DONE
        old.update(ID, V2)
        old.regenerate(ID, V2, V3)
        ((found, record),) = await store.find(tags)
        assert (found, record.verifier, record.version) == (ID, V3, 4)
        assert await store.revoke(tags, None, START) == [ID]
        kept = one.cli("dump", f"fs:{{{ID.hex()}}}")
        old.update(ID, V3)
        assert one.cli("dump", f"fs:{{{ID.hex()}}}") == kept
        assert [ended.reason for ended in await store.due(ID)] == ["revoked"]
