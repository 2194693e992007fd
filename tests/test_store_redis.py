"""RedisStore on real servers: what only Redis can do to a session, and only RedisStore to Redis."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from hypothesis import given
from hypothesis import strategies as st
from routes import serve
from servers_redis import RedisServer, cluster, free_port, redis_installed, replicated, sentinel, standalone, until
from store_verbs import ID, OTHER_ID, OWNER, V1, V2, Verbs, content, fields, make

from fastersession.errors import ConfigError, StoreError
from fastersession.stores.base import Change

redis = pytest.importorskip("redis.asyncio")
pytestmark = pytest.mark.skipif(not redis_installed(), reason="no redis-server")

from fastersession.stores import _redis_link as link_module  # noqa: E402
from fastersession.stores import _redis_record as record_module  # noqa: E402
from fastersession.stores.redis import RedisStore  # noqa: E402

KEY = f"fs:{{{ID.hex()}}}"
BIG = secrets.token_bytes(1_000_000)
Folders = pytest.TempPathFactory


@pytest.fixture(scope="module")
def _one(tmp_path_factory: Folders) -> Iterator[RedisServer]:
    with standalone(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def _three(tmp_path_factory: Folders) -> Iterator[list[RedisServer]]:
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def one(_one: RedisServer) -> RedisServer:
    """One empty server."""
    _one.cli("flushall")
    return _one


@pytest.fixture
def three(_three: list[RedisServer]) -> list[RedisServer]:
    """Three empty nodes."""
    for server in _three:
        server.cli("flushall")
    return _three


@pytest.fixture
def own(tmp_path: Any) -> Iterator[RedisServer]:
    """A server that a test may kill; it keeps its data."""
    with standalone(tmp_path, "--appendonly", "yes") as server:
        yield server


@contextlib.asynccontextmanager
async def opened(place: Any, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(place.url if isinstance(place, RedisServer) else place, **options)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def change(at: float | None = None, **sets: bytes) -> Change:
    return Change(time.time() if at is None else at, sets)


class TestOneServer(Verbs):
    """Every verb, on one server."""

    @pytest.fixture(autouse=True)
    def _place(self, one: RedisServer) -> None:
        self.make = lambda clock: RedisStore(one.url, clock=clock)


class TestUnixSocket(Verbs):
    """Every verb, with a client given, over a socket file, with RESP3 and replies decoded for the application."""

    @pytest.fixture(autouse=True)
    def _place(self, one: RedisServer) -> None:
        def store(clock: FakeClock) -> RedisStore:
            client = redis.Redis(unix_socket_path=str(one.socket), protocol=3, decode_responses=True)
            return RedisStore(client, clock=clock)

        self.make = store


class TestCluster(Verbs):
    """Every verb, on three nodes."""

    @pytest.fixture(autouse=True)
    def _place(self, three: list[RedisServer]) -> None:
        self.make = lambda clock: RedisStore(three[0].cluster_url, clock=clock)


# --- what is kept, and where ---


@given(st.lists(st.text(), unique=True), st.lists(st.binary(min_size=16, max_size=16), unique=True))
def test_s2_keys_and_fields_are_injective(names: list[str], ids: list[bytes]) -> None:
    """S2: different ids have different keys, different names different fields, none of them a field of metadata."""
    store = RedisStore("redis://localhost", prefix="p:")
    assert len({store._key(record_id) for record_id in ids}) == len(ids)
    made = {record_module.field(name) for name in names}
    assert len(made) == len(names)
    metadata = {name for name in vars(record_module).values() if isinstance(name, bytes)} - {b"a"}
    assert not made & metadata
    assert len(metadata) == 9


@in_loop
async def test_the_server_removes_a_session_a_minute_after_its_end(one: RedisServer) -> None:
    """Every verb that moves the end moves the time to live; it is relative, so the server's clock does not matter."""

    def left() -> float:
        return int(one.cli("pttl", KEY)) / 1000

    clock = FakeClock()
    async with opened(one, clock=clock) as store:
        await make(store)
        assert 155 < left() <= 160
        clock.advance(50)
        assert await store.touch(ID, V1, clock())
        assert 155 < left() <= 160
        assert await store.update(ID, V1, Change(clock(), idle_timeout=300.0))
        assert 355 < left() <= 360
        assert await store.update(ID, V1, Change(clock(), {"big": BIG}, idle_timeout=400.0))
        assert 455 < left() <= 460
        assert await store.regenerate(ID, V1, V2, clock() + 20, Change(clock()))
        assert 75 < left() <= 80
        assert await store.regenerate(ID, V2, V1, math.inf, Change(clock(), idle_timeout=math.inf))
        assert one.cli("pttl", KEY) == b"-1\n"
        assert await store.update(ID, V1, Change(clock(), idle_timeout=0.01))
        until(lambda: int(one.cli("pttl", KEY)) < 60_011, "the new end")


