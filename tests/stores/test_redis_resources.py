"""RedisStore's keys and connections in real time: what lives as long as it must, and what is not kept too long."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from over_redis import KEY, change, opened
from redis.asyncio import ConnectionPool, Redis
from servers_redis import RedisServer, cluster, replicated, standalone, until
from store_subject import ID, OTHER_ID, V1, V2, content, make
from stores import shorten

from fastersession.stores.base import Change, Record
from fastersession.stores.redis import RedisStore

Verb = Callable[[RedisStore], Awaitable[Any]]
GRACE = 60

PROLONGING: dict[str, Verb] = {
    "touch": lambda store: store.touch(ID, V1, time.time()),
    "update": lambda store: store.update(ID, V1, change(a=b"1")),
    "large update": lambda store: store.update(ID, V1, change(a=bytes(5000))),
    "regenerate": lambda store: store.regenerate(ID, V1, V2, time.time() + 999, change()),
    "large regenerate": lambda store: store.regenerate(ID, V1, V2, time.time() + 999, change(a=bytes(5000))),
}


@pytest.mark.parametrize("verb", PROLONGING)
@in_loop
async def test_an_access_prolongs_the_key(verb: str, one: RedisServer) -> None:
    """By the server's own clock: a session that is used lives on, one that is only read and touched too."""
    async with opened(one) as store:
        began = time.time() - 100
        assert await store.create(ID, Record(V1, began, 200.0, began + 2000, {}))
        assert int(one.cli("pttl", KEY)) <= (100 + GRACE) * 1000
        assert await PROLONGING[verb](store)
        assert int(one.cli("pttl", KEY)) > (150 + GRACE) * 1000


def connections(server: RedisServer) -> set[bytes]:
    """The ids of the server's clients, but for this look at them."""
    lines = server.cli("client", "list").splitlines()
    return {line.split()[0] for line in lines if line and b"cmd=client" not in line}


