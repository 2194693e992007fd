"""RedisStore and records that have ended: what is kept of them, where they wait, and who tells of each."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Any

import pytest
from driver import in_loop
from servers_redis import RedisServer
from store_subject import Change, Factory, Subject, opened

from fastersession.stores.base import Extra, Record
from fastersession.stores.redis import RedisStore
from fastersession.stores.redis.users_scripts import REARM
from fastersession.stores.users import CLAIM_SECONDS, CLAIMED, Login, Outcome
from fastersession.testing import FakeClock
from fastersession.testing.contract.ends import RETENTION, mine, told_of
from fastersession.testing.contract.users import DONE, V, W, X, listed, login, tags_of

LIFE = 3_000.0


def over(server: RedisServer) -> Factory:
    """Return what makes a store over a server."""
    return lambda clock: RedisStore(server.url, clock=clock)


def key_of(record_id: bytes) -> str:
    return f"fs:{{{record_id.hex()}}}"


def keys(server: RedisServer) -> set[str]:
    return set(server.cli("keys", "*").decode().split())


def seconds_left(server: RedisServer, key: str) -> float:
    return int(server.cli("pttl", key)) / 1000


async def create(subject: Subject, record_id: bytes | None = None) -> bytes:
    """Create a session whose end is to be told."""
    now, record_id = subject.clock(), secrets.token_bytes(16) if record_id is None else record_id
    record = Record(V, now, 600.0, now + LIFE, {"a": b"1"}, Extra(retention=RETENTION))
    assert await subject.create(record_id, record) is True
    return record_id


@in_loop
async def test_what_the_server_keeps_and_for_how_long(one: RedisServer) -> None:
    """Alive: for the retention beyond its end, whatever moves that. Ended: for the retention. Told: nothing."""
    async with opened(over(one)) as subject:
        record_id = await create(subject, bytes.fromhex("b0" * 16))
        assert keys(one) == {key_of(record_id), "fs:{due:11}"}
        key = key_of(record_id)
        assert RETENTION + 650 < seconds_left(one, key) <= RETENTION + 660
        subject.clock.advance(100)
        assert await subject.update(record_id, V, idle_timeout=900.0)
        assert RETENTION + 950 < seconds_left(one, key) <= RETENTION + 960
        assert await subject.update(record_id, V, sets={"b": bytes(5000)}, idle_timeout=800.0)
        assert RETENTION + 850 < seconds_left(one, key) <= RETENTION + 860
        assert await subject.regenerate(record_id, V, W, life=700.0)
        assert RETENTION + 750 < seconds_left(one, key) <= RETENTION + 760
        assert await subject.touch(record_id, W, subject.clock())
        assert await subject.lock(record_id, W, b"o" * 16, 60.0)
        assert await subject.delete(record_id)
        assert RETENTION + 50 < seconds_left(one, key) <= RETENTION + 60
        assert one.cli("hmget", key, "x", "d", "b", "l", "e").split(b"\n")[:5] == [b"0", b"invalidated", b"", b"", b""]
        (ended,) = await mine(subject, [record_id])
        assert (ended.record.not_after, ended.record.verifier_before) == (subject.clock() + 700, None)
        assert ended.record.extra.retention == RETENTION
        await subject.store.settle(record_id)
        await subject.store.settle(record_id)
        assert await subject.delete(bytes(16)) is False
        assert keys(one) == set()


@pytest.mark.parametrize("way", ["login", "login again", "login without a retention"])
@in_loop
async def test_a_login_says_whether_the_end_is_told(one: RedisServer, way: str) -> None:
    """The login's retention counts, whatever the record had before."""
    async with opened(over(one)) as subject:
        tags, now = tags_of(), subject.clock()
        record_id = await subject.insert({}) if way == "login" else await create(subject)
        retention = None if "without" in way else 50.0
        record = Record(W, now, 600.0, now + LIFE, {}, Extra(tags[0], retention))
        kept = None if way == "login again" else frozenset({"a"})
        outcome = await subject.store.login(record_id, V, Login(record, tags, now, keep=kept))
        assert outcome.outcome is DONE
        assert 600 + (retention or 0) + 50 < seconds_left(one, key_of(record_id)) <= 600 + (retention or 0) + 60
        await subject.delete(record_id)
        assert [ended.record_id for ended in await mine(subject, [record_id])] == [record_id] * bool(retention)


