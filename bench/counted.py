"""The requests that are counted, where nothing is timed: one number in a session, behind any peer.

Rules of residence: a small application, the scopes of its requests, and the proof that a peer knows its cookie from a
forged one. No counter and no figure here. What is given to a peer decides its figures: whoever changes a path, a field
or a cookie here can compare them no longer with those from before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bench.app import BrokenPeerError, answer
from bench.client import WIRES, Client, Wire
from bench.peers import Peer

FIELDS = (
    (b"host", b"localhost:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"*/*"),
    (b"accept-language", b"en"),
    (b"accept-encoding", b"gzip, br"),
    (b"connection", b"keep-alive"),
)
CHUNKS = 20
PLAIN = [(b"content-type", b"text/plain")]


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"hello")


async def peek(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"%d" % scope["session"].get("n", 0))


async def read(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, b"%d" % scope["session"]["n"])


async def write(scope: Any, receive: Any, send: Any) -> None:
    session = scope["session"]
    session["n"] = n = session.get("n", 0) + 1
    await answer(send, b"%d" % n)


async def stream(scope: Any, receive: Any, send: Any) -> None:
    """Write before the last message; from the second time on, it is the value that the session has."""
    await send({"type": "http.response.start", "status": 200, "headers": list(PLAIN)})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": b"token", "more_body": True})
    scope["session"]["n"] = 5
    await send({"type": "http.response.body", "body": b""})


async def greet(scope: Any, receive: Any, send: Any) -> None:
    """Read, accept, and see the other side leave."""
    await receive()
    scope["session"]["n"]
    await send({"type": "websocket.accept"})
    await receive()


ROUTES = {f"/{route.__name__}": route for route in (hello, peek, read, write, stream, greet)}


async def application(scope: Any, receive: Any, send: Any) -> None:
    await ROUTES[scope["path"]](scope, receive, send)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Put a dict where the others find their session: what this takes is subtracted too."""
    scope["session"] = {"n": 1}
    await application(scope, receive, send)


class Request(NamedTuple):
    path: str
    cookie: str | None = None
    """The sound one, the forged one, or none."""
    kind: str = "http"


REQUESTS = {
    "none": Request("/hello"),
    "untouched": Request("/hello", "sound"),
    "read": Request("/read", "sound"),
    "write": Request("/write", "sound"),
    "new": Request("/write"),
    "tampered": Request("/hello", "forged"),
    "stream20": Request("/stream", "sound"),
    "socket": Request("/greet", "sound", "websocket"),
}


class Counted(Client):
    """The client of one fresh instance of a peer, which has a session there."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, app=application)
        if peer.bare:
            self.middleware = bare
        self.cookies: dict[str | None, bytes | None] = {None: None}

    def scope(self, path: str, kind: str = "http") -> dict[str, Any]:
        made = super().scope(path, kind)
        cookies = [field for field in made["headers"] if field[0] == b"cookie"]
        return {**made, "headers": [*FIELDS, *cookies]}

    async def begin(self) -> None:
        """Get a session, by one request."""
        await self.get("/write")
        sound = self.cookie
        self.cookies |= {"sound": sound, "forged": sound and sound[:-6] + b"AAAAAA"}

    async def prove(self, key: str) -> None:
        """Hold that the cookie leads to the session, that a forged one does not, and that the request is answered."""
        for which, known in (("sound", True), ("forged", self.peer.bare)):
            self.cookie = self.cookies[which]
            if (await self.get("/peek") != b"0") is not known:
                raise BrokenPeerError(f"{self.peer.key} takes the {which} cookie for another")
        await self.warm(key, 1)

    async def warm(self, key: str, requests: int) -> None:
        """Make requests, and hold that each is answered."""
        for _ in range(requests):
            scope, wire = self.ready(key)
            await self.middleware(scope, wire.receive, wire.send)
            self.keep(wire)

    def ready(self, key: str) -> tuple[dict[str, Any], Wire]:
        """Prepare one request: its scope, and the server's side of it."""
        request = REQUESTS[key]
        self.cookie = self.cookies[request.cookie]
        wire = WIRES[request.kind]()
        if request.kind == "websocket":
            wire.leave()
        return self.scope(request.path, request.kind), wire
