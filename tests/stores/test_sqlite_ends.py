"""SQLiteStore and ended records: kept by every clock, past every purge, and no longer than they are to be."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from store_subject import START, Subject, opened

from fastersession.errors import StoreError
from fastersession.stores.base import Extra, Record
from fastersession.stores.sqlite import SQLiteStore, ends
from fastersession.stores.sqlite import store as sqlite
from fastersession.stores.sqlite import threads as _sqlite_threads
from fastersession.stores.users import ABOUT, CLAIM_SECONDS, CLAIMED, Login, Outcome
from fastersession.testing.contract.users import V, W, tags_of

RETENTION = 1_000.0


@pytest.fixture
def over(path: Path) -> Callable[[Callable[[], float]], SQLiteStore]:
    return lambda clock: SQLiteStore(path, clock=clock)


async def kept(subject: Subject, idle: float = 100.0, **attributes: bytes) -> bytes:
    """Create a record whose end is to be told."""
    now, record_id = subject.clock(), secrets.token_bytes(16)
    record = Record(V, now, idle, now + 9_000.0, attributes, Extra(None, RETENTION))
    assert await subject.create(record_id, record) is True
    return record_id


async def claimed(subject: Subject) -> list[bytes]:
    return [ended.record_id for ended in await subject.store.due()]


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM session").fetchone()
    return int(number)


@pytest.mark.parametrize("how", ["deleted", "claimed"])
@in_loop
async def test_u6_what_has_ended_stays_so_by_a_clock_that_is_behind(over: Any, how: str) -> None:
    """U6: another process's clock, or this one set back: nobody opens what somebody is told of."""
    async with opened(over) as subject:
        record_id = await kept(subject)
        if how == "deleted":
            assert await subject.delete(record_id) is True
        else:
            subject.clock.advance(100)
            assert await claimed(subject) == [record_id]
        for back in (1, 99, 10 * RETENTION):
            subject.clock.advance(-back)
            assert await subject.load(record_id) is None
            assert await subject.update(record_id, V, sets={"a": b"1"}) is False
            assert {**await subject.store.ended([record_id])} == {
                record_id: "invalidated" if how == "deleted" else "expired"
            }
            subject.clock.advance(back)


@in_loop
async def test_an_id_is_taken_while_its_ended_record_is_kept(over: Any) -> None:
    """And free when that is over, with nothing of it in the new one."""
    async with opened(over) as subject:
        record_id = await kept(subject, old=b"1")
        now, again = subject.clock(), Record(W, subject.clock(), 100.0, subject.clock() + 9e3, {})
        for at in (now, now + 100.0, now + 100.0 + RETENTION - 1):
            subject.clock.advance(at - subject.clock())
            assert await subject.create(record_id, again) is False
            outcome = await subject.store.login(record_id, None, Login(again, tags_of(), subject.clock()))
            assert outcome.outcome is Outcome.ABSENT
        subject.clock.advance(1)
        again.accessed_at = again.created_at = subject.clock()
        assert await subject.create(record_id, again) is True
        assert await subject.attributes(record_id) == {}
        assert await claimed(subject) == []


