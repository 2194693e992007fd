"""The store over a server's life: opened and closed, drained at shutdown, touched by long requests meanwhile."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop, lifespan, shut_down
from routes import Call, content, events, live, serve, tab
from stores import SuspendingStore

from fastersession import MemoryStore, SessionNotEstablished

pytestmark = pytest.mark.usefixtures("quick")


@in_loop
async def test_a_touch_that_fails_disturbs_nobody(caplog: Any) -> None:
    """Keeping alive is not worth an error in a stream; only a warning tells."""
    clock = FakeClock()
    store = SuspendingStore(clock=clock)

    async def chat(call: Call) -> None:
        await call.send({"type": "websocket.accept"})
        while (message := await call.receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await call.send({"type": "websocket.send", "text": "heard"})

    browser = await live(store, chat)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        clock.advance(2 * 3600)
        store.fail("touch", times=99)
        await socket.send("hello")
        assert await socket.receive() == "heard"
    assert {record.levelname for record in events(caplog, "store.touch_failed")} == {"WARNING"}


@in_loop
async def test_the_store_is_opened_and_closed_with_the_lifespan() -> None:
    """Opened before the app's startup is told to it, closed after its shutdown; without a lifespan at the first use."""
    store = SuspendingStore()
    app = serve(store=store)
    async with lifespan(app):
        assert store.calls == ["open"]
        await Browser(app).get("/set?a=1")
    assert store.calls == ["open", "create", "close"]
    other = SuspendingStore()
    await Browser(serve(store=other)).get("/set?a=1")
    assert other.calls == ["open", "create"]


@in_loop
async def test_shutdown_waits_for_the_save_in_flight_and_saves_what_streams_hold() -> None:
    """The drain ends when both are in the store; only then is it closed."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        if call.query:
            await call.session.save()
        await call.chunk()
        await asyncio.Event().wait()

    browser = await live(store, do)
    async with lifespan(browser.app):
        gate = store.hold("update")
        saving, streaming = browser.open("/act?save=1"), browser.open("/act")
        async with saving, streaming:
            await streaming.chunk()
            await gate.reached.wait()
            witness, shutting = tab(browser), asyncio.ensure_future(shut_down(browser.app))
            for _ in range(20):
                await asyncio.sleep(0)
            gate.open.set()
            await shutting
            seen = await content(witness)
            for held in (saving, streaming):
                await held.cancel()
    assert seen == {"a": "1", "b": 2}


@in_loop
async def test_a_hanging_store_does_not_keep_the_server_from_shutting_down() -> None:
    """The drain is bounded."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        await call.chunk()
        await asyncio.Event().wait()

    browser = await live(store, do)
    async with browser.open("/act") as held:
        await held.chunk()
        store.fail("update", "hang", times=99)
        await asyncio.wait_for(shut_down(browser.app), 5)
        await held.cancel()


@in_loop
async def test_a_long_stream_is_touched_from_time_to_time() -> None:
    """L7: a stream that outlasts the idle timeout keeps its own session alive, without a message passing."""
    store, touched = SuspendingStore(), asyncio.Event()

    async def do(call: Call) -> None:
        await call.start()
        await call.chunk()
        for _ in range(3):
            gate = store.hold("touch")
            gate.open.set()
            await gate.reached.wait()
        touched.set()
        await call.finish()

    browser = Browser(serve({"/act": do}, store=store, idle_timeout=0.2))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert touched.is_set()


@in_loop
async def test_a_touch_that_meets_a_regeneration_does_not_end_the_session() -> None:
    """A keep-alive that arrives with the verifier of a moment ago must not take the new cookie from the user."""
    clock = FakeClock()  # stands still: nothing expires, only the keeper's timer runs
    store = SuspendingStore(clock=clock)

    async def do(call: Call) -> None:
        gate = store.hold("touch")
        await gate.reached.wait()  # the keeper's touch is on its way, with the old verifier
        call.session.regenerate_id()
        call.session["user"] = "me"
        done = store.hold("regenerate", after=True)
        starting = asyncio.ensure_future(call.start())
        await done.reached.wait()  # the store has the new secret
        gate.open.set()
        for _ in range(20):
            await asyncio.sleep(0)
        done.open.set()
        await starting
        await call.finish()

    browser = Browser(serve({"/act": do}, store=store, idle_timeout=0.1))
    await browser.get("/set?a=1")
    answer = await browser.get("/act")
    assert len(answer.cookies) == 1
    assert await content(browser) == {"a": "1", "user": "me"}


@in_loop
async def test_a_request_may_end_while_the_drain_begins() -> None:
    """Its end has saved all there is: the drain passes it over, and no task of it fails unheard."""
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context))

    async def do(call: Call) -> None:
        await call.reply()
        draining.append(asyncio.ensure_future(app._engine.runs.drain()))
        await asyncio.sleep(0)  # the drain has looked who runs, and its tasks have not begun

    draining: list[asyncio.Task[None]] = []
    app = serve({"/act": do}, store=SuspendingStore())
    browser = Browser(app)
    await browser.get("/set?a=1")
    await browser.get("/act")
    await draining.pop()
    gc.collect()
    assert heard == []
    assert await content(browser) == {"a": "1"}


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_the_drain_saves_what_stands_in_the_session_s_place(make: Any) -> None:
    """The drain is a save point like any other: a plain dict put into the scope is compared there too."""

    async def do(call: Call) -> None:
        call.scope["session"] = {"a": 1}
        await call.start()
        call.scope["session"]["b"] = 2
        await call.chunk()
        await asyncio.Event().wait()

    browser = Browser(serve({"/act": do}, store=make()))
    async with browser.open("/act") as held:
        await held.chunk()
        await shut_down(browser.app)
        seen = await content(tab(browser))
        await held.cancel()
    assert seen == {"a": 1, "b": 2}


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_the_drain_does_not_swallow_what_must_be_raised(make: Any) -> None:
    """An attribute that nobody can ever read is reported by its own request, though the drain met it first."""
    going_on = asyncio.Event()

    async def do(call: Call) -> None:
        write = call.session.__setitem__
        await call.start()
        write("answer", 1)
        await call.chunk()
        await going_on.wait()
        await call.finish()

    browser = Browser(serve({"/act": do}, store=make()))
    async with browser.open("/act") as held:
        await held.chunk()
        await shut_down(browser.app)
        going_on.set()
        answer = await held.ended()
    assert isinstance(answer.error, SessionNotEstablished)


@in_loop
async def test_what_the_drain_could_not_save_and_the_end_could_is_no_error() -> None:
    """A store that is back before a stream ends: its answer is whole, and its server is told of no failure."""
    store, begun, ending = SuspendingStore(), asyncio.Event(), asyncio.Event()

    async def do(call: Call) -> None:
        await call.start()
        await call.chunk()
        call.session["b"] = 2
        begun.set()
        await ending.wait()
        await call.finish()

    browser = await live(store, do)
    running = asyncio.ensure_future(browser.get("/act"))
    await begun.wait()
    store.fail("update", times=4)  # as often as the drain tries
    await shut_down(browser.app)
    assert store.calls.count("update!") == 4
    ending.set()
    assert (await running).error is None
    assert await content(browser) == {"a": "1", "b": 2}
