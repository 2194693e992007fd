"""What is left of a request whose application has returned: tasks that go on, and what they still hold of it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import SECRET, Call, content, events, serve
from stores import SuspendingStore

from fastersession import FasterSessionError, FasterSessionMiddleware, MemoryStore, StoreError
from fastersession.facts import ENDED
from fastersession.session import state_of
from fastersession.state import State

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
SENT_LATE = {
    "http": [START, {**BODY, "more_body": True}, BODY],
    "websocket": [
        {"type": "websocket.accept"}, {"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}
    ],
}  # fmt: skip


@STORES
@pytest.mark.parametrize("uses", [True, False], ids=["uses its session", "does not"])
@pytest.mark.parametrize("begins", [True, False], ids=["had begun its answer", "had not"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
@in_loop
async def test_what_is_sent_after_the_end_reaches_nobody(kind: str, begins: bool, uses: bool, make: Any) -> None:
    """A task that an application leaves behind may go on sending: nothing of it leaves, and nothing raises."""
    sent: list[str] = []
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.extend((scope["session"], send))
        if begins:
            await send(SENT_LATE[kind][0])

    async def send(message: Any) -> None:
        sent.append(message["type"])

    middleware = FasterSessionMiddleware(app, SECRET, make(), secure=False)
    await middleware({"type": kind, "path": "/", "headers": []}, None, send)
    at_the_end = [*sent]
    session, late = kept
    for message in SENT_LATE[kind]:
        if uses:
            session.get("a")
        await late(message)
    assert sent == at_the_end
    assert len(at_the_end) == begins


@pytest.mark.parametrize("kind", ["http", "websocket"])
@in_loop
async def test_where_answers_go_on_after_the_end_what_is_sent_is_passed_on(kind: str, monkeypatch: Any) -> None:
    """daphne ends an answer with its last message only, whoever sends it, so a task may finish it there."""
    monkeypatch.setattr("fastersession.asgi.exchange.ANSWERS_GO_ON", True)
    sent: list[Any] = []
    kept: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(send)

    async def send(message: Any) -> None:
        sent.append(message)

    await FasterSessionMiddleware(app, SECRET, secure=False)({"type": kind, "path": "/", "headers": []}, None, send)
    for message in SENT_LATE[kind]:
        await kept[0](message)
    assert sent == SENT_LATE[kind]


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "succeeds"])
@in_loop
async def test_a_start_whose_save_outlasts_the_application_never_leaves(fails: bool) -> None:
    """The server has answered for the application by then; its task learns what the store says, and ends."""
    store = SuspendingStore()
    tasks: list[asyncio.Task[None]] = []
    kept: list[State] = []

    async def do(call: Call) -> None:
        call.session["a"] = 1
        kept.append(state_of(call.session))
        gate = store.hold("create")
        tasks.append(asyncio.ensure_future(call.start()))
        await gate.reached.wait()
        asyncio.get_running_loop().call_soon(gate.open.set)

    if fails:
        store.fail("create", after=1)  # the end deletes what the first one made
    answer = await Browser(serve({"/act": do}, store=store)).get("/act", catch=True)
    (outcome,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcome, StoreError) if fails else outcome is None
    assert answer.messages == []
    assert kept[0].phase == ENDED


@in_loop
async def test_a_start_that_nobody_awaited_in_time_never_leaves(caplog: Any) -> None:
    """The session is what it was, and what is written to it is told of as lost."""
    kept: list[Any] = []

    async def do(call: Call) -> None:
        kept.extend((call.send(START), call.session))

    browser = Browser(serve({"/act": do}, store=SuspendingStore()))
    await browser.get("/set?a=1")
    answer = await browser.get("/act", catch=True)
    start, session = kept
    session["b"] = 2
    await start
    assert answer.messages == []
    del start, session
    kept.clear()
    gc.collect()
    assert [record.event for record in events(caplog)] == ["session.unsaved"]
    assert await content(browser) == {"a": "1"}


@STORES
@in_loop
async def test_the_manager_says_that_it_has_ended(make: Any) -> None:
    """Who keeps `request.state.session` instead of the session is told so, by each of its methods."""
    kept: list[Any] = []

    async def keep(call: Call) -> None:
        kept.append(call.scope["state"]["session"])
        await call.reply()

    browser = Browser(serve({"/keep": keep}, store=make()))
    await browser.get("/set?a=1")
    await browser.get("/keep")
    for method in ("get_session", "get_session_id", "save_session", "clear_session"):
        with pytest.raises(FasterSessionError, match="keep what get_session"):
            getattr(kept[0], method)()


@STORES
@in_loop
async def test_a_save_after_the_end_counts_on_no_record(make: Any) -> None:
    """Nobody runs any more, so nothing keeps the record from being evicted, and nothing is touched again."""
    kept: list[Any] = []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    app = serve({"/keep": keep}, store=make())
    browser = Browser(app)
    await browser.get("/set?a=1")
    await browser.get("/keep")
    session = kept.pop()
    session.idle_timeout = 60
    await session.save()
    assert app._engine.runs.requests == set()
    record = state_of(session).record
    assert record is not None
    assert record.requests == 0
    assert record.idle_timeout == 60
