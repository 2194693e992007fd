"""The two threads of a ``SQLiteStore``: one that writes in groups, one that reads.

Rules of residence: connections, transactions and the way of results back to their event loops. No statement about
sessions: a job is a function of a connection and of its arguments. What a job does must be repeatable, for a group
that fails is rolled back and its jobs are run one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from ...errors import StoreError
from .file import BUSY_SECONDS

GROUP = 256  # jobs of one transaction at most
GROUP_SECONDS = 0.02  # a transaction is ended after so long, so that other processes get their turn
BEGIN_PAUSE = 0.0005  # between two attempts to begin: SQLite's own backoff sleeps up to 100 ms, some 5 groups

T = TypeVar("T")


class Job(NamedTuple):
    """A piece of work and who waits for it. ``durable``: not to be acknowledged before it is on the disk."""

    work: Callable[..., Any]  # takes the connection, and the arguments after it
    arguments: tuple[Any, ...]
    durable: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


Outcome = tuple[Job, Any, Exception | None]


class _Worker:
    """A thread that owns one connection and runs jobs in groups, in the order in which they came."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._gate = threading.Lock()  # no job comes after the end mark
        self._stopped = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[..., T], *arguments: Any, durable: bool = False) -> asyncio.Future[T]:
        """Hand a job over. Its outcome arrives in the running loop. Cancelled before its turn, it is not run."""
        loop = asyncio.get_running_loop()
        job = Job(work, arguments, durable, loop, loop.create_future())
        with self._gate:
            if self._stopped:
                raise StoreError("the store was closed meanwhile")
            self._queue.put(job)
        return job.future

    def stop(self) -> None:
        """Let the thread end after the jobs that it has. Returns at once. May be called again."""
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self._queue.put(None)

    def join(self) -> None:
        """Wait, blocking, for the end of the thread."""
        self.stop()
        self._thread.join()

    def _main(self) -> None:
        while True:
            jobs, ended = self._take()
            while jobs:
                done = self._run(jobs)
                _deliver(done)
                jobs = jobs[len(done) :]
            if ended:
                self._disconnect()
                return

    def _take(self) -> tuple[list[Job], bool]:
        """Wait for a job and take what else is there. Return whether the end mark was among it."""
        jobs: list[Job] = []
        try:
            entry = self._queue.get()
            while entry is not None:
                if not entry.future.cancelled():
                    jobs.append(entry)
                if len(jobs) >= GROUP:
                    return jobs, False
                entry = self._queue.get_nowait()
        except Empty:
            return jobs, False
        return jobs, True

    def _run(self, jobs: list[Job]) -> list[Outcome]:
        """Run jobs, at least the first one, and return the outcomes of those that were run."""
        try:
            connection = self._begun(jobs)
        except Exception as error:  # whatever it is, somebody waits for it
            self._disconnect()
            return [(job, None, _failure(error)) for job in jobs]
        try:
            return self._transaction(connection, jobs)
        except Exception as error:
            self._abandon(connection)
            if len(jobs) == 1:
                return [(jobs[0], None, _failure(error))]
        return [outcome for job in jobs for outcome in self._run([job])]  # one of them spoilt it for all

    def _begun(self, jobs: list[Job]) -> sqlite3.Connection:
        raise NotImplementedError

    def _transaction(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[Outcome]:
        done: list[Outcome] = []
        end = time.monotonic() + GROUP_SECONDS
        for job in jobs:
            done.append((job, job.work(connection, *job.arguments), None))
            if time.monotonic() > end:
                break
        connection.execute("COMMIT")
        return done

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _abandon(self, connection: sqlite3.Connection) -> None:
        """Undo, and begin anew with a fresh connection: after an I/O error nothing of this one is worth trusting."""
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


class Reader(_Worker):
    """Runs jobs that only read, each group on one snapshot, which is as new as the newest job."""

    def _begun(self, jobs: list[Job]) -> sqlite3.Connection:
        connection = self._connected()
        connection.execute("BEGIN")
        return connection


class Writer(_Worker):
    """Runs jobs that write, each group in one transaction. What is delivered has been committed."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], always_durable: bool) -> None:
        self._always_durable = always_durable
        self._synchronous = ""
        super().__init__(name, connect)

    def _begun(self, jobs: list[Job]) -> sqlite3.Connection:
        connection = self._connected()
        self._synchronise(connection, self._always_durable or any(job.durable for job in jobs))
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return connection
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() > end:
                    raise
            time.sleep(BEGIN_PAUSE)

    def _synchronise(self, connection: sqlite3.Connection, durable: bool) -> None:
        """In WAL mode, FULL waits for the disk at each commit (and so for all commits before it), NORMAL does not."""
        synchronous = "FULL" if durable else "NORMAL"
        if synchronous != self._synchronous:
            connection.execute(f"PRAGMA synchronous={synchronous}")
            self._synchronous = synchronous

    def _disconnect(self) -> None:
        self._synchronous = ""
        super()._disconnect()


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Return whether another connection holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _failure(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    text = f": {error}" if isinstance(error, sqlite3.Error | OSError) else ""  # these quote no bound value
    failure = StoreError(f"SQLite failed: {type(error).__name__}{text}")
    failure.__cause__ = error
    return failure


def _deliver(outcomes: list[Outcome]) -> None:
    """Take outcomes to their loops: one wake-up for each loop."""
    for loop in {outcome[0].loop for outcome in outcomes}:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, [outcome for outcome in outcomes if outcome[0].loop is loop])


def _settle(outcomes: list[Outcome]) -> None:
    for job, result, error in outcomes:
        if job.future.done():  # cancelled: nobody asks
            continue
        if error is None:
            job.future.set_result(result)
        else:
            job.future.set_exception(error)
