"""Settings of the whole suite, and the servers that tests share: each is started once, when a test first asks for it.

Rules of residence: fixtures of servers, of a clean place on them, and of the stores over them. A test that kills,
stops or fills a server starts one of its own.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from accounts import BytesStore
from hypothesis import settings
from over_sql import KINDS, Place
from servers_redis import KEEPS, RedisServer, cluster, standalone
from servers_sql import MariaDB, PostgreSQL
from store_subject import Factory
from stores import shorten

from fastersession import MemoryStore
from fastersession.stores import from_url
from fastersession.stores.sqlite import SQLiteStore

Folders = pytest.TempPathFactory

pytest_plugins = ["demo_pages", "fuzzing"]

settings.register_profile("here", deadline=None)  # machines are noisy: no test is about how long an example takes
settings.load_profile("here")


def pytest_collection_finish() -> None:
    """Keep thousands of collected tests out of every later garbage collection, which took a third of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: Folders) -> Iterator[RedisServer]:
    with standalone(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_nodes(tmp_path_factory: Folders) -> Iterator[list[RedisServer]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        assert len(nodes) == 3
        yield nodes


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with contextlib.closing(PostgreSQL()) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    with contextlib.closing(MariaDB()) as server:
        yield server


@pytest.fixture
def one(redis_server: RedisServer) -> RedisServer:
    """One empty Redis."""
    redis_server.cli("flushall")
    return redis_server


@pytest.fixture
def three(redis_nodes: list[RedisServer]) -> list[RedisServer]:
    """Three empty nodes of a Redis Cluster."""
    for node in redis_nodes:
        node.cli("flushall")
    return redis_nodes


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    """A database for each driver, and tables that no other test uses."""
    return Place(request.getfixturevalue(KINDS[request.param].__name__.lower()), request.param)


@pytest.fixture
def on_postgresql(postgresql: PostgreSQL) -> Place:
    return Place(postgresql, "asyncpg")


@pytest.fixture
def on_mariadb(mariadb: MariaDB) -> Place:
    return Place(mariadb, "asyncmy")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a SQLite file may be made."""
    return tmp_path / "sessions.db"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a test may kill; it keeps what it has acknowledged."""
    with standalone(tmp_path, *KEEPS) as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach every bound of the session manager soon; a busy machine lets a process wait for 10 ms."""
    shorten(monkeypatch, STORE_SECONDS=0.05, FLUSH_SECONDS=0.5, FLUSH_PAUSES=(0, 0, 0), DRAIN_SECONDS=0.05)


@pytest.fixture
def factory(kind: str, request: pytest.FixtureRequest) -> Factory:
    """What makes a store of a kind; a test says which, by `parametrize("kind", EVERY)` for instance."""
    ask = request.getfixturevalue
    if kind == "memory":
        return lambda clock: MemoryStore(clock=clock)
    if kind == "bytes":
        return lambda clock: BytesStore(clock=clock)
    if kind == "sqlite_power":
        path = ask("tmp_path") / "power.db"
        return lambda clock: SQLiteStore(path, durability="power", clock=clock)
    urls: dict[str, Callable[[], str]] = {
        "sqlite": lambda: f"sqlite:///{ask('tmp_path')}/sessions.db",
        "redis": lambda: ask("redis_server").url,
        "redis_socket": lambda: f"unix://{ask('redis_server').socket}?protocol=3&decode_responses=True",
        "redis_cluster": lambda: ask("redis_nodes")[0].cluster_url,
        "asyncpg": lambda: ask("postgresql").url("asyncpg"),
        "psycopg": lambda: ask("postgresql").url("psycopg"),
        "mariadb": lambda: ask("mariadb").url(),
    }
    url = urls[kind]()
    return lambda clock: from_url(url, clock=clock)
