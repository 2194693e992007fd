"""Starlette and FastAPI applications that serve the framework contract, in every idiom and placement.

Rules of residence: applications only; `APPS` names them. The middleware is ours, the rest is the frameworks' own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

from driver import App
from fastapi import FastAPI
from framework_contract import SECRET, TOKENS, BrokenError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from fastersession import FasterSessionMiddleware

OURS = Middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False)


class Meddler(BaseHTTPMiddleware):
    """What most applications have somewhere: it re-streams every answer in a task of its own."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        return await call_next(request)


def tokens(path: str) -> Iterator[str]:
    return itertools.repeat("tick ") if path == "/endless" else iter(TOKENS)


async def answer(session: dict[str, Any], path: str) -> AsyncIterator[str]:
    session["answer"] = ""
    for token in tokens(path):
        session["answer"] += token
        yield token
        if path == "/break":
            raise BrokenError
        await asyncio.sleep(0)


def sync_answer(session: dict[str, Any], path: str) -> Iterator[str]:
    session["answer"] = ""
    for token in tokens(path):
        session["answer"] += token
        yield token
        if path == "/break":
            raise BrokenError


def respond(request: Request, generator: Any) -> Response:
    request.session["question"] = request.query_params["q"]
    return StreamingResponse(generator(request.session, "/" + request.url.path.rpartition("/")[2]))


async def chat(request: Request) -> Response:
    return respond(request, answer)


async def chat_sync_generator(request: Request) -> Response:
    return respond(request, sync_answer)


def sync_chat(request: Request) -> Response:
    return respond(request, answer)


def sync_chat_sync_generator(request: Request) -> Response:
    return respond(request, sync_answer)


async def fail(request: Request) -> Response:
    request.session["answer"] = "never to be seen"
    return PlainTextResponse("failed", 500)


async def crash(request: Request) -> Response:
    request.session["answer"] = "never to be seen"
    raise BrokenError


async def show(request: Request) -> Response:
    return JSONResponse(request.session)


async def logout(request: Request) -> Response:
    request.session.invalidate()
    return Response()


async def plain(request: Request) -> Response:
    return PlainTextResponse("plain")


async def late(request: Request) -> Response:
    """Write to the session when the whole answer has been sent."""

    async def afterwards() -> None:
        request.session["late"] = "kept"

    request.session["early"] = "kept"
    return PlainTextResponse("sent", background=BackgroundTask(afterwards))


SHARED = {"/fail": fail, "/crash": crash, "/session": show, "/logout": logout, "/plain": plain, "/late": late}
STREAMS = ("/chat", "/endless", "/break")


def routes(stream: Any) -> list[Route]:
    return [Route(path, stream) for path in STREAMS] + [Route(path, endpoint) for path, endpoint in SHARED.items()]


def starlette(*middleware: Middleware) -> App:
    return Starlette(routes=routes(chat), middleware=list(middleware))


def mounted() -> App:
    """All of it in a sub-application, reached by its own paths behind the mount."""
    outer = Starlette(routes=[Mount("/sub", Starlette(routes=routes(chat)))], middleware=[OURS])

    async def prefixed(scope: Any, receive: Any, send: Any) -> None:
        await outer({**scope, "path": "/sub" + scope["path"]}, receive, send)

    return prefixed


def fastapi(stream: Any) -> App:
    app = FastAPI()
    for path in STREAMS:
        app.get(path)(stream)
    for path, endpoint in SHARED.items():
        app.get(path)(endpoint)
    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, secure=False)
    return app


APPS = {
    "starlette": lambda: starlette(OURS),
    "starlette-wrapped": lambda: FasterSessionMiddleware(starlette(), secret_key=SECRET, secure=False),
    "starlette-base-inside": lambda: starlette(OURS, Middleware(Meddler)),
    "starlette-base-outside": lambda: starlette(Middleware(Meddler), OURS),
    "starlette-base-both": lambda: starlette(Middleware(Meddler), OURS, Middleware(Meddler)),
    "starlette-mounted": mounted,
    "fastapi": lambda: fastapi(chat),
    "fastapi-sync-generator": lambda: fastapi(chat_sync_generator),
    "fastapi-sync-endpoint": lambda: fastapi(sync_chat),
    "fastapi-sync-both": lambda: fastapi(sync_chat_sync_generator),
}
