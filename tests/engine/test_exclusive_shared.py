"""`session.exclusive()` several times in one request: in two tasks at once, and again after an exit that failed."""

# ruff: noqa: PT012 - an exit fails at the end of a block of steps

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

from fastersession import ExclusiveTimeout, LeaseLost, StoreError
from fastersession.engine.exclusive import LEASE_SECONDS

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore], ids=["live", "bytes"])
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: Any) -> None:
    """Poll without a pause for what another process holds."""
    shorten(monkeypatch, FIRST_PAUSE=0, LONGEST_PAUSE=0, FLUSH_PAUSES=(0, 0, 0))


async def increment(call: Call, between: Any = None) -> None:
    async with call.session.exclusive() as session:
        count = session.get("n", 0)
        await spin(5)
        if between is not None:
            await between()
        session["n"] = count + 1


async def plus_one(call: Call) -> None:
    await increment(call)
    await call.reply()


@STORES
@pytest.mark.parametrize("processes", [1, 2])
@in_loop
async def test_the_turn_ends_with_the_last_task_of_the_request_that_is_in_it(make: Make, processes: int) -> None:
    """Two tool calls of one request are in its turn at once; whoever leaves first ends it for neither."""
    store = make()
    both_in, first_out = asyncio.Event(), asyncio.Event()

    async def tools(call: Call) -> None:
        async def short() -> None:
            async with call.session.exclusive():
                both_in.set()
            first_out.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(increment(call, first_out.wait))
            group.create_task(short())
        await call.reply()

    apps = [serve({"/tools": tools, "/plus": plus_one}, store=store) for _ in range(processes)]
    browser = Browser(apps[0])
    await browser.get("/set?a=1")
    other = tab(browser)
    other.app = apps[-1]
    asking = asyncio.ensure_future(browser.get("/tools"))
    await both_in.wait()
    await asyncio.gather(asking, *(tab(other).get("/plus") for _ in range(3)))
    assert await content(browser) == {"a": "1", "n": 4}


@STORES
@in_loop
async def test_tasks_that_wait_for_the_turn_together_get_it_together(make: Make) -> None:
    """However they are timed, two tasks of a request never wait for each other: each may need the other to go on."""
    turns = Turns(make())
    browser = await turns.browser()
    inside = asyncio.Barrier(2)

    async def tools(call: Call) -> None:
        async def one() -> None:
            async with call.session.exclusive():
                await inside.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(one())
            group.create_task(one())
        await call.reply()

    other = tab(browser)
    other.app = serve({"/tools": tools}, store=turns.store)
    async with browser.open("/hold?name=x") as held:
        await turns.entered.wait()
        asking = asyncio.ensure_future(other.get("/tools"))
        await spin()
        turns.leave.set()
        await held.ended()
        await asking
    assert await turns.is_free()


@STORES
@in_loop
async def test_a_task_that_cannot_wait_as_long_as_another_is_timed_out_alone(make: Make) -> None:
    """Each entry has a bound of its own, also while it waits for the same lease as another."""
    turns = Turns(make())
    browser = await turns.browser()
    outcomes: list[str] = []

    async def tools(call: Call) -> None:
        async def one(timeout: float) -> None:
            try:
                async with call.session.exclusive(timeout):
                    outcomes.append("in")
            except ExclusiveTimeout:
                outcomes.append("timeout")
                turns.leave.set()

        await asyncio.gather(one(30), one(0.01))
        await call.reply()

    other = turns.elsewhere(browser)
    other.app = serve({"/tools": tools}, store=turns.store)
    async with browser.open("/hold?name=x") as held:
        await turns.entered.wait()
        await other.get("/tools")
        await held.ended()
    assert outcomes == ["timeout", "in"]
    assert await turns.is_free()


@in_loop
async def test_who_enters_while_the_turn_is_given_back_waits_for_it_and_takes_another() -> None:
    """An entry never slips into a turn that is ending: what it writes is saved, under a lease."""
    turns = Turns(SuspendingStore())
    browser = await turns.browser()

    async def tools(call: Call) -> None:
        async def second() -> None:
            async with call.session.exclusive():
                call.session["second"] = 1

        async with call.session.exclusive():
            call.session["first"] = 1
            gate = turns.store.hold("update")
            entering = asyncio.ensure_future(release(gate, second()))
        await entering
        await call.reply()

    async def release(gate: Any, work: Any) -> None:
        await gate.reached.wait()
        entering = asyncio.ensure_future(work)
        await spin()
        assert not entering.done()
        gate.open.set()
        await entering

    browser.app = serve({"/tools": tools}, store=turns.store)
    await browser.get("/tools")
    assert (turns.store.count("lock"), turns.store.count("unlock")) == (2, 2)
    saves = [call for call in turns.store.arguments if call[0] == "update"]
    assert all(call[3].lease is not None for call in saves)
    assert await content(browser) == {"a": "1", "first": 1, "second": 1}


