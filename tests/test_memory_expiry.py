"""MemoryStore expires a little at a time: no operation looks at more than a few records, and all is cleared."""

from __future__ import annotations

from typing import Any

from clocks import FakeClock
from test_memory_store import add, find

from fastersession import MemoryStore
from fastersession.stores.base import Change
from fastersession.tasks import run_now


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


def test_a_purge_finds_what_was_in_use_when_its_end_came() -> None:
    """A session that a request held beyond its end is removed by the first purge after that request."""
    clock = FakeClock(1_700_000_000.0 // 15 * 15)
    for wait in (10, 14, 15, 29):
        store, (record_id,) = filled(clock, 1, 10.0)
        record = find(store, record_id)
        assert record is not None
        record.requests += 1
        clock.advance(wait)
        assert run_now(store.purge()) == 0
        record.requests -= 1
        assert run_now(store.purge()) == 1
        assert len(store) == 0
