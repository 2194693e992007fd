"""Where sessions are kept: a file of SQLite's, a Redis server, and what every server of the benchmark's own does.

Rules of residence: each server is one process on a free port in a temporary folder, ended by its pid, and no server
waits for the disk. What a store says of itself past every peer: how many records there are, what it took of the
processor. No peer, no timing.
"""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SECONDS = 30.0
"""How long a server may take to come up."""


class Store:
    """A file of SQLite's for each peer; the servers have a database for each."""

    key, title = "sqlite", "SQLite"
    programs: tuple[str, ...] = ()
    module: str | None = None
    """Without which the server's own word cannot be had."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench"))
        self.folder.chmod(0o755)
        self.made: Counter[str] = Counter()
        """Sessions in each place, as their makers say."""

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *failure: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @classmethod
    def missing(cls) -> list[str]:
        """Return what must be installed before this can run."""
        modules = [cls.module] if cls.module and find_spec(cls.module) is None else []
        return [name for name in cls.programs if program(name) is None] + modules

    def at(self, place: str) -> str:
        """Return the URL of a peer's own place, which is made at the first time."""
        return f"sqlite:///{self.folder}/{place}.db"

    def records(self, place: str, table: str) -> int:
        """Return how many records there are, as the store itself counts them."""
        connection = sqlite3.connect(self.folder / f"{place}.db")
        try:
            return int(connection.execute(f"select count(*) from {table}").fetchone()[0])
        finally:
            connection.close()

    def spent(self) -> dict[int, int]:
        """Return the CPU time of each of the server's processes so far, in ns; empty where there is no server."""
        return {}

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"


class Server(Store):
    """A process, which is there between `__enter__` and `__exit__`."""

    stop = signal.SIGKILL
    """Nothing that it keeps is wanted any more."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.places: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        try:
            self.initialise()
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.until_it_answers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        if self.process is not None:
            self.process.send_signal(self.stop)
            self.process.wait(SECONDS)
        super().__exit__()

    def initialise(self) -> None:
        """Make what the server needs before its start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def ask(self, *words: str) -> str:
        """Have a statement done by the server's own client; fail if it cannot be done."""
        raise NotImplementedError

    def ping(self) -> object:
        """Fail as long as the server does not answer."""
        return self.ask("select 1")

    def until_it_answers(self) -> None:
        end = time.monotonic() + SECONDS
        while True:
            try:
                self.ping()
            except (OSError, subprocess.CalledProcessError):
                if time.monotonic() > end or self.process is None or self.process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2000:]) from None
                time.sleep(0.02)
            else:
                return

    def spent(self) -> dict[int, int]:
        found = {}
        for pid in [self.process.pid, *children(self.process.pid)] if self.process else []:
            with suppress(OSError):  # it has ended
                found[pid] = time.clock_gettime_ns(~pid << 3 | 2)  # CPUCLOCK_SCHED of a process: clock_getcpuclockid(3)
        return found


class Redis(Server):
    key, title, programs, module = "redis", "Redis", ("redis-server", "redis-cli"), "redis"

    def command(self) -> list[str]:
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [found("redis-server"), *where, "--save", "", "--databases", "64"]

    def ask(self, *words: str) -> str:
        return run([found("redis-cli"), "-e", "-p", str(self.port), *words])

    def ping(self) -> object:
        return self.ask("ping")

    def at(self, place: str) -> str:
        if place not in self.places:
            self.places.append(place)
        return f"redis://127.0.0.1:{self.port}/{self.places.index(place)}"

    def records(self, place: str, table: str) -> int:
        return int(self.ask("-n", str(self.places.index(place)), "dbsize"))

    def version(self) -> str:
        line = next(line for line in self.ask("info", "server").splitlines() if line.startswith("redis_version:"))
        return f"Redis {line.partition(':')[2]}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """Find a program on the path, or where Debian keeps those of servers; the newest of several."""
    places = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), *Path("/usr/sbin").glob(name)]
    return shutil.which(name) or max(map(str, places), default=None)


def found(name: str) -> str:
    if path := program(name):
        return path
    raise FileNotFoundError(f"{name} is not installed")


def run(command: list[str]) -> str:
    """Run a command to its end, and return what it says."""
    options: dict[str, Any] = {"capture_output": True, "stdin": subprocess.DEVNULL, "text": True}
    return str(subprocess.run(command, check=True, **options).stdout)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
