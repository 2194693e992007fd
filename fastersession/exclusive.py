"""One turn at a time for the requests of a session: ``session.exclusive()``.

Rules of residence: the lease and the queue for it. Saves carry the lease's owner; the store refuses one that comes
after its end, so a process that stood still cannot overwrite the turn of another.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from types import TracebackType
from typing import TYPE_CHECKING

from .commit import Point
from .errors import ExclusiveTimeout
from .session import Session, Status
from .tasks import Repeat, shielded

if TYPE_CHECKING:
    from .manager import SessionManager

__all__ = ["Exclusive", "Queue"]

LEASE_SECONDS = 10.0  # how long a crash holds up the next turn; renewed at a third of it
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds between two tries to take a lease that another process holds


class Queue:
    """Lines up the requests of this process, first come first served, so that one of them at a time asks the store."""

    def __init__(self) -> None:
        self._locks: dict[bytes, tuple[asyncio.Lock, int]] = {}

    async def enter(self, record_id: bytes) -> None:
        """Wait for the turn in this process."""
        lock, waiting = self._locks.get(record_id, (asyncio.Lock(), 0))
        self._locks[record_id] = lock, waiting + 1
        try:
            await lock.acquire()
        except BaseException:
            self._forget(record_id)
            raise

    def leave(self, record_id: bytes) -> None:
        """Let the next one in."""
        self._locks[record_id][0].release()
        self._forget(record_id)

    def _forget(self, record_id: bytes) -> None:
        lock, waiting = self._locks[record_id]
        if waiting == 1:
            del self._locks[record_id]
        else:
            self._locks[record_id] = lock, waiting - 1


class Exclusive:
    """The context manager. Entered again by the same request, the inner one does nothing."""

    def __init__(self, manager: SessionManager, session: Session, timeout: float) -> None:
        self._manager, self._session, self._timeout = manager, session, timeout
        self._record_id: bytes | None = None
        self._owner = b""
        self._renewal: Repeat | None = None

    async def __aenter__(self) -> Session:
        session = self._session
        await self._manager.save(session)
        if session._status is Status.LIVE and session._lease is None:
            record_id, verifier = session._proof()
            try:
                async with asyncio.timeout(self._timeout):
                    await self._take(record_id, verifier)
            except TimeoutError:
                raise ExclusiveTimeout(f"session.exclusive(): no turn within {self._timeout:g} s") from None
            session._lease = self._owner
            self._renewal = Repeat(lambda: LEASE_SECONDS / 3, self._renew, self._manager.tasks)
            await self._manager.reload(session)
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._record_id is not None:
            await shielded(self._give_back(self._record_id), self._manager.tasks)

    async def _take(self, record_id: bytes, verifier: bytes) -> None:
        await self._manager.queue.enter(record_id)
        try:
            self._owner = secrets.token_bytes(16)
            pause = FIRST_PAUSE
            while not await self._manager.lock(record_id, verifier, self._owner, LEASE_SECONDS):
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the tries, hides nothing
                pause = min(2 * pause, LONGEST_PAUSE)
            self._record_id = record_id
        finally:
            if self._record_id is None:
                self._manager.queue.leave(record_id)

    async def _renew(self) -> None:
        if self._record_id is not None and self._session._status is Status.LIVE:
            await self._manager.lock(self._record_id, self._session._proof()[1], self._owner, LEASE_SECONDS)

    async def _give_back(self, record_id: bytes) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        try:
            await self._manager.late(self._session, Point.LATER)
        finally:
            self._session._lease = None
            self._record_id = None
            try:
                await self._manager.unlock(record_id, self._owner)
            finally:
                self._manager.queue.leave(record_id)
