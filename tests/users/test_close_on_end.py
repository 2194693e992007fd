"""``close_on_end`` (SECURITY U7): to its application the client has gone away, to the client nothing looks complete."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import pytest
from accounts import USERS, site
from driver import Browser, in_loop
from ending import GatedStore, Streams, moved, until
from routes import Call, events, serve, tab
from store_subject import Factory
from stores import BreakableStore, shorten

from fastersession import FasterSessionError, MemoryStore, SessionEnded

kinds = pytest.mark.parametrize("kind", USERS)
DENIAL = {"extensions": {"websocket.http.response": {}}}


class Step:
    """A point at which a handler waits until it is let go."""

    def __init__(self) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def here(self) -> None:
        self.reached.set()
        await self.go.wait()


async def ended_at(step: Step, browser: Browser, target: str = "/act", **options: Any) -> Any:
    """End a session while a handler waits at a step; return the answer."""
    asking = asyncio.ensure_future(tab(browser).get(target, catch=True, **options))
    await step.reached.wait()
    await browser.get("/out")
    step.go.set()
    return await asking


async def here(factory: Factory, handler: Any, **options: Any) -> Any:
    """Run a handler whose session is ended while it waits at its step, which it is given."""
    step = Step()

    async def act(call: Call) -> None:
        await handler(call, step)

    async with site(factory, {"/act": act}, close_on_end=True, **options) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        answer = await ended_at(step, browser)
        assert app._engine.runs.requests == set()
        assert app._engine.runs.watch._long == set()
        return answer


async def during_a_save(act: Any) -> Any:
    """End a session on a store of bytes while a save of a request is at work; return its answer."""
    store = GatedStore()
    app = serve({"/act": act}, store=store, close_on_end=True)
    browser = Browser(app)
    await browser.get("/set?a=1")
    asking = asyncio.ensure_future(tab(browser).get("/act", catch=True))
    await store.reached.wait()
    await browser.get("/logout")
    store.gate.set()
    answer = await asking
    assert app._engine.runs.requests == set()
    return answer


# --- an answer that has begun ---


@kinds
@in_loop
async def test_u7_the_next_send_raises(factory: Factory) -> None:
    """U7: a ``SessionEnded``, which is a ``ConnectionError``; it reaches the server, and no last chunk leaves."""
    caught: list[BaseException] = []

    async def act(call: Call, step: Step) -> None:
        await call.start()
        await call.chunk("a")
        await step.here()
        for _ in range(2):
            with pytest.raises(SessionEnded) as found:
                await call.chunk("b")
            caught.append(found.value)
        await call.finish()

    answer = await here(factory, act)
    assert (answer.body, type(answer.error)) == (b"a", SessionEnded)
    assert not any(
        message["type"] == "http.response.body" and not message.get("more_body") for message in answer.messages
    )
    for error in caught:
        assert isinstance(error, FasterSessionError)
        assert isinstance(error, ConnectionError)
        assert (error.reason, str(error)) == ("invalidated", "the session of this request has ended: invalidated")


@kinds
@pytest.mark.parametrize("how", ["returns", "finishes", "swallows", "raises"])
@in_loop
async def test_u7_what_was_cut_never_looks_complete(factory: Factory, how: str) -> None:
    """U7: an application that leaves its loop, sends an end, or swallows the error: the server gets an error."""

    async def act(call: Call, step: Step) -> None:
        await call.start()
        await step.here()
        if how == "swallows":
            with suppress(SessionEnded):
                await call.chunk()
        elif how == "finishes":
            with suppress(OSError):
                await call.finish()
        elif how == "raises":
            raise ZeroDivisionError

    answer = await here(factory, act)
    assert [message["type"] for message in answer.messages] == ["http.response.start"]
    assert type(answer.error) is (ZeroDivisionError if how == "raises" else SessionEnded)


@kinds
@in_loop
async def test_what_is_written_until_then_is_dropped(factory: Factory, caplog: Any) -> None:
    """As L5 demands: nothing brings the session back, and an event names what was lost."""
    caplog.set_level("INFO")

    async def act(call: Call, step: Step) -> None:
        await call.start()
        call.session["answer"] = "half of it"
        await step.here()
        await call.chunk()

    await here(factory, act)
    assert [event.session_id is not None for event in events(caplog, "session.dropped")] == [True]


@kinds
@in_loop
async def test_an_answer_that_is_complete_stays_so(factory: Factory) -> None:
    """What runs behind it goes on: a background task gets no error, and neither does the server."""

    async def act(call: Call, step: Step) -> None:
        await call.reply("done")
        await step.here()
        assert call.session.end_reason == "invalidated"
        assert (await call.receive())["type"] == "http.disconnect"
        await call.send({"type": "http.response.body", "body": b""})  # servers take no notice either

    answer = await here(factory, act)
    assert (answer.text, answer.error) == ("done", None)


@in_loop
async def test_an_end_during_the_last_save() -> None:
    """All has been said by then: the answer is complete."""

    async def act(call: Call) -> None:
        await call.start()
        call.session["b"] = 1
        await call.finish()

    answer = await during_a_save(act)
    assert (answer.messages[-1], answer.error) == ({"type": "http.response.body"}, None)


# --- before it has begun ---


@kinds
@pytest.mark.parametrize("how", ["start", "hint", "returns", "raises", "swallows", "reads"])
@in_loop
async def test_u7_before_the_start_it_is_a_401(factory: Factory, how: str) -> None:
    """U7: plain, for no cache, without a cookie; the server gets no error of ours."""

    async def act(call: Call, step: Step) -> None:
        call.session["a"] = 1
        await step.here()
        if how == "reads":
            assert [(await call.receive())["type"] for _ in range(2)] == ["http.disconnect"] * 2
        if how == "hint":
            await call.send({"type": "http.response.start", "status": 103, "headers": []})
        if how == "raises":
            raise ZeroDivisionError
        if how != "returns":
            with suppress(SessionEnded if how == "swallows" else ()):
                await call.reply("secret")

    answer = await here(factory, act)
    assert (answer.status, answer.text) == (401, "Unauthorized: the session has ended\n")
    assert (answer.all("cache-control"), answer.cookies) == ([b"no-store"], [])
    assert sum(message["type"] == "http.response.start" for message in answer.messages) == 1
    assert type(answer.error) is (ZeroDivisionError if how == "raises" else type(None))


@in_loop
async def test_an_end_while_the_start_is_saved() -> None:
    """The start, and all that follows it, does not leave any more."""

    async def act(call: Call) -> None:
        call.session["a"] = 2
        await call.reply("secret")

    answer = await during_a_save(act)
    assert (answer.status, answer.text, answer.error) == (401, "Unauthorized: the session has ended\n", None)


@kinds
@in_loop
async def test_a_group_of_our_errors_alone_is_no_error_of_the_server(factory: Factory) -> None:
    """As task groups raise it; with another error among them, it goes on to the server."""
    others: list[Exception] = []

    async def act(call: Call, step: Step) -> None:
        await step.here()
        try:
            await call.start()
        except SessionEnded as error:
            raise ExceptionGroup("of a task group", [error, *others]) from None

    assert (await here(factory, act)).error is None
    others.append(ValueError())
    assert type((await here(factory, act)).error) is ExceptionGroup


@kinds
@in_loop
async def test_who_is_cancelled_is_cancelled(factory: Factory) -> None:
    """A server's shutdown is no end of a session."""

    async def act(call: Call, step: Step) -> None:
        await step.here()
        raise asyncio.CancelledError

    answer = await here(factory, act)
    assert (answer.messages, type(answer.error)) == ([], asyncio.CancelledError)


