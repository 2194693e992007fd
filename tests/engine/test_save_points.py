"""The save points from end to end: when a request saves, what it keeps, and what it discards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import BreakableStore, SpyStore, SuspendingStore, shorten

from fastersession import FasterSessionMiddleware, MemoryStore, StoreError

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])


class BrokenError(Exception):
    """The application's own failure."""


@pytest.mark.parametrize("make", [SpyStore, SuspendingStore])
@in_loop
async def test_each_save_comes_before_its_message(make: Any) -> None:
    """The store has what was written before the start, or the final message, is forwarded."""
    order: list[str] = []

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.start()
        await call.chunk()
        call.session["b"] = 2
        await call.finish()

    app = serve({"/act": do}, store=make(calls=order))

    async def observed(scope: Any, receive: Any, send: Any) -> None:
        async def noting(message: Any) -> None:
            order.append("chunk" if message.get("more_body") else message["type"].rpartition(".")[2])
            await send(message)

        await app(scope, receive, noting)

    await Browser(observed).get("/act")
    assert [verb for verb in order if verb != "open"] == ["create", "start", "chunk", "update", "body"]


FINALS: dict[str, list[dict[str, Any]]] = {
    "a bare body": [{"type": "http.response.body"}],
    "an empty final body": [
        {"type": "http.response.body", "body": b"all", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ],
    "zerocopysend": [{"type": "http.response.zerocopysend", "file": 0}],
    "pathsend": [{"type": "http.response.pathsend", "path": "/dev/null"}],
    "trailers": [
        {"type": "http.response.body", "body": b"all"},
        {"type": "http.response.trailers", "headers": [], "more_trailers": False},
    ],
}


@STORES
@pytest.mark.parametrize("messages", FINALS.values(), ids=list(FINALS))
@in_loop
async def test_whatever_ends_the_response_saves_before_it_leaves(messages: list[Any], make: Any) -> None:
    """Every kind of final message finds the session saved: a client that has seen the end finds it."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        await call.start()
        for number, message in enumerate(messages):
            call.session["n"] = number
            await call.send(message)
            if not message.get("more_body"):
                seen.append((await content(tab(browser)), number))

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?n=none")
    await browser.get("/act")
    assert seen
    assert all(stored == {"n": number} for stored, number in seen)


async def stream(call: Call) -> None:
    call.session["question"] = "q"
    await call.start()
    call.session["answer"] = "partial"
    await call.chunk()
    if "raise" in call.query:
        raise BrokenError
    if "return" in call.query:
        return
    await call.receive()
    await call.receive()
    if "wait" in call.query:
        await asyncio.Event().wait()


ENDS: dict[str, Callable[[Browser], Any]] = {
    "returns without an end": lambda browser: browser.get("/act?return=1"),
    "raises": lambda browser: browser.get("/act?raise=1", catch=True),
    "is cancelled": lambda browser: browser.cancel("/act?wait=1"),
    "is cancelled twice": lambda browser: browser.cancel("/act?wait=1", times=2),
    "is cancelled five times": lambda browser: browser.cancel("/act?wait=1", times=5),
    "sees the client leave": lambda browser: browser.leave("/act"),
}


@STORES
@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
@in_loop
async def test_a_stream_that_breaks_keeps_what_was_written(end: Callable[[Browser], Any], make: Any) -> None:
    """However the app call ends after the start, the question and the partial answer survive."""
    browser = Browser(serve({"/act": stream}, store=make()))
    answer = await end(browser)
    assert answer.status == 200
    assert await content(browser) == {"question": "q", "answer": "partial"}


SENDS: list[dict[str, Any]] = [
    {"type": "http.response.start", "status": 200},
    {"type": "http.response.start", "status": 200, "headers": ((b"a", b"b"),)},
    {"type": "http.response.body", "more_body": True},
    {"type": "http.response.body"},
    {"type": "http.response.trailers"},
    {"type": "http.response.debug", "info": {}},
    {"type": "http.response.push", "path": "/", "headers": []},
    {"type": "http.response.unheard.of"},
    {"type": "websocket.accept"},
    {"type": "websocket.close"},
]


@STORES
@pytest.mark.parametrize("first", range(len(SENDS)))
@pytest.mark.parametrize("second", range(len(SENDS)))
@in_loop
async def test_messages_in_any_order_raise_nothing_of_ours(first: int, second: int, make: Any) -> None:
    """What is illegal is for the server to say: every message arrives, in its order, and nothing is raised here."""
    sent = [SENDS[first], SENDS[second], SENDS[0], SENDS[first]]
    arrived: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        for message in sent:
            await send(message)

    async def server(message: Any) -> None:
        arrived.append(message["type"])

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    wrapped = FasterSessionMiddleware(app, secret_key="a secret of the save point tests only", store=make())
    scope = {"type": "http", "path": "/", "headers": [], "method": "GET", "scheme": "https", "query_string": b""}
    await wrapped(scope, receive, server)
    assert arrived == [message["type"] for message in sent]


@STORES
@in_loop
async def test_a_replaced_session_is_saved_at_every_save_point(make: Any) -> None:
    """A plain dict put in the session's place is the content: at the start, at save(), and in the stream."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        call.scope["session"] = {"a": 1}
        await call.start()
        seen.append(await content(tab(browser)))
        call.scope["session"]["b"] = 2
        await call.session.save()
        seen.append(await content(tab(browser)))
        call.scope["session"]["c"] = 3
        await call.finish()

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/act")
    assert seen == [{"a": 1}, {"a": 1, "b": 2}]
    assert await content(browser) == {"a": 1, "b": 2, "c": 3}


@in_loop
async def test_a_save_error_after_the_final_message_is_raised() -> None:
    """The client has the whole response by then; the server gets the error once the app has returned."""

    async def do(call: Call) -> None:
        await call.start()
        await call.finish()
        call.session["b"] = 2
        store.fail("update", times=9)

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, FLUSH_PAUSES=(0, 0, 0))
        answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, StoreError)
    assert answer.messages[-1] == {"type": "http.response.body"}


@pytest.mark.parametrize("make", [BreakableStore, SuspendingStore])
@in_loop
async def test_a_late_save_error_is_raised_also_if_the_next_save_succeeds(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trailers after the final body, which was withheld, do not make the failure unsaid."""
    shorten(monkeypatch, FLUSH_PAUSES=(0,))

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", times=1 if store.live else 2)
        with pytest.raises(StoreError):
            await call.finish()
        await call.send({"type": "http.response.trailers", "headers": []})

    store = make()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    assert isinstance((await browser.get("/act", catch=True)).error, StoreError)
    assert await content(browser) == {"a": "1", "b": 2}


@pytest.mark.parametrize("what", ["removed", "None", "replaced"])
@in_loop
async def test_an_application_may_do_with_its_state_what_it_likes(what: str) -> None:
    """scope["state"] is never read back: a state that is gone or of another type at the end is no error of ours."""

    async def do(call: Call) -> None:
        if what == "removed":
            del call.scope["state"]
        else:
            call.scope["state"] = None if what == "None" else object()
        await call.reply("ok")

    assert (await Browser(serve({"/act": do})).get("/act")).text == "ok"
