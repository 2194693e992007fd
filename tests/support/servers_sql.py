"""Throwaway PostgreSQL and MariaDB servers on free loopback ports, in temporary folders, ended by their pid.

Rules of residence: starting, stopping, killing, starting again. No test, no store.
"""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers_redis import stop

START_SECONDS = 60


class Server:
    """One server process over one data folder. ``durable`` leaves the settings that make a commit survive a crash."""

    def __init__(self, *, durable: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sql"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None
        try:
            self.initialise()
            self.start()
            self.create_database()
        except BaseException:
            self.close()
            raise

    def initialise(self) -> None:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_up(self) -> bool:
        raise NotImplementedError

    def create_database(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the server again on the same data and port, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self.is_up, self.describe)

    def kill(self) -> None:
        """End it like a crash."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.after_kill()

    def after_kill(self) -> None:
        """Wait for what the server left running."""

    def execute(self, statement: str) -> str:
        raise NotImplementedError

    def drop_clients(self) -> None:
        raise NotImplementedError

    def url(self) -> str:
        raise NotImplementedError

    def workers(self) -> list[int]:
        """Return the processes that serve the clients of this moment."""
        raise NotImplementedError

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let connected clients hear nothing, as of a network that drops every packet."""
        stopped = self.workers()
        try:
            for pid in stopped:
                stop(pid)
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    stop_signal = signal.SIGKILL  # its folder goes with it

    def describe(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]


class PostgreSQL(Server):
    """PostgreSQL, user and database ``t``. It refuses to run as root: then as an account without rights."""

    stop_signal = signal.SIGQUIT  # its children end, and nothing is tidied up

    def initialise(self) -> None:
        self.data = self.folder / "data"
        self.data.mkdir()
        self.become: list[str] = []
        if os.geteuid() == 0:
            account = next(name for name in ("postgres", "nobody") if has_account(name))
            shutil.chown(self.data, account)
            self.become = ["setpriv", f"--reuid={account}", f"--regid={pwd.getpwnam(account).pw_gid}", "--clear-groups"]
        run([*self.become, program("initdb"), "-D", str(self.data), "-U", "t", "-A", "trust", "-E", "UTF8", "-N",
             "--locale=C", "--no-sync"])  # fmt: skip

    def command(self) -> list[str]:
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self.data}", "max_connections=200"]
        if not self.durable:
            options += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        arguments = [argument for option in options for argument in ("-c", option)]
        return [*self.become, program("postgres"), "-D", str(self.data), "-p", str(self.port), *arguments]

    def is_up(self) -> bool:
        return succeeds([program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)])

    def create_database(self) -> None:
        self.execute("create database t", "postgres")

    def execute(self, statement: str, database: str = "t") -> str:
        """Run a statement past any store."""
        return run([program("psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port), "-U",
                    "t", "-c", statement, database])  # fmt: skip

    def workers(self) -> list[int]:
        query = "select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        return [int(pid) for pid in self.execute(query).split()]

    def drop_clients(self) -> None:
        """End every client's connection from the server's side."""
        self.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )

    def after_kill(self) -> None:
        """Its children end by themselves; only then does the data folder take a new server."""
        lines = (self.data / "postmaster.pid").read_text().splitlines()
        shared = lines[6].split()[-1] if len(lines) > 6 else ""
        until(lambda: not attached(shared), self.describe)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def url(self, driver: str = "asyncpg") -> str:
        return f"postgresql+{driver}://t@127.0.0.1:{self.port}/t"


class MariaDB(Server):
    """MariaDB, user, password and database ``t``."""

    def initialise(self) -> None:
        self.data = self.folder / "data"
        run(["mariadb-install-db", "--no-defaults", *self.user(), f"--datadir={self.data}", "--skip-test-db",
             "--auth-root-authentication-method=normal", "--innodb-log-file-size=16M"])  # fmt: skip

    def user(self) -> list[str]:
        return [f"--user={pwd.getpwuid(os.geteuid()).pw_name}"]

    def command(self) -> list[str]:
        fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0"]
        return [shutil.which("mariadbd") or program("mariadbd"), "--no-defaults", *self.user(),
                f"--datadir={self.data}", f"--port={self.port}", "--bind-address=127.0.0.1",
                f"--socket={self.folder}/s", f"--pid-file={self.folder}/pid", "--skip-name-resolve", "--skip-log-bin",
                "--innodb-log-file-size=64M", "--max-connections=300", "--character-set-server=utf8mb4",
                *([] if self.durable else fast)]  # fmt: skip

    def is_up(self) -> bool:
        return succeeds(["mariadb-admin", "--no-defaults", f"--socket={self.folder}/s", "-u", "root", "ping"])

    def create_database(self) -> None:
        self.execute(
            "create database t; create user t@'127.0.0.1' identified by 't'; grant all on t.* to t@'127.0.0.1'", "mysql"
        )

    def execute(self, statement: str, database: str = "t") -> str:
        """Run a statement past any store."""
        return run(["mariadb", "--no-defaults", "-N", f"--socket={self.folder}/s", "-u", "root", "-e", statement,
                    database])  # fmt: skip

    def workers(self) -> list[int]:
        assert self.process is not None
        return [self.process.pid]

    def drop_clients(self) -> None:
        """End every client's connection from the server's side."""
        for line in self.execute("select id from information_schema.processlist where user = 't'").split():
            self.execute(f"kill {line}")

    def url(self, driver: str = "asyncmy") -> str:
        return f"mysql+{driver}://t:t@127.0.0.1:{self.port}/t"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Find a program on the path, or where Debian keeps PostgreSQL's, the newest first."""
    found = shutil.which(name)
    if found is None:
        places = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}") + glob.glob(f"/usr/sbin/{name}"))
        assert places, f"{name} is not installed"
        found = places[-1]
    return found


def has_account(name: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def attached(segment: str) -> bool:
    """Tell if processes are attached to a System V shared memory segment."""
    table = Path("/proc/sysvipc/shm")
    rows = [line.split() for line in table.read_text().splitlines()[1:]] if table.exists() else []
    return any(row[1] == segment and row[6] != "0" for row in rows)


def until(condition: Callable[[], bool], describe: Callable[[], str]) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end, describe()
        time.sleep(0.02)


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True)
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
