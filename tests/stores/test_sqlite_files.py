"""SQLiteStore's file: locked, full, read-only, of something else, missing, and what it says of itself."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock
from over_sqlite import run
from store_subject import ID, OTHER_ID, V1, content, make

from fastersession.errors import ConfigError, StoreError
from fastersession.stores.base import Change
from fastersession.stores.sqlite import SQLiteStore
from fastersession.stores.sqlite import store as sqlite
from fastersession.stores.sqlite import threads as _sqlite_threads


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
    with pytest.raises(StoreError, match="no SQLite database"):
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
