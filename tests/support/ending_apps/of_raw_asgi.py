"""No framework: plain ASGI messages."""

from __future__ import annotations

from typing import Any

import anyio
from server_apps import Request, leave, show

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer


async def chat(request: Request) -> None:
    request.session["question"] = request.query["q"]
    async with anyio.create_task_group() as group:
        group.start_soon(leave, request, group.cancel_scope)
        await request.start(b"text/plain")
        async for token in answer(request.session, request.query["how"]):
            await request.body(token.encode(), more=True)
        await request.body(b"")
        group.cancel_scope.cancel()


ROUTES = {"/chat": chat, "/session": show}


async def socket(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await receive()
    scope["session"]["question"] = "?"
    await send({"type": "websocket.accept"})
    scope["session"]["answer"] = "never kept"
    await send({"type": "websocket.close", "code": 1000})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        return await socket(scope, receive, send)
    assert scope["type"] == "http"  # as most plain applications, it knows no lifespan
    await ROUTES[scope["path"]](Request(scope, receive, send))
    return None


def make(store: Any) -> Any:
    return FasterSessionMiddleware(app, store=store, **OPTIONS)
