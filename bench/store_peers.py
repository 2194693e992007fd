"""Who is measured on which store: one small adapter per peer, each with a place of its own in the store.

Rules of residence: as in `adapters`: a peer's own defaults and public names, imported inside the function. Here an
adapter is given the application and the URL of its place, and returns the wrapped application and what closes its
connections; the application finds the session at the usual place. Each pool of a database's connections is as large as
the others', and on SQLite what is written survives as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

from bench import store_rows as rows
from bench.adapter_django import stored
from bench.adapters import SECRET
from bench.peers import Peer
from bench.store_rows import CONNECTIONS, PATIENT, REDIS, UNTOUCHED, App, Close, alone

Adapter = Callable[[App, str], tuple[App, Close]]


@dataclass(frozen=True)
class StorePeer(Peer):
    """A peer on a store; the `wrap` of one takes a URL."""

    table: str = ""
    """What the store counts when it is asked for the number of sessions."""
    needs: tuple[str, ...] = ()
    """Modules without which it is left out, beside that of its package."""

    shared: str = ""
    """The place that several have in common, one at a time."""

    @property
    def place(self) -> str:
        return self.shared or self.key

    @property
    def packages(self) -> tuple[str, ...]:
        return (*filter(None, [self.package]), *self.needs)

    def available(self) -> bool:
        return super().available() and all(find_spec(module) for module in self.needs)


def ours(app: App, store: Any, *, seal: bool = True) -> tuple[App, Close]:
    from fastersession import FasterSessionMiddleware

    made = FasterSessionMiddleware(app, secret_key=SECRET, store=store, seal=seal, store_timeout=PATIENT)
    return made, store.close


def on_sqlite(app: App, url: str) -> tuple[App, Close]:
    from fastersession.stores.sqlite import SQLiteStore

    return ours(app, SQLiteStore(url.removeprefix("sqlite:///")))


def on_redis(app: App, url: str, *, seal: bool = True) -> tuple[App, Close]:
    from fastersession.stores.redis import RedisStore

    return ours(app, RedisStore(url), seal=seal)


def unsealed(app: App, url: str) -> tuple[App, Close]:
    return on_redis(app, url, seal=False)


def on_sql(driver: str) -> Adapter:
    def wrap(app: App, url: str) -> tuple[App, Close]:
        from fastersession.stores.sql import SQLStore

        return ours(app, SQLStore(with_driver(url, driver)))

    return wrap


def with_driver(url: str, driver: str) -> str:
    return url.replace("://", f"+{driver}://", 1)


def starsessions(app: App, url: str) -> tuple[App, Close]:
    from redis.asyncio import Redis
    from starlette.requests import HTTPConnection
    from starsessions import SessionMiddleware, load_session
    from starsessions.stores.redis import RedisStore

    client = Redis.from_url(url, **REDIS)

    async def loading(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != UNTOUCHED:
            await load_session(HTTPConnection(scope))
        await app(scope, receive, send)

    return SessionMiddleware(loading, RedisStore(connection=client)), client.aclose


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing: the handler of a route that is never taken."""


def around(app: App, backend: Any, **stores: Any) -> App:
    """Put the session middleware of Litestar alone around it: its routing and dependency injection are not counted."""
    from litestar import Litestar, asgi
    from litestar.middleware.session.base import SessionMiddleware

    host = Litestar([asgi("/", copy_scope=False)(nothing)], stores=stores, openapi_config=None)
    known = {"app": host, "litestar_app": host, "route_handler": host.routes[0].route_handler}
    middleware: Any = SessionMiddleware(app, backend)

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await middleware(scope | known, receive, send)

    return inside


def litestar_redis(app: App, url: str) -> tuple[App, Close]:
    from litestar.middleware.session.server_side import ServerSideSessionBackend, ServerSideSessionConfig
    from litestar.stores.redis import RedisStore
    from redis.asyncio import Redis

    client = Redis.from_url(url, **REDIS)
    return around(app, ServerSideSessionBackend(ServerSideSessionConfig()), sessions=RedisStore(client)), client.aclose


def litestar_sql(driver: str, connections: int = CONNECTIONS) -> Adapter:
    """Take the backend of advanced-alchemy; on SQLite one connection, for several are refused the lock at once."""

    def wrap(app: App, url: str) -> tuple[App, Close]:
        from advanced_alchemy.extensions.litestar import EngineConfig, SQLAlchemyAsyncConfig
        from advanced_alchemy.extensions.litestar.session import SQLAlchemyAsyncSessionBackend
        from litestar.middleware.session.server_side import ServerSideSessionConfig

        config = SQLAlchemyAsyncConfig(
            connection_string=with_driver(url, driver),
            engine_config=EngineConfig(pool_size=connections, max_overflow=0, pool_timeout=int(PATIENT)),
        )
        engine, tables = config.get_engine(), model().metadata
        if engine.dialect.name == "sqlite":
            alike(engine.sync_engine)
        inside = around(app, SQLAlchemyAsyncSessionBackend(ServerSideSessionConfig(), config, model()))
        opened: list[bool] = []

        async def opening(scope: Any, receive: Any, send: Any) -> None:
            if not opened:
                async with engine.begin() as connection:
                    await connection.run_sync(tables.create_all)
                opened.append(True)
            await inside(scope, receive, send)

        return opening, engine.dispose

    return wrap


