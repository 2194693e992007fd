"""Calls of a SQLStore that is asked for more than its connections can do at once."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from itertools import count

from servers_sql import PostgreSQL
from sqlalchemy import event
from sqlalchemy.engine import Connection

from fastersession.stores.sql import SQLStore
from fastersession.stores.sql.engine import CONNECTIONS

CALLERS, CALLS = 50, 10  # many more than there are connections, each with one call after the other


async def connect_all(store: SQLStore) -> None:
    """Make every connection that there may be: making them takes one longer than the other."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CONNECTIONS):
            await stack.enter_async_context(store._engine.connect())


async def crowd(store: SQLStore) -> list[int]:
    """Return the calls, numbered as they were made, in the order in which they got a connection."""
    asked, begun = count(), []

    def work(number: int, connection: Connection) -> None:
        begun.append(number)
        connection.exec_driver_sql("select 1")

    async def call() -> None:
        for _ in range(CALLS):
            await store._engines.here().do(partial(work, next(asked)))

    await connect_all(store)
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    await store.close()
    return begun


def test_who_comes_first_is_served_first() -> None:
    """No call is overtaken while it waits for a connection: it might wait in vain. None is made for a single call."""
    made = count()
    with contextlib.closing(PostgreSQL()) as server:
        store = SQLStore(server.url())
        event.listen(store._engine.sync_engine, "connect", lambda *_: next(made))
        for _ in range(2):  # closed and opened again, in another loop
            assert asyncio.run(crowd(store)) == list(range(CALLERS * CALLS))
    assert next(made) == 2 * CONNECTIONS