@STORES
@in_loop
async def test_a_task_cancelled_in_the_turn_leaves_it_to_the_others(make: Make) -> None:
    """One tool call is given up; the turn goes on for the other, and ends with it."""
    turns = Turns(make())
    browser = await turns.browser()

    async def tools(call: Call) -> None:
        async with call.session.exclusive():
            cancelled = asyncio.ensure_future(increment(call, asyncio.Event().wait))
            await spin()
            cancelled.cancel()
            await asyncio.wait((cancelled,))
            assert not await turns.is_free()
            call.session["kept"] = 1
        assert await turns.is_free()
        await call.reply()

    browser.app = serve({"/tools": tools}, store=turns.store)
    await browser.get("/tools")
    assert await content(browser) == {"a": "1", "kept": 1}


# --- again after an exit that failed ---


def failing(turns: Turns, what: str) -> None:
    """Let the next exit fail, with its retries."""
    turns.store.fail(what, times=4 if what == "update" else 1)


@pytest.mark.parametrize("what", ["update", "unlock"])
@pytest.mark.parametrize("waiting", ["nobody", "in this process", "in another process"])
@in_loop
async def test_a_turn_after_an_exit_that_failed_takes_its_lease_over(what: str, waiting: str) -> None:
    """What the first could not save is saved on entry, the rest at the exit, and nobody waits for a lease's end."""
    turns = Turns(SuspendingStore(clock=FakeClock()))  # time stands still: no lease ends
    browser = await turns.browser()
    waiters: list[Any] = []

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(StoreError):
            async with call.session.exclusive():
                call.session["first"] = 1
                if waiting != "nobody":
                    other = tab(browser) if waiting == "in this process" else turns.elsewhere(browser)
                    waiters.append(asyncio.ensure_future(other.get("/turn?name=waited")))
                    await spin()
                failing(turns, what)
        await spin()
        assert turns.order == []
        async with call.session.exclusive():
            assert (await content(tab(browser)))["first"] == 1
            call.session["second"] = 1
            await spin()
            assert turns.order == []
        assert (await content(tab(browser)))["second"] == 1
        await tab(browser).get("/turn?name=after")
        await call.finish()

    routes = {"/act": do, "/turn": turns.turn}
    browser.app = turns.apps[0] = serve(routes, store=turns.store)
    await browser.get("/act")
    await asyncio.gather(*waiters)
    assert turns.order == ["waited"] * len(waiters) + ["after"]
    assert turns.idle
    assert await turns.is_free()


@pytest.mark.parametrize("overtaken", [True, False])
@in_loop
async def test_a_lease_that_ended_before_it_was_taken_over_is_told_and_the_next_turn_is_clean(overtaken: bool) -> None:
    """LeaseLost on entry: what the failed exit held is dropped, for another may have had its turn; then all is well."""
    clock = FakeClock()
    turns = Turns(SuspendingStore(clock=clock))
    browser = await turns.browser()
    seen: list[Any] = []

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(StoreError):
            async with call.session.exclusive():
                call.session["history"] = ["stale"]
                failing(turns, "update")
        clock.advance(LEASE_SECONDS)
        if overtaken:
            await other.get("/turn?name=theirs")
        with pytest.raises(LeaseLost):
            async with call.session.exclusive():
                raise AssertionError("the changes of the first are lost")
        async with call.session.exclusive():
            seen.append(call.session.get("history"))
            call.session["mine"] = 1
        await call.finish()

    other = turns.elsewhere(browser)
    browser.app = turns.apps[0] = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    history = {"history": ["theirs"]} if overtaken else {}
    assert seen == [history.get("history")]
    assert await content(other) == {"a": "1", **history, "mine": 1}
    assert turns.idle
    assert await turns.is_free()


@in_loop
async def test_a_turn_again_while_the_store_is_still_away_fails_again_and_then_goes_well() -> None:
    """Each try is told of; as soon as the store is back all is saved, once, and the lease is free."""
    turns = Turns(SuspendingStore(clock=FakeClock()))
    browser = await turns.browser()

    async def do(call: Call) -> None:
        await call.start()
        for times in (4, 1, 1):  # at the exit, with its retries; then on each entry
            turns.store.fail("update", times=times)
            with pytest.raises(StoreError):
                async with call.session.exclusive():
                    assert times == 4
                    call.session["n"] = 1
        async with call.session.exclusive():
            call.session["n"] += 1
        await call.finish()

    browser.app = turns.apps[0] = serve({"/act": do}, store=turns.store)
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "n": 2}
    assert turns.idle
    assert await turns.is_free()
