"""Who is measured: the list of peers, and what is known of each.

Rules of residence: what a peer is called, which adapter makes it, how its cookie behaves and what it cannot do. The
adapters themselves are in adapters.py. No case, clock or figure here.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Sized
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from operator import itemgetter
from typing import Any

from bench import accounts, adapter_django, adapters

Scope = dict[str, Any]


def cleared(scope: Scope) -> None:
    """Log out as most peers want it."""
    scope["session"].clear()


@dataclass(frozen=True)
class Peer:
    key: str
    title: str
    wrap: Callable[..., tuple[Any, Sized]]
    """`wrap(app, clock=None)` gives the ASGI application and what holds its live sessions, empty if nothing does."""
    cookie: bytes | None
    """The cookie's name under the peer's defaults; `None` for an app without sessions, which gets a plain dict."""
    package: str | None = None
    """The distribution whose version is reported, and without whose module the peer is left out."""
    session_of: Callable[[Scope], Any] = itemgetter("session")
    logout: Callable[[Scope], None] = cleared
    over: str = "bare"
    """The peer without sessions whose cost is subtracted: a framework's sessions are held against that framework."""
    eager: bool = False
    """Gives every visitor a session and a cookie, asked for or not."""
    renews: bool = False
    """Sets its cookie with every answer of a session, changed or not."""
    clocked: bool = False
    """Takes a clock and forgets what has expired."""
    stores: bool = True
    """Keeps its sessions on the server."""
    lacks: frozenset[str] = frozenset()
    """Keys of the cases and parts that it cannot do."""
    users: tuple[accounts.Kind, ...] = ()
    """How it knows users, in each of its stores; empty: it has no logins that it could revoke, limit or tell of."""
    fill: Callable[[Any, int], None] | None = None
    """Adds live sessions behind the peer's back where its own way would take hours."""

    @property
    def bare(self) -> bool:
        return self.cookie is None

    def available(self) -> bool:
        return self.package is None or find_spec(self.package.replace("-", "_").lower()) is not None

    def version(self) -> str:
        try:
            return importlib.metadata.version(self.package) if self.package else ""
        except importlib.metadata.PackageNotFoundError:
            return ""


PEERS = {
    peer.key: peer
    for peer in (
        Peer("bare", "bare app", adapters.bare, None, stores=False),
        Peer("floor", "the floor", adapters.floor, b"session", "cryptography", lacks=frozenset({"websocket"})),
        Peer(
            "fastersession",
            "**fastersession**",
            adapters.fastersession,
            b"__Host-sid",
            "fastersession",
            clocked=True,
            users=accounts.OURS,
        ),
        Peer("starlette", "Starlette SessionMiddleware", adapters.starlette, b"session", "starlette", stores=False),
        Peer("starsessions", "starsessions", adapters.starsessions, b"session", "starsessions", renews=True),
        Peer(
            "asgi-sessions", "asgi-sessions (Fernet)", adapters.asgi_sessions, b"session", "asgi-sessions", stores=False
        ),
        Peer(
            "fastsession",
            "fastsession (the ancestor)",
            adapters.ancestor,
            b"sid",
            "fastsession",
            session_of=adapters.ancestor_session,
            logout=adapters.ancestor_logout,
            eager=True,
            lacks=frozenset({"websocket"}),
            fill=adapters.fill_ancestor,
        ),
        Peer("bare-litestar", "Litestar without sessions", adapters.bare_litestar, None, "litestar", stores=False),
        Peer(
            "litestar",
            "Litestar's server-side sessions",
            adapters.litestar,
            b"session",
            "litestar",
            logout=adapters.litestar_logout,
            over="bare-litestar",
            eager=True,
            renews=True,
        ),
        Peer(
            "bare-django",
            "Django without sessions",
            adapter_django.bare,
            None,
            "django",
            stores=False,
            lacks=adapter_django.LACKS,
        ),
        Peer(
            "django",
            "Django's sessions in its cache",
            adapter_django.cached,
            b"sessionid",
            "django",
            logout=adapter_django.logout,
            over="bare-django",
            lacks=adapter_django.LACKS,
        ),
    )
}


def versions(*packages: str) -> list[str]:
    """Name the versions of what is installed of these."""
    found = []
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return found


def pick(wanted: Iterable[str] | None = None) -> tuple[list[Peer], list[str]]:
    """Return the peers to measure, with the apps they are held against, and the keys of those not installed here."""
    chosen = set(PEERS if wanted is None else wanted) & PEERS.keys()
    chosen |= {"bare"} | {PEERS[key].over for key in chosen}
    keys = [key for key in PEERS if key in chosen]
    return [PEERS[key] for key in keys if PEERS[key].available()], [k for k in keys if not PEERS[k].available()]