@in_loop
async def test_a_login_that_is_refused_is_told_of_if_there_was_a_session(one: RedisServer) -> None:
    """The guest's session has ended; of a new one nobody has heard."""
    async with opened(over(one)) as subject:
        tags, guest = tags_of(), await create(subject)
        await subject.store.revoke(tags, None, subject.clock() + 1)
        new = secrets.token_bytes(16)
        for record_id, verifier in ((guest, V), (new, None)):
            now = subject.clock()
            record = Record(W, now, 600.0, now + LIFE, {}, Extra(tags[0], RETENTION))
            given = Login(record, tags, now, keep=frozenset({"a"}))
            assert (await subject.store.login(record_id, verifier, given)).outcome is Outcome.REVOKED
        (ended,) = await mine(subject, [guest, new])
        assert (ended.record_id, ended.reason, dict(ended.record.attributes)) == (guest, "revoked", {"a": b"1"})


@in_loop
async def test_a_worker_looks_at_one_shard_after_another(one: RedisServer) -> None:
    """Sixteen calls see all; two workers of one machine begin at different ones; no call claims more than it may."""
    async with opened(over(one)) as subject:
        made = [await create(subject, bytes([n * 16, k]) + bytes(14)) for n in range(16) for k in range(1)]
        many = [await create(subject, bytes([0, 1, k]) + bytes(13)) for k in range(CLAIMED + 5)]
        subject.clock.advance(600)
        lots = [await subject.store.due() for _ in range(16)]
        assert sorted(len(lot) for lot in lots) == [1] * 15 + [CLAIMED]
        told = [ended.record_id for lot in lots for ended in lot]
        told += [ended.record_id for _ in range(16) for ended in await subject.store.due()]
        assert sorted(told) == sorted(made + many)


@in_loop
async def test_a_shard_is_a_hint_and_no_end_is_lost_with_it(one: RedisServer) -> None:
    """An entry that was not moved when its session ended, as by a worker that died, is met when its time comes."""
    async with opened(over(one)) as subject:
        record_id = await create(subject, bytes(16))
        assert await subject.delete(record_id, "logged out")
        assert await subject.delete(bytes(15) + b"x") is False
        one.cli("eval", "redis.call('ZADD', KEYS[1], ARGV[1], string.rep('\\0', 16))", "1", "fs:{due:0}",
                str(subject.clock() + 600))  # fmt: skip
        assert [ended for _ in range(16) for ended in await subject.store.due()] == []
        subject.clock.advance(600)
        (ended,) = [ended for _ in range(16) for ended in await subject.store.due()]
        assert (ended.record_id, ended.reason, ended.redelivered) == (record_id, "logged out", False)


@in_loop
async def test_what_is_gone_or_foreign_leaves_its_shard(one: RedisServer) -> None:
    """A record that an older release has deleted, one that somebody else wrote: looked at once."""
    async with opened(over(one)) as subject:
        gone, broken = await create(subject), await create(subject)
        one.cli("unlink", key_of(gone))
        one.cli("hset", key_of(broken), "n", "text", "i", "0")
        subject.clock.advance(600)
        assert await mine(subject, [gone, broken]) == []
        assert keys(one) - {key_of(broken)} == set()


@in_loop
async def test_a_purge_passes_over_what_is_to_be_told(one: RedisServer) -> None:
    """Until the retention is over; whoever ended it, by time or not."""
    async with opened(over(one)) as subject:
        expired, deleted = await create(subject), await create(subject)
        await subject.delete(deleted)
        subject.clock.advance(600)
        assert await subject.purge() == 0
        subject.clock.advance(RETENTION - 1)
        assert await subject.purge() == 0
        subject.clock.advance(61)
        assert await subject.purge() == 2
        assert not {key_of(expired), key_of(deleted)} & keys(one)


@in_loop
async def test_what_makes_room_is_told_of_as_expired(one: RedisServer) -> None:
    """A login at the limit finds it, and nobody else need: its end is told at its time, and it stays ended."""
    async with opened(over(one)) as subject:
        tags = tags_of()
        record_id = await told_of(subject, tags)
        subject.clock.advance(600)
        _, outcome = await login(subject, tags, limit=1)
        assert (outcome.outcome, outcome.evicted) == (DONE, ())
        subject.clock.advance(-10)  # a worker whose clock is behind
        assert await subject.touch(record_id, W, subject.clock()) is False
        subject.clock.advance(10)
        (ended,) = await mine(subject, [record_id])
        assert (ended.reason, ended.record.not_after) == ("expired", subject.clock() - 600 + 3_000)


async def _live(subject: Subject, tags: tuple[bytes, ...], record_id: bytes, chance: random.Random) -> None:
    """Do something to a session, perhaps its end."""
    await asyncio.sleep(chance.random() * 0.004)
    now = subject.clock()
    await chance.choice([
        lambda: subject.delete(record_id, "logged out"),
        lambda: subject.touch(record_id, W, now),
        lambda: subject.update(record_id, W, sets={"a": bytes(chance.choice([1, 3_000]))}),
        lambda: subject.store.retire(record_id, W, now + 60),
        lambda: subject.store.revoke(tags, None, now),
        lambda: subject.regenerate(record_id, W, X, life=LIFE),
    ])()  # fmt: skip


