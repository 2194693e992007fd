"""Litestar: ours around the application or in its `middleware=[…]`, and its own verbs for the session."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from driver import App, Browser, in_loop
from framework_contract import CONTRACT, SECRET, TOKENS, BrokenError, content
from litestar import Litestar, MediaType, Request, Response, WebSocket, get, websocket
from litestar.middleware import DefineMiddleware
from litestar.response import ServerSentEvent, Stream

from fastersession import FasterSessionMiddleware, MemoryStore


async def answer(session: dict[str, Any], path: str) -> AsyncIterator[str]:
    session["answer"] = ""
    for token in itertools.repeat("tick ") if path == "/endless" else TOKENS:
        session["answer"] += token
        yield token
        if path == "/break":
            raise BrokenError
        await asyncio.sleep(0)


@get(["/chat", "/endless", "/break"])
async def chat(request: Request) -> Stream:
    request.session["question"] = request.query_params["q"]
    return Stream(answer(request.session, request.url.path))


@get("/fail")
async def fail(request: Request) -> Response[str]:
    request.session["answer"] = "never to be seen"
    return Response("failed", status_code=500, media_type=MediaType.TEXT)


@get("/crash", sync_to_thread=True)
def crash(request: Request) -> None:
    request.session["answer"] = "never to be seen"
    raise BrokenError


@get("/session")
async def show(request: Request) -> dict[str, Any]:
    return request.session


@get("/logout")
async def logout(request: Request) -> None:
    request.session.invalidate()


@get("/plain", media_type=MediaType.TEXT)
async def plain() -> str:
    return "plain"


@get("/replace")
async def replace(request: Request) -> Stream:
    """Give the session a new content, and go on writing into it in the generator."""
    request.set_session({"question": "replaced"})
    return Stream(answer(request.session, "/chat"))


@get("/clear")
async def clear(request: Request) -> None:
    request.clear_session()


@get("/events")
async def events(request: Request) -> ServerSentEvent:
    request.session["question"] = "events"
    return ServerSentEvent(answer(request.session, "/chat"))


@websocket("/ws")
async def talk(socket: WebSocket) -> None:
    socket.session["heard"] = ""
    await socket.accept()
    async for text in socket.iter_data():
        socket.session["heard"] += text
        await socket.send_text(socket.session["heard"])


ROUTES = [chat, fail, crash, show, logout, plain, replace, clear, events, talk]


def around() -> App:
    return FasterSessionMiddleware(
        Litestar(ROUTES, openapi_config=None, logging_config=None), secret_key=SECRET, secure=False
    )


def inside() -> App:
    """Litestar builds the middleware anew for every route: only a store that is given is one for all."""
    ours = DefineMiddleware(FasterSessionMiddleware, secret_key=SECRET, store=MemoryStore(), secure=False)
    return Litestar(ROUTES, middleware=[ours], openapi_config=None, logging_config=None)


placed = pytest.mark.parametrize("make", [around, inside])


@placed
@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@in_loop
async def test_the_contract(check: Any, make: Any) -> None:
    """Litestar: streams, breaks, failures and logouts leave the session as promised."""
    await check(make())


@placed
@in_loop
async def test_set_session_is_the_new_content(make: Any) -> None:
    """What `set_session` put there replaces the old content, and what the generator adds to it is saved."""
    browser = Browser(make())
    await browser.get("/chat?q=before")
    sid = browser.jar["sid"].value
    assert (await browser.get("/replace")).text == "one two three "
    assert await content(browser) == {"question": "replaced", "answer": "one two three "}
    assert browser.jar["sid"].value == sid


@placed
@in_loop
async def test_set_session_begins_a_session(make: Any) -> None:
    """`set_session` in the very first request creates the session, whose stream is kept."""
    browser = Browser(make())
    await browser.get("/replace")
    assert await content(browser) == {"question": "replaced", "answer": "one two three "}


@placed
@in_loop
async def test_clear_session_is_a_logout(make: Any) -> None:
    """`clear_session` deletes the session and takes the cookie back."""
    browser, thief = Browser(make()), Browser(make())
    await browser.get("/chat?q=before")
    thief.app, thief.jar = browser.app, browser.jar.copy()
    await browser.get("/clear")
    assert not browser.jar
    assert await content(thief) == {}


@placed
@in_loop
async def test_server_sent_events(make: Any) -> None:
    """An event stream of Litestar's own is kept like any other."""
    browser = Browser(make())
    assert (await browser.get("/events")).text.count("data: ") == len(TOKENS)
    assert await content(browser) == {"question": "events", "answer": "one two three "}


@placed
@in_loop
async def test_a_websocket_saves_at_its_close(make: Any) -> None:
    """What a socket wrote is there for the next HTTP request."""
    browser = Browser(make())
    async with browser.websocket("/ws") as socket:
        await socket.accepted()
        await socket.send("a")
        assert await socket.receive() == "a"
    assert await content(browser) == {"heard": "a"}
