"""`from_url` finds the store for a URL, and says what is wrong with one that has none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clocks import FakeClock

from fastersession import ConfigError, MemoryStore
from fastersession.stores import from_url
from fastersession.stores.redis import RedisStore
from fastersession.stores.sql import SQLStore
from fastersession.stores.sqlite import SQLiteStore

SCHEMES = {
    "memory://": MemoryStore,
    "memory": MemoryStore,
    "MEMORY:": MemoryStore,
    "sqlite:///sessions.db": SQLiteStore,
    "redis://localhost:1/0": RedisStore,
    "rediss://user:secret@localhost:1": RedisStore,
    "redis+cluster://localhost:1": RedisStore,
    "rediss+cluster://localhost:1": RedisStore,
    "unix:///run/redis.sock": RedisStore,
    "postgresql://user:secret@localhost:1/db": SQLStore,
    "postgresql+asyncpg://localhost:1/db": SQLStore,
    "postgresql+psycopg://localhost:1/db": SQLStore,
    "mysql://localhost:1/db": SQLStore,
    "mariadb://localhost:1/db": SQLStore,
    "mariadb+asyncmy://localhost:1/db": SQLStore,
}
KNOWN = ("memory://", "sqlite:///", "redis://", "rediss://", "redis+cluster://", "postgresql://", "mysql://")


@pytest.mark.parametrize("url", SCHEMES)
def test_every_scheme_has_its_store(url: str) -> None:
    """The scheme decides, in any case; making a store reaches no server, and options are the store's own."""
    clock = FakeClock()

    async def make() -> None:
        store = from_url(url, clock=clock)
        assert isinstance(store, SCHEMES[url])
        assert store.clock is clock
        assert "secret" not in repr(store)
        await store.close()

    asyncio.run(make())


def test_the_options_of_memory() -> None:
    """What a store refuses it refuses here too."""
    assert len(from_url("memory://", max_sessions=3)) == 0  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_sessions"):
        from_url("memory://", max_sessions=0)


@pytest.mark.parametrize(
    ("path", "file"), [("a.db", "a.db"), ("sub/b.db", "sub/b.db"), ("c%3F%23%25.db", "c?#%.db"), ("d e.db", "d e.db")]
)
def test_a_sqlite_path_is_relative_or_absolute(
    path: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slashes and a path from the working directory, or four and one from the root; percent-encoded."""
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)

    async def touch(url: str) -> None:
        store = from_url(url)
        await store.open()
        await store.close()

    for url in (f"sqlite:///{path}", f"sqlite:///{tmp_path}/{path}"):
        asyncio.run(touch(url))
        assert (tmp_path / file).is_file()
        (tmp_path / file).unlink()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mongodb://user:secret@host",
        "secret",
        "secret:1",
        "redis+secret",
        "sqlite+aiosqlite:///a",
        "http://a",
        "://",
    ],
)
def test_an_unknown_scheme_names_the_known_ones(url: str) -> None:
    """The error lists what there is, and shows nothing of the URL but a scheme."""
    with pytest.raises(ConfigError, match="scheme") as caught:
        from_url(url)
    assert all(known in str(caught.value) for known in KNOWN)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", [None, b"memory://", 1, Path("a.db")])
def test_what_is_no_text_is_refused(url: Any) -> None:
    """Bytes, paths and nothing at all are no URL."""
    with pytest.raises(ConfigError, match="must be a str"):
        from_url(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite://a.db", "three slashes"),
        ("sqlite:a.db", "three slashes"),
        ("sqlite:///:memory:", "memory"),
        ("sqlite:///a.db?mode=ro", "%3F"),
        ("sqlite:///a.db#b", "%23"),
        ("memory://host", "nothing after"),
        ("memory:///a?b", "nothing after"),
    ],
)
def test_a_url_that_cannot_work_names_the_remedy(url: str, said: str) -> None:
    """A known scheme with the wrong rest is refused at once."""
    with pytest.raises(ConfigError, match=said):
        from_url(url)


MISSING = {
    "redis://localhost": ("redis", "fastersession[redis]"),
    "redis+cluster://localhost": ("redis", "fastersession[redis]"),
    "postgresql://localhost/db": ("sqlalchemy", "fastersession[sql]"),
    "mariadb://localhost/db": ("sqlalchemy", "fastersession[sql]"),
    "postgresql+psycopg://localhost/db": ("psycopg", "psycopg"),
    "postgresql+asyncpg://localhost/db": ("asyncpg", "asyncpg"),
    "mysql+asyncmy://localhost/db": ("asyncmy", "asyncmy"),
}
BLOCKED = """
import sys
sys.modules[{package!r}] = None
from fastersession import ConfigError
from fastersession.stores import from_url
try:
    from_url({url!r})
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize("url", MISSING)
def test_a_missing_package_names_the_command(url: str) -> None:
    """Without the extra, or a driver, the error says what to install."""
    package, remedy = MISSING[url]
    code = BLOCKED.format(package=package, url=url)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert package in done.stdout
    assert f"pip install {remedy}" in done.stdout.replace('"', "")


def test_a_package_that_another_one_misses_is_named_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLAlchemy without greenlet says so in an ImportError of its own, which the store's module tells in another."""

    class Broken:
        def __init__(self, url: str) -> None:
            try:
                try:
                    raise ModuleNotFoundError("no greenlet", name="greenlet")
                except ImportError as missing:
                    raise ImportError("asyncio needs greenlet") from missing
            except ImportError as missing:
                raise ImportError("the store needs asyncio") from missing

    monkeypatch.setattr("fastersession.stores.sql.SQLStore", Broken)
    with pytest.raises(ConfigError, match=r'needs the package greenlet: pip install "fastersession\[sql\]"'):
        from_url("postgresql://localhost/db")


@pytest.mark.parametrize("url", ["redis:/localhost", "redis://localhost/first", "postgresql://localhost:port/db"])
def test_what_a_store_says_of_the_url_names_the_argument_given_here(url: str) -> None:
    """A store has another name for it, which would stand beside that of the middleware: `store: store: ...`."""
    with pytest.raises(ConfigError, match=r"^url: (?!store|engine_or_url)"):
        from_url(url)


def test_an_error_within_a_store_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a package that is not ours is a missing one."""

    class Broken:
        def __init__(self) -> None:
            raise ModuleNotFoundError("no", name="fastersession.nothing")

    monkeypatch.setattr("fastersession.stores.memory.MemoryStore", Broken)
    with pytest.raises(ModuleNotFoundError):
        from_url("memory://")


def test_only_the_store_asked_for_is_imported() -> None:
    """`from_url` imports one concrete store, and `fastersession.stores` none but memory's."""
    code = "import sys\nfrom fastersession.stores import from_url\nfrom_url('sqlite:///a.db')\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "fastersession.stores.sqlite" in loaded
    assert not loaded & {"redis", "sqlalchemy", "fastersession.stores.redis", "fastersession.stores.sql"}
