"""Times that a request sees and that a session ends by: counted from the right moment, and never moved back."""

from __future__ import annotations

from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, record_id, secret_of, serve, tab
from stores import SuspendingStore

from fastersession import MemoryStore
from fastersession.stores.base import Change
from fastersession.testing import FakeClock

MINUTE, HOUR = 60, 3600
STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])


@STORES
@in_loop
async def test_the_minute_of_grace_begins_with_the_regeneration(make: Any) -> None:
    """The old cookie is superseded for a minute from regenerate_id(), however old the session is by then."""
    clock = FakeClock()
    browser = Browser(serve(store=make(clock=clock)))
    await browser.get("/set?a=1")
    clock.advance(HOUR)
    old = tab(browser)
    await browser.get("/login")
    clock.advance(MINUTE - 1)
    assert (await old.get("/set?b=2")).cookies == []
    assert await content(old) == {}
    clock.advance(2)
    assert len((await old.get("/set?b=2")).cookies) == 1
    assert await content(browser) == {"a": "1", "user": "me"}


@STORES
@pytest.mark.parametrize("explicit", [True, False])
@in_loop
async def test_a_save_under_a_clock_set_back_leaves_the_last_access(explicit: bool, make: Any) -> None:
    """L6: last_accessed_at never moves back, in the request that saves nor in the store."""
    clock, seen = FakeClock(), []

    async def do(call: Call) -> None:
        clock.advance(-HOUR)
        call.session["b"] = 2
        await (call.session.save() if explicit else call.start())
        seen.append(call.session.last_accessed_at)
        clock.advance(HOUR)
        await (call.reply() if explicit else call.finish())

    async def look(call: Call) -> None:
        seen.append(call.session.last_accessed_at)
        await call.reply()

    browser = Browser(serve({"/act": do, "/look": look}, store=make(clock=clock)))
    await browser.get("/set?a=1")
    await browser.get("/act")
    await browser.get("/look")
    assert seen == [clock.datetime, clock.datetime]


@in_loop
async def test_a_touch_under_a_clock_set_back_leaves_the_last_access() -> None:
    """A long request that is kept alive meanwhile sees no earlier access than it was loaded with."""
    clock, seen = FakeClock(), []
    store = SuspendingStore(clock=clock)

    async def do(call: Call) -> None:
        clock.advance(-HOUR)
        for _ in range(2):  # the second begins when the first is over
            gate = store.hold("touch")
            gate.open.set()
            await gate.reached.wait()
        seen.append(call.session.last_accessed_at)
        clock.advance(HOUR)
        await call.reply()

    browser = Browser(serve({"/act": do}, store=store, idle_timeout=0.1))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert seen == [clock.datetime]


@pytest.mark.parametrize("verb", ["update", "regenerate"])
@in_loop
async def test_a_shortened_idle_timeout_is_swept_in_time(verb: str) -> None:
    """A memory store gives the room of a session back when its new, earlier deadline has passed."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    browser = Browser(serve(store=store, idle_timeout=12 * HOUR))
    await browser.get("/set?a=1")
    change = Change(clock(), {}, (), idle_timeout=MINUTE)
    proof = record_id(browser), secret_of(browser)
    if verb == "update":
        assert await store.update(*proof, change)
    else:
        assert await store.regenerate(*proof, bytes(16), clock() + 24 * HOUR, change)
    clock.advance(2 * MINUTE)
    assert await store.purge() == 1
    assert len(store) == 0


@in_loop
async def test_a_shortened_idle_timeout_is_swept_by_the_traffic_of_others() -> None:
    """The same without purge(): each operation removes a little of what is due."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)

    async def shorten(call: Call) -> None:
        call.session.idle_timeout = MINUTE
        await call.reply()

    browser, other = (Browser(serve({"/act": shorten}, store=store, idle_timeout=12 * HOUR)) for _ in range(2))
    await browser.get("/set?a=1")
    await browser.get("/act")
    clock.advance(2 * MINUTE)
    await other.get("/set?a=1")
    assert len(store) == 1
