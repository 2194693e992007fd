"""How an application is wrapped by each peer: one small adapter per peer.

Rules of residence: the peer's own defaults and public names, as far as it has them, and where it finds its session; the
peer is imported inside the function, so that one that is not installed costs nothing. No case, clock or figure here.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sized
from typing import Any

SECRET = "hN3vXw7qRk-bench-only-it-guards-nothing-Tz9dLc5m"
"""As long as any peer asks for."""

MOST_SESSIONS = 2_000_000
"""Twice the largest scale, so that no bound is reached while something else is measured."""


def bare(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    return app, ()


def floor(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from bench.floor import FloorMiddleware

    middleware = FloorMiddleware(app, SECRET.encode())
    return middleware, middleware.data


def fastersession(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from fastersession import FasterSessionMiddleware, MemoryStore

    clocked = {} if clock is None else {"clock": clock}
    store = MemoryStore(max_sessions=MOST_SESSIONS, **clocked)
    return FasterSessionMiddleware(app, secret_key=SECRET, store=store), store


def starlette(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from starlette.middleware.sessions import SessionMiddleware

    return SessionMiddleware(app, SECRET), ()


def starsessions(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from starsessions import InMemoryStore, SessionAutoloadMiddleware, SessionMiddleware

    store = InMemoryStore()
    return SessionMiddleware(SessionAutoloadMiddleware(app), store=store), store.data


def asgi_sessions(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    """Take Fernet, for the default neither signs nor encrypts; it works with 32 characters, and not with more."""
    from asgi_sessions import SessionMiddleware

    return SessionMiddleware(app, SECRET[:32], session_type="fernet"), ()


def ancestor(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from fastsession import FastSessionMiddleware, MemoryStore

    store = MemoryStore()
    return FastSessionMiddleware(app, SECRET, store=store), store.raw_memory_store


def ancestor_session(scope: dict[str, Any]) -> Any:
    return scope["state"]["session"].get_session()


def ancestor_logout(scope: dict[str, Any]) -> None:
    scope["state"]["session"].clear_session()


def fill_ancestor(sessions: Any, count: int) -> None:
    """Store what the ancestor's `create_store` stores."""
    for number in range(count):
        values = {"__cause__": "new", "user": f"u{number}", "n": 1}
        sessions[str(uuid.uuid4())] = {"created_at": int(time.time()), "store": values}


def bare_litestar(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    return mounted(app, [], {}), ()


def litestar(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.memory import MemoryStore

    store = MemoryStore()
    return mounted(app, [ServerSideSessionConfig().middleware], {"sessions": store}), store._store


def mounted(app: Any, middleware: list[Any], stores: dict[str, Any]) -> Any:
    """Make a Litestar application that has nothing but the given one, in its own layers."""
    from litestar import Litestar, asgi
    from litestar.types import Receive, Scope, Send

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["raw_path"].decode()  # a mounted application is given the path without its first slash
        await app(scope, receive, send)

    handler.__annotations__ = {"scope": Scope, "receive": Receive, "send": Send, "return": None}
    route = asgi("/", is_mount=True, copy_scope=False)(handler)
    return Litestar([route], middleware=middleware, stores=stores, openapi_config=None, logging_config=None)


def litestar_logout(scope: dict[str, Any]) -> None:
    """Do what its `Request.clear_session` does."""
    from litestar.types import Empty

    scope["session"] = Empty
