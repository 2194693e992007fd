"""What many ask at once, over several stores: all outcomes are those of one verb after another, in some order."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from batches import Batches, Call, batch_of
from clocks import FakeClock
from far_store import FarStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning
from store_subject import START, Factory

from fastersession.stores import from_url
from fastersession.stores.base import Change, Record

EXAMPLES = {"sqlite": 150, "sqlite_power": 15}


def check_batches(factories: Sequence[Factory], examples: int) -> None:
    """Run drawn batches over stores that share their records."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]

    # Invariant: for the calls of a batch on one record there is an order, in which each comes after those that had
    # ended when it was asked and after the earlier writes through its store, and in which one verb after another has
    # exactly these outcomes and reads. On a busy disk the commit of another may hold the lock of the file for as long
    # as a store waits: who is told so has changed nothing.
    @settings(max_examples=examples, deadline=None, suppress_health_check=slow)
    @given(drawn=st.lists(batch_of(len(factories)), min_size=1, max_size=6))
    def check(drawn: list[Any]) -> None:
        with asyncio.Runner() as runner:
            batches = Batches(FakeClock(START), factories, bears="locked")
            runner.run(batches.open())
            try:
                for batch in drawn:
                    runner.run(batches.run(batch))
            finally:
                runner.run(batches.close())

    with warnings.catch_warnings():  # or a failure would be hidden by the warning of how long it is
        warnings.simplefilter("ignore", HypothesisWarning)
        check()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_batches_have_the_outcomes_of_one_verb_after_another(factory: Factory, kind: str) -> None:
    """Over two stores on one file or server, that work at the same time."""
    check_batches([factory, factory], EXAMPLES[kind])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", EXAMPLES)
def test_batches_at_length(factory: Factory, kind: str) -> None:
    """As above, with many more, over three stores."""
    check_batches([factory] * 3, 20 * EXAMPLES[kind])


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_batches_over_two_processes(path: Path) -> None:
    """As above, while another process works on the same file: two stores here, and two there."""
    url = f"sqlite:///{path}"
    near, far = (lambda clock: from_url(url, clock=clock)), (lambda clock: FarStore(url, clock))
    check_batches([near, far, near, far], 150)


class TestTheSearch:
    """The means above find what is wrong, where something is."""

    def explained(self, *calls: Call) -> bool:
        """Return whether some order explains calls, each from its begin to its end, on a record that is not there."""
        batches = Batches(FakeClock(START), [])
        batches.ids = [b"i" * 16]
        batches.possible = {b"i" * 16: [None]}
        try:
            batches.explain(calls)
        except AssertionError:
            return False
        return True

    def call(self, verb: str, *rest: Any, at: tuple[float, float], outcome: Any, store: int = 0) -> Call:
        return Call(store, verb, (b"i" * 16, *rest), *at, outcome)

    def create(self, at: tuple[float, float], outcome: bool, store: int = 0) -> Call:
        return self.call("create", Record(b"v", START, 60, START + 60, {}), at=at, outcome=outcome, store=store)

    def test_one_of_two_creates(self) -> None:
        """Exactly one of two that overlap gets the id, and of two through one store the first."""
        for first, second in ((True, False), (False, True), (True, True), (False, False)):
            both = [self.create((1, 4), first, 0), self.create((2, 3), second, 1)]
            assert self.explained(*both) is (first != second)
            both[1].store = 0
            assert self.explained(*both) is (first and not second)

    def test_what_had_ended_comes_before(self) -> None:
        """A load sees what was acknowledged before it was asked, and may see what was not."""
        absent = self.call("load", at=(5, 6), outcome=None)
        assert self.explained(self.create((1, 5.5), True), absent)
        assert not self.explained(self.create((1, 4), True), absent)

    def test_what_was_given_up_may_have_happened(self) -> None:
        """As a whole or not at all, until the next write through the same store; through another one at any time."""
        for gone in (True, False):
            create = self.create((1, float("inf")), False)
            create.given_up = True
            assert self.explained(create, self.call("delete", at=(5, 6), outcome=gone))
        late = [self.call("delete", at=(5, 6), outcome=False), self.call("delete", at=(7, 8), outcome=True)]
        assert not self.explained(create, *late)
        for call in late:
            call.store = 1
        assert self.explained(create, *late)

    def test_a_change_must_be_read_whole(self) -> None:
        """A read of half a save is no read of any order."""
        change = self.call("update", b"v", Change(START, {"a": b"1", "b": b"1"}), at=(3, 4), outcome=True)
        row = {
            "verifier": b"v", "created_at": START, "accessed_at": START, "idle_timeout": 60, "not_after": START + 60,
            "tag": None, "regenerated_at": None, "verifier_before": None, "version": 2,
        }  # fmt: skip
        for attributes, whole in (({"a": b"1", "b": b"1"}, True), ({"a": b"1"}, False)):
            read = self.call("load", at=(5, 6), outcome={**row, "attributes": attributes})
            assert self.explained(self.create((1, 2), True), change, read) is whole
