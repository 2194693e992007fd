"""Cancelled in the middle of a save: by a server, twice, by anyio's scopes, by Starlette when the client leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from driver import Browser, in_loop
from routes import Call, content, events, serve
from starlette.requests import Request
from starlette.responses import StreamingResponse
from stores import SuspendingStore, shorten

from fastersession import FasterSessionMiddleware, SessionNotEstablished


@pytest.mark.parametrize("times", [1, 2, 5])
@in_loop
async def test_a_save_in_flight_survives_cancellation(times: int) -> None:
    """Cancelled in the middle of its final save, once or repeatedly, the request ends cancelled and saved."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    gate = store.hold("update")
    async with browser.open("/act") as held:
        await gate.reached.wait()
        assert held.task is not None
        for _ in range(times):
            held.task.cancel()
            await asyncio.sleep(0)
        assert not held.task.done()
        gate.open.set()
        answer = await held.ended()
    assert isinstance(answer.error, asyncio.CancelledError)
    assert await content(browser) == {"a": "1", "b": 2}


@pytest.mark.parametrize("times", [1, 2, 3])
@in_loop
async def test_a_record_whose_cookie_never_left_is_deleted_under_cancellation_too(times: int) -> None:
    """If no start comes because the request was cancelled, once or repeatedly, its early record is deleted."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.session.save()
        saved.set()
        await asyncio.Event().wait()

    store, saved = SuspendingStore(), asyncio.Event()
    async with Browser(serve({"/act": do}, store=store)).open("/act") as held:
        await saved.wait()
        await held.cancel(times)
    assert len(store) == 0


@in_loop
async def test_a_save_that_fails_under_cancellation_is_logged(caplog: Any, monkeypatch: Any) -> None:
    """A shutdown that cancels a stream does not hide that its session could not be saved."""
    shorten(monkeypatch, FLUSH_PAUSES=(0, 0, 0))
    store, held_at = SuspendingStore(), asyncio.Event()

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        held_at.set()
        await asyncio.Event().wait()

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    store.fail("update", times=20)
    async with browser.open("/act") as held:
        await held_at.wait()
        gate = store.hold("update")
        assert held.task is not None
        held.task.cancel()
        await gate.reached.wait()
        held.task.cancel()
        gate.open.set()
        await held.ended()
    assert [record.levelname for record in events(caplog, "session.save_failed")] == ["ERROR"]


@in_loop
async def test_a_cancel_scope_around_save_waits_for_the_save() -> None:
    """Scopes of anyio cancel again and again; the save is done when the scope is left."""

    async def do(call: Call) -> None:
        await call.start()
        gate = store.hold("update")
        call.session["b"] = 2
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(release, gate, scope)
                await call.session.save()
        assert (await content(other))["b"] == 2
        await call.finish()

    async def release(gate: Any, scope: anyio.CancelScope) -> None:
        await gate.reached.wait()
        scope.cancel()
        gate.open.set()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    other = Browser(browser.app)
    other.jar = browser.jar.copy()
    await browser.get("/act")


@in_loop
async def test_a_starlette_stream_that_the_client_leaves_is_saved() -> None:
    """Starlette cancels the scope of its stream at a disconnect; what the generator wrote is kept."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        session.setdefault("answer", "")

        async def tokens() -> Any:
            try:
                while True:
                    session["answer"] += "tick "
                    yield "tick "
                    await asyncio.sleep(0)
            finally:
                session["closed"] = True

        reading = Request(scope).url.path == "/read"
        response = StreamingResponse(iter([repr(dict(session))]) if reading else tokens())
        await response(scope, receive, send)

    store = SuspendingStore()
    secret = "a secret of the suspending store tests only"
    browser = Browser(FasterSessionMiddleware(app, secret_key=secret, secure=False, store=store))
    await browser.leave("/", after=3)
    assert "tick tick tick " in (await browser.get("/read")).text
    assert "'closed': True" in (await browser.get("/read")).text


@in_loop
async def test_a_record_whose_start_was_given_up_is_deleted_if_no_other_comes() -> None:
    """An application that bounds its start in time, and then returns without one, leaves no record."""

    async def do(call: Call) -> None:
        call.session.establish()
        start = asyncio.ensure_future(call.start())
        await gate.reached.wait()
        start.cancel()
        gate.open.set()
        await asyncio.wait((start,))
        assert start.cancelled()
        assert len(store) == 1

    store = SuspendingStore()
    gate = store.hold("create")
    await Browser(serve({"/act": do}, store=store)).get("/act")
    assert len(store) == 0


@pytest.mark.parametrize("how", ["save", "last chunk"])
@in_loop
async def test_what_nobody_heard_is_told_again(how: str) -> None:
    """An attribute that no cookie can lead to is told of at the end if the save that said so was cancelled."""

    async def do(call: Call) -> None:
        await call.start()
        dict.__setitem__(call.session, "answer", 1)  # goes around the check, as code in C may
        assert call.session.get("answer") == 1
        saving = asyncio.ensure_future(call.session.save() if how == "save" else call.finish())
        await asyncio.sleep(0)
        saving.cancel()
        await asyncio.wait([saving])
        assert saving.cancelled()

    browser = Browser(serve({"/act": do}, store=SuspendingStore()))
    answer = await browser.get("/act", catch=True)
    assert isinstance(answer.error, SessionNotEstablished)


@in_loop
async def test_what_was_heard_is_not_told_again() -> None:
    """An application that has caught the refusal ends well."""

    async def do(call: Call) -> None:
        await call.start()
        dict.__setitem__(call.session, "answer", 1)
        with pytest.raises(SessionNotEstablished):
            await call.session.save()
        await call.finish()

    assert (await Browser(serve({"/act": do}, store=SuspendingStore())).get("/act")).error is None
