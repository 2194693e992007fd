"""The life of a session, guarantee by guarantee (L1 to L4), on a live store and on a suspending one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, events, record_id, serve, tab
from stores import SpyStore, SuspendingStore

from fastersession import MemoryStore
from fastersession.stores.base import Change

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore])
HOUR = 3600


@STORES
@in_loop
async def test_l1_an_id_that_is_not_in_the_store_is_never_adopted(make: Any) -> None:
    """L1: a validly signed cookie without a record is nobody's; what is written then is a session under a new id."""
    store = make()
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    fixed = record_id(browser)
    await store.delete(fixed)
    assert (await browser.get("/")).cookies == []
    await browser.get("/set?b=2")
    assert record_id(browser) != fixed
    assert await content(browser) == {"b": "2"}
    assert len(store) == 1


@STORES
@in_loop
async def test_l2_the_old_token_is_dead_when_the_new_cookie_leaves(make: Any) -> None:
    """L2: a hundred parallel requests with the old token, the thief's among them, see nothing after the login."""
    store = make()
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    thieves = [tab(browser) for _ in range(100)]
    await browser.get("/login")
    assert all(seen == {} for seen in await asyncio.gather(*map(content, thieves)))
    assert await content(browser) == {"a": "1", "user": "me"}
    assert len(store) == 1


@STORES
@in_loop
async def test_l2_of_two_racing_regenerations_one_wins(make: Any, caplog: Any) -> None:
    """L2, L3: many requests regenerate at once; one of them sends a cookie, and the changes of all are kept."""
    caplog.set_level("INFO", "fastersession")
    meeting = asyncio.Barrier(10)

    async def race(call: Call) -> None:
        await meeting.wait()
        call.session.regenerate_id()
        call.session[call.query["me"]] = "was here"
        await call.reply()

    browser = Browser(serve({"/race": race}, store=make()))
    await browser.get("/set?a=1")
    racers = [tab(browser) for _ in range(10)]
    answers = await asyncio.gather(*(racer.get(f"/race?me={n}") for n, racer in enumerate(racers)))
    winners = [n for n, answer in enumerate(answers) if answer.cookies]
    assert len(winners) == 1
    assert await content(racers[winners[0]]) == {"a": "1", **{str(n): "was here" for n in range(10)}}
    assert len(events(caplog, "session.not_regenerated")) == 9


@STORES
@in_loop
async def test_l3_requests_that_had_loaded_before_finish_and_get_no_cookie(make: Any, caplog: Any) -> None:
    """L3: twenty requests around a regeneration: exactly one new cookie; only what the old token loads is dropped."""
    caplog.set_level("DEBUG", "fastersession")
    logged_in, begun = asyncio.Event(), asyncio.Barrier(21)

    async def slow(call: Call) -> None:
        await begun.wait()
        await logged_in.wait()
        call.session[f"early {call.query['me']}"] = 1
        await call.start()
        call.session[f"late {call.query['me']}"] = 1
        await call.finish()

    clock = FakeClock()
    browser = Browser(serve({"/slow": slow}, store=make(clock=clock)))
    await browser.get("/set?a=1")
    others = [tab(browser) for _ in range(20)]
    old = tab(browser)
    running = [asyncio.ensure_future(other.get(f"/slow?me={n}")) for n, other in enumerate(others)]
    await begun.wait()
    login = await browser.get("/login")
    logged_in.set()
    answers = [login, *await asyncio.gather(*running)]
    clock.advance(59)
    answers += [await old.get("/set?b=2"), await old.get("/"), await old.get("/logout")]
    assert sum(len(answer.cookies) for answer in answers) == 1
    kept = {f"{when} {n}": 1 for when in ("early", "late") for n in range(20)}
    assert await content(browser) == {"a": "1", "user": "me", **kept}
    (dropped,) = events(caplog, "session.dropped")
    assert "attributes: 'b'" in dropped.getMessage()


@in_loop
async def test_k3b_an_update_with_another_secret_is_refused() -> None:
    """K3b, L3: the verifier that a request was loaded with proves each of its saves."""
    store = MemoryStore()
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    assert not await store.update(record_id(browser), b"another secret..", Change(store.clock(), {"a": 2}))
    assert not await store.touch(record_id(browser), b"another secret..", store.clock())
    assert await content(browser) == {"a": "1"}
