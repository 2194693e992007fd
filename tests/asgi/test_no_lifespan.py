"""Where lifespan is missing, in the application or in the server, streams are saved at a shutdown all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from driver import Browser, Connection, in_loop, lifespan
from routes import SECRET, Call, content, events, serve, tab
from stores import SuspendingStore

from fastersession import FasterSessionMiddleware, MemoryStore, StoreError


async def hold_on(call: Call) -> None:
    """Say one token, and keep it."""
    await call.start()
    call.session["answer"] = "token"
    await call.chunk()
    await asyncio.Event().wait()


async def look_on(call: Call) -> None:
    """Have nothing to save."""
    await call.start()
    await call.chunk()
    await asyncio.Event().wait()


STREAM = {"/stream": hold_on, "/idle": look_on}


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """Do as Django does, and as plain applications that expect HTTP."""
    if scope["type"] != "http":
        raise ValueError("not lifespan")
    await serve(STREAM).app(scope, receive, send)


async def ignoring(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await serve(STREAM).app(scope, receive, send)


async def living(scope: Any, receive: Any, send: Any) -> None:
    """Know lifespan as servers promise it: both messages, each once."""
    await serve(STREAM).app(scope, receive, send)


def around(app: Any, store: Any) -> FasterSessionMiddleware:
    return FasterSessionMiddleware(app, secret_key=SECRET, secure=False, store=store)


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@pytest.mark.parametrize("app", [refusing, ignoring, living], ids=lambda app: app.__name__)
@in_loop
async def test_the_shutdown_is_heard_for_an_application_without_lifespan(app: Any, make: Any) -> None:
    """A server that runs the lifespan finds it answered, so a shutdown saves what streams hold."""
    browser = Browser(around(app, make()))
    await browser.get("/set?a=1")
    async with contextlib.AsyncExitStack() as stack:
        async with lifespan(browser.app):
            held = await stack.enter_async_context(browser.open("/stream"))
            await held.chunk()
        assert await content(tab(browser)) == {"a": "1", "answer": "token"}
        await held.cancel()


@in_loop
async def test_the_store_is_opened_and_closed_for_an_application_without_lifespan() -> None:
    """The store has a life of its own, whatever the application knows; a log record tells who lives it."""
    store = SuspendingStore()
    async with lifespan(around(refusing, store)):
        assert store.calls == ["open"]
    assert store.calls == ["open", "close"]


@pytest.mark.parametrize(("app", "why"), [(refusing, "ValueError"), (ignoring, "it returned")])
@in_loop
async def test_a_refusal_leaves_a_trace(app: Any, why: str, caplog: Any) -> None:
    """The error that is not raised any more is named in the log."""
    caplog.set_level("INFO")
    async with lifespan(around(app, MemoryStore())):
        pass
    (record,) = events(caplog, "lifespan.unknown")
    assert record.getMessage() == f"the application knows no lifespan: {why}"


@in_loop
async def test_a_startup_that_fails_still_fails() -> None:
    """An application that has asked for the message knows lifespan: its error is the server's to see."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("no model found")

    with pytest.raises(RuntimeError, match="no model"):
        await around(failing, MemoryStore())({"type": "lifespan"}, arriving("lifespan.startup"), arriving)


def arriving(kind: str) -> Callable[[], Any]:
    async def receive() -> dict[str, str]:
        return {"type": kind}

    return receive


@contextlib.asynccontextmanager
async def two_streams_and_an_idle_one(app: Any) -> AsyncIterator[tuple[Connection, list[Browser]]]:
    """Let two streams hold something unsaved; gives the idle one, and who looks into the sessions of the others."""
    async with contextlib.AsyncExitStack() as stack:
        witnesses = []
        for _ in range(2):
            browser = Browser(app)
            await browser.get("/set?a=1")
            held = await stack.enter_async_context(browser.open("/stream"))
            stack.push_async_callback(held.cancel)
            await held.chunk()
            witnesses.append(tab(browser))
        idle = await stack.enter_async_context(Browser(app).open("/idle"))
        await idle.chunk()
        yield idle, witnesses


@in_loop
async def test_no_cancelled_request_ends_before_all_streams_are_saved() -> None:
    """A server without lifespan cancels all and ends with the first that has ended: by then all must be saved."""
    async with two_streams_and_an_idle_one(serve(STREAM, store=SuspendingStore())) as (idle, witnesses):
        await idle.cancel()
        assert [await content(witness) for witness in witnesses] == [{"a": "1", "answer": "token"}] * 2


@in_loop
async def test_a_server_with_lifespan_is_waited_for() -> None:
    """Where a shutdown is told, a cancelled request is just that: it saves nothing for others."""
    store = SuspendingStore()
    app = serve(STREAM, store=store)
    async with lifespan(app), two_streams_and_an_idle_one(app) as (idle, _):
        store.calls.clear()
        await idle.cancel()
        assert store.calls == []


@in_loop
async def test_a_store_that_cannot_be_opened_is_told_in_the_protocols_words() -> None:
    """Once, and nothing that the application says after it: servers take an exception for no lifespan at all."""
    store, sent = SuspendingStore(), []
    store.fail("open")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(StoreError):
            await receive()
        await send({"type": "lifespan.startup.complete"})

    async def send(message: Any) -> None:
        sent.append(message)

    await around(app, store)({"type": "lifespan"}, arriving("lifespan.startup"), send)
    why = "StoreError: the store could not be opened or closed: InjectedError"
    assert sent == [{"type": "lifespan.startup.failed", "message": why}]
