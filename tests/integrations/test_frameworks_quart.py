"""Quart: `request.scope["session"]` as it is, and Quart's own `session` made ours by the integration."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from driver import App, Browser, in_loop, lifespan
from framework_contract import CONTRACT, SECRET, TOKENS, BrokenError, content
from quart import Quart, Response, jsonify, request, session, stream_with_context, websocket

from fastersession import FasterSessionMiddleware
from fastersession.errors import SessionNotEstablished
from fastersession.integrations.quart import FasterSessionInterface


async def answer(own: dict[str, Any], path: str) -> AsyncIterator[str]:
    own["answer"] = ""
    for token in itertools.repeat("tick ") if path == "/endless" else TOKENS:
        own["answer"] += token
        yield token
        if path == "/break":
            raise BrokenError
        await asyncio.sleep(0)


def make(current: Callable[[], Any]) -> Quart:
    """Serve the contract's routes; `current` finds the session of this request."""
    app = Quart(__name__)
    app.logger.disabled = True  # it logs BrokenError, as asked

    async def chat() -> AsyncIterator[str]:
        own = current()
        own["question"] = request.args["q"]
        return answer(own, request.path)

    for path in ("/chat", "/endless", "/break"):
        app.add_url_rule(path, path, chat)

    @app.get("/fail")
    async def fail() -> tuple[str, int]:
        current()["answer"] = "never to be seen"
        return "failed", 500

    @app.get("/crash")
    def crash() -> None:
        current()["answer"] = "never to be seen"
        raise BrokenError

    @app.get("/session")
    async def show() -> Response:
        return jsonify({**current()})

    @app.get("/logout")
    async def logout() -> str:
        current().invalidate()
        return ""

    @app.get("/plain")
    async def plain() -> str:
        return "plain"

    return app


def raw() -> Quart:
    """Without the integration: the session is in the scope. Quart's own stays unused, as it has no secret key."""
    app = make(lambda: request.scope["session"])
    app.asgi_app = FasterSessionMiddleware(app.asgi_app, secret_key=SECRET, secure=False)
    return app


def integrated() -> Quart:
    """With it: Quart's `session`, a proxy of its own, is ours."""
    app = make(session._get_current_object)
    app.session_interface = FasterSessionInterface()
    app.asgi_app = FasterSessionMiddleware(app.asgi_app, secret_key=SECRET, secure=False)
    return app


@pytest.mark.parametrize("app", [raw, integrated])
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@in_loop
async def test_the_contract(check: Any, app: Callable[[], App]) -> None:
    """Quart: streams, breaks, failures and logouts leave the session as promised."""
    await check(app())


@in_loop
async def test_quart_s_proxy_works_in_a_stream_with_context() -> None:
    """`session` itself, used in a generator that keeps the request context, is saved like any other."""
    app = integrated()

    @app.get("/proxy")
    async def proxy() -> Any:
        session["answer"] = ""

        @stream_with_context
        async def generate() -> AsyncIterator[str]:
            for token in TOKENS:
                session["answer"] += token
                yield token

        return generate()

    browser = Browser(app)
    assert (await browser.get("/proxy")).text == "one two three "
    assert await content(browser) == {"answer": "one two three "}


@in_loop
async def test_the_flags_of_flask_are_accepted() -> None:
    """Code written for Flask sets `permanent` and `modified` and reads `new`; none of it becomes data."""
    app = integrated()

    @app.get("/flags")
    async def flags() -> Response:
        new = session.new
        session.permanent = session.modified = True
        session["seen"] = 1
        return jsonify(new)

    browser = Browser(app)
    assert [(await browser.get("/flags")).json() for _ in range(2)] == [True, False]
    assert await content(browser) == {"seen": 1}
    assert list(browser.jar) == ["sid"]


@in_loop
async def test_quart_s_session_refuses_a_first_write_after_the_headers() -> None:
    """Also under the integration a write that could have no cookie raises instead of vanishing."""
    app, errors = integrated(), []

    @app.get("/late")
    async def late() -> AsyncIterator[str]:
        own = session._get_current_object()

        async def generate() -> AsyncIterator[str]:
            yield "head "
            try:
                own["answer"] = "late"
            except SessionNotEstablished as error:
                errors.append(error)

        return generate()

    browser = Browser(app)
    await browser.get("/late")
    assert len(errors) == 1
    assert not browser.jar


@in_loop
async def test_without_the_middleware_quart_has_no_session() -> None:
    """An excluded path gets Quart's null session: reading is empty, writing is Quart's own clear error."""
    app = make(session._get_current_object)
    app.session_interface = FasterSessionInterface()
    app.asgi_app = FasterSessionMiddleware(app.asgi_app, secret_key=SECRET, secure=False, exclude=["/session"])
    assert await content(Browser(app)) == {}


@in_loop
async def test_a_websocket_saves_at_its_close() -> None:
    """Quart's `session` in a WebSocket is ours too: the cookie comes with the accept, the close saves."""
    app = integrated()

    @app.websocket("/ws")
    async def talk() -> None:
        session["heard"] = session.get("heard", "")
        await websocket.accept()
        while True:
            session["heard"] += await websocket.receive()
            await websocket.send(session["heard"])

    browser = Browser(app)
    for heard in ("a", "aa"):
        async with browser.websocket("/ws") as socket:
            await socket.accepted()
            await socket.send("a")
            assert await socket.receive() == heard
        assert await content(browser) == {"heard": heard}


@in_loop
async def test_lifespan_reaches_quart() -> None:
    """Quart's own startup and shutdown hooks run under ours."""
    app, seen = integrated(), []
    app.before_serving(lambda: seen.append("up"))
    app.after_serving(lambda: seen.append("down"))
    async with lifespan(app):
        assert seen == ["up"]
    assert seen == ["up", "down"]
