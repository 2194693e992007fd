"""The lease behind `session.exclusive()`: renewed while it is held, and lost when it has ended."""

# ruff: noqa: PT012 - a lost lease is noticed at the end of a block of steps

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, events, serve
from stores import SpyStore, SuspendingStore, shorten
from turns import Turns, spin

from fastersession import LeaseLost, MemoryStore
from fastersession.engine.exclusive import LEASE_SECONDS

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore], ids=["live", "bytes"])
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: Any) -> None:
    """Poll without a pause for what another process holds."""
    shorten(monkeypatch, FIRST_PAUSE=0, LONGEST_PAUSE=0, FLUSH_PAUSES=(0, 0, 0))


async def taken_over(turns: Turns, clock: FakeClock, browser: Browser, *, write: bool = True) -> Browser:
    """Let one process stand still in its turn until another has had its own; return the other's browser."""
    other = turns.elsewhere(browser)
    async with browser.open("/hold?name=stale") as held:
        await turns.entered.wait()
        clock.advance(LEASE_SECONDS)
        await other.get("/turn?name=other")
        if write:
            await other.get("/set?held=fresh")
        turns.leave.set()
        await held.ended()
    return other


@STORES
@in_loop
async def test_a_crash_holds_up_the_next_turn_for_the_lease_only(make: Make) -> None:
    """What a process that died held is free when its lease ends; until then nobody else is inside."""
    clock = FakeClock()
    turns = Turns(make(clock=clock))
    browser = await turns.browser()
    record_id, record = next(call[1:3] for call in turns.store.arguments if call[0] == "create")
    assert await turns.store.inner.lock(record_id, record.verifier, b"of the one dead.", LEASE_SECONDS)
    waiting = asyncio.ensure_future(browser.get("/turn?name=next"))
    clock.advance(LEASE_SECONDS - 0.1)
    await spin(200)
    assert not waiting.done()
    clock.advance(0.1)
    await waiting
    assert turns.order == ["next"]
    assert await turns.is_free()


@STORES
@in_loop
async def test_l5_who_stood_still_cannot_overwrite_the_next_turn(make: Make, caplog: Any) -> None:
    """L5: the save after the end of the lease is refused with LeaseLost, and no later save of the request brings it."""
    caplog.set_level(logging.INFO, "fastersession")
    clock = FakeClock()
    turns = Turns(make(clock=clock))
    browser = await turns.browser()
    other = await taken_over(turns, clock, browser)
    assert [type(error) for error in turns.errors] == [LeaseLost]
    assert await content(other) == {"a": "1", "history": ["other"], "held": "fresh"}
    assert len(events(caplog, "session.dropped")) == 1
    assert turns.idle
    assert await turns.is_free()


@STORES
@in_loop
async def test_l3_who_stood_still_is_told_so_under_the_verifier_before_too(make: Make, caplog: Any) -> None:
    """L3, L5: a regeneration meanwhile leaves the request its proof, and a lease that has ended is still LeaseLost."""
    caplog.set_level(logging.INFO, "fastersession")
    clock = FakeClock()
    turns = Turns(make(clock=clock))
    browser = await turns.browser()
    other = turns.elsewhere(browser)
    async with browser.open("/hold?name=stale") as held:
        await turns.entered.wait()
        await other.get("/login")
        clock.advance(LEASE_SECONDS)
        await other.get("/turn?name=other")
        turns.leave.set()
        await held.ended()
    assert [type(error) for error in turns.errors] == [LeaseLost]
    assert await content(other) == {"a": "1", "user": "me", "history": ["other"]}
    assert len(events(caplog, "session.dropped")) == 1


@STORES
@pytest.mark.parametrize("caught", [True, False], ids=["caught", "not caught"])
@in_loop
async def test_a_save_inside_a_lost_turn_raises_and_the_turn_can_be_taken_again(make: Make, caught: bool) -> None:
    """What the lost turn changed is forgotten, so that who takes another works on what the store has."""
    clock = FakeClock()
    seen: list[Any] = []

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(LeaseLost):
            async with call.session.exclusive():
                call.session["n"] = "stale"
                clock.advance(LEASE_SECONDS + 1)
                await other.get("/turn?name=other")
                if caught:
                    with pytest.raises(LeaseLost, match="lease"):
                        await call.session.save()
                else:
                    await call.session.save()
        async with call.session.exclusive():
            seen.append(dict(call.session))
            call.session["n"] = "again"
        await call.finish()

    turns = Turns(make(clock=clock))
    browser = await turns.browser()
    other = turns.elsewhere(browser)
    browser.app = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert seen == [{"a": "1", "history": ["other"]}]
    assert await content(browser) == {"a": "1", "history": ["other"], "n": "again"}


@pytest.mark.parametrize("make", [MemoryStore, SpyStore, SuspendingStore])
@in_loop
async def test_a_start_inside_a_lost_turn_saves_nothing(make: Make) -> None:
    """The start of an answer is a save as any other: another request is in its turn, and has not written yet."""
    clock = FakeClock()

    async def do(call: Call) -> None:
        with pytest.raises(LeaseLost):
            async with call.session.exclusive():
                call.session["n"] = "stale"
                clock.advance(LEASE_SECONDS + 1)
                held.append(await other.open("/hold?name=other").__aenter__())
                await turns.entered.wait()
                await call.start()
        await call.start()
        await call.finish()

    held: list[Any] = []
    turns = Turns(make(clock=clock))
    browser = await turns.browser()
    other = turns.elsewhere(browser)
    browser.app = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert await content(browser) == {"a": "1"}
    turns.leave.set()
    await held[0].ended()
    assert await content(browser) == {"a": "1", "held": "other"}


