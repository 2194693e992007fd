"""The ASGI messages that are save points.

Rules of residence: names and types of the protocol (ASGI 3, HTTP and WebSocket 2.5), and our own key in a scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

CONNECTION = "fastersession.connection"  # scope key: of a request whose answer may be detached
APPLIED = "fastersession.applied"  # scope key: (cookie name, scope key) of each of our middlewares further out
STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
FINALS = frozenset({
    "http.response.body", "http.response.pathsend", "http.response.trailers", "http.response.zerocopysend",
    "websocket.close", "websocket.http.response.body",
})  # fmt: skip