@in_loop
async def test_two_prefixes_in_one_database_never_meet(one: RedisServer) -> None:
    """One id in two stores is two sessions; purging one, with a prefix that looks like a pattern, spares the other."""
    clock = FakeClock()
    async with opened(one, clock=clock, prefix="a") as left, opened(one, clock=clock, prefix="[a]*") as right:
        await make(left, x=b"left")
        await make(right, x=b"right")
        assert (await content(left), await content(right)) == ({"x": b"left"}, {"x": b"right"})
        clock.advance(100)
        assert await right.purge() == 1
        assert one.cli("keys", "*") == b"a{%b}\n" % ID.hex().encode()


@in_loop
async def test_what_others_wrote_is_no_record_or_an_error(one: RedisServer) -> None:
    """A hash without a verifier is absent; a broken one, or another type, fails and is left as it is."""
    async with opened(one) as store:
        one.cli("hset", KEY, "c", "1")
        assert await store.load(ID) is None
        for name in ("v", "k"):
            one.cli("hset", KEY, name, "1")
            with pytest.raises(StoreError):
                await store.load(ID)
        await make(store, OTHER_ID)
        one.cli("copy", f"fs:{{{OTHER_ID.hex()}}}", KEY, "replace")
        with pytest.raises(StoreError):
            await store.load(ID)
        one.cli("set", KEY, "text")
        for sets in ({"a": b"1"}, {"a": BIG}):
            for verb in (store.load(ID), store.update(ID, V1, Change(0.0, sets)), store.touch(ID, V1, 0.0)):
                with pytest.raises(StoreError):
                    await verb
        assert one.cli("get", KEY) == b"text\n"


@in_loop
async def test_a_refused_large_save_leaves_no_trace(one: RedisServer) -> None:
    """Another verifier, an expired record, none at all, a lost lease: the record is as it was, and no key is new."""
    clock = FakeClock()
    large = {"large": BIG}
    async with opened(one, clock=clock) as store:
        await make(store, a=b"1")
        before, dump = fields(await store.load(ID)), one.cli("dump", KEY)
        assert await store.lock(ID, V1, OWNER, 5.0)
        assert await store.unlock(ID, OWNER)
        for verb in (
            store.update(ID, V2, Change(clock(), large, ("a",))),
            store.update(ID, V1, Change(clock(), large, ("a",), lease=OWNER)),
            store.regenerate(ID, V2, V1, math.inf, Change(clock(), large)),
            store.create(ID, V2, clock(), 100.0, math.inf, large),
        ):
            assert not await verb
            assert fields(await store.load(ID)) == before
        assert not await store.update(OTHER_ID, V1, Change(clock(), large))
        clock.advance(100)
        assert not await store.update(ID, V1, Change(clock(), large))
        assert (one.cli("keys", "*").split(), one.cli("dump", KEY)) == ([KEY.encode()], dump)
        assert await store.create(ID, V2, clock(), 100.0, math.inf, large) is not None
        assert await content(store) == large
        assert int(one.cli("pttl", KEY)) > 100_000