@STORES
@in_loop
async def test_a_lease_is_renewed_while_it_is_held(make: Make, monkeypatch: Any) -> None:
    """A turn may take longer than a lease: it is renewed at a third, by the same owner, and not once it is over."""
    shorten(monkeypatch, LEASE_SECONDS=0.003)
    turns = Turns(make(clock=FakeClock()))
    browser = await turns.browser()
    async with browser.open("/hold?name=x") as held:
        async with asyncio.timeout(10):
            while turns.store.count("lock") < 5:
                await asyncio.sleep(0)
        turns.leave.set()
        await held.ended()
        assert len({call[3] for call in turns.store.arguments if call[0] == "lock"}) == 1
        assert turns.store.calls.index("unlock") > 5
        assert turns.store.calls[turns.store.calls.index("unlock") :].count("lock") == 0
    assert await turns.is_free()


@pytest.mark.parametrize("late", [False, True], ids=["comes late", "arrives late"])
@in_loop
async def test_an_ended_lease_is_never_renewed(late: bool) -> None:
    """Free again does not mean that nobody was inside: a renewal after the end takes nothing."""
    clock = FakeClock()
    turns = Turns(SuspendingStore(clock=clock))
    browser = await turns.browser()
    other = turns.elsewhere(browser)

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(LeaseLost):
            async with call.session.exclusive():
                call.session["history"] = ["stale"]
                clock.advance(LEASE_SECONDS - 1)
                gate = turns.store.hold("lock") if late else None
                renewing = asyncio.ensure_future(call.session._state.rare.lease.renew(call.session._state))
                if gate is None:
                    await renewing
                    clock.advance(LEASE_SECONDS - 1)  # more than a lease, but renewed
                    await call.session.save()
                    call.session["history"] = ["stale again"]
                    clock.advance(1)
                else:
                    await gate.reached.wait()
                    clock.advance(1)
                await other.get("/turn?name=other")
                if gate is None:
                    await call.session._state.rare.lease.renew(call.session._state)
                else:
                    gate.open.set()
                    await renewing
        await call.finish()

    browser.app = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert (await content(browser))["history"] == ([] if late else ["stale"]) + ["other"]
    assert await turns.is_free()


@in_loop
async def test_a_renewal_that_fails_is_tried_again_and_harms_nothing() -> None:
    """A store that stumbles at a renewal costs no turn, and no error is left unseen."""
    turns = Turns(SuspendingStore(clock=FakeClock()))
    browser = await turns.browser()

    async def do(call: Call) -> None:
        async with call.session.exclusive():
            turns.store.fail("lock")
            await call.session._state.rare.lease.renew(call.session._state)
            await call.session._state.rare.lease.renew(call.session._state)
            call.session["a"] = 2
        await call.reply()

    browser.app = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert await content(browser) == {"a": 2}
    assert turns.store.calls.count("lock!") == 1


@in_loop
async def test_a_renewal_that_came_too_late_lets_no_save_through() -> None:
    """L5: the lease was another's and is ours again; the turn is lost all the same, and the lease is given back."""
    clock = FakeClock()
    turns = Turns(SuspendingStore(clock=clock))
    browser = await turns.browser()
    other, store = turns.elsewhere(browser), turns.store

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(LeaseLost):
            async with call.session.exclusive():
                call.session["history"] = ["stale"]
                clock.advance(LEASE_SECONDS - 1)
                asked, given_back = store.hold("lock"), store.hold("unlock")
                renewals.append(asyncio.ensure_future(call.session._state.rare.lease.renew(call.session._state)))
                await asked.reached.wait()
                clock.advance(1)
                pass_on(given_back, store.hold("unlock"))
                await other.get("/turn?name=other")
                asked.open.set()  # it acts: the lease is free, so it is ours
                while store.count("lock") < 3:
                    await asyncio.sleep(0)
        await call.finish()

    def pass_on(first: Any, second: Any) -> None:
        """Let the other's unlock through, and ours only when the exit has tried to save."""
        first.open.set()
        saves = store.count("update")

        async def open_later() -> None:
            await second.reached.wait()
            async with asyncio.timeout(10):
                while store.count("update") < saves + 2:
                    await asyncio.sleep(0)
            second.open.set()

        renewals.append(asyncio.ensure_future(open_later()))

    renewals: list[Any] = []
    browser.app = serve({"/act": do}, store=store)
    await browser.get("/act")
    await asyncio.gather(*renewals)
    assert (await content(browser))["history"] == ["other"]
    assert await turns.is_free()


@in_loop
async def test_the_timeout_bounds_the_wait_alone() -> None:
    """Who has the turn keeps it, however long the store then takes to load what the last one saved."""
    turns = Turns(SuspendingStore())
    browser = await turns.browser()

    async def do(call: Call) -> None:
        gate = turns.store.hold("load")
        asyncio.get_running_loop().call_later(0.6, gate.open.set)
        async with call.session.exclusive(timeout=0.5):
            assert gate.reached.is_set()
            call.session["a"] = 2
        await call.reply()

    browser.app = serve({"/act": do}, store=turns.store)
    assert (await browser.get("/act")).status == 200
    assert await content(browser) == {"a": 2}
