"""Cost and memory against the number of live sessions.

Rules of residence: every level of every peer in a process of its own, filled by real requests through the peer, with
the collector on. At each level the same requests are timed in turns against the bare app and against a second instance
of the peer with `FEW` live sessions in the same process: ratios hold within a turn. Uses the in-process client; what
happens to the clock, the heap and the resident memory is here.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_SELF, getpagesize, getrusage
from typing import Any

from bench.app import BrokenPeerError
from bench.client import Client
from bench.peers import PEERS, Peer

TURNS = 20
LEVELS = (100, 1_000, 10_000, 100_000, 1_000_000)
FEW = 100
REBUILT = 1_000
"""A level up to this size is built anew for each turn, or the new sessions of the turns would outgrow it."""
OPERATIONS = ("new", "read", "write")
BATCH = 100
"""Requests of a turn; fewer where they are slow."""
TRACED = 20_000
"""Sessions counted by tracemalloc, which slows everything down."""
MUCH_LATER = 8 * 24 * 3600.0
"""Seconds; beyond any idle timeout and lifetime by default."""


class Pauses:
    """What the garbage collector costs: `gc.callbacks` gets `self`."""

    def __init__(self) -> None:
        self.began = self.total = self.longest = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self.began = time.perf_counter_ns()
        else:
            took = time.perf_counter_ns() - self.began
            self.total += took
            self.longest = max(self.longest, took)


class Crowd:
    """One instance of a peer with many live sessions, and the cookies of (some of) them."""

    def __init__(self, peer: Peer, live: int) -> None:
        self.hour = [time.time()]
        self.client = Client(peer, partial(self.hour.__getitem__, 0) if peer.clocked else None)
        self.live = live
        self.jar = bytearray()
        self.size = 0
        self.pauses = Pauses()
        self.worst = 0

    async def fill(self) -> float:
        """Log everybody in; return the mean ns of it. The cookies go where they cannot disturb what memory shows."""
        peer, asked, spent = self.client.peer, self.live, 0
        if peer.fill:
            asked = min(FEW, self.live)
            peer.fill(self.client.sessions, self.live - asked)
        for number in range(asked):
            spent += await self.request("new")
            cookie = self.client.cookie or b"-"
            self.size = len(cookie)
            self.jar = self.jar or bytearray(self.size * asked)
            self.jar[number * self.size : (number + 1) * self.size] = cookie
        if peer.stores and (stored := len(self.client.sessions)) != self.live:
            raise BrokenPeerError(f"{peer.key}: {stored} instead of {self.live} sessions")
        return spent / asked

    async def request(self, operation: str) -> int:
        """Time one request, for anybody; what it cost beyond a garbage collection counts for the worst."""
        number, self.client.cookie = self.client.app.serial, None
        if operation != "new":
            number = random.randrange(len(self.jar) // self.size)
            self.client.cookie = bytes(self.jar[number * self.size : (number + 1) * self.size])
        collected, began = self.pauses.total, time.thread_time_ns()
        took, wire = await self.client.timed(f"/{operation}")
        self.worst = max(self.worst, time.thread_time_ns() - began - (self.pauses.total - collected))
        self.check(operation, self.client.keep(wire), b"u%d" % (number + 1))
        return took

    def check(self, operation: str, body: bytes, user: bytes) -> None:
        """Refuse a figure from a peer that lost a session or took another's."""
        right = int(body) > 1 if operation == "write" else body == user
        if self.client.peer.stores and not right:
            raise BrokenPeerError(f"{self.client.peer.key}: {body!r} is no answer to {operation} of {user!r}")

    async def turn(self, operation: str, count: int) -> float:
        return sum([await self.request(operation) for _ in range(count)]) / count


async def crowd(peer: Peer, live: int) -> Crowd:
    made = Crowd(peer, live)
    await made.fill()
    return made


async def operate(level: Crowd, operation: str, turns: int) -> dict[str, float]:
    """Time one operation at this level against the bare app and against few sessions, in turns."""
    peer, level.worst = level.client.peer, 0
    bare, few, rows = await crowd(PEERS[peer.over], FEW), await crowd(peer, FEW), []
    count = max(1, min(BATCH, int(5e6 / await level.turn(operation, 1))))
    for _ in range(turns):
        if operation == "new":
            few = await crowd(peer, FEW)
            level = level if level.live > REBUILT else await crowd(peer, level.live)
        costs = {}
        for one in random.sample((bare, few, level), 3):
            costs[id(one)] = await one.turn(operation, count)
        rows.append([costs[id(one)] for one in (bare, few, level)])
    return {
        "added": statistics.median(own - base for base, _, own in rows),
        "added_at_few": statistics.median(other - base for base, other, _ in rows),
        "ratio": statistics.median((own - base) / (other - base) for base, other, own in rows),
        "worst": level.worst,
    }


async def expire(level: Crowd) -> dict[str, float]:
    """Let every session expire at once and time new ones until the old ones are gone, or as many as there were."""
    old, level.worst, spent, number = len(level.client.sessions), 0, [], 0
    level.hour[0] += MUCH_LATER
    while len(level.client.sessions) > number and number < old:
        spent.append(await level.request("new"))
        number += 1
        if number % 1000 == 0:
            await asyncio.sleep(0)
    return {"mean": statistics.fmean(spent), "worst": level.worst, "requests": number, "expired": old}


async def one_level(peer: Peer, live: int, turns: int) -> dict[str, Any]:
    await crowd(peer, FEW)
    gc.collect()
    level, before = Crowd(peer, live), resident()
    gc.callbacks.append(level.pauses)
    result: dict[str, Any] = {"fill": await level.fill(), "fill_worst": level.worst}
    gc.collect()
    result["bytes"] = (resident() - before - len(level.jar)) / live
    result |= {operation: await operate(level, operation, turns) for operation in OPERATIONS}
    if peer.clocked:
        result["expire"] = await expire(level)
    return result | {"pause": level.pauses.longest}


async def traced(peer: Peer, live: int) -> float:
    """Return the bytes of one session as the allocator sees them."""
    await crowd(peer, FEW)
    level = Crowd(peer, live)
    gc.collect()
    tracemalloc.start()
    await level.fill()
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] - len(level.jar)) / live


def resident() -> int:
    """Return this process's resident bytes (its peak where there is no /proc)."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * getpagesize() if statm.exists() else getrusage(RUSAGE_SELF).ru_maxrss


def alone(job: Callable[..., Any], key: str, *rest: int) -> Any:
    """Run a measurement in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(in_loop, job, key, rest).result()


def in_loop(job: Callable[..., Any], key: str, rest: Sequence[int]) -> Any:
    return asyncio.run(job(PEERS[key], *rest))


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure every peer that keeps sessions on the server at every level."""
    results: dict[str, Any] = {}
    levels = options.levels or LEVELS
    for peer in peers:
        if not peer.stores or "scale" in peer.lacks:
            continue
        tell(f"scale, {peer.key}: memory")
        results[peer.key] = {"traced_bytes": alone(traced, peer.key, min(TRACED, max(levels))), "levels": {}}
        for live in levels:
            tell(f"scale, {peer.key}: {live:,} live sessions")
            results[peer.key]["levels"][str(live)] = alone(one_level, peer.key, live, options.rounds or TURNS)
    return results
