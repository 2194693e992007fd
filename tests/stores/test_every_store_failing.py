"""S10 on every store outside the process: each verb while the server refuses, is silent, or has garbage."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import content, record_id, serve, tab
from store_subject import SHARED, Factory, Subject, opened

from fastersession.errors import StoreError
from fastersession.stores.base import Record

pytestmark = pytest.mark.parametrize("kind", SHARED)
V, W, OWNER = b"v" * 32, b"w" * 32, b"o" * 16
TABLE = "fastersession_session"
ADMIN = ("--no-auth-warning", "--user", "admin", "--pass", "admin")

Execute = Callable[[str], Any]


@pytest.fixture
def execute(kind: str, request: pytest.FixtureRequest) -> Execute:
    """Run a statement past the store: SQL, with TABLE for the table of sessions, or words for redis-cli."""
    ask = request.getfixturevalue
    if kind == "sqlite":
        return lambda statement: _sqlite(ask("tmp_path") / "sessions.db", statement.replace("TABLE", "session"))
    if kind.startswith("redis"):
        nodes = [ask("one")] if kind == "redis" else ask("three")
        return lambda words: [node.cli(*ADMIN[: 5 * ("acl" in words)], *words.split()) for node in nodes]
    server = ask("mariadb" if kind == "mariadb" else "postgresql")
    return lambda statement: server.execute(statement.replace("TABLE", TABLE))


def _sqlite(path: Any, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


@pytest.fixture
def refusing(kind: str, execute: Execute) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Let the server refuse everything for a while."""

    @contextlib.contextmanager
    def refusing() -> Iterator[None]:
        if kind.startswith("redis"):
            execute("ACL setuser admin on >admin ~* &* +@all")
            before, after = "acl setuser default nocommands", "acl setuser default allcommands"
        else:
            before, after = "alter table TABLE rename to gone", "alter table gone rename to TABLE"
        execute(before)
        try:
            yield
        finally:
            execute(after)

    return refusing


@pytest.fixture
def silent(kind: str, request: pytest.FixtureRequest) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Let the server be silent for a while; a SQLite file be locked by another process."""
    ask = request.getfixturevalue

    @contextlib.contextmanager
    def silent() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if kind == "sqlite":
                path = ask("tmp_path") / "sessions.db"
                lock = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
                lock.execute("BEGIN IMMEDIATE")
            elif kind.startswith("redis"):
                for node in [ask("redis_server")] if kind == "redis" else ask("redis_nodes"):
                    node.pause()
                    stack.callback(node.resume)
            else:
                stack.enter_context(ask("mariadb" if kind == "mariadb" else "postgresql").silent())
            yield

    return silent


async def verbs(subject: Subject) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return a call of each verb, each on a record of its own."""
    ids = [await subject.insert({"a": b"1"}) for _ in range(7)]
    now, new = subject.clock(), secrets.token_bytes(16)
    return {
        "load": lambda: subject.load(ids[0]),
        "update": lambda: subject.update(ids[1], V, sets={"b": b"2"}),
        "touch": lambda: subject.touch(ids[2], V, now),
        "delete": lambda: subject.delete(ids[3]),
        "regenerate": lambda: subject.regenerate(ids[4], V, W),
        "lock": lambda: subject.lock(ids[5], V, OWNER, 30.0),
        "unlock": lambda: subject.unlock(ids[6], OWNER),
        "create": lambda: subject.create(new, Record(V, now, 60.0, math.inf, {})),
        "purge": lambda: subject.purge(),
    }


@in_loop
async def test_s10_a_server_that_refuses_is_an_error_of_every_verb(factory: Factory, refusing: Any) -> None:
    """S10: each verb raises StoreError and changes nothing; a request is answered by 503, without a cookie."""
    async with opened(factory) as subject:
        browser, new = (Browser(serve(store=subject.store)) for _ in range(2))
        await browser.get("/set?a=1")
        before, calls = await subject.read(record_id(browser)), await verbs(subject)
        with refusing():
            for verb, call in calls.items():
                with pytest.raises(StoreError):
                    assert not await call(), verb
            for answer in (await browser.get("/"), await new.get("/set?a=1", catch=True)):
                assert (answer.status, answer.cookies) == (503, [])
                assert answer.header("retry-after") is not None
        assert await subject.read(record_id(browser)) == before
        for call in calls.values():
            await call()
        assert await content(browser) == {"a": "1"}


