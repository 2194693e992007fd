"""Requests against sessions in Redis: how many a second, and what each of them sends.

Rules of residence: raw ASGI in one process, a real server beside it, `TASKS` browsers at once. A turn is timed as a
whole, from the first request to the last answer; scopes are built before and answers checked after. The peers change
places in every turn; ratios are taken within a round. No peer is named here.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from bench.app import MEGABYTE, BrokenPeerError
from bench.client import Client, Wire
from bench.inprocess import ratio
from bench.peers import Peer
from bench.redis_peers import at, pick
from bench.redis_server import Counters, running

ROUNDS, SECONDS = 20, 0.03
"""Timed seconds are per peer and case in a round."""
TASKS = 100
TURNS = 4
"""A round's figure is the median of its turns."""
COUNTED = 50
"""Requests, one after another, whose traffic is counted."""


@dataclass(frozen=True)
class Case:
    key: str
    title: str
    path: str
    adds: int = 0
    """What one request adds to the session's counter."""

    def expected(self, browser: Browser) -> bytes:
        """Return what the next request must answer, and count it."""
        browser.counter += self.adds
        return {"/read": browser.user, "/write": b"%d" % browser.counter, "/hello": b"hello"}[self.path]


CASES = {
    case.key: case
    for case in (
        Case("read", "read one key", "/read"),
        Case("write", "write one key", "/write", adds=1),
        Case("untouched", "session untouched", "/hello"),
    )
}


@dataclass
class Browser:
    client: Client
    user: bytes = b""
    counter: int = 1
    jobs: list[tuple[dict[str, Any], Wire]] = field(default_factory=list)

    async def get(self, path: str, expected: bytes) -> None:
        self.same(await self.client.get(path), expected, path)

    def same(self, got: bytes, expected: bytes, what: str) -> None:
        if got != expected:
            raise BrokenPeerError(f"{self.client.peer.key}, {what}: {got!r} instead of {expected!r}")

    async def run(self) -> None:
        app = self.client.middleware
        for scope, wire in self.jobs:
            await app(scope, wire.receive, wire.send)


class Crowd:
    """One instance of a peer and its browsers, each with a session of its own."""

    def __init__(self, peer: Peer, url: str) -> None:
        self.peer = peer
        first = Client(at(url, peer))
        self.close: Any = first.sessions
        self.browsers = [Browser(copy(first)) for _ in range(TASKS)]

    async def begin(self) -> None:
        """Log everybody in, one after another, and prove that each one's counter counts."""
        for browser in self.browsers:
            browser.user = await browser.client.get("/new")
            await browser.get("/read", browser.user)
            await self.counted(browser)
            await browser.get("/write", CASES["write"].expected(browser))
        if len({browser.client.cookie for browser in self.browsers}) != TASKS:
            raise BrokenPeerError(f"{self.peer.key}: one session for several browsers")
        await self.verify()

    async def counted(self, browser: Browser) -> None:
        await browser.get("/number", b"%d" % browser.counter)

    async def turn(self, case: Case, count: int) -> tuple[float, float]:
        """Make `count` requests in each browser, check every answer; return the ns of one, and those of CPU here."""
        for browser in self.browsers:
            browser.jobs = [(browser.client.scope(case.path), Wire()) for _ in range(count)]
        gc.collect()
        gc.freeze()
        begin, cpu = time.perf_counter_ns(), time.process_time_ns()
        await asyncio.gather(*[browser.run() for browser in self.browsers])
        took, spent = time.perf_counter_ns() - begin, time.process_time_ns() - cpu
        gc.unfreeze()
        for browser in self.browsers:
            for _, wire in browser.jobs:
                browser.same(browser.client.keep(wire), case.expected(browser), case.title)
        return took / count / TASKS, spent / count / TASKS

    async def verify(self) -> None:
        """Prove that exactly the requests so far have left their traces."""
        for browser in self.browsers:
            await browser.get("/read", browser.user)
            await self.counted(browser)

    async def traffic(self, case: Case, counters: Counters) -> dict[str, float]:
        """Count what the server gets for each of some requests that are made one after another."""
        browser = self.browsers[0]
        counters.since()
        for _ in range(COUNTED):
            await browser.get(case.path, case.expected(browser))
        return {key: value / COUNTED for key, value in counters.since().items() if value}


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure every case; the peers are those that work on Redis, whoever else is measured."""
    rounds, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    return asyncio.run(compare(pick(options.peers), list(CASES.values()), rounds, seconds, tell))


async def compare(
    peers: Sequence[Peer], cases: Sequence[Case], rounds: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Run all rounds against a server of their own; `seconds` are per peer and case in a round."""
    with running() as url:
        crowds = [Crowd(peer, url) for peer in peers]
        counters = Counters(url)
        try:
            return await _measure(crowds, cases, rounds, seconds, counters, tell)
        finally:
            counters.close()
            for crowd in crowds:
                await crowd.close()


