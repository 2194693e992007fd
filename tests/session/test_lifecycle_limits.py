"""The limits of a session (L6, L7, L9): its ends, its touches, and what anybody may create."""

from __future__ import annotations

import json
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, record_id, serve, tab
from stores import SpyStore, SuspendingStore

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore])
HOUR = 3600


@STORES
@in_loop
async def test_l6_idle_and_absolute_ends_are_kept_on_the_server(make: Any) -> None:
    """L6: idle ends it after the idle timeout, activity and regenerate_id() do not move the absolute end."""
    clock = FakeClock()
    store = make(clock=clock)
    browser, idle = (Browser(serve(store=store, idle_timeout=HOUR, lifetime=3 * HOUR)) for _ in range(2))
    await idle.get("/set?a=1")
    await browser.get("/set?a=1")
    clock.advance(HOUR - 1)
    assert await content(idle) == {"a": "1"}
    clock.advance(HOUR)
    assert await content(idle) == {}
    await Browser(browser.app).get("/plain")
    assert await content(browser) == {}
    await browser.get("/set?a=2")
    for _ in range(5):
        clock.advance(HOUR / 2)
        assert (await content(browser))["a"] == "2"
        await browser.get("/login")
    clock.advance(HOUR / 2)
    assert await content(browser) == {}


@STORES
@in_loop
async def test_l6_max_age_ends_a_session_on_the_server_too(make: Any) -> None:
    """L6: a cookie's Max-Age counts from its issue, on the server as well; a regenerated cookie is issued anew."""
    clock = FakeClock()
    browser = Browser(serve(store=make(clock=clock), max_age=HOUR))
    await browser.get("/set?a=1")
    clock.advance(HOUR - 1)
    await browser.get("/login")
    clock.advance(HOUR - 1)
    assert (await content(browser))["user"] == "me"
    clock.advance(1)
    assert await content(browser) == {}


@STORES
@in_loop
async def test_l7_touches_are_throttled_and_carry_no_data(make: Any) -> None:
    """L7: a thousand requests within a second touch at most once; a touch moves the time and nothing else."""
    clock = FakeClock()
    store = make(clock=clock)
    browser = Browser(serve(store=store, idle_timeout=HOUR))
    await browser.get("/set?a=1")
    clock.advance(HOUR / 10)
    for _ in range(1_000):
        clock.advance(0.001)
        await browser.get("/plain")
    assert (store.count("touch"), store.count("update")) == (1, 0)


@STORES
@in_loop
async def test_l7_a_long_stream_keeps_its_own_session(make: Any) -> None:
    """L7: a stream that lasts longer than the idle timeout finds its session alive when it writes the answer."""
    clock = FakeClock()

    async def slow(call: Call) -> None:
        await call.start()
        for _ in range(10):
            clock.advance(HOUR / 2)
            await call.chunk()
            if make is SuspendingStore:
                await call.session.save()  # a save point; its keeper runs on the loop's clock, not on ours
        call.session["answer"] = "late"
        await call.finish()

    browser = Browser(serve({"/slow": slow}, store=make(clock=clock), idle_timeout=HOUR))
    await browser.get("/set?a=1")
    await browser.get("/slow")
    assert await content(browser) == {"a": "1", "answer": "late"}


@STORES
@in_loop
async def test_l9_anonymous_traffic_creates_nothing(make: Any) -> None:
    """L9: reading, logging out or clearing, with no cookie, junk, or one without a record: no record, no cookie."""
    store = make()

    async def clear(call: Call) -> None:
        call.session.clear()
        call.session.pop("a", None)
        call.session.idle_timeout = 60
        call.session.regenerate_id()
        await call.session.save()
        await call.reply(json.dumps(call.session.id))

    app = serve({"/clear": clear}, store=store)
    unknown = Browser(app)
    await unknown.get("/set?a=1")
    await store.delete(record_id(unknown))
    nobody, junk = Browser(app), tab(unknown)
    name, cookie = next(iter(junk.jar.items()))
    junk.jar[name] = type(cookie)(name, cookie.value[:-1] + "!", cookie.attributes)
    creates = store.count("create")
    for _ in range(100):
        for browser in (nobody, unknown, junk):
            for path in ("/", "/plain", "/logout", "/clear"):
                assert (await browser.get(path)).cookies == []
    assert (store.count("create") - creates, len(store)) == (0, 0)