@in_loop
async def test_purging_looks_past_what_is_kept(over: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much that is, and however little one transaction takes."""
    monkeypatch.setattr(sqlite, "PURGE_BATCH", 5)
    async with opened(over) as subject:
        made = [await kept(subject, idle=10.0) for _ in range(CLAIMED)]
        for _ in range(12):
            await subject.insert({}, idle=20.0)
        subject.clock.advance(20)
        assert await subject.purge() == 12
        assert count(path) == CLAIMED
        assert sorted(await claimed(subject)) == sorted(made)
        subject.clock.advance(RETENTION - 11)  # kept since they have expired, not since somebody has looked
        assert await subject.purge() == 0
        subject.clock.advance(1)
        assert await subject.purge() == CLAIMED


@in_loop
async def test_what_nobody_claims_goes_beside_new_sessions(over: Any, path: Path) -> None:
    """Two with each, as all that has expired: what is kept holds up what expired later, until it is over or claimed."""
    async with opened(over) as subject:
        for _ in range(4):
            await kept(subject, idle=10.0)
            await subject.insert({}, idle=20.0)
        subject.clock.advance(20)
        await subject.insert({}, idle=9e9, life=9e9)
        assert count(path) == 9
        subject.clock.advance(RETENTION - 10)
        for left in (8, 7, 6, 5):
            await subject.insert({}, idle=9e9, life=9e9)
            assert count(path) == left
        assert await claimed(subject) == []


@in_loop
async def test_claiming_makes_way_for_what_has_expired(over: Any, path: Path) -> None:
    """And removes it, where no new sessions do."""
    async with opened(over) as subject:
        made = [await kept(subject, idle=10.0) for _ in range(3)]
        for _ in range(4):
            await subject.insert({}, idle=20.0)
        subject.clock.advance(20)
        assert sorted(await claimed(subject)) == sorted(made)
        assert count(path) == 3
        subject.clock.advance(RETENTION)
        assert await claimed(subject) == []
        assert count(path) == 0


@in_loop
async def test_u6_the_first_to_go_are_claimed_first(over: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """U6: so what waits longest is told of before its retention is over."""
    monkeypatch.setattr(ends, "CLAIMED", 2)
    async with opened(over) as subject:
        made = []
        for _ in range(5):
            made.append(await kept(subject))
            await subject.delete(made[-1])
            subject.clock.advance(1)
        assert [await claimed(subject) for _ in range(4)] == [made[:2], made[2:4], made[4:], []]
        subject.clock.advance(CLAIM_SECONDS)
        assert await claimed(subject) == made[:2]


@in_loop
async def test_a_claim_takes_about_a_megabyte(over: Any) -> None:
    """So many ended sessions with large attributes are not in memory at once; one is given whatever its size."""
    async with opened(over) as subject:
        for size in (600_000, 600_000, 3_000_000, 3_000_000, 10):
            record_id = await kept(subject, large=bytes(size))
            await subject.delete(record_id)
            subject.clock.advance(1)
        lots = [[len(ended.record.attributes["large"]) for ended in await subject.store.due()] for _ in range(5)]
        assert lots == [[600_000, 600_000], [3_000_000], [3_000_000], [10], []]


@in_loop
async def test_asking_whether_anything_is_due_takes_no_lock(
    over: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked each second by each worker: while another one writes, too, and only a claim waits for its turn."""
    monkeypatch.setattr(_sqlite_threads, "BUSY_SECONDS", 0.05)
    async with opened(over) as subject:
        alive, record_id = await kept(subject), await kept(subject)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await claimed(subject) == []
            other.execute("ROLLBACK")
            await subject.delete(record_id)
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await subject.store.due()
            other.execute("ROLLBACK")
        assert await claimed(subject) == [record_id]
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await claimed(subject) == []  # it is claimed
        assert await subject.load(alive) is not None


@in_loop
async def test_settling_removes_what_has_ended_only(over: Any, path: Path) -> None:
    """Not a live session, nor one that has expired and was not claimed."""
    async with opened(over) as subject:
        alive, idle, ended = await kept(subject), await kept(subject, idle=10.0), await kept(subject)
        plain = await subject.insert({})
        subject.clock.advance(10)
        await subject.delete(ended)
        for record_id in (alive, idle, ended, plain, secrets.token_bytes(16)):
            await subject.store.settle(record_id)
        assert await claimed(subject) == [idle]
        assert {**await subject.store.ended([alive, plain, ended])} == {ended: ""}


@in_loop
async def test_a_login_decides_whether_an_end_is_told(over: Any) -> None:
    """And whom the record belongs to when it is."""
    async with opened(over) as subject:
        tags, now = tags_of(), subject.clock()
        record_id = await subject.insert({"cart": b"1"})
        record = Record(W, now, 600.0, now + 600.0, {ABOUT: b"about"}, Extra(tags[0], RETENTION))
        await subject.store.login(record_id, V, Login(record, tags, now, keep=frozenset({"cart"})))
        assert await subject.delete(record_id, "logged out") is True
        (ended,) = await subject.store.due()
        assert (ended.reason, ended.record.extra) == ("logged out", Extra(tags[0], RETENTION))
        assert (ended.record.created_at, ended.record.verifier) == (START, W)
        assert dict(ended.record.attributes) == {ABOUT: b"about", "cart": b"1"}


@in_loop
async def test_a_retired_session_that_is_deleted_was_replaced(over: Any) -> None:
    """Its user knows of no other end of it; and it is not told before it has come."""
    async with opened(over) as subject:
        record_id = await kept(subject)
        assert await subject.store.retire(record_id, V, subject.clock() + 60) is True
        assert await claimed(subject) == []
        for verifier in (V, b"", bytes(32)):
            assert await subject.touch(record_id, verifier, subject.clock()) is False
        assert await subject.delete(record_id, "logged out") is True
        assert [ended.reason for ended in await subject.store.due()] == ["replaced"]
