"""Raw ASGI applications that serve the framework contract: version 3, and version 2 as a class and as a function.

Rules of residence: no framework and no middleware.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from framework_contract import TOKENS, BrokenError


async def start(send: Any, status: int = 200, length: int | None = None) -> None:
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Any, text: str = "", *, more: bool = False) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": more})


async def reply(send: Any, text: str, status: int = 200) -> None:
    await start(send, status, len(text))
    await body(send, text)


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """/chat, /endless and /break: the tokens of the path, until the client leaves."""
    session, path = scope["session"], scope["path"]
    session["question"] = parse_qs(scope["query_string"].decode())["q"][0]
    await start(send)
    session["answer"] = ""
    await receive()
    gone = asyncio.ensure_future(receive())
    try:
        for token in TOKENS if path != "/endless" else iter(lambda: "tick ", None):
            if gone.done():
                return
            session["answer"] += token
            await body(send, token, more=True)
            if path == "/break":
                raise BrokenError
            await asyncio.sleep(0)
        await body(send)
    finally:
        gone.cancel()


async def app3(scope: Any, receive: Any, send: Any) -> None:
    """Serve the contract's routes."""
    if scope["type"] == "lifespan":
        return await idle(receive, send)
    path, session = scope["path"], scope["session"]
    if path in ("/chat", "/endless", "/break"):
        return await stream(scope, receive, send)
    if path == "/plain":
        return await reply(send, "plain")
    if path in ("/fail", "/crash"):
        session["answer"] = "never to be seen"
        if path == "/crash":
            raise BrokenError
        return await reply(send, "failed", 500)
    if path == "/logout":
        session.invalidate()
    return await reply(send, json.dumps(session))


async def idle(receive: Any, send: Any) -> None:
    for event in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{event}"
        await send({"type": f"lifespan.{event}.complete"})


class App2:
    """The same as an ASGI 2 double callable."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await app3(self.scope, receive, send)


def app2(scope: Any) -> Callable[..., Any]:
    """Serve an ASGI 2 application that is a function returning a coroutine function."""

    async def instance(receive: Any, send: Any) -> None:
        await app3(scope, receive, send)

    return instance
