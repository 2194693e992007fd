"""The rounds in which peers are timed against each other in one process.

Rules of residence: one running event loop and one client for every peer; what a request costs is read by the client.
Knows no case by name, and no peer but those that have no sessions.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.cases import CASES, Case
from bench.client import Client
from bench.peers import Peer

ROUNDS, SECONDS = 20, 0.03
"""Timed seconds are per peer and case in a round."""

TURNS = 8
"""A round is cut into turns, and the peers change places between them: what disturbs one turn disturbs no median."""

AGAINST = ("floor", "starlette", "fastsession")
"""Peers with which every other is compared."""

Samples = dict[str, list[list[float]]]
"""For each peer, for each round, the ns of each turn."""


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
            took, wire = await self.client.timed(self.case.path, self.case.kind)
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


def measure(peers: Sequence[Peer], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure the cases asked for, with every peer that can do them."""
    cases = [CASES[key] for key in options.cases or CASES if key in CASES]
    return asyncio.run(compare(peers, cases, options.rounds or ROUNDS, options.seconds or SECONDS, tell))


async def compare(
    peers: Sequence[Peer], cases: Sequence[Case], rounds: int, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Run all rounds, every round with all cases and all peers in random order; `seconds` are per peer and case."""
    able = {case.key: [peer for peer in peers if case.key not in peer.lacks] for case in cases}
    counts = {case.key: await calibrate(able[case.key], case, seconds) for case in cases}
    samples: dict[str, Samples] = {case.key: {peer.key: [] for peer in able[case.key]} for case in cases}
    for number in range(rounds):
        tell(f"in process, round {number + 1} of {rounds}")
        for case in random.sample(cases, len(cases)):
            for key, turns in (await one_round(able[case.key], case, counts[case.key])).items():
                samples[case.key][key].append(turns)
    gc.unfreeze()
    over = {peer.key: peer.over for peer in peers if not peer.bare}
    return {case.key: summary(case, samples[case.key], over) for case in cases}


def summary(case: Case, samples: Samples, over: Mapping[str, str]) -> dict[str, Any]:
    """Reduce ns: the median of a round's turns is the round's figure; ratios are taken within rounds, then medians.

    `over` names for each peer the app without sessions that it is held against; a peer without samples gets `None`.
    """
    figures = {key: [statistics.median(turns) for turns in rounds] for key, rounds in samples.items()}
    least = {key: min(min(turns) for turns in rounds) for key, rounds in samples.items()}
    added = {
        key: [own - base for own, base in zip(figures[key], figures[over[key]], strict=True)]
        for key in over
        if key in figures
    }
    return {
        "title": case.title,
        "unit": case.unit_name,
        "bases": {key: statistics.median(figures[key]) for key in figures if key not in over},
        "peers": {
            key: {
                "added": statistics.median(added[key]),
                "least": least[key] - least[over[key]],
                "ratio": {to: ratio(added[key], added[to]) for to in AGAINST if to in added},
            }
            if key in added
            else None
            for key in over
        },
    }


def ratio(own: Sequence[float], other: Sequence[float]) -> float:
    return statistics.median(a / b if b > 0 else float("inf") for a, b in zip(own, other, strict=True))
