"""Every store keeps the contract: one suite and one state machine, on real servers, Memory the reference."""

from __future__ import annotations

import pytest
from store_contract import SharedStoreContract, StoreContract
from store_machine import check
from store_subject import SHARED, Factory


@pytest.mark.parametrize("kind", ["memory"])
class TestMemory(StoreContract):
    """The reference."""

    def test_state_machine(self, factory: Factory) -> None:
        """Any sequence of verbs has the model's outcomes."""
        check(factory, examples=100)


@pytest.mark.parametrize("kind", [*SHARED, "sqlite_power", "redis_socket"])
class TestShared(SharedStoreContract):
    """Every store outside the process, over its real server; over a socket with RESP3 and decoded replies, too."""

    def test_state_machine(self, factory: Factory, kind: str) -> None:
        """Any sequence of verbs, by requests that overlap and at once, has the model's outcomes."""
        check(factory, examples=60 if kind == "sqlite" else 25)
