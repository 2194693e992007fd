"""S11: an answer whose last save failed for good never looks whole; and what becomes of its application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, events, serve
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from stores import BreakableStore, SuspendingStore, shorten

from fastersession import AttributeNotSerializable, FasterSessionMiddleware, StoreError
from fastersession.testing import FaultyStore

STORES = pytest.mark.parametrize("make", [BreakableStore, SuspendingStore])
FOR_GOOD = 999  # failures: more than any save is tried
BODY = {"type": "http.response.body"}
ENDS: dict[str, list[dict[str, Any]]] = {
    "a bare message": [BODY],
    "a body": [{**BODY, "body": b"the end", "more_body": False}],
    "zerocopysend": [{"type": "http.response.zerocopysend", "file": 0}],
    "pathsend": [{"type": "http.response.pathsend", "path": "/dev/null"}],
    "a body before trailers": [{**BODY, "body": b"the end"}, {"type": "http.response.trailers", "headers": []}],
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    shorten(monkeypatch, FLUSH_PAUSES=(0,))


async def known(app: Any) -> Browser:
    """Return a browser that has a session."""
    browser = Browser(app)
    await browser.get("/set?a=1")
    return browser


@STORES
@pytest.mark.parametrize("messages", ENDS.values(), ids=list(ENDS))
@in_loop
async def test_s11_no_kind_of_end_leaves_unsaved(messages: list[dict[str, Any]], make: Any, caplog: Any) -> None:
    """S11: the chunks arrive, the end does not; the application and then the server get the error, the log says why."""
    raised: list[BaseException] = []

    async def do(call: Call) -> None:
        await call.start()
        await call.chunk("begun")
        call.session["answer"] = "a value"
        store.fail("update", times=FOR_GOOD)
        try:
            for message in messages:
                await call.send(message)
        except StoreError as error:
            raised.append(error)
            raise

    store = make()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.get("/act", catch=True)
    assert [message["type"] for message in answer.messages] == ["http.response.start", "http.response.body"]
    assert answer.chunks == [b"begun"]
    assert raised == [answer.error]
    (record,) = events(caplog, "answer.withheld")
    assert record.levelname == "ERROR"
    assert len(record.session_id) == 32  # type: ignore[attr-defined]
    assert "a value" not in caplog.text


@STORES
@in_loop
async def test_s11_trailers_are_an_end_too(make: Any) -> None:
    """S11: where trailers follow, they are the end that is withheld if what came before was saved."""

    async def do(call: Call) -> None:
        await call.start()
        await call.finish()
        call.session["answer"] = 1
        store.fail("update", times=FOR_GOOD)
        await call.send({"type": "http.response.trailers", "headers": []})

    store = make()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.get("/act", catch=True)
    assert answer.messages[-1] == BODY
    assert isinstance(answer.error, StoreError)


@STORES
@in_loop
async def test_s11_an_application_that_goes_on_reaches_nobody(make: Any) -> None:
    """S11: who catches the error may send what he likes: nothing leaves, no save is tried, and the call still fails."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["answer"] = 1
        store.fail("update", times=FOR_GOOD)
        with pytest.raises(StoreError):
            await call.finish()
        before = store.count("update!")
        await call.chunk()
        await call.finish()
        await call.start(500)
        assert store.count("update!") == before
        went_on.append(True)

    went_on: list[bool] = []

    store = make()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.get("/act", catch=True)
    assert went_on == [True]
    assert [message["type"] for message in answer.messages] == ["http.response.start"]
    assert isinstance(answer.error, StoreError)


@in_loop
async def test_s11_of_two_ends_at_once_none_leaves_after_one_was_withheld() -> None:
    """S11: an end that another task sends, and whose save succeeds, does not leave either."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["answer"] = 1
        gate = store.hold("update")
        store.fail("update", times=3)  # they take turns: all tries of the first, and one of the second
        ending = asyncio.ensure_future(call.finish())
        await gate.reached.wait()
        trailing = asyncio.ensure_future(call.send({"type": "http.response.trailers", "headers": []}))
        await asyncio.sleep(0)
        gate.open.set()
        with pytest.raises(StoreError):
            await ending
        await trailing

    store = SuspendingStore()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.get("/act", catch=True)
    assert [message["type"] for message in answer.messages] == ["http.response.start"]
    assert isinstance(answer.error, StoreError)


@STORES
@in_loop
async def test_s11_a_store_that_comes_back_has_it_all_the_same(make: Any) -> None:
    """S11: the end of the call tries again; the broken answer stays broken, what it wrote is kept."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["answer"] = 1
        store.fail("update", times=1 if store.live else 2)  # all tries of the last chunk
        await call.finish()

    store = make()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, StoreError)
    assert len(answer.messages) == 1
    assert await content(browser) == {"a": "1", "answer": 1}


@in_loop
async def test_s11_what_cannot_be_stored_withholds_the_end_as_well() -> None:
    """S11: an attribute that the codec refuses is as lost as one that a store does not take; all others are kept."""

    async def do(call: Call) -> None:
        await call.start()
        call.session.update(answer=1, odd=object())
        await call.finish()

    browser = await known(serve({"/act": do}, store=SuspendingStore()))
    answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, AttributeNotSerializable)
    assert len(answer.messages) == 1
    assert await content(browser) == {"a": "1", "answer": 1}


