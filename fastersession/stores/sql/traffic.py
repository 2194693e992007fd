"""What one event loop has of a store: its connections, and the lanes in which requests leave.

Rules of residence: attempts and their repetition, and which verbs go together. Statements are the databases', the
contract is the store's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from ...errors import StoreError
from ..base import Record
from .batches import ABANDON_SECONDS, AGAIN, ALONE, LARGE, SILENT_SECONDS, UNHEARD, Again, Lane, Lines
from .engine import Connections, error_code, error_text
from .mysql import MySQL
from .postgresql import PostgreSQL
from .records import Write

T = TypeVar("T")
Work = Callable[[Connection], T]

TRIES = 5  # of what lost a deadlock
COLLISIONS = {"40001", "40P01", 1213, 1205}  # serialization failure, deadlock; deadlock, lock wait timeout


class Traffic(Connections):
    """The connections of one event loop, and what leaves over them.

    Loads go together, and creates, and saves with touches. Writes of one record keep their order, whatever their kind.
    """

    def __init__(
        self, engine: AsyncEngine, database: PostgreSQL | MySQL, clock: Callable[[], float], *, own: bool
    ) -> None:
        super().__init__(engine, own=own)
        self._database, self._clock = database, clock
        self._dropping: asyncio.Task[None] | None = None
        self._usual = 0  # bytes of a session, in the last batch of loads
        lines = Lines()
        self._loads = Lane(self._load_many, self._load, self.started, self._fell_silent)
        self._merges, self._creates = (
            Lane(
                partial(self._write_many, work), self._write, self.started, self._fell_silent, lines=lines, least=least
            )
            for work, least in ((database.merge_many, database.least), (database.create_many, database.least))
        )

    def load(self, record_id: bytes) -> Coroutine[Any, Any, Record | None]:
        """Read, with whatever else is being read."""
        return self._loads.ask(record_id, self._usual)

    def create(self, record_id: bytes, write: Write) -> Coroutine[Any, Any, bool]:
        """Insert, with other inserts."""
        return self._creates.ask(write, write.size, record_id)

    def merge(self, record_id: bytes, write: Write) -> Coroutine[Any, Any, bool]:
        """Save what only sets, or touch, with others."""
        return self._merges.ask(write, write.size, record_id)

    def alone(self, record_id: bytes, write: Write) -> Coroutine[Any, Any, Any]:
        """Do what goes alone, when the writes of its record before it are over. Return what it does."""
        return self._merges.ask(write, ALONE, record_id)

    async def do(self, work: Work[T]) -> T:
        """Run what concerns no single record, in a task of its own that goes on for a moment when its caller gives up.

        To break off an exchange costs the connection, and takes a driver up to 5 s if the server hangs.
        """
        loop = asyncio.get_running_loop()
        task, began = self.started(self.attempts(work)), loop.time()
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            timer = loop.call_later(ABANDON_SECONDS, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())
            if loop.time() - began > SILENT_SECONDS:
                self._fell_silent()
            raise

    def _fell_silent(self) -> None:
        if self._dropping is None or self._dropping.done():
            self._dropping = self.started(self.drop_idle())

    # --- kinds ---

    async def _load_many(self, record_ids: list[bytes]) -> list[Record | Again | None]:
        load = partial(self._database.load_many, record_ids=record_ids, now=float(self._clock()))
        found = await self.attempts(load)
        self._usual = min(found.size // len(record_ids), LARGE)
        return list(map(found.get, record_ids))

    async def _load(self, record_id: bytes, _: Again | None) -> Record | None:
        load = partial(self._database.load, record_id=record_id, now=float(self._clock()))
        return (await self.attempts(load)).record(record_id)

    async def _write_many(self, work: Callable[..., set[bytes]], writes: list[Write]) -> Sequence[bool | Again]:
        trial = Trial()
        try:
            done = await self.attempts(partial(work, writes=writes, now=float(self._clock())), trial=trial)
        except StoreError:
            done = set()
        again = UNHEARD if trial.unheard else AGAIN
        return [True if write.parameters["id"] in done else again for write in writes]

    async def _write(self, write: Write, again: Again | None) -> Any:
        return await self.attempts(write.work, write.found, Trial(unheard=again is UNHEARD))

    # --- attempts ---

    async def attempts(self, work: Work[T], found: Work[T] | None = None, trial: Trial | None = None) -> T:
        """Run work on a connection, again if that was lost or if the work collided with other work.

        :param found: asked after a repetition that came to nothing, if the attempt before had succeeded unheard.
        :param trial: what has been tried so far.
        """
        trial = Trial() if trial is None else trial
        while True:
            try:
                async with self.line:
                    outcome: T = await greenlet_spawn(_on_connection, self.engine, work)
                    if not outcome and trial.unheard and found is not None:
                        outcome = await greenlet_spawn(_on_connection, self.engine, found)
                return outcome
            except StoreError:
                raise
            except Exception as error:
                failure = trial.failed(error)
            if failure is not None:  # out of the handler: SQLAlchemy's own error may show parameters
                raise StoreError(error_text(failure)) from failure


class Trial:
    """What has become of the attempts at one piece of work."""

    def __init__(self, *, unheard: bool = False) -> None:
        self.unheard = unheard  # whether one may have been carried out whose answer was lost
        self._lost = self._collisions = 0

    def failed(self, error: Exception) -> BaseException | None:
        """Count a failure. Return what to report if it is not worth another attempt."""
        cause = error.orig or error if isinstance(error, DBAPIError) else error
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            self.unheard = True
            self._lost += 1
            return cause if self._lost > 1 else None
        self._collisions += error_code(cause) in COLLISIONS
        return None if error_code(cause) in COLLISIONS and self._collisions <= TRIES else cause


def _on_connection(engine: AsyncEngine, work: Work[T]) -> T:
    with engine.sync_engine.connect() as connection:
        return work(connection)
