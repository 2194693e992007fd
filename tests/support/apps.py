"""Small applications and a bare caller for the tests of tokens, cookies, headers and sockets.

Rules of residence: helpers that several test files share; no test, no wait, no server. `Browser` of driver.py plays a
whole browser; `ask` here makes one call with exactly the given bytes, cheap enough for ten thousand of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

from driver import Socket
from stores import LiveSpy

from fastersession import FasterSessionMiddleware, MemoryStore
from fastersession.testing import Answer, Headers

SECRET = "a secret of the security tests, and of nothing else"
OTHER = "another secret of the security tests, never the first"


class Clock:
    """A clock that stands until it is told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _spied(verb: str) -> Callable[..., Any]:
    genuine = getattr(MemoryStore, verb)

    async def spied(self: SpyStore, *args: Any, **kwargs: Any) -> Any:
        self.note(verb)
        return await genuine(self, *args, **kwargs)

    return spied


class SpyStore(MemoryStore):
    """A MemoryStore that notes each call, and fails in the verbs named in ``broken``.

    Without ``live`` it is a store of coroutines: saves in tasks of their own, bounded and tried again.
    """

    def __init__(self, *, live: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.spied = LiveSpy(self._table, self.note) if live else None

    @property
    def live(self) -> Any:
        return self.spied

    def note(self, verb: str, *_: Any) -> None:
        self.calls.append(verb)
        if verb in self.broken:
            raise ConnectionError("the store is down")

    load = _spied("load")
    create = _spied("create")
    update = _spied("update")
    touch = _spied("touch")
    delete = _spied("delete")
    regenerate = _spied("regenerate")


def wrap(app: Any, **options: Any) -> FasterSessionMiddleware:
    """Wrap with the tests' secret, for plain http unless told otherwise."""
    return FasterSessionMiddleware(app, **{"secret_key": SECRET, "secure": False, **options})


def page(act: Callable[[Any], Any] | None = None, *, status: int = 200, headers: Any = (), length: bool = True) -> Any:
    """Make an app that answers each request with what ``act(session)`` returns, as JSON; None touches nothing.

    ``headers`` are sent as given, to a tuple or list a content-length is added unless ``length`` is false.
    """

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b"untouched" if act is None else json.dumps(act(scope["session"]), default=str).encode()
        given = headers
        if length and isinstance(given, list | tuple):
            given = [*given, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": given})
        await send({"type": "http.response.body", "body": body})

    return app


def _route(path: str, session: Any, query: dict[str, str]) -> str | None:
    """Do what the path says; "" if the session shall not be looked at."""
    if path == "/plain":
        return None
    if path == "/write":
        session.update(query)
    elif path == "/login":
        session.regenerate_id()
        session.update(query)
    elif path == "/logout":
        session.invalidate()
    elif path == "/establish":
        session.establish()
    return json.dumps(session)


async def site(scope: Any, receive: Any, send: Any) -> None:
    """/read, /write?name=value, /login?name=value, /logout, /establish answer the session as JSON; /plain does not."""
    query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    text = _route(scope["path"], scope["session"], query)
    body = b"plain" if text is None else text.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Do what the path says before the accept; then store each text, and answer with the session's."""
    if scope["type"] == "http":
        return await site(scope, receive, send)
    session, path = scope["session"], scope["path"]
    await receive()
    if path == "/write":
        session["name"] = "alice"
    if path == "/deny":
        session["denied"] = "yes"
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]})
        return await send({"type": "websocket.http.response.body", "body": b"no"})
    if path == "/reject":
        session["denied"] = "yes"
        return await send({"type": "websocket.close", "code": 1008})
    await send({"type": "websocket.accept", "subprotocol": None, "headers": ((b"x-app", b"1"),)})
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        if text == "save":
            await session.save()
        elif text == "close":
            return await send({"type": "websocket.close", "code": 1000})
        elif text == "break":
            raise ZeroDivisionError
        elif text != "ping":
            session["said"] = text
        await send({"type": "websocket.send", "text": str(session.get("said"))})
    return None


async def said(socket: Socket, text: str) -> Any:
    """Send one text to the socket and return the answer."""
    await socket.send(text)
    return await socket.receive()


async def nothing() -> dict[str, Any]:
    """Receive the end of a request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def ask(app: Any, target: str = "/read", headers: Iterable[tuple[bytes, bytes]] = (), **extra: Any) -> Answer:
    """Call the app once with exactly these headers; ``extra`` goes into the scope."""
    path, _, query = target.partition("?")
    answer = Answer()

    async def send(message: dict[str, Any]) -> None:
        answer.messages.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": list(headers),
        **extra,
    }
    await app(scope, nothing, send)
    return answer


def cookie(*values: bytes | str, name: bytes = b"sid") -> Headers:
    """One Cookie header with these values under our name."""
    raw = (value.encode() if isinstance(value, str) else value for value in values)
    return [(b"cookie", b"; ".join(name + b"=" + value for value in raw))]


async def token_of(app: Any, target: str = "/write?name=alice") -> str:
    """Begin a session and return its token."""
    return (await ask(app, target)).cookies[0].value
