"""A SQLStore over one of the servers and drivers, with tables of its own.

Rules of residence: what the tests of SQLStore share; no test. Servers are in `servers_sql`, their fixtures in conftest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from servers_sql import MariaDB, PostgreSQL, Server

from fastersession.stores.sql import SQLStore

KINDS: dict[str, type[Server]] = {"asyncpg": PostgreSQL, "psycopg": PostgreSQL, "asyncmy": MariaDB}
numbers = count()


class Place:
    """A server, a driver, and tables that no other test uses."""

    def __init__(self, server: Server, driver: str) -> None:
        self.server, self.url, self.table = server, server.url(driver), f"session_{next(numbers)}"

    def store(self, **options: Any) -> SQLStore:
        return SQLStore(self.url, **{"table": self.table, **options})

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[SQLStore]:
        store = self.store(**options)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    def run(self, scenario: Callable[[SQLStore], Coroutine[Any, Any, Any]], **options: Any) -> Any:
        async def main() -> Any:
            async with self.opened(**options) as store:
                return await scenario(store)

        return asyncio.run(main())

    def count(self, what: str = "") -> int:
        return int(self.server.execute(f"select count(*) from {self.table}{what}"))
