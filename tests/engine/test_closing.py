"""The end of the server's life: what the shutdown waits for, what is closed, and what comes after it all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import Browser, in_loop, lifespan, shut_down
from routes import SECRET, Call, content, events, live, serve
from stores import SuspendingStore

from fastersession import FasterSessionMiddleware


@in_loop
async def test_the_store_is_closed_when_the_application_cannot_shut_down() -> None:
    """lifespan.shutdown.failed ends the server as lifespan.shutdown.complete does: the store is closed, once."""
    store, sent = SuspendingStore(), []
    told = iter(["startup", "shutdown"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "no"})

    async def receive() -> Any:
        return {"type": f"lifespan.{next(told)}"}

    async def send(message: Any) -> None:
        sent.append((message["type"], list(store.calls)))

    await FasterSessionMiddleware(app, SECRET, store)({"type": "lifespan"}, receive, send)
    assert sent == [("lifespan.startup.complete", ["open"]), ("lifespan.shutdown.failed", ["open", "close"])]


@pytest.mark.parametrize("when", ["at the start", "after the end"])
@in_loop
async def test_the_store_is_closed_behind_the_saves_in_flight(when: str) -> None:
    """A save that no running stream accounts for is waited for too: nothing it stores comes after the close."""
    store, kept = SuspendingStore(), []

    async def do(call: Call) -> None:
        kept.append(call.session)
        if when == "at the start":
            call.session["b"] = 2
        await call.reply()

    browser = await live(store, do)
    async with lifespan(browser.app):
        if when == "after the end":
            await browser.get("/act")
        gate = store.hold("update")
        async with browser.open("/act") if when == "at the start" else lifespan(browser.app) as _:
            if when == "after the end":
                kept[0]["b"] = 2
                kept[0].save()
            await gate.reached.wait()
            shutting = asyncio.ensure_future(shut_down(browser.app))
            for _ in range(20):
                await asyncio.sleep(0)
            assert "close" not in store.calls
            gate.open.set()
            await shutting
            assert store.calls.index("update") < store.calls.index("close")
    assert await content(browser) == {"a": "1", "b": 2}


@in_loop
async def test_a_save_after_the_close_opens_the_store_again() -> None:
    """A task that outlives the lifespan saves into a store that is open."""
    store, kept = SuspendingStore(), []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    browser = Browser(serve({"/keep": keep}, store=store))
    async with lifespan(browser.app):
        await browser.get("/set?a=1")
        await browser.get("/keep")
    session = kept.pop()
    session["late"] = 1
    del store.calls[:]
    await session.save()
    assert store.calls == ["open", "update"]
    assert await content(browser) == {"a": "1", "late": 1}


@in_loop
async def test_a_store_that_cannot_be_closed_is_told_with_its_fault(caplog: Any) -> None:
    """The server ends all the same."""
    store = SuspendingStore()
    browser = await live(store)
    store.fail("close")
    await shut_down(browser.app)
    (record,) = events(caplog, "store.close_failed")
    assert record.getMessage() == "the store was not closed: the store could not be opened or closed: InjectedError"
