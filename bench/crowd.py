"""Many browsers at once in front of one instance of a peer, and the proof of what they did.

Rules of residence: raw ASGI in one process; a turn is timed as a whole, from the first request to the last answer, and
each request in it. Scopes are built before, answers checked after. What is in the store afterwards is asked of another
instance of the peer, with connections of its own, and of the store itself. No peer and no store is named here.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.app import LETTERS, BrokenPeerError
from bench.client import Client, Wire
from bench.servers import Store
from bench.store_peers import StorePeer, at

LARGE = 10
"""Browsers whose sessions hold 2 MB of messages each."""
SAMPLE = 3
"""New sessions of a turn that are read again at the end of the round."""

NOT_WATCHED = nullcontext()
clock = time.perf_counter_ns


@dataclass(frozen=True)
class Case:
    key: str
    title: str
    path: str
    adds: int = 0
    """What one request adds to the session's counter."""
    guest: bool = False
    """Each request is one of somebody who has no session yet."""
    large: bool = False
    """The sessions are those that hold 2 MB of messages."""
    loads: int = 0
    """Browsers beside, which read such sessions all the time, and are not counted."""

    def expected(self, browser: Browser) -> bytes | None:
        """Return what the next request must answer, and count it; None if that is a name not given before."""
        browser.counter += self.adds
        known = {"/read": browser.user, "/write": b"%d" % browser.counter, "/hello": b"hello"}
        return known.get(self.path)


CASES = {
    case.key: case
    for case in (
        Case("read", "read one key", "/read"),
        Case("write", "write one key", "/write", adds=1),
        Case("new", "new session", "/new", guest=True),
        Case("untouched", "session untouched", "/hello"),
        Case("large", "read beside 2 MB", "/read", large=True),
        Case("beside", "read, while others load 2 MB", "/read", loads=2),
    )
}


class Turn(NamedTuple):
    requests: int
    ns: float
    """Of a request, if the others of its time took nothing: the whole by the number."""
    cpu: float
    """Of a request, in this process."""
    server: float | None
    """Of a request, in the server's."""
    took: list[int]
    """From the beginning to the end of each request."""


@dataclass(eq=False)
class Browser:
    client: Client
    user: bytes = b""
    counter: int = 1
    jobs: list[tuple[dict[str, Any], Wire]] = field(default_factory=list)
    took: list[int] = field(default_factory=list)

    async def get(self, path: str, expected: bytes) -> None:
        self.same(await self.client.get(path), expected, path)

    def same(self, got: object, expected: object, what: str) -> None:
        if got != expected:
            raise BrokenPeerError(f"{self.client.peer.key}, {what}: {got!r} instead of {expected!r}")

    @property
    def piled(self) -> bytes:
        """What the application says of the messages of a session that has them."""
        return b"%d of %s" % (LETTERS, self.user)

    def prepare(self, case: Case, count: int) -> None:
        client = copy(self.client)
        client.cookie = None if case.guest else client.cookie
        self.took = []
        self.jobs = [(client.scope(case.path), Wire()) for _ in range(count)]

    async def run(self) -> None:
        app, took = self.client.middleware, self.took
        for scope, wire in self.jobs:
            begin = clock()
            await app(scope, wire.receive, wire.send)
            took.append(clock() - begin)

    async def load(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.get("/read", self.user)


class Crowd:
    """One instance of a peer and its browsers, each with a session of its own."""

    def __init__(self, peer: StorePeer, store: Store, most: int, large: int) -> None:
        self.peer, self.store = peer, store
        self.url = store.at(peer.place)
        first = Client(at(self.url, peer))
        self.close: Callable[[], Awaitable[object]] = first.sessions  # type: ignore[assignment]
        self.browsers = [Browser(copy(first)) for _ in range(most)]
        self.large = [Browser(copy(first)) for _ in range(large)]
        self.guests: list[Browser] = []

    async def begin(self) -> None:
        """Log everybody in, the first alone, and prove that each one's counter counts."""
        everybody = [*self.browsers, *self.large]
        await first_alone(self.log_in, everybody)
        for browser in self.large:
            await browser.get("/pile", browser.piled)
        self.store.made[self.peer.place] += len(everybody)
        await self.verify()

    async def log_in(self, browser: Browser) -> None:
        browser.user = await browser.client.get("/new")
        await browser.get("/read", browser.user)
        await browser.get("/number", b"%d" % browser.counter)
        await browser.get("/write", CASES["write"].expected(browser) or b"")

    async def turn(
        self, case: Case, level: int, count: int, watched: AbstractContextManager[Any] = NOT_WATCHED
    ) -> Turn:
        """Make `count` requests in each of `level` browsers at once, watched by somebody, and check every answer."""
        crowd = self.chosen(case, level)
        for browser in crowd:
            browser.prepare(case, count)
        done = asyncio.Event()
        beside = [asyncio.create_task(browser.load(done)) for browser in self.large[: case.loads]]
        gc.collect()
        served, cpu, begin = self.store.spent(), time.process_time_ns(), clock()
        with watched:
            await asyncio.gather(*[browser.run() for browser in crowd])
        ns, cpu, after = clock() - begin, time.process_time_ns() - cpu, self.store.spent()
        done.set()
        await asyncio.gather(*beside)
        self.check(case, crowd)
        requests = count * level
        server = sum(spent - served.get(pid, 0) for pid, spent in after.items()) / requests if after else None
        return Turn(requests, ns / requests, cpu / requests, server, [t for browser in crowd for t in browser.took])

    def chosen(self, case: Case, level: int) -> list[Browser]:
        """Return the browsers of a turn; a large session is the tab of several, if there are too few."""
        if not case.large:
            return self.browsers[:level]
        return [copy(self.large[number % len(self.large)]) for number in range(level)]

    def check(self, case: Case, crowd: Sequence[Browser]) -> None:
        guests = []
        for browser in crowd:
            for _, wire in browser.jobs:
                client = copy(browser.client)
                body, expected = client.keep(wire), case.expected(browser)
                if expected is None:
                    guests.append(Browser(client, user=body))
                else:
                    browser.same(body, expected, case.title)
        if len({guest.client.cookie for guest in guests} - {None}) != len(guests):
            raise BrokenPeerError(f"{self.peer.key}, {case.title}: one session for several visitors")
        self.guests += guests[:: max(1, len(guests) // SAMPLE)]
        self.store.made[self.peer.place] += len(guests)

    async def verify(self) -> None:
        """Prove that exactly the requests so far have left their traces, and forget the guests among them."""
        kept, made = self.store.records(self.peer.place, self.peer.table), self.store.made[self.peer.place]
        if kept != made:
            raise BrokenPeerError(f"{self.peer.key}: {kept} sessions in the store instead of {made}")
        other = Client(at(self.url, self.peer))

        async def ask(browser: Browser) -> None:
            client = copy(other)
            client.cookie = browser.client.cookie
            if browser in self.large:
                browser.same(await client.get("/letters"), browser.piled, "the messages in the store")
            else:
                browser.same(await client.get("/read"), browser.user, "the user in the store")
                browser.same(await client.get("/number"), b"%d" % browser.counter, "the counter in the store")

        try:
            await first_alone(ask, [*self.browsers, *self.guests, *self.large])
        finally:
            await other.sessions()  # type: ignore[operator]
        self.guests = []


async def first_alone(do: Callable[[Browser], Awaitable[None]], browsers: Sequence[Browser]) -> None:
    """Have each do it, the others at once when the first has: it opens connections and makes tables."""
    await do(browsers[0])
    await asyncio.gather(*[do(browser) for browser in browsers[1:]])