async def _measure(
    crowds: Sequence[Crowd],
    cases: Sequence[Case],
    rounds: int,
    seconds: float,
    counters: Counters,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    counts: dict[tuple[str, str], int] = {}
    for crowd in crowds:
        await crowd.begin()
        for case in cases:
            took = min([(await crowd.turn(case, 1))[0] for _ in range(3)])
            counts[crowd.peer.key, case.key] = max(1, int(seconds * 1e9 / TURNS / took / TASKS))
    samples: dict[str, dict[str, list[list[tuple[float, float]]]]] = {c.key: {} for c in cases}
    for number in range(rounds):
        tell(f"redis, round {number + 1} of {rounds}")
        for case in random.sample(cases, len(cases)):
            turns: dict[str, list[tuple[float, float]]] = {crowd.peer.key: [] for crowd in crowds}
            for _ in range(TURNS):
                for crowd in random.sample(crowds, len(crowds)):
                    turns[crowd.peer.key].append(await crowd.turn(case, counts[crowd.peer.key, case.key]))
            for crowd in crowds:
                await crowd.verify()
                samples[case.key].setdefault(crowd.peer.key, []).append(turns[crowd.peer.key])
    traffic = {case.key: {crowd.peer.key: await crowd.traffic(case, counters) for crowd in crowds} for case in cases}
    beside = {crowd.peer.key: await beside_a_megabyte(crowd, counters) for crowd in crowds}
    return {
        "cases": {case.key: summary(case, samples[case.key], traffic[case.key]) for case in cases},
        "beside": beside,
        "tasks": TASKS,
        "versions": counters.versions(),
    }


async def beside_a_megabyte(crowd: Crowd, counters: Counters) -> dict[str, float]:
    """Count what changing the counter sends when the session holds 1 MB that nobody touches."""
    browser = crowd.browsers[0]
    whole = b"%d" % MEGABYTE
    await browser.get("/large", whole)
    found = await crowd.traffic(CASES["write"], counters)
    await browser.get("/size", whole)
    return found


def summary(case: Case, samples: dict[str, Any], traffic: dict[str, Any]) -> dict[str, Any]:
    """Reduce ns to medians of rounds, each the median of its turns; ratios are taken within rounds, then medians."""
    took = {key: [statistics.median(turn[0] for turn in turns) for turns in rounds] for key, rounds in samples.items()}
    cpu = {key: [statistics.median(turn[1] for turn in turns) for turns in rounds] for key, rounds in samples.items()}
    return {
        "title": case.title,
        "peers": {
            key: {
                "ns": statistics.median(took[key]),
                "least": min(turn[0] for turns in samples[key] for turn in turns),
                "cpu": statistics.median(cpu[key]),
                "ratio": {to: ratio(took[key], took[to]) for to in took if to != key},
                "traffic": traffic[key],
            }
            for key in samples
        },
    }
