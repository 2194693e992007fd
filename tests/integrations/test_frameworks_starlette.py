"""Starlette and FastAPI: every way of writing an endpoint, and every place a middleware may stand in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from driver import Browser, in_loop, lifespan
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from framework_contract import CONTRACT, SECRET, TOKENS, content
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from starlette_apps import APPS, OURS, answer, mounted, show, starlette

from fastersession import FasterSessionMiddleware


@pytest.mark.parametrize("make", APPS.values(), ids=APPS.keys())
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@in_loop
async def test_the_contract(check: Any, make: Any) -> None:
    """Starlette and FastAPI: streams, breaks, failures and logouts leave the session as promised."""
    await check(make())


@pytest.mark.parametrize("make", APPS.values(), ids=APPS.keys())
@in_loop
async def test_a_background_task_writes_to_the_session(make: Any) -> None:
    """What a background task writes after the whole answer was sent is saved when the app call ends."""
    browser = Browser(make())
    assert (await browser.get("/late")).text == "sent"
    assert await content(browser) == {"early": "kept", "late": "kept"}


@in_loop
async def test_server_sent_events_of_fastapi() -> None:
    """An endpoint that yields events, under FastAPI's own EventSourceResponse, keeps its answer."""
    app = FastAPI()
    app.get("/session")(show)

    @app.get("/events", response_class=EventSourceResponse)
    async def events(request: Request) -> AsyncIterator[ServerSentEvent]:
        request.session.establish()
        async for token in answer(request.session, "/events"):
            yield ServerSentEvent(data=token)

    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False)
    browser = Browser(app)
    assert (await browser.get("/events")).text.count("data:") == len(TOKENS)
    assert await content(browser) == {"answer": "one two three "}


@in_loop
async def test_the_manager_of_the_ancestor_in_the_request_state() -> None:
    """`request.state.session` is the manager: same session, an id at once, synchronous save and clear."""
    app = FastAPI()
    app.get("/session")(show)

    @app.get("/manager")
    def manager(request: Request) -> dict[str, Any]:
        manager = request.state.session
        session = manager.get_session()
        session["seen"] = session.get("seen", 0) + 1
        manager.save_session()
        return {"id": manager.get_session_id(), "same": session is request.session, "true": bool(manager)}

    @app.get("/clear")
    async def clear(request: Request) -> None:
        request.state.session.clear_session()

    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False)
    browser = Browser(app, state={"own": "kept"})
    answers = [(await browser.get("/manager")).json() for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["same"] is answers[0]["true"] is True
    assert len(answers[0]["id"]) == 32
    assert await content(browser) == {"seen": 2}
    await browser.get("/clear")
    assert await content(browser) == {}
    assert not browser.jar


@in_loop
async def test_reading_the_session_of_starlette_creates_nothing() -> None:
    """Starlette calls `mark_accessed()` at every look: the answer varies by cookie, but no session comes of it."""
    browser = Browser(starlette(OURS))
    answer = await browser.get("/session")
    assert (answer.header("vary"), answer.all("set-cookie")) == (b"Cookie", [])


@in_loop
async def test_the_cookie_of_a_mounted_application_is_the_site_s() -> None:
    """W7: under a mount the cookie's path stays as configured."""
    browser = Browser(mounted())
    cookie = (await browser.get("/chat?q=x")).cookies[0]
    assert cookie.attributes["path"] == "/"


@in_loop
async def test_lifespan_of_the_framework_still_runs() -> None:
    """Starlette's lifespan runs under ours, and its state reaches the request beside the manager."""
    app = Starlette(routes=[Route("/session", show)], middleware=[OURS])
    async with lifespan(app, state := {"own": 1}):
        browser = Browser(app, state=state)
        assert await content(browser) == {}
    assert state == {"own": 1}


@in_loop
async def test_a_starlette_websocket_shares_the_session_with_http() -> None:
    """What a socket writes is there for the next HTTP request, and the other way round."""

    async def talk(socket: WebSocket) -> None:
        socket.session["heard"] = socket.session.get("heard", "")
        await socket.accept()
        async for text in socket.iter_text():
            socket.session["heard"] += text
            await socket.send_text(socket.session["heard"])

    browser = Browser(Starlette(routes=[WebSocketRoute("/ws", talk), Route("/session", show)], middleware=[OURS]))
    for heard in ("a", "aa"):
        async with browser.websocket("/ws") as socket:
            await socket.accepted()
            await socket.send("a")
            assert await socket.receive() == heard
        assert await content(browser) == {"heard": heard}
