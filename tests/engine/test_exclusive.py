"""`session.exclusive()`: one turn at a time, in one process and between two."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import SpyStore, SuspendingStore, shorten
from turns import Turns

from fastersession import ExclusiveTimeout
from fastersession.engine.line import Queue

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore], ids=["live", "bytes"])
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: Any) -> None:
    """Poll without a pause for what another process holds."""
    shorten(monkeypatch, FIRST_PAUSE=0, LONGEST_PAUSE=0)


@STORES
@pytest.mark.parametrize("path", ["turn", "late"])
@in_loop
async def test_l8_twenty_turns_in_one_process_are_served_in_their_order(make: Make, path: str) -> None:
    """L8: each turn sees what the one before has written, none is lost, first come first served."""
    turns = Turns(make())
    browser = await turns.browser()
    names = [f"{number}" for number in range(20)]
    await asyncio.gather(*(tab(browser).get(f"/{path}?name={name}") for name in names))
    assert turns.most_inside == 1
    assert turns.order == names
    assert (await content(browser))["history"] == names
    assert turns.idle


@STORES
@in_loop
async def test_l8_two_processes_take_turns_over_one_store(make: Make) -> None:
    """L8: two middlewares over one store are never inside at once, and nothing that they wrote is lost."""
    turns = Turns(make())
    browser = await turns.browser()
    other, names = turns.elsewhere(browser), [f"{number}" for number in range(20)]
    each = zip((browser, other) * 10, names, strict=True)
    await asyncio.gather(*(tab(one).get(f"/turn?name={name}") for one, name in each))
    assert turns.most_inside == 1
    assert sorted((await content(other))["history"]) == sorted(names)
    assert (await content(browser))["history"] == turns.order
    assert turns.idle


@STORES
@in_loop
async def test_sessions_do_not_wait_for_each_other(make: Make) -> None:
    """A turn of one session holds up no other session."""
    turns = Turns(make())
    one, two = await turns.browser(), await turns.browser()
    async with one.open("/hold?name=one") as held:
        await turns.entered.wait()
        await two.get("/turn?name=two")
        turns.leave.set()
        await held.ended()
    assert turns.order == ["two"]


@STORES
@in_loop
async def test_l11_nothing_else_waits_for_a_turn(make: Make) -> None:
    """L11: while one request is in its turn, others of the session read, save, reload and log in."""
    turns = Turns(make())
    browser = await turns.browser()
    other = turns.elsewhere(browser)
    async with browser.open("/hold?name=x") as held:
        await turns.entered.wait()
        assert await content(browser) == {"a": "1"}
        await tab(browser).get("/set?b=2")
        await other.get("/stream?c=3")
        turns.leave.set()
        assert (await held.ended()).error is None
    assert await content(browser) == {"a": "1", "b": "2", "c": "3", "held": "x"}


@STORES
@in_loop
async def test_pending_changes_are_saved_and_attributes_reloaded_on_entry(make: Make) -> None:
    """Who enters sees what others saved since the request began, and its own changes; others see these."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        await tab(browser).get("/set?theirs=1")
        call.session["mine"] = 1
        async with call.session.exclusive():
            seen.append(dict(call.session))
            seen.append(await content(tab(browser)))
            call.session["inside"] = 1
        seen.append(await content(tab(browser)))
        await call.reply()

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=1")
    await browser.get("/act")
    entered = {"a": "1", "theirs": "1", "mine": 1}
    assert seen == [entered, entered, {**entered, "inside": 1}]


@STORES
@in_loop
async def test_a_new_session_has_its_turns_too(make: Make) -> None:
    """A new session is created on entry, and its cookie goes with the start; an empty one just enters."""
    store = make()
    seen: list[Any] = []

    async def do(call: Call) -> None:
        call.session.update(call.query)
        async with call.session.exclusive() as session:
            seen.append((store.count("create"), store.count("lock")))
            session["inside"] = 1
        await call.reply()

    for target, counts in (("/act", (0, 0)), ("/act?a=1", (2, 1))):
        browser = Browser(serve({"/act": do}, store=store))
        await browser.get(target)
        assert seen.pop() == counts
        assert (await content(browser))["inside"] == 1
    assert store.count("unlock") == 1


@STORES
@in_loop
async def test_a_turn_within_a_turn_of_the_same_request_is_the_same_turn(make: Make) -> None:
    """A function that takes a turn may be called by one that has it; only the outer end gives it back."""
    store = make()

    async def do(call: Call) -> None:
        async with call.session.exclusive():
            async with call.session.exclusive(0.001):
                call.session["a"] = 2
            assert store.count("unlock") == 0
            call.session["b"] = 3
        assert store.count("unlock") == 1
        async with call.session.exclusive():
            call.session["c"] = 4
        await call.reply()

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert (store.count("lock"), store.count("unlock")) == (2, 2)
    assert await content(browser) == {"a": 2, "b": 3, "c": 4}


@STORES
@pytest.mark.parametrize("elsewhere", [True, False], ids=["in another process", "in this process"])
@in_loop
async def test_a_turn_that_does_not_come_is_a_timeout(make: Make, elsewhere: bool) -> None:
    """ExclusiveTimeout says how long it waited; what was saved on entry is saved, and nobody is held up after."""
    turns = Turns(make())
    browser = await turns.browser()
    other = turns.elsewhere(browser) if elsewhere else tab(browser)
    async with browser.open("/hold?name=x") as held:
        await turns.entered.wait()
        answer = await other.get("/turn?name=y&timeout=0.01", catch=True)
        assert isinstance(answer.error, ExclusiveTimeout)
        assert "0.01 s" in str(answer.error)
        turns.leave.set()
        assert (await held.ended()).error is None
    assert turns.idle
    await other.get("/turn?name=z")
    assert turns.order == ["z"]


@STORES
@in_loop
async def test_a_busy_process_does_not_starve_another(make: Make, monkeypatch: Any) -> None:
    """A process whose own requests stand in line lets those of another have a turn between them."""
    shorten(monkeypatch, FIRST_PAUSE=0.0005, LONGEST_PAUSE=0.001)
    turns = Turns(make())
    browser = await turns.browser()
    busy = [asyncio.ensure_future(tab(browser).get(f"/turn?name={number}")) for number in range(30)]
    while not turns.order:
        await asyncio.sleep(0)
    await turns.elsewhere(browser).get("/turn?name=other")
    assert turns.order.index("other") < 20
    await asyncio.gather(*busy)
    assert [name for name in turns.order if name != "other"] == [f"{number}" for number in range(30)]


@in_loop
async def test_a_line_lets_others_go_first_after_four_turns() -> None:
    """Of a line that never empties, the fifth, ninth and so on wait a moment; a new line begins anew."""
    queue, other = Queue(), b"another session"
    greedy = []
    waiting = asyncio.ensure_future(queue.enter(b"s"))
    for _ in range(10):
        line = await waiting
        greedy.append(line.is_greedy())
        waiting = asyncio.ensure_future(queue.enter(b"s"))
        await asyncio.sleep(0)
        another = await queue.enter(other)
        assert not another.is_greedy()
        queue.leave(another)
        queue.leave(line)
    assert greedy == [False] * 4 + [True] + [False] * 3 + [True, False]
    queue.leave(await waiting)
    assert queue._lines == {}
