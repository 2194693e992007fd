"""One turn at a time for the requests of a session: ``session.exclusive()``.

Rules of residence: the lease and the queue for it. Saves carry the lease's owner; the store refuses one that comes
after its end, so a process that stood still cannot overwrite the turn of another.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from .commit import Point
from .errors import ExclusiveTimeout, FasterSessionError, LeaseLost, StoreError
from .events import EventLog
from .session import Session, Status
from .tasks import Repeat, Repeats, shielded
from .values import Values

__all__ = ["Exclusive", "Queue"]

LEASE_SECONDS = 10.0  # how long a crash holds up the next turn; renewed at a third of it
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds between two tries to take a lease that another process holds
LOOK_EVERY = 8  # tries between two looks if the record is still there: a logout ends the wait in a second
IN_A_ROW = 4  # turns that one process takes before it leaves the time of two tries to the others, which only poll


class Manager(Protocol):
    """What a turn needs from the session manager."""

    events: EventLog
    queue: Queue
    tasks: set[asyncio.Task[Any]]
    repeats: Repeats
    values: Values

    def now(self) -> float:
        """Return the store's time."""

    async def save(self, session: Session) -> None:
        """Save the session now."""

    async def late(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Save the session, trying again within bounds."""

    async def reload(self, session: Session) -> None:
        """Fetch what the store has."""

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        """Take or renew the lease."""

    async def unlock(self, record_id: bytes, owner: bytes) -> None:
        """Give the lease back."""


class _Line:
    """The requests of this process that want a turn of one session."""

    __slots__ = ("length", "lock", "served")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.length = self.served = 0


class Queue:
    """Lines up the requests of this process, first come first served, so that one of them at a time asks the store."""

    def __init__(self) -> None:
        self._lines: dict[bytes, _Line] = {}

    async def enter(self, record_id: bytes) -> None:
        """Wait for the turn in this process."""
        line = self._lines.setdefault(record_id, _Line())
        line.length += 1
        try:
            await line.lock.acquire()
        except BaseException:
            self._forget(record_id)
            raise

    def is_greedy(self, record_id: bytes) -> bool:
        """Tell, to who has just entered, if it is time to let other processes go first."""
        line = self._lines[record_id]
        line.served += 1
        return line.served > 1 and line.served % IN_A_ROW == 1

    def leave(self, record_id: bytes) -> None:
        """Let the next one in."""
        self._lines[record_id].lock.release()
        self._forget(record_id)

    def _forget(self, record_id: bytes) -> None:
        line = self._lines[record_id]
        line.length -= 1
        if not line.length:
            del self._lines[record_id]


class Exclusive:
    """The context manager. Entered again by the same request, the inner one does nothing."""

    def __init__(self, manager: Manager, session: Session, timeout: float) -> None:
        self._manager, self._session, self._timeout = manager, session, timeout
        self._record_id: bytes | None = None
        self._owner = b""
        self._taken_at = 0.0  # when the lease was asked for last: it ends no sooner than LEASE_SECONDS from then
        self._renewal: Repeat | None = None
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Session:
        session, manager = self._session, self._manager
        await manager.save(session)
        if session._status is Status.LIVE and session._lease is None:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._take(*session._proof())
            except TimeoutError:
                raise ExclusiveTimeout(f"session.exclusive(): no turn within {self._timeout:g} s") from None
            if self._record_id is not None:
                session._lease = self._owner
                self._renewal = manager.repeats.add(lambda: LEASE_SECONDS / 3, self._renew)
                try:
                    await manager.reload(session)
                except BaseException:
                    with suppress(FasterSessionError):
                        await shielded(self._let_go(self._record_id), manager.tasks)
                    raise
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._record_id is not None:
            await shielded(self._give_back(self._record_id), self._manager.tasks)

    async def _take(self, record_id: bytes, verifier: bytes) -> None:
        """Wait for the lease. If the record turns out to be gone, there is no lease, and nothing to save either."""
        manager, session, owner = self._manager, self._session, secrets.token_bytes(16)
        await manager.queue.enter(record_id)
        try:
            if manager.queue.is_greedy(record_id):
                await asyncio.sleep(2 * LONGEST_PAUSE)
            pause, tries = FIRST_PAUSE, 0
            while session._status is Status.LIVE:
                self._taken_at = manager.now()
                # to its end, whoever is cancelled: a lease that nobody knows of would hold up the next turn
                if await shielded(manager.lock(record_id, verifier, owner, LEASE_SECONDS), manager.tasks):
                    self._record_id, self._owner = record_id, owner
                    return
                if tries % LOOK_EVERY == 0:
                    await manager.reload(session)
                tries += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the tries, hides nothing
                pause = min(2 * pause, LONGEST_PAUSE)
        except BaseException:
            with suppress(FasterSessionError):
                await shielded(manager.unlock(record_id, owner), manager.tasks)
            raise
        finally:
            if self._record_id is None:
                manager.queue.leave(record_id)

    async def _renew(self) -> None:
        """Prolong the lease while it runs. Once it has ended, another request may have had its turn: never again."""
        async with self._renewing:
            if self._record_id is None or self._session._status is not Status.LIVE or self._has_ended():
                return
            asked_at = self._manager.now()
            with suppress(FasterSessionError):  # the next one may succeed; if none does, a save finds out
                verifier = self._session._proof()[1]
                if await self._manager.lock(self._record_id, verifier, self._owner, LEASE_SECONDS):
                    if not self._has_ended():
                        self._taken_at = asked_at
                        return
                    await self._manager.unlock(self._record_id, self._owner)  # it was free meanwhile

    def _has_ended(self) -> bool:
        return self._manager.now() - self._taken_at >= LEASE_SECONDS

    async def _give_back(self, record_id: bytes) -> None:
        if self._has_ended() and self._session._lease is not None:
            self._session._lease = secrets.token_bytes(16)  # nobody's: a renewal on its way may have come too late
        kept = None
        try:
            await self._manager.late(self._session, Point.LATER)
        except LeaseLost:
            self._drop(record_id)
            raise
        except StoreError:
            kept = self._session._lease  # the request's end tries again: only if no other turn came between
            raise
        finally:
            await self._let_go(record_id, kept)

    def _drop(self, record_id: bytes) -> None:
        """Forget what the turn changed, for the request's next save, under no lease, would overwrite another's turn."""
        session, values = self._session, self._manager.values
        values.settle(session, values.work(session, session))
        if session._intents is not None:
            session._intents.saved = None
        text = "changes of a turn were dropped: its lease had ended before they were saved"
        self._manager.events.emit(logging.INFO, "session.dropped", record_id, text)

    async def _let_go(self, record_id: bytes, kept: bytes | None = None) -> None:
        """End the turn; a lease that is kept ends by itself."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None  # it holds this: together they would be a cycle
        async with self._renewing:
            self._record_id, self._session._lease = None, kept
            try:
                if kept is None:
                    await self._manager.unlock(record_id, self._owner)
            finally:
                self._manager.queue.leave(record_id)
