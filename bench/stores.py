"""Requests a second against sessions in every store, at 1 to 200 at once, beside the bare drivers and other libraries.

Rules of residence: the rounds, in which the peers of a store take turns, and their medians; ratios are taken within a
round. A crowd makes the requests and proves what they did. No peer is named here.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench.app import piled
from bench.crowd import CASES, LARGE, Case, Crowd, Turn
from bench.inprocess import ratio
from bench.peers import versions
from bench.servers import Store
from bench.servers_sql import STORES
from bench.store_peers import STORE_PEERS, StorePeer, pick

ROUNDS, SECONDS = 7, 0.12
"""Timed seconds are per peer, case and number at once, in a round."""
AT_ONCE = (1, 10, 50, 200)
TURNS = 2
"""A round's figure is the median of its turns; of large sessions there is one, which takes long enough."""
DECODED = 20
WARM = 2
"""Turns before the rounds, of one request in each browser."""

Rounds = list[list[Turn]]
"""For each round, its turns."""


def measure(peers: Sequence[Any], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure on every store that is installed; the peers are those that work there, whoever else is measured."""
    rounds, seconds = options.rounds or ROUNDS, options.seconds or SECONDS
    cases = [CASES[key] for key in options.cases or CASES if key in CASES]
    found = {}
    for key in options.stores or STORES:
        if missing := STORES[key].missing():
            tell(f"not installed, so left out: {key} ({', '.join(missing)})")
            continue
        chosen = pick(key, options.peers)
        found[key] = asyncio.run(compare(STORES[key], chosen, cases, options.at_once or AT_ONCE, rounds, seconds, tell))
    return {"rounds": rounds, "decode": decoding(), "stores": found}


def decoding() -> float:
    """Return the ns that it takes to decode 2 MB of messages once, as the standard library does it."""
    text = json.dumps(piled())
    times = []
    for _ in range(DECODED):
        begin = time.process_time_ns()
        json.loads(text)
        times.append(time.process_time_ns() - begin)
    return statistics.median(times)


async def compare(
    kind: type[Store],
    peers: Sequence[StorePeer],
    cases: Sequence[Case],
    levels: Sequence[int],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Run all rounds on one store; `seconds` are per peer, case and level in a round."""
    async with AsyncExitStack() as stack:
        store = stack.enter_context(kind())
        stack.callback(gc.unfreeze)
        crowds: list[Crowd] = []
        large = LARGE if any(case.large or case.loads for case in cases) else 0
        for peer in peers:
            crowds.append(Crowd(peer, store, max(levels), large))
            stack.push_async_callback(crowds[-1].close)
            await crowds[-1].begin()
        gc.collect()
        gc.freeze()  # what is there now is nothing for the collector to visit
        samples = await _rounds(crowds, cases, levels, rounds, seconds, lambda line: tell(f"{store.title}, {line}"))
        return {
            "title": store.title,
            "versions": [store.version(), *versions(*dict.fromkeys(name for peer in peers for name in peer.packages))],
            "driver": STORE_PEERS[store.key][0].key,
            "peers": [peer.key for peer in peers],
            "cases": {
                case.key: {
                    "title": case.title,
                    "levels": {str(level): summary(samples[case.key, level]) for level in levels},
                }
                for case in cases
            },
        }


async def _rounds(
    crowds: Sequence[Crowd],
    cases: Sequence[Case],
    levels: Sequence[int],
    rounds: int,
    seconds: float,
    tell: Callable[[str], None],
) -> dict[tuple[str, int], dict[str, Rounds]]:
    jobs = [(case, level) for case in cases for level in levels]
    samples: dict[tuple[str, int], dict[str, Rounds]] = {
        (case.key, level): {crowd.peer.key: [] for crowd in crowds} for case, level in jobs
    }
    counts = {(crowd, *job): await fitting(crowd, *job, seconds / TURNS) for job in jobs for crowd in crowds}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for case, level in random.sample(jobs, len(jobs)):
            turns: dict[Crowd, list[Turn]] = {crowd: [] for crowd in crowds}
            for _ in range(1 if case.large else TURNS):
                for crowd in random.sample(crowds, len(crowds)):
                    turns[crowd].append(await crowd.turn(case, level, counts[crowd, case, level]))
            for crowd in crowds:
                samples[case.key, level][crowd.peer.key].append(turns[crowd])
        for crowd in crowds:
            await crowd.verify()
    return samples


async def fitting(crowd: Crowd, case: Case, level: int, seconds: float) -> int:
    """Find how many requests of each browser fill a turn; it warms everything up as well."""
    took = min([(await crowd.turn(case, level, 1)).ns for _ in range(1 if case.large else WARM)])
    return max(1, int(seconds * 1e9 / took / level))


def summary(samples: dict[str, Rounds]) -> dict[str, Any]:
    """Reduce turns to medians of rounds, each the median of its turns; p99 is of all requests of a round.

    `ratio` has the requests a second as a multiple of each other peer's.
    """
    ns = {key: of_rounds(rounds, lambda turn: turn.ns) for key, rounds in samples.items()}
    return {
        key: {
            "rps": 1e9 / statistics.median(ns[key]),
            "cpu": statistics.median(of_rounds(rounds, lambda turn: turn.cpu)),
            "server": served(rounds),
            "p99": statistics.median(p99([took for turn in turns for took in turn.took]) for turns in rounds),
            "ratio": {to: ratio(ns[to], ns[key]) for to in samples if to != key},
        }
        for key, rounds in samples.items()
    }


def of_rounds(rounds: Rounds, figure: Callable[[Turn], float]) -> list[float]:
    return [statistics.median(map(figure, turns)) for turns in rounds]


def served(rounds: Rounds) -> float | None:
    """Return the server's CPU time of a request, where there is a server."""
    if any(turn.server is None for turns in rounds for turn in turns):
        return None
    return statistics.median(of_rounds(rounds, lambda turn: turn.server or 0.0))


def p99(took: Sequence[int]) -> int:
    """Return the time that 99 of 100 requests keep to."""
    return sorted(took)[-(-len(took) * 99 // 100) - 1]
