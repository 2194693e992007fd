"""MemoryStore while many streams run at the old end of it, and while sessions are created during a purge."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, events, serve
from test_memory_store import add, find

from fastersession import MemoryStore
from fastersession.stores.base import Record

BOUND = 240
LOOKED_AT = 64  # records in use that one eviction passes over


@pytest.mark.parametrize("streams", [1, LOOKED_AT - 1, LOOKED_AT, LOOKED_AT + 1, 2 * LOOKED_AT + 1, 200])
@in_loop
async def test_streams_at_the_old_end_change_neither_rank_nor_bound(streams: int, caplog: Any) -> None:
    """L10: however many of the oldest are in use, the next of the first rank is evicted, and the bound holds again."""

    async def stream(call: Call) -> None:
        call.session["question"] = "q"
        await call.start()
        await call.chunk()
        await call.session.save()
        await going_on.wait()
        call.session["answer"] = "a"
        await call.finish()

    store, going_on = MemoryStore(max_sessions=BOUND), asyncio.Event()
    app = serve({"/stream": stream}, store=store)
    running = [Browser(app) for _ in range(streams)]
    returned, once = [Browser(app) for _ in range(10)], [Browser(app) for _ in range(BOUND - streams - 10)]
    async with AsyncExitStack() as stack:
        for browser in running:
            await (await stack.enter_async_context(browser.open("/stream"))).chunk()
        for browser in [*returned, *once]:
            await browser.get("/set?a=1")
        for browser in returned:
            await browser.get("/")
        assert len(store) == BOUND
        new = [Browser(app) for _ in range(10)]
        for browser in new:
            await browser.get("/set?new=1")
        assert len(store) == BOUND
        going_on.set()
    assert events(caplog, "store.full") == []
    assert [await content(browser) for browser in running] == [{"question": "q", "answer": "a"}] * streams
    assert [await content(browser) for browser in returned] == [{"a": "1"}] * 10
    assert [await content(browser) for browser in new] == [{"new": "1"}] * 10
    alive = [bool(await content(browser)) for browser in once]
    assert alive == [False] * 10 + [True] * (len(once) - 10)  # the oldest, and no more of them


@in_loop
async def test_with_streams_in_every_rank_the_least_of_the_unused_goes() -> None:
    """L10: after a rank that is all in use comes the next, and there too what is used stays."""
    store = MemoryStore(max_sessions=90, clock=FakeClock())
    ids = [number.to_bytes(16, "little") for number in range(100)]
    for record_id in ids[:90]:
        assert add(store, record_id) is not None
    for record_id in ids[30:90]:
        assert find(store, record_id) is not None
    for record_id in [*ids[:30], *ids[30:60]]:  # all of the first rank, and the old half of the second
        store._table._shards[record_id[0]][record_id].requests += 1
    for record_id in ids[90:]:
        add(store, record_id)
    kept = [record_id in store._table._shards[record_id[0]] for record_id in ids]
    assert kept == [True] * 60 + [False] + [True] * 29 + [False] * 9 + [True]
    assert len(store) == 90


@pytest.mark.parametrize("expired", [0, 1, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("waited", [1000, 11], ids=["buckets over", "in the last bucket"])
@in_loop
async def test_purge_counts_what_it_has_removed_while_sessions_are_created(expired: int, waited: float) -> None:
    """What is created during its pauses, and what that creation removes, does not falsify the number."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    for number in range(expired):
        await store.create(number.to_bytes(16, "little"), Record(b"v", clock(), 10, float("inf"), {}))
    clock.advance(waited)
    removed_by_others = 0
    purging = asyncio.ensure_future(store.purge())
    for number in range(10_000, 13_000):
        before = len(store)
        await store.create(number.to_bytes(16, "little"), Record(b"v", clock(), 10_000, float("inf"), {}))
        removed_by_others += before + 1 - len(store)
        if number % 100 == 0:
            await asyncio.sleep(0)
    assert await purging == expired - removed_by_others
    assert len(store) == 3000
