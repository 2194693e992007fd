"""What a library that knows users offers the probes of the truth table: logins, an index, and several workers.

Rules of residence: one `Kind` for each store of a peer, by the peer's public names. What is probed, and the way that
must fail, are elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.adapters import SECRET
from bench.servers import Redis

IDLE = 60.0
"""Seconds that a session lives without a request."""

Scope = dict[str, Any]


class Clock:
    """A clock of which no two readings are the same, and that is moved on."""

    def __init__(self) -> None:
        self.readings = itertools.count()
        self.moved = 1_800_000_000.0

    def __call__(self) -> float:
        return self.moved + next(self.readings) / 1000

    def move(self, seconds: float) -> None:
        self.moved += seconds


@dataclass
class House:
    """Workers that serve one application over one store."""

    workers: Sequence[Any]
    revoke: Callable[[str], Awaitable[Any]]
    """Ends all sessions of a user, asked of the last worker."""
    listed: Callable[[str], Awaitable[int]]
    """How many sessions of a user there are, as he is shown."""
    ended: list[str | None] = field(default_factory=list)
    """Whose session it was, for each end that was told."""


@dataclass(frozen=True)
class Kind:
    """How a peer keeps users in one of its stores."""

    title: str
    cookie: bytes
    opened: Callable[[Any, Clock, int | None, bool], AbstractAsyncContextManager[House]]
    """`opened(app, clock, limit, closes)`: of sessions of a user, which live for `IDLE`; and whether what runs on one
    ends with it."""
    login: Callable[[Scope, str, float | None], Awaitable[Any]]
    """`login(scope, user, authenticated_at)`; the time is that of the call if it is not given."""
    logout: Callable[[Scope], Awaitable[Any]]
    missing: Callable[[], list[str]] = list
    """What must be installed before it can run."""


async def login(scope: Scope, user: str, at: float | None) -> None:
    await scope["session"].login(user, authenticated_at=at)


async def logout(scope: Scope) -> None:
    await scope["session"].logout()


@asynccontextmanager
async def served(app: Any, stores: Sequence[Any], limit: int | None, closes: bool) -> AsyncIterator[House]:
    """Serve with a worker for each store, of which all have the same data."""
    from fastersession import FasterSessionMiddleware
    from fastersession.listeners import DestroyedEvent, SessionListener
    from fastersession.sessions import Sessions
    from fastersession.testing import lifespan

    class Told(SessionListener):
        async def destroyed(self, event: DestroyedEvent) -> None:
            house.ended.append(event.user)
            await asyncio.sleep(0.001)  # the time to free what the session had

    async def listed(user: str) -> int:
        return len(await sessions.of(user))

    options = {"idle_timeout": IDLE, "max_sessions_per_user": limit, "listeners": [Told()], "close_on_end": closes}
    workers = [FasterSessionMiddleware(app, SECRET, store, **options) for store in stores]
    sessions = Sessions(stores[-1], SECRET)
    house = House(workers, sessions.revoke_user, listed)
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(lifespan(worker))
        yield house


@asynccontextmanager
async def in_memory(app: Any, clock: Clock, limit: int | None, closes: bool) -> AsyncIterator[House]:
    from fastersession import MemoryStore

    async with served(app, [MemoryStore(clock=clock)], limit, closes) as house:
        yield house


@asynccontextmanager
async def in_sqlite(app: Any, clock: Clock, limit: int | None, closes: bool) -> AsyncIterator[House]:
    from fastersession.stores.sqlite import SQLiteStore

    with TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        async with served(app, [SQLiteStore(path, clock=clock) for _ in range(2)], limit, closes) as house:
            yield house


@asynccontextmanager
async def in_redis(app: Any, clock: Clock, limit: int | None, closes: bool) -> AsyncIterator[House]:
    from fastersession.stores.redis import RedisStore

    with Redis() as server:
        stores = [RedisStore(server.at("users"), clock=clock) for _ in range(2)]
        async with served(app, stores, limit, closes) as house:
            yield house


OURS = (
    Kind("MemoryStore", b"__Host-sid", in_memory, login, logout),
    Kind("SQLiteStore", b"__Host-sid", in_sqlite, login, logout),
    Kind("RedisStore", b"__Host-sid", in_redis, login, logout, Redis.missing),
)
