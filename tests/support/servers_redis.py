"""Real Redis servers for tests: on free ports, in temporary folders, ended by pid.

Rules of residence: processes and their set-up through redis-cli; no store, no test.

    with standalone(folder) as server: ... server.url ... server.kill(); server.start()
    with cluster(folder) as nodes: ... nodes[0].cluster_url
    with replicated(folder) as (master, replica): ...
    with sentinel(folder) as (master, replica, watcher): ...
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BUS = 10_000  # a cluster node listens on its port plus this one too
SECONDS = 30.0
KEEPS = ("--appendonly", "yes", "--appendfsync", "always")
"""For a server that is killed and must keep what it has acknowledged: with `everysec` it may put off the write to its
file while an fsync runs in the background, as on a slow disk (redis.conf, appendfsync)."""


def until(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait for a condition; fail after a while."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def stop(pid: int) -> None:
    """Stop a process, and wait until each of its threads has noticed: on a busy machine one answers for a while."""
    os.kill(pid, signal.SIGSTOP)
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    until(lambda: all(_state(thread) == "T" for thread in threads), f"the stop of {pid}")


def _state(thread: Path) -> str:
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return "T"


def free_port() -> int:
    """A port that nobody listens on, nor on the one that its cluster bus would take. Outside the ephemeral range."""
    while True:
        port = random.randrange(20_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + BUS))
            return port


class RedisServer:
    """One server process. It keeps over `kill` and `start` what it has acknowledged if it was given `KEEPS`."""

    def __init__(self, folder: Path, *options: str, mode: str = "") -> None:
        self.port = free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir(parents=True)
        self.socket = self.folder / "s"
        self._mode, self._options = mode, options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def cluster_url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.port}"

    def start(self) -> RedisServer:
        command = ["redis-server"]
        if self._mode == "sentinel":
            command += [str(self.folder / "sentinel.conf"), "--sentinel"]
        else:
            command += ["--save", "", "--unixsocket", str(self.socket)]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), *self._options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(lambda: b"PONG" in self.cli("ping"), f"redis-server at {self.port}")
        return self

    def cli(self, *words: str) -> bytes:
        """Run redis-cli on the server and return what it says."""
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).stdout

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop the process: connections stay open, nothing answers."""
        assert self._process is not None
        stop(self._process.pid)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def _running(*servers: RedisServer) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


@contextlib.contextmanager
def standalone(folder: Path, *options: str) -> Iterator[RedisServer]:
    """One server."""
    server = RedisServer(folder, *options)
    with _running(server):
        yield server


@contextlib.contextmanager
def cluster(folder: Path, *more: str, replicas: int = 0) -> Iterator[list[RedisServer]]:
    """A cluster of three masters, each with so many replicas."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-announce-ip", "127.0.0.1")
    servers = [RedisServer(folder, *options, *KEEPS, *more) for _ in range(3 + 3 * replicas)]
    with _running(*servers):
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        said = servers[0].cli("--cluster", "create", *addresses, "--cluster-replicas", str(replicas), "--cluster-yes")
        assert b"All 16384 slots covered" in said, said
        for server in servers:
            until(lambda: b"cluster_state:ok" in server.cli("cluster", "info"), "the cluster")  # noqa: B023 - run now
        for replica in [server for server in servers if b"role:slave" in server.cli("info", "replication")]:
            until(lambda: b"master_link_status:up" in replica.cli("info", "replication"), "a replica")  # noqa: B023
        yield servers


@contextlib.contextmanager
def replicated(folder: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master and its replica, in step."""
    master = RedisServer(folder, "--repl-diskless-sync-delay", "0")
    replica = RedisServer(folder, "--replicaof", "127.0.0.1", str(master.port))
    with _running(master, replica):
        until(lambda: b"master_link_status:up" in replica.cli("info", "replication"), "the replica")
        yield master, replica


@contextlib.contextmanager
def sentinel(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and a Sentinel that calls them ``main``."""
    with replicated(folder) as (master, replica):
        watcher = RedisServer(folder, mode="sentinel")
        (watcher.folder / "sentinel.conf").write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
        )
        with _running(watcher):
            until(lambda: b"num-slaves\n1" in watcher.cli("sentinel", "master", "main"), "the Sentinel")
            yield master, replica, watcher
