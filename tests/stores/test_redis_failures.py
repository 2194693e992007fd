"""RedisStore when its server is killed, restarted, silent, full, or takes no more connections."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from driver import in_loop
from over_redis import BIG, KEY, change, opened
from redis.asyncio import Redis
from servers_redis import RedisServer
from store_subject import ID, OTHER_ID, OWNER, V1, V2, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Record
from fastersession.stores.redis import link as link_module


def test_what_a_test_may_kill_keeps_what_it_has_acknowledged(own: RedisServer, three: list[RedisServer]) -> None:
    """An answer follows the fsync: under load, too, a SIGKILL loses nothing that the store was told."""
    for server in (own, *three):
        assert b"aof_enabled:1" in server.cli("info", "persistence")
        assert server.cli("config", "get", "appendfsync").split() == [b"appendfsync", b"always"]


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
            store.create(OTHER_ID, Record(V1, 0.0, 1e12, 1e12, {"c": b"3"})),
            store.create(OTHER_ID, Record(V1, 0.0, 1e12, 1e12, {"c": BIG})),
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
async def test_no_connection_to_be_had(own: RedisServer) -> None:
    """maxclients: an error, and the next call after that works."""
    async with opened(own) as store:
        await make(store, a=b"1")
        other = Redis.from_url(own.url)
        await other.config_set("maxclients", 1)
        with pytest.raises(StoreError):
            await store.delete(ID)  # on a connection of its own
        assert await content(store) == {"a": b"1"}
        await other.config_set("maxclients", 100)
        await other.aclose()
        assert await store.delete(ID)
