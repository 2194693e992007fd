"""The answers that stand for an application's: every byte of them, and on a WebSocket their nearest."""

from __future__ import annotations

from typing import Any

import pytest
from driver import in_loop

from fastersession.asgi.refusal import refuse_service, send_failure, send_unauthorized, send_unavailable
from fastersession.errors import LoginRefused

BODY = b"Service Unavailable: sessions cannot be reached\n"
HEADERS = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", b"48"),
    (b"retry-after", b"5"),
    (b"cache-control", b"no-store"),
]
CLOSE = [{"type": "websocket.close", "code": 1013, "reason": ""}]


def answer(kind: str) -> list[dict[str, Any]]:
    return [{"type": f"{kind}.start", "status": 503, "headers": HEADERS}, {"type": f"{kind}.body", "body": BODY}]


SCOPES = [
    ({"type": "http"}, answer("http.response")),
    ({"type": "websocket"}, CLOSE),
    ({"type": "websocket", "extensions": None}, CLOSE),
    ({"type": "websocket", "extensions": {"websocket.http.response": {}}}, answer("websocket.http.response")),
]


@pytest.mark.parametrize(("scope", "expected"), SCOPES)
@in_loop
async def test_what_cannot_be_served_is_answered_in_full(scope: Any, expected: Any) -> None:
    """A 503 that no cache keeps and that says when to come back; a WebSocket that takes no answer is closed."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_unavailable(scope, send)
    assert sent == expected


@pytest.mark.parametrize(("scope", "expected"), SCOPES)
@in_loop
async def test_a_websocket_is_refused_after_its_connect(scope: Any, expected: Any) -> None:
    """The protocol begins with that message; of an HTTP request nothing is read."""
    order: list[Any] = []

    async def receive() -> Any:
        order.append("received")

    async def send(message: Any) -> None:
        order.append(message)

    await refuse_service(scope, receive, send)
    assert order == ["received"] * (scope["type"] == "websocket") + expected


@in_loop
async def test_a_refused_login_and_an_ended_session_have_their_own_words() -> None:
    """409 and 401: what the client asked for conflicts, or it is nobody any more."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await send_failure({"type": "http"}, send, LoginRefused("why"))
    await send_unauthorized({"type": "http"}, send)
    assert [message["status"] for message in sent[::2]] == [409, 401]
    assert [message["body"] for message in sent[1::2]] == [
        b"Conflict: the login was refused\n", b"Unauthorized: the session has ended\n",
    ]  # fmt: skip
