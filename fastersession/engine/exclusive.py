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
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from ..errors import ConfigError, ExclusiveTimeout, FasterSessionError, LeaseLost, StoreError
from ..events import EventLog
from ..session import Session, Status
from .plan import Point
from .tasks import Repeat, Repeats, on_asyncio, run_now, shielded
from .values import Values

__all__ = ["Exclusive", "Queue"]

LEASE_SECONDS = 10.0  # how long a crash holds up the next turn; renewed at a third of it
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds between two tries to take a lease that another process holds
LOOK_EVERY = 8  # tries between two looks if the record is still there: a logout ends the wait in a second
IN_A_ROW = 4  # turns that one process takes before it leaves the time of two tries to the others, which only poll


class Manager(Protocol):
    """What a turn needs from the session manager."""

    events: EventLog
    live: bool
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


class Line:
    """The requests of this process that want a turn of one session."""

    __slots__ = ("_served", "length", "lock", "record_id")

    def __init__(self, record_id: bytes) -> None:
        self.lock = asyncio.Lock()
        self.record_id = record_id
        self.length = self._served = 0

    def is_greedy(self) -> bool:
        """Tell, to who has just entered, if it is time to let other processes go first."""
        self._served += 1
        return self._served > 1 and self._served % IN_A_ROW == 1


