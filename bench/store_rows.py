"""The bare drivers: one key or one row of JSON for each session, and nothing else.

Rules of residence: a driver as its own documentation opens it, with ten connections where a pool waits for one; the
least number of round trips. No signature, no expiry, no protection of any kind; two requests at once overwrite each
other's changes. A driver is imported inside the method that opens it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

App = Callable[..., Awaitable[None]]
Close = Callable[[], Awaitable[object]]
UNTOUCHED = "/hello"
"""The one path whose handler needs no session: peers that load on demand are not asked to."""
CONNECTIONS = 10
PATIENT = 300.0
"""Seconds that a request may wait: 200 loads of 2 MB at once are not done within the usual limits."""
REDIS: dict[str, Any] = {"max_connections": 1000, "socket_timeout": PATIENT}
"""Else redis-py raises an error at the 101st request at once, and after 5 s."""
TABLE = "create table if not exists kept (id varchar(40) primary key, data {} not null)"


class Noted(dict[str, Any]):
    """Knows if a key was set, the one change that the application makes here."""

    changed = False

    def __setitem__(self, key: str, value: Any) -> None:
        self.changed = True
        super().__setitem__(key, value)


class Rows:
    """What a driver is asked to do. `open` is awaited by the first request, which comes alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.driver: Any = None

    async def open(self) -> None:
        raise NotImplementedError

    async def get(self, key: str) -> str | bytes | None:
        raise NotImplementedError

    async def add(self, key: str, data: str) -> object:
        raise NotImplementedError

    async def put(self, key: str, data: str) -> object:
        raise NotImplementedError

    async def close(self) -> None:
        await self.driver.close()


class RedisPy(Rows):
    async def open(self) -> None:
        from redis.asyncio import Redis

        self.driver = Redis.from_url(self.url, **REDIS)

    async def get(self, key: str) -> str | bytes | None:
        found: bytes | None = await self.driver.get(key)
        return found

    async def put(self, key: str, data: str) -> object:
        return await self.driver.set(key, data)

    add = put

    async def close(self) -> None:
        await self.driver.aclose()


class Aiosqlite(Rows):
    """One connection, which survives as much as `SQLiteStore` does by default."""

    async def open(self) -> None:
        import aiosqlite

        self.driver = await aiosqlite.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
        for statement in ("pragma journal_mode=wal", "pragma synchronous=normal", TABLE.format("text")):
            await self.driver.execute_fetchall(statement)

    async def get(self, key: str) -> str | bytes | None:
        rows = await self.driver.execute_fetchall("select data from kept where id = ?", (key,))
        return rows[0][0] if rows else None

    async def add(self, key: str, data: str) -> object:
        return await self.driver.execute_fetchall("insert into kept values (?, ?)", (key, data))

    async def put(self, key: str, data: str) -> object:
        return await self.driver.execute_fetchall("update kept set data = ? where id = ?", (data, key))


class Asyncpg(Rows):
    async def open(self) -> None:
        import asyncpg

        self.driver = await asyncpg.create_pool(self.url, min_size=CONNECTIONS, max_size=CONNECTIONS)
        await self.driver.execute(TABLE.format("text"))

    async def get(self, key: str) -> str | bytes | None:
        found: str | None = await self.driver.fetchval("select data from kept where id = $1", key)
        return found

    async def add(self, key: str, data: str) -> object:
        return await self.driver.execute("insert into kept values ($1, $2)", key, data)

    async def put(self, key: str, data: str) -> object:
        return await self.driver.execute("update kept set data = $2 where id = $1", key, data)


class Psycopg(Rows):
    async def open(self) -> None:
        from psycopg_pool import AsyncConnectionPool

        options = {"autocommit": True}
        self.driver = AsyncConnectionPool(
            self.url, min_size=CONNECTIONS, max_size=CONNECTIONS, open=False, timeout=PATIENT, kwargs=options
        )
        await self.driver.open(wait=True)
        await self.put_through(TABLE.format("text"))

    async def put_through(self, statement: str, *parameters: str) -> None:
        async with self.driver.connection() as connection:
            await connection.execute(statement, parameters)

    async def get(self, key: str) -> str | bytes | None:
        async with self.driver.connection() as connection:
            cursor = await connection.execute("select data from kept where id = %s", (key,))
            row = await cursor.fetchone()
        return row[0] if row else None

    async def add(self, key: str, data: str) -> object:
        return await self.put_through("insert into kept values (%s, %s)", key, data)

    async def put(self, key: str, data: str) -> object:
        return await self.put_through("update kept set data = %s where id = %s", data, key)


class Asyncmy(Rows):
    async def open(self) -> None:
        import asyncmy

        at = urlsplit(self.url)
        who = {"host": at.hostname, "port": at.port, "user": at.username, "password": at.password, "db": at.path[1:]}
        self.driver = await asyncmy.create_pool(minsize=CONNECTIONS, maxsize=CONNECTIONS, autocommit=True, **who)
        if await self.ask("select 1 from information_schema.tables where table_name = 'kept'") is None:
            await self.ask(TABLE.format("longtext"))  # it would be told that the table is there

    async def ask(self, statement: str, *parameters: str) -> Any:
        async with self.driver.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(statement, parameters or None)
            return await cursor.fetchone() if statement.startswith("select") else None

    async def get(self, key: str) -> str | bytes | None:
        row = await self.ask("select data from kept where id = %s", key)
        return row[0] if row else None

    async def add(self, key: str, data: str) -> object:
        return await self.ask("insert into kept values (%s, %s)", key, data)

    async def put(self, key: str, data: str) -> object:
        return await self.ask("update kept set data = %s where id = %s", data, key)

    async def close(self) -> None:
        self.driver.close()
        await self.driver.wait_closed()


def alone(kind: type[Rows]) -> Callable[[App, str], tuple[App, Close]]:
    """Make the adapter of a driver: read what the cookie names, and write if the application has set something."""

    def wrap(app: App, url: str) -> tuple[App, Close]:
        rows = kind(url)

        async def bare(scope: Any, receive: Any, send: Any) -> None:
            if rows.driver is None:
                await rows.open()
            cookies = [value for name, value in scope["headers"] if name == b"cookie"]
            key = cookies[0].partition(b"=")[2].decode() if cookies else secrets.token_hex(16)
            kept = await rows.get(key) if cookies and scope["path"] != UNTOUCHED else None
            scope["session"] = session = Noted(json.loads(kept or "{}"))

            async def saving(message: Any) -> None:
                if message["type"] == "http.response.start" and session.changed:
                    await (rows.put if cookies else rows.add)(key, json.dumps(session))
                    message["headers"].append((b"set-cookie", b"id=" + key.encode()))
                await send(message)

            await app(scope, receive, saving)

        return bare, rows.close

    return wrap
