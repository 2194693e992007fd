"""Save points of a live store: over at once.

Rules of residence: the other implementation of ``patience.Saves``. Nothing waits here.
"""

from __future__ import annotations

from contextlib import nullcontext

from ..errors import SessionNotEstablished, StoreError
from ..facts import ENDED
from ..session import Session
from ..state import State
from .patience import Saves, is_carried_out, noted
from .plan import Point
from .tasks import run_now

_PLAIN = nullcontext()


class AtOnce(Saves):
    """Saves of a live store: nothing waits, so nothing can be cancelled, and what fails once fails again."""

    async def save(self, session: Session, state: State, at: Point, *, discard: bool = False) -> None:
        self.save_now(session, state, at, discard=discard)

    def save_now(self, session: Session, state: State, at: Point, *, discard: bool = False) -> None:
        """Do what ``save`` does, from a plain function."""
        try:
            with noted(state) if state.phase == ENDED else _PLAIN:
                run_now(self.saver.commit(session, state, at, discard=discard))
        except SessionNotEstablished:
            self.saver.forget_changes(session, state)  # it has been said: the next save point does not say it again
            raise

    async def flush(self, session: Session, state: State, at: Point, *, discard: bool = False) -> None:
        try:
            self.save_now(session, state, at, discard=discard)
        except StoreError:
            self.tell_failed(state, at)
            raise

    def begin(self, session: Session, state: State) -> None:
        run_now(self.saver.commit(session, state, Point.NOW))

    async def reload(self, session: Session, state: State) -> None:
        is_carried_out(state)
        await self.saver.reload(session, state)

    def touch_soon(self, state: State) -> None:
        run_now(self.saver.touch(state))

    def save_soon(self, session: Session, state: State) -> None:
        self.save_now(session, state, Point.NOW)
