"""What is asked of every peer, and how each case proves that it was done.

Rules of residence: the cases, which speak to the application through a client. A case proves its point before the clock
runs, checks every timed answer, and afterwards that exactly the timed requests left their traces. No peer is named
here; `client.peer.bare` is an app without sessions, which has nothing to prove.
"""

from __future__ import annotations

from typing import Any

from bench.app import CHUNKS, BrokenPeerError


class Case:
    """A request without a cookie to an application that does not touch its session; the others vary it."""

    key = "none"
    title = "no cookie"
    path, kind = "/hello", "http"
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

    def stayed(self, client: Any) -> None:
        """Hold that the one cookie of a session was set once, or with every answer where that is the peer's way."""
        expected = client.answers if client.peer.renews else 1
        self.same(client, client.cookies_set, 0 if client.peer.bare else expected, "cookies set")

    def same(self, client: Any, got: object, expected: object, what: str = "answer") -> None:
        if got != expected:
            raise BrokenPeerError(f"{client.peer.key}, {self.title}: {what}: {got!r} instead of {expected!r}")


class Read(Case):
    key, title, path = "read", "read one key", "/read"

    async def before(self, client: Any) -> None:
        await client.get("/new")
        self.stayed(client)
        self.same(client, await client.get("/read"), b"u1")

    def ready(self, client: Any) -> None:
        pass

    def check(self, client: Any, body: bytes, parts: int) -> None:
        self.same(client, (body, parts), (b"u1", 1))

    async def after(self, client: Any, requests: int) -> None:
        self.stayed(client)
        self.same(client, await client.get("/number"), b"1", "the counter nobody touched")


class ReadBeside(Read):
    key, title = "history", "read beside 100 KB"

    async def before(self, client: Any) -> None:
        await super().before(client)
        self.same(client, await client.get("/fill"), b"1000")
        client.cookies_set = client.answers = 0 if client.peer.bare else 1

    async def after(self, client: Any, requests: int) -> None:
        await super().after(client, requests)
        self.same(client, await client.get("/turns"), b"1000", "messages of history")


class Append(ReadBeside):
    """The chat's own case: one more message, the history staying as long as it was."""

    key, title, path = "append", "append to 100 KB", "/append"

    async def before(self, client: Any) -> None:
        await super().before(client)
        self.same(client, [await client.get("/append") for _ in range(2)], [b"1000", b"1001"], "the last message")
        client.seen["counted"] = 1001

    def check(self, client: Any, body: bytes, parts: int) -> None:
        client.seen["counted"] += 1
        self.same(client, (body, parts), (b"%d" % client.seen["counted"], 1))

    def stayed(self, client: Any) -> None:
        """Leave cookies alone: where the history is in the cookie, each answer has one."""

    async def after(self, client: Any, requests: int) -> None:
        self.same(client, await client.get("/last"), b"%d" % (1001 + requests), "the last message")
        await super().after(client, requests)


class ReadAmong(Read):
    """Read with cookies of others on both sides, as analytics and the other applications of a host leave them."""

    def __init__(self, key: str, title: str, others: int, size: int) -> None:
        self.key, self.title = key, title
        cookies = [b"_other_%d=" % n + b"GA1.2.%09d." % (n * 7919) + b"x" * (size - 16) for n in range(others)]
        self.beside = b"".join(c + b"; " for c in cookies[::2]), b"".join(b"; " + c for c in cookies[1::2])

    async def before(self, client: Any) -> None:
        client.beside = self.beside
        await super().before(client)


class Accept(Read):
    """The whole of a websocket that is accepted, says whose it is and is closed."""

    key, title, path, kind = "websocket", "websocket accept", "/greet", "websocket"

    async def before(self, client: Any) -> None:
        await super().before(client)
        self.same(client, await client.get(self.path, self.kind), b"u1")

    def stayed(self, client: Any) -> None:
        """Leave cookies alone: an accept need not renew them."""


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
        if client.peer.bare:
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
        expected = b"u1" if client.peer.bare else b"nobody"
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


CASES = {
    case.key: case
    for case in (
        Case(),
        Read(),
        Write(),
        New(),
        Tampered(),
        ReadBeside(),
        Append(),
        ReadAmong("cookies3", "read, 3 cookies", 2, 24),
        ReadAmong("cookies30", "read, 30 cookies", 29, 32),
        ReadAmong("cookies16k", "read, 16 KB of cookies", 4, 4000),
        Accept(),
        Stream(),
    )
}