@cache
def model() -> Any:
    """Return the table of the sessions; MySQL's LargeBinary would end at 64 KB, unless told otherwise."""
    from advanced_alchemy.extensions.litestar.session import SessionModelMixin
    from sqlalchemy import LargeBinary
    from sqlalchemy.orm import declared_attr, mapped_column

    columns = {"data": declared_attr(lambda cls: mapped_column(LargeBinary(2**24), nullable=False))}
    return type("Kept", (SessionModelMixin,), {"__tablename__": "kept", **columns})


def alike(engine: Any) -> None:
    """Have what is written to SQLite survive what it survives with the others, and no more."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")  # type: ignore[untyped-decorator]
    def connected(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=wal", "synchronous=normal"):
            connection.execute(f"pragma {pragma}").close()


def driver(kind: Any, key: str, title: str, *needs: str) -> StorePeer:
    return StorePeer(key, title, alone(kind), b"id", key, table="kept", needs=needs)


def fastersession(wrap: Adapter, table: str, key: str = "fastersession", more: str = "", *needs: str) -> StorePeer:
    return StorePeer(key, f"**fastersession**{more}", wrap, b"__Host-sid", "fastersession", table=table, needs=needs)


def litestar(wrap: Adapter, more: str, *needs: str) -> StorePeer:
    title = f"Litestar, {more}"
    return StorePeer("litestar", title, wrap, b"session", "litestar", table="kept", needs=needs)


def django(engine: str, *needs: str) -> StorePeer:
    wrap = stored(engine, UNTOUCHED, CONNECTIONS, PATIENT)
    title, table = f"Django, `{engine}`", "django_session"
    key = f"django-{engine}"
    return StorePeer(key, title, wrap, b"sessionid", "django", table=table, needs=needs, shared="django")


SQL = "fastersession_session"
ALCHEMY = "advanced_alchemy"
STORE_PEERS: dict[str, tuple[StorePeer, ...]] = {
    "sqlite": (
        driver(rows.Aiosqlite, "aiosqlite", "aiosqlite alone"),
        fastersession(on_sqlite, "session"),
        litestar(litestar_sql("aiosqlite", 1), "SQLAlchemy", ALCHEMY, "aiosqlite"),
        django("db"),
        django("cached_db"),
    ),
    "postgresql": (
        driver(rows.Asyncpg, "asyncpg", "asyncpg alone"),
        driver(rows.Psycopg, "psycopg", "psycopg alone", "psycopg_pool"),
        fastersession(on_sql("asyncpg"), SQL, "fastersession", ", asyncpg", "sqlalchemy", "asyncpg"),
        fastersession(on_sql("psycopg"), SQL, "fastersession-psycopg", ", psycopg", "sqlalchemy", "psycopg"),
        litestar(litestar_sql("asyncpg"), "SQLAlchemy, asyncpg", ALCHEMY, "asyncpg"),
        django("db", "psycopg_pool"),
        django("cached_db", "psycopg_pool"),
    ),
    "mariadb": (
        driver(rows.Asyncmy, "asyncmy", "asyncmy alone"),
        fastersession(on_sql("asyncmy"), SQL, "fastersession", "", "sqlalchemy", "asyncmy"),
        litestar(litestar_sql("asyncmy"), "SQLAlchemy", ALCHEMY, "asyncmy"),
    ),
    "redis": (
        StorePeer("redis-py", "redis-py alone", alone(rows.RedisPy), b"id", "redis", needs=("hiredis",)),
        fastersession(on_redis, "", "fastersession", "", "redis"),
        fastersession(unsealed, "", "unsealed", ", `seal=False`", "redis"),
        StorePeer("starsessions", "starsessions", starsessions, b"session", "starsessions", needs=("redis",)),
        litestar(litestar_redis, "its own store", "redis"),
    ),
}
"""By store, the driver alone first: the others are held against it."""


def pick(store: str, wanted: Iterable[str] | None = None) -> list[StorePeer]:
    """Return the peers to measure on a store, as far as they are installed here."""
    peers = STORE_PEERS[store]
    keys = {peer.key for peer in peers} if wanted is None else set(wanted)
    return [peer for peer in peers if peer.key in keys and peer.available()]


def at(url: str, peer: Peer) -> Peer:
    """Return the peer with a place in a store, for a client to put in front of an application."""
    return replace(peer, wrap=lambda app, clock=None: peer.wrap(app, url))
