"""HTTP over raw ASGI: reading a request, writing a response.

Rules of residence: ASGI messages, header bytes, and the checks of every request. No chat, no model, no session.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# A question, not a document. ASGI servers set no bound.
MAX_BODY = 64 * 1024
# Read on top before the refusal: a client that still writes when we close sees a reset connection, and no 413.
_DRAIN = 1024 * 1024

# Only our three files, no inline script, no frame around the page (CSP Level 3). Not ``no-referrer``: it turns the
# Origin of the page's own form posts into ``null``.
SECURITY_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class RefusedError(Exception):
    """The request is refused with this status and sentence."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


class ClientLeftError(Exception):
    """The client left before its request was complete."""


async def read_json(scope: Scope, receive: Receive) -> dict[str, Any]:
    """Return the JSON object of a request that changes something, or raise a `RefusedError`."""
    _require_own_page(scope)
    try:
        value = json.loads(await _read_body(receive))
    except (ValueError, RecursionError):
        raise RefusedError(400, "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise RefusedError(400, "The body is not a JSON object.")
    return value


def _require_own_page(scope: Scope) -> None:
    """Refuse other sites: a cross-site form can send neither this content type nor our origin."""
    content_type = _header(scope, b"content-type").partition(b";")[0].strip().lower()
    if content_type != b"application/json":
        raise RefusedError(415, "Send application/json.")
    origin = _header(scope, b"origin")
    if origin and origin.partition(b"://")[2].lower() != _header(scope, b"host").lower():
        raise RefusedError(403, "This request comes from another site.")


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key.lower() == name), b"")


async def _read_body(receive: Receive) -> bytes:
    body, size, more = bytearray(), 0, True
    while more and size <= _DRAIN:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError
        chunk = message.get("body", b"")
        size += len(chunk)
        body += chunk if size <= MAX_BODY else b""
        more = message.get("more_body", False)
    if size > MAX_BODY:
        raise RefusedError(413, f"The body is larger than {MAX_BODY // 1024} KiB.")
    return bytes(body)


def start(status: int, content_type: bytes, *headers: tuple[bytes, bytes]) -> Message:
    """Return the start message of a response, with the security headers."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), *SECURITY_HEADERS, *headers],
    }


async def reply(send: Send, status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response."""
    await send(start(status, content_type, (b"content-length", b"%d" % len(body)), *headers))
    await send({"type": "http.response.body", "body": body})


async def reply_json(send: Send, status: int, value: object, *headers: tuple[bytes, bytes]) -> None:
    """Send a JSON response that no cache keeps."""
    body = json.dumps(value).encode()
    await reply(send, status, b"application/json", body, (b"cache-control", b"no-store"), *headers)


def event(name: str, data: object) -> Message:
    """Return the body message of one server-sent event. JSON has no line break in its data line."""
    return {
        "type": "http.response.body",
        "body": f"event: {name}\ndata: {json.dumps(data)}\n\n".encode(),
        "more_body": True,
    }


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None], *stops: Awaitable[Any]) -> bool:
    """Do ``work`` until it ends, the client leaves, or a stop comes. Return whether the client is still there.

    No server cancels an application when the client leaves, and ``send`` does not fail. Only ``receive`` tells. Then
    the work is cancelled, and has ended when this returns.
    """
    tasks = [asyncio.ensure_future(each) for each in (work, _disconnect(receive), *stops)]
    working, leaving, *_ = tasks
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        left = leaving.done() and not working.done()
    finally:
        for task in tasks:
            task.cancel()
        outcome, *_ = await asyncio.gather(*tasks, return_exceptions=True)
    # From ASGI 2.4 on ``send`` may raise an OSError once the client has left; the model raises none.
    if left or isinstance(outcome, OSError):
        return False
    if isinstance(outcome, Exception):
        raise outcome
    return True


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