async def _tell(subject: Subject, chance: random.Random, told: list[Any]) -> None:
    for _ in range(3):
        await asyncio.sleep(chance.random() * 0.004)
        for ended in await subject.store.due(chance.choice([None, secrets.token_bytes(1)])):
            told.append(ended)
            await subject.store.settle(ended.record_id)


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
@in_loop
async def test_u6_whatever_happens_at_once_each_end_is_told_once(factory: Factory) -> None:
    """U6: two workers, sessions that end in any way while both look for ends."""
    # Invariant: what has ended is told once, not marked as told before, by the time that it would have idled out; and
    # what is told opens nothing.
    seed = secrets.randbits(32)
    chance, clock = random.Random(seed), FakeClock()
    async with opened(factory, clock) as first, opened(factory, clock) as second:
        workers, told, made = (first, second), list[Any](), list[bytes]()
        for _ in range(40):
            tags = tags_of()
            ids = [await told_of(first, tags) for _ in range(3)]
            made += ids
            acts = [_live(chance.choice(workers), tags, one, chance) for one in ids for _ in range(2)]
            clock.advance(chance.choice([0.0, 1.0, 599.0, 600.0]))
            await asyncio.gather(*acts, *(_tell(worker, chance, told) for worker in workers))
            for ended in told[-10:]:
                assert await first.load(ended.record_id) is None
        clock.advance(LIFE + CLAIM_SECONDS)
        for _ in range(2):  # the second time for what was met while it lived
            for worker in workers:
                while found := await worker.store.due(bytes(1)):
                    told += found
                    await asyncio.gather(*(worker.store.settle(ended.record_id) for ended in found))
            clock.advance(CLAIM_SECONDS)
        ours = [ended for ended in told if ended.record_id in made]
        assert sorted(ended.record_id for ended in ours) == sorted(made), seed
        assert not any(ended.redelivered for ended in ours), seed
        assert {ended.reason for ended in ours} == {"logged out", "replaced", "revoked", "expired"}
        assert await listed(first, tags) == []


@in_loop
async def test_a_record_that_an_end_finds_alive_is_filed_at_its_end(one: RedisServer) -> None:
    """Met early it is looked at again when it ends; what has ended between the look and that stays where it is."""
    async with opened(over(one)) as subject:
        record_id = await create(subject, bytes(16))
        subject.clock.advance(400)
        assert await subject.update(record_id, V, sets={}) is True
        assert await subject.store.update(record_id, V, Change(subject.clock(), idle_timeout=5_000.0)) is True
        subject.clock.advance(200)
        assert await mine(subject, [record_id]) == []
        scores = one.cli("zrange", "fs:{due:0}", "0", "-1", "withscores").splitlines()
        assert float(scores[-1]) == subject.clock() - 600 + LIFE


@in_loop
async def test_u6_a_claim_stands_in_the_record(one: RedisServer) -> None:
    """U6: an entry of the shard that comes late leads nobody to what another tells of; nor does a clock that is behind
    bring it back.
    """
    async with opened(over(one)) as subject:
        record_id = await create(subject, bytes(16))
        subject.clock.advance(600)
        (ended,) = await mine(subject, [record_id])
        assert ended.redelivered is False
        late = "redis.call('ZADD', KEYS[1], 1, string.rep('\\0', 16))"
        for _ in range(2):
            one.cli("eval", late, "1", "fs:{due:0}")
            assert await mine(subject, [record_id]) == []
        subject.clock.advance(-10)
        assert await subject.touch(record_id, V, subject.clock()) is False
        assert await subject.load(record_id) is None
        subject.clock.advance(10 + CLAIM_SECONDS)
        assert [ended.redelivered for ended in await mine(subject, [record_id])] == [True]


def test_what_has_ended_since_a_look_stays_where_it_was_put(one: RedisServer) -> None:
    """An entry is filed anew only where it still is as the look has left it."""

    def rearm(left: str, when: str) -> bytes:
        one.cli("eval", REARM.text.decode(), "1", "fs:{due:0}", "0", left, "id", when)
        return one.cli("zscore", "fs:{due:0}", "id").strip()

    one.cli("zadd", "fs:{due:0}", "7", "id")
    assert [rearm("5", "9"), rearm("5", ""), rearm("7", "9"), rearm("9", "")] == [b"7", b"7", b"9", b""]
