"""What is asked of every peer, and how each case proves that it was done.

Rules of residence: the one application that all peers wrap, and the cases, which speak to it through a client. A case
proves its point before the clock runs, checks every timed answer, and afterwards that exactly the timed requests left
their traces. No peer is named here; `client.peer.cookie is None` is the bare app, which has no session to prove.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

CHUNKS = 1000
MEGABYTE = 1_000_000
HISTORY = [
    {"role": ("user", "assistant")[n % 2], "content": f"message {n:04d}: " + "x" * 52, "n": n} for n in range(1000)
]
"""1,000 chat messages, 101 KB as JSON."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


class BrokenPeerError(Exception):
    """A peer did not do the work it was timed for."""


class App:
    """The application behind every peer: finds the session as that peer offers it and answers by path."""

    def __init__(self, session_of: Callable[[dict[str, Any]], Any]) -> None:
        self.session_of = session_of
        self.serial = 0
        self.chunks_ns = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        try:
            await ROUTES[scope["path"]](self, self.session_of(scope), send)
        except KeyError as missing:
            raise BrokenPeerError(f"{scope['path']}: there is no {missing} any more") from missing


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(app: App, session: Any, send: Send) -> None:
    await answer(send, b"hello")


async def read(app: App, session: Any, send: Send) -> None:
    await answer(send, session["user"].encode())


async def peek(app: App, session: Any, send: Send) -> None:
    await answer(send, session.get("user", "nobody").encode())


async def number(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % session["n"])


async def write(app: App, session: Any, send: Send) -> None:
    session["n"] = n = session["n"] + 1
    await answer(send, b"%d" % n)


async def new(app: App, session: Any, send: Send) -> None:
    app.serial += 1
    session["user"] = user = f"u{app.serial}"
    session["n"] = 1
    await answer(send, user.encode())


async def fill(app: App, session: Any, send: Send) -> None:
    session["history"] = [dict(message) for message in HISTORY]
    await answer(send, b"%d" % len(session["history"]))


async def turns(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % len(session["history"]))


async def large(app: App, session: Any, send: Send) -> None:
    session["large"] = "x" * MEGABYTE
    await size(app, session, send)


async def size(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % len(session["large"]))