@in_loop
async def test_large_saves_in_a_storm_of_regenerations_and_logouts(one: RedisServer) -> None:
    """No record is brought back, none is touched by a refused save, no key is left over."""
    large = secrets.token_bytes(2000)

    async def saver(store: RedisStore) -> None:
        for n in range(200):
            verifier = (V1, V2)[n % 2]
            if await store.update(ID, verifier, change(a=large, b=verifier)):
                record = await store.load(ID)
                assert record is None or record.attributes.get("b") in (None, V1, V2)

    async def rival(store: RedisStore) -> None:
        for _ in range(50):
            await make(store)
            for old, new in ((V1, V2), (V2, V1)) * 3:
                assert await store.regenerate(ID, old, new, time.time() + 99, change())
                record = await store.load(ID)
                assert record is not None
                assert record.verifier == new
            assert await store.delete(ID)
            assert await store.load(ID) is None

    async with opened(one) as store:
        await asyncio.gather(*(saver(store) for _ in range(4)), rival(store))
        assert one.cli("keys", "*").strip() == b""


@in_loop
async def test_an_untouched_megabyte_costs_nothing(one: RedisServer) -> None:
    """Beside 1 MB, changing a counter sends under 1 KB, in one command; reading is one command too."""

    def stat(name: bytes) -> int:
        return int(next(line for line in one.cli("info", "stats").split() if line.startswith(name)).partition(b":")[2])

    asking = b"total_commands_processed", b"total_net_input_bytes"
    stat(asking[0])
    async with opened(one) as store:
        await make(store, big=BIG)
        idle = [stat(name) for name in asking]
        cost = [stat(name) - before for name, before in zip(asking, idle, strict=True)]
        before = [stat(name) for name in asking]
        assert await store.update(ID, V1, change(counter=b"1000000"))
        sent = [stat(name) - start - own for name, start, own in zip(asking, before, cost, strict=True)]
        assert sent[0] <= 10  # the script's own are counted too
        assert 0 < sent[1] < 1024
        assert await content(store) == {"big": BIG, "counter": b"1000000"}


# --- one connection for many ---


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
    client = redis.Redis.from_url(one.url)
    assert await client.ping()
    async with opened(client) as store:
        await make(store)
    assert await client.exists(KEY)
    assert one.cli("client", "list").count(b"id=") == 2
    await client.aclose()


# --- the server fails ---


