"""Who is logged in, and where: a user of the demo, his devices, and how he logs them out.

Rules of residence: routes and what they answer about the user. There is no password: whoever says a name is that user.
"""

from __future__ import annotations

import time
from typing import Any

from fastersession.demo import wire
from fastersession.demo.wire import Receive, Scope, Send

MAX_NAME = 64  # characters, as the page counts them
MAX_DEVICE = 256  # what ``login()`` takes as a label


async def login(scope: Scope, receive: Receive, send: Send) -> None:
    """Log in whoever gives a name. A guest keeps his conversation, another user's is not his."""
    given = await wire.read_json(scope, receive)
    name, device = (_words(given.get(key), key, most) for key, most in (("name", MAX_NAME), ("device", MAX_DEVICE)))
    session = scope["session"]
    session.login(name, keep=tuple(session) if session.user is None else (), label=device)
    await wire.reply_json(send, 200, {})


async def logout(scope: Scope, receive: Receive, send: Send) -> None:
    """Log this browser out."""
    await wire.read_json(scope, receive)
    scope["session"].logout()
    await wire.reply_json(send, 200, {})


async def logout_device(scope: Scope, receive: Receive, send: Send) -> None:
    """Log one of the user's devices out, by the public id of its session."""
    device = (await wire.read_json(scope, receive)).get("id")
    if not await _sessions(scope).revoke(device, user=_user(scope)):
        raise wire.RefusedError(404, "This device was logged out already.")
    await wire.reply_json(send, 200, {})


async def logout_everywhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Log all devices of the user out, this one too, whose cookie is cleared."""
    await wire.read_json(scope, receive)
    await _sessions(scope).revoke_user(_user(scope))
    await wire.reply_json(send, 200, {})


def begin_anew(session: Any) -> None:
    """End the session, and begin an empty one for the same user: nothing of before reaches it."""
    user, label, at = session.user, session.label, session.authenticated_at
    session.invalidate()
    if user is not None:
        session.login(user, label=label, authenticated_at=at)  # he has not said his name anew


async def told(scope: Scope) -> dict[str, Any]:
    """Return what the page shows of the user: his name and his devices."""
    session, now = scope["session"], time.time()
    if session.user is None:
        return {"user": None, "devices": []}
    devices = [
        {
            "id": each.id,
            "label": each.label,
            "here": each.id == session.id,
            "age": max(now - each.authenticated_at.timestamp(), 0.0),
        }
        for each in await _sessions(scope).of(session.user)
    ]
    return {"user": session.user, "devices": devices}


def _sessions(scope: Scope) -> Any:
    return scope["state"]["session"].sessions


def _user(scope: Scope) -> str:
    user: str | None = scope["session"].user
    if user is None:
        raise wire.RefusedError(401, "Nobody is logged in here.")
    return user


def _words(value: object, key: str, most: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise wire.RefusedError(400, f"The {key} is empty.")
    if len(value.strip()) > most:
        raise wire.RefusedError(413, f"The {key} is longer than {most} characters.")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can carry
        raise wire.RefusedError(400, f"The {key} is no text.") from None
    return value.strip()
