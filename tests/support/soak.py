"""Two thousand clients that stream at once, for minutes, while something fails every ten seconds: what is left of it?

    python tests/support/soak.py [memory|redis] [--clients 2000] [--minutes 5]

Needs the extra `tests`, Linux, and `redis-server` for Redis. Prints a table, and what is wrong, which makes it fail.

Rules of residence: one run, from its server to its report. Guests are in `soak_guests`, faults in `soak_faults`, what
is right and wrong in `soak_report`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop
from servers_redis import KEEPS, RedisServer, standalone
from serving import UVICORN, Kind, Wire, free_port, launch
from soak_faults import Fault, of_memory, of_redis
from soak_guests import Gathering
from soak_report import Happening, Report, faults, table

STORES = ("memory", "redis")
KEEP_ALIVE = 15  # seconds: longer than a guest thinks; uvicorn's timer may hold a closed connection for so long
COMMAND = UVICORN + f" --http httptools --timeout-keep-alive {KEEP_ALIVE} --no-access-log --log-level critical"
CLIENTS, MINUTES, PAUSE = 2000, 5.0, 1.0  # a turn has six tokens, a pause apart; up to four are between turns
EVERY = 10.0  # seconds from fault to fault; in a short run less, so that each happens
SAMPLES = 30  # of the figures, spread over the run
ROOM = 4  # sessions for each client in the memory store: what a flood brings must fit in twice, or it evicts guests
FLOOD = 2  # strangers for each client
A_DAY = 86_400.0


class Run:
    """One run against a server that is there, and its report."""

    def __init__(self, report: Report, gathering: Gathering, faults: list[Fault]) -> None:
        self.report, self.gathering, self.faults = report, gathering, faults
        report.counts, report.failures, report.lost = gathering.counts, gathering.failures, gathering.wrong
        self.began = 0.0

    async def run(self) -> None:
        await self.warm_up()
        self.report.base = await self.figures("?objects=1")
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.gathering.stay())
            watching = [group.create_task(self.watch()), group.create_task(self.break_things())]
            await asyncio.wait(watching)
            self.gathering.closing = True
        await self.leave(self.gathering)
        self.report.end = await self.figures("?objects=1")

    async def warm_up(self) -> None:
        """Let a few guests do all there is to do, so that what is made once is made, and end all as the run does."""
        few = Gathering(self.gathering.port, max(10, self.report.clients // 20), self.gathering.pause)
        if self.report.store == "memory":
            await few.flood(ROOM * self.report.clients)
        async with asyncio.TaskGroup() as group:
            group.create_task(few.stay())
            await asyncio.sleep(20 * few.pause)
            few.closing = True
        await self.leave(few)
        self.report.lost += few.wrong

    async def leave(self, gathering: Gathering) -> None:
        """Let everybody go home, and expire what sessions there still are."""
        await self.calm()
        await gathering.go_home()
        await self.ask(f"/purge?ahead={A_DAY}")
        await asyncio.sleep(KEEP_ALIVE + 1)

    async def calm(self) -> None:
        """Wait until the server has had as many tasks for two seconds: all that were left have ended."""
        seen = [-1]
        while len(seen) < 60 and len(set(seen[-5:])) > 1:
            await asyncio.sleep(0.5)
            seen.append((await self.figures())["tasks"])

    async def watch(self) -> None:
        while (passed := time.monotonic() - self.began) < self.report.seconds:
            self.report.samples.append({"at": passed, **await self.figures()})
            await asyncio.sleep(self.report.seconds / SAMPLES)

    async def break_things(self) -> None:
        """Let the faults happen, one after the other, and again."""
        every = min(EVERY, self.report.seconds / (len(self.faults) + 1))
        for number, fault in enumerate(itertools.cycle(self.faults), 1):
            if number * every >= self.report.seconds - 1:
                return
            await asyncio.sleep(max(0, self.began + number * every - time.monotonic()))
            start = time.monotonic()
            await fault.happen()
            self.report.happened.append(Happening(fault.name, start, time.monotonic(), fault.excuses))

    async def figures(self, query: str = "") -> dict[str, Any]:
        return dict(await self.ask(f"/figures{query}"))

    async def ask(self, target: str) -> Any:
        async with contextlib.aclosing(Wire(self.gathering.port)) as wire:
            return json.loads((await wire.get(target))[1])


@contextlib.contextmanager
def store_of(kind: str, folder: Path) -> Iterator[tuple[str, RedisServer | None]]:
    """Give the URL of an empty store, and the server behind it."""
    if kind == "memory":
        yield "memory://", None
    else:
        keep = (*KEEPS, "--auto-aof-rewrite-min-size", "8mb")
        with standalone(folder, *keep) as server:  # a small log, so that it is read in a second
            yield server.url, server


def allow_descriptors(number: int) -> None:
    """Raise the limit for this process and those that it starts, as far as that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number if hard < 0 else min(number, hard), hard))


def soak(kind: str, clients: int, seconds: float, pause: float) -> Report:
    """Run it, against a server and a store of its own. ``pause``: seconds between two tokens."""
    allow_descriptors(2 * clients + 1000)
    port, report = free_port(), Report(kind, clients, seconds)
    with tempfile.TemporaryDirectory() as folder, store_of(kind, Path(folder)) as (url, redis):
        env = {"STORE": url, "PAUSE": str(pause)}
        if redis is None:
            env["ROOM"] = str(ROOM * clients)
        with launch(Kind(COMMAND).argv(sys.executable, "soak_app:app", port), port, env) as server:
            gathering = Gathering(port, clients, pause)
            coming = of_redis(gathering, redis) if redis else of_memory(gathering, FLOOD * clients)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(Run(report, gathering, coming).run())
            report.left = int(redis.cli("dbsize").split()[-1]) if redis else report.end["sessions"]
            report.output = server.output
            assert server.terminate() in (0, -signal.SIGTERM)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", nargs="?", choices=STORES, help="both, if not given")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds between two tokens")
    given = parser.parse_args()
    kinds = [given.store] if given.store else STORES
    reports = [soak(kind, given.clients, given.minutes * 60, given.pause) for kind in kinds]
    print(*[table(reports), *map(faults, reports)], sep="\n\n")
    wrong = [f"{report.store}: {fault}" for report in reports for fault in report.wrong()]
    print(*wrong, sep="\n", file=sys.stderr)
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
