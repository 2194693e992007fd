"""RedisStore: which keys it makes, what it writes to them, and when the server removes them."""

from __future__ import annotations

import asyncio
import math
import secrets
import time

import pytest
from clocks import FakeClock
from driver import in_loop
from over_redis import BIG, KEY, change, opened
from servers_redis import RedisServer, until
from store_subject import ID, OTHER_ID, OWNER, V1, V2, content, fields, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Record
from fastersession.stores.redis import RedisStore


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
            store.create(ID, Record(V2, clock(), 100.0, math.inf, large)),
        ):
            assert not await verb
            assert fields(await store.load(ID)) == before
        assert not await store.update(OTHER_ID, V1, Change(clock(), large))
        clock.advance(100)
        assert not await store.update(ID, V1, Change(clock(), large))
        assert (one.cli("keys", "*").split(), one.cli("dump", KEY)) == ([KEY.encode()], dump)
        assert await store.create(ID, Record(V2, clock(), 100.0, math.inf, large)) is True
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
    """Beside 1 MB, changing a counter is one small command, the script included; reading is one command too."""

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
