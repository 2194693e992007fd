"""Several worker processes over one store, one of them killed: what a client saw acknowledged is kept, for it alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

import httpx
import pytest
import uvicorn
from driver import Browser, lifespan
from routes import content
from routes import serve as in_process
from server_apps import SECRET
from servers_redis import standalone
from servers_sql import MariaDB, PostgreSQL
from serving import DEADLINE, UVICORN, Kind, Server, Wire, free_port, launch, until
from visitors import Crowd, Visitor

from fastersession.stores import from_url

# Not killed by its own supervisor where the machine is busy, as newer ones may, nor closed in the moment of the next
# request. A worker that is killed while it is asked how it is holds its supervisor for the whole time-out, which heeds
# no SIGTERM meanwhile: so less than the helper waits for the end.
PATIENT = f" --timeout-worker-healthcheck {DEADLINE // 2}" * (
    "timeout_worker_healthcheck" in signature(uvicorn.Config).parameters
)
COMMAND = UVICORN + PATIENT + " --timeout-keep-alive 60 --no-access-log --workers "


@contextlib.contextmanager
def store_url(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of an empty store that processes can share, as long as it is needed."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/sessions.db"
    elif kind == "redis":
        with standalone(folder) as server:
            yield server.url
    else:
        with contextlib.closing({"postgresql": PostgreSQL, "mariadb": MariaDB}[kind]()) as database:
            yield database.url()


@contextlib.contextmanager
def workers(number: int, **env: str) -> Iterator[Server]:
    """Run the application in so many processes, and wait for all of them."""
    port, seen = free_port(), set()
    argv = Kind(COMMAND + str(number)).argv(sys.executable, "workers_app:app", port)
    with launch(argv, port, env) as server:
        until(lambda: len(seen) == number or seen.add(httpx.get(f"{server.url}/ready").headers["worker"]), "workers")
        yield server


async def ask_anew(visitor: Visitor) -> list[str]:
    """Read the session over a new connection, which leads to any of the workers."""
    async with contextlib.aclosing(Wire(visitor.crowd.port)) as wire:
        headers = await visitor.request(wire, "/session", {})
        kept = json.loads(await wire.streams[0].readexactly(int(headers["content-length"])))
        return visitor.faults(kept, settled=False)


async def look_into(url: str, crowd: Crowd) -> list[str]:
    """Read all sessions with a middleware of this process, when no worker runs any more."""
    app = in_process(store=from_url(url), secret_key=SECRET)
    wrong = []
    async with lifespan(app):
        for visitor in crowd.visitors:
            browser = Browser(app)
            browser.jar.take((b"set-cookie", f"{name}={value}".encode()) for name, value in visitor.cookies.items())
            wrong += visitor.faults(await content(browser), settled=True)
    return wrong


async def visit(crowd: Crowd) -> list[str]:
    await crowd.visit()
    return [fault for visitor in crowd.visitors for fault in await ask_anew(visitor)]


def rows() -> list[object]:
    """Parametrize over stores and sizes: workers, browsers, turns of each, browsers at once.

    A hundred tabs already keep a database, four workers and their clients busy on the two cores of a small machine.
    """
    marks = [pytest.mark.long, pytest.mark.timeout(900)]
    small = [(kind, (2, 20, 6, 20), {"LEASE": "3"}, ()) for kind in ("redis", "sqlite")]
    full = [(kind, (4, 200, 50, 200), {}, marks) for kind in ("redis", "sqlite")]
    full += [(kind, (4, 200, 50, 50), {}, marks) for kind in ("postgresql", "mariadb")]
    return [pytest.param(kind, *row, marks=mark, id=f"{kind}-{row[0][1]}") for kind, *row, mark in small + full]


@pytest.mark.parametrize(("kind", "size", "env"), rows())
def test_nothing_acknowledged_is_lost_and_nothing_is_anothers(
    kind: str, size: tuple[int, int, int, int], env: dict[str, str], tmp_path: Path
) -> None:
    """Two tabs of each browser, turns that are left, a worker that is killed: every acknowledged turn is there."""
    number, *crowded = size
    with store_url(kind, tmp_path) as url:
        with workers(number, STORE=url, **env) as server:
            crowd = Crowd(server.port, *crowded)
            wrong = asyncio.run(visit(crowd))
            print(f"{kind}: {crowd.figures()}")
            assert server.terminate() == 0
            assert "Traceback" not in server.output
        assert wrong == []
        assert crowd.killed is not None
        assert crowd.unexplained() == []
        assert asyncio.run(look_into(url, crowd)) == []
