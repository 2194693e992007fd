"""Raw ASGI, version 3 and the double callables of version 2: nothing between the protocol and the middleware."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from driver import App, Browser, in_loop, lifespan
from framework_contract import CONTRACT, SECRET, content
from raw_apps import App2, app2, app3, body, start
from server_stores import DistantStore

from fastersession import FasterSessionMiddleware, MemoryStore
from fastersession.errors import SessionNotEstablished


def wrap(app: Any, **options: Any) -> App:
    return FasterSessionMiddleware(app, secret_key=SECRET, secure=False, **options)


def distant() -> DistantStore:
    return DistantStore(MemoryStore(), 0.001)


stored = pytest.mark.parametrize("store", [MemoryStore, distant], ids=["memory", "distant"])


@stored
@pytest.mark.parametrize("app", [app3, App2, app2], ids=["asgi3", "asgi2-class", "asgi2-function"])
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@in_loop
async def test_the_contract(check: Any, app: Any, store: Any) -> None:
    """Raw ASGI of either version: streams, breaks, failures and logouts leave the session as promised."""
    await check(wrap(app, store=store()))


@pytest.mark.parametrize("app", [app3, App2], ids=["asgi3", "asgi2"])
@in_loop
async def test_lifespan_reaches_the_application(app: Any) -> None:
    """Startup and shutdown pass through, before, around and after requests."""
    wrapped = wrap(app)
    async with lifespan(wrapped):
        browser = Browser(wrapped)
        await browser.get("/chat?q=x")
        assert (await content(browser))["answer"] == "one two three "


@stored
@in_loop
async def test_shutdown_saves_the_streams_that_are_still_running(store: Any) -> None:
    """Lifespan shutdown drains: what a running stream wrote is saved before the app's own shutdown begins."""
    wrapped = wrap(app3, store=store())
    browser, witness = Browser(wrapped), Browser(wrapped)
    async with contextlib.AsyncExitStack() as stack:
        async with lifespan(wrapped):
            held = await stack.enter_async_context(browser.open("/endless?q=x", paced=True))
            assert [await held.chunk() for _ in range(2)] == [b"tick ", b"tick "]
            witness.jar = browser.jar.copy()
            assert "answer" not in await content(witness)
        assert (await content(witness))["answer"].startswith("tick tick ")


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_save_survives_repeated_cancellation_and_the_end_of_the_loop(times: int) -> None:
    """A shutdown that cancels again in the middle of the last save, then closes the loop, does not lose the save."""
    store, browser = DistantStore(MemoryStore(), 0.02), Browser(app3)

    async def interrupted() -> None:
        browser.app = wrap(app3, store=store)
        answer = await browser.cancel("/endless?q=x", after=3, times=times)
        assert isinstance(answer.error, asyncio.CancelledError)

    async def afterwards() -> str:
        browser.app = wrap(app3, store=store)
        return (await content(browser))["answer"]

    asyncio.run(interrupted())
    assert asyncio.run(afterwards()).startswith("tick tick tick ")


@stored
@in_loop
async def test_a_list_taken_before_the_start_is_saved_when_appended_to(store: Any) -> None:
    """`h = session["history"]` before the headers, `h.append(answer)` after them: the next request sees it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        history = scope["session"].setdefault("history", [])
        before = list(history)
        await start(send)
        history.append(len(before))
        await body(send, json.dumps(before))

    browser = Browser(wrap(app, store=store()))
    assert [(await browser.get("/")).json() for _ in range(3)] == [[], [0], [0, 1]]


@in_loop
async def test_a_first_write_after_the_headers_raises_with_the_remedy() -> None:
    """Without a cookie out, the write itself raises, names establish(), and establish() indeed helps."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/established":
            scope["session"].establish()
        await start(send)
        await body(send, "head ", more=True)
        scope["session"]["answer"] = "late"
        await body(send)

    browser = Browser(wrap(app))
    answer = await browser.get("/", catch=True)
    assert isinstance(answer.error, SessionNotEstablished)
    assert "establish()" in str(answer.error)
    assert not browser.jar
    await browser.get("/established")
    assert "sid" in browser.jar


@stored
@in_loop
async def test_a_websocket_saves_on_request_at_its_turns_and_at_its_close(store: Any) -> None:
    """The cookie comes with the accept. What save() has kept is there before the answer, the rest soon after it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await app3(scope, receive, send)
        session = scope["session"]
        session["heard"] = ""
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            session["heard"] += message["text"]
            if message["text"] == "!":
                await session.save()
            await send({"type": "websocket.send", "text": session["heard"]})
        session["heard"] += "."
        return None

    browser = Browser(wrap(app, store=store()))
    async with browser.websocket("/ws") as socket:
        assert [cookie.name for cookie in (await socket.accepted()).cookies] == ["sid"]
        for text, heard in (("a", "a"), ("b", "ab"), ("!", "ab!"), ("c", "ab!c")):
            await socket.send(text)
            await socket.receive()
            assert text != "!" or await content(browser) == {"heard": heard}
            while await content(browser) != {"heard": heard}:
                await asyncio.sleep(0)
    assert await content(browser) == {"heard": "ab!c."}


@stored
@in_loop
async def test_i1_interleaved_users_never_meet(store: Any) -> None:
    """I1: users interleaved at every await see only themselves, and nothing of theirs stays on the middleware."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session, name = scope["session"], scope["path"]
        await asyncio.sleep(0)
        session.setdefault("name", name)
        await start(send)
        session["count"] = session.get("count", 0) + 1
        await body(send, more=True)
        await asyncio.sleep(0)
        await body(send, f"{session['name']} {session['count']}")

    wrapped = wrap(app, store=store())
    before = set(vars(wrapped))

    async def visit(name: str) -> list[str]:
        browser = Browser(wrapped)
        return [(await browser.get(name)).text for _ in range(20)]

    names = [f"/{number}" for number in range(50)]
    answers = await asyncio.gather(*map(visit, names))
    assert answers == [[f"{name} {count}" for count in range(1, 21)] for name in names]
    assert set(vars(wrapped)) == before
