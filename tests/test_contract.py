"""Every store keeps the contract: one suite and one state machine, on real servers, Memory the reference."""

from __future__ import annotations

import pytest
from store_contract import SharedStoreContract, StoreContract
from store_machine import check
from store_subject import SHARED, Factory

# Of the state machine: many where a verb costs microseconds, fewer where it costs a round trip, fewest where only the
# driver, the wire or the disk is another.
EXAMPLES = {
    "memory": 100, "sqlite": 40, "redis": 25, "redis_cluster": 15, "asyncpg": 20, "mariadb": 20, "psycopg": 8,
    "sqlite_power": 8, "redis_socket": 8,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["memory"])
class TestMemory(StoreContract):
    """The reference."""

    def test_state_machine(self, factory: Factory) -> None:
        """Any sequence of verbs has the model's outcomes."""
        check(factory, examples=EXAMPLES["memory"])


@pytest.mark.parametrize("kind", [*SHARED, "sqlite_power", "redis_socket"])
class TestShared(SharedStoreContract):
    """Every store outside the process, over its real server; over a socket with RESP3 and decoded replies, too."""

    def test_state_machine(self, factory: Factory, kind: str) -> None:
        """Any sequence of verbs, by requests that overlap and at once, has the model's outcomes."""
        check(factory, examples=EXAMPLES[kind])
