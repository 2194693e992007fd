"""Every store keeps the contract: one suite and one state machine, on real servers, in memory by both contracts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from store_subject import SHARED, Factory

from fastersession import MemoryStore
from fastersession.testing.stores import (
    LiveStoreContract,
    LiveUserStoreContract,
    LogStoreContract,
    SharedStoreContract,
    StoreContract,
    UserStoreContract,
    check_store,
)

# Of the state machine: many where a verb costs microseconds, fewer where it costs a round trip, fewest where only the
# driver, the wire or the disk is another.
EXAMPLES = {
    "sqlite": 40, "redis": 25, "redis_cluster": 15, "asyncpg": 20, "mariadb": 20, "psycopg": 8,
    "sqlite_power": 8, "redis_socket": 8,
}  # fmt: skip


class OnOurServers:
    """Takes the stores from the suite's own fixture, which knows every kind."""

    @pytest.fixture
    def factory(self, kind: str, factory: Factory) -> Factory:
        """Give what the fixture of this name outside of the class gives."""
        return factory


@pytest.mark.parametrize("kind", ["memory"])
class TestMemory(OnOurServers, StoreContract):
    """The coroutines that users await."""


class TestMemoryLive(LiveStoreContract):
    """The plain functions that the engine calls."""

    def make_store(self, clock: Callable[[], float]) -> MemoryStore:
        return MemoryStore(clock=clock)


@pytest.mark.parametrize("kind", [*SHARED, "sqlite_power", "redis_socket"])
class TestShared(OnOurServers, SharedStoreContract):
    """Every store outside the process, over its real server; over a socket with RESP3 and decoded replies, too."""

    def test_state_machine(self, factory: Factory, kind: str) -> None:
        """Any sequence of verbs, by requests that overlap and at once, has the model's outcomes."""
        check_store(factory, examples=EXAMPLES[kind])


@pytest.mark.parametrize("kind", ["memory"])
class TestUsers(OnOurServers, UserStoreContract):
    """What stores have that know whose sessions they keep."""


@pytest.mark.parametrize("kind", ["sqlite", "sqlite_power", "asyncpg", "psycopg", "mariadb"])
class TestUsersShared(OnOurServers, UserStoreContract):
    """The same, in stores that processes share, and whose index is of one piece with the records."""

    shared = True


@pytest.mark.parametrize("kind", ["redis", "redis_cluster", "redis_socket"])
class TestUsersRedis(OnOurServers, UserStoreContract):
    """The same, where the index is apart from the records."""

    shared = True


class TestUsersLive(LiveUserStoreContract):
    """The same, as plain functions."""

    def make_store(self, clock: Callable[[], float]) -> MemoryStore:
        return MemoryStore(clock=clock)


@pytest.mark.parametrize("kind", ["memory"])
class TestLogs(OnOurServers, LogStoreContract):
    """What stores have that keep conversations."""

    log_examples = 300


@pytest.mark.parametrize("kind", ["sqlite", "asyncpg", "psycopg", "mariadb"])
class TestLogsShared(OnOurServers, LogStoreContract):
    """The same, in stores that processes share."""

    shared = True


@pytest.mark.parametrize("kind", ["redis", "redis_cluster", "redis_socket"])
class TestLogsRedis(OnOurServers, LogStoreContract):
    """The same, where a user's frames are plain commands and all else is scripts on one slot."""

    shared = True
    log_examples = 25
