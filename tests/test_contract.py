"""Every store keeps the contract: one suite and one state machine, on real servers, Memory the reference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import servers_redis
from servers_sql import MariaDB, PostgreSQL

from fastersession import MemoryStore
from fastersession.stores import from_url
from fastersession.testing.stores import Factory, SharedStoreContract, StoreContract


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/sessions.db"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers_redis.standalone(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers_redis.cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        assert len(nodes) == 3
        yield nodes[0].cluster_url


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with contextlib.closing(PostgreSQL()) as server:
        yield server


@pytest.fixture(scope="module")
def asyncpg(postgresql: PostgreSQL) -> str:
    return postgresql.url("asyncpg")


@pytest.fixture(scope="module")
def psycopg(postgresql: PostgreSQL) -> str:
    return postgresql.url("psycopg")


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with contextlib.closing(MariaDB()) as server:
        yield server.url()


class TestMemory(StoreContract):
    """The reference."""

    def make_store(self, clock: Callable[[], float]) -> MemoryStore:
        return MemoryStore(clock=clock)


@pytest.mark.parametrize("server", ["sqlite", "redis", "redis_cluster", "asyncpg", "psycopg", "mariadb"])
class TestShared(SharedStoreContract):
    """Every store outside the process, over its real server."""

    @pytest.fixture
    def factory(self, server: str, request: pytest.FixtureRequest) -> Factory:
        url: str = request.getfixturevalue(server)
        return lambda clock: from_url(url, clock=clock)
