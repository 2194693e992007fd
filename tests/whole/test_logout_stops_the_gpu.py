"""Logout stops the GPU (SECURITY U7, U8): workers, servers and stores as processes, and a model that counts tokens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles

import httpx
import pytest
from accounts import USERS
from server_apps import SECRET
from servers_redis import cluster, standalone
from servers_sql import MariaDB, PostgreSQL
from serving import DEADLINE, GRANIAN, HYPERCORN, Kind, Server, Wire, free_port, launch, until
from test_workers import COMMAND as UVICORN

from fastersession import Sessions

SERVERS = {"uvicorn": UVICORN, "hypercorn": HYPERCORN + " --workers ", "granian": GRANIAN + " --workers "}
STORES = ("sqlite", "redis", "redis_cluster", "asyncpg", "mariadb")
TABS = 4  # streams of one session
LATEST = 2.0  # seconds after the revocation: what is promised


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Give the URL of a store, and what takes it away at once."""
    if kind == "sqlite":
        path = folder / "sessions.db"

        def rename() -> None:
            with contextlib.closing(sqlite3.connect(path, timeout=DEADLINE)) as file:
                file.execute("alter table session rename to elsewhere")

        yield f"sqlite:///{path}", rename
    elif kind == "redis":
        with standalone(folder) as server:
            yield server.url, server.kill
    elif kind == "redis_cluster":
        with cluster(folder) as servers:
            yield servers[0].cluster_url, lambda: [server.kill() for server in servers]
    else:
        with contextlib.closing({"asyncpg": PostgreSQL, "mariadb": MariaDB}[kind]()) as database:
            yield database.url(), database.kill


@contextlib.contextmanager
def workers(name: str, number: int, **env: str) -> Iterator[Server]:
    """Run the application in so many processes, and wait for all of them."""
    port, seen = free_port(), set()
    argv = Kind(SERVERS[name] + str(number)).argv(sys.executable, "gpu_app:app", port)
    with launch(argv, port, env) as server:
        until(lambda: len(seen) == number or seen.add(httpx.get(f"{server.url}/ready").headers["worker"]), "workers")
        yield server


class Listener:
    """A client of one stream: how many tokens it has had, and how its answer has ended."""

    def __init__(self, port: int, name: str, cookie: str) -> None:
        self.wire, self.name, self.cookie = Wire(port), name, cookie
        self.tokens = 0
        self.end = ""
        self.worker = ""

    async def listen(self) -> None:
        try:
            self.worker = (await self.wire.ask(f"/stream?name={self.name}", self.cookie))["worker"]
            async for _ in self.wire.chunks():
                self.tokens += 1
            self.end = "complete"
        except (asyncio.IncompleteReadError, OSError):
            self.end = "broken"
        finally:
            await self.wire.aclose()


async def log_in(port: int, user: str) -> str:
    """Return the cookie of a new session."""
    async with contextlib.aclosing(Wire(port)) as wire:
        headers, _ = await wire.get(f"/login?user={user}")
        return headers["set-cookie"].partition(";")[0]


async def eventually(there: Callable[[], object], what: str) -> None:
    """Wait until something is true."""
    end = time.monotonic() + DEADLINE
    while not there():
        assert time.monotonic() < end, f"waited for {what}"
        await asyncio.sleep(0.02)


class Trial:
    """Streams of two users, of whom one is logged out everywhere."""

    def __init__(self, server: Server, model: Path, streams: int) -> None:
        self.server, self.model, self.streams = server, model, streams

    async def begin(self) -> None:
        """Let four of five streams be Ada's and the rest Eve's, and wait until each has begun."""
        sessions = max(self.streams // TABS, 5)
        users = ["eve" if number % 5 == 0 else "ada" for number in range(sessions)]
        cookies = [(user, await log_in(self.server.port, user)) for user in users]
        self.of: dict[str, list[Listener]] = {"ada": [], "eve": []}
        for number in range(self.streams):
            user, cookie = cookies[number % sessions]
            self.of[user].append(Listener(self.server.port, f"{user}{number}", cookie))
        everyone = [*self.of["ada"], *self.of["eve"]]
        self.tasks = [asyncio.create_task(listener.listen()) for listener in everyone]
        await eventually(lambda: all(listener.tokens > 1 for listener in everyone), "tokens")
        self.spread = Counter(listener.worker for listener in everyone)

    async def log_out(self, url: str) -> list[float]:
        """Revoke Ada's sessions; return how long after that each of her streams has had its last token."""
        async with Sessions(url, SECRET, session_cookie="sid") as sessions:
            await sessions.revoke_user("ada")
            at = time.monotonic()
            await eventually(lambda: all(listener.end for listener in self.of["ada"]), "ends")
        await eventually(lambda: len(self.ended()) >= len(self.of["ada"]), "the model")
        return sorted(max(0.0, line["last"] - at) for line in self.ended())

    def ended(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in self.model.read_text().splitlines()] if self.model.exists() else []

    async def go_on(self) -> None:
        """Wait until each of Eve's streams has had more tokens."""
        had = {listener: listener.tokens for listener in self.of["eve"]}
        await eventually(lambda: all(one.tokens > count + 2 or one.end for one, count in had.items()), "more tokens")

    async def leave(self) -> None:
        for listener in self.of["eve"]:
            listener.wire.drop()
        await asyncio.wait(self.tasks)


async def play(server: Server, model: Path, streams: int, url: str, take_away: Callable[[], object] | None) -> str:
    """Play the whole, and return its figures."""
    trial = Trial(server, model, streams)
    await trial.begin()
    delays = await trial.log_out(url)
    assert {listener.end for listener in trial.of["ada"]} == {"broken"}
    assert len(delays) == len(trial.of["ada"])
    await trial.go_on()
    assert {listener.end for listener in trial.of["eve"]} == {""}
    if take_away is not None:
        take_away()
        await eventually(lambda: "could not be asked which sessions have ended" in server.output, "watch.failed")
        await trial.go_on()
        assert {listener.end for listener in trial.of["eve"]} == {""}
    await trial.leave()
    assert delays[-1] <= LATEST
    cuts = quantiles(delays, n=100, method="inclusive")
    figures = f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, max {delays[-1]:.2f} s"
    return f"{len(delays)} streams cut on {[*trial.spread.values()]}: {figures}"


def rows() -> list[object]:
    """Parametrize over servers, stores and sizes: workers, streams, whether the store is taken away."""
    marks = [pytest.mark.long, pytest.mark.timeout(300)]
    full = [(server, store, 4, 500) for server in SERVERS for store in STORES if store in USERS]
    small = pytest.param("uvicorn", "sqlite", 2, 20, False, id="uvicorn-sqlite-20")
    return [small, *(pytest.param(*row, True, marks=marks, id="-".join(map(str, row[:2]))) for row in full)]


@pytest.mark.parametrize(("name", "kind", "number", "streams", "outage"), rows())
def test_u7_u8_logout_stops_the_gpu(
    name: str, kind: str, number: int, streams: int, outage: bool, tmp_path: Path
) -> None:
    """U7, U8: in every worker the model stops within two seconds, no client takes its answer for complete.

    Another user's streams go on, also while the store is away.
    """
    model = tmp_path / "model.jsonl"
    with place(kind, tmp_path) as (url, take_away), workers(name, number, STORE=url, MODEL=str(model)) as server:
        print(name, kind, asyncio.run(play(server, model, streams, url, take_away if outage else None)))
