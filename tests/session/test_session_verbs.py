"""The session's metadata and verbs: what each does at once, what it refuses, and how it is used from sync code."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SpyStore, SuspendingStore

from fastersession import HeadersSent, MemoryStore, Session


async def visit(
    act: Callable[[Call], Any], *, path: str = "/act", browser: Browser | None = None, **options: Any
) -> Browser:
    """Run one sync act before the start of one request, in a live session unless a browser is given."""

    async def do(call: Call) -> None:
        act(call)
        await call.reply()

    if browser is None:
        browser = Browser(serve({"/act": do}, **options))
        await browser.get("/set?a=1")
    else:
        browser.app = serve({"/act": do}, **options)
    await browser.get(path)
    return browser


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_metadata(make: Any) -> None:
    """The metadata tell what the record knows, in aware UTC, in every request of the session."""
    clock, seen = FakeClock(), []

    async def look(call: Call) -> None:
        s = call.session
        seen.append((s.id, s.is_new, s.created_at, s.last_accessed_at, s.idle_timeout))
        s["a"] = 1
        await call.reply()

    browser = Browser(serve({"/look": look}, store=make(clock=clock), idle_timeout=3600))
    made = clock.datetime
    await browser.get("/look")
    clock.advance(600)
    await browser.get("/look")
    clock.advance(10)
    await browser.get("/look")
    ids = {row[0] for row in seen}
    assert len(ids) == 1
    assert re.fullmatch("[0-9a-f]{32}", ids.pop())
    hour, came = timedelta(hours=1), made + timedelta(seconds=600)
    assert [row[1:] for row in seen] == [
        (True, made, made, hour), (False, made, made, hour), (False, made, came, hour),
    ]  # fmt: skip
    assert made.tzinfo is not None


@in_loop
async def test_the_id_stays_when_the_secret_changes_and_is_fresh_after_a_logout() -> None:
    """regenerate_id() keeps the public id; invalidate() gives a new one, and an empty new session, at once."""
    seen: list[Any] = []

    def do(call: Call) -> None:
        session, before = call.session, call.session.id
        session.regenerate_id()
        seen.append(session.id == before)
        session.invalidate()
        seen.append((session.id != before, session.is_new, dict(session)))

    browser = await visit(do)
    assert seen == [True, (True, True, {})]
    assert not browser.jar


@in_loop
async def test_idle_timeout_is_settable_and_saved() -> None:
    """A per-session idle timeout is a change like any other: it is saved, shown, and ends the session."""
    clock, seen = FakeClock(), []

    def shorten(call: Call) -> None:
        call.session.idle_timeout = timedelta(minutes=5)
        seen.append(call.session.idle_timeout)

    browser = await visit(shorten, store=MemoryStore(clock=clock))
    clock.advance(299)
    assert await content(browser) == {"a": "1"}
    clock.advance(300)
    assert await content(browser) == {}
    assert seen == [timedelta(minutes=5)]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), timedelta(0), "60", None, True, 1e14])
@in_loop
async def test_an_impossible_idle_timeout_is_refused_at_the_assignment(value: Any) -> None:
    """What is no positive, finite duration raises ValueError where it is assigned, and changes nothing."""
    raised: list[bool] = []

    def do(call: Call) -> None:
        before = call.session.idle_timeout
        with pytest.raises(ValueError, match="idle_timeout"):
            call.session.idle_timeout = value
        raised.append(call.session.idle_timeout == before)

    await visit(do)
    assert raised == [True]


VERBS: dict[str, Callable[[Session], Any]] = {
    "establish": lambda s: s.establish(),
    "invalidate": lambda s: s.invalidate(),
    "regenerate_id": lambda s: s.regenerate_id(),
    "reload": lambda s: s.reload(),
    "save": lambda s: s.save(),
}


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_verbs_may_be_awaited_or_not(verb: str, awaited: bool, make: Any) -> None:
    """Each verb has its effect either way; left alone it gives no warning and the next save point carries it out."""

    async def do(call: Call) -> None:
        call.session["b"] = 2
        pending = VERBS[verb](call.session)
        if awaited:
            await pending
            await asyncio.wait_for(VERBS[verb](call.session), 5)
        del pending
        gc.collect()
        await call.reply()

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    before = browser.jar.copy()
    await browser.get("/act")
    assert len(store) == (0 if verb == "invalidate" else 1)
    assert (browser.jar == before) == (verb not in ("invalidate", "regenerate_id"))
    assert await content(browser) == ({} if verb == "invalidate" else {"a": "1", "b": 2})


@pytest.mark.parametrize("verb", ["establish", "regenerate_id"])
@in_loop
async def test_what_needs_a_cookie_is_refused_after_the_headers(verb: str) -> None:
    """establish() of a new session and regenerate_id() raise HeadersSent at the call, and name the verb."""

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(HeadersSent, match=rf"{verb}\(\)"):
            VERBS[verb](call.session)
        await call.finish()

    browser = Browser(serve({"/act": do}))
    await browser.get("/act")
    assert not browser.jar


@in_loop
async def test_establish_on_a_loaded_session_does_nothing() -> None:
    """A session that has a record has all that establish() could give, before the headers and after them."""

    async def do(call: Call) -> None:
        call.session.establish()
        await call.start()
        await call.session.establish()
        await call.finish()

    store = SpyStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    assert (await browser.get("/act")).cookies == []
    assert store.calls == ["create", "load"]


@in_loop
async def test_establish_issues_an_empty_session_that_the_stream_may_fill() -> None:
    """establish() gives an empty session a record and a cookie, so that the stream can write."""

    async def do(call: Call) -> None:
        call.session.establish()
        await call.start()
        call.session["answer"] = "late"
        await call.finish()

    browser = Browser(serve({"/act": do}))
    await browser.get("/act")
    assert await content(browser) == {"answer": "late"}
