"""Sessions in PostgreSQL, MariaDB or MySQL, through SQLAlchemy's asyncio engine.

Rules of residence: the store contract over an engine: connections, retries, errors, and what a user of the store sees.
Statements are in the modules beside, one for each database; the tables' check is in ``tables``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

try:
    from sqlalchemy.engine import URL, Connection
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.util import greenlet_spawn
except ImportError as missing:
    raise ImportError('SQLStore needs SQLAlchemy: pip install "fastersession[sql]"') from missing

from ...errors import ConfigError, StoreError
from ..base import Change, Record
from ..rows import name_to_bytes, record_of
from . import statements as sql
from .engine import SILENT_SECONDS, Connections, Engines, error_code, error_text, opening_text
from .mysql import MySQL
from .postgresql import PostgreSQL
from .tables import Tables

T = TypeVar("T")

DATABASES: dict[str, type[PostgreSQL] | type[MySQL]] = {"postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}
TRIES = 5  # of what lost a deadlock
COLLISIONS = {"40001", "40P01", 1213, 1205}  # serialization failure, deadlock; deadlock, lock wait timeout
ABANDON_SECONDS = 0.25  # after its caller has given up: a call takes milliseconds; a repetition must not be overtaken
PURGE_BATCH = 500  # sessions of one transaction
OPEN_SECONDS = 9.0  # to connect and make the tables: below the 10 s of the middleware, which cannot say where


class SQLStore:
    """Keeps sessions in two tables of a PostgreSQL, MariaDB or MySQL database, for any number of machines.

    A verb that has returned is *acknowledged*: it was committed, so it survives what the server's own setting of
    durability lets a commit survive (PostgreSQL ``synchronous_commit``, MariaDB and MySQL
    ``innodb_flush_log_at_trx_commit``: by default the crash of the server and a power cut). Asynchronous replication
    may lose the last commits at a failover, a logout among them.

    A process uses up to 10 connections at a time, in the order of its calls. Else no verb waits for another but two
    writers of one record, for the length of one statement or short transaction. A cancelled call happens as a whole
    or not at all; it is broken off only if it takes much longer. A call whose connection turned out to be lost is
    done once more on a new one, and one that lost a deadlock is repeated; a repeated ``create`` or ``regenerate`` that
    finds its own outcome has succeeded. Expired sessions are removed by ``purge`` only.

    :param engine_or_url: an ``AsyncEngine`` with one of the drivers asyncpg, psycopg or asyncmy, which serves one event
        loop and stays the caller's to dispose of (``isolation_level="AUTOCOMMIT"`` spares a setting at each call; with
        MariaDB and MySQL, ``skip_autocommit_rollback=True`` a round trip too; ``hide_parameters=True`` keeps contents
        out of SQLAlchemy's errors), or a URL, for which the store makes an engine of its own, and another one in each
        further event loop. Its connections end with the loop, if nobody calls ``close``.
    :param table: name of the table of sessions, ``name`` or ``schema.name``, in lower case.
    :param attribute_table: name of the table of their attributes; by default ``table`` with ``_attribute`` behind.
    :param create_tables: make the tables at opening where they are missing, and add the columns that those of an older
        release lack; its workers go on beside. Else all must be there: ``ddl`` has the statements, for a migration
        tool, and GUIDE.md those that an older release's tables need (the error names them too).
    :param clock: returns the time in seconds since the epoch; all processes must agree on it.
    :raises ConfigError: an argument cannot work, or the driver is not installed.

    Every verb raises ``StoreError`` if the database cannot be used; the next call tries again. Its ``__cause__`` is
    the driver's exception, which names no content.
    """

    live = None

    def __init__(
        self,
        engine_or_url: AsyncEngine | URL | str,
        *,
        table: str = "fastersession_session",
        attribute_table: str | None = None,
        create_tables: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        attribute_table = f"{table}_attribute" if attribute_table is None else attribute_table
        faults = [
            f"{argument}: must be a name of lower-case letters, digits and _, with at most one schema before a dot"
            for argument, name in (("table", table), ("attribute_table", attribute_table))
            if not isinstance(name, str) or not sql.TABLE_NAME.fullmatch(name)
        ]
        if table == attribute_table:
            faults.append("attribute_table: must differ from table")
        if not callable(clock):
            faults.append("clock: must be a function that returns seconds, like time.time")
        if faults:
            raise ConfigError("; ".join(faults))
        self.clock = clock
        self._engines = Engines(engine_or_url)
        dialect = self._engine.dialect
        self._database = DATABASES[dialect.name](dialect.paramstyle, table, attribute_table)
        self._tables = Tables(table, attribute_table, self._database, create_tables)
        self._ready = False

    def __repr__(self) -> str:
        return f"<SQLStore {self._engine.url!r} {self._tables.sessions}>"  # SQLAlchemy hides the password

    @property
    def _engine(self) -> AsyncEngine:
        return self._engines.engine

    @property
    def ddl(self) -> tuple[str, ...]:
        """The statements that make the tables, in their order, for this database and these table names."""
        return self._database.ddl

    async def open(self) -> None:
        """Connect, check the server's version, and make tables and columns where they are missing.

        :raises StoreError: no connection, too old a server, no tables (with ``create_tables=False``) or other ones, a
            missing column (with ``create_tables=False``, or where the account may not add it).
        """
        if not self._ready:
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    await self._do(self._tables.prepare)
            except TimeoutError as error:
                raise StoreError(opening_text(error, self._engine.url)) from error
            except StoreError as error:
                cause = error.__cause__
                if cause is None:
                    raise
                raise StoreError(opening_text(cause, self._engine.url)) from cause
            self._ready = True

    async def close(self) -> None:
        """Wait for what is running, and close the connections of an engine of its own. A later call opens new ones."""
        await self._engines.close()

    async def load(self, record_id: bytes) -> Record | None:
        """Read, in one round trip."""
        rows = await self._do(partial(self._database.load, parameters=self._at(record_id)))
        if not rows:
            return None
        attributes = dict(sql.from_key(name, value) for *_, name, value in rows if name is not None)
        return record_of(rows[0][:-2], attributes)

    async def create(self, record_id: bytes, record: Record) -> bool:
        parameters = self._own(
            record_id, record.verifier, created=float(record.created_at), idle=float(record.idle_timeout),
            not_after=float(record.not_after), user=None if record.user is None else name_to_bytes(record.user),
        )  # fmt: skip
        sets = dict(sql.to_key(name, value) for name, value in record.attributes.items())
        create = partial(self._database.create, parameters=parameters, sets=sets)
        return await self._do(create, partial(self._found, record_id, record.verifier))

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Merge: in one round trip on PostgreSQL without deletes, else in one transaction."""
        return await self._do(self._merge(sql.UPDATE, self._own(record_id, verifier), change))

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return await self._one(sql.TOUCH, self._own(record_id, verifier, accessed=float(accessed_at)))

    async def delete(self, record_id: bytes) -> bool:
        return await self._one(sql.DELETE, self._at(record_id))

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        parameters = self._own(record_id, verifier, new_verifier=new_verifier, not_after=float(not_after))
        regenerate = self._merge(sql.REGENERATE, parameters, change)
        return await self._do(regenerate, partial(self._found, record_id, new_verifier))

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return await self._one(sql.LOCK, self._own(record_id, verifier, owner=owner, seconds=float(seconds)))

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return await self._one(sql.UNLOCK, {**self._at(record_id), "owner": owner})

    async def purge(self) -> int:
        """Remove what has expired, in short transactions. Several processes may do it at once.

        What one of them works on the others pass over. If it is broken off there, the next purge removes it.
        """
        now, total, removed = float(self.clock()), 0, PURGE_BATCH
        while removed == PURGE_BATCH:
            removed = await self._do(partial(self._database.purge, now=now, limit=PURGE_BATCH))
            total += removed
        return total

    # --- parameters ---

    def _at(self, record_id: bytes) -> dict[str, Any]:
        return {"id": record_id, "now": float(self.clock())}

    def _own(self, record_id: bytes, verifier: bytes, **more: Any) -> dict[str, Any]:
        return {"id": record_id, "now": float(self.clock()), "verifier": verifier, **more}

    def _one(self, kind: str, parameters: dict[str, Any]) -> Coroutine[Any, Any, bool]:
        return self._do(partial(self._database.one, kind=kind, parameters=parameters))

    def _merge(self, kind: str, parameters: dict[str, Any], change: Change) -> Callable[[Connection], bool]:
        idle = None if change.idle_timeout is None else float(change.idle_timeout)
        parameters.update(accessed=float(change.accessed_at), idle=idle, lease=change.lease)
        deletes = [sql.to_key(name, b"")[0] for name in change.deletes]
        sets = dict(sql.to_key(name, value) for name, value in change.sets.items() if name not in change.deletes)
        return partial(self._database.merge, kind=kind, parameters=parameters, sets=sets, deletes=deletes)

    # --- connections ---

    async def _do(self, work: Callable[[Connection], T], found: Callable[[Connection], T] | None = None) -> T:
        """Run work in a task of its own, which goes on for a moment when nobody waits for it any more.

        To break off an exchange costs the connection, and takes a driver up to 5 s if the server hangs.
        """
        loop, connections = asyncio.get_running_loop(), self._engines.here()
        task, began = connections.started(self._attempts(connections, work, found)), loop.time()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            timer = loop.call_later(ABANDON_SECONDS, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())
            if loop.time() - began > SILENT_SECONDS:
                connections.started(connections.drop_idle())
            raise

    async def _attempts(
        self, connections: Connections, work: Callable[[Connection], T], found: Callable[[Connection], T] | None = None
    ) -> T:
        """Run work on a connection, again if that was lost or if the work collided with other work.

        :param found: asked after a repetition that came to nothing, if the attempt before had succeeded unheard.
        """
        lost = collisions = 0
        while True:
            failure: BaseException | None = None
            try:
                async with connections.line:
                    outcome: T = await greenlet_spawn(_on_connection, connections.engine, work)
                    if not outcome and lost and found is not None:
                        outcome = await greenlet_spawn(_on_connection, connections.engine, found)
                return outcome
            except StoreError:
                raise
            except DBAPIError as error:
                if error.connection_invalidated and not lost:
                    lost = 1
                elif error_code(error.orig) in COLLISIONS and collisions < TRIES:
                    collisions += 1
                else:
                    failure = error.orig or error
            except Exception as error:
                failure = error
            if failure is not None:  # out of the handler: SQLAlchemy's own error may show parameters
                raise StoreError(error_text(failure)) from failure

    def _found(self, record_id: bytes, verifier: bytes, connection: Connection) -> bool:
        rows = self._database.load(connection, self._at(record_id))
        return bool(rows) and rows[0][0] == verifier


def _on_connection(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    with engine.sync_engine.connect() as connection:
        return work(connection)
