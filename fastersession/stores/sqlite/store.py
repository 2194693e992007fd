"""Sessions in one SQLite file: durable, for several worker processes of one machine, without any dependency.

Rules of residence: the store contract as jobs for two threads, and what a user of the store sees. Statements, threads
and the file's tables are in the modules beside. Every verb is one job, so it is atomic.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from ...errors import ConfigError
from ..base import Change, Record
from ..rows import name_to_bytes
from . import jobs
from .file import connect_reader, connect_writer
from .threads import Reader, Writer

__all__ = ["SQLiteStore"]

DURABILITIES = ("process", "power")
PURGE_BATCH = 500  # sessions of one transaction of purge(): a few milliseconds


class SQLiteStore:
    """Keeps sessions in one SQLite file (WAL mode) that several worker processes of one machine may share.

    Two threads of this process work on the file, one that writes and one that reads: an event loop never waits for
    the disk, and reading never waits for writing. Concurrent writes share a transaction.

    A verb that has returned is *acknowledged*: every process sees it, and it survives ``kill -9``. With
    ``durability="process"`` a power cut or a crash of the operating system may undo the saves of the last moments;
    ``delete`` and ``regenerate`` wait for the disk all the same, so a logout does not come undone, nor does what was
    saved before it. With ``durability="power"`` every write waits for the disk.

    A cancelled call has happened as a whole or not at all. The file is opened by the first use in each process, so a
    store may be made before a server forks its workers; a child forked later opens it anew. It must be on a local
    disk, not on a network share. Expired sessions are removed a few with each new one, and by ``purge``; the file does
    not shrink, its free pages are used again.

    :param path: the file; it is made where missing, readable by its owner only. Beside it SQLite keeps ``-wal`` and
        ``-shm`` files, which belong to it.
    :param durability: what an acknowledged save survives: ``"process"`` or ``"power"``.
    :param clock: returns the time in seconds since the epoch; all processes must agree on it.
    :raises ConfigError: an argument cannot work.

    Every verb raises ``StoreError`` if the file cannot be used (missing folder, no permission, full disk, not a file
    of ours, locked by another process for 1.5 s). The next call tries again with a new connection.
    """

    live = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: str = "process",
        clock: Callable[[], float] = time.time,
    ) -> None:
        faults = list(_faults(path, durability, clock))
        if faults:
            raise ConfigError("; ".join(faults))
        self.clock = clock
        self._path = os.path.abspath(path)
        self._always_durable = durability == "power"
        self._threads: _Threads | None = None

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r}>"

    async def open(self) -> None:
        """Open the file and make its tables where they are missing.

        :raises StoreError: it cannot be used, or holds something else, or tables of another version.
        """
        threads = self._started()
        await threads.writer.submit(jobs.nothing)
        await threads.reader.submit(jobs.nothing)

    async def close(self) -> None:
        """Finish the writes that were handed over, and close the file. A later call opens it again."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.join)

    async def load(self, record_id: bytes) -> Record | None:
        job = partial(jobs.load, parameters={"id": record_id, "now": self.clock()})
        record: Record | None = await self._started().reader.submit(job)
        return record

    async def create(self, record_id: bytes, record: Record) -> bool:
        parameters = {
            **self._own(record_id, record.verifier), "created": record.created_at, "idle": record.idle_timeout,
            "not_after": record.not_after, "user": None if record.user is None else name_to_bytes(record.user),
        }  # fmt: skip
        sets = {name_to_bytes(name): value for name, value in record.attributes.items()}
        return await self._write(jobs.create, parameters, sets)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        return await self._merge(jobs.UPDATE, self._own(record_id, verifier), change)

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return await self._write(jobs.one, jobs.TOUCH, {**self._own(record_id, verifier), "accessed": accessed_at})

    async def delete(self, record_id: bytes) -> bool:
        """Remove, and wait for the disk."""
        return await self._write(jobs.delete, {"id": record_id, "now": self.clock()}, durable=True)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """Replace and merge, and wait for the disk."""
        parameters = {**self._own(record_id, verifier), "new_verifier": new_verifier, "not_after": not_after}
        return await self._merge(jobs.REGENERATE, parameters, change, durable=True)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        parameters = {**self._own(record_id, verifier), "owner": owner, "seconds": seconds}
        return await self._write(jobs.one, jobs.LOCK, parameters)

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return await self._write(jobs.one, jobs.UNLOCK, {"id": record_id, "now": self.clock(), "owner": owner})

    async def purge(self) -> int:
        """Remove what has expired, in short transactions, between which others get their turn."""
        now, total, removed = self.clock(), 0, PURGE_BATCH
        while removed == PURGE_BATCH:
            removed = await self._started().writer.submit(partial(jobs.purge, now=now, limit=PURGE_BATCH))
            total += removed
        return total

    def _own(self, record_id: bytes, verifier: bytes) -> dict[str, Any]:
        return {"id": record_id, "verifier": verifier, "now": self.clock()}

    def _merge(
        self, statement: str, parameters: dict[str, Any], change: Change, *, durable: bool = False
    ) -> Awaitable[bool]:
        parameters.update(accessed=change.accessed_at, idle=change.idle_timeout, lease=change.lease)
        sets = {name_to_bytes(name): value for name, value in change.sets.items()}
        deletes = [name_to_bytes(name) for name in change.deletes]
        return self._write(jobs.merge, statement, parameters, sets, deletes, durable=durable)

    def _write(self, job: Callable[..., Any], *arguments: Any, durable: bool = False) -> Awaitable[bool]:
        return self._started().writer.submit(lambda connection: job(connection, *arguments), durable=durable)

    def _started(self) -> _Threads:
        threads = self._threads
        if threads is None or threads.pid != os.getpid():
            if threads is not None:
                _PARENTS.append(threads)
            threads = self._threads = _Threads(self._path, self._always_durable)
            weakref.finalize(self, threads.stop)
            _RUNNING.add(threads)
        return threads


class _Threads:
    """The two threads of one process. Without a reference to the store, so that a forgotten store ends them."""

    def __init__(self, path: str, always_durable: bool) -> None:
        self.pid = os.getpid()
        self.writer = Writer("fastersession-writer", partial(connect_writer, path), always_durable)
        self.reader = Reader("fastersession-reader", partial(connect_reader, path))

    def stop(self) -> None:
        """Let both threads end after what they have been given. Returns at once."""
        if self.pid == os.getpid():
            self.reader.stop()
            self.writer.stop()

    def join(self) -> None:
        """Stop, and wait for the end. The writer ends last: it folds the WAL into the file."""
        self.stop()
        if self.pid == os.getpid():
            self.reader.join()
            self.writer.join()


_PARENTS: list[_Threads] = []  # of the process that forked this one: SQLite's must not be touched here, nor collected
_RUNNING: weakref.WeakSet[_Threads] = weakref.WeakSet()


@atexit.register
def _join_all() -> None:
    """Let what was handed over be written before the interpreter ends: the threads are daemons."""
    for threads in list(_RUNNING):
        threads.join()


def _faults(path: object, durability: object, clock: object) -> Iterable[str]:
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        yield "path: must be a str or a path"
    elif os.fspath(path) in ("", ":memory:") or "\0" in os.fspath(path):
        yield "path: must name a file; for sessions in memory use MemoryStore"
    if durability not in DURABILITIES:
        yield f"durability: must be one of {', '.join(map(repr, DURABILITIES))}"
    if not callable(clock):
        yield "clock: must be a function that returns seconds, like time.time"
