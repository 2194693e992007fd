"""The order of messages that the ASGI spec allows in one call.

Rules of residence: pure functions of a list of messages (asgiref's specs/www.rst, version 2.5). Unknown
types are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..browser.answer import Message

BEFORE = ("http.response.debug", "http.response.early_hint", "http.response.push")
BODIES = ("http.response.body", "http.response.zerocopysend", "http.response.pathsend")


def illegal(messages: Sequence[Message]) -> str | None:
    """Return what is wrong with the messages that an application has sent, in order, or ``None``.

    A call that was cut off is legal as far as it went.
    """
    at = "begun"  # then: open (after a start), trailers (are due), accepted, denied, ended
    for message in messages:
        kind = message["type"]
        if not kind.startswith(("http.response.", "websocket.")) or kind in BEFORE:
            continue
        if kind == "http.response.start" and at == "begun" and message["status"] < 200:
            continue  # an interim response
        following = _after(at, kind, message)
        if following is None:
            return f"{kind} when the call was {at}"
        at = following
        fault = _bad_headers(message.get("headers") or ())
        if fault:
            return f"{kind} with {fault}"
    return None


def _after(at: str, kind: str, message: Message) -> str | None:
    """Return the state after a message, or ``None`` if the state does not allow it."""
    more = bool(message.get("more_body"))
    if at == "begun":
        starts = {
            "http.response.start": "trailers due" if message.get("trailers") else "open",
            "websocket.accept": "accepted",
            "websocket.close": "ended",
            "websocket.http.response.start": "denied",
        }
        return starts.get(kind)
    if at == "open" and kind in BODIES:
        return at if more else "ended"
    if at == "trailers due" and kind in BODIES:
        return at if more else "trailers"
    if at == "trailers" and kind == "http.response.trailers":
        return at if message.get("more_trailers") else "ended"
    if at == "accepted" and kind in ("websocket.send", "websocket.close"):
        return at if kind == "websocket.send" else "ended"
    if at == "denied" and kind == "websocket.http.response.body":
        return at if more else "ended"
    return None


def _bad_headers(headers: Iterable[Any]) -> str | None:
    for pair in headers:
        if len(pair) != 2 or not all(isinstance(part, bytes) for part in pair):
            return f"a header that is no pair of bytes: {pair!r}"
        if any(byte in part for part in pair for byte in b"\0\r\n"):
            return f"a header with a line break: {pair[0]!r}"
    return None
