"""Who is measured on Redis: one small adapter per peer, all on one server.

Rules of residence: as in `peers`: a peer's own defaults and public names, imported inside the function. An adapter
returns the wrapped application and what closes its connections; the application finds the session at the usual place.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from bench.peers import SECRET, nothing

App = Callable[..., Awaitable[None]]
Close = Callable[[], Awaitable[object]]
UNTOUCHED = "/hello"
"""The one path whose handler needs no session: peers that load on demand are not asked to."""


@dataclass(frozen=True)
class RedisPeer:
    key: str
    title: str
    attach: Callable[[App, str], tuple[App, Close]]
    """`attach(app, url)` gives the ASGI application and what closes it."""
    cookie: bytes
    package: str
    session_of: Callable[[dict[str, Any]], Any] = itemgetter("session")

    def available(self) -> bool:
        try:
            self.attach(nothing, "redis://127.0.0.1:1/0")
        except ImportError:
            return False
        return True


def redis_py(app: App, url: str) -> tuple[App, Close]:
    """GET, and SET where something was written: no signature, no expiry, no protection of any kind."""
    from redis.asyncio import Redis

    client = Redis.from_url(url)

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        cookies = [value for name, value in scope["headers"] if name == b"cookie"]
        key = cookies[0].partition(b"=")[2] if cookies else secrets.token_hex(16).encode()
        kept = await client.get(key) if cookies and scope["path"] != UNTOUCHED else None
        scope["session"] = session = json.loads(kept or "{}")

        async def saving(message: Any) -> None:
            if message["type"] == "http.response.start" and (data := json.dumps(session)) != (kept or b"{}").decode():
                await client.set(key, data)
                message["headers"].append((b"set-cookie", b"id=" + key))
            await send(message)

        await app(scope, receive, saving)

    return bare, client.aclose


def fastersession(app: App, url: str, *, seal: bool = True) -> tuple[App, Close]:
    from fastersession import FasterSessionMiddleware
    from fastersession.stores.redis import RedisStore

    store = RedisStore(url)
    return FasterSessionMiddleware(app, secret_key=SECRET, store=store, seal=seal), store.close


def unsealed(app: App, url: str) -> tuple[App, Close]:
    return fastersession(app, url, seal=False)


def starsessions(app: App, url: str) -> tuple[App, Close]:
    from redis.asyncio import Redis
    from starlette.requests import HTTPConnection
    from starsessions import SessionMiddleware, load_session
    from starsessions.stores.redis import RedisStore

    client = Redis.from_url(url)

    async def loading(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != UNTOUCHED:
            await load_session(HTTPConnection(scope))
        await app(scope, receive, send)

    return SessionMiddleware(loading, RedisStore(connection=client)), client.aclose


def litestar(app: App, url: str) -> tuple[App, Close]:
    """The session middleware of Litestar alone: its routing and dependency injection are not counted."""
    from litestar import Litestar, asgi
    from litestar.middleware.session.base import SessionMiddleware
    from litestar.middleware.session.server_side import ServerSideSessionBackend, ServerSideSessionConfig
    from litestar.stores.redis import RedisStore
    from redis.asyncio import Redis

    client = Redis.from_url(url)
    host = Litestar(
        [asgi("/", copy_scope=False)(nothing)], stores={"sessions": RedisStore(client)}, openapi_config=None
    )
    around = {"app": host, "litestar_app": host, "route_handler": host.routes[0].route_handler}
    middleware: Any = SessionMiddleware(app, ServerSideSessionBackend(ServerSideSessionConfig()))

    async def inside(scope: Any, receive: Any, send: Any) -> None:
        await middleware(scope | around, receive, send)

    return inside, client.aclose


REDIS_PEERS = {
    peer.key: peer
    for peer in (
        RedisPeer("redis-py", "redis-py: GET, GET + SET", redis_py, b"id", "redis"),
        RedisPeer("fastersession", "**fastersession**", fastersession, b"__Host-sid", "fastersession"),
        RedisPeer("unsealed", "fastersession, `seal=False`", unsealed, b"__Host-sid", "fastersession"),
        RedisPeer("starsessions", "starsessions", starsessions, b"session", "starsessions"),
        RedisPeer("litestar", "Litestar, its session middleware", litestar, b"session", "litestar"),
    )
}


def pick(wanted: Iterable[str] | None = None) -> tuple[list[RedisPeer], list[str]]:
    """Return the peers to measure and the keys of those not installed here."""
    keys = [key for key in REDIS_PEERS if wanted is None or key in set(wanted)]
    found = [key for key in keys if REDIS_PEERS[key].available()]
    return [REDIS_PEERS[key] for key in found], [key for key in keys if key not in found]
