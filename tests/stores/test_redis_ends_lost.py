"""RedisStore and records that have ended, when a connection is lost in it (SECURITY U6): no end waits for long."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accounts import site
from driver import Browser, in_loop, lifespan
from over_redis import Wire
from servers_redis import RedisServer, cluster
from store_subject import Factory, Subject, opened

from fastersession import DestroyedEvent, SessionListener
from fastersession.stores.base import Extra, Record
from fastersession.stores.redis import RedisStore
from fastersession.stores.redis.users_scripts import CLAIM
from fastersession.stores.users import CLAIM_SECONDS, Ended
from fastersession.testing.contract.ends import RETENTION, told_of
from fastersession.testing.contract.users import V, W, login, tags_of

FILING = b"\r\nZADD\r\n"
ERROR = b"-ERR no\r\n"


def over(place: Any) -> Factory:
    """Return what makes a store over a server or a proxy."""
    return lambda clock: RedisStore(place.url, clock=clock)


def key_of(record_id: bytes) -> bytes:
    return b"fs:{%b}" % record_id.hex().encode()


def filed(server: RedisServer, record_id: bytes) -> float:
    """Return when an id is to be looked at."""
    script = """local id = ARGV[1]:gsub('..', function(h) return string.char(tonumber(h, 16)) end)
        return redis.call('ZSCORE', KEYS[1], id)"""
    return float(server.cli("eval", script, "1", f"fs:{{due:{record_id[0] >> 4}}}", record_id.hex()).strip() or "nan")


async def a_round(subject: Subject) -> list[Ended]:
    """Claim as a worker does that knows of no end: in each shard once."""
    return [ended for _ in range(16) for ended in await subject.store.due()]


async def until(there: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not there():
            await asyncio.sleep(0)


async def apart(subject: Subject, nodes: list[RedisServer]) -> tuple[bytes, RedisServer]:
    """Create a session whose end another node files. Return that, too."""
    for n in range(100):
        record_id = bytes([n]) * 16
        here, there = (node_of(key, nodes) for key in (key_of(record_id), b"fs:{due:%d}" % (n >> 4)))
        if here is not there:
            now = subject.clock()
            await subject.create(record_id, Record(V, now, 600.0, now + 3_000.0, {}, Extra(retention=RETENTION)))
            return record_id, there
    raise AssertionError("all are on one node")


def node_of(key: bytes, nodes: list[RedisServer]) -> RedisServer:
    """Return the node that serves a key."""
    return next(node for node in nodes if b"MOVED" not in node.cli("exists", key.decode()))


WAYS: dict[str, Callable[[Subject, tuple[bytes, ...], bytes], Any]] = {
    "invalidated": lambda subject, _, record_id: subject.delete(record_id),
    "revoked": lambda subject, tags, _: subject.store.revoke(tags, None, subject.clock()),
    "evicted": lambda subject, tags, _: login(subject, tags, limit=1),
}
ways = pytest.mark.parametrize("way", WAYS)


@ways
@in_loop
async def test_u6_an_end_is_filed_though_the_connection_is_lost(one: RedisServer, way: str) -> None:
    """U6: what says where to look goes again on another connection, so any worker finds it in its next round."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags = tags_of()
        record_id = await told_of(subject, tags)
        wire.lost = FILING
        await WAYS[way](subject, tags, record_id)
        await until(lambda: filed(one, record_id) == subject.clock())
        (ended,) = await a_round(subject)
        assert (ended.record_id, ended.reason, ended.redelivered) == (record_id, way, False)


