"""Quart's session before the start, after it and after the end: its flags are there whenever somebody asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from driver import Browser, in_loop
from framework_contract import SECRET
from quart import Quart, request, session, stream_with_context, websocket
from stores import SuspendingStore

from fastersession import FasterSessionMiddleware, MemoryStore, SessionNotEstablished
from fastersession.integrations.quart import FasterSessionInterface

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
FLAGS = ("new", "accessed", "modified", "permanent")


def flags(own: Any) -> tuple[bool, ...]:
    """Read and write them all, as code for Flask does."""
    before = tuple(getattr(own, name) for name in FLAGS)
    own.accessed = own.modified = own.permanent = True
    assert tuple(getattr(own, name) for name in FLAGS) == before
    return before


def make_app(seen: list[Any], store: Any) -> Quart:
    app = Quart(__name__)

    @app.get("/write")
    async def write() -> str:
        session["a"] = 1
        return ""

    @app.get("/stream")
    async def stream() -> Any:
        @stream_with_context
        async def body() -> AsyncIterator[bytes]:
            yield b"the start has left"
            own = session._get_current_object()
            seen.append((own, flags(session)))
            if not own:
                with pytest.raises(SessionNotEstablished, match="'late'"):
                    session["late"] = 1

        seen.append(flags(session))
        return body()

    @app.websocket("/ws")
    async def chat() -> None:
        await websocket.accept()
        seen.append((session._get_current_object(), flags(session)))

    app.session_interface = FasterSessionInterface()
    app.asgi_app = FasterSessionMiddleware(  # type: ignore[method-assign]
        app.asgi_app, secret_key=SECRET, secure=False, store=store
    )
    return app


@STORES
@pytest.mark.parametrize("new", [True, False], ids=["anonymous", "loaded"])
@in_loop
async def test_the_flags_are_there_in_the_stream_and_after_the_end(new: bool, make: Any) -> None:
    """The flags answer alike before the start, after it and when the request is over."""
    seen: list[Any] = []
    browser = Browser(make_app(seen, make()))
    if not new:
        await browser.get("/write")
    await browser.get("/stream")
    before, (own, after) = seen
    assert before == after == flags(own) == (new, False, False, False)
    assert dict(own) == ({} if new else {"a": 1})


@STORES
@in_loop
async def test_the_flags_are_there_after_a_late_write(make: Any) -> None:
    """A session that has been written to after the end answers as before, and save() still saves it."""
    seen: list[Any] = []
    browser = Browser(make_app(seen, make()))
    await browser.get("/write")
    await browser.get("/stream")
    own = seen.pop()[0]
    own["late"] = 1
    assert flags(own) == (False, False, False, False)
    await own.save()
    assert flags(own) == (False, False, False, False)
    await browser.get("/stream")
    assert dict(seen.pop()[0]) == {"a": 1, "late": 1}


@STORES
@pytest.mark.parametrize("new", [True, False], ids=["anonymous", "loaded"])
@in_loop
async def test_what_quart_notes_is_no_access(new: bool, make: Any) -> None:
    """Quart 0.23 assigns `accessed` after every request: the answer to one that left the session alone has no Vary."""
    app = make_app([], make())

    @app.get("/plain")
    async def plain() -> str:
        request.scope["session"].accessed = True
        return ""

    browser = Browser(app)
    if not new:
        await browser.get("/write")
    answer = await browser.get("/plain")
    assert (answer.status, answer.header("vary"), answer.header("set-cookie")) == (200, None, None)


@STORES
@in_loop
async def test_the_flags_are_there_on_a_websocket(make: Any) -> None:
    """A WebSocket whose accept has carried no cookie has them too, and so it has when it is closed."""
    seen: list[Any] = []
    browser = Browser(make_app(seen, make()))
    async with browser.websocket("/ws") as socket:
        await socket.ended()
    assert socket.answer.error is None
    own, inside = seen.pop()
    assert inside == flags(own) == (True, False, False, False)