@pytest.mark.parametrize("what", ["HEAD", "204", "304", "all of its content-length"])
@in_loop
async def test_s11_where_the_client_has_all_the_application_still_ends(what: str) -> None:
    """S11: nothing can be kept from such a client; the application must not go on, and the server is told."""
    went_on: list[bool] = []

    async def do(call: Call) -> None:
        status = int(what) if what.isdigit() else 200
        headers = [] if status != 200 else [(b"content-length", b"3")]
        await call.send({"type": "http.response.start", "status": status, "headers": headers})
        call.session["answer"] = 1
        if headers and what != "HEAD":
            await call.chunk("all")
        store.fail("update", times=FOR_GOOD)
        await call.finish()
        went_on.append(True)

    store = SuspendingStore()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.request("HEAD" if what == "HEAD" else "GET", "/act", catch=True)
    assert isinstance(answer.error, StoreError)
    assert not went_on


@in_loop
async def test_s11_background_tasks_of_a_framework_do_not_run() -> None:
    """S11: what is to be done after an answer is not done after one that has failed."""
    ran: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]

        async def tokens() -> Any:
            yield "token"
            session["answer"] = scope["path"]

        if Request(scope).url.path == "/set":
            session["a"] = 1
        background = BackgroundTask(ran.append, True)
        await StreamingResponse(tokens(), background=background)(scope, receive, send)

    store = FaultyStore()
    secret = "a secret of the tests of withheld answers"
    browser = Browser(FasterSessionMiddleware(app, secret_key=secret, secure=False, store=store))
    await browser.get("/set")
    assert ran == [True]
    store.fail("update", times=FOR_GOOD)
    answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, StoreError)
    assert ran == [True]


# --- WebSockets ---


@STORES
@in_loop
async def test_s11_a_websocket_is_closed_with_1011(make: Any, caplog: Any) -> None:
    """S11: the close that the application sends becomes one that tells of the failure; then the call fails."""

    async def do(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        call.session["answer"] = 1
        store.fail("update", times=FOR_GOOD)
        await call.send({"type": "websocket.close", "code": 1000})

    store = make()
    browser = await known(serve({"/act": do}, store=store))
    async with browser.websocket("/act") as socket:
        answer = await socket.ended()
    assert [(m["type"], m.get("code")) for m in answer.messages[1:]] == [("websocket.close", 1011)]
    assert isinstance(answer.error, StoreError)
    assert len(events(caplog, "answer.withheld")) == 1


@STORES
@in_loop
async def test_s11_a_denial_is_withheld_as_an_http_answer_is(make: Any) -> None:
    """S11: the end of a denial response does not leave either."""

    async def do(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        call.session["answer"] = 1
        store.fail("update", times=FOR_GOOD)
        await call.send({"type": "websocket.http.response.body", "body": b"no"})

    store = make()
    browser = await known(serve({"/act": do}, store=store))
    async with browser.websocket("/act") as socket:
        answer = await socket.ended()
    assert [message["type"] for message in answer.messages] == ["websocket.http.response.start"]
    assert isinstance(answer.error, StoreError)


# --- saves of other tasks ---


@pytest.mark.parametrize("wish", ["idle_timeout", "a change", "invalidate"])
@in_loop
async def test_the_end_waits_for_what_another_task_is_saving(wish: str) -> None:
    """Whatever a save that is at work was asked for, the end of the answer does not leave before it is done."""

    async def do(call: Call) -> None:
        await call.start()
        if wish == "idle_timeout":
            call.session.idle_timeout = 60
        elif wish == "invalidate":
            call.session.invalidate()
        else:
            call.session["b"] = 2
        gate = store.hold("delete" if wish == "invalidate" else "update")
        saving = asyncio.ensure_future(call.session.save())
        await gate.reached.wait()
        ending = asyncio.ensure_future(call.finish())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not ending.done()
        gate.open.set()
        await asyncio.gather(saving, ending)

    store = SuspendingStore()
    browser = await known(serve({"/act": do}, store=store))
    assert (await browser.get("/act")).messages[-1] == BODY


@in_loop
async def test_the_end_is_withheld_if_what_another_task_was_saving_fails() -> None:
    """It tries again what that save could not do; if it cannot either, the end does not leave."""

    async def do(call: Call) -> None:
        await call.start()
        call.session.idle_timeout = 60
        gate = store.hold("update")
        store.fail("update", times=FOR_GOOD)
        saving = asyncio.ensure_future(call.session.save())
        await gate.reached.wait()
        ending = asyncio.ensure_future(call.finish())
        await asyncio.sleep(0)
        gate.open.set()
        with pytest.raises(StoreError):
            await saving
        await ending

    store = SuspendingStore()
    browser = await known(serve({"/act": do}, store=store))
    answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, StoreError)
    assert len(answer.messages) == 1
