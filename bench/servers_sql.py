"""Servers that speak SQL: PostgreSQL and MariaDB; and the list of all stores.

Rules of residence: as in `servers`.
"""

from __future__ import annotations

import os
import pwd
import signal

from bench.servers import Redis, Server, Store, found, run


class Database(Server):
    """A server that speaks SQL."""

    select_version = "select version()"

    def at(self, place: str) -> str:
        name = place.replace("-", "_")
        if name not in self.places:
            self.ask(f"create database {name}")
            self.places.append(name)
        return self.url(name)

    def url(self, name: str) -> str:
        raise NotImplementedError

    def records(self, place: str, table: str) -> int:
        return int(self.ask(f"select count(*) from {table}", place.replace("-", "_")))

    def version(self) -> str:
        return f"{self.title} {self.ask(self.select_version).split()[0].partition('-')[0]}"


class PostgreSQL(Database):
    key, title, programs = "postgresql", "PostgreSQL", ("initdb", "postgres", "psql")
    select_version = "show server_version"
    stop = signal.SIGQUIT  # its children end too

    def initialise(self) -> None:
        """Make a cluster. It refuses to run as root: then it is an account's without rights."""
        self.data = self.folder / "data"
        self.data.mkdir()
        self.become: list[str] = []
        if os.geteuid() == 0:
            account = next(user for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
            os.chown(self.data, account.pw_uid, account.pw_gid)
            self.become = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        options = ["-U", "t", "-A", "trust", "-E", "UTF8", "-N", "--locale=C", "--no-sync"]
        run([*self.become, found("initdb"), "-D", str(self.data), *options])

    def command(self) -> list[str]:
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={self.data}", "max_connections=200"]
        options += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        given = [word for option in options for word in ("-c", option)]
        return [*self.become, found("postgres"), "-D", str(self.data), "-p", str(self.port), *given]

    def ask(self, *words: str) -> str:
        statement, *database = words
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "t", *(database or ["postgres"])]
        return run([found("psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, *where])

    def url(self, name: str) -> str:
        return f"postgresql://t@127.0.0.1:{self.port}/{name}"


class MariaDB(Database):
    key, title, programs = "mariadb", "MariaDB", ("mariadbd", "mariadb-install-db", "mariadb")

    def initialise(self) -> None:
        self.owner = ["--no-defaults", f"--user={pwd.getpwuid(os.geteuid()).pw_name}", f"--datadir={self.folder}/data"]
        options = ["--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-log-file-size=16M"]
        run([found("mariadb-install-db"), *self.owner, *options])

    def command(self) -> list[str]:
        options = [
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder}/s",
            "--skip-name-resolve",
        ]
        options += [f"--pid-file={self.folder}/pid", "--skip-log-bin", "--character-set-server=utf8mb4"]
        options += ["--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0"]
        return [found("mariadbd"), *self.owner, *options, "--innodb-log-file-size=64M"]

    def ask(self, *words: str) -> str:
        statement, *database = words
        where = ["--no-defaults", "-N", f"--socket={self.folder}/s", "-u", "root"]
        return run([found("mariadb"), *where, "-e", statement, *database])

    def url(self, name: str) -> str:
        self.ask(f"grant all on {name}.* to t@'127.0.0.1' identified by 't'")
        return f"mysql://t:t@127.0.0.1:{self.port}/{name}"


STORES: dict[str, type[Store]] = {store.key: store for store in (Store, PostgreSQL, MariaDB, Redis)}