@in_loop
async def test_a_caller_that_left_costs_nobody_the_connection(one: RedisServer) -> None:
    """S9: a reply that nobody waits for is dropped, and the same connection serves the next caller."""
    async with opened(one) as store:
        await make(store, a=b"1")
        before = connections(one)
        for turns in range(12):
            asked = [asyncio.ensure_future(store.load(ID)) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            asked[0].cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            assert await content(store) == {"a": b"1"}
        assert connections(one) == before


@in_loop
async def test_a_caller_that_left_keeps_no_other_waiting_when_the_connection_ends(one: RedisServer) -> None:
    """The end of a connection reaches everybody who waits at it, behind one who has left, too."""
    async with opened(one) as store:
        await make(store)
        one.cli("client", "pause", "20000", "write")
        left, waits = (asyncio.ensure_future(store.touch(ID, V1, time.time())) for _ in range(2))
        while b"blocked_clients:0" in one.cli("info", "clients"):
            await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        one.cli("client", "kill", "type", "normal")
        one.cli("client", "unpause")
        async with asyncio.timeout(10):
            assert await waits is True


@in_loop
async def test_closing_closes_every_connection(one: RedisServer) -> None:
    """Small, large and sure commands have one each; after close() the server has none of them."""
    before = connections(one)
    async with opened(one) as store:
        await make(store)
        await store.update(ID, V1, change(a=bytes(100_000)))
        await store.delete(ID)
        assert len(connections(one)) >= len(before) + 3
    until(lambda: connections(one) == before, "the end of the connections")


class Moving(ConnectionPool):
    """Makes connections to whatever server is the master at that moment, as a Sentinel's pool does."""

    master: RedisServer

    def make_connection(self) -> Any:
        self.connection_kwargs.update(host="127.0.0.1", port=self.master.port)
        return super().make_connection()


@pytest.mark.parametrize("size", [1, 5000, 100_000])
@in_loop
async def test_the_connection_to_a_demoted_master_is_left(size: int, tmp_path: Path) -> None:
    """A master that is told to be a replica refuses writes and stays connected: the next try goes to the new one."""
    with standalone(tmp_path) as old, standalone(tmp_path) as new:
        pool = Moving()
        pool.master = old
        client = Redis(connection_pool=pool)
        async with opened(client) as store:
            await make(store)
            new.cli("replicaof", "127.0.0.1", str(old.port))
            until(lambda: b"master_link_status:up" in new.cli("info", "replication"), "the replica")
            new.cli("replicaof", "no", "one")
            old.cli("replicaof", "127.0.0.1", str(new.port))
            pool.master = new
            assert await store.update(ID, V1, change(a=bytes(size)))
            assert await store.delete(ID)
        await client.aclose()


@contextlib.contextmanager
def monitored(server: RedisServer, folder: Path) -> Iterator[Callable[[], list[str]]]:
    """What the server is told while the block runs, a line each: time, database and client, words."""
    log = folder / "monitor"
    with log.open("wb") as out:
        command = ["redis-cli", "-p", str(server.port), "monitor"]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        until(lambda: b"OK" in log.read_bytes(), "the monitor")
        yield lambda: log.read_text(errors="replace").splitlines()
    finally:
        process.kill()
        process.wait()


REPLICATED: dict[str, Verb] = {
    "small regenerate": lambda store: store.regenerate(ID, V1, V2, time.time() + 99, change(a=b"1")),
    "large regenerate": lambda store: store.regenerate(ID, V1, V2, time.time() + 99, change(a=bytes(5000))),
    "huge regenerate": lambda store: store.regenerate(ID, V1, V2, time.time() + 99, change(a=bytes(100_000))),
    "delete": lambda store: store.delete(ID),
}


@pytest.mark.parametrize("verb", REPLICATED)
@in_loop
async def test_what_waits_for_a_replica_waits_on_its_own_connection(verb: str, tmp_path: Path) -> None:
    """WAIT speaks of the writes of its own connection only: on another one it would wait for nothing."""
    with replicated(tmp_path) as (master, _):
        async with opened(master) as store:
            await make(store)
            with monitored(master, tmp_path) as lines:
                assert await REPLICATED[verb](store)
                until(lambda: any('"WAIT"' in line for line in lines()), "the WAIT")
                told = [line for line in lines() if '"EVAL"' in line and "127.0.0.1" in line]
                waited = [line for line in lines() if '"WAIT"' in line]
    assert {line.split()[2] for line in told} == {line.split()[2] for line in waited} != set()


@pytest.mark.parametrize("count", [1_999, 2_000, 2_001, 4_000, 5_000])
@in_loop
async def test_a_script_takes_any_number_of_attributes(
    count: int, one: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lua passes some thousand values on at once: each attribute arrives under its own name, and none is missing."""
    shorten(monkeypatch, SMALL=10**9)
    first, second = ({f"n{n}": b"%s%d" % (word, n) for n in range(count)} for word in (b"a", b"b"))
    async with opened(one) as store:
        await make(store, OTHER_ID, **first)
        assert await content(store, OTHER_ID) == first
        await make(store)
        assert await store.update(ID, V1, Change(time.time(), second))
        assert await content(store) == second


@in_loop
async def test_the_slots_of_a_lost_node_are_looked_up_again(tmp_path: Path) -> None:
    """A node that gave its slot away and ended tells nobody: the others do."""
    with cluster(tmp_path, "--cluster-require-full-coverage", "no") as servers:
        slot = servers[0].cli("cluster", "keyslot", KEY).strip().decode()
        async with opened(servers[0].cluster_url) as early:
            await make(early)
            assert await early.delete(ID)
            (owner,) = [s for s in servers if b"eval:calls" in s.cli("info", "commandstats") and owns(s, int(slot))]
            target = next(server for server in servers if server is not owner)
            name = target.cli("cluster", "myid").strip().decode()
            for server in servers:
                server.cli("cluster", "setslot", slot, "node", name)
            async with opened(target.cluster_url) as late:
                await make(late, a=b"1")
            owner.kill()
            assert await content(early) == {"a": b"1"}


def owns(server: RedisServer, slot: int) -> bool:
    """Return whether the node says that it serves the slot."""
    (mine,) = [line for line in server.cli("cluster", "nodes").decode().splitlines() if "myself" in line]
    ranges = [word.partition("-") for word in mine.split()[8:] if word[0].isdigit()]
    return any(int(first) <= slot <= int(last or first) for first, _, last in ranges)
