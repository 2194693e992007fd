"""DESIGN section 8: a store that fails or hangs, before the start, after it, and at shutdown; and who keeps it busy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop, lifespan
from routes import Call, content, events, serve, tab
from stores import SuspendingStore, shorten

from fastersession import HeadersSent, StoreError

FAULTS = pytest.mark.parametrize("fault", ["raise", "hang", "lose"])


@pytest.fixture
def _quick(monkeypatch: Any) -> None:
    """Reach every bound at once."""
    shorten(monkeypatch, STORE_SECONDS=0.01, LATE_SECONDS=0.5, LATE_PAUSES=(0, 0, 0), DRAIN_SECONDS=0.05)


pytestmark = pytest.mark.usefixtures("_quick")


async def live(store: SuspendingStore, do: Any = None) -> Browser:
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    return browser


@FAULTS
@in_loop
async def test_s10_a_store_that_cannot_load_is_a_clean_503(fault: str) -> None:
    """S10: without the store no answer, no cookie touched, nothing deleted; the app is not run."""
    ran: list[bool] = []

    async def do(call: Call) -> None:
        ran.append(True)
        await call.reply()

    store = SuspendingStore()
    browser = await live(store, do)
    store.fail("load", fault)
    answer = await browser.get("/act")
    assert (answer.status, answer.cookies, answer.header("retry-after") is not None) == (503, [], True)
    assert answer.header("cache-control") == b"no-store"
    assert (ran, len(store)) == ([], 1)
    assert await content(browser) == {"a": "1"}


@FAULTS
@pytest.mark.parametrize("verb", ["create", "update", "regenerate", "delete"])
@in_loop
async def test_a_store_that_fails_at_the_start_is_a_clean_503(verb: str, fault: str) -> None:
    """The app's start becomes a 503 without a cookie; the app gets StoreError, what it sends later is dropped."""
    errors: list[type[BaseException]] = []

    async def do(call: Call) -> None:
        if verb == "delete":
            call.session.invalidate()
        else:
            call.session["b"] = 2
        if verb == "regenerate":
            call.session.regenerate_id()
        try:
            await call.start(201)
        except StoreError as error:
            errors.append(type(error))
            await call.start(500)
            await call.chunk("my own error page")
            await call.finish()
            raise

    store = SuspendingStore()
    browser = await live(store, do)
    if verb == "create":
        browser.jar.clear()
    store.fail(verb, fault)
    answer = await browser.get("/act")
    assert [message.get("status") for message in answer.messages] == [503, None]
    assert b"my own" not in answer.body
    assert answer.cookies == []
    assert answer.header("retry-after") is not None
    assert errors == [StoreError]


@FAULTS
@in_loop
async def test_what_the_client_was_told_has_failed_is_not_saved_afterwards(fault: str) -> None:
    """After our own 503 the changes are discarded like after the app's, even if the app survives the error."""

    async def do(call: Call) -> None:
        call.session["b"] = 2
        with pytest.raises(StoreError):
            await call.start()
        call.session["c"] = 3

    store = SuspendingStore()
    browser = await live(store, do)
    store.fail("update", fault)
    assert (await browser.get("/act")).status == 503
    assert "c" not in await content(browser)
    assert fault == "lose" or "b" not in await content(browser)


@FAULTS
@in_loop
async def test_a_late_save_is_tried_again(fault: str) -> None:
    """A save after the headers survives a store that comes back in time."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", fault, times=2)
        await call.finish()

    store = SuspendingStore()
    browser = await live(store, do)
    assert (await browser.get("/act")).status == 200
    assert await content(browser) == {"a": "1", "b": 2}


@pytest.mark.parametrize("fault", ["raise", "hang"])
@in_loop
async def test_a_late_save_that_fails_is_logged_and_raised_with_the_id(fault: str, caplog: Any) -> None:
    """When the retries are used up: an ERROR record with the public id, then StoreError from the app call."""
    ids: list[str] = []

    async def do(call: Call) -> None:
        ids.append(call.session.id)
        await call.start()
        call.session["b"] = "a value"
        store.fail("update", fault, times=99)
        await call.finish()

    store = SuspendingStore()
    answer = await (await live(store, do)).get("/act", catch=True)
    assert isinstance(answer.error, StoreError)
    assert answer.messages[-1] == {"type": "http.response.body"}
    (record,) = events(caplog, "session.save_failed")
    assert (record.levelname, record.session_id) == ("ERROR", ids[0])
    assert "a value" not in caplog.text


@in_loop
async def test_an_application_error_is_not_replaced_by_ours() -> None:
    """If the app raised, its error arrives, whatever the store did to the last save."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", times=99)
        raise ZeroDivisionError

    store = SuspendingStore()
    answer = await (await live(store, do)).get("/act", catch=True)
    assert isinstance(answer.error, ZeroDivisionError)


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
            assert await content(witness) == {"a": "1", "b": 2}
            for held in (saving, streaming):
                await held.cancel()


async def shut_down(app: Any) -> None:
    async with lifespan(app):
        pass


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
async def test_a_regeneration_asked_for_while_the_start_is_being_saved_is_done_or_refused() -> None:
    """Between the start's decision and its departure regenerate_id() takes effect, or raises; it is never ignored."""
    refused: list[bool] = []

    async def do(call: Call) -> None:
        gate = store.hold("update", after=True)
        call.session["b"] = 2
        starting = asyncio.ensure_future(call.start())
        await gate.reached.wait()
        try:
            call.session.regenerate_id()
        except HeadersSent:
            refused.append(True)
        gate.open.set()
        await starting
        await call.finish()

    store = SuspendingStore()
    browser = await live(store, do)
    answer = await browser.get("/act")
    assert refused == [True] or len(answer.cookies) == 1
