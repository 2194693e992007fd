"""Sessions in PostgreSQL, MariaDB or MySQL, through SQLAlchemy's asyncio engine.

Rules of residence: the store contract over an engine: connections, retries, errors, and what a user of the store sees.
Statements are in the modules beside, one for each database; the tables' check is in ``tables``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

try:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine
except ImportError as missing:
    raise ImportError('SQLStore needs SQLAlchemy: pip install "fastersession[sql]"') from missing

from ...errors import ConfigError, StoreError
from ..base import Change, Record
from . import statements as sql
from .claims import Claims
from .engine import Engines, opening_text
from .mysql import MySQL
from .postgresql import PostgreSQL
from .records import Write
from .tables import Tables
from .traffic import Traffic
from .users import Users
from .verbs import UserVerbs

if TYPE_CHECKING:
    from .logs import SQLLogs

DATABASES: dict[str, type[PostgreSQL] | type[MySQL]] = {"postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}
PURGE_BATCH = 500  # sessions of one transaction
OPEN_SECONDS = 9.0  # to connect and make the tables: below the 10 s of the middleware, which cannot say where


class SQLStore(UserVerbs):
    """Keeps sessions in three tables of a PostgreSQL, MariaDB or MySQL database, for any number of machines.

    A verb that has returned is *acknowledged*: it was committed, so it survives what the server's own setting of
    durability lets a commit survive (PostgreSQL ``synchronous_commit``, MariaDB and MySQL
    ``innodb_flush_log_at_trx_commit``: by default the crash of the server and a power cut). Asynchronous replication
    may lose the last commits at a failover, a logout among them.

    What is asked in the same moment leaves together: all loads are one statement, all creates another, and saves that
    only set go with touches. Nobody waits for company: the first goes at once, what comes meanwhile is the next batch,
    of 100 verbs and 1 MB at most. Each has its own outcome, and what is wrong with one of them fails that one alone.
    Values above 64 KB, saves that delete names, and all other verbs go alone. Writes of one record are done in the
    order in which this process asked for them, one at a time.

    A process uses up to 10 connections at a time, two of them for each kind of batch; what goes alone gets them in the
    order of its calls. A cancelled call happens as a whole or not at all; an exchange is broken off only if nobody
    waits for it and it takes much longer. What was under way on a connection that turned out to be lost is done once
    more on a new one, and what lost a deadlock is repeated; a repeated ``create`` or ``regenerate`` that finds its own
    outcome has succeeded. Expired sessions are removed by ``purge`` only.

    Each verb of users is one transaction, which goes alone. Those of one user come one after the other, and hold up no
    other user and no request. An error of ``login`` has ``NotConfirmed`` as its cause where the answer to the commit of
    a new record was lost. ``due`` gives sessions that were ended at once, and those that expired within a minute.

    SQLAlchemy connects and keeps the connections. Statements go to the driver's cursor underneath, so its ``echo`` and
    its events of execution do not show them.

    :param engine_or_url: an ``AsyncEngine`` with one of the drivers asyncpg, psycopg or asyncmy, which serves one event
        loop and stays the caller's to dispose of (``isolation_level="AUTOCOMMIT"`` spares a setting at each call; with
        MariaDB and MySQL, ``skip_autocommit_rollback=True`` a round trip too; ``hide_parameters=True`` keeps contents
        out of SQLAlchemy's errors), or a URL, for which the store makes an engine of its own, and another one in each
        further event loop. Its connections end with the loop, if nobody calls ``close``.
    :param table: name of the table of sessions, ``name`` or ``schema.name``, in lower case. That of users has ``_user``
        behind: a row for each tag whose user has logged in, or out everywhere, which ``purge`` removes.
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
        if attribute_table in (table, f"{table}_user"):
            faults.append("attribute_table: must differ from table, and from the table of users, its name with _user")
        if not callable(clock):
            faults.append("clock: must be a function that returns seconds, like time.time")
        if faults:
            raise ConfigError("; ".join(faults))
        self.clock = clock
        self._engines = Engines(engine_or_url, self._traffic)
        dialect = self._engine.dialect
        self._database = DATABASES[dialect.name](dialect.paramstyle, table, attribute_table)
        self._users, self._claims = Users(self._database), Claims(self._database)
        self._tables = Tables(table, attribute_table, self._database, create_tables)
        self._ready = False
        self._logs: SQLLogs | None = None

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
                    await self._engines.here().do(self._tables.prepare)
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

    @property
    def logs(self) -> SQLLogs:
        """The conversations; see ``LogStore``. Their tables are made when they are first used."""
        if self._logs is None:
            from .logs import SQLLogs
            from .logs_tables import LogTables

            tables = LogTables(self._database, self._tables.sessions, create=self._tables.create)
            self._logs = SQLLogs(self._engines, tables, self.clock)
        return self._logs

    async def load(self, record_id: bytes) -> Record | None:
        """Read, in one round trip."""
        return await self._engines.here().load(record_id)

    async def create(self, record_id: bytes, record: Record) -> bool:
        parameters = self._own(
            record_id, record.verifier, created=float(record.created_at), idle=float(record.idle_timeout),
            not_after=float(record.not_after), user=record.extra.tag, retention=record.extra.retention,
        )  # fmt: skip
        sets = dict([sql.to_key(name, value) for name, value in record.attributes.items()])
        work = partial(self._database.create, parameters=parameters, sets=sets)
        write = Write(work, partial(self._found, record_id, record.verifier), parameters, sets)
        return await self._engines.here().create(record_id, write)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Merge. What only sets is one round trip on PostgreSQL and two on MariaDB, else it is one transaction."""
        here, renewal = self._engines.here(), change.renewal
        if renewal is not None:
            parameters = self._own(record_id, verifier, not_after=float(renewal.not_after))
            return bool(await here.alone(record_id, self._merge(sql.RENEW, parameters, change)))
        write = self._merge(sql.UPDATE, self._own(record_id, verifier, step=1.0), change)
        done: bool = await (here.alone if change.deletes else here.merge)(record_id, write)
        return done

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        parameters = self._own(record_id, verifier, accessed=float(accessed_at), step=0.0)
        write = Write(partial(self._database.one, kind=sql.TOUCH, parameters=parameters), None, parameters)
        return await self._engines.here().merge(record_id, write)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        parameters = self._own(record_id, verifier, new_verifier=new_verifier, not_after=float(not_after))
        found = partial(self._found, record_id, new_verifier)
        write = self._merge(sql.REGENERATE, parameters, change)._replace(found=found)
        return bool(await self._engines.here().alone(record_id, write))

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return await self._one(sql.LOCK, self._own(record_id, verifier, owner=owner, seconds=float(seconds)))

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return await self._one(sql.UNLOCK, {**self._at(record_id), "owner": owner})

    async def purge(self) -> int:
        """Remove what has expired, in short transactions. Several processes may do it at once.

        What one of them works on the others pass over. If it is broken off there, the next purge removes it.
        """
        now = float(self.clock())
        await self._purge(self._users.purge, now)
        await self.logs.purge_if_there()
        return await self._purge(self._database.purge, now)

    async def _purge(self, purge: Callable[..., int], now: float) -> int:
        total, removed = 0, PURGE_BATCH
        while removed == PURGE_BATCH:
            removed = await self._engines.here().do(partial(purge, now=now, limit=PURGE_BATCH))
            total += removed
        return total

    # --- parameters ---

    async def _one(self, kind: str, parameters: dict[str, Any]) -> bool:
        write = Write(partial(self._database.one, kind=kind, parameters=parameters))
        return bool(await self._engines.here().alone(parameters["id"], write))

    def _merge(self, kind: str, parameters: dict[str, Any], change: Change) -> Write:
        idle = None if change.idle_timeout is None else float(change.idle_timeout)
        parameters.update(accessed=float(change.accessed_at), idle=idle, lease=change.lease)
        deletes = [sql.to_key(name, b"")[0] for name in change.deletes]
        sets = dict([sql.to_key(name, value) for name, value in change.sets.items() if name not in change.deletes])
        work = partial(self._database.merge, kind=kind, parameters=parameters, sets=sets, deletes=deletes)
        return Write(work, None, parameters, sets)

    # --- connections ---

    def _traffic(self, engine: AsyncEngine, own: bool) -> Traffic:
        return Traffic(engine, self._database, self.clock, own=own)
