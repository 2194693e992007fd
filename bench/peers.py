"""Who is measured: one small adapter per peer.

Rules of residence: an adapter says how to wrap an application and where it finds its session, with the peer's own
defaults and public names only, and imports the peer inside the function, so that a peer that is not installed is
skipped. No case, clock or figure here.
"""

from __future__ import annotations

import importlib.metadata
import time
import uuid
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

SECRET = "hN3vXw7qRk-bench-only-it-guards-nothing-Tz9dLc5m"
"""As long as any peer asks for."""

MOST_SESSIONS = 2_000_000
"""Twice the largest scale, so that no bound is reached while something else is measured."""


@dataclass(frozen=True)
class Peer:
    key: str
    title: str
    wrap: Callable[..., tuple[Any, Sized]]
    """`wrap(app, clock=None)` gives the ASGI application and what holds its live sessions, empty if nothing does."""
    cookie: bytes | None
    """The cookie's name under the peer's defaults; `None` for the bare app, which has no session but a plain dict."""
    package: str | None = None
    """The distribution whose version is reported."""
    session_of: Callable[[dict[str, Any]], Any] = itemgetter("session")
    eager: bool = False
    """Gives every visitor a session and a cookie, asked for or not."""
    clocked: bool = False
    """Takes a clock and forgets what has expired."""
    stores: bool = True
    """Keeps its sessions on the server."""
    fill: Callable[[Sized, int], None] | None = None
    """Adds live sessions behind the peer's back where its own way would take hours."""

    def available(self) -> bool:
        try:
            self.wrap(nothing)
        except ImportError:
            return False
        return True


def versions(peers: Iterable[Any]) -> dict[str, str]:
    """Return the version of each peer's distribution, empty where it is run from its source."""
    found = {}
    for package in [peer.package for peer in peers if peer.package]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = ""
    return found


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for an application while a peer is only asked whether it is installed."""


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


def ancestor(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    from fastsession import FastSessionMiddleware, MemoryStore

    store = MemoryStore()
    return FastSessionMiddleware(app, SECRET, store=store), store.raw_memory_store


def ancestor_session(scope: dict[str, Any]) -> Any:
    return scope["state"]["session"].get_session()


def fill_ancestor(sessions: Any, count: int) -> None:
    """Store what the ancestor's `create_store` stores."""
    for number in range(count):
        values = {"__cause__": "new", "user": f"u{number}", "n": 1}
        sessions[str(uuid.uuid4())] = {"created_at": int(time.time()), "store": values}


PEERS = {
    peer.key: peer
    for peer in (
        Peer("bare", "bare app", bare, None, stores=False),
        Peer("floor", "the floor", floor, b"session", "cryptography"),
        Peer("fastersession", "**fastersession**", fastersession, b"__Host-sid", "fastersession", clocked=True),
        Peer("starlette", "Starlette SessionMiddleware", starlette, b"session", "starlette", stores=False),
        Peer(
            "fastsession",
            "fastsession (the ancestor)",
            ancestor,
            b"sid",
            "fastsession",
            session_of=ancestor_session,
            eager=True,
            fill=fill_ancestor,
        ),
    )
}


def pick(wanted: Iterable[str] | None = None) -> tuple[list[Peer], list[str]]:
    """Return the peers to measure, the bare app always among them, and the keys of those not installed here."""
    keys = [key for key in PEERS if wanted is None or key == "bare" or key in set(wanted)]
    return [PEERS[key] for key in keys if PEERS[key].available()], [k for k in keys if not PEERS[k].available()]
