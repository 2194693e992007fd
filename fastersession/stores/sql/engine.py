"""The engine of a ``SQLStore``: made, checked, for one event loop each, and how its errors are read.

Rules of residence: SQLAlchemy's engine, URLs and exceptions. No statement, no session.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, Pool
from sqlalchemy.util import greenlet_spawn

from ...errors import ConfigError, StoreError
from ..words import ENCODED, UNREADABLE, remedy, shown, told
from .batches import SILENT_SECONDS

T = TypeVar("T")

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
    if _is_misread(given, url.host or "", url.database or ""):
        raise ConfigError(f"engine_or_url: {url.drivername}://... cannot be read; {ENCODED}")
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


class Connections:
    """What one event loop has of a store: an engine, the line of those who want a connection, and who has one."""

    def __init__(self, engine: AsyncEngine, *, own: bool) -> None:
        self.engine = engine
        self.line = asyncio.Semaphore(CONNECTIONS)  # first come, first served: at the pool, who comes last may be
        self._running: set[asyncio.Task[Any]] = set()
        self._keeper: asyncio.Task[None] | None = None
        if own:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), context=Context())

    def started(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Return a task for work that ``close`` waits for."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also if nobody waits for it any more

    async def drop_idle(self) -> None:
        """Close the connections that nobody uses: where one has fallen silent, a firewall may have forgotten all.

        Each would cost a request its answer, one after the other, when the network is back.
        """
        count, idle = getattr(self.engine.sync_engine.pool, "checkedin", int), []
        with suppress(Exception):  # a given engine may ask the server first
            async with asyncio.timeout(SILENT_SECONDS):
                for _ in range(count()):
                    idle.append(await self.engine.raw_connection())  # noqa: PERF401 - what comes before a failure counts
        await asyncio.gather(*(greenlet_spawn(one.invalidate) for one in idle), return_exceptions=True)

    async def close(self) -> None:
        """Wait for what is running, and close the connections of an engine of the store's own."""
        while self._running:
            await asyncio.wait(self._running)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait((self._keeper,))
            if not self._keeper.cancelled():
                self._keeper.result()

    @property
    def closed(self) -> bool:
        """Return whether it is the store's own and has no connection any more, for ``close`` or the end of the loop."""
        return self._keeper is not None and self._keeper.done()

    async def _keep(self) -> None:
        """Close the connections when the event loop ends, which cancels what still runs: no other loop can."""
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            while self._running:
                await asyncio.wait(self._running)
            await self.drop_idle()  # at once, and not for long if the server hangs
            await self.engine.dispose()


C = TypeVar("C", bound=Connections)


class Engines(Generic[C]):
    """One engine for each event loop, made for a URL, or the one that was given, for the one loop that uses it.

    :param connections: returns what a loop has, for an engine, and whether that is the store's own.
    """

    def __init__(self, given: object, connections: Callable[[AsyncEngine, bool], C]) -> None:
        self._given, self._connections = given, connections
        self._own = not isinstance(given, AsyncEngine)
        self.engine = engine_of(given)  # the newest
        self._free = [self.engine]  # of our own ones, those without a connection
        self._taken: tuple[Pool, asyncio.AbstractEventLoop] | None = None
        self._by_loop: dict[asyncio.AbstractEventLoop, C] = {}

    def here(self) -> C:
        """Return what the running loop has.

        :raises StoreError: the engine was given, and its pool has connections of another loop.
        """
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        return self._new(loop) if found is None else found

    async def close(self) -> None:
        """Close what the running loop has. It may be used again."""
        connections = self._by_loop.pop(asyncio.get_running_loop(), None)
        if connections is not None:
            await connections.close()
            self._free.append(connections.engine)

    def _new(self, loop: asyncio.AbstractEventLoop) -> C:
        for ended in [other for other in self._by_loop if other.is_closed()]:
            connections = self._by_loop.pop(ended)
            if connections.closed:
                self._free.append(connections.engine)
        if self._own:
            self.engine = self._free.pop() if self._free else engine_of(self._given)
        else:
            self._take(loop)
        connections = self._by_loop[loop] = self._connections(self.engine, self._own)
        return connections

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        pool = self.engine.pool  # ``dispose`` puts another one in its place
        pool_before, loop_before = self._taken or (None, None)
        if pool is pool_before and loop is not loop_before and not isinstance(pool, NullPool):
            raise StoreError(
                "the engine that SQLStore was given has connections of another event loop: give SQLStore the URL, for "
                "an engine in each loop; or make the engine with poolclass=NullPool; or await its dispose() before a "
                "loop ends"
            )
        self._taken = pool, loop


def _is_misread(given: object, host: str, database: str) -> bool:
    """Return whether SQLAlchemy took a part of a password for the host, or found the host behind a later ``@``."""
    rest = re.split("[?#]", given.partition("://")[2])[0] if isinstance(given, str) else ""
    authority, _, path = rest.partition("/")
    cut = not host and ("@" in database or not re.search(r"@(:\d*)?$", authority))
    return "@" in host or ("@" in authority and ("@" in path or cut or host not in authority))


def _check_driver(url: URL) -> None:
    backend, _, driver = url.drivername.partition("+")
    if driver not in DRIVERS.get(backend, ()):
        known = ", ".join(f"{name}+{driver}" for name, drivers in DRIVERS.items() for driver in drivers)
        raise ConfigError(f"engine_or_url: {url.drivername} is not known; use {known}, or SQLiteStore for SQLite")


def error_code(error: BaseException | None) -> object:
    """Return the SQLSTATE of a driver's exception, the error number of MySQL, or ``None`` if it has neither."""
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
    """Return a failure in words, with the place and what to do.

    Before there are tables no statement has any content to quote.
    """
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
