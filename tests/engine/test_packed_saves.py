"""Saves to a store of bytes that meet something: a value that cannot be kept, another tab, a reload, the seal."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import SuspendingStore

from fastersession import AttributeNotSerializable


@pytest.mark.parametrize("when", ["at the start", "in the middle", "at the end", "in a checkpoint"])
@in_loop
async def test_s8_an_attribute_that_cannot_be_encoded_blocks_no_other(when: str) -> None:
    """S8: all others are set and deleted, then AttributeNotSerializable names it; its old value stays."""
    store = SuspendingStore()
    caught: list[BaseException] = []

    async def begin(call: Call) -> None:
        call.session.update(a=1, bad=["old"], gone=1)
        await call.reply()

    async def do(call: Call) -> None:
        if when != "at the start":
            await call.start()
        call.session.update(a=2, bad=frozenset({"rosebud"}), new=3)
        del call.session["gone"]
        if when in ("at the start", "in a checkpoint"):
            with pytest.raises(AttributeNotSerializable) as error:
                await (call.start() if when == "at the start" else call.session.save())
            caught.append(error.value)
            del call.session["bad"]
            call.session["bad"] = ["new"]
            if when == "at the start":
                await call.start()
        if when == "in the middle":
            await call.chunk()
            raise ZeroDivisionError
        if when != "at the end":
            await call.finish()

    browser = Browser(serve({"/begin": begin, "/act": do}, store=store))
    await browser.get("/begin")
    answer = await browser.get("/act", catch=True)
    if when == "in the middle":
        assert isinstance(answer.error, ZeroDivisionError)  # the application's own error is not hidden
    else:
        error = caught[0] if caught else answer.error
        assert isinstance(error, AttributeNotSerializable)
        assert str(error).endswith(": 'bad' is of class frozenset: keep it as a set, or use PickleCodec")
        assert "rosebud" not in str(error)
        assert error.__cause__ is None  # the codec's own error may show the value
        assert when == "at the end" or error.__context__ is None
    assert await content(browser) == {"a": 2, "bad": ["new"] if caught else ["old"], "new": 3}


@in_loop
async def test_s8_a_new_session_keeps_what_can_be_kept() -> None:
    """S8: a session that begins with a bad attribute begins with the others, and each of the bad ones is named."""
    store, caught = SuspendingStore(), []

    async def do(call: Call) -> None:
        call.session.update(a=1, bad=object(), worse=[1j])
        with pytest.raises(AttributeNotSerializable) as error:
            await call.start()
        caught.append(str(error.value))
        call.session.pop("bad"), call.session.pop("worse")
        await call.reply()

    browser = Browser(serve({"/act": do}, store=store))
    answer = await browser.get("/act")
    assert len(answer.cookies) == 1
    assert "'bad' is of class object" in caught[0]
    assert "worse[0] is of class complex" in caught[0]
    assert await content(browser) == {"a": 1}


@in_loop
async def test_l8_two_tabs_merge() -> None:
    """L8: attributes that two streams of one session write, change in place and delete all survive."""
    store = SuspendingStore()
    both = asyncio.Barrier(2)

    async def do(call: Call) -> None:
        mine = call.session[call.query["tab"]]
        await call.start()
        await both.wait()
        mine.append("more")
        del call.session["old " + call.query["tab"]]
        call.session["new " + call.query["tab"]] = 1
        await both.wait()
        await call.finish()

    async def begin(call: Call) -> None:
        call.session.update({"one": [], "two": [], "old one": 1, "old two": 2})
        await call.reply()

    browser = Browser(serve({"/begin": begin, "/act": do}, store=store))
    await browser.get("/begin")
    await asyncio.gather(browser.get("/act?tab=one"), tab(browser).get("/act?tab=two"))
    assert await content(browser) == {"one": ["more"], "two": ["more"], "new one": 1, "new two": 1}


@in_loop
async def test_reload_keeps_unsaved_changes_on_top() -> None:
    """What this request changed in place, set and deleted stays; all else is what the store has by now."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        call.session["list"].append("mine")
        call.session["set"] = "mine"
        del call.session["gone"]
        await tab(browser).get("/set?set=theirs&gone=theirs&theirs=1&same=theirs")
        await call.session.reload()
        seen.append(dict(call.session))
        await call.reply()

    async def begin(call: Call) -> None:
        call.session.update({"list": [], "set": 0, "gone": 1, "same": 0})
        await call.reply()

    browser = Browser(serve({"/begin": begin, "/act": do}, store=SuspendingStore()))
    await browser.get("/begin")
    await browser.get("/act")
    assert seen == [{"list": ["mine"], "set": "mine", "theirs": "1", "same": "theirs"}]
    assert await content(browser) == seen[0]


@pytest.mark.parametrize("seal", [True, False], ids=["sealed", "unsealed"])
@in_loop
async def test_the_idle_timeout_of_a_session_survives(seal: bool) -> None:
    """Set before or after the start, it holds in the next request, and ends the session in time."""
    clock = FakeClock()
    seen: list[Any] = []

    async def do(call: Call) -> None:
        seen.append(call.session.idle_timeout)
        if "late" in call.query:
            await call.start()
        call.session.idle_timeout = float(call.query["seconds"])
        await (call.finish() if "late" in call.query else call.reply())

    browser = Browser(serve({"/act": do}, store=SuspendingStore(clock=clock), seal=seal, idle_timeout=1_000))
    await browser.get("/set?a=1")
    for query in ("seconds=2000", "seconds=60&late=1", "seconds=50"):
        await browser.get(f"/act?{query}")
    assert seen == [timedelta(seconds=number) for number in (1_000, 2_000, 60)]
    clock.advance(49)
    assert await content(browser) == {"a": "1"}
    clock.advance(50)
    assert await content(browser) == {}


@pytest.mark.parametrize("way", ["/logout", "/login"])
@in_loop
async def test_a_session_begun_anew_keeps_what_the_one_before_had_too(way: str) -> None:
    """After invalidate(), or in a request whose cookie was replaced, the record is a new one: nothing is in it yet."""
    other: list[Browser] = []

    async def do(call: Call) -> None:
        if way == "/logout":
            call.session.invalidate()
        else:
            call.session["a"] = "1"
            await call.session.save()  # dropped
            call.session.regenerate_id()
        call.session.update(a="1", b=2)
        await call.reply()

    browser = Browser(serve({"/act": do}, store=SuspendingStore()))
    await browser.get("/set?a=1")
    if way == "/login":
        other.append(tab(browser))
        await other[0].get(way)
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "b": 2}
