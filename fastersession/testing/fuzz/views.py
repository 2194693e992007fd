"""The views of a scenario: what a request does in the application's place.

Rules of residence: functions of a session, which may be another middleware's plain dict, and ``send``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any


async def _answer(send: Callable[[Any], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


async def probe(session: Any, send: Any) -> None:
    """Answer, and leave the session alone."""
    await _answer(send)


async def write(data: dict[str, Any], session: Any, send: Any) -> None:
    """Write attributes."""
    session.update(data)
    await _answer(send)


async def login(user: str, session: Any, send: Any) -> None:
    """Log a user in, who keeps his canary."""
    with contextlib.suppress(AttributeError):  # not every middleware can
        session.login(user, keep=("canary",))
    await _answer(send)


async def regenerate(session: Any, send: Any) -> None:
    """Regenerate the session's secret."""
    with contextlib.suppress(AttributeError):  # not every middleware can
        session.regenerate_id()
    await _answer(send)


async def logout(session: Any, send: Any) -> None:
    """End the session."""
    getattr(session, "invalidate", session.clear)()
    await _answer(send)


async def respond(messages: Sequence[Any], session: Any, send: Any) -> None:
    """Send messages, and write between them to a session that is there."""
    for number, message in enumerate(messages):
        if session:
            session["message"] = number
        await send(message)
