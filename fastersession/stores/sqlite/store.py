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
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ..base import Change, Record
from ..rows import name_to_bytes
from ..users import Ended, Login, LoginOutcome
from . import ends, jobs, users
from .file import connect_reader, connect_writer
from .threads import Reader, Writer

if TYPE_CHECKING:
    from .logs import SQLiteLogs

DURABILITIES = ("process", "power")
PURGE_BATCH = 500  # sessions of one transaction of purge(): a few milliseconds


class SQLiteStore:
    """Keeps sessions in one SQLite file (WAL mode) that several worker processes of one machine may share.

    Two threads of this process work on the file, one that writes and one that reads: an event loop never waits for
    the disk, and reading never waits for writing. What is asked in one turn of an event loop, or while a thread is at
    work, is done together: writes in one transaction, loads by one reading. Each has its own outcome, and nobody waits
    for company. A transaction is ended after 20 ms; what is larger than 64 KB is read alone, after the small.

    A verb that has returned is *acknowledged*: every process sees it, and it survives ``kill -9``. With
    ``durability="process"`` a power cut or a crash of the operating system may undo the saves of the last moments;
    ``delete``, ``regenerate``, ``login``, ``retire`` and ``revoke`` wait for the disk all the same, so a logout or a
    revocation does not come undone, nor does what was saved before it. With ``durability="power"`` every write waits.

    It is a ``UserStore``. A login, its mark and its limit are one transaction, so nothing is ever bound and not
    confirmed: one that failed has not happened. A record that is created with a tag is its user's from then on. Ended
    records are kept in the file, past every purge, until they are settled or their retention is over.

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
        self, path: str | os.PathLike[str], *, durability: str = "process", clock: Callable[[], float] = time.time
    ) -> None:
        faults = list(_faults(path, durability, clock))
        if faults:
            raise ConfigError("; ".join(faults))
        self.clock = clock
        self._path = os.path.abspath(path)
        self._threads = _ByProcess(self._path, durability == "power")
        self._logs: SQLiteLogs | None = None

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r}>"

    async def open(self) -> None:
        """Open the file and make its tables where they are missing.

        :raises StoreError: it cannot be used, or holds something else, or tables of another version.
        """
        threads = self._threads[os.getpid()]
        await threads.writer.submit(jobs.nothing)
        await threads.reader.submit(jobs.nothing)

    async def close(self) -> None:
        """Finish the writes that were handed over, and close the file. A later call opens it again."""
        threads = self._threads.pop(os.getpid(), None)
        if threads is not None:
            await asyncio.to_thread(threads.join)

    @property
    def logs(self) -> SQLiteLogs:
        """The conversations; see ``LogStore``. Their tables are made when they are first used."""
        if self._logs is None:
            from .logs import SQLiteLogs

            self._logs = SQLiteLogs(self._threads, self.clock)
        return self._logs

    async def load(self, record_id: bytes) -> Record | None:
        parameters = {"id": record_id, "now": self.clock()}
        return await self._threads[os.getpid()].reader.submit(jobs.load, parameters)

    async def create(self, record_id: bytes, record: Record) -> bool:
        parameters = {
            "id": record_id, "now": self.clock(), "verifier": record.verifier, "created": record.created_at,
            "idle": record.idle_timeout, "not_after": record.not_after,
            "user": record.extra.tag, "retention": record.extra.retention,
        }  # fmt: skip
        return await self._threads[os.getpid()].writer.submit(jobs.create, parameters, dict(record.attributes))

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        parameters = {
            "id": record_id, "now": self.clock(), "verifier": verifier,
            "accessed": change.accessed_at, "idle": change.idle_timeout, "lease": change.lease,
        }  # fmt: skip
        statement = jobs.UPDATE
        if change.renewal is not None:
            statement, parameters["not_after"] = users.RENEW, change.renewal.not_after
        job = jobs.merge, statement, parameters, dict(change.sets), tuple(change.deletes)
        return await self._threads[os.getpid()].writer.submit(*job)

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        parameters = {"id": record_id, "now": self.clock(), "verifier": verifier, "accessed": accessed_at}
        return await self._threads[os.getpid()].writer.submit(jobs.one, jobs.TOUCH, parameters)

    async def delete(self, record_id: bytes, reason: str = "invalidated") -> bool:
        """Remove, and wait for the disk."""
        parameters = {"id": record_id, "now": self.clock(), "reason": reason}
        return await self._threads[os.getpid()].writer.submit(ends.delete, parameters, durable=True)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """Replace and merge, and wait for the disk."""
        parameters = {
            "id": record_id, "now": self.clock(), "verifier": verifier, "new_verifier": new_verifier,
            "not_after": not_after,
            "accessed": change.accessed_at, "idle": change.idle_timeout, "lease": change.lease,
        }  # fmt: skip
        job = jobs.merge, jobs.REGENERATE, parameters, dict(change.sets), tuple(change.deletes)
        return await self._threads[os.getpid()].writer.submit(*job, durable=True)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        parameters = {"id": record_id, "now": self.clock(), "verifier": verifier, "owner": owner, "seconds": seconds}
        return await self._threads[os.getpid()].writer.submit(jobs.one, jobs.LOCK, parameters)

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        parameters = {"id": record_id, "now": self.clock(), "owner": owner}
        return await self._threads[os.getpid()].writer.submit(jobs.one, jobs.UNLOCK, parameters)

    async def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        """Decide and write in one transaction, and wait for the disk."""
        record = login.record
        parameters = {
            "id": record_id, "now": self.clock(), "old": verifier, "verifier": record.verifier,
            "created": record.created_at, "accessed": record.accessed_at, "idle": record.idle_timeout,
            "not_after": record.not_after, "user": record.extra.tag, "retention": record.extra.retention,
            "lease": login.lease, "is_same_user": login.keep is None,
        }  # fmt: skip
        job = users.login, parameters, login, dict(record.attributes)
        return await self._threads[os.getpid()].writer.submit(*job, durable=True)

    async def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool:
        """Replace, and wait for the disk."""
        parameters = {"id": record_id, "now": self.clock(), "verifier": verifier, "until": until}
        return await self._threads[os.getpid()].writer.submit(jobs.one, users.RETIRE, parameters, durable=True)

    async def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        return await self._threads[os.getpid()].reader.submit(users.find, tuple(tags), self.clock())

    async def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]:
        """End all in one transaction, and wait for the disk."""
        job = users.revoke, tuple(tags), keep, at, self.clock()
        return await self._threads[os.getpid()].writer.submit(*job, durable=True)

    async def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        return await self._threads[os.getpid()].reader.submit(ends.ended, tuple(record_ids), self.clock())

    async def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        parameters = {"id": record_id, "now": self.clock(), "verifier": verifier, "prefix": name_to_bytes(prefix)}
        return await self._threads[os.getpid()].writer.submit(users.take, parameters)

    async def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        return await self._threads[os.getpid()].reader.submit(users.page, after or b"", self.clock(), count)

    async def due(self, first: bytes | None = None) -> list[Ended]:
        """Claim, if there is anything to claim; else only read."""
        threads, now = self._threads[os.getpid()], self.clock()
        if not await threads.reader.submit(ends.is_any_due, now):
            return []
        return await threads.writer.submit(ends.due, now)

    async def settle(self, record_id: bytes) -> None:
        await self._threads[os.getpid()].writer.submit(jobs.one, ends.SETTLE, {"id": record_id})

    async def purge(self) -> int:
        """Remove what has ended and is not kept, in short transactions, between which others get their turn."""
        now, total, is_more = self.clock(), 0, True
        while is_more:
            removed, is_more = await self._threads[os.getpid()].writer.submit(ends.clear, now, PURGE_BATCH)
            total += removed
        while await self._threads[os.getpid()].writer.submit(users.forget, now, PURGE_BATCH) == PURGE_BATCH:
            pass
        await self.logs.purge_if_there()
        return total


class _Threads:
    """The two threads of one process. Without a reference to the store, so that a forgotten store ends them."""

    def __init__(self, path: str, always_durable: bool) -> None:
        self.pid = os.getpid()
        self.writer = Writer("fastersession-writer", partial(connect_writer, path), jobs.purge_aside, always_durable)
        self.reader = Reader("fastersession-reader", partial(connect_reader, path), {jobs.load: jobs.load_together})

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


class _ByProcess(dict[int, _Threads]):
    """The threads of one store in this process, by its id. Looked up for the first time in a process, they start."""

    def __init__(self, path: str, always_durable: bool) -> None:
        self._path, self._always_durable = path, always_durable

    def __missing__(self, pid: int) -> _Threads:
        _PARENTS.extend(self.values())
        self.clear()
        threads = self[pid] = _Threads(self._path, self._always_durable)
        weakref.finalize(self, threads.stop)
        _RUNNING.add(threads)
        return threads


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