@ways
@in_loop
async def test_u6_an_end_whose_reply_is_lost_is_filed(one: RedisServer, way: str) -> None:
    """U6: asked again, the server says that it has ended; that is no success, and the end is told all the same."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags = tags_of()
        record_id = await told_of(subject, tags)
        wire.word = b"\r\n%b\r\n" % way.encode() if way != "invalidated" else key_of(record_id)
        await WAYS[way](subject, tags, record_id)
        assert wire.cuts == 1
        assert await subject.load(record_id) is None
        await until(lambda: filed(one, record_id) == subject.clock())
        (ended,) = await a_round(subject)
        assert (ended.record_id, ended.reason, ended.redelivered) == (record_id, way, False)


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
@in_loop
async def test_u6_what_a_process_has_ended_is_filed_when_it_closes_the_store(factory: Factory) -> None:
    """U6: a job that ends a session and then itself does not lose that, whichever node files it."""
    async with opened(factory) as subject:
        tags = tags_of()
        made = [await told_of(subject, tags) for _ in range(6)]
        for record_id in made:
            async with opened(factory, subject.clock) as job:
                assert await job.delete(record_id)
        told = {ended.record_id for _ in range(6) for ended in await a_round(subject)}
        assert told >= set(made)


@in_loop
async def test_u6_who_has_ended_a_session_claims_it_wherever_it_is_filed(one: RedisServer) -> None:
    """U6: named, it needs no entry; and if it is not settled, another finds it a minute later."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        now, record_id = subject.clock(), secrets.token_bytes(16)
        assert await subject.create(record_id, Record(V, now, 600.0, now + 3_000.0, {}, Extra(retention=RETENTION)))
        end = filed(one, record_id)
        wire.denied = {FILING: ERROR}
        assert await subject.delete(record_id)
        await until(lambda: sum(FILING in data for data in wire.sent) == 3)
        wire.denied = {}
        assert await a_round(subject) == []
        assert filed(one, record_id) == end
        (ended,) = await subject.store.due(record_id)
        assert (ended.record_id, ended.reason, ended.redelivered) == (record_id, "invalidated", False)
        assert await subject.store.due(record_id) == []
        await until(lambda: filed(one, record_id) == subject.clock() + CLAIM_SECONDS)
        subject.clock.advance(CLAIM_SECONDS)
        (ended,) = await a_round(subject)
        assert (ended.record_id, ended.redelivered) == (record_id, True)


@pytest.mark.parametrize("named", [True, False])
@in_loop
async def test_u6_a_claim_whose_reply_is_lost_is_the_callers(one: RedisServer, named: bool) -> None:
    """U6: tried again, it has what it claimed; marked only if somebody else had claimed that before."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        record_id = await told_of(subject, tags_of())
        subject.clock.advance(600)
        for cuts in (1, 2, 3):
            wire.word = CLAIM.digest
            found = await subject.store.due(record_id) if named else await a_round(subject)
            assert [(ended.record_id, ended.redelivered) for ended in found] == [(record_id, cuts > 1)]
            assert wire.cuts == cuts
            assert await subject.store.due(record_id) == []
            subject.clock.advance(CLAIM_SECONDS)


@in_loop
async def test_who_names_a_session_that_lives_claims_nothing(one: RedisServer) -> None:
    """It stays where it is filed, and lives on."""
    async with opened(over(one)) as subject:
        record_id = await told_of(subject, tags_of())
        end = filed(one, record_id)
        assert await subject.store.due(record_id) == []
        assert filed(one, record_id) == end
        assert (await subject.load(record_id)).verifier == W


@in_loop
async def test_u6_a_logout_whose_entry_is_lost_is_told_in_a_moment(one: RedisServer) -> None:
    """U6: by the worker in which it was, whatever becomes of the shard's entry."""
    told = list[DestroyedEvent]()

    class Ear(SessionListener):
        def destroyed(self, event: DestroyedEvent) -> None:
            told.append(event)

    async with Wire(one) as wire, site(over(wire), listeners=[Ear()]) as (app, _), lifespan(app):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        wire.lost = FILING
        await browser.get("/out")
        await until(lambda: told)
        assert told[0].reason == "invalidated"


@in_loop
async def test_u6_an_end_is_told_while_the_server_of_its_shard_hangs(tmp_path: Path) -> None:
    """U6: of a cluster's nodes, that of the session is enough; the entry is filed when the other one is back."""
    with cluster(tmp_path) as nodes:
        async with opened(lambda clock: RedisStore(nodes[0].cluster_url, clock=clock)) as subject:
            record_id, there = await apart(subject, nodes)
            there.pause()
            try:
                assert await subject.delete(record_id)
                (ended,) = await subject.store.due(record_id)
            finally:
                there.resume()
            assert (ended.record_id, ended.reason, ended.redelivered) == (record_id, "invalidated", False)
            assert await subject.store.due(record_id) == []
            subject.clock.advance(CLAIM_SECONDS)
            (ended,) = await subject.store.due(record_id)
            assert ended.redelivered is True
