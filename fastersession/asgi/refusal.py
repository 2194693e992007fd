"""What a client gets where the application's answer cannot be given: the 503s, and their nearest on a WebSocket.

Rules of residence: whole answers of ours, and the ends of ``send`` for what is not to leave. No session.
"""

from __future__ import annotations

import sys
from typing import Any

from .messages import Message, Send

ANSWERS_GO_ON = "daphne.server" in sys.modules  # alone of all servers it does not end an answer where its call ends
RETRY_AFTER = b"5"  # seconds: about what a store needs to come back
TRY_AGAIN_LATER = 1013  # the WebSocket close code registered for it
INTERNAL_ERROR = 1011  # the one of RFC 6455 (7.4.1) for a server that met an unexpected condition


async def refuse_service(scope: Any, receive: Any, send: Send) -> None:
    """Answer a request whose session cannot be loaded: 503 and Retry-After, or a WebSocket's nearest to it."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes first
    await send_unavailable(scope, send)


async def send_unavailable(scope: Any, send: Send) -> None:
    """Send that answer; a WebSocket's connect has been received."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": ""})
            return
        kind = "websocket.http.response"
    body = b"Service Unavailable: sessions cannot be reached\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", RETRY_AFTER),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


async def swallow(message: Message) -> None:
    """Take the messages of an application whose response was replaced."""


async def withhold(message: Message) -> None:
    """Take what an application sends after the end of its answer was withheld."""


async def ended(message: Message) -> None:
    """Take what tasks of an application still send after it has returned: servers close its answer there."""
