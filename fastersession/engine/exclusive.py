"""One turn at a time for the requests of a session: ``session.exclusive()``.

Rules of residence: the lease and the queue for it. Saves carry the lease's owner; the store refuses one that comes
after its end, so a process that stood still cannot overwrite the turn of another.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from ..errors import ConfigError, ExclusiveTimeout, FasterSessionError, LeaseLost, StoreError
from ..events import TurnLost
from ..facts import Lease, Status
from ..session import Session
from ..state import State
from .calls import Calls
from .line import Line, Queue
from .patience import Saves, shielded
from .plan import Point
from .repeats import Repeat, Repeats
from .tasks import on_asyncio, run_now

LEASE_SECONDS = 10.0  # how long a crash holds up the next turn; renewed at a third of it
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1  # seconds between two tries to take a lease that another process holds
LOOK_EVERY = 8  # tries between two looks if the record is still there: a logout ends the wait in a second


@dataclass(frozen=True, slots=True)
class Turns:
    """What all turns of one middleware share."""

    calls: Calls
    saves: Saves
    queue: Queue
    repeats: Repeats

    def exclusive(self, session: Session, state: State, timeout: float) -> Exclusive:
        """Return the context manager of ``session.exclusive()``."""
        return Exclusive(self, session, state, timeout)


class Exclusive:
    """The context manager. All that one session object is asked for share one turn, from first entry to last exit."""

    def __init__(self, turns: Turns, session: Session, state: State, timeout: float) -> None:
        self._turns, self._session, self._state, self._timeout = turns, session, state, timeout
        self._turn: Turn | None = None

    async def __aenter__(self) -> Session:
        session, state = self._session, self._state
        if not on_asyncio():
            raise ConfigError("session.exclusive() needs asyncio: run the application on it, not on trio")
        await self._save()
        proof = state.proof() if state.status is Status.LIVE else None
        if proof is not None:
            turn = state.rare.lease
            if not isinstance(turn, Turn):
                turn = Turn(self._turns, proof[0])
                state.leased(turn)
            try:
                async with asyncio.timeout(self._timeout) as bound:
                    self._turn = turn if await turn.enter(session, state, bound) else None
            except TimeoutError:
                raise ExclusiveTimeout(f"session.exclusive(): no turn within {self._timeout:g} s") from None
        return session

    async def _save(self) -> None:
        try:
            await self._turns.saves.save_awaited(self._session, self._state)
        except LeaseLost:
            turn = self._state.rare.lease
            if isinstance(turn, Turn):
                turn.lose(self._session, self._state)
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
            await shielded(turn.leave(self._session, self._state), self._turns.saves.tasks)


class Turn(Lease):
    """The lease of a session's record, as one request wants it, holds it, or has left it.

    Methods are given the session and its state: the state has this, so the other way round they would be a cycle.
    """

    __slots__ = (
        "_entries", "_gate", "_left", "_line", "_name", "_record_id", "_renewal", "_renewing", "_taken_at", "_turns",
    )  # fmt: skip

    def __init__(self, turns: Turns, record_id: bytes) -> None:
        self.owner = None
        self._turns, self._record_id = turns, record_id
        self._name = secrets.token_bytes(16)  # of the lease's owner: this request
        self._entries = 0
        self._gate = asyncio.Lock()  # one entry or exit at a time
        self._line: Line | None = None
        self._left = False  # the lease may still be ours in the store
        self._taken_at = 0.0  # when the lease was asked for last: it ends no sooner than LEASE_SECONDS from then
        self._renewal: Repeat | None = None
        self._renewing = asyncio.Lock()

    async def enter(self, session: Session, state: State, bound: asyncio.Timeout) -> bool:
        """Wait for the turn, if nobody of this request is in it; tell if there is one.

        :param bound: of the wait; what comes after it is not bounded.
        """
        async with self._gate:
            if not self._entries:
                if not await self._take(session, state):
                    return False
                bound.reschedule(None)
                self._renewal = Repeat(lambda: LEASE_SECONDS / 3, partial(self.renew, state))
                self._turns.repeats.add(self._renewal, LEASE_SECONDS / 3)
                await self._reload(session, state)
            self._entries += 1
            return True

    async def leave(self, session: Session, state: State) -> None:
        """Save and give the lease back, if nobody of this request is in the turn any more."""
        async with self._gate:
            self._entries -= 1
            if not self._entries:
                await self._give_back(session, state)

    def abandon(self) -> None:
        """Leave without awaiting anything: nothing is saved, and the lease of a store of bytes ends by itself."""
        self._entries -= 1
        if not self._entries:
            self._fall()

    def lose(self, session: Session, state: State) -> None:
        """Forget what could not be saved at the end of a turn, whose lease has ended before it was tried again."""
        if not self._entries:
            self._drop(session, state)
            self.owner, self._left = None, False

    async def renew(self, state: State) -> None:
        """Prolong the lease while it runs. Once it has ended, another request may have had its turn: never again."""
        async with self._renewing:
            proof = state.proof()
            if self._renewal is None or proof is None or state.rare.lease is not self or self._has_ended():
                return
            asked_at = self._turns.calls.clock()
            with suppress(FasterSessionError):  # the next one may succeed; if none does, a save finds out
                if await self._ask(*proof):
                    if not self._has_ended():
                        self._taken_at = asked_at
                        return
                    await self._release()  # it was free meanwhile

    async def _take(self, session: Session, state: State) -> bool:
        """Wait for the lease. If the record turns out to be gone, there is none, and nothing to save either."""
        turns, self.owner = self._turns, None
        try:
            if self._left and not self._has_ended() and await self._lock(state):
                return True  # with no place in the line: who stands first in it waits for this very lease
            self._line = await turns.queue.enter(self._record_id)
            if self._line.is_greedy():
                await asyncio.sleep(2 * LONGEST_PAUSE)
            pause, tries = FIRST_PAUSE, 0
            while state.status is Status.LIVE and state.rare.lease is self:
                if await self._lock(state):
                    return True
                if tries % LOOK_EVERY == 0:
                    await turns.saves.reload(session, state)
                tries += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - spreads the tries, hides nothing
                pause = min(2 * pause, LONGEST_PAUSE)
            return False
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException:
            with suppress(FasterSessionError):
                await shielded(self._unlock(), turns.saves.tasks)
            raise
        finally:
            if self.owner is None:
                self._stop()

    async def _lock(self, state: State) -> bool:
        proof, asked_at = state.proof(), self._turns.calls.clock()
        if proof is None or proof[0] != self._record_id:
            return False
        # To its end, whoever is cancelled: a lease that nobody knows of would hold up the next turn.
        if not await shielded(self._ask(*proof), self._turns.saves.tasks):
            return False
        self.owner, self._taken_at = self._name, asked_at
        return True

    async def _unlock(self) -> None:
        self._left = True
        await self._release()
        self._left = False

    async def _reload(self, session: Session, state: State) -> None:
        try:
            await self._turns.saves.reload(session, state)
        except GeneratorExit:
            self._fall()
            raise
        except BaseException:
            with suppress(FasterSessionError):
                await shielded(self._let_go(), self._turns.saves.tasks)
            raise

    def _fall(self) -> None:
        """End the turn without awaiting anything."""
        self._stop()
        self.owner, self._left = None, True
        if self._turns.calls.live is not None:
            with suppress(FasterSessionError):
                run_now(self._unlock())

    async def _ask(self, record_id: bytes, verifier: bytes) -> bool:
        """Ask the store for the lease, or for more of it."""
        calls = self._turns.calls
        got: bool = await calls.call(calls.verbs.lock, record_id, verifier, self._name, LEASE_SECONDS)
        return got

    async def _release(self) -> None:
        calls = self._turns.calls
        await calls.call(calls.verbs.unlock, self._record_id, self._name)

    def _has_ended(self) -> bool:
        return self._turns.calls.clock() - self._taken_at >= LEASE_SECONDS

    async def _give_back(self, session: Session, state: State) -> None:
        if self._has_ended():
            self.owner = secrets.token_bytes(16)  # nobody's: a renewal on its way may have come too late
        try:
            await self._turns.saves.flush(session, state, Point.NOW)
        except GeneratorExit:
            self._fall()
            raise
        except BaseException as error:
            if isinstance(error, LeaseLost):
                self._drop(session, state)
            # What the store could not take the request's end tries again: only if no other turn came between.
            await self._let_go(self.owner if isinstance(error, StoreError) else None)
            raise
        await self._let_go()

    def _drop(self, session: Session, state: State) -> None:
        """Forget what the turn changed, for the request's next save, under no lease, would overwrite another's turn."""
        self._turns.saves.saver.forget_changes(session, state)
        if state.intents is not None:
            state.intents.saved = None
        self._turns.saves.events.tell(TurnLost(self._record_id))

    async def _let_go(self, kept: bytes | None = None) -> None:
        """End the turn. A lease that is kept, for saves to come, is taken over by this request's next turn, or ends."""
        renewal, self._renewal = self._renewal, None  # it holds the session: together they would be a cycle
        if renewal is not None:
            self._turns.repeats.remove(renewal)
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
            self._turns.queue.leave(line)
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            self._turns.repeats.remove(renewal)
