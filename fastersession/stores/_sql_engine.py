"""The engine of a ``SQLStore``: made, checked, and how its errors are read.

Rules of residence: SQLAlchemy's engine, URLs and exceptions. No statement, no session.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from ..errors import ConfigError
from ._words import ENCODED, UNREADABLE, remedy, shown, told

__all__ = ["CONNECTIONS", "engine_of", "error_code", "error_text", "opening_text"]

CONNECTIONS = 10  # used at a time: one carries about 1,000 saves a second, more would only take the server's

DRIVERS = {  # of a URL that names none; the drivers that may be named
    "postgresql": ("asyncpg", "psycopg"),
    "mysql": ("asyncmy",),
    "mariadb": ("asyncmy",),
}
DENIED = "password authentication failed|no password supplied|Access denied .*using password"
MISSING = {DENIED: "the URL has no password: write USER:PASSWORD@host"}
REMEDIES = {
    DENIED: f"check user and password; {ENCODED}",
    "(?i)database .* does not exist|unknown database|to database": "make the database, and let the user in; the store "
    "makes its tables only",
    "rejected SSL|does not support SSL|does not support secure|doesn.t support SSL": "the server speaks no TLS: leave "
    "ssl and sslmode out of the URL, or turn it on there",
    "no encryption": "it wants TLS: ?ssl=require with asyncpg, ?sslmode=require with psycopg",
    "(?i)refused|Connect call failed|Can't connect": "is a server running there?",
    "(?i)resolve|not known": "check the name of the host",
    "(?i)unexpected keyword|connection option": "the driver does not know an option behind the ? of the URL",
    "does not answer": "is it the port of this kind of database?",
}
POOL: dict[str, Any] = {
    "pool_size": CONNECTIONS,
    "max_overflow": 0,  # what overflows is closed after each use: a busy store would connect all the time
    "pool_timeout": 1.5,  # seconds for a free one: below the 2 s after which a request gives up
    "pool_recycle": 1800,  # seconds: below the time after which servers and firewalls drop an idle one
    "pool_use_lifo": True,
}


def engine_of(given: object) -> AsyncEngine:
    """Return an engine in AUTOCOMMIT: the given one, or one made for a URL.

    :raises ConfigError: the URL or the driver cannot be used.
    """
    if isinstance(given, AsyncEngine):
        _check_driver(given.url)
        level = getattr(given.dialect, "_on_connect_isolation_level", None)  # private: it only spares a call
        return given if level == "AUTOCOMMIT" else given.execution_options(isolation_level="AUTOCOMMIT")
    try:
        url = make_url(given)  # type: ignore[arg-type]
    except ArgumentError:
        raise ConfigError("engine_or_url: must be an AsyncEngine or a URL like postgresql://user@host/db") from None
    except ValueError:
        raise ConfigError(f"engine_or_url: {shown(str(given))} cannot be read; {UNREADABLE}") from None
    if "+" not in url.drivername and url.drivername in DRIVERS:
        url = url.set(drivername=f"{url.drivername}+{DRIVERS[url.drivername][0]}")
    _check_driver(url)
    try:
        return create_async_engine(
            url, isolation_level="AUTOCOMMIT", skip_autocommit_rollback=True, hide_parameters=True, **POOL
        )
    except (ImportError, NoSuchModuleError) as error:
        driver = url.drivername.partition("+")[2]
        raise ConfigError(f"engine_or_url: the driver {driver} is not installed: pip install {driver}") from error


def _check_driver(url: URL) -> None:
    backend, _, driver = url.drivername.partition("+")
    if driver not in DRIVERS.get(backend, ()):
        known = ", ".join(f"{name}+{driver}" for name, drivers in DRIVERS.items() for driver in drivers)
        raise ConfigError(f"engine_or_url: {url.drivername} is not known; use {known}, or SQLiteStore for SQLite")


def error_code(error: BaseException | None) -> object:
    """Return the SQLSTATE of a driver's exception, or the error number of MySQL; ``None`` if there is neither."""
    for name in ("sqlstate", "pgcode"):
        state = getattr(error, name, None)
        if state is not None:
            return state
    number = error.args[0] if error is not None and error.args else None
    return number if isinstance(number, int) else None


def error_text(error: BaseException) -> str:
    """Name a failure without the driver's text, which may quote a statement."""
    code = error_code(error)
    return f"the database failed: {type(error).__name__}{'' if code is None else f' {code}'}"


def opening_text(error: BaseException, url: URL) -> str:
    """Tell a failure with the place and what to do: before there are tables no statement has any content to quote."""
    options = [str(value) for name, value in url.query.items() if "pass" in name.lower()]
    words, said = told(error, [None if url.password is None else str(url.password), *options]), str(error)
    if isinstance(error, TimeoutError):
        words = said = "it does not answer"
    elif words == type(error).__name__:
        words = f"{words}{'' if (code := error_code(error)) is None else f' {code}'}"
    else:
        words = f"{type(error).__name__}: {words}"
    missing = "" if url.password or options else remedy(said, MISSING)
    return f"the database cannot be used: {place_of(url)}: {words}{missing or remedy(said, REMEDIES)}"


def place_of(url: URL) -> str:
    """Return a URL as a log may show it: without its password and its options."""
    return url.set(query={}).render_as_string(hide_password=True)