@in_loop
async def test_s10_a_silent_server_holds_no_verb_longer_than_its_bound(
    factory: Factory, kind: str, silent: Any, monkeypatch: Any
) -> None:
    """S10: each call ends when the caller's bound does, a request with 503; afterwards all goes on."""
    monkeypatch.setattr("fastersession.engine.calls.STORE_SECONDS", 0.2)
    async with opened(factory) as subject:
        browser = Browser(serve(store=subject.store))
        await browser.get("/set?a=1")
        calls = await verbs(subject)
        alone = (subject.unlock(secrets.token_bytes(16), V[:16]) for _ in range(10))  # in no store with others
        await asyncio.gather(*alone)  # connections for all

        async def bounded(call: Callable[[], Awaitable[Any]]) -> Any:
            async with asyncio.timeout(0.2):
                return await call()

        with silent():
            outcomes = await asyncio.gather(*(bounded(call) for call in calls.values()), return_exceptions=True)
            answer = await browser.get("/" if kind != "sqlite" else "/set?a=2", catch=True)
        for verb, outcome in zip(calls, outcomes, strict=True):
            assert isinstance(outcome, TimeoutError | StoreError) or (kind, verb) == ("sqlite", "load"), verb
        assert (answer.status, answer.cookies) == (503, [])
        assert set(await content(browser)) == {"a"}
        assert await subject.update(await subject.insert(), V, sets={"a": b"1"})


# ID stands for the record's id in hex
REDIS = [
    "hset fs:{ID} t x", "hset fs:{ID} i -", "hset fs:{ID} n 1.5", "hset fs:{ID} v short", "hset fs:{ID} k other",
    "hdel fs:{ID} x", "hdel fs:{ID} v", "set fs:{ID} text",
]  # fmt: skip
SQLITE = [
    "update TABLE set accessed = 'x' where id = x'ID'", "update TABLE set verifier = 'text' where id = x'ID'",
    "update TABLE set verifier = x'00' where id = x'ID'",
    "update attribute set name = name || x'ff' where session_id = x'ID'",
    "update attribute set value = 5 where session_id = x'ID'",
]  # fmt: skip
POSTGRESQL = [
    "update TABLE set verifier = '' where id = '\\xID'",
    "update TABLE_attribute set name = name || '\\xff' where session_id = '\\xID'",
]  # fmt: skip
MARIADB = [
    "update TABLE set verifier = '' where id = x'ID'",
    "update TABLE_attribute set name = concat(name, x'ff') where session_id = x'ID'",
]  # fmt: skip
GARBAGE = {
    "sqlite": SQLITE, "redis": REDIS, "redis_cluster": REDIS, "asyncpg": POSTGRESQL, "psycopg": POSTGRESQL,
    "mariadb": MARIADB,
}  # fmt: skip


@in_loop
async def test_s10_garbage_is_an_error_or_no_session(factory: Factory, kind: str, execute: Execute) -> None:
    """S10: what a server gives that no store wrote is answered by 503 or as anonymous; nothing is set or deleted."""
    id_of = "'\\xID'" if GARBAGE[kind] is POSTGRESQL else "x'ID'"
    exists = "exists fs:{ID}" if GARBAGE[kind] is REDIS else f"select count(*) from TABLE where id = {id_of}"
    async with opened(factory) as subject:
        for statement in GARBAGE[kind]:
            browser = Browser(serve(store=subject.store))
            await browser.get("/set?a=1")
            hexed = record_id(browser).hex()
            execute(statement.replace("ID", hexed))
            for path in ("/", "/set?b=2", "/logout"):
                answer = await tab(browser).get(path, catch=True)
                assert answer.status == 503 or path != "/" or answer.json() == {}, statement
                assert [cookie for cookie in answer.cookies if path != "/set?b=2"] == [], statement
                assert "1" in str(execute(exists.replace("ID", hexed))), statement