# --- who waits for the client ---


@kinds
@pytest.mark.parametrize("readers", [1, 3])
@in_loop
async def test_u7_whoever_waits_for_a_message_is_woken(factory: Factory, readers: int) -> None:
    """U7: as by a client that went away, in all tasks that wait, and by each later call."""
    streams = Streams()
    got: list[str] = []

    async def read(call: Call) -> None:
        got.extend([(await call.receive())["type"] for _ in range(2)])

    async def act(call: Call) -> None:
        assert (await call.receive())["type"] == "http.request"
        waits = [asyncio.create_task(read(call)) for _ in range(readers)]
        await asyncio.sleep(0)
        streams.running += 1
        await call.start()
        await asyncio.wait(waits)
        assert all(task.exception() is None and not task.cancelling() for task in waits)

    async with site(factory, {"/act": act}, close_on_end=True) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser), "/act")
        await browser.get("/out")
        assert type((await running).error) is SessionEnded
        assert got == ["http.disconnect"] * 2 * readers


@kinds
@in_loop
async def test_a_message_that_is_there_is_given(factory: Factory) -> None:
    """Before the end messages pass as they came, also to who asks in a cancelled scope, as Starlette does."""

    async def act(call: Call) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            message = await call.receive()
            assert (message["type"], message["body"]) == ("http.request", b"hello")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call.receive()
        assert scope.cancelled_caught
        await call.reply("fine")

    async with site(factory, {"/act": act}, close_on_end=True) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        assert (await browser.post("/act", body=b"hello")).text == "fine"


