"""What ``chat.start()`` was asked for.

Rules of residence: the arguments of one start, and what follows from them alone.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from ..errors import KeyReused
from ..stores.logs import ORIGIN, Entry, Log, Position, Run
from .ending import Ending
from .options import Fold
from .own import OwnRun
from .running import CURRENT_RUN

if TYPE_CHECKING:
    from .handle import Handle

NO_ENTRY: Any = object()


class Wish:
    """One call of ``start``.

    :param made: gets the run, as soon as it runs.
    """

    def __init__(
        self, handle: Handle, frames: AsyncIterator[Any], fold: Fold | None, entry: Any, key: str | None,
        cancels: bool, format: str | None, made: list[OwnRun],  # noqa: A002
    ) -> None:  # fmt: skip
        self.handle = handle
        self.made = made
        self._frames = frames
        self._fold = handle.keeper.fold if fold is None else fold
        self._entry = entry
        self._key = key
        self._cancels = cancels
        self.head = {"format": format, "folds": self._fold is not None}
        self._context = copy_context()

    def run_id(self, log: Log) -> bytes:
        """Return the id of the run."""
        return secrets.token_bytes(16) if self._key is None else self.handle.keeper.keys.run_id(log.log, self._key)

    def question(self, log: Log, position: Position) -> Entry | None:
        """Return the question's entry for a position; ``None`` if there is none."""
        if self._entry is NO_ENTRY:
            return None
        return self.handle.entry_at(log, position, self._entry, self._digest(log), None)

    def own(self, run: Run, top: Position) -> OwnRun:
        """Return what runs here, when the run has begun in the store."""
        self._context.run(CURRENT_RUN.set, run)
        ending = Ending(self.handle, run, top, self._fold)
        runs, holding = self.handle.keeper.runs, self.handle.hold()
        own = OwnRun(runs, ending, self._frames, self._context, self.is_left, holding)
        self.made.append(own)
        return own

    def is_left(self) -> bool:
        """Return whether the request that wished it is over, and the run is to end with it."""
        return self._cancels and self.handle.is_over

    def left(self) -> None:
        """Hear that a reader of the run has left before the end."""
        if self._cancels:
            self.made[0].stop("cancelled")

    async def check_key(self, run: Run) -> None:
        """See that the key of the question is new, or that of a run that is still known.

        :raises KeyReused: it is that of another entry, or of a run whose frames and answer are gone.
        """
        if self._entry is NO_ENTRY or self._key is None:
            return
        call, log = self.handle.keeper.call, run.log
        if await call("find", log, self._digest(log), None) is None:
            return
        await self.check_question(log)
        frames = (await call("read", {run: ORIGIN}, 1))[run]
        if frames is None and await call("find", log, None, run.run) is None:
            raise KeyReused("this key has come before, and what was answered is not kept any more")

    async def check_question(self, log: Log) -> None:
        """Compare the question with the one that came with this key before.

        :raises KeyReused: it is another.
        """
        if self._entry is NO_ENTRY or self._key is None:
            return
        found = await self.handle.keeper.call("find", log, self._digest(log), None)
        there = None if found is None else self.handle.public(found, log)
        if found is not None and (there is None or there.value != self._entry):
            raise KeyReused("this key has come before with another entry")

    def _digest(self, log: Log) -> bytes | None:
        return None if self._key is None else self.handle.keeper.keys.key_digest(log.log, self._key)
