"""Verbs of the session in an order of their own: each is carried out once, and what it asked for stays until then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import SpyStore, SuspendingStore

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore])
MINUTE = timedelta(minutes=1)


@STORES
@pytest.mark.parametrize("before", [True, False], ids=["before the start", "in the stream"])
@in_loop
async def test_an_awaited_reload_is_carried_out_once(before: bool, make: Any) -> None:
    """No later save point loads again: the content changes when the application asks for it, and at no other moment."""
    store, seen = make(), []

    async def do(call: Call) -> None:
        if not before:
            await call.start()
        loads = store.count("load")
        await call.session.reload()
        assert store.count("load") == loads + 1
        seen.append(dict(call.session))
        await other.get("/set?a=new")
        loads = store.count("load")
        if before:
            await call.start()
        seen.append(dict(call.session))
        await call.finish()
        seen.append((dict(call.session), store.count("load") - loads))

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=old")
    other = tab(browser)
    await browser.get("/act")
    assert seen == [{"a": "old"}, {"a": "old"}, ({"a": "old"}, 0)]
    assert await content(browser) == {"a": "new"}


@STORES
@in_loop
async def test_a_reload_that_nobody_awaits_is_carried_out_by_the_next_save_point_and_once(make: Any) -> None:
    """Sync code's reload() loads at the start, and neither the final message nor the end loads again."""
    store, counts = make(), []

    async def do(call: Call) -> None:
        call.session.reload()
        for step in (call.start, call.finish):
            loads = store.count("load")
            await step()
            counts.append(store.count("load") - loads)

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert counts == [1, 0]
    assert store.count("load") == 2  # with the one that opened the session


@STORES
@pytest.mark.parametrize("saves", [1, 2])
@in_loop
async def test_an_idle_timeout_set_before_the_first_attribute_survives_a_save(saves: int, make: Any) -> None:
    """save() with nothing to save keeps the idle timeout for the record that the first attribute will create."""
    seen: list[timedelta] = []

    async def do(call: Call) -> None:
        if not call.session:
            call.session.idle_timeout = MINUTE
            for _ in range(saves):
                await call.session.save()
            seen.append(call.session.idle_timeout)
            call.session["a"] = 1
        await call.reply()
        seen.append(call.session.idle_timeout)

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/act")
    await browser.get("/act")
    assert seen == [MINUTE] * 3
    assert len(store) == 1


@STORES
@in_loop
async def test_the_last_idle_timeout_set_before_the_first_attribute_counts(make: Any) -> None:
    """An older wish that had to wait does not win over a newer one."""
    seen: list[timedelta] = []

    async def do(call: Call) -> None:
        if not call.session:
            call.session.idle_timeout = MINUTE
            await call.session.save()
            call.session.idle_timeout = 2 * MINUTE
            call.session["a"] = 1
        await call.reply()
        seen.append(call.session.idle_timeout)

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/act")
    await browser.get("/act")
    assert seen == [2 * MINUTE] * 2


@STORES
@in_loop
async def test_invalidate_on_a_superseded_session_draws_a_fresh_id(make: Any) -> None:
    """The id of the session that another tab took over is no more this one's, and that session stays as it is."""
    ids: list[tuple[str, str]] = []

    async def do(call: Call) -> None:
        old = call.session.id
        call.session.invalidate()
        assert call.session.is_new
        ids.append((old, call.session.id))
        await call.reply()
        assert call.session.id == ids[0][1]

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    late = tab(browser)
    await browser.get("/login")
    answer = await late.get("/act")
    ((old, new),) = ids
    assert old != new
    assert answer.cookies == []
    assert await content(browser) == {"a": "1", "user": "me"}
    assert len(store) == 1
