"""Ways out of `session.exclusive()`: cancelled, failed, logged out; the turn is given back in each."""

# ruff: noqa: PT012 - a lost lease is noticed at the end of a block of steps

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import SpyStore, SuspendingStore, shorten
from turns import Turns, spin

from fastersession import LeaseLost, StoreError
from fastersession.engine.exclusive import LEASE_SECONDS

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore], ids=["live", "bytes"])
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: Any) -> None:
    """Poll without a pause for what another process holds."""
    shorten(monkeypatch, FIRST_PAUSE=0, LONGEST_PAUSE=0, FLUSH_PAUSES=(0, 0, 0))


@STORES
@pytest.mark.parametrize("behind", ["nobody", "another", "another process"])
@in_loop
async def test_s9_cancelled_at_any_await_it_leaves_nothing_locked(make: Make, behind: str) -> None:
    """S9: wherever the request is cancelled, the lease is free and the queue is empty when it has ended."""
    ended, step = False, 0
    while not ended:
        turns = Turns(make())
        browser = await turns.browser()
        ahead = turns.elsewhere(browser) if behind == "another process" else tab(browser)
        first = asyncio.ensure_future(ahead.get("/turn?name=first" if behind != "nobody" else "/plain"))
        async with browser.open("/turn?name=x") as cancelled:
            await spin(step)
            ended = cancelled.over
            cancelled.task.cancel()
            await cancelled.ended()
        await first
        await spin()
        assert turns.idle, step
        assert await turns.is_free(), step
        await browser.get("/turn?name=after&timeout=5")
        step += 1
    assert step > 1


@pytest.mark.parametrize("verb", ["load", "lock", "update", "unlock"])
@pytest.mark.parametrize("fault", ["raise", "lose"])
@in_loop
async def test_a_store_that_fails_leaves_nothing_locked(verb: str, fault: str) -> None:
    """A failure on the way in or out is StoreError; the next turn waits for a lost lease's end at most."""
    clock = FakeClock()
    turns = Turns(SuspendingStore(clock=clock))
    browser = await turns.browser()

    async def do(call: Call) -> None:
        await call.start()
        call.session["a"] = 2
        turns.store.fail(verb, fault, times=4)
        with pytest.raises(StoreError):
            async with call.session.exclusive():
                pass
        turns.store._faults.clear()
        await call.finish()

    other = turns.elsewhere(browser)
    browser.app = turns.apps[0] = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert turns.idle
    if verb != "unlock":
        assert await turns.is_free()
    clock.advance(LEASE_SECONDS)
    await other.get("/turn?name=next")
    assert turns.order == ["next"]


@pytest.mark.parametrize("overtaken", [False, True])
@in_loop
async def test_what_the_exit_could_not_save_is_saved_at_the_end_unless_another_turn_came(overtaken: bool) -> None:
    """The end of the request tries again, under the same lease: it loses nothing, and overwrites nobody."""
    clock = FakeClock()
    turns = Turns(SuspendingStore(clock=clock))
    browser = await turns.browser()

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(StoreError):
            async with call.session.exclusive():
                call.session["a"] = "mine"
                turns.store.fail("update", times=4)
        assert not await turns.is_free()
        if overtaken:
            clock.advance(LEASE_SECONDS)
            await other.get("/turn?name=theirs")
        await call.chunk()

    other = turns.elsewhere(browser)
    browser.app = turns.apps[0] = serve({"/act": do}, store=turns.store)
    answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, LeaseLost if overtaken else type(None))
    kept = await content(other)
    assert (kept["a"], turns.order) == (("1", ["theirs"]) if overtaken else ("mine", []))
    assert turns.idle


@STORES
@pytest.mark.parametrize("answer", [True, False])
@in_loop
async def test_a_new_session_that_loses_its_lease_at_the_start_gets_its_cookie_or_no_record(
    answer: bool, make: Make
) -> None:
    """The answer that the application gives instead carries the cookie; if it gives none, the record is deleted."""
    store = make(clock=(clock := FakeClock()))

    async def do(call: Call) -> None:
        call.session["a"] = 1
        with pytest.raises(LeaseLost):
            async with call.session.exclusive():
                clock.advance(LEASE_SECONDS)
                call.session["b"] = 1
                with pytest.raises(LeaseLost):
                    await call.start()
        if answer:
            await call.reply("too late", 409)

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/act")
    assert await content(browser) == ({"a": 1} if answer else {})
    assert len(store) == answer


@STORES
@pytest.mark.parametrize("path", ["/logout", "/login"])
@in_loop
async def test_a_logout_elsewhere_ends_the_wait(make: Make, path: str) -> None:
    """Nobody waits for the turn of a session that is gone, or two secrets on: it enters, and its writes are dropped."""
    turns = Turns(make())
    browser = await turns.browser()
    other = turns.elsewhere(browser)
    async with browser.open("/hold?name=x") as held:
        await turns.entered.wait()
        waiting = asyncio.ensure_future(other.get("/turn?name=gone"))
        await spin()
        third = tab(browser)
        for _ in range(2):
            await third.get(path)
        assert (await waiting).cookies == []
        turns.leave.set()
        await held.ended()
    assert turns.order == ["gone"]
    assert turns.idle
    assert len(turns.store) == (path == "/login")


@STORES
@in_loop
async def test_an_error_inside_gives_the_turn_back(make: Make) -> None:
    """The application's own error passes, what was written before it is saved, and the next may enter."""
    turns = Turns(make())
    browser = await turns.browser()

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(ZeroDivisionError):
            async with call.session.exclusive():
                call.session["partial"] = 1
                raise ZeroDivisionError
        assert await turns.is_free()
        await call.finish()

    browser.app = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert (await content(browser))["partial"] == 1


@STORES
@in_loop
async def test_a_login_inside_keeps_the_turn(make: Make) -> None:
    """Regenerated inside its turn, the session's saves and renewals prove themselves with the new secret."""
    turns = Turns(make())
    browser = await turns.browser()

    async def login(call: Call) -> None:
        async with call.session.exclusive():
            call.session.regenerate_id()
            call.session["user"] = "me"
            await call.reply()
            await call.session._state.rare.lease.renew(call.session._state)
            call.session["b"] = 2
        assert await turns.is_free()

    browser.app = serve({"/in": login}, store=turns.store)
    await browser.get("/in")
    assert await content(browser) == {"a": "1", "user": "me", "b": 2}


@STORES
@in_loop
async def test_a_logout_inside_ends_the_turn(make: Make) -> None:
    """Invalidated inside its turn, what is written afterwards is a new session that no lease holds back."""
    turns = Turns(make())
    browser = await turns.browser()

    async def logout(call: Call) -> None:
        async with call.session.exclusive():
            call.session.invalidate()
            call.session["new"] = 1
            await call.session.save()
            call.session["new"] = 2
        await call.reply()

    browser.app = serve({"/out": logout}, store=turns.store)
    await browser.get("/out")
    assert await content(browser) == {"new": 2}
    assert turns.idle
