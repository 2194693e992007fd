"""SQLStore's arguments, and what can be wrong with a server, a database or a driver: each is one clear error."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any

import pytest
from over_sql import Place
from servers_sql import free_port
from sqlalchemy.ext.asyncio import create_async_engine
from store_subject import ID, V1, make

from fastersession.errors import ConfigError, StoreError
from fastersession.stores.base import Change
from fastersession.stores.sql import SQLStore


def refused(place: Place, match: str, **options: Any) -> None:
    with pytest.raises(StoreError, match=match):
        place.run(lambda store: store.load(ID), **options)


def test_missing_tables_are_one_clear_error(place: Place) -> None:
    """With create_tables=False; nothing is made, and the documented statements are all that it takes."""
    refused(place, f"{place.table} and .* SQLStore.ddl", create_tables=False)
    refused(place, f"{place.table} and .* SQLStore.ddl", create_tables=False)
    for statement in place.store().ddl:
        place.server.execute(statement)
    assert place.run(lambda store: store.load(ID), create_tables=False) is None


def test_tables_of_another_layout_are_refused(place: Place) -> None:
    """And left as they are."""
    place.server.execute(f"create table {place.table} (id int)")
    refused(place, "cannot be used")
    assert place.count() == 0


def test_a_server_too_old_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming what it is and what it should be."""
    for name in ("minimum", "minimum_mariadb"):
        monkeypatch.setattr(type(place.store()._database), name, (99, 1), raising=False)
    refused(place, r"(PostgreSQL|MariaDB) 1[0-9.]+ is too old for SQLStore: it needs 99\.1")


def test_no_server_no_database_no_password(place: Place) -> None:
    """One error each, that shows no password; the driver's own is its cause."""
    port = str(place.server.port)
    for url in (place.url.replace(port, str(free_port())), place.url.rpartition("/")[0] + "/missing"):
        store = SQLStore(url)
        with pytest.raises(StoreError) as caught:
            asyncio.run(store.open())
        assert caught.value.__cause__ is not None


def test_a_wrong_password(on_mariadb: Place) -> None:
    """Neither the error nor the store's repr shows it."""
    store = SQLStore(on_mariadb.url.replace("t:t@", "t:hidden@"))
    with pytest.raises(StoreError) as caught:
        asyncio.run(store.open())
    error: BaseException | None = caught.value
    while error is not None:
        assert "hidden" not in str(error)
        error = error.__context__
    assert "hidden" not in repr(store)


def test_k9_errors_show_no_content(place: Place) -> None:
    """K9: a failing save's whole chain of exceptions names no value, whatever the engine's settings."""
    secret = b"hidden-value"

    async def main() -> None:
        engine = create_async_engine(place.url)
        store = SQLStore(engine, table=place.table)
        await store.open()
        await make(store)
        place.server.execute(f"drop table {place.table}_attribute")
        with pytest.raises(StoreError) as caught:
            await store.update(ID, V1, Change(store.clock(), {"a": secret}))
        error: BaseException | None = caught.value
        while error is not None:
            assert "hidden" not in f"{error} {error!r}"
            error = error.__context__
        with pytest.raises(TypeError, match=r"must be bytes, not str$"):
            await store.update(ID, V1, Change(store.clock(), {"a": "hidden"}))
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize(
    "name", ["", "a b", "a;b", "A", 'a"', "a`", "1a", "a.b.c", ".a", "a.", "a\n", "é", "x" * 50, 5]
)
def test_s7_table_names_are_validated(name: Any) -> None:
    """S7: they are the only thing that is put into a statement."""
    with pytest.raises(ConfigError, match=r"^table: .*; attribute_table: .*; clock: "):
        SQLStore("postgresql://h/d", table=name, attribute_table=name + "\0" if name != 5 else 6, clock=5)  # type: ignore[arg-type]


def test_the_tables_must_differ() -> None:
    """One would overwrite the other."""
    with pytest.raises(ConfigError, match="attribute_table: must differ"):
        SQLStore("postgresql://h/d", table="same", attribute_table="same")


@pytest.mark.parametrize(
    "url", ["", "nonsense", None, 5, "sqlite:///x.db", "oracle://h/d", "postgresql+psycopg2://h/d"]
)
def test_a_url_of_something_else_is_refused(url: Any) -> None:
    """At construction, with what would work."""
    with pytest.raises(ConfigError, match=r"engine_or_url: .*postgresql"):
        SQLStore(url)


def test_a_url_without_a_driver_takes_the_usual_one() -> None:
    """As applications write them."""
    for url, driver in {"postgresql://h/d": "asyncpg", "mysql://h/d": "asyncmy", "mariadb://h/d": "asyncmy"}.items():
        assert SQLStore(url)._engine.dialect.driver == driver


def test_an_engine_of_something_else_is_refused() -> None:
    """An engine with another driver names the ones that work."""
    engine = create_async_engine("postgresql+asyncpg://h/d")
    assert repr(SQLStore(engine)) == "<SQLStore postgresql+asyncpg://h/d fastersession_session>"
    engine.url = engine.url.set(drivername="mysql+aiomysql")
    with pytest.raises(ConfigError, match=r"mysql\+aiomysql is not known; use .*mysql\+asyncmy"):
        SQLStore(engine)


BLOCKED = """
import sys
sys.modules[{module!r}] = None
try:
    from fastersession.stores.sql import SQLStore
    SQLStore("postgresql://h/d")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("sqlalchemy", 'ImportError .*pip install "fastersession\\[sql\\]"'),
        ("asyncpg", "ConfigError .*pip install asyncpg"),
    ],
)
def test_a_missing_extra_says_what_to_install(module: str, text: str) -> None:
    """The extra, or the driver, which the user brings."""
    code = BLOCKED.format(module=module)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert re.match(text, done.stdout), done.stdout + done.stderr