# --- WebSockets ---


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and answer each message until the client leaves."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": f"you said {message['text']}"})
    scope["left"].append(message)
    if scope["path"] == "/talk/on":
        await send({"type": "websocket.send", "text": "on"})
    if scope["path"] == "/talk/close":
        await send({"type": "websocket.close", "code": 1000})


class Talks:
    """A site with a WebSocket; what its application was told at the end is in ``left``."""

    def __init__(self, factory: Factory) -> None:
        self.site = site(factory, close_on_end=True)
        self.left: list[Any] = []

    async def __aenter__(self) -> Talks:
        self.app, _ = await self.site.__aenter__()
        inner = self.app.app

        async def either(scope: Any, receive: Any, send: Any) -> None:
            scope["left"] = self.left
            await (talk if scope["type"] == "websocket" else inner)(scope, receive, send)

        self.app = self.app.around(either)
        self.browser = Browser(self.app)
        await self.browser.get("/in?user=ada")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.site.__aexit__(*error)


@kinds
@pytest.mark.parametrize("path", ["/talk", "/talk/on", "/talk/close"])
@in_loop
async def test_u7_a_socket_is_closed_with_4401(factory: Factory, path: str) -> None:
    """U7: first the peer is told, with the reason; then the application, as if the peer had done it. No error."""
    async with Talks(factory) as talks:
        async with tab(talks.browser).websocket(path) as socket:
            await socket.accepted()
            await socket.send("a")
            assert await socket.receive() == "you said a"
            await talks.browser.get("/out")
            answer = await socket.ended()
        assert answer.messages[-1] == {"type": "websocket.close", "code": 4401, "reason": "invalidated"}
        assert sum(message["type"] == "websocket.close" for message in answer.messages) == 1
        assert talks.left == [{"type": "websocket.disconnect", "code": 4401, "reason": "invalidated"}]
        assert answer.error is None


@kinds
@pytest.mark.parametrize("denial", [True, False])
@in_loop
async def test_u7_a_handshake_is_denied(factory: Factory, denial: bool) -> None:
    """U7: a session that ends before the accept: 401 where the server can answer so, else a close before it."""
    step = Step()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await inner(scope, receive, send)
            return
        await step.here()
        assert (await receive())["type"] == "websocket.connect"  # as ever: the handshake is over in a moment
        await send({"type": "websocket.accept"})

    async with site(factory, close_on_end=True) as (app, _):
        inner, browser = app.app, Browser(app)
        await browser.get("/in?user=ada")
        async with moved(browser, app.around(slow)).websocket("/talk", **(DENIAL if denial else {})) as socket:
            await step.reached.wait()
            await browser.get("/out")
            step.go.set()
            answer = await socket.ended()
        if denial:
            assert answer.status == 401
        else:
            assert answer.messages == [{"type": "websocket.close", "code": 4401, "reason": ""}]
        assert answer.error is None


