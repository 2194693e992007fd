"""A store that cannot be used says so once and clearly: at the lifespan's startup, else at the first request."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import SECRET, events, serve
from servers_redis import RedisServer, free_port
from servers_sql import MariaDB, PostgreSQL

from fastersession import ConfigError, FasterSessionMiddleware, StoreError
from fastersession.stores import from_url
from fastersession.stores.sql import SQLStore

HIDDEN = "hidden%2Fpass%20word"  # of every user here, and no error may show it
MARK = "hidden"  # what it begins with, in every spelling
LIFESPAN = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
Make = Callable[[], Any]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with contextlib.closing(PostgreSQL()) as server:
        server.execute("create role guarded login password 'right'")
        rules = server.data / "pg_hba.conf"
        rules.write_text(
            "host all guarded 127.0.0.1/32 scram-sha-256\nhostnossl all encrypted 127.0.0.1/32 reject\n"
            + rules.read_text()
        )
        server.execute("select pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    with contextlib.closing(MariaDB()) as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A node of a cluster, whose account ``guarded`` has another password."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--cluster-enabled", "yes")
    try:
        server.start().cli("acl", "setuser", "guarded", "on", ">right", "~*", "+@all")
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that wants a password, on a plain port and on one with TLS (``locked.tls``)."""
    folder, tls = tmp_path_factory.mktemp("locked"), free_port()
    subprocess.run(
        [*("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
         *("-subj", "/CN=localhost", "-keyout", folder / "key", "-out", folder / "certificate")],
        check=True, capture_output=True,
    )  # fmt: skip
    files = ("--tls-cert-file", str(folder / "certificate"), "--tls-key-file", str(folder / "key"))
    server = RedisServer(folder, "--tls-port", str(tls), *files, "--tls-auth-clients", "no")
    try:
        server.start().cli("config", "set", "requirepass", "right")
        server.tls = tls  # type: ignore[attr-defined]
        yield server
    finally:
        server.kill()


def _locked(url: str) -> Callable[[Any], Make]:
    def made(request: Any) -> Make:
        server = request.getfixturevalue("locked")
        return lambda: from_url(url.format(port=server.port, tls=server.tls))

    return made


def _url(fixture: str, *changes: tuple[str, str], driver: str = "") -> Callable[[Any], Make]:
    """Change the URL of a server of SQL."""

    def made(request: Any) -> Make:
        url = request.getfixturevalue(fixture).url(*filter(None, [driver]))
        for old, new in changes:
            url = re.sub(old, new, url)
        return lambda: from_url(url)

    return made


def _no_answer(request: Any) -> Make:
    request.getfixturevalue("monkeypatch").setattr("fastersession.stores.sql.store.OPEN_SECONDS", 0.3)
    port = request.getfixturevalue("redis").port
    return lambda: from_url(f"postgresql://u:{HIDDEN}@127.0.0.1:{port}/d?password={HIDDEN}")


def _sqlite(path: str) -> Callable[[Any], Make]:
    def made(request: Any) -> Make:
        folder = request.getfixturevalue("tmp_path")
        (folder / "junk").write_bytes(b"no database " * 1000)
        return lambda: from_url(f"sqlite:///{path.format(folder=folder)}")

    return made


def _postgresql(driver: str, user: str = "t", database: str = "t") -> Callable[[Any], Make]:
    def made(request: Any) -> Make:
        url = request.getfixturevalue("postgresql").url(driver)
        return lambda: SQLStore(url.replace("t@", f"{user}:{HIDDEN}@").rpartition("/")[0] + f"/{database}")

    return made


def _missing_tables(request: Any) -> Make:
    url = request.getfixturevalue("postgresql").url()
    return lambda: SQLStore(url, table="never_made", create_tables=False)


def _too_old(request: Any) -> Make:
    request.getfixturevalue("monkeypatch").setattr("fastersession.stores.sql.store.PostgreSQL.minimum", (99,))
    return _missing_tables(request)


def _mariadb(request: Any) -> Make:
    url = request.getfixturevalue("mariadb").url()
    return lambda: from_url(url.replace("t:t@", f"t:{HIDDEN}@"))


def _redis(user: str) -> Callable[[Any], Make]:
    return lambda request: lambda: from_url(request.getfixturevalue("redis").url.replace("//", f"//{user}"))


def _nobody(url: str) -> Callable[[Any], Make]:
    return lambda request: lambda: from_url(url.format(port=free_port()))


REDIS = r"redis://\*\*\*@127\.0\.0\.1:\d+/0: "
SQL = r"the database cannot be used: (postgresql|mysql)\+\w+://\w+(:\*\*\*)?@127\.0\.0\.1:\d+/\w+: "
ENCODED = "check user and password; .* percent-encoding"
CASES: dict[str, tuple[Callable[[Any], Make], type[Exception], str]] = {
    "asyncpg, wrong password": (
        _postgresql("asyncpg", "guarded"),
        StoreError,
        f"{SQL}.*password authentication failed.*; {ENCODED}",
    ),
    "psycopg, wrong password": (
        _postgresql("psycopg", "guarded"),
        StoreError,
        f"{SQL}.*password authentication failed.*; {ENCODED}",
    ),
    "asyncmy, wrong password": (_mariadb, StoreError, f"{SQL}.*1045.*Access denied.*; {ENCODED}"),
    "asyncpg, no password": (_url("postgresql", ("t@", "guarded@")), StoreError, SQL + ".*USER:PASSWORD@host"),
    "psycopg, no password": (
        _url("postgresql", ("t@", "guarded@"), driver="psycopg"),
        StoreError,
        SQL + ".*USER:PASSWORD@host",
    ),
    "asyncmy, no password": (_url("mariadb", ("t:t@", "t@")), StoreError, SQL + ".*USER:PASSWORD@host"),
    "redis, wrong password": (
        _redis(f"guarded:{HIDDEN}@"),
        StoreError,
        f"{REDIS}.*(WRONGPASS|invalid username-password).*{ENCODED}",
    ),
    "redis, no password": (
        _locked("redis://127.0.0.1:{port}/0"),
        StoreError,
        r"redis://127\.0\.0\.1:\d+/0: .*wants a password: redis://:P",
    ),
    "redis, no such database": (
        _locked("redis://:right@127.0.0.1:{port}/99"),
        StoreError,
        r"redis://\*\*\*@.*/99: .*setting databases",
    ),
    "redis, TLS to a plain port": (
        _locked(f"rediss://:{HIDDEN}@127.0.0.1:{{port}}/0"),
        StoreError,
        r"rediss://\*\*\*@.*redis:// is for a port without",
    ),
    "redis, plain to a port of TLS": (
        _locked(f"redis://:{HIDDEN}@127.0.0.1:{{tls}}/0"),
        StoreError,
        f"{REDIS}.*does it speak TLS on this port, which",
    ),
    "redis, an unknown certificate": (
        _locked("rediss://127.0.0.1:{tls}/0"),
        StoreError,
        r"CERTIFICATE_VERIFY_FAILED.*\?ssl_ca_certs=FILE",
    ),
    "redis, no such host": (
        lambda request: lambda: from_url(f"redis://u:{HIDDEN}@nowhere.invalid/0"),
        StoreError,
        r"redis://\*\*\*@nowhere\.invalid/0: .*check the name of the host",
    ),
    "redis, no cluster": (
        _locked("redis+cluster://:right@127.0.0.1:{port}"),
        StoreError,
        r"redis\+cluster://.*redis:// is for a server",
    ),
    "redis, no socket": (
        lambda request: lambda: from_url("unix:///nowhere/at.all"),
        StoreError,
        "unix:///nowhere/at.all: .*is a server",
    ),
    "asyncpg, no such database": (
        _postgresql("asyncpg", database="none"),
        StoreError,
        SQL + '.*"none" does not exist; make the database',
    ),
    "psycopg, no such database": (
        _postgresql("psycopg", database="none"),
        StoreError,
        SQL + '.*"none" does not exist; make the database',
    ),
    "asyncmy, no such database": (_url("mariadb", ("/t$", "/none")), StoreError, SQL + ".*; make the database"),
    "asyncpg, TLS to a plain port": (
        _url("postgresql", ("t@", f"t:{HIDDEN}@"), ("$", "?ssl=require")),
        StoreError,
        SQL + ".*speaks no TLS",
    ),
    "psycopg, TLS to a plain port": (
        _url("postgresql", ("t@", f"t:{HIDDEN}@"), ("$", "?sslmode=require"), driver="psycopg"),
        StoreError,
        SQL + ".*speaks no TLS",
    ),
    "asyncpg, plain to TLS": (
        _url("postgresql", ("t@", f"encrypted:{HIDDEN}@")),
        StoreError,
        SQL + r".*wants TLS: \?ssl=require",
    ),
    "psycopg, plain to TLS": (
        _url("postgresql", ("t@", f"encrypted:{HIDDEN}@"), driver="psycopg"),
        StoreError,
        SQL + ".*wants TLS: ",
    ),
    "asyncpg, an unknown option": (
        _url("postgresql", ("$", f"?nonsense=1&password={HIDDEN}")),
        StoreError,
        SQL + ".*does not know an option",
    ),
    "asyncmy, an unknown option": (_url("mariadb", ("$", "?nonsense=1")), StoreError, SQL + ".*not know an option"),
    "asyncpg, a port of something else": (_no_answer, StoreError, SQL + "it does not answer; is it the port"),
    "no tables": (_missing_tables, StoreError, "never_made and never_made_attribute cannot be used.*SQLStore.ddl"),
    "too old": (_too_old, StoreError, r"PostgreSQL [0-9.]+ is too old for SQLStore: it needs 99"),
    "a cluster's node": (_redis(""), ConfigError, r"redis\+cluster://"),
    "no redis": (
        _nobody(f"redis://u:{HIDDEN}@127.0.0.1:{{port}}/0"),
        StoreError,
        f"Redis cannot be used: {REDIS}.*is a server",
    ),
    "no postgresql": (
        _nobody(f"postgresql://u:{HIDDEN}@127.0.0.1:{{port}}/d"),
        StoreError,
        f"{SQL}.*(refused|Connect call failed).*is a server running there",
    ),
    "no mariadb": (
        _nobody(f"mysql://u:{HIDDEN}@127.0.0.1:{{port}}/d"),
        StoreError,
        f"{SQL}.*Can't connect.*is a server",
    ),
    "no folder": (
        _nobody("sqlite:////nowhere/at/all.db"),
        StoreError,
        "all.db: the folder /nowhere/at is missing",
    ),
    "sqlite, a folder": (_sqlite("{folder}"), StoreError, "SQLite cannot use /.*: it is a folder: name a file in it"),
    "sqlite, junk": (
        _sqlite("{folder}/junk"),
        StoreError,
        "SQLite cannot use /.*/junk: it is no SQLite database",
    ),
    "sqlite, below a file": (_sqlite("{folder}/junk/a.db"), StoreError, "cannot use /.*/a.db: /.*/junk is no folder"),
    "sqlite, a device": (_sqlite("/dev/full"), StoreError, "SQLite cannot use /dev/full: it is no regular file"),
}


@pytest.fixture
def make(case: str, request: pytest.FixtureRequest) -> Make:
    return CASES[case][0](request)


async def startup(app: Any) -> tuple[list[dict[str, Any]], BaseException | None]:
    """Start an application as a server does; return what it sent, and what it raised."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        await app(dict(LIFESPAN), receive, send)
    except Exception as error:
        return sent, error
    return sent, None


@pytest.mark.parametrize("case", CASES)
@in_loop
async def test_at_the_startup_one_message_tells_it(case: str, make: Make) -> None:
    """`lifespan.startup.failed`, with the reason in one line and no password; nothing else is sent."""
    _, kind, said = CASES[case]
    store = make()
    sent, error = await startup(serve(store=store))
    await store.close()
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    text = sent[0]["message"]
    assert re.search(said, text), text
    assert text.startswith(f"{kind.__name__}: ")
    assert "\n" not in text
    assert MARK not in text
    assert type(error) is kind


@pytest.mark.parametrize("case", CASES)
@in_loop
async def test_at_the_first_use_an_event_or_the_error_tells_it(case: str, make: Make, caplog: Any) -> None:
    """Where no lifespan is run: a 503 with an event, as for any store that fails; a wrong configuration is raised."""
    _, kind, said = CASES[case]
    store = make()
    answer = await Browser(serve(store=store)).get("/set?a=1", catch=True)
    await store.close()
    if kind is ConfigError:
        assert re.search(said, str(answer.error))
    else:
        assert (answer.status, answer.cookies) == (503, [])
        (event,) = events(caplog, "store.unavailable")
        assert re.search(said, event.getMessage()), event.getMessage()
    assert MARK not in caplog.text


@in_loop
async def test_what_an_application_makes_of_a_failed_startup_is_not_sent() -> None:
    """All has been said already; servers take no second word."""

    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        with contextlib.suppress(StoreError):
            await receive()
        await send({"type": "lifespan.startup.complete"})

    store = from_url("sqlite:////nowhere/at/all.db")
    sent, error = await startup(FasterSessionMiddleware(stubborn, secret_key=SECRET, store=store))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert error is None


APP = """
from fastapi import FastAPI
from fastersession import FasterSessionMiddleware
from fastersession.stores import from_url
app = FastAPI()
app.add_middleware(FasterSessionMiddleware, secret_key="of this test alone, and long enough", store=from_url({url!r}))
"""


def test_a_server_ends_with_the_reason_in_one_line(tmp_path: Path) -> None:
    """uvicorn with its defaults, and a framework that lets the error pass: no traceback, and no serving without it."""
    (tmp_path / "unlucky.py").write_text(APP.format(url=f"redis://127.0.0.1:{free_port()}"))
    command = [sys.executable, "-m", "uvicorn", "unlucky:app", "--port", str(free_port())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert len(re.findall("StoreError: Redis cannot be used: .*refused", done.stderr)) == 1
    assert "Traceback" not in done.stderr
