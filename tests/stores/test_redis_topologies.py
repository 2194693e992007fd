"""RedisStore over several servers: replicas, Sentinel, and a Cluster whose slots move and whose nodes die."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest
from driver import in_loop
from over_redis import KEY, change, eventually, opened
from redis.asyncio import Sentinel
from servers_redis import RedisServer, cluster, replicated, sentinel, until
from store_subject import ID, V1, V2, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Record
from fastersession.stores.redis import RedisStore


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
        sentinels = Sentinel([("127.0.0.1", watcher.port)], socket_timeout=1)
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
            assert await store.create(ID, Record(V1, time.time(), 99.0, math.inf, {"a": bytes(size)})) is True
            assert KEY.encode() in three[target].cli("keys", "*")
            assert await store.create(ID, Record(V2, time.time(), 99.0, math.inf, {"a": bytes(size)})) is False
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
