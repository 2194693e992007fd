"""The client that drives any peer in process: one browser, without a network.

Rules of residence: raw ASGI, no server, no framework. Only the call of the application is timed: the scope a server
would build, the cookie jar a browser would keep and all checking happen between two readings of the clock. Knows no
peer and no case by name.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from bench.app import App, BrokenPeerError
from bench.peers import Peer

FIELDS = (
    (b"host", b"chat.example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
)

clock = time.perf_counter_ns


class Wire:
    """The server's side of one request, as a server makes it: a fresh object whose `send` is a coroutine function."""

    __slots__ = ("asked", "body", "gone", "parts", "start")
    first = {"type": "http.request", "body": b"", "more_body": False}  # noqa: RUF012
    goodbye = {"type": "http.disconnect"}  # noqa: RUF012

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        self.body = b""
        self.parts = 0
        self.asked = False
        self.gone: asyncio.Event | None = None

    async def send(self, message: dict[str, Any]) -> None:
        body = message.get("body")
        if body:
            self.body = body
            self.parts += 1
        elif self.start is None:
            self.start = message

    async def receive(self) -> dict[str, Any]:
        """Give the request, and then nothing until the client leaves, if it ever does."""
        if not self.asked:
            self.asked = True
            return dict(self.first)
        self.gone = self.gone or asyncio.Event()
        await self.gone.wait()
        return dict(self.goodbye)

    def leave(self) -> None:
        self.gone = self.gone or asyncio.Event()
        self.gone.set()

    @property
    def answered(self) -> bool:
        return self.start is not None and self.start.get("status") == 200


class Socket(Wire):
    """The same for a websocket."""

    __slots__ = ()
    first = {"type": "websocket.connect"}  # noqa: RUF012
    goodbye = {"type": "websocket.disconnect", "code": 1001}  # noqa: RUF012

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            self.body = message.get("bytes") or b""
            self.parts += 1
        elif self.start is None:
            self.start = message

    @property
    def answered(self) -> bool:
        return self.start is not None and self.start["type"] == "websocket.accept"


WIRES = {"http": Wire, "websocket": Socket}


class Client:
    """One browser in front of one fresh instance of a peer: keeps its cookie and counts what it was given."""

    def __init__(self, peer: Peer, now: Callable[[], float] | None = None, app: Any = None) -> None:
        self.peer = peer
        self.app = app or App(peer.session_of)
        self.middleware, self.sessions = peer.wrap(self.app, now)
        self.own: dict[str, Any] = {}
        self.cookie: bytes | None = None
        self.beside: tuple[bytes, bytes] = b"", b""
        """Cookies of others, before and behind the peer's."""
        self.cookies_set = self.answers = 0
        self.seen: dict[str, Any] = {}
        """What the case at hand wants to remember."""

    def scope(self, path: str, kind: str = "http") -> dict[str, Any]:
        """Build what uvicorn builds: fresh dicts, lists and names, a copy of the lifespan's state."""
        headers = [(name.lower(), value) for name, value in FIELDS]
        if self.cookie is not None:
            cookie = b"=".join((self.peer.cookie or b"none", self.cookie))
            headers.append((b"Cookie".lower(), cookie.join(self.beside)))
        scope = {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50000),
            "scheme": "https",
            "method": "GET",
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "state": {},
        }
        if kind == "websocket":
            headers.append((b"origin", b"https://chat.example.org"))
            scope |= {"scheme": "wss", "subprotocols": []}
            del scope["method"]
        if self.peer.bare:
            scope["session"] = self.own
        return scope

    def keep(self, wire: Wire) -> bytes:
        """Do what a browser does with an answer, and return its body (the last part of a stream)."""
        if wire.start is not None:
            self.answers += 1
            for name, value in wire.start.get("headers", ()):
                if name.lower() == b"set-cookie" and value.partition(b"=")[0] == self.peer.cookie:
                    pair, *attributes = value.split(b";")
                    self.cookie = None if any(map(over, attributes)) else pair.partition(b"=")[2]
                    self.cookies_set += 1
        if not wire.answered:
            raise BrokenPeerError(f"{self.peer.key}: no answer, or not a 200: {wire.start!r}")
        return wire.body

    async def get(self, path: str, kind: str = "http") -> bytes:
        wire = WIRES[kind]()
        await self.middleware(self.scope(path, kind), wire.receive, wire.send)
        return self.keep(wire)

    async def timed(self, path: str, kind: str = "http") -> tuple[int, Wire]:
        scope, wire = self.scope(path, kind), WIRES[kind]()
        middleware, receive, send = self.middleware, wire.receive, wire.send
        begin = clock()
        await middleware(scope, receive, send)
        return clock() - begin, wire


def over(attribute: bytes) -> bool:
    """Whether a cookie's attribute says that the cookie has ended."""
    name, _, value = attribute.strip().lower().partition(b"=")
    if name == b"expires":
        until = parsedate_to_datetime(value.decode())
        return until <= datetime.now(until.tzinfo)
    return name == b"max-age" and int(value) <= 0
