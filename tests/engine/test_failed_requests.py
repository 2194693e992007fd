"""What a request that fails keeps: its save() and its invalidate(), and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import SuspendingStore

from fastersession import MemoryStore

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])


class BrokenError(Exception):
    """The application's own failure."""


@STORES
@pytest.mark.parametrize("how", ["500", "503", "raise"])
@in_loop
async def test_a_failed_request_discards_its_attributes(how: str, make: Any) -> None:
    """A status of 500 and above, or an exception before the start, discards all that was written, late writes too."""

    async def do(call: Call) -> None:
        call.session["a"] = "overwritten"
        call.session.idle_timeout = 1
        del call.session["b"]
        if how == "raise":
            raise BrokenError
        await call.start(int(how))
        await call.chunk()
        call.session["c"] = "in the error page"
        await call.finish()

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=1&b=2")
    await browser.get("/act", catch=True)
    assert await content(browser) == {"a": "1", "b": "2"}


@STORES
@pytest.mark.parametrize("awaited", [True, False])
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("how", ["500", "raise"])
@in_loop
async def test_an_explicit_save_survives_a_failed_request(how: str, new: bool, awaited: bool, make: Any) -> None:
    """What save() covered is kept, awaited or not, and nothing that was written after it."""

    async def do(call: Call) -> None:
        call.session["covered"] = 1
        pending = call.session.save()
        if awaited:
            await pending
        call.session["covered"] = call.session["later"] = 2
        if how == "raise":
            raise BrokenError
        await call.reply(status=500)

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    if not new:
        await browser.get("/set?a=1")
    await browser.get("/act", catch=True)
    expected = {"covered": 1} if new else {"a": "1", "covered": 1}
    if new and how == "raise":  # no start, so no cookie: the record is deleted again
        assert (len(store), dict(browser.jar)) == (0, {})
    else:
        assert await content(browser) == expected


@STORES
@pytest.mark.parametrize("how", ["500", "raise", "raise late"])
@in_loop
async def test_l4_invalidate_deletes_even_if_the_request_fails(how: str, make: Any) -> None:
    """L4: a logout holds whatever happens to its request; a replayed cookie is anonymous."""

    async def do(call: Call) -> None:
        call.session.invalidate()
        if how == "raise":
            raise BrokenError
        await call.start(500 if how == "500" else 200)
        if how == "raise late":
            raise BrokenError
        await call.finish()

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    thief = tab(browser)
    await browser.get("/act", catch=True)
    assert len(store) == 0
    assert await content(thief) == {}


@STORES
@in_loop
async def test_a_regeneration_without_a_start_is_dropped(make: Any) -> None:
    """If the app raises before the start, the old cookie goes on working: the new one could not leave."""

    async def do(call: Call) -> None:
        await call.session.regenerate_id()
        raise BrokenError

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=1")
    await browser.get("/act", catch=True)
    assert await content(browser) == {"a": "1"}


@STORES
@in_loop
async def test_a_regeneration_goes_with_an_error_page(make: Any) -> None:
    """A status of 500 discards attributes, but the new cookie leaves with it and is the one that works."""

    async def do(call: Call) -> None:
        call.session.regenerate_id()
        call.session["a"] = 2
        await call.reply(status=500)

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=1")
    thief = tab(browser)
    assert len((await browser.get("/act")).cookies) == 1
    assert await content(browser) == {"a": "1"}
    assert await content(thief) == {}


@STORES
@in_loop
async def test_a_start_that_never_comes_leaves_no_record(make: Any) -> None:
    """A record that save() or establish() made early is deleted again if the app ends without a start."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.session.save()
        assert len(store) == 1
        if call.query:
            await call.session.establish()
            call.session["b"] = 2

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    for target in ("/act", "/act?b=1"):
        await browser.get(target)
        assert len(store) == 0
