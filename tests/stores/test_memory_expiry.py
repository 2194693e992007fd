"""MemoryStore expires a little at a time: no operation looks at more than a few records, and all is cleared."""

from __future__ import annotations

import math
from typing import Any

from clocks import FakeClock
from hypothesis import strategies as st
from test_memory_store import add, find

from fastersession import MemoryStore
from fastersession.engine.tasks import run_now
from fastersession.stores.base import Change

IDS = [bytes([n]) * 16 for n in range(6)]
VERIFIERS = [bytes([n]) * 16 for n in range(100, 103)]
IDLE = (10.0, 60.0, 1_000.0, math.inf)
NAMES = ("a", "b", "c")

ids, verifiers = st.sampled_from(IDS), st.sampled_from(VERIFIERS)
contents = st.dictionaries(st.sampled_from(NAMES), st.integers(), max_size=3)
changes = st.tuples(contents, st.lists(st.sampled_from(NAMES), max_size=2, unique=True), st.sampled_from((None, *IDLE)))


class CountedSeconds(float):
    """An idle timeout that counts how often a deadline is computed from it: how often a record is looked at."""

    looks = 0

    def __radd__(self, other: Any) -> float:
        CountedSeconds.looks += 1
        return float(other) + float(self)

    __add__ = __radd__


def filled(clock: FakeClock, number: int, idle: float, **options: Any) -> tuple[MemoryStore, list[bytes]]:
    store = MemoryStore(clock=clock, **options)
    made = [number.to_bytes(16, "big")[::-1] for number in range(number)]
    for record_id in made:
        add(store, record_id, idle)
    return store, made


def test_no_operation_looks_at_more_than_a_few_records() -> None:
    """Expiry is incremental: with thousands due at once each operation clears some, and enough to keep up."""
    clock = FakeClock()
    store, made = filled(clock, 5_000, CountedSeconds(60))
    clock.advance(600)
    worst = 0
    for number in range(2_000):
        operations: list[Any] = [
            lambda n=number: add(store, b"new" + n.to_bytes(13, "big"), CountedSeconds(6_000)),
            lambda n=number: find(store, made[-1 - n]),
            lambda n=number: run_now(store.touch(made[-1 - n], b"v", clock())),
            lambda n=number: run_now(store.update(made[-1 - n], b"v", Change(clock()))),
            lambda n=number: run_now(store.delete(made[-1 - n])),
        ]
        CountedSeconds.looks = 0
        operations[number % len(operations)]()
        worst = max(worst, CountedSeconds.looks)
    assert worst <= 64
    assert len(store) == 400


def test_a_load_of_any_session_takes_away_what_is_over() -> None:
    """From the moment on at which all that was filed together is over."""
    clock = FakeClock(0.0)
    store, _ = filled(clock, 3, 20)  # filed from 15 to 30
    clock.advance(29.9)
    assert (find(store, bytes(15) + b"x"), len(store)) == (None, 3)
    clock.advance(0.1)
    assert (find(store, bytes(15) + b"x"), len(store)) == (None, 0)


def test_sessions_that_are_kept_alive_cost_no_sweep_either() -> None:
    """A record whose deadline has moved is filed anew when its old one comes, a few at a time."""
    clock = FakeClock()
    store, made = filled(clock, 2_000, CountedSeconds(60))
    clock.advance(50)
    for record_id in made:
        run_now(store.touch(record_id, b"v", clock()))
    clock.advance(40)
    worst = 0
    for record_id in made:
        CountedSeconds.looks = 0
        assert find(store, record_id) is not None
        worst = max(worst, CountedSeconds.looks)
    assert worst <= 64


def test_purge_finds_what_expired_while_it_was_in_use() -> None:
    """A record that a request has kept alive past its deadline, not accessed again, goes with the next purge."""
    clock = FakeClock()
    store, (record_id,) = filled(clock, 1, 10)
    record = find(store, record_id)
    record.requests += 1
    clock.advance(61)
    find(store, bytes(16))  # looks at what is due, too
    record.requests -= 1
    assert run_now(store.purge()) == 1
    assert len(store) == 0
