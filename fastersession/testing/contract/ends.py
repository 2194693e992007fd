"""The contract of ended records that are kept to be told of: each is claimed by one, again only if it was not settled.

Rules of residence: a mixin of `UserStoreContract`. No server, no sleep: time is the store's clock.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest

from ...stores.base import Extra, Record
from ...stores.users import ABOUT, CLAIM_SECONDS, Ended, Login
from .subject import Subject, opened, over_a_store
from .users import V, W, listed, login, tags_of

RETENTION = 86_400.0
REASONS = ("invalidated", "logged out", "expired", "ended", "revoked", "evicted", "replaced")


async def told_of(subject: Subject, tags: tuple[bytes, ...], **more: Any) -> bytes:
    """Log in on a new record whose end is to be told."""
    now, record_id = subject.clock(), secrets.token_bytes(16)
    record = Record(W, now, 600.0, now + 3_000.0, {ABOUT: b"about", "kv": b"x" * 100}, Extra(tags[0], RETENTION))
    outcome = await subject.store.login(record_id, None, Login(record, tags, now, **more))
    assert outcome.outcome.name == "DONE"
    return record_id


async def end(subject: Subject, tags: tuple[bytes, ...], record_id: bytes, reason: str) -> None:
    """End a session in this way."""
    if reason == "expired":
        subject.clock.advance(600)
    elif reason == "ended":
        subject.clock.advance(3_000)
    elif reason == "revoked":
        assert await subject.store.revoke(tags, None, subject.clock()) == [record_id]
    elif reason == "evicted":
        assert (await login(subject, tags, limit=1))[1].evicted == (record_id,)
    elif reason == "replaced":
        assert await subject.store.retire(record_id, W, subject.clock() + 60) is True
        assert await mine(subject, [record_id]) == []
        subject.clock.advance(60)
    elif reason == "logged out":
        assert await subject.store.delete(record_id, "logged out") is True
    else:
        assert await subject.store.delete(record_id) is True


async def mine(subject: Subject, record_ids: list[bytes]) -> list[Ended]:
    """Claim what is due, all of it, and return what this test has made."""
    found: list[Ended] = []
    while claimed := await subject.store.due(record_ids[0]):
        found += claimed
    return [ended for ended in found if ended.record_id in record_ids]


class Ends:
    """A mixin of `UserStoreContract`."""

    shared = False  # what one store acknowledged is in another one of the same factory

    @pytest.mark.parametrize("reason", REASONS)
    @over_a_store
    async def test_u6_an_end_is_told_once(self, subject: Subject, reason: str) -> None:
        """U6: as it was, with its reason; nobody gets it again, and nothing opens it."""
        tags = tags_of()
        record_id = await told_of(subject, tags)
        assert await mine(subject, [record_id]) == []
        await end(subject, tags, record_id, reason)
        (ended,) = await mine(subject, [record_id])
        assert (ended.reason, ended.redelivered) == ("expired" if reason == "ended" else reason, False)
        assert dict(ended.record.attributes) == {ABOUT: b"about", "kv": b"x" * 100}
        for at in range(3):
            assert await subject.load(record_id) is None
            assert await subject.update(record_id, W, sets={"late": b"1"}) is False
            assert await subject.touch(record_id, W, subject.clock()) is False
            assert await subject.regenerate(record_id, W, V) is False
            assert await subject.lock(record_id, W, b"o" * 16, 60.0) is False
            assert await subject.delete(record_id) is False
            assert await subject.store.take(record_id, W, "kv") == {}
            assert {*await subject.store.ended([record_id])} == {record_id}
            assert record_id not in await listed(subject, tags)
            assert await mine(subject, [record_id]) == []
            if at == 1:
                await subject.store.settle(record_id)
        subject.clock.advance(CLAIM_SECONDS)
        assert await mine(subject, [record_id]) == []

    @over_a_store
    async def test_u6_a_claim_that_is_not_settled_is_given_again(self, subject: Subject) -> None:
        """U6: to the next, marked, until it is settled."""
        tags = tags_of()
        record_id = await told_of(subject, tags)
        await subject.delete(record_id)
        assert [ended.redelivered for ended in await mine(subject, [record_id])] == [False]
        for _ in range(2):
            subject.clock.advance(CLAIM_SECONDS - 1)
            assert await mine(subject, [record_id]) == []
            subject.clock.advance(1)
            assert [ended.redelivered for ended in await mine(subject, [record_id])] == [True]
        await subject.store.settle(record_id)
        subject.clock.advance(CLAIM_SECONDS)
        assert await mine(subject, [record_id]) == []

    @over_a_store
    async def test_u6_whom_nobody_waits_for_is_not_kept(self, subject: Subject) -> None:
        """A record without a retention is gone; purging passes over those that have one, until it is over."""
        tags = tags_of()
        plain, kept = await subject.insert({}, idle=10.0), await told_of(subject, tags)
        subject.clock.advance(600)
        await subject.purge()
        assert [ended.record_id for ended in await mine(subject, [plain, kept])] == [kept]
        subject.clock.advance(RETENTION + CLAIM_SECONDS)
        await subject.purge()
        assert await mine(subject, [kept]) == []

    @over_a_store
    async def test_u6_a_record_that_was_created_is_told_of_too(self, subject: Subject) -> None:
        """Without a user; touched and saved meanwhile, its end comes when it comes."""
        now, record_id = subject.clock(), secrets.token_bytes(16)
        record = Record(V, now, 600.0, now + 3_000.0, {"a": b"1"}, Extra(retention=RETENTION))
        assert await subject.create(record_id, record) is True
        subject.clock.advance(500)
        assert await subject.update(record_id, V, sets={"b": b"2"}) is True
        subject.clock.advance(500)
        assert await subject.touch(record_id, V, subject.clock()) is True
        assert await mine(subject, [record_id]) == []
        subject.clock.advance(599)
        assert await mine(subject, [record_id]) == []
        subject.clock.advance(1)
        (ended,) = await mine(subject, [record_id])
        assert (ended.reason, dict(ended.record.attributes)) == ("expired", {"a": b"1", "b": b"2"})

    @over_a_store
    async def test_u6_many_at_once_are_told_once_each(self, subject: Subject) -> None:
        """U6: more than one claim takes, by several workers at once."""
        tags = tags_of()
        made = [await told_of(subject, tags) for _ in range(150)]
        assert sorted(await subject.store.revoke(tags, None, subject.clock())) == sorted(made)
        async with opened(subject.factory, subject.clock) as other:
            others = other if self.shared else subject
            lots = await asyncio.gather(*(mine(which, made) for which in (subject, others) * 3))
        told = [ended.record_id for lot in lots for ended in lot]
        assert sorted(told) == sorted(made)

    @pytest.mark.parametrize("verifier", [V, W])
    @over_a_store
    async def test_u6_a_login_that_comes_too_late_leaves_its_end_to_be_told(
        self, subject: Subject, verifier: bytes
    ) -> None:
        """U6: whoever asks, a record that has expired is absent, and is told of."""
        tags, now, record_id = tags_of(), subject.clock(), secrets.token_bytes(16)
        record = Record(V, now, 60.0, now + 60.0, {"a": b"1"}, Extra(retention=RETENTION))
        assert await subject.create(record_id, record) is True
        subject.clock.advance(60)
        outcome = (await login(subject, tags, record_id, verifier))[1]
        assert outcome.outcome.name == "ABSENT"
        assert [ended.record_id for ended in await mine(subject, [record_id])] == [record_id]
