"""The table of live records at its bounds: the moment at which a record is over, and how much one operation does."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import FakeClock
from test_memory_expiry import filled
from test_memory_store import add

from fastersession import MemoryStore
from fastersession.stores.base import Change
from fastersession.stores.memory.record import LiveRecord

ID = bytes(16)


def stored(clock: FakeClock, not_after: float = 1_000.0) -> tuple[Any, LiveRecord]:
    """Return a live store, and the only record in it, of a running request."""
    live: Any = MemoryStore(clock=clock).live
    record = live.record_type(b"v", clock(), 60.0, not_after, {})
    assert live.create(ID, record)
    record.requests += 1
    return live, record


@pytest.mark.parametrize(("seconds", "left"), [(29.9, 4), (30.0, 1)])
def test_making_a_session_takes_away_what_is_over(seconds: float, left: int) -> None:
    """From the moment on at which all that was filed together is over."""
    clock = FakeClock(0.0)
    store, _ = filled(clock, 3, 20)  # filed from 15 to 30
    clock.advance(seconds)
    add(store, b"new" + bytes(13))
    assert len(store) == left


def test_nothing_is_swapped_in_from_the_absolute_end_on() -> None:
    """A running request does not keep its session beyond it."""
    live, record = stored(FakeClock(0.0))
    for now, taken in ((999.9, True), (1_000.0, False), (1_000.1, False)):
        assert live.swap(record, record.verifier, record.attributes, {"now": now}, now) is taken
    assert (record.attributes, record.accessed_at, record.version) == ({"now": 999.9}, 999.9, 2)


def test_a_lease_that_is_over_cannot_be_given_back() -> None:
    """From its end on it is nobody's; so what its owner does then undoes nothing of the next one's."""
    clock = FakeClock(0.0)
    live, _ = stored(clock)
    for seconds, given_back in ((9.9, True), (10.0, False)):
        assert live.lock(ID, b"v", b"owner", 10.0) is True
        clock.advance(seconds)
        assert live.unlock(ID, b"owner") is given_back


def test_a_record_that_was_deleted_proves_nothing_any_more() -> None:
    """A request may still hold it: no save of it is taken, and it holds none of the other records."""
    clock = FakeClock(0.0)
    live, record = stored(clock)
    assert live.regenerate(ID, b"v", b"new", 1_000.0, Change(clock())) is True
    assert live.delete(ID) is True
    assert (record.verifier, record.verifier_before) == (b"", None)
    assert not hasattr(record, "newer")
    assert not hasattr(record, "older")
    assert live.swap(record, b"new", record.attributes, {"a": 1}, clock()) is False


def test_a_bound_that_was_exceeded_is_reached_again_by_one_for_each_that_is_added() -> None:
    """Two go and one comes: no single request pays for all that were too many."""
    store = MemoryStore(max_sessions=1, clock=FakeClock(0.0))
    records: list[Any] = []
    for number in range(5):
        records.append(add(store, bytes([number]) * 16))
        records[-1].requests += 1
    for record in records:
        record.requests -= 1
    sizes = []
    for number in range(5, 10):
        add(store, bytes([number]) * 16)
        sizes.append(len(store))
    assert sizes == [4, 3, 2, 1, 1]


def test_a_purge_looks_at_a_thousand_records_between_two_pauses() -> None:
    """Also among those whose time has come only partly."""
    clock = FakeClock(0.0)
    store, _ = filled(clock, 2_500, 20)
    clock.advance(20)
    live: Any = store.live
    assert list(live.purge(clock())) == [1_000, 1_000, 500]
    store, _ = filled(clock, 2_500, 20)
    clock.advance(40)
    live = store.live
    assert (sum(live.purge(clock())), len(store)) == (2_500, 0)
