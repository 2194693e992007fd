"""RedisStore: one connection for many tasks, replies that are lost or out of step, and callers that give up."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

import pytest
from driver import Browser, in_loop
from over_redis import BIG, KEY, Wire, change, opened
from redis.asyncio import Redis
from routes import content as content_of
from routes import serve
from servers_redis import RedisServer
from store_subject import ID, OWNER, V1, V2, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Record
from fastersession.stores.redis import RedisStore


@in_loop
async def test_two_hundred_tasks_share_one_connection(one: RedisServer) -> None:
    """Each gets its own session, however they interleave, and the server sees one connection of the store."""
    async with opened(one) as store:
        ids = [n.to_bytes(16) for n in range(200)]
        before = one.cli("client", "list").count(b"id=")

        async def turn(record_id: bytes) -> None:
            await make(store, record_id, who=record_id)
            for n in range(10):
                assert await store.update(record_id, V1, change(n=b"%d" % n))
                assert await content(store, record_id) == {"who": record_id, "n": b"%d" % n}

        await asyncio.gather(*map(turn, ids))
        assert one.cli("client", "list").count(b"id=") == before


@in_loop
async def test_s9_cancelled_in_a_crowd_nobody_gets_anothers_reply(one: RedisServer) -> None:
    """S9: callers cancelled after each number of turns of the loop, in mid-reply too, spoil nobody's reply."""
    async with opened(one) as store:
        ids = [n.to_bytes(16) for n in range(20)]
        for record_id in ids:
            await make(store, record_id, who=record_id, big=BIG[:200_000])
        for turns in range(30):
            loads = [asyncio.ensure_future(content(store, record_id)) for record_id in ids]
            saves = [asyncio.ensure_future(store.update(i, V1, change(who=i, big=BIG[:70_000]))) for i in ids]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in (*loads[::2], *saves[1::2]):
                task.cancel()
            outcomes = await asyncio.gather(*loads, return_exceptions=True)
            for record_id, outcome in zip(ids, outcomes, strict=True):
                assert isinstance(outcome, asyncio.CancelledError) or outcome["who"] == record_id
            saved = await asyncio.gather(*saves, return_exceptions=True)
            assert {True} <= {outcome for outcome in saved if not isinstance(outcome, asyncio.CancelledError)}


@in_loop
async def test_s9_cancelled_while_connecting_the_others_go_on(one: RedisServer) -> None:
    """S9: the connection belongs to none of those who wait for it."""
    for turns in range(12):
        store = RedisStore(one.url)
        tasks = [asyncio.ensure_future(store.load(ID)) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert outcomes[1:] == [None, None]
        await store.close()


def test_a_store_may_be_used_in_one_loop_after_another(one: RedisServer) -> None:
    """A loop that ended without closing the store leaves nothing behind, and no warning."""
    store = RedisStore(one.url)
    asyncio.run(make(store, a=b"1"))
    assert asyncio.run(content(store)) == {"a": b"1"}
    asyncio.run(store.close())


@in_loop
async def test_a_given_client_stays_open(one: RedisServer) -> None:
    """Closing the store closes what the store made."""
    client = Redis.from_url(one.url)
    assert await client.ping()
    async with opened(client) as store:
        await make(store)
    assert await client.exists(KEY)
    assert one.cli("client", "list").count(b"id=") == 2
    await client.aclose()


@in_loop
async def test_a_lost_reply_is_no_refusal(one: RedisServer) -> None:
    """Done, and the connection lost before the reply: a create, a save and a regeneration say that they succeeded."""
    async with Wire(one) as wire, opened(wire.url) as store:
        for number, size in enumerate((10, 2000, 100_000)):
            record_id, sets = bytes([number]) * 16, {"a": bytes(size)}
            wire.word = b"EVAL"
            assert await store.create(record_id, Record(V1, time.time(), 99.0, math.inf, sets)) is True
            wire.word = b"EVAL"
            assert await store.update(record_id, V1, Change(time.time(), sets, ("b",)))
            wire.word = b"EVAL"
            assert await store.regenerate(record_id, V1, V2, math.inf, Change(time.time(), sets, ("b",)))
            assert not await store.regenerate(record_id, V1, V2, math.inf, Change(time.time(), sets))
            assert await content(store, record_id) == sets
            wire.word = b"HGETALL"
            assert await content(store, record_id) == sets
            wire.word = b"EVAL"
            assert await store.lock(record_id, V2, OWNER, 5.0)
            wire.word = b"EVAL"
            await store.delete(record_id)
            assert await store.load(record_id) is None
        assert wire.cuts == 18
        assert one.cli("keys", "*").strip() == b""


VERBS = ["load", "update", "large", "touch", "regenerate", "lock", "unlock", "delete", "create"]
JUNK = [b"garbage\r\n", b"+a reply of nobody\r\n", b":1\r\n", b"*1\r\n+x\r\n", b"$-1\r\n"]


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_s9_s10_replies_out_of_step_are_an_error_never_data(one: RedisServer, verb: str, junk: bytes) -> None:
    """S9, S10: after what is no reply, or one too many, any verb fails, or on a new connection it does not."""
    async with Wire(one) as wire, opened(wire.url) as store:
        ids = [n.to_bytes(16) for n in range(10)]
        for record_id in ids:
            await make(store, record_id, who=record_id)
        now = time.time()
        call = {
            "load": lambda: store.load(ids[0]),
            "update": lambda: store.update(ids[0], V1, change(a=b"1")),
            "large": lambda: store.update(ids[0], V1, change(a=BIG[:5000])),
            "touch": lambda: store.touch(ids[0], V1, now),
            "regenerate": lambda: store.regenerate(ids[0], V1, V2, math.inf, change()),
            "lock": lambda: store.lock(ids[0], V1, OWNER, 5.0),
            "unlock": lambda: store.unlock(ids[0], OWNER),
            "delete": lambda: store.delete(ids[0]),
            "create": lambda: store.create(ID, Record(V1, now, 99.0, math.inf, {})),
        }[verb]
        wire.inject = junk
        with contextlib.suppress(StoreError):
            await call()
        outcomes = await asyncio.gather(*(content(store, i) for i in ids[1:]), return_exceptions=True)
        for record_id, outcome in zip(ids[1:], outcomes, strict=True):
            assert isinstance(outcome, StoreError) or outcome == {"who": record_id}
        for record_id in ids[1:]:
            assert await content(store, record_id) == {"who": record_id}


@in_loop
async def test_s9_a_misrouting_server_is_a_503_never_data(one: RedisServer) -> None:
    """S9: who is given the reply to another's request sees a 503, and none of the other's; the next request works."""
    async with Wire(one) as wire, opened(wire.url) as store:
        app = serve(store=store)
        alice, bob, nobody = Browser(app), Browser(app), Browser(app)
        await alice.get("/set?name=alice")
        await bob.get("/set?name=bob")
        saved = wire.heard
        assert await content_of(alice) == {"name": "alice"}
        hers = wire.heard
        for misrouted, browser, path in ((hers, bob, "/"), (saved, bob, "/"), (hers, nobody, "/set?a=1")):
            assert await content_of(alice) == {"name": "alice"}  # over a connection that stands
            wire.instead = misrouted
            answer = await browser.get(path, catch=True)
            assert (answer.status, answer.cookies) == (503, [])
            assert b"alice" not in answer.body
        assert [await content_of(alice), await content_of(bob)] == [{"name": "alice"}, {"name": "bob"}]
