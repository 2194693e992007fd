"""``close_on_end`` in real frameworks (SECURITY U7): the generator of a streamed answer stops, its ``finally`` runs.

Frameworks hear of a client that has gone by ``receive()`` or by ``send()``. Both come from the middleware.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from accounts import BytesStore
from driver import Browser, in_loop, lifespan
from ending import until
from fastapi import FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import get as litestar_get
from litestar.response import Stream
from quart import Quart
from quart import Response as QuartResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from starlette_apps import Meddler

from fastersession import FasterSessionMiddleware, MemoryStore

SECRET = "a secret of the tests of frameworks that are cut off"


class Engine:
    """A model that says tokens without end, or one and then nothing, and knows whether it still works."""

    def __init__(self, *, is_silent: bool) -> None:
        self.is_silent = is_silent
        self.working = self.said = 0

    async def tokens(self) -> AsyncIterator[str]:
        self.working += 1
        try:
            while True:
                self.said += 1
                yield "tick "
                await (asyncio.Event().wait() if self.is_silent else asyncio.sleep(0.002))
        finally:
            self.working -= 1


Options = dict[str, Any]
Make = Callable[[Engine, Options], Any]


def starlette(engine: Engine, *middleware: Middleware) -> Starlette:
    async def login(request: Request) -> Response:
        request.scope["session"].login("ada")
        return PlainTextResponse("in")

    async def logout(request: Request) -> Response:
        request.scope["session"].logout()
        return PlainTextResponse("out")

    async def chat(request: Request) -> Response:
        return StreamingResponse(engine.tokens())

    async def work(request: Request) -> Response:
        engine.working += 1
        try:
            async with asyncio.timeout(20):
                while not await request.is_disconnected():
                    await asyncio.sleep(0.001)
        finally:
            engine.working -= 1
        return PlainTextResponse("secret")

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        engine.working += 1
        try:
            async for text in socket.iter_text():
                await socket.send_text(text)
        finally:
            engine.working -= 1

    async def push(socket: WebSocket) -> None:
        await socket.accept()
        try:
            async for token in engine.tokens():
                await socket.send_text(token)
        except WebSocketDisconnect:  # what Starlette makes of an OSError
            await asyncio.sleep(0)

    routes = [Route("/login", login), Route("/logout", logout), Route("/chat", chat), Route("/work", work)]
    sockets = [WebSocketRoute("/talk", talk), WebSocketRoute("/push", push)]
    return Starlette(routes=[*routes, *sockets], middleware=middleware)


def of_starlette(engine: Engine, options: Options) -> Any:
    return starlette(engine, Middleware(FasterSessionMiddleware, **options))


def inside_a_base_middleware(engine: Engine, options: Options) -> Any:
    return starlette(engine, Middleware(Meddler), Middleware(FasterSessionMiddleware, **options))


def around_a_base_middleware(engine: Engine, options: Options) -> Any:
    return starlette(engine, Middleware(FasterSessionMiddleware, **options), Middleware(Meddler))


def of_fastapi(engine: Engine, options: Options) -> Any:
    app = FastAPI()

    @app.get("/login")
    async def login(request: Request) -> None:
        request.session.login("ada")

    @app.get("/logout")
    async def logout(request: Request) -> None:
        request.session.logout()

    @app.get("/chat")
    async def chat() -> StreamingResponse:
        return StreamingResponse(engine.tokens())

    @app.get("/events", response_class=EventSourceResponse)
    async def events() -> AsyncIterator[ServerSentEvent]:
        async for token in engine.tokens():
            yield ServerSentEvent(data=token)

    app.add_middleware(FasterSessionMiddleware, **options)
    return app


def of_litestar(engine: Engine, options: Options) -> Any:
    @litestar_get("/login")
    async def login(request: LitestarRequest[Any, Any, Any]) -> str:
        request.scope["session"].login("ada")  # type: ignore[union-attr]
        return "in"

    @litestar_get("/logout")
    async def logout(request: LitestarRequest[Any, Any, Any]) -> str:
        request.scope["session"].logout()  # type: ignore[union-attr]
        return "out"

    @litestar_get("/chat")
    async def chat() -> Stream:
        return Stream(engine.tokens())

    return FasterSessionMiddleware(Litestar([login, logout, chat]), **options)


def of_quart(engine: Engine, options: Options) -> Any:
    from quart import request

    app = Quart(__name__)

    @app.get("/login")
    async def login() -> str:
        request.scope["session"].login("ada")
        return "in"

    @app.get("/logout")
    async def logout() -> str:
        request.scope["session"].logout()
        return "out"

    @app.get("/chat")
    async def chat() -> QuartResponse:
        response = QuartResponse(engine.tokens())
        response.timeout = None
        return response

    app.asgi_app = FasterSessionMiddleware(app.asgi_app, **options)  # type: ignore[method-assign]
    return app


MAKES = (of_starlette, inside_a_base_middleware, around_a_base_middleware, of_fastapi, of_litestar, of_quart)
EVERY = pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__)
STORES = pytest.mark.parametrize("store", [MemoryStore, BytesStore])


def options(store: Any) -> Options:
    return {"secret_key": SECRET, "store": store(), "secure": False, "close_on_end": True}


async def cut(make: Make, engine: Engine, store: Any, spec: str, path: str = "/chat") -> bool:
    """Stream, log out in another tab, wait for the generator, and return whether the client sees a broken transfer."""
    app = make(engine, options(store))
    async with lifespan(app):
        browser = Browser(app, spec=spec)
        assert (await browser.get("/login")).status == 200
        running = asyncio.ensure_future(browser.tab().get(path, catch=True))
        await until(lambda: engine.said)
        assert (await browser.tab().get("/logout")).status == 200
        found = is_incomplete(await running)
        del running  # the error's traceback holds the generator
        # In a server of spec 2.4 Starlette leaves its generator, and a cycle of its errors, to the collector.
        await until(lambda: not engine.working or (gc.collect() and not engine.working))
        return found


def is_incomplete(answer: Any) -> bool:
    """Return whether no client takes this for a complete answer: no last chunk, and an error for the server."""
    return answer.error is not None and all(
        message.get("more_body") for message in answer.messages if message["type"] == "http.response.body"
    )


@EVERY
@STORES
@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@in_loop
async def test_u7_a_generator_is_stopped(make: Make, store: Any, spec: str) -> None:
    """U7: the model stops in the middle of a sentence, and the client sees a broken transfer.

    But where a ``BaseHTTPMiddleware`` stands further out: it sends an end of its own. GUIDE tells to put it inside.
    """
    assert await cut(make, Engine(is_silent=False), store, spec) or make is inside_a_base_middleware


@EVERY
@in_loop
async def test_u7_a_generator_that_waits_is_cancelled(make: Make) -> None:
    """U7: it hears of the end although it has nothing to say, as servers have it (ASGI's HTTP spec 2.3)."""
    assert await cut(make, Engine(is_silent=True), MemoryStore, "2.3") or make is inside_a_base_middleware


@pytest.mark.parametrize("is_silent", [False, True])
@in_loop
async def test_u7_server_sent_events_of_fastapi_are_stopped(is_silent: bool) -> None:
    """U7: an endpoint that yields events, too."""
    assert await cut(of_fastapi, Engine(is_silent=is_silent), MemoryStore, "2.3", "/events")


@in_loop
async def test_u7_an_endpoint_that_asks_whether_the_client_is_there() -> None:
    """U7: ``is_disconnected()`` says no; its answer is replaced by a 401."""
    engine = Engine(is_silent=False)
    app = of_starlette(engine, options(MemoryStore))
    browser = Browser(app)
    await browser.get("/login")
    running = asyncio.ensure_future(browser.tab().get("/work", catch=True))
    await until(lambda: engine.working)
    await browser.get("/logout")
    answer = await running
    assert (answer.status, answer.error, engine.working) == (401, None, 0)
    assert b"secret" not in answer.body


@pytest.mark.parametrize("path", ["/talk", "/push"])
@in_loop
async def test_u7_a_socket_of_starlette(path: str) -> None:
    """U7: one that reads leaves its loop, one that sends gets an error; its peer is told by 4401."""
    engine = Engine(is_silent=False)
    browser = Browser(of_starlette(engine, options(MemoryStore)))
    await browser.get("/login")
    async with browser.tab().websocket(path) as socket:
        await socket.accepted()
        await until(lambda: engine.working)
        await browser.get("/logout")
        answer = await socket.ended()
    assert (answer.messages[-1]["code"], answer.messages[-1]["reason"]) == (4401, "invalidated")
    assert (answer.error, engine.working) == (None, 0)
