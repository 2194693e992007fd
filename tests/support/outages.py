"""What can happen to the place where sessions are kept: real servers and files that a test may break and mend.

Rules of residence: servers and their limits. Breaking and mending block, so they are for a thread. No test.

    with PLACES["redis"](folder) as faults:
        store = faults["kill"].store()
        faults["kill"].begin(); ...; faults["kill"].end()     # when it returns, the server serves again
"""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import redis.asyncio
import servers_redis
from connections import Crowd, Proxy
from servers_redis import KEEPS, RedisServer, until
from servers_sql import MariaDB, PostgreSQL, Server

from fastersession.stores.redis import RedisStore
from fastersession.stores.sql import SQLStore
from fastersession.stores.sqlite import SQLiteStore

CLIENTS = "select id from information_schema.processlist where user = 't'"
CROWD = "select 1 from pg_stat_activity where application_name = 'crowd'"
MEGABYTE = 2**20


@dataclass(frozen=True)
class Fault:
    """One way in which a store fails. ``reads``: it can still be read; ``size``: bytes of a save that is refused."""

    store: Callable[[], Any]
    begin: Callable[[], object]
    end: Callable[[], object]
    reads: bool = False
    size: int = 10


Faults = dict[str, Fault]


class Watched:
    """A store whose calls are counted, and those that fail."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.live, self.clock = inner, inner.live, inner.clock
        self.calls = self.failures = 0

    def __getattr__(self, verb: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self.calls += 1
            try:
                return await getattr(self.inner, verb)(*arguments)
            except BaseException:
                self.failures += 1
                raise

        return call


# --- Redis ---


@contextmanager
def one_redis(folder: Path) -> Iterator[Faults]:
    with servers_redis.standalone(folder, *KEEPS) as server, Proxy(server.port) as proxy:
        far = partial(RedisStore, f"redis://127.0.0.1:{proxy.port}/0")
        yield {
            **_of_redis([server], partial(RedisStore, server.url)),
            "silent": Fault(far, proxy.hold, proxy.release),
            "lost": Fault(far, proxy.hold, proxy.forget),
        }


@contextmanager
def redis_cluster(folder: Path) -> Iterator[Faults]:
    with servers_redis.cluster(folder, *KEEPS) as servers:
        yield _of_redis(servers, partial(RedisStore, servers[0].cluster_url))


def _of_redis(servers: list[RedisServer], store: Callable[[], Any]) -> Faults:
    crowds = [Crowd(server.port) for server in servers]

    def each(*words: str) -> Callable[[], object]:
        return lambda: [server.cli(*words) for server in servers]

    def start() -> None:
        for server in servers:
            server.start()
        serve()

    def resume() -> None:
        for server in servers:
            server.resume()
        serve()

    def serve() -> None:
        for server in servers:
            until(lambda server=server: b"cluster_state:fail" not in server.cli("cluster", "info"), "the cluster")

    def fill() -> None:
        for crowd in crowds:
            crowd.join(b"CONFIG SET maxclients 1\r\n", b"CLIENT KILL TYPE normal\r\n")

    def free() -> None:
        for crowd in crowds:
            crowd.say(b"CONFIG SET maxclients 1000\r\n")
            crowd.leave()

    return {
        "kill": Fault(store, lambda: [server.kill() for server in servers], start),
        "silent": Fault(store, lambda: [server.pause() for server in servers], resume),
        "full": Fault(store, each("config", "set", "maxmemory", "1"), each("config", "set", "maxmemory", "0"), True),
        "crowded": Fault(store, fill, free),
        "flush": Fault(store, each("script", "flush"), each("script", "flush"), True),
    }


@contextmanager
def redis_behind_sentinel(folder: Path) -> Iterator[Faults]:
    """The master fails, and its replica, which has all that was written, is promoted."""
    with servers_redis.sentinel(folder) as (master, replica, watcher):
        crowd = Crowd(master.port)

        def quorum(votes: int) -> None:
            assert watcher.cli("sentinel", "set", "main", "quorum", str(votes)) == b"OK\n"

        def lose(how: Callable[[], None]) -> None:
            crowd.join(b"SET step 1\r\n", b"WAIT 1 10000\r\n")
            crowd.leave()
            quorum(2)  # there is but one Sentinel: nothing is promoted until the test has seen what it wants to see
            how()

        def promote() -> None:
            quorum(1)
            until(lambda: b"role:master" in replica.cli("info", "replication"), "the promotion")
            address = str(replica.port).encode()
            until(lambda: address in watcher.cli("sentinel", "get-master-addr-by-name", "main"), "the new address")

        def store() -> RedisStore:
            return _SentinelStore(redis.asyncio.Sentinel([("127.0.0.1", watcher.port)], socket_timeout=1))

        yield {
            "failover": Fault(store, lambda: lose(master.kill), promote),
            "silent": Fault(store, lambda: lose(master.pause), promote),
        }


class _SentinelStore(RedisStore):
    def __init__(self, sentinels: Any) -> None:
        super().__init__(sentinels.master_for("main"))
        self._sentinels = sentinels

    async def close(self) -> None:
        await super().close()
        for client in self._sentinels.sentinels:
            await client.aclose()


# --- SQL ---


def _of_sql(server: Server, proxy: Proxy, driver: str) -> Faults:
    url: str = server.url(driver)  # type: ignore[call-arg]
    direct, far = (partial(SQLStore, url.replace(str(server.port), str(port))) for port in (server.port, proxy.port))
    return {
        "kill": Fault(direct, server.kill, server.start),
        "silent": Fault(far, proxy.hold, proxy.release),
        "lost": Fault(far, proxy.hold, proxy.forget),
    }


class SmallPostgreSQL(PostgreSQL):
    """With few connections to give."""

    def command(self) -> list[str]:
        return [*super().command(), "-c", "max_connections=20"]

    def limit(self, size: str) -> None:
        """Limit the size of files for connections that are made from now on, as a full disk would, and end the others.

        PostgreSQL ignores the signal and gets EFBIG where else it would get ENOSPC.
        """
        command = [*self.become, "prlimit", f"--pid={self.process.pid}", f"--fsize={size}:unlimited"]  # type: ignore[union-attr]
        subprocess.run(command, check=True)
        self.drop_clients()


@contextmanager
def postgresql(driver: str, folder: Path) -> Iterator[Faults]:
    server, crowd = SmallPostgreSQL(durable=True), contextlib.ExitStack()

    def fill() -> None:
        """Take what is free, and end who is not of us, until there is nobody else."""
        login = partial(psycopg.connect, server.url("psycopg").replace("+psycopg", ""), application_name="crowd")
        end = (
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name <> 'crowd' and usename = 't'"
        )
        connection = crowd.enter_context(login(autocommit=True))
        while True:
            others = connection.execute(end).fetchall()
            try:
                while True:
                    crowd.enter_context(login())
            except psycopg.OperationalError:
                if not others:
                    return

    def free() -> None:
        crowd.close()
        until(lambda: _succeeds(partial(server.execute, CROWD)) and not server.execute(CROWD), "free connections")

    def exhaust() -> None:  # files of the WAL have 16 MB from the beginning, so a table must be larger to be stopped
        table = "fastersession_session"
        server.execute(
            f"insert into {table} select '\\x00', '', null, 0, 0, 0, 0, 1e12, 1e9, null, 1, null, null "
            "on conflict do nothing;"
            f"insert into {table}_attribute select '\\x00', '\\x00', decode(repeat('00', 18000000), 'hex') "
            "on conflict do nothing"
        )
        server.limit(str(16 * MEGABYTE))

    def relieve() -> None:
        server.limit("unlimited")

    with contextlib.closing(server), Proxy(server.port) as proxy:
        faults = _of_sql(server, proxy, driver)
        direct = faults["kill"].store
        yield {
            **faults,
            "crowded": Fault(direct, fill, free),
            "full": Fault(direct, exhaust, relieve, reads=True, size=100_000),
        }


def _succeeds(call: Callable[[], object]) -> bool:
    with contextlib.suppress(AssertionError):
        call()
        return True
    return False


class CountingMariaDB(MariaDB):
    """Which counts the connections of each user, so that their number can be limited later."""

    def command(self) -> list[str]:
        return [*super().command(), "--max-user-connections=200"]


@contextmanager
def mariadb(driver: str, folder: Path) -> Iterator[Faults]:
    server = CountingMariaDB(durable=True)

    def close_the_door() -> None:
        """Let no user in but root, and end who is inside."""
        server.execute("set global max_user_connections = -1")
        until(lambda: _succeeds(server.drop_clients) and not server.execute(CLIENTS), "the end of all clients")

    def open_the_door() -> None:
        server.execute("set global max_user_connections = 200")

    def read_only(yes: int) -> None:
        """Refuse to write, as managed servers do before the disk is full: InnoDB ends itself when it is."""
        server.execute(f"set global read_only = {yes}")

    with contextlib.closing(server), Proxy(server.port) as proxy:
        faults = _of_sql(server, proxy, driver)
        direct = faults["kill"].store
        yield {
            **faults,
            "crowded": Fault(direct, close_the_door, open_the_door),
            "full": Fault(direct, partial(read_only, 1), partial(read_only, 0), reads=True),
        }


@contextmanager
def sqlite(folder: Path) -> Iterator[Faults]:
    path = folder / "sessions.db"
    others: list[sqlite3.Connection] = []

    def lock() -> None:
        others.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
        others[-1].execute("BEGIN IMMEDIATE")

    def unlock() -> None:
        others.pop().close()

    def limit(size: int) -> None:
        """Python ignores the signal, so writing more is an error, as on a full disk."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))

    store, (usual, most) = partial(SQLiteStore, path), resource.getrlimit(resource.RLIMIT_FSIZE)
    yield {
        "locked": Fault(store, lock, unlock, reads=True),
        "full": Fault(store, lambda: limit(MEGABYTE), lambda: limit(usual), True, 2 * MEGABYTE),
    }


PLACES: dict[str, Callable[[Path], AbstractContextManager[Faults]]] = {
    "redis": one_redis,
    "cluster": redis_cluster,
    "sentinel": redis_behind_sentinel,
    "asyncpg": partial(postgresql, "asyncpg"),
    "psycopg": partial(postgresql, "psycopg"),
    "asyncmy": partial(mariadb, "asyncmy"),
    "sqlite": sqlite,
}
