"""Conversations in the file of a ``SQLiteStore``.

Rules of residence: the verbs of ``LogStore`` as jobs for the store's two threads. Every verb is one job, so it is
atomic. What the jobs do is in the modules beside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
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
from . import logs_jobs, logs_rows, runs_jobs

PURGE_BATCH = 500  # conversations of one transaction


class SQLiteLogs:
    """The conversations of one ``SQLiteStore``, as its attribute ``logs``.

    :param threads: the store's, by process.
    """

    min_gap = 0.03  # seconds between two writes of a run's frames

    def __init__(self, threads: Any, clock: Callable[[], float]) -> None:
        self._threads = threads
        self._clock = clock
        self._made_in = 0  # the process that has seen the tables

    async def create(self, place: Place, log: bytes, owner: bytes, about: Any, keep: float | None = None) -> Created:
        return await self._write(logs_jobs.create, place, log, owner, about, keep)  # type: ignore[no-any-return]

    async def append(self, appends: Sequence[Append]) -> list[Appended]:
        return await self._write(logs_jobs.append, tuple(appends))  # type: ignore[no-any-return]

    async def entries(
        self, log: Log, after: Position | None, before: Position | None, count: int, limit: int, *, newest: bool
    ) -> list[Entry] | None:
        bounds = after, before, count, limit, newest
        return await self._read(logs_jobs.entries, log, self._clock(), *bounds)  # type: ignore[no-any-return]

    async def find(self, log: Log, key: bytes | None, run: bytes | None) -> Entry | None:
        return await self._read(logs_jobs.find, log, key, run, self._clock())  # type: ignore[no-any-return]

    async def look(self, places: Sequence[Place], count: int, limit: int) -> Look | None:
        job = logs_jobs.look, tuple(places), count, limit, self._clock()
        return await self._read(*job)  # type: ignore[no-any-return]

    async def cut(self, log: Log, after: Position | None, before: Position | None) -> Appended:
        return await self._write(logs_jobs.cut, log, after, before)  # type: ignore[no-any-return]

    async def describe(self, log: Log, about: Any, version: int) -> Outcome:
        return await self._write(logs_jobs.describe, log, about, version)  # type: ignore[no-any-return]

    async def delete(self, place: Place, log: bytes | None = None, top: Position | None = None) -> bool:
        """Remove, and wait for the disk."""
        return await self._write(logs_jobs.delete, place, log, top, durable=True)  # type: ignore[no-any-return]

    async def owned(self, owner: bytes, count: int, before: tuple[float, bytes] | None) -> list[Listed]:
        return await self._read(logs_jobs.owned, owner, count, before, self._clock())  # type: ignore[no-any-return]

    async def page(self, after: bytes | None, count: int) -> tuple[list[Listed], bytes | None]:
        return await self._read(logs_jobs.page, after, count, self._clock())  # type: ignore[no-any-return]

    async def begin(self, begin: Begin) -> Begun:
        return await self._write(runs_jobs.begin, begin)  # type: ignore[no-any-return]

    async def write(self, batches: Sequence[Batch]) -> list[Outcome]:
        return await self._write(runs_jobs.write, tuple(batches))  # type: ignore[no-any-return]

    async def read(self, after: Mapping[Run, Position], limit: int) -> Mapping[Run, list[tuple[Position, Any]] | None]:
        return await self._read(runs_jobs.read, dict(after), limit, self._clock())  # type: ignore[no-any-return]

    async def renew(self, runs: Sequence[Run], seconds: float) -> set[Run]:
        return await self._write(runs_jobs.renew, tuple(runs), seconds)  # type: ignore[no-any-return]

    async def end(self, end: End) -> Ended:
        return await self._write(runs_jobs.end, end)  # type: ignore[no-any-return]

    async def purge(self) -> int:
        """Remove what is over, in short transactions, between which others get their turn."""
        total, is_more = 0, True
        while is_more:
            removed, is_more = await self._write(logs_jobs.purge, time.time(), PURGE_BATCH)
            total += removed
        return total

    async def purge_if_there(self) -> None:
        """Do it where there are tables of conversations: another process may have made them."""
        if await self._threads[os.getpid()].reader.submit(logs_rows.are_there):
            await self.purge()

    # --- how they work ---

    async def _write(self, work: Any, *arguments: Any, durable: bool = False) -> Any:
        await self._tables()
        return await self._threads[os.getpid()].writer.submit(work, *arguments, self._clock(), durable=durable)

    async def _read(self, work: Any, *arguments: Any) -> Any:
        await self._tables()
        return await self._threads[os.getpid()].reader.submit(work, *arguments)

    async def _tables(self) -> None:
        """Make the tables, once in each process; by the next call again if it fails."""
        pid = os.getpid()
        if self._made_in != pid:
            await self._threads[pid].writer.submit(logs_rows.make)
            self._made_in = pid
