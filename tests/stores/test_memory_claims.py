"""What a MemoryStore keeps of ended records to be told of, by itself: how many, how many at once, and how long."""

from __future__ import annotations

from clocks import FakeClock

from fastersession.stores.base import Extra
from fastersession.stores.memory.store import Claims, Copied
from fastersession.stores.users import CLAIM_SECONDS, CLAIMED

RETENTION = 1_000.0


def noted(count: int, most: int = 100) -> tuple[Claims, FakeClock]:
    """Return claims on so many records that have ended just then."""
    clock = FakeClock()
    claims = Claims(most, clock)
    for number in range(count):
        record = Copied(b"verifier", clock(), 1e6, 1e12, {}, Extra(retention=RETENTION))
        record.record_id = bytes([number])
        claims.note(record, "deleted", is_over=True)
    return claims, clock


def claimed(claims: Claims) -> list[bytes]:
    return [ended.record_id for ended in claims.due()]


def test_the_oldest_makes_room() -> None:
    """As many as the bound says are kept, and none is lost before."""
    assert claimed(noted(2, most=2)[0]) == [b"\0", b"\1"]
    assert claimed(noted(3, most=2)[0]) == [b"\1", b"\2"]


def test_so_many_are_claimed_at_once_and_the_others_next() -> None:
    """No more than are told of before a claim runs out."""
    claims, _ = noted(CLAIMED + 1)
    assert [len(claimed(claims)) for _ in range(3)] == [CLAIMED, 1, 0]


def test_a_claim_and_a_retention_end_to_the_moment() -> None:
    """A claim is another's then, and a record is gone."""
    claims, clock = noted(1)
    assert len(claimed(claims)) == 1
    clock.now += CLAIM_SECONDS
    assert len(claimed(claims)) == 1
    clock.now += RETENTION - CLAIM_SECONDS
    assert claimed(claims) == []
