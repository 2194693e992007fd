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
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from ...errors import StoreError
from .file import BUSY_SECONDS

GROUP = 256  # jobs of one transaction at most
GROUP_SECONDS = 0.02  # a transaction is ended after so long, so that other processes get their turn
TOGETHER = 64  # reads of one statement at most: half a millisecond; a statement is prepared for each power of two
BEGIN_PAUSE = 0.0005  # between two attempts to begin: SQLite's own backoff sleeps up to 100 ms, some 5 groups
TURN_SECONDS = 2 * BEGIN_PAUSE  # for others after a long transaction: who tries again meets no moment that is shorter
LATER = object()  # the result of a read that must be done alone
_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call

T = TypeVar("T")


class Job(NamedTuple):
    """A piece of work and who waits for it. ``durable``: not to be acknowledged before it is on the disk."""

    work: Callable[..., Any]  # takes the connection, and the arguments after it
    arguments: tuple[Any, ...]
    durable: bool
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


Outcome = tuple[Job, Any, Exception | None]
Connect = Callable[[], sqlite3.Connection]
Aside = Callable[[sqlite3.Connection, Sequence[Job]], None]  # done once at the end of a group
Together = Callable[[sqlite3.Connection, Sequence[tuple[Any, ...]]], Sequence[Any]]


class _Worker:
    """A thread that owns one connection and runs jobs in groups, in the order in which they came.

    Nobody waits for company: what is asked while a group is at work is the next one.
    """

    def __init__(self, name: str, connect: Connect) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._asked: list[Job] = []  # in this turn of the event loops
        self._calling: set[asyncio.AbstractEventLoop] = set()  # that are about to hand them over
        self._queue: SimpleQueue[list[Job] | None] = SimpleQueue()
        self._gate = threading.Lock()  # of the three above: no job comes after the end mark
        self._stopped = False
        self._ended = False  # the end mark was taken
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Callable[..., T], *arguments: Any, durable: bool = False) -> asyncio.Future[T]:
        """Ask for a job. Its outcome arrives in the running loop. Cancelled before its turn, it is not run.

        It is handed over when the other callbacks of this turn of the loop have run: what they ask is one group. The
        thread could hardly begin before, for it needs the interpreter, which they have.
        """
        loop = asyncio.get_running_loop()
        job = _new_tuple(Job, (work, arguments, durable, loop, loop.create_future()))
        with self._gate:
            if self._stopped:
                raise StoreError("the store was closed meanwhile")
            self._asked.append(job)
            is_first = loop not in self._calling
            self._calling.add(loop)
        if is_first:
            loop.call_soon(self._hand_over)
        return job.future

    def _hand_over(self) -> None:
        """Give the thread all that was asked, by other loops too: the order stays, and no loop that ends matters."""
        nothing: list[Job] = []  # made here: inside, it could start a collection, which may stop this very worker
        with self._gate:
            asked, self._asked = self._asked, nothing
            self._calling.clear()
            if asked:
                self._queue.put(asked)

    def stop(self) -> None:
        """Let the thread end after the jobs that it was asked. Returns at once. May be called again."""
        self._hand_over()
        with self._gate:
            if not self._stopped:
                self._stopped = True
                self._queue.put(None)

    def join(self) -> None:
        """Wait, blocking, for the end of the thread."""
        self.stop()
        self._thread.join()

    def _main(self) -> None:
        left: list[Job] = []
        while left or not self._ended:
            new = self._take(wait=not left)
            left = self._round([job for job in left if not job.future.cancelled()], new)
        self._disconnect()

    def _take(self, wait: bool) -> list[Job]:
        """Take the jobs that are there, after waiting for one if asked to."""
        jobs: list[Job] = []
        with contextlib.suppress(Empty):
            while len(jobs) < GROUP:
                entry = self._queue.get(wait)
                if entry is None:
                    self._ended = True
                    break
                wait = False
                jobs += [job for job in entry if not job.future.cancelled()]
        return jobs

    def _round(self, left: list[Job], new: list[Job]) -> list[Job]:
        """Do jobs, those that are left over and new ones. Return what is left for the next round."""
        raise NotImplementedError

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
    """Runs jobs that only read, some kinds together. What one sees is as new as the moment when its reading began.

    What must be read alone, for it is large, is left over: one is read between two groups, so these hardly wait.

    :param together: the kinds of jobs that are read together, each with how. That may say ``LATER`` of some.
    """

    def __init__(self, name: str, connect: Connect, together: Mapping[Callable[..., Any], Together]) -> None:
        self._together = together
        super().__init__(name, connect)

    def _round(self, left: list[Job], new: list[Job]) -> list[Job]:
        alike: dict[Callable[..., Any], list[Job]] = {}
        for job in new:
            alike.setdefault(job.work, []).append(job)
        for work, jobs in alike.items():
            most = TOGETHER if work in self._together else 1
            for start in range(0, len(jobs), most):
                left += self._read(jobs[start : start + most])
        if left:
            self._read([left.pop(0)])
        return left

    def _read(self, jobs: list[Job]) -> list[Job]:
        """Read for these, and deliver. Return those that must be read alone, none if there is only one."""
        outcomes: list[Outcome] = []
        left: list[Job] = []
        connection = None
        try:
            connection = self._connected()
            for job, result in zip(jobs, self._results(connection, jobs), strict=True):
                if result is LATER:
                    left.append(job)
                else:
                    outcomes.append((job, result, None))
        except Exception as error:  # whatever it is, somebody waits for it
            if connection is not None:
                self._abandon(connection)
                if len(jobs) > 1:
                    return jobs  # one of them spoilt it for all
            outcomes = [(job, None, _failure(error)) for job in jobs]
        _deliver(outcomes)
        return left

    def _results(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> Sequence[Any]:
        work, arguments = jobs[0].work, jobs[0].arguments
        if len(jobs) == 1:
            return [work(connection, *arguments)]
        return self._together[work](connection, [job.arguments for job in jobs])


class Writer(_Worker):
    """Runs jobs that write, each group in one transaction. What is delivered has been committed."""

    def __init__(self, name: str, connect: Connect, aside: Aside, always_durable: bool) -> None:
        self._aside = aside
        self._always_durable = always_durable
        self._synchronous = ""
        self._turn = 0.0  # when the next transaction may begin
        super().__init__(name, connect)

    def _round(self, left: list[Job], new: list[Job]) -> list[Job]:
        jobs = left + new
        if not jobs:
            return []
        done = self._run(jobs[:GROUP])
        _deliver(done)
        return jobs[len(done) :]

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

    def _transaction(self, connection: sqlite3.Connection, jobs: Sequence[Job]) -> list[Outcome]:
        done: list[Outcome] = []
        end = time.monotonic() + GROUP_SECONDS
        for job in jobs:
            done.append((job, job.work(connection, *job.arguments), None))
            if time.monotonic() > end:
                break
        self._aside(connection, jobs[: len(done)])
        connection.execute("COMMIT")
        if (now := time.monotonic()) > end:  # a slow disk's commits, too
            self._turn = now + TURN_SECONDS
        return done

    def _begun(self, jobs: list[Job]) -> sqlite3.Connection:
        connection = self._connected()
        self._synchronise(connection, self._always_durable or any(job.durable for job in jobs))
        now = time.monotonic()
        if now < self._turn:
            time.sleep(self._turn - now)
        end = now + BUSY_SECONDS
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