@kinds
@in_loop
async def test_a_socket_that_is_closed_already_is_left_alone(factory: Factory) -> None:
    """Its application may work on after its own close."""
    step = Step()

    async def act(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await inner(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        await step.here()

    async with site(factory, close_on_end=True) as (app, _):
        inner, browser = app.app, Browser(app)
        await browser.get("/in?user=ada")
        async with moved(browser, app.around(act)).websocket("/talk") as socket:
            await step.reached.wait()
            await browser.get("/out")
            step.go.set()
            answer = await socket.ended()
        assert [message["type"] for message in answer.messages] == ["websocket.accept", "websocket.close"]
        assert answer.messages[-1]["code"] == 1000
        assert answer.error is None


@in_loop
async def test_a_peer_that_has_gone_hinders_nothing() -> None:
    """A server whose ``send`` raises: the application is told all the same, and no task is left with an error."""
    gone: list[str] = []
    got: list[Any] = []

    async def act(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        gone.append("now")
        got.append(await receive())

    first = serve(store=(store := MemoryStore()), close_on_end=True)
    browser = Browser(first)
    await browser.get("/set?a=1")
    app = first.around(act)
    scope = {**browser.scope("GET", "/talk"), "type": "websocket", "scheme": "ws"}
    feed = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if feed:
            return feed.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if gone:
            raise OSError("the peer has gone")

    running = asyncio.ensure_future(app(scope, receive, send))
    await until(lambda: gone)
    await browser.get("/logout")
    await running
    assert got == [{"type": "websocket.disconnect", "code": 4401, "reason": "invalidated"}]
    await until(lambda: not app._engine.saves.tasks)
    assert len(store) == 0


# --- beside others ---


@kinds
@in_loop
async def test_a_passive_stream_idles_out(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps no session alive, so it ends with it; one that is not passive goes on."""
    shorten(monkeypatch, PERIOD=0.02, OLD_ENOUGH=0.01)
    streams, polls = Streams(), Streams()
    handlers = {"/stream": streams.endless, "/poll": polls.endless}
    async with site(factory, handlers, close_on_end=True, passive=["/poll"], idle_timeout=100) as (app, subject):
        browser, other = Browser(app), Browser(app)
        await browser.get("/in?user=ada")
        await other.get("/in?user=eve")
        polling = await polls.begin(tab(browser), "/poll")
        subject.clock.advance(99)
        assert not polling.done()
        subject.clock.advance(1)
        answer = await polling
        assert (type(answer.error), str(answer.error)[-7:]) == (SessionEnded, "expired")


# --- without it ---


@kinds
@in_loop
async def test_without_the_argument_nothing_is_cut(factory: Factory) -> None:
    """It is off where it is not given: what streams goes on to its end, as in every release before."""
    streams = Streams()
    async with site(factory, {"/stream": streams.endless}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser))
        await browser.get("/out")
        await streams.finish(running)
        assert (await running).messages[-1] == {"type": "http.response.body"}


@pytest.mark.parametrize("make", [BreakableStore, MemoryStore])
@in_loop
async def test_nothing_else_changes(make: Any) -> None:
    """A failing save at the start is a 503, an application's error its own, with it as without."""

    async def unsaved(call: Call) -> None:
        call.session["b"] = 1
        if isinstance(store, BreakableStore):
            store.fail("update")
        await call.reply()

    async def broken(call: Call) -> None:
        raise ZeroDivisionError

    store = make()
    browser = Browser(serve({"/act": unsaved, "/broken": broken}, store=store, close_on_end=True))
    await browser.get("/set?a=1")
    assert (await browser.get("/act")).status == (503 if make is BreakableStore else 200)
    assert type((await browser.get("/broken", catch=True)).error) is ZeroDivisionError
