"""What is raised on a WebSocket speaks of the WebSocket: the place is before accept(), not before a stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from apps import ask, wrap
from driver import in_loop
from stores import SuspendingStore

from fastersession import HeadersSent, MemoryStore, Session, SessionNotEstablished
from fastersession.testing import Browser

Act = Callable[[Session], Any]


async def saved_around(session: Session) -> None:
    """Write past the session's methods, which then refuses it at the save."""
    dict.__setitem__(session, "late", 1)
    await session.save()


async def after_logout(session: Session) -> None:
    session.invalidate()
    session["late"] = 1


TOO_LATE: dict[str, tuple[type[Exception], Act]] = {
    "write": (SessionNotEstablished, lambda session: session.update(late=1)),
    "setdefault": (SessionNotEstablished, lambda session: session.setdefault("late", [])),
    "save": (SessionNotEstablished, saved_around),
    "after a logout": (SessionNotEstablished, after_logout),
    "establish": (HeadersSent, lambda session: session.establish()),
    "regenerate_id": (HeadersSent, lambda session: session.regenerate_id()),
}


def socket_app(act: Act, caught: list[Exception]) -> Any:
    """Accept, then act; over http: start a stream, then act."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            done = act(scope["session"])
            if hasattr(done, "send"):
                await done
        except (SessionNotEstablished, HeadersSent) as error:
            caught.append(error)
            dict.clear(scope["session"])
        if scope["type"] == "http":
            await send({"type": "http.response.body"})

    return app


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@pytest.mark.parametrize(("kind", "act"), TOO_LATE.values(), ids=TOO_LATE)
@in_loop
async def test_what_comes_too_late_names_the_accept(make: Any, kind: type[Exception], act: Act) -> None:
    """The remedy of a first write, or of a verb that needs a cookie, is before accept(); over http it is not."""
    caught: list[Exception] = []
    app = wrap(socket_app(act, caught), store=make())
    async with Browser(app, scheme="ws").websocket("/") as socket:
        await socket.ended()
    await ask(app)
    assert [type(error) for error in caught] == [kind, kind]
    assert "before accept()" in str(caught[0])
    assert "accept()" not in str(caught[1])
    assert "start" in str(caught[1])