class Queue:
    """Lines up the requests of this process, first come first served, so that one of them at a time asks the store."""

    def __init__(self) -> None:
        self._lines: dict[bytes, Line] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def enter(self, record_id: bytes) -> Line:
        """Wait for the turn in this process."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lines = loop, {}  # nobody gets on in a loop that is gone: the lease is what is left
        line = self._lines.get(record_id)
        if line is None:
            line = self._lines[record_id] = Line(record_id)
        line.length += 1
        try:
            await line.lock.acquire()
        except BaseException:
            self._forget(line)
            raise
        return line

    def leave(self, line: Line) -> None:
        """Let the next one in."""
        with suppress(RuntimeError):  # the next one's loop was closed
            line.lock.release()
        self._forget(line)

    def _forget(self, line: Line) -> None:
        line.length -= 1
        if not line.length and self._lines.get(line.record_id) is line:
            del self._lines[line.record_id]


class Exclusive:
    """The context manager. All that one session object is asked for share one turn, from first entry to last exit."""

    def __init__(self, manager: Manager, session: Session, timeout: float) -> None:
        self._manager, self._session, self._timeout = manager, session, timeout
        self._turn: Turn | None = None

    async def __aenter__(self) -> Session:
        session = self._session
        if not on_asyncio():
            raise ConfigError("session.exclusive() needs asyncio: run the application on it, not on trio")
        await self._save()
        proof = session._proof() if session._status is Status.LIVE else None
        if proof is not None:
            turn = session._lease
            if not isinstance(turn, Turn):
                turn = session._lease = Turn(self._manager, proof[0])
            try:
                async with asyncio.timeout(self._timeout) as bound:
                    self._turn = turn if await turn.enter(session, bound) else None
            except TimeoutError:
                raise ExclusiveTimeout(f"session.exclusive(): no turn within {self._timeout:g} s") from None
        return session

    async def _save(self) -> None:
        try:
            await self._manager.save(self._session)
        except LeaseLost:
            turn = self._session._lease
            if isinstance(turn, Turn):
                turn.lose(self._session)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        if kind is GeneratorExit:  # nothing can be awaited any more
            turn.abandon()
        else:
            await shielded(turn.leave(self._session), self._manager.tasks)


class Turn:
    """The lease of a session's record, as one request wants it, holds it, or has left it. See ``session.Lease``.

    Methods are given the session: it has this, so the other way round they would be a cycle.
    """

    __slots__ = (
        "_entries", "_gate", "_left", "_line", "_manager", "_name", "_record_id", "_renewal", "_renewing", "_taken_at",
        "owner",
    )  # fmt: skip

    def __init__(self, manager: Manager, record_id: bytes) -> None:
        self.owner: bytes | None = None
        self._manager, self._record_id = manager, record_id
        self._name = secrets.token_bytes(16)  # of the lease's owner: this request
        self._entries = 0
        self._gate = asyncio.Lock()  # one entry or exit at a time
        self._line: Line | None = None
        self._left = False  # the lease may still be ours in the store
        self._taken_at = 0.0  # when the lease was asked for last: it ends no sooner than LEASE_SECONDS from then
        self._renewal: Repeat | None = None
        self._renewing = asyncio.Lock()

    async def enter(self, session: Session, bound: asyncio.Timeout) -> bool:
        """Wait for the turn, if nobody of this request is in it; tell if there is one.

        :param bound: of the wait; what comes after it is not bounded.
        """
        async with self._gate:
            if not self._entries:
                if not await self._take(session):
                    return False
                bound.reschedule(None)
                self._renewal = self._manager.repeats.add(lambda: LEASE_SECONDS / 3, partial(self.renew, session))
                await self._reload(session)
            self._entries += 1
            return True

    async def leave(self, session: Session) -> None:
        """Save and give the lease back, if nobody of this request is in the turn any more."""
        async with self._gate:
            self._entries -= 1
            if not self._entries:
                await self._give_back(session)

    def abandon(self) -> None:
        """Leave without awaiting anything: nothing is saved, and the lease of a store of bytes ends by itself."""
        self._entries -= 1
        if not self._entries:
            self._fall()

    def lose(self, session: Session) -> None:
        """Forget what could not be saved at the end of a turn, whose lease has ended before it was tried again."""
        if not self._entries:
            self._drop(session)
            self.owner, self._left = None, False

    async def renew(self, session: Session) -> None:
        """Prolong the lease while it runs. Once it has ended, another request may have had its turn: never again."""
        async with self._renewing:
            proof = session._proof()
            if self._renewal is None or proof is None or session._lease is not self or self._has_ended():
                return
            asked_at = self._manager.now()
            with suppress(FasterSessionError):  # the next one may succeed; if none does, a save finds out
                if await self._manager.lock(*proof, self._name, LEASE_SECONDS):
                    if not self._has_ended():
                        self._taken_at = asked_at
                        return
                    await self._manager.unlock(self._record_id, self._name)  # it was free meanwhile

    async def _take(self, session: Session) -> bool:
        """Wait for the lease. If the record turns out to be gone, there is none, and nothing to save either."""
        manager, self.owner = self._manager, None
        try:
            if self._left and not self._has_ended() and await self._lock(session):
                return True  # with no place in the line: who stands first in it waits for this very lease
            self._line = await manager.queue.enter(self._record_id)
            if self._line.is_greedy():
                await asyncio.sleep(2 * LONGEST_PAUSE)
            pause, tries = FIRST_PAUSE, 0
            while session._status is Status.LIVE and session._lease is self:
                if await self._lock(session):
                    return True
                if tries % LOOK_EVERY == 0:
                    await manager.reload(session)
                tries += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the tries, hides nothing
                pause = min(2 * pause, LONGEST_PAUSE)
            return False
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException:
            with suppress(FasterSessionError):
                await shielded(self._unlock(), manager.tasks)
            raise
        finally:
            if self.owner is None:
                self._stop()

    async def _lock(self, session: Session) -> bool:
        proof, asked_at = session._proof(), self._manager.now()
        if proof is None or proof[0] != self._record_id:
            return False
        # To its end, whoever is cancelled: a lease that nobody knows of would hold up the next turn.
        if not await shielded(self._manager.lock(*proof, self._name, LEASE_SECONDS), self._manager.tasks):
            return False
        self.owner, self._taken_at = self._name, asked_at
        return True

    async def _unlock(self) -> None:
        self._left = True
        await self._manager.unlock(self._record_id, self._name)
        self._left = False

    async def _reload(self, session: Session) -> None:
        try:
            await self._manager.reload(session)
        except GeneratorExit:
            self._fall()
            raise
        except BaseException:
            with suppress(FasterSessionError):
                await shielded(self._let_go(), self._manager.tasks)
            raise

    def _fall(self) -> None:
        """End the turn without awaiting anything."""
        self._stop()
        self.owner, self._left = None, True
        if self._manager.live:
            with suppress(FasterSessionError):
                run_now(self._unlock())

    def _has_ended(self) -> bool:
        return self._manager.now() - self._taken_at >= LEASE_SECONDS

    async def _give_back(self, session: Session) -> None:
        if self._has_ended():
            self.owner = secrets.token_bytes(16)  # nobody's: a renewal on its way may have come too late
        try:
            await self._manager.late(session, Point.LATER)
        except GeneratorExit:
            self._fall()
            raise
        except BaseException as error:
            if isinstance(error, LeaseLost):
                self._drop(session)
            # What the store could not take the request's end tries again: only if no other turn came between.
            await self._let_go(self.owner if isinstance(error, StoreError) else None)
            raise
        await self._let_go()

    def _drop(self, session: Session) -> None:
        """Forget what the turn changed, for the request's next save, under no lease, would overwrite another's turn."""
        values = self._manager.values
        values.settle(session, values.work(session, session))
        if session._intents is not None:
            session._intents.saved = None
        text = "changes of a turn were dropped: its lease had ended before they were saved"
        self._manager.events.emit(logging.INFO, "session.dropped", self._record_id, text)

    async def _let_go(self, kept: bytes | None = None) -> None:
        """End the turn. A lease that is kept, for saves to come, is taken over by this request's next turn, or ends."""
        renewal, self._renewal = self._renewal, None  # it holds the session: together they would be a cycle
        if renewal is not None:
            renewal.cancel()
        async with self._renewing:
            self.owner, self._left = kept, True
            try:
                if kept is None:
                    await self._unlock()
            finally:
                self._stop()

    def _stop(self) -> None:
        """Renew no more, and let the next one of this process try."""
        line, self._line = self._line, None
        if line is not None:
            self._manager.queue.leave(line)
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.cancel()
