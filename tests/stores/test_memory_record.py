"""One record of a live session: when it is over, who may have its lease and save under it, and its place in a ring."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import Any

import pytest
from clocks import FakeClock
from driver import in_loop

from fastersession import ConfigError, MemoryStore
from fastersession.engine.tasks import run_now
from fastersession.stores.base import Change
from fastersession.stores.memory.record import LiveRecord, unlink_deadline

OURS, OTHER = b"ours", b"another's"


def record(lease: Any = None, *, idle: float = 60.0, not_after: float = 1000.0, requests: int = 0) -> LiveRecord:
    made = LiveRecord(b"verifier", 100.0, idle, not_after, {})
    made.lease, made.requests = lease, requests
    made.before = made.after = None
    return made


@pytest.mark.parametrize(
    ("made", "deadline", "expired"),
    [
        (record(), 160.0, {159.9: False, 160.0: True, 1000.0: True}),
        (record(requests=1), 160.0, {160.0: False, 999.9: False, 1000.0: True}),
        (record(idle=2000.0), 1000.0, {999.9: False, 1000.0: True}),
    ],
)
def test_a_record_is_over_from_its_deadline_on(made: LiveRecord, deadline: float, expired: dict[float, bool]) -> None:
    """A running request keeps it from idling out, and nothing from its absolute end."""
    assert made.deadline() == deadline
    assert {now: made.expired(now) for now in expired} == expired


@pytest.mark.parametrize(("lease", "now", "free", "admitted"), [
    (None, 0.0, True, False), ((OURS, 10.0), 9.9, True, True), ((OURS, 10.0), 10.0, True, False),
    ((OTHER, 10.0), 9.9, False, False), ((OTHER, 10.0), 10.0, True, False),
])  # fmt: skip
def test_a_lease_is_its_owners_until_its_end(lease: Any, now: float, free: bool, admitted: bool) -> None:
    """From its end on anybody may take it, and nobody saves under it; who gives no lease always saves."""
    made = record(lease)
    assert made.leasable(OURS, now) is free
    assert made.admits(OURS, now) is admitted
    assert made.admits(None, now) is True


def test_taking_a_record_out_of_its_ring_again_does_nothing() -> None:
    """It is in none while it has no deadline."""
    made = record()
    for _ in range(2):
        unlink_deadline(made)
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    never = float("inf")
    run_now(store.create(b"id", LiveRecord(b"verifier", clock(), 60.0, never, {})))
    for _ in range(2):
        assert run_now(store.update(b"id", b"verifier", Change(clock(), idle_timeout=never)))
    clock.advance(1e9)
    assert run_now(store.load(b"id")) is not None


@in_loop
async def test_a_purge_takes_all_that_is_over_and_lets_others_run_meanwhile() -> None:
    """Also what is filed where the time has come only partly; it counts all, and waits for nothing."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    for number, idle in enumerate((30.0, 60.0, 60.0, 60.0, 61.0)):
        await store.create(bytes([number]), LiveRecord(b"verifier", clock(), idle, clock() + 1000, {}))
    clock.advance(60)
    purging = asyncio.ensure_future(store.purge())
    for _ in range(20):
        await asyncio.sleep(0)
    assert purging.done()
    assert (await purging, len(store)) == (4, 1)


def test_a_verb_of_an_objects_own_is_called() -> None:
    """Whatever it is: then the table's verbs are not the store's."""
    store: Any = MemoryStore()
    assert store.live is not None
    store.load = partial(MemoryStore.load, store)
    assert store.live is None


def test_how_many_sessions_are_kept() -> None:
    """100,000 unless told otherwise, one at least."""
    assert inspect.signature(MemoryStore).parameters["max_sessions"].default == 100_000
    assert len(MemoryStore(max_sessions=1)) == 0
    for value in (0, -1, True, 1.0, "1", None):
        with pytest.raises(ConfigError, match=r"^max_sessions: must be a whole number of at least 1$"):
            MemoryStore(max_sessions=value)
    with pytest.raises(ConfigError, match=r"^clock: must be a function that returns seconds, like time\.time$"):
        MemoryStore(clock=1)
