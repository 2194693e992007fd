"""Who is measured on Redis: one small adapter per peer, all on one server.

Rules of residence: as in `adapters`: a peer's own defaults and public names, imported inside the function. Here an
adapter is given the application and the server's URL, and returns the wrapped application and what closes its
connections; the application finds the session at the usual place.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from bench.adapters import SECRET
from bench.peers import Peer

App = Callable[..., Awaitable[None]]
Close = Callable[[], Awaitable[object]]
UNTOUCHED = "/hello"
"""The one path whose handler needs no session: peers that load on demand are not asked to."""


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


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Answer nothing: the handler of a route that is never taken."""


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
        Peer("redis-py", "redis-py: GET, GET + SET", redis_py, b"id", "redis"),
        Peer("fastersession", "**fastersession**", fastersession, b"__Host-sid", "fastersession"),
        Peer("unsealed", "fastersession, `seal=False`", unsealed, b"__Host-sid", "fastersession"),
        Peer("starsessions", "starsessions", starsessions, b"session", "starsessions"),
        Peer("litestar", "Litestar, its session middleware", litestar, b"session", "litestar"),
    )
}


def pick(wanted: Iterable[str] | None = None) -> list[Peer]:
    """Return the peers to measure, as far as they are installed here."""
    keys = REDIS_PEERS.keys() if wanted is None else set(wanted)
    return [peer for key, peer in REDIS_PEERS.items() if key in keys and peer.available()]


def at(url: str, peer: Peer) -> Peer:
    """Return the peer with a server to speak to, for a client to put in front of an application."""
    return replace(peer, wrap=lambda app, clock=None: peer.wrap(app, url))
