"""The usual way to know users, which each probe of users must say no to: an index beside the records.

Rules of residence: what session libraries with such an index do, in one order that they do it in; no fault that they do
not have. Where nothing happens at the same time, all of it works. A call of its store takes a turn of the event loop,
as one over a network would.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.accounts import IDLE, Clock, House, Kind, Scope

COOKIE = b"usual"


class Store:
    """Values by key, as a server of keys has them."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        await asyncio.sleep(0)
        return self.data.get(key)

    async def put(self, key: str, value: Any) -> None:
        await asyncio.sleep(0)
        self.data[key] = value

    async def delete(self, key: str) -> None:
        await asyncio.sleep(0)
        self.data.pop(key, None)


class Worker:
    """Sessions by the cookie, saved whole; of each user a list of his, with the ends that they were begun with."""

    def __init__(self, app: Any, store: Store, clock: Clock, limit: int | None, ended: list[str | None]) -> None:
        self.app, self.store, self.clock, self.limit, self.ended = app, store, clock, limit, ended

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        cookies = (value for name, value in scope["headers"] if name == b"cookie")
        scope["sid"] = next(cookies, b"").decode().partition("=")[2]
        record = await self.store.get(scope["sid"]) or {}
        scope["session"] = dict(record) if record.get("end", 0) > self.clock() else {}
        scope["worker"] = self

        async def saving(message: dict[str, Any]) -> None:
            session = scope["session"]
            if message["type"] == "http.response.start" and session:
                await self.store.put(scope["sid"], {**session, "end": self.clock() + IDLE})
                field = b"=".join((COOKIE, scope["sid"].encode()))
                message = {**message, "headers": [*message["headers"], (b"set-cookie", field)]}
            await send(message)

        return await self.app(scope, receive, saving)

    async def entries(self, user: str) -> list[tuple[str, float]]:
        found = await self.store.get(f"sessions of {user}") or []
        return [(sid, end) for sid, end in found if end > self.clock()]

    async def login(self, scope: Scope, user: str) -> None:
        entries, sid = await self.entries(user), secrets.token_hex()
        while self.limit is not None and len(entries) >= self.limit:
            await self.store.delete(entries.pop(0)[0])
        await self.store.put(f"sessions of {user}", [*entries, (sid, self.clock() + IDLE)])
        scope["sid"], scope["session"] = sid, {"user": user}

    async def revoke(self, user: str) -> None:
        for sid, _ in await self.entries(user):
            await self.store.delete(sid)
        await self.store.delete(f"sessions of {user}")

    async def listed(self, user: str) -> int:
        """Count, and take from the index what has no record."""
        entries = await self.entries(user)
        alive = [(sid, end) for sid, end in entries if await self.store.get(sid) is not None]
        await self.store.put(f"sessions of {user}", alive)
        return len(alive)

    async def sweep(self) -> None:
        """Tell of what has expired, and remove it."""
        for key, record in list(self.store.data.items()):
            if isinstance(record, dict) and record["end"] <= self.clock():
                self.ended.append(record["user"])
                await self.store.delete(key)


async def login(scope: Scope, user: str, at: float | None) -> None:
    await scope["worker"].login(scope, user)


async def logout(scope: Scope) -> None:
    worker, user = scope["worker"], scope["session"].pop("user", None)
    scope["session"].clear()
    await worker.store.delete(scope["sid"])
    worker.ended.append(user)
    await worker.sweep()


@asynccontextmanager
async def opened(app: Any, clock: Clock, limit: int | None, closes: bool) -> AsyncIterator[House]:
    store, ended = Store(), []
    workers = [Worker(app, store, clock, limit, ended) for _ in range(2)]
    yield House(workers, workers[-1].revoke, workers[-1].listed, ended)


USUAL = Kind("the usual way", COOKIE, opened, login, logout)
