"""Where the CPU of a read and a write goes on each store: the functions that are at work, by their share.

Rules of residence: our middleware on every store of bytes, sampled. A timer interrupts the event loop's thread, and the
CPU time that this has used since the last time counts for the function that it is in. C code counts for the function
that called it. A store's own threads, which no signal interrupts, are told as a whole.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import fastersession
from bench.checks import JUDGED, OURS
from bench.crowd import CASES, Case, Crowd
from bench.peers import versions
from bench.servers import Store
from bench.servers_sql import STORES
from bench.store_peers import pick

CASES_SAMPLED = ("read", "write", "new")
EVERY = 0.001
"""Seconds between two samples. By the clock on the wall: timers of CPU time go with the scheduler's ticks, and so does
the work of a process that waits for a server."""
SECONDS, TURN = 6.0, 0.5
"""Sampled of each case on each store, and of one turn of it."""
LEAST = 0.001
"""Share below which a function is forgotten."""
PACKAGE, BENCH = str(Path(fastersession.__file__).parent), str(Path(__file__).parent)
PYTHON = str(Path(asyncio.__file__).parents[1])


class Sampled:
    """Samples the thread that it is entered in. `functions` has ns of CPU time, by file and name."""

    def __init__(self) -> None:
        self.functions: Counter[tuple[str, str]] = Counter()
        self._last = 0

    def __enter__(self) -> Sampled:
        self._before = signal.signal(signal.SIGALRM, self._take)
        self._last = time.thread_time_ns()
        self._timer_before = signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
        return self

    def __exit__(self, *failure: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        signal.setitimer(signal.ITIMER_REAL, *self._timer_before)

    def _take(self, number: int, frame: FrameType | None) -> None:
        now = time.thread_time_ns()
        if frame is not None:
            self.functions[frame.f_code.co_filename, frame.f_code.co_qualname] += now - self._last
        self._last = now


def threads() -> dict[str, int]:
    """Return the CPU time of each thread of this process but the running one, in ns, by name."""
    found = {}
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.ident is not None:
            found[thread.name] = time.clock_gettime_ns(time.pthread_getcpuclockid(thread.ident))
    return found


def place(file: str) -> tuple[str, str]:
    """Return the part of the whole that a file belongs to, and its short name."""
    path = Path(file)
    if file.startswith(PACKAGE):
        inside = path.relative_to(PACKAGE).parts
        deep = 2 if inside[0] == "stores" and len(inside) > 2 else 1
        part = "/".join(inside[:deep]) if len(inside) > deep else "the rest of fastersession"
        return part, "/".join(inside)
    if file.startswith(BENCH):
        return "the application and its client", path.name
    if "site-packages" in path.parts:
        inside = path.parts[path.parts.index("site-packages") + 1 :]
        return inside[0], "/".join(inside)
    return "asyncio and what Python brings", "/".join(path.parts[-2:]) if file.startswith(PYTHON) else path.name


def shares(taken: dict[tuple[str, str], int], beside: dict[str, int]) -> dict[str, dict[str, float]]:
    """Return the share of each part and of each function in all that was taken, the largest first."""
    total = sum(taken.values()) + sum(beside.values()) or 1
    parts: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for (file, name), ns in taken.items():
        part, short = place(file)
        parts[part] += ns
        functions[f"{short}: {name}"] += ns
    for name, ns in beside.items():
        parts[f"the thread {name}"] += ns
    return {
        "parts": {name: ns / total for name, ns in parts.most_common()},
        "functions": {name: ns / total for name, ns in functions.most_common() if ns >= total * LEAST},
    }


async def sampled(crowd: Crowd, case: Case, level: int, seconds: float) -> dict[str, Any]:
    """Run turns of one case, so many at once, and return where the CPU went; each turn's answers are checked."""
    await crowd.turn(case, level, 1)
    turn = await crowd.turn(case, level, 2)
    count = max(1, int(min(TURN, seconds) * 1e9 / turn.ns / level))
    sampler, turns, end = Sampled(), [], time.monotonic() + seconds
    beside: Counter[str] = Counter()
    while not turns or time.monotonic() < end:
        before = threads()
        turns.append(await crowd.turn(case, level, count, sampler))
        beside.update({name: ns - before.get(name, 0) for name, ns in threads().items()})
    requests = sum(turn.requests for turn in turns)
    cpu = sum(turn.cpu * turn.requests for turn in turns) / requests
    return {"cpu": cpu, **shares(dict(sampler.functions), {name: ns for name, ns in beside.items() if ns})}


async def sampled_on(kind: type[Store], level: int, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Sample every case on one store."""
    with kind() as store:
        (peer,) = pick(store.key, [OURS])
        crowd = Crowd(peer, store, level, 0)
        try:
            await crowd.begin()
            gc.collect()
            gc.freeze()  # as in the part whose figures this explains
            cases = {}
            for key in CASES_SAMPLED:
                tell(f"{store.title}, where the CPU of a {key} goes")
                cases[key] = {"title": CASES[key].title, **await sampled(crowd, CASES[key], level, seconds)}
            await crowd.verify()
        finally:
            gc.unfreeze()
            await crowd.close()
        return {"title": store.title, "versions": [store.version(), *versions(*peer.packages)], "cases": cases}


def measure(peers: Sequence[Any], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Sample on every store that is installed, whatever peers and cases are asked for."""
    level = max(options.at_once or [int(JUDGED)])
    found = {}
    for key in options.stores or STORES:
        if missing := [*STORES[key].missing(), *([] if pick(key, [OURS]) else ["the driver"])]:
            tell(f"not installed, so left out: {key} ({', '.join(missing)})")
            continue
        found[key] = asyncio.run(sampled_on(STORES[key], level, options.seconds or SECONDS, tell))
    return {"level": level, "stores": found}
