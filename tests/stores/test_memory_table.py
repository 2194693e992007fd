"""The table of live records at its bounds: the moment at which a record is over, and how much one operation does."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import FakeClock
from routes import events
from test_memory_expiry import CountedSeconds, filled
from test_memory_store import add

from fastersession import MemoryStore
from fastersession.engine.tasks import run_now
from fastersession.stores.base import AHEAD, AHEAD_TEXT, Change, Renewal
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


def test_expiry_goes_on_where_the_next_records_are_due() -> None:
    """Not before all that was filed together is over, and not later."""
    clock = FakeClock(0.0)
    store, _ = filled(clock, 1, 20)  # filed from 15 to 30
    add(store, b"later" + bytes(11), 50)  # from 45 to 60
    sizes = []
    for now in (29.9, 30.0, 59.9, 60.0):
        clock.advance(now - clock())
        run_now(store.load(b"none" + bytes(12)))
        sizes.append(len(store))
    assert sizes == [2, 1, 1, 0]


def test_one_operation_looks_at_sixteen_that_are_due() -> None:
    """No more, and no fewer; one that is in use is looked at again a bucket later."""
    clock = FakeClock(0.0)
    store, _ = filled(clock, 40, 20)
    clock.advance(30)
    run_now(store.load(b"none" + bytes(12)))
    assert len(store) == 24
    store, (record_id,) = filled(clock, 1, CountedSeconds(20))
    record: Any = run_now(store.load(record_id))
    record.requests += 1
    clock.advance(40)
    for least in (1, 0):
        CountedSeconds.looks = 0
        run_now(store.load(b"none" + bytes(12)))
        assert least <= CountedSeconds.looks <= 3


@pytest.mark.parametrize("identity", [None, ("me",)])
def test_a_renewal_moves_the_absolute_end_for_the_record_s_own_verifier_only(identity: Any) -> None:
    """With the one before nothing is changed at all."""
    clock = FakeClock(0.0)
    live, record = stored(clock, 100.0)
    record.extra = record.extra._replace(identity="before")
    assert live.regenerate(ID, b"v", b"new", 100.0, Change(0.0)) is True
    renewal = Renewal(40.0, 1_000.0, identity)
    assert live.update(ID, b"v", Change(1.0, {"a": 1}, renewal=renewal)) is False
    assert (record.not_after, record.attributes, record.extra.identity) == (100.0, {}, "before")
    assert live.update(ID, b"new", Change(1.0, {"a": 1}, renewal=renewal)) is True
    assert (record.not_after, record.attributes) == (40.0, {"a": 1})
    assert record.extra.identity == (identity or "before")
    clock.advance(45)  # filed anew, from 30 to 45
    assert live.load(b"none" + bytes(12)) is None
    assert live.count == 0


def test_who_watches_is_told_why_a_record_ended() -> None:
    """Deleted for a reason or for the usual one, evicted, or over."""

    class Watcher:
        """Notes what it is told."""

        def __init__(self) -> None:
            self.told: list[Any] = []

        def note(self, record: LiveRecord, reason: str, is_over: bool) -> None:
            self.told.append((record.record_id[:1], reason, is_over))

    clock = FakeClock(0.0)
    store, watcher = MemoryStore(max_sessions=3, clock=clock), Watcher()
    live: Any = store.live
    live.watch(watcher.note)
    for name in (b"a", b"b", b"c", b"d"):
        add(store, name * 16, 20)
    assert live.delete(b"b" * 16) is True
    assert live.delete(b"c" * 16, "because") is True
    clock.advance(30)
    live.load(b"none" + bytes(12))
    assert watcher.told == [
        (b"a", "evicted", True), (b"b", "invalidated", True), (b"c", "because", True), (b"d", "expired", True),
    ]  # fmt: skip


def test_a_bound_that_cannot_be_kept_is_said_once(caplog: Any) -> None:
    """With what to do."""
    store = MemoryStore(max_sessions=1, clock=FakeClock(0.0))
    for number in range(3):
        record: Any = add(store, bytes([number]) * 16)
        record.requests += 1
    (said,) = events(caplog, "store.full")
    words = "MemoryStore: all of 1 sessions are in use by running requests, so the bound is exceeded"
    assert said.getMessage() == f"{words}; raise max_sessions"
    assert (said.levelname, said.__dict__["session_id"]) == ("WARNING", None)


@pytest.mark.parametrize(("seconds", "said"), [(AHEAD, False), (AHEAD + 1, True)])
def test_a_clock_that_was_set_back_is_said_once(seconds: float, said: bool, caplog: Any) -> None:
    """Where a record was accessed more than a minute from now."""
    clock = FakeClock(1_000.0)
    live, _ = stored(clock, 5_000.0)
    clock.advance(-seconds)
    for _ in range(2):
        live.load(ID)
        assert live.update(ID, b"v", Change(clock())) is True
    found = [(one.getMessage(), one.__dict__["session_id"]) for one in events(caplog, "clock.ahead")]
    assert found == ([(AHEAD_TEXT, ID.hex())] if said else [])
