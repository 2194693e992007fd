"""What the server processes serve: one raw ASGI application.

Rules of residence: no framework, so that the server alone is under test; anyio for the one wait that asyncio and trio
must share. Configured by environment: STORE is the store's URL; or RECORD names a file for every save, DELAY keeps the
store that many seconds away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
from server_stores import DistantStore, RecordingStore

from fastersession import FasterSessionMiddleware, MemoryStore
from fastersession.stores import from_url

SECRET = "a secret of the server tests, and of nothing else"


class Request:
    """The little of a framework that the routes below share."""

    def __init__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.session = scope["session"]
        self.query = dict(parse_qsl(scope["query_string"].decode()))

    async def start(self, content_type: bytes, length: int | None = None, status: int = 200) -> None:
        headers = [(b"content-type", content_type)]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": more})

    async def json(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        await self.start(b"application/json", len(data), status)
        await self.body(data)


async def ready(request: Request) -> None:
    await request.json("ready")


async def show(request: Request) -> None:
    """All that the session holds."""
    await request.json(request.session)


async def chat(request: Request) -> None:
    """Stream n tokens (0: without end) and keep the answer, token by token, in the session."""
    total = int(request.query["n"])
    request.session["question"] = request.query["q"]
    async with anyio.create_task_group() as group:
        group.start_soon(leave, request, group.cancel_scope)
        await request.start(b"text/event-stream")
        request.session["answer"] = ""
        number = 0
        while number < total or not total:
            request.session["answer"] += f"{number} "
            await request.body(f"data: {number}\n\n".encode(), more=True)
            number += 1
            await anyio.sleep(0.005)
        await request.body(b"")
        group.cancel_scope.cancel()


async def leave(request: Request, scope: anyio.CancelScope) -> None:
    """End the stream when the client has gone, as every framework does."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def login(request: Request) -> None:
    request.session["name"] = request.query["name"]
    request.session["count"] = 0
    await request.json({"name": request.session["name"], "count": 0})


async def count(request: Request) -> None:
    """One step of the isolation soak: the name must be this user's own, the count its own next one."""
    request.session["count"] += 1
    await anyio.sleep(0)
    await request.json({"name": request.session["name"], "count": request.session["count"]})


async def talk(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Keep what a WebSocket says, and save when it says 'save'."""
    session = scope["session"]
    assert (await receive())["type"] == "websocket.connect"
    session["heard"] = []
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "save":
            await session.save()
        else:
            session["heard"] = [*session["heard"], message["text"]]
        await send({"type": "websocket.send", "text": f"done: {message['text']}"})


ROUTES = {"/ready": ready, "/session": show, "/chat": chat, "/login": login, "/count": count}


async def plain(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve the application without its middleware."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        assert message["type"] == "lifespan.shutdown"
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await talk(scope, receive, send)
    else:
        await ROUTES[scope["path"]](Request(scope, receive, send))


def store() -> Any:
    """Keep sessions as the environment says: at the URL STORE; written down if RECORD is set, late if DELAY is."""
    if "STORE" in os.environ:
        return from_url(os.environ["STORE"])
    near = RecordingStore(Path(os.environ["RECORD"])) if "RECORD" in os.environ else MemoryStore()
    return DistantStore(near, float(os.environ["DELAY"])) if "DELAY" in os.environ else near


app = FasterSessionMiddleware(plain, secret_key=SECRET, store=store(), secure=False, seal=False)


def of_a_worker(routes: Mapping[str, Callable[[Request], Awaitable[None]]]) -> Any:
    """Return an application of these handlers by path. Each answer names its worker."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        async def signed(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"worker", b"%d" % os.getpid())]
            await send(message)

        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
        else:
            await routes[scope["path"]](Request(scope, receive, signed))

    return app