@in_loop
async def test_kill_and_restart(own: RedisServer) -> None:
    """Killed: an error at once for all who wait. Restarted: the next call works, and what was acknowledged is there."""
    async with opened(own) as store:
        await make(store, a=b"1")
        assert await store.update(ID, V1, change(b=BIG))
        own.kill()
        started = time.monotonic()
        outcomes = await asyncio.gather(*(store.load(ID) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(outcome, StoreError) for outcome in outcomes)
        for verb in (store.update(ID, V1, change(a=BIG)), store.delete(ID), store.purge()):
            with pytest.raises(StoreError):
                await verb
        assert time.monotonic() - started < 3
        own.start()
        assert await content(store) == {"a": b"1", "b": BIG}
        assert await store.update(ID, V1, change(a=b"2"))


@in_loop
async def test_a_restart_between_two_calls_is_not_noticed(own: RedisServer) -> None:
    """A connection that ended while nobody used it is made anew, and so is one that ends under a command."""
    async with opened(own) as store:
        await make(store, a=b"1")
        own.kill()
        own.start()
        assert await content(store) == {"a": b"1"}
        own.cli("client", "kill", "type", "normal")
        assert await content(store) == {"a": b"1"}


@in_loop
async def test_a_server_that_is_silent_is_given_up(own: RedisServer, monkeypatch: Any) -> None:
    """A black hole: bounded in time, an error for each who waits, and no restart needed afterwards."""
    monkeypatch.setattr(link_module, "SECONDS", 0.2)
    async with opened(own) as store:
        await make(store, a=b"1")
        own.pause()
        started = time.monotonic()
        outcomes = await asyncio.gather(*(store.load(ID) for _ in range(10)), return_exceptions=True)
        assert all(isinstance(outcome, StoreError) for outcome in outcomes)
        assert time.monotonic() - started < 3
        own.resume()
        assert await content(store) == {"a": b"1"}


@in_loop
async def test_a_full_server_refuses_saves_as_a_whole(own: RedisServer) -> None:
    """maxmemory: no save is half done; reading and logging out go on."""
    async with opened(own) as store:
        await make(store, a=b"1", b=b"2")
        before = own.cli("hgetall", KEY)
        own.cli("config", "set", "maxmemory", "1")
        for verb in (
            store.update(ID, V1, Change(time.time() + 1, {"c": b"3"}, ("a",), 5.0)),
            store.update(ID, V1, Change(time.time() + 1, {"c": BIG}, ("a",), 5.0)),
            store.regenerate(ID, V1, V2, 5.0, Change(time.time(), {"c": b"3"}, ("a",))),
            store.regenerate(ID, V1, V2, 5.0, Change(time.time(), {"c": BIG}, ("a",))),
            store.create(OTHER_ID, V1, 0.0, 1e12, 1e12, {"c": b"3"}),
            store.create(OTHER_ID, V1, 0.0, 1e12, 1e12, {"c": BIG}),
            store.lock(ID, V1, OWNER, 5.0),
        ):
            with pytest.raises(StoreError):
                await verb
        assert own.cli("keys", "*").split() == [KEY.encode()]
        assert own.cli("hgetall", KEY) == before
        assert await content(store) == {"a": b"1", "b": b"2"}
        assert await store.delete(ID)
        own.cli("config", "set", "maxmemory", "0")
        await make(store)


@in_loop
async def test_script_flush_does_no_harm(one: RedisServer) -> None:
    """Scripts are sent along."""
    async with opened(one) as store:
        await make(store)
        for sets in ({"a": b"1"}, {"a": BIG}):
            one.cli("script", "flush")
            assert await store.update(ID, V1, Change(time.time(), sets))
        assert await store.delete(ID)


@in_loop
async def test_no_connection_to_be_had(own: RedisServer) -> None:
    """maxclients: an error, and the next call after that works."""
    async with opened(own) as store:
        await make(store, a=b"1")
        other = redis.Redis.from_url(own.url)
        await other.config_set("maxclients", 1)
        with pytest.raises(StoreError):
            await store.delete(ID)  # on a connection of its own
        assert await content(store) == {"a": b"1"}
        await other.config_set("maxclients", 100)
        await other.aclose()
        assert await store.delete(ID)


# --- a network that fails: what was done is not done twice, and not told as refused ---


class Wire:
    """A proxy before a server. It cuts the connection instead of passing on the reply to a command that holds `word`.

    `inject` is sent before the next reply, as a server gone mad would.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server, self.word, self.inject, self.cuts = server, b"", b"", 0

    async def __aenter__(self) -> Wire:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near, far = await asyncio.open_connection("127.0.0.1", self.server.port)
        cutting = False

        async def back() -> None:
            while (data := await near.read(65_536)) and not cutting:
                writer.write(self.inject + data)
                self.inject = b""

        backwards = asyncio.ensure_future(back())
        with contextlib.suppress(ConnectionError):
            while not cutting and (data := await reader.read(65_536)):
                if self.word and self.word in data:
                    self.word, cutting, self.cuts = b"", True, self.cuts + 1
                far.write(data)
        await (backwards if cutting else asyncio.sleep(0))
        backwards.cancel()
        far.close()
        writer.close()


@in_loop
async def test_a_lost_reply_is_no_refusal(one: RedisServer) -> None:
    """Done, and the connection lost before the reply: a create, a save and a regeneration say that they succeeded."""
    async with Wire(one) as wire, opened(wire.url) as store:
        for number, size in enumerate((10, 2000, 100_000)):
            record_id, sets = bytes([number]) * 16, {"a": bytes(size)}
            wire.word = b"EVAL"
            assert await store.create(record_id, V1, time.time(), 99.0, math.inf, sets) is not None
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


@pytest.mark.parametrize("junk", [b"garbage\r\n", b"+a reply of nobody\r\n", b":1\r\n", b"*1\r\n+x\r\n", b"$-1\r\n"])
def test_s9_replies_out_of_step_are_an_error_never_data(one: RedisServer, junk: bytes) -> None:
    """S9: what is no reply, or one too many, costs an error or a new connection; never another's record."""

    @in_loop
    async def scenario() -> None:
        async with Wire(one) as wire, opened(wire.url) as store:
            ids = [n.to_bytes(16) for n in range(10)]
            for record_id in ids:
                await make(store, record_id, who=record_id)
            wire.inject = junk
            outcomes = await asyncio.gather(*(content(store, i) for i in ids), return_exceptions=True)
            for record_id, outcome in zip(ids, outcomes, strict=True):
                assert isinstance(outcome, StoreError) or outcome == {"who": record_id}
            for record_id in ids:
                assert await content(store, record_id) == {"who": record_id}

    scenario()


# --- replicas, Sentinel, Cluster ---


@in_loop
async def test_logouts_and_regenerations_wait_for_a_replica(tmp_path: Any) -> None:
    """Each sends a WAIT, and reaches the replica; one that hangs holds nobody up for good."""
    with replicated(tmp_path) as (master, replica):
        async with opened(master) as store:
            for size in (1, 5000):
                await make(store)
                assert await store.regenerate(ID, V1, V2, time.time() + 99, change(a=bytes(size)))
                there = master.cli("hget", KEY, "x")
                assert there != b"\n"
                until(lambda there=there: replica.cli("hget", KEY, "x") == there, "replication")
                assert await store.delete(ID)
                until(lambda: replica.cli("exists", KEY) == b"0\n", "replication")
            waits = master.cli("info", "commandstats")
            assert b"cmdstat_wait:calls=4," in waits
            await asyncio.gather(*(make(store, n.to_bytes(16)) for n in range(30)))
            replica.pause()
            assert all(await asyncio.gather(*(store.delete(n.to_bytes(16)) for n in range(30))))
            replica.resume()


@in_loop
async def test_without_a_replica_nothing_waits(one: RedisServer) -> None:
    """No WAIT is sent."""
    one.cli("config", "resetstat")
    async with opened(one) as store:
        await make(store)
        assert await store.regenerate(ID, V1, V2, time.time() + 99, change())
        assert await store.delete(ID)
    assert b"cmdstat_wait" not in one.cli("info", "commandstats")


@in_loop
async def test_a_failover_by_sentinel_needs_no_restart(tmp_path: Any) -> None:
    """The master dies; when the replica is promoted, the same store goes on with it."""
    with sentinel(tmp_path) as (master, replica, watcher):
        sentinels = redis.Sentinel([("127.0.0.1", watcher.port)], socket_timeout=1)
        async with opened(sentinels.master_for("main")) as store:
            await make(store, a=b"1")
            assert await store.update(ID, V1, change(b=b"2"))
            until(lambda: replica.cli("hget", KEY, "ab") == b"2\n", "replication")
            master.kill()
            with pytest.raises(StoreError):
                await store.load(ID)
            until(lambda: b"role:master" in replica.cli("info", "replication"), "the promotion")
            await eventually(lambda: store.update(ID, V1, change(c=b"3")))
            assert await content(store) == {"a": b"1", "b": b"2", "c": b"3"}
        for client in sentinels.sentinels:
            await client.aclose()


async def eventually(verb: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Call until it no longer fails."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await verb()
        except StoreError:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


@in_loop
async def test_a_slot_that_moves_is_followed(three: list[RedisServer]) -> None:
    """Before, while and after its slot moves (TRYAGAIN, ASK, MOVED), a session is read, saved, made and ended."""
    slot = three[0].cli("cluster", "keyslot", KEY).strip().decode()
    names = [server.cli("cluster", "myid").strip().decode() for server in three]

    async def turn(store: RedisStore, number: bytes) -> None:
        for size in (10, 5000, 100_000):
            value = number * size
            assert await store.update(ID, V1, Change(time.time(), {"a": value}, ("gone",)))
            assert not await store.update(ID, V2, Change(time.time(), {"a": b"no" * size}))
            assert await content(store) == {"a": value}
            assert await store.touch(ID, V1, time.time())

    async with opened(three[0].cluster_url) as store:
        await make(store)
        source = next(n for n, server in enumerate(three) if KEY.encode() in server.cli("keys", "*"))
        target = (source + 1) % 3
        await turn(store, b"1")
        three[target].cli("cluster", "setslot", slot, "importing", names[source])
        three[source].cli("cluster", "setslot", slot, "migrating", names[target])
        await turn(store, b"2")
        assert await store.delete(ID)
        for size in (10, 5000, 100_000):  # a new session of a slot on the move is made where the slot goes
            assert await store.create(ID, V1, time.time(), 99.0, math.inf, {"a": bytes(size)}) is not None
            assert KEY.encode() in three[target].cli("keys", "*")
            assert await store.create(ID, V2, time.time(), 99.0, math.inf, {"a": bytes(size)}) is None
            await turn(store, b"3")
            assert await store.regenerate(ID, V1, V2, math.inf, change(a=bytes(size)))
            assert await store.delete(ID)
        await make(store)
        for server in (three[target], three[source], *three):
            server.cli("cluster", "setslot", slot, "node", names[target])
        await turn(store, b"4")
        assert await store.delete(ID)
        assert all(server.cli("dbsize") == b"0\n" for server in three)


@in_loop
async def test_a_node_of_a_cluster_dies_and_comes_back(tmp_path: Any) -> None:
    """Its sessions fail with an error and are there again after its restart."""
    with cluster(tmp_path) as servers:
        async with opened(servers[0].cluster_url) as store:
            ids = [n.to_bytes(16) for n in range(30)]
            await asyncio.gather(*(make(store, record_id, who=record_id) for record_id in ids))
            servers[1].kill()
            outcomes = await asyncio.gather(*map(store.load, ids), return_exceptions=True)
            failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert all(isinstance(outcome, StoreError) for outcome in failed)
            assert failed
            servers[1].start()
            for record_id in ids:
                assert await eventually(lambda record_id=record_id: content(store, record_id)) == {"who": record_id}


# --- what is not said, and what is ---


@in_loop
async def test_s1_monitor_shows_no_secret_and_no_value(one: RedisServer) -> None:
    """S1: all that the server is told of a browser's visit holds neither the token, nor its secret, nor a value."""
    command = ["redis-cli", "-p", str(one.port), "monitor"]
    monitor = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert monitor.stdout is not None
    assert monitor.stdout.readline() == b"OK\n"
    lines: list[bytes] = []
    listener = threading.Thread(target=lambda: lines.extend(monitor.stdout or ()))
    listener.start()
    store = RedisStore(one.url)
    browser = Browser(serve({}, store=store, secure=False))
    await browser.get("/set?name=a-value-of-the-user")
    await browser.get("/set?other=b-value-of-the-user")
    await store.close()
    (token,) = (cookie.value for cookie in browser.jar.values())
    secret = base64.urlsafe_b64decode(token)[18:34]
    until(lambda: b"HGETALL" in b"".join(lines).upper(), "the commands")
    monitor.kill()
    listener.join()
    monitor.stdout.close()
    monitor.wait()
    said = b"".join(lines)
    escaped = "".join(chr(c) if 32 <= c < 127 else f"\\x{c:02x}" for c in secret).encode()
    for told in (token.encode(), secret, secret.hex().encode(), escaped, base64.urlsafe_b64encode(secret)[:20]):
        assert told not in said
    assert b"-value-of-the-user" not in said


@pytest.mark.parametrize("url", ["http://localhost", "redis:localhost", "redis://", "redis://h:port", "", "rediss"])
def test_a_url_that_cannot_work(url: str) -> None:
    """One error, at construction."""
    with pytest.raises(ConfigError, match=r"^store: "):
        RedisStore(url)


def test_arguments_that_cannot_work() -> None:
    """Each is named; a password in the URL is not shown."""
    for prefix in ("", "a{b", "}", 5):
        with pytest.raises(ConfigError, match=r"^prefix: "):
            RedisStore("redis://localhost", prefix=prefix)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^clock: "):
        RedisStore("redis://localhost", clock=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^store: "):
        RedisStore(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        RedisStore("redis://:hunter2@localhost:port")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


async def fails(place: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        async with opened(place):
            pass


@in_loop
async def test_a_server_that_will_not_do_is_told_at_the_opening(
    own: RedisServer, three: list[RedisServer], tmp_path: Any
) -> None:
    """Unreachable, a wrong password, a forbidden command, a cluster without its client, and the other way round."""
    await fails(f"redis://127.0.0.1:{free_port()}", StoreError, "cannot be used: .*refused|Connect")
    await fails(f"redis+cluster://127.0.0.1:{free_port()}", StoreError, "cannot be used: ")
    await fails(f"unix://{tmp_path}/none", StoreError, "cannot be used: ")
    await fails(three[0].url, ConfigError, r"redis\+cluster://")
    await fails(own.cluster_url, StoreError, "(?i)cluster")
    own.cli("acl", "setuser", "frail", "on", ">right", "~*", "+@all", "-rename")
    await fails(f"redis://frail:right@127.0.0.1:{own.port}", StoreError, "permission|NOPERM|can't run")
    own.cli("acl", "setuser", "modest", "on", ">right", "~fs:*", "+@all", "-@dangerous", "-@admin")
    async with opened(f"redis://modest:right@127.0.0.1:{own.port}") as store:
        await make(store)
        assert await store.delete(ID)
    with pytest.raises(StoreError) as caught:
        await RedisStore(f"redis://frail:hunter2@127.0.0.1:{own.port}").open()
    assert "WRONGPASS" in str(caught.value) or "invalid username" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("version", [b"6.2.14", b""])
def test_a_server_that_is_too_old(version: bytes) -> None:
    """Before 7.0 one error says so; before 6.0 there is not even HELLO."""
    hello = b"*4\r\n$7\r\nversion\r\n$6\r\n%b\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n" % version

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"HELLO"):
                writer.write(hello if version else b"-ERR unknown command `HELLO`\r\n")
            elif line.startswith(b"CLIENT"):
                writer.write(b"+OK\r\n")
        writer.close()

    @in_loop
    async def scenario() -> None:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        await fails(f"redis://127.0.0.1:{port}?protocol=2", ConfigError, "must be Redis 7.0 or newer")
        listener.close()
        await listener.wait_closed()

    scenario()


@pytest.mark.parametrize("blocked", ["redis", "hiredis"])
def test_the_missing_extra_is_named(blocked: str) -> None:
    """Without redis-py or hiredis the import says what to install."""
    code = f"import sys; sys.modules[{blocked!r}] = None; import fastersession.stores.redis"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert 'ImportError: RedisStore needs redis-py and hiredis: pip install "fastersession[redis]"' in done.stderr


def test_errors_carry_no_value(one: RedisServer) -> None:
    """What the server says to a command is not shown, and nothing of the record is."""

    @in_loop
    async def scenario() -> None:
        async with opened(one) as store:
            await make(store)
            one.cli("hset", KEY, "t", "a-secret-value")
            with pytest.raises(StoreError) as caught:
                await store.load(ID)
            assert "a-secret-value" not in repr((caught.value, caught.value.__cause__))

    scenario()
