"""Two thousand clients that stream at once, for minutes, while something fails every ten seconds: what is left of it?

    python tests/soak.py [memory|redis] [--clients 2000] [--minutes 5]

Needs the extra `tests` and, for Redis, `redis-server`. Prints a table, and what is wrong, which also is the exit code.

Rules of residence: the run, its figures, and when they are wrong. Guests are in `soak_guests`, faults in `soak_faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers_redis import RedisServer, standalone
from serving import UVICORN, Kind, Server, Wire, free_port, launch
from soak_faults import Fault, of_memory, of_redis
from soak_guests import Gathering

__all__ = ["Sizes", "Soak", "soak", "table"]

STORES = ("memory", "redis")
COMMAND = UVICORN + " --http httptools --timeout-keep-alive 120 --no-access-log --log-level critical --backlog 4096"
EVERY = 10.0  # seconds from fault to fault; in a short run less, so that each happens
AFTER = 6.0  # seconds after the end of a fault in which turns may still fail by it: late saves try for 5 s
SAMPLES = 30  # of the figures, spread over the run
ROOM = 4  # sessions for each client in the memory store: what a flood brings must fit in twice, or it evicts guests
FLOOD = 2  # strangers for each client
A_DAY = 86_400.0
RAISED = ("BrokenError", "StoreError", "CancelledError", "LeaseLost")  # what the application may raise

# What may be left of it all. A leak of one object for each turn would leave tens of thousands.
MORE_OBJECTS = 1_000
MORE_TASKS = MORE_DESCRIPTORS = 0


@dataclass(frozen=True)
class Sizes:
    """``pause``: seconds between two tokens; a turn has six, and between turns there are up to four such pauses."""

    clients: int = 2000
    seconds: float = 300
    pause: float = 1.0


@dataclass
class Soak:
    """One run against one store, and all that was noted of it."""

    store: str
    sizes: Sizes
    server: Server
    gathering: Gathering
    faults: list[Fault]
    happened: Counter[str] = field(default_factory=Counter)
    excused: list[tuple[float, float]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    base: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    left: int = 0  # sessions, when all have ended
    output: str = ""  # of the server

    async def run(self) -> None:
        await self.warm_up()
        began, gathering = time.monotonic(), self.gathering
        async with asyncio.TaskGroup() as group:
            group.create_task(gathering.stay())
            watching = [group.create_task(self.watch(began)), group.create_task(self.break_things(began))]
            await asyncio.sleep(self.sizes.seconds)
            gathering.closing = True
            for task in watching:
                await task
        await self.leave(gathering)
        self.end = await self.figures("?objects=1")

    async def warm_up(self) -> None:
        """Let a few guests do all there is to do, so that what is made once is made, and all ends as the run does."""
        few = Gathering(self.server.port, max(10, self.sizes.clients // 20), self.sizes.pause)
        if self.store == "memory":
            await few.flood(ROOM * self.sizes.clients)
        async with asyncio.TaskGroup() as group:
            group.create_task(few.stay())
            await asyncio.sleep(20 * self.sizes.pause)
            few.closing = True
        await self.leave(few)
        self.gathering.wrong += few.wrong
        self.base = await self.figures("?objects=1")

    async def leave(self, gathering: Gathering) -> None:
        """Let everybody go home, and expire what sessions there still are."""
        await self.calm()
        await gathering.go_home()
        await self.ask(f"/purge?ahead={A_DAY}")
        await self.calm()

    async def calm(self) -> None:
        """Wait until the server has as many tasks as two seconds ago: all that were left have ended."""
        seen = [-1]
        while len(seen) < 60 and len(set(seen[-5:])) > 1:
            await asyncio.sleep(0.5)
            seen.append((await self.figures())["tasks"])

    async def watch(self, began: float) -> None:
        for number in range(1, SAMPLES + 1):
            await asyncio.sleep(max(0, began + number * self.sizes.seconds / SAMPLES - time.monotonic()))
            self.samples.append({"at": time.monotonic() - began, **await self.figures()})

    async def break_things(self, began: float) -> None:
        """Let the faults happen, one after the other, and again."""
        every = min(EVERY, self.sizes.seconds / (len(self.faults) + 1))
        for number, fault in enumerate(itertools.cycle(self.faults), 1):
            if number * every >= self.sizes.seconds:
                return
            await asyncio.sleep(max(0, began + number * every - time.monotonic()))
            start = time.monotonic()
            await fault.happen()
            self.happened[fault.name] += 1
            if fault.excuses:
                self.excused.append((start, time.monotonic() + AFTER))

    async def figures(self, query: str = "") -> dict[str, Any]:
        return dict(await self.ask(f"/figures{query}"))

    async def ask(self, target: str) -> Any:
        async with contextlib.aclosing(Wire(self.server.port)) as wire:
            return json.loads((await wire.get(target))[1])

    # --- what came of it ---

    @property
    def growth(self) -> float:
        """Bytes a minute by which the process grew in the second half, when there were as many clients all the time."""
        half = [sample for sample in self.samples if sample["at"] > self.sizes.seconds / 2]
        times, sizes = [sample["at"] / 60 for sample in half], [sample["bytes"] for sample in half]
        return statistics.linear_regression(times, sizes).slope

    def more(self, what: str) -> int:
        return int(self.end[what] - self.base[what])

    @property
    def more_objects(self) -> Counter[str]:
        """Live objects by type, at the end less at the beginning."""
        difference = Counter(self.end["objects"])
        difference.subtract(self.base["objects"])
        return difference

    def wrong(self) -> list[str]:
        """Return all that must not be, in words."""
        unexplained = [
            note for at, note in self.gathering.failures if not any(start <= at <= end for start, end in self.excused)
        ]
        wrong = [*self.gathering.wrong, *(f"failed without a reason: {note}" for note in unexplained)]
        wrong += [f"the application raised {name}" for name in self.end["errors"] if name not in RAISED]
        if self.store == "memory":
            wrong += [f"an event of memory: {name}" for name in self.end["events"] if name.startswith("store.")]
        wrong += [f"{number} more {what}" for what in ("tasks", "descriptors") if (number := self.more(what)) > 0]
        if self.more_objects.total() > MORE_OBJECTS:
            wrong.append(f"{self.more_objects.total():,} more objects: {self.more_objects.most_common(12)}")
        if self.left:
            wrong.append(f"{self.left} sessions are left")
        noise = [line for line in self.output.splitlines() if "never" in line]
        return wrong + noise[:20]


def rows(soak: Soak) -> dict[str, str]:
    """Return the figures of a run, as a table has them."""
    counts, peak = soak.gathering.counts, lambda what: max(sample[what] for sample in soak.samples)
    failed = counts["failed"] + counts["refused"]
    seconds = soak.samples[-1]["seconds"] - soak.base["seconds"]
    return {
        "clients, each with a connection of its own": f"{soak.sizes.clients:,}",
        "minutes": f"{soak.sizes.seconds / 60:.3g}",
        "turns acknowledged": f"{counts['acknowledged']:,}",
        "turns left in the middle": f"{counts['left']:,}",
        "turns in which the application raised": f"{counts['broken']:,}",
        "turns refused or cut off by a fault": f"{failed:,}",
        "tokens streamed": f"{counts['tokens']:,}",
        "logins, of them cut off": f"{counts['logins'] + counts['logins cut off']:,}, {counts['logins cut off']}",
        "logouts": f"{counts['logouts']:,}",
        "faults": f"{soak.happened.total()}",
        "sessions compared with what their clients were told": f"{counts['sessions compared']:,}",
        "requests with dead cookies": f"{counts['dead cookies tried']:,}",
        "**lost, mixed up or brought back**": f"**{len(soak.gathering.wrong)}**",
        "tasks: before, at most, after": triple(soak, "tasks", peak("tasks")),
        "descriptors: before, at most, after": triple(soak, "descriptors", peak("descriptors")),
        "objects: before, after": f"{total(soak.base):,}, {total(soak.end):,}",
        "memory (MB): before, at most, after": triple(soak, "bytes", peak("bytes"), 1e6),
        "its growth in the second half (MB a minute)": f"{soak.growth / 1e6:+.1f}",
        "processor time of the server": f"{seconds / soak.samples[-1]['at']:.0%}",
    }


def triple(soak: Soak, what: str, peak: float, unit: float = 1) -> str:
    return ", ".join(f"{value / unit:,.0f}" for value in (soak.base[what], peak, soak.end[what]))


def total(figures: dict[str, Any]) -> int:
    return sum(figures["objects"].values())


def table(soaks: list[Soak]) -> str:
    columns = [rows(soak) for soak in soaks]
    lines = [["", *(soak.store for soak in soaks)], ["---", *["---:"] * len(soaks)]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@contextlib.contextmanager
def store_of(kind: str, folder: Path) -> Iterator[tuple[str, RedisServer | None]]:
    """Give the URL of an empty store, and the server behind it."""
    if kind == "memory":
        yield "memory://", None
    else:
        with standalone(folder, "--appendonly", "yes", "--appendfsync", "always") as server:
            yield server.url, server


def soak(kind: str, sizes: Sizes) -> Soak:
    """Run it, against a server and a store of its own."""
    enough = sizes.clients * 2 + 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough if hard < 0 else min(enough, hard), hard))
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, store_of(kind, Path(folder)) as (url, redis):
        env = {"STORE": url, "PAUSE": str(sizes.pause)}
        if redis is None:
            env["ROOM"] = str(ROOM * sizes.clients)
        with launch(Kind(COMMAND).argv(sys.executable, "soak_app:app", port), port, env) as server:
            gathering = Gathering(port, sizes.clients, sizes.pause)
            strangers = FLOOD * sizes.clients
            faults = of_memory(gathering, strangers) if redis is None else of_redis(gathering, redis)
            done = Soak(kind, sizes, server, gathering, faults)
            asyncio.run(done.run())
            done.left = done.end["sessions"] if redis is None else int(redis.cli("dbsize").split()[-1])
            done.output = server.output
            assert server.terminate() in (0, -signal.SIGTERM)
            return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store", nargs="?", choices=STORES, help="both, if not given")
    parser.add_argument("--clients", type=int, default=Sizes.clients)
    parser.add_argument("--minutes", type=float, default=Sizes.seconds / 60)
    parser.add_argument("--pause", type=float, default=Sizes.pause, help="seconds between two tokens")
    given = parser.parse_args()
    sizes = Sizes(given.clients, given.minutes * 60, given.pause)
    soaks = [soak(kind, sizes) for kind in ([given.store] if given.store else STORES)]
    print(table(soaks))
    wrong = [f"{each.store}: {fault}" for each in soaks for fault in each.wrong()]
    print(*wrong[:50], sep="\n", file=sys.stderr)
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
