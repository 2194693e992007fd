"""SQLStore in several processes: kill -9 of a worker and of the server, and batches of two at once."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest
from clocks import FakeClock
from over_sql import KINDS, Place
from paths import SUPPORT, TESTS
from store_subject import V1, V2, V3, content
from test_sql_batches import IDS, call, seen

from fastersession import MemoryStore
from fastersession.stores.sql import SQLStore

PRELUDE = """
import asyncio, json, os, sys
sys.path[:0] = {paths!r}
from store_subject import *
from fastersession.errors import StoreError
from fastersession.stores.sql import SQLStore
url, table = {url!r}, {table!r}
"""

SESSIONS, SAVES = 100, 2  # at least: they go on until the kill
STORM = """
async def main():
    store = SQLStore(url, table=table)
    await store.open()
    async def user(number):
        record_id = bytes([number]) * 16
        for turn in range(1_000_000):
            value = b"%d" % turn
            if turn == 0:
                await make(store, record_id, turn=value, twin=value)
            else:
                assert await store.update(record_id, V1, Change(store.clock(), {"turn": value, "twin": value}))
            os.write(1, b"%d %d\\n" % (number, turn))
    await asyncio.gather(*map(user, range(100)), return_exceptions=True)
asyncio.run(main())
"""

WORKER = """
from clocks import FakeClock
from test_sql_batches import call
async def main():
    clock = FakeClock()
    store = SQLStore(url, table=table, clock=clock)
    await store.open()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        now, calls = json.loads(line)
        clock.now = now
        verbs = (call(store, now, one[0], one[1], (V1, V2, V3)[one[2]], *one[3:]) for one in calls)
        print(json.dumps(await asyncio.gather(*verbs)), flush=True)
    await store.close()
asyncio.run(main())
"""


def start(place: Place, code: str) -> subprocess.Popen[str]:
    prelude = PRELUDE.format(paths=[str(SUPPORT), str(TESTS / "stores")], url=place.url, table=place.table)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", prelude + code], text=True, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("who", ["worker", "server"])
@pytest.mark.parametrize(
    "driver", ["asyncpg", *(pytest.param(one, marks=pytest.mark.long) for one in KINDS if one != "asyncpg")]
)
def test_kill_9_in_the_middle_of_batches_loses_nothing_acknowledged(driver: str, who: str) -> None:
    """A hundred sessions with two saves each and more, at once: what was acknowledged is there, and nothing by half."""
    with closing(KINDS[driver](durable=True)) as server:
        place = Place(server, driver)
        with start(place, STORM) as worker:
            assert worker.stdout is not None
            lines = [worker.stdout.readline() for _ in range(SESSIONS * (1 + SAVES) + 20)]
            kill: Callable[[], Any] = worker.kill if who == "worker" else server.kill
            kill()
            lines += worker.stdout.readlines()
        if who == "server":
            server.start()
        acknowledged = dict(tuple(map(int, line.split())) for line in lines if line.endswith("\n"))
        assert len(acknowledged) == SESSIONS

        async def check(store: SQLStore) -> None:
            for number, turn in acknowledged.items():
                kept = await content(store, bytes([number]) * 16)
                assert int(kept["turn"]) in (turn, turn + 1)
                assert kept["turn"] == kept["twin"]

        place.run(check)
        orphans = f"_attribute where session_id not in (select id from {place.table})"
        assert place.count(orphans) == 0


VERBS = ("create", "update", "update", "touch", "delete", "regenerate", "lock", "unlock", "removing")


@pytest.mark.long
def test_s12_batches_of_two_processes_have_the_outcomes_of_one_call_after_the_other(place: Place) -> None:
    """In each step every record is one process's, for between two there is no order; in the next it is the other's."""
    clock, chance = FakeClock(), random.Random(12)
    reference = MemoryStore(clock=clock)

    async def steps(store: SQLStore) -> None:
        with ExitStack() as stack:
            workers = [stack.enter_context(start(place, WORKER)) for _ in range(2)]
            for number in range(200):
                calls = [
                    (
                        chance.randrange(6),
                        chance.choice(VERBS),
                        chance.randrange(3),
                        chance.randrange(4),
                        chance.random() < 0.5,
                    )
                    for _ in range(chance.randrange(24))
                ]
                now = clock()
                expected: list[list[bool]] = [[], []]
                for one in calls:
                    record, verb, verifier, *more = one
                    outcome = await call(reference, now, record, verb, (V1, V2, V3)[verifier], *more)
                    expected[(record + number) % 2].append(outcome)
                for which, worker in enumerate(workers):
                    assert worker.stdin is not None
                    mine = [one for one in calls if (one[0] + number) % 2 == which]
                    worker.stdin.write(json.dumps([now, mine]) + "\n")
                    worker.stdin.flush()
                got = [json.loads(await asyncio.to_thread(worker.stdout.readline)) for worker in workers]  # type: ignore[union-attr]
                assert got == expected
                found = await asyncio.gather(*map(store.load, IDS[:6]))
                assert [seen(one) for one in found] == [seen(await reference.load(i)) for i in IDS[:6]]
                clock.advance(chance.randrange(60))
            for worker in workers:
                assert worker.communicate()[1] == ""

    place.run(steps, clock=clock)