async def stream(app: App, session: Any, send: Send) -> None:
    """Read once, start, and clock the chunks alone: neither the start nor the end of the answer is counted."""
    token = session["user"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    begin = time.perf_counter_ns()
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": token, "more_body": True})
    app.chunks_ns = time.perf_counter_ns() - begin
    await send({"type": "http.response.body", "body": token, "more_body": False})


ROUTES = {f"/{f.__name__}": f for f in (hello, read, peek, number, write, new, fill, turns, large, size, stream)}


class Case:
    """A request without a cookie to an application that does not touch its session; the others vary it."""

    key = "none"
    title = "no cookie"
    path = "/hello"
    unit, unit_name = 1, "µs"
    least = 20
    """Requests in the shortest turn."""

    async def before(self, client: Any) -> None:
        """Bring the client into the state to be timed, and prove that the peer works."""
        self.same(client, await client.get(self.path), b"hello")

    def ready(self, client: Any) -> None:
        """Prepare one request, outside the clock."""
        client.cookie = None

    def cost(self, client: Any, took: int) -> float:
        return took

    def check(self, client: Any, body: bytes, parts: int) -> None:
        """Check one answer, outside the clock."""
        self.same(client, (body, parts), (b"hello", 1))

    async def after(self, client: Any, requests: int) -> None:
        """Prove that the timed requests left exactly their traces."""
        self.same(client, client.cookies_set, requests + 1 if client.peer.eager else 0, "cookies set")

    def same(self, client: Any, got: object, expected: object, what: str = "answer") -> None:
        if got != expected:
            raise BrokenPeerError(f"{client.peer.key}, {self.title}: {what}: {got!r} instead of {expected!r}")


class Read(Case):
    key, title, path = "read", "read one key", "/read"

    async def before(self, client: Any) -> None:
        await client.get("/new")
        self.same(client, client.cookies_set, client.peer.cookie is not None, "cookies set")
        self.same(client, await client.get("/read"), b"u1")

    def ready(self, client: Any) -> None:
        pass

    def check(self, client: Any, body: bytes, parts: int) -> None:
        self.same(client, (body, parts), (b"u1", 1))

    async def after(self, client: Any, requests: int) -> None:
        self.same(client, client.cookies_set, client.peer.cookie is not None, "cookies set")
        self.same(client, await client.get("/number"), b"1", "the counter nobody touched")


class ReadBeside(Read):
    key, title = "history", "read beside 100 KB"

    async def before(self, client: Any) -> None:
        await super().before(client)
        self.same(client, await client.get("/fill"), b"1000")
        client.cookies_set = client.peer.cookie is not None

    async def after(self, client: Any, requests: int) -> None:
        await super().after(client, requests)
        self.same(client, await client.get("/turns"), b"1000", "messages of history")


class Write(Read):
    key, title, path = "write", "write one key", "/write"

    async def before(self, client: Any) -> None:
        await super().before(client)
        self.same(client, [await client.get("/write") for _ in range(2)], [b"2", b"3"], "the counter")
        client.seen["counted"] = 3

    def check(self, client: Any, body: bytes, parts: int) -> None:
        client.seen["counted"] += 1
        self.same(client, (body, parts), (b"%d" % client.seen["counted"], 1))

    async def after(self, client: Any, requests: int) -> None:
        self.same(client, await client.get("/number"), b"%d" % (3 + requests), "the counter")
        self.same(client, await client.get("/read"), b"u1", "the key beside it")


class New(Case):
    key, title, path = "new", "new session", "/new"

    async def before(self, client: Any) -> None:
        client.seen["given"] = []
        client.cookie = None
        for expected in (b"u1", b"u2"):
            self.ready(client)
            self.check(client, await client.get("/new"), 1)
            self.same(client, await client.get("/read"), expected, "the new session")

    def check(self, client: Any, body: bytes, parts: int) -> None:
        self.same(client, (body, parts), (b"u%d" % client.app.serial, 1))
        client.seen["given"].append(client.cookie)

    async def after(self, client: Any, requests: int) -> None:
        if client.peer.cookie is None:
            return
        self.same(client, len(set(client.seen["given"]) - {None}), requests + 2, "different cookies")
        for index in {0, 1, requests // 2, requests, requests + 1}:
            client.cookie = client.seen["given"][index]
            self.same(client, await client.get("/read"), b"u%d" % (index + 1), "an earlier session")


class Tampered(Case):
    """A token of the right shape with one character changed; the same request as without a cookie otherwise."""

    key, title = "tampered", "tampered cookie"

    async def before(self, client: Any) -> None:
        await client.get("/new")
        self.same(client, await client.get("/peek"), b"u1", "the sound cookie")
        good = client.cookie or b"-" * 20
        client.seen["sound"], client.seen["forged"] = (
            good,
            good[:10] + (b"1" if good[10:11] == b"0" else b"0") + good[11:],
        )
        await self.refused(client)
        client.cookies_set = 0

    async def refused(self, client: Any) -> None:
        client.cookie = client.seen["forged"]
        expected = b"u1" if client.peer.cookie is None else b"nobody"
        self.same(client, await client.get("/peek"), expected, "the forged cookie")

    def ready(self, client: Any) -> None:
        client.cookie = client.seen["forged"]

    async def after(self, client: Any, requests: int) -> None:
        self.same(client, client.cookies_set, requests if client.peer.eager else 0, "cookies set")
        await self.refused(client)
        client.cookie = client.seen["sound"]
        self.same(client, await client.get("/peek"), b"u1", "the sound cookie")


class Stream(Read):
    key, title, path = "stream", "per streamed chunk", "/stream"
    unit, unit_name = CHUNKS, "ns"
    least = 1

    def cost(self, client: Any, took: int) -> float:
        return client.app.chunks_ns / CHUNKS

    def check(self, client: Any, body: bytes, parts: int) -> None:
        self.same(client, (body, parts), (b"u1", CHUNKS + 1))


CASES = {case.key: case for case in (Case(), Read(), Write(), New(), Tampered(), ReadBeside(), Stream())}
