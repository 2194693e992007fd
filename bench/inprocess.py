"""The client that drives any peer in process, and the rounds in which peers are timed against each other.

Rules of residence: raw ASGI, no server, no framework; one running event loop and one driver for every peer. Only the
call of the application is timed: the scope a server would build, the cookie jar a browser would keep and all checking
happen between two readings of the clock. Knows no peer by name but the bare app, and no case by name.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.cases import App, BrokenPeerError, Case
from bench.peers import Peer

TURNS = 8
"""A round is cut into turns, and the peers change places between them: what disturbs one turn disturbs no median."""

FIELDS = (
    (b"host", b"chat.example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
)

clock = time.perf_counter_ns


class Wire:
    """The server's side of one request, as a server makes it: a fresh object whose `send` is a coroutine function."""

    __slots__ = ("body", "parts", "start")

    def __init__(self) -> None:
        self.start: dict[str, Any] | None = None
        self.body = b""
        self.parts = 0

    async def send(self, message: dict[str, Any]) -> None:
        body = message.get("body")
        if body:
            self.body = body
            self.parts += 1
        elif self.start is None:
            self.start = message


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


class Client:
    """One browser in front of one fresh instance of a peer: keeps its cookie and counts what it was given."""

    def __init__(self, peer: Peer, now: Callable[[], float] | None = None) -> None:
        self.peer = peer
        self.app = App(peer.session_of)
        self.middleware, self.sessions = peer.wrap(self.app, now)
        self.own: dict[str, Any] = {}
        self.cookie: bytes | None = None
        self.cookies_set = 0
        self.seen: dict[str, Any] = {}
        """What the case at hand wants to remember."""

    def scope(self, path: str) -> dict[str, Any]:
        """Build what uvicorn builds: fresh dicts, lists and names, a copy of the lifespan's state."""
        headers = [(name.lower(), value) for name, value in FIELDS]
        if self.cookie is not None:
            headers.append((b"Cookie".lower(), b"=".join((self.peer.cookie or b"none", self.cookie))))
        scope = {
            "type": "http",
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
        if self.peer.cookie is None:
            scope["session"] = self.own
        return scope

    def keep(self, wire: Wire) -> bytes:
        """Do what a browser does with an answer, and return its body (the last part of a stream)."""
        if wire.start is None or wire.start["status"] != 200:
            raise BrokenPeerError(f"{self.peer.key}: no answer, or not a 200: {wire.start!r}")
        for name, value in wire.start["headers"]:
            if name == b"set-cookie" and value.partition(b"=")[0] == self.peer.cookie:
                self.cookie = value.partition(b";")[0].partition(b"=")[2]
                self.cookies_set += 1
        return wire.body

    async def get(self, path: str) -> bytes:
        wire = Wire()
        await self.middleware(self.scope(path), receive, wire.send)
        return self.keep(wire)

    async def timed(self, path: str) -> tuple[int, Wire]:
        scope, wire = self.scope(path), Wire()
        middleware, send = self.middleware, wire.send
        begin = clock()
        await middleware(scope, receive, send)
        return clock() - begin, wire


@dataclass
class Run:
    """One peer at one case during one round."""

    client: Client
    case: Case
    requests: int = 0
    turns: list[float] = field(default_factory=list)

    async def turn(self, count: int) -> float:
        """Time `count` requests, check each of them, and return the ns of one."""
        spent = 0
        for _ in range(count):
            self.case.ready(self.client)
            took, wire = await self.client.timed(self.case.path)
            spent += self.case.cost(self.client, took)
            self.requests += 1
            self.case.check(self.client, self.client.keep(wire), wire.parts)
        return spent / count

    async def verify(self) -> None:
        """Ask the case whether exactly the timed requests left their traces."""
        await self.case.after(self.client, self.requests)


async def start(peer: Peer, case: Case) -> Run:
    """Put a fresh instance of the peer before the case, proven to work."""
    run = Run(Client(peer), case)
    await case.before(run.client)
    return run


async def calibrate(peers: Sequence[Peer], case: Case, seconds: float) -> dict[str, int]:
    """Find how many requests fill a turn; it warms everything up as well."""
    counts = {}
    for peer in peers:
        run = await start(peer, case)
        await run.turn(case.least)
        counts[peer.key] = max(case.least, int(seconds * 1e9 / TURNS / (await run.turn(case.least) * case.unit)))
        await run.verify()
    return counts


async def one_round(peers: Sequence[Peer], case: Case, counts: dict[str, int]) -> dict[str, list[float]]:
    """Time every peer in `TURNS` turns of random order, on a heap that holds nothing old for the collector to visit."""
    gc.unfreeze()
    gc.collect()
    runs = [await start(peer, case) for peer in peers]
    gc.collect()
    gc.freeze()
    for _ in range(TURNS):
        for run in random.sample(runs, len(runs)):
            run.turns.append(await run.turn(counts[run.client.peer.key]))
            await asyncio.sleep(0)
    for run in runs:
        await run.verify()
    return {run.client.peer.key: run.turns for run in runs}


async def measure(
    peers: Sequence[Peer], cases: Sequence[Case], rounds: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Run all rounds, every round with all cases and all peers in random order; `seconds` are per peer and case."""
    counts = {case.key: await calibrate(peers, case, seconds) for case in cases}
    samples: dict[str, dict[str, list[list[float]]]] = {c.key: {p.key: [] for p in peers} for c in cases}
    for number in range(rounds):
        tell(f"in process, round {number + 1} of {rounds}")
        for case in random.sample(cases, len(cases)):
            for key, turns in (await one_round(peers, case, counts[case.key])).items():
                samples[case.key][key].append(turns)
    gc.unfreeze()
    return {case.key: summary(case, samples[case.key]) for case in cases}


def summary(case: Case, samples: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Reduce ns: the median of a round's turns is the round's figure; ratios are taken within rounds, then medians."""
    figures = {key: [statistics.median(turns) for turns in rounds] for key, rounds in samples.items()}
    least = {key: min(min(turns) for turns in rounds) for key, rounds in samples.items()}
    added = {key: [own - bare for own, bare in zip(figures[key], figures["bare"], strict=True)] for key in figures}
    return {
        "title": case.title,
        "unit": case.unit_name,
        "bare": statistics.median(figures["bare"]),
        "peers": {
            key: {
                "added": statistics.median(added[key]),
                "least": least[key] - least["bare"],
                "ratio": {to: ratio(added[key], added[to]) for to in ("floor", "starlette") if to in added},
            }
            for key in figures
            if key != "bare"
        },
    }


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(a / b if b > 0 else float("inf") for a, b in zip(own, other, strict=True))
