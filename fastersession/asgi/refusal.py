"""What a client gets where the application's answer cannot be given: 503, 409, and their nearest on a WebSocket.

Rules of residence: whole answers of ours, and the ends of ``send`` for what is not to leave. No session.
"""

from __future__ import annotations

import sys
from typing import Any

from ..errors import Busy, FasterSessionError, Gone, KeyReused, LoginRefused, StoreError
from .messages import Message, Send

ANSWERS_GO_ON = "daphne.server" in sys.modules  # alone of all servers it does not end an answer where its call ends
OF_CONVERSATIONS = (Busy, Gone, KeyReused)
ANSWERED = (StoreError, LoginRefused, *OF_CONVERSATIONS)  # what the client is told of, before the answer has begun
RETRY_AFTER = b"5"  # seconds: about what a store needs to come back
UNAUTHORIZED = (
    4401  # the WebSocket close code that graphql-ws has made usual; RFC 6455 (7.4.2) leaves 4000 to 4999 free
)
POLICY_VIOLATION = 1008  # of RFC 6455 (7.4.1), for what no other code says
TRY_AGAIN_LATER = 1013  # the WebSocket close code registered for it
INTERNAL_ERROR = 1011  # the one of RFC 6455 (7.4.1) for a server that met an unexpected condition


WORDS = {
    Busy: b"Busy: the conversation has a run already, or too many run\n",
    Gone: b"Gone: the conversation was deleted, or its session has ended\n",
    KeyReused: b"Conflict: this key has come before with another value\n",
}


async def refuse_service(scope: Any, receive: Any, send: Send) -> None:
    """Answer a request whose session cannot be loaded: 503 and Retry-After, or a WebSocket's nearest to it."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes first
    await send_unavailable(scope, send)


async def send_unavailable(scope: Any, send: Send) -> None:
    """Send that answer; a WebSocket's connect has been received."""
    body = b"Service Unavailable: sessions cannot be reached\n"
    await send_whole(scope, send, 503, body, TRY_AGAIN_LATER, (b"retry-after", RETRY_AFTER))


async def send_failure(scope: Any, send: Send, error: FasterSessionError) -> None:
    """Answer what could not be done: 409 where a login was refused, a conversation's own status, else 503."""
    if isinstance(error, LoginRefused):
        await send_whole(scope, send, 409, b"Conflict: the login was refused\n", POLICY_VIOLATION)
    elif isinstance(error, OF_CONVERSATIONS):
        await send_whole(scope, send, error.status, WORDS[type(error)], POLICY_VIOLATION)
    else:
        await send_unavailable(scope, send)


async def send_unauthorized(scope: Any, send: Send) -> None:
    """Answer a request whose session has ended before its answer has begun: 401, or a WebSocket's nearest to it.

    RFC 9110 (15.5.2) wants a ``WWW-Authenticate`` with it: no scheme is registered for cookies, and one that browsers
    know would have them ask for a password.
    """
    await send_whole(scope, send, 401, b"Unauthorized: the session has ended\n", UNAUTHORIZED)


async def send_whole(scope: Any, send: Send, status: int, body: bytes, code: int, *more: tuple[bytes, bytes]) -> None:
    """Send an answer of ours; where a handshake cannot be denied so, close the WebSocket with a code."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": code, "reason": ""})
            return
        kind = "websocket.http.response"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *more,
        (b"cache-control", b"no-store"),
    ]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


async def swallow(message: Message) -> None:
    """Take the messages of an application whose response was replaced."""


async def withhold(message: Message) -> None:
    """Take what an application sends after the end of its answer was withheld."""


async def ended(message: Message) -> None:
    """Take what tasks of an application still send after it has returned: servers close its answer there."""
