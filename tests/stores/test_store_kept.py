"""What a client was told is kept, is kept: after a kill -9 of a server or of the application, and after a failover."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from driver import Browser, in_loop
from paths import SUPPORT
from routes import content, serve
from servers_redis import cluster, standalone, until

from fastersession.stores.redis import RedisStore
from fastersession.stores.sqlite import SQLiteStore


@in_loop
async def test_redis_keeps_over_a_kill_what_it_has_appended(tmp_path: Path) -> None:
    """With ``appendfsync everysec``, the default: what the system has got is not lost with the process."""
    with standalone(tmp_path, "--appendonly", "yes") as server:
        store = RedisStore(server.url)
        try:
            browser = Browser(serve(store=store))
            await browser.get("/set?a=1")
            assert (await browser.get("/stream?b=2")).status == 200
            until(
                lambda: b"aof_buffer_length:0" in server.cli("info", "persistence"), "what is appended within seconds"
            )
            server.kill()
            assert (await browser.get("/")).status == 503
            server.start()
            assert await content(browser) == {"a": "1", "b": "2"}
        finally:
            await store.close()


WORKER = """
import asyncio, os, sys
sys.path.insert(0, {here!r})
from driver import Browser
from routes import serve
from fastersession.stores.sqlite import SQLiteStore

async def user(app):
    browser = Browser(app)
    cookie = (await browser.get("/set?a=0")).header("set-cookie").decode()
    for n in range(1, 1_000_000):
        assert (await browser.get(f"/stream?a={{n}}")).status == 200
        os.write(1, f"{{n}} {{cookie}}\\n".encode())

async def main():
    app = serve(store=SQLiteStore({path!r}))
    await asyncio.gather(*(user(app) for _ in range(8)))

asyncio.run(main())
"""


def test_sqlite_keeps_over_a_kill_what_a_client_has_seen(tmp_path: Path) -> None:
    """The application's process is killed in a storm of streams: each that had come to its end is in the file."""
    path = tmp_path / "sessions.db"
    code = WORKER.format(here=str(SUPPORT), path=str(path))
    with subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline() for _ in range(400)]
        worker.kill()
        lines += worker.stdout.readlines()
    seen = {cookie: int(n) for n, _, cookie in (line.partition(b" ") for line in lines if line.endswith(b"\n"))}
    assert len(seen) == 8

    @in_loop
    async def check() -> None:
        store = SQLiteStore(path)
        for cookie, n in seen.items():
            browser = Browser(serve(store=store))
            browser.jar.take([(b"set-cookie", cookie.strip())])
            assert int((await content(browser))["a"]) in (n, n + 1)  # one more may have been on its way
        await store.close()

    check()


@pytest.mark.long
@in_loop
async def test_a_cluster_that_promotes_a_replica_keeps_what_the_replica_has(tmp_path: Path) -> None:
    """The master of a session is killed: 503 until its replica has taken its place, then all goes on by itself."""
    with cluster(tmp_path, "--cluster-replica-validity-factor", "0", replicas=1) as servers:
        store = RedisStore(servers[0].cluster_url)
        try:
            browser = Browser(serve(store=store))
            await browser.get("/set?a=1")
            assert (await browser.get("/login")).status == 200  # it has waited for the replica
            holders = [server for server in servers if b"fs:" in server.cli("keys", "fs:*")]
            assert len(holders) == 2
            next(server for server in holders if b"role:master" in server.cli("info", "replication")).kill()
            assert (await browser.get("/")).status == 503
            async with asyncio.timeout(30):
                while (await browser.get("/")).status == 503:
                    await asyncio.sleep(0.05)
            assert (await browser.get("/stream?b=2")).status == 200
            assert await content(browser) == {"a": "1", "user": "me", "b": "2"}
        finally:
            await store.close()
