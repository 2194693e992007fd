"""Conversations in the database of a ``SQLStore``.

Rules of residence: the verbs of ``LogStore`` as coroutines; what is done on a connection is in the modules beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..logs import (
    Append,
    Appended,
    Batch,
    Begin,
    Begun,
    Created,
    End,
    Ended,
    Entry,
    Listed,
    Log,
    Look,
    Outcome,
    Place,
    Position,
    Run,
)
from .engine import Engines
from .logs_tables import LogTables
from .logs_work import Histories
from .runs_work import Runs
from .traffic import Traffic

PURGE_BATCH = 500  # conversations of one step


class SQLLogs:
    """The conversations of one ``SQLStore``, as its attribute ``logs``. ``ddl`` has the statements of their tables."""

    min_gap = 0.1  # seconds between two writes of a run's frames: a statement for all runs each

    def __init__(self, engines: Engines[Traffic], tables: LogTables, clock: Callable[[], float]) -> None:
        self._engines = engines
        self._tables = tables
        self._clock = clock
        self._histories = Histories(tables)
        self._runs = Runs(self._histories)
        self.ddl = tables.ddl

    async def create(self, place: Place, log: bytes, owner: bytes, about: Any, keep: float | None = None) -> Created:
        work: Any = partial(self._histories.create, place=place, log=log, owner=owner, about=about, keep=_seconds(keep))
        created: Created = await self._do(work)
        return created

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        """Append, each in a transaction of its own."""
        outcomes: list[Appended] = []
        for log, entry, keep in appends:
            work = partial(self._histories.append, log=log, entry=entry, keep=_seconds(keep))
            outcomes.append(await self._do(work))
        return outcomes

    async def entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, limit: int, *, newest: bool
    ) -> list[Entry] | None:
        def work(connection: Any, now: float) -> list[Entry] | None:
            return self._histories.entries(connection, log, after, before, count, limit, newest=newest, now=now)

        found: list[Entry] | None = await self._do(work)
        return found

    async def find(self, log: Log, key: bytes | None, run: bytes | None) -> Entry | None:
        found: Entry | None = await self._do(partial(self._histories.find, log=log, key=key, run=run))
        return found

    async def look(self, places: Sequence[Place], count: int, limit: int) -> Look | None:
        found: Look | None = await self._do(partial(self._histories.look, places=places, count=count, limit=limit))
        return found

    async def cut(self, log: Log, after: Position | None, before: Position | None) -> Appended:
        cut: Appended = await self._do(partial(self._histories.cut, log=log, after=after, before=before))
        return cut

    async def describe(self, log: Log, about: Any, version: int) -> Outcome:
        outcome: Outcome = await self._do(partial(self._histories.describe, log=log, about=about, version=version))
        return outcome

    async def delete(self, place: Place, log: bytes | None = None, top: Position | None = None) -> bool:
        deleted: bool = await self._do(partial(self._histories.delete, place=place, log=log, top=top))
        return deleted

    async def owned(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        """Read, in one round trip."""
        found: list[Listed] = await self._do(partial(self._histories.owned, owner=owner, count=count, before=before))
        return found

    async def page(self, after: bytes | None, count: int) -> tuple[list[Listed], bytes | None]:
        """Read, in one round trip."""
        found: tuple[list[Listed], bytes | None]
        found = await self._do(partial(self._histories.page, after=after, count=count))
        return found

    async def begin(self, begin: Begin) -> Begun:
        begun: Begun = await self._do(partial(self._runs.begin, begin=begin))
        return begun

    async def write(self, batches: Sequence[Batch]) -> list[Outcome]:
        """Write the frames of all runs in one transaction."""
        outcomes: list[Outcome] = await self._do(partial(self._runs.write, batches=batches)) if batches else []
        return outcomes

    async def read(self, after: Mapping[Run, Position], limit: int) -> Mapping[Run, list[tuple[Position, Any]] | None]:
        found: dict[Run, list[tuple[Position, Any]] | None] = {}
        if after:
            found = await self._do(partial(self._runs.read, after=dict(after), limit=limit))
        return found

    async def renew(self, runs: Sequence[Run], seconds: float) -> set[Run]:
        ended: set[Run] = await self._do(partial(self._runs.renew, runs=runs, seconds=seconds)) if runs else set()
        return ended

    async def end(self, end: End) -> Ended:
        ended: Ended = await self._do(partial(self._runs.end, end=end))
        return ended

    async def purge(self) -> int:
        """Remove what is over, in short steps."""
        total, is_more = 0, True
        while is_more:
            removed, is_more = await self._do(partial(self._histories.purge, limit=PURGE_BATCH))
            total += removed
        return total

    async def purge_if_there(self) -> None:
        """Do it where there are tables of conversations: another process may have made them."""
        if await self._engines.here().do(self._tables.are_there):
            await self.purge()

    async def _do(self, work: Callable[..., Any]) -> Any:
        here = self._engines.here()
        if not self._tables.ready:
            await here.do(self._tables.prepare)
        return await here.do(partial(work, now=float(self._clock())))


def _seconds(keep: float | None) -> float | None:
    return None if keep is None else float(keep)
