"""Sessions in this process: live objects, no serialisation, nothing that suspends.

Rules of residence: the store contract over ``Table``, and what a user of the store sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ...errors import ConfigError
from ..base import Change, Record
from .record import LiveRecord
from .table import Table

VERBS = ("load", "create", "update", "touch", "delete", "regenerate", "lock", "unlock")


class MemoryStore:
    """Keeps sessions as live objects in this process, for one event loop.

    What is stored comes back as the same object, in every request of the session. Sessions are lost when the process
    ends, and other worker processes do not see them.

    A subclass with verbs of its own (a ``load`` that counts, say) is a store of coroutines like any other: what it
    keeps is bytes.

    :param max_sessions: the bound on sessions. Above it the least recently used is evicted: first of those whose
        cookie never came back, then of the rest; never one that a running request uses.
    :param clock: returns the time in seconds since the epoch.
    :raises ConfigError: ``max_sessions`` is not a positive whole number, or ``clock`` cannot be called.
    """

    def __init__(self, *, max_sessions: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        if isinstance(max_sessions, bool) or not isinstance(max_sessions, int) or max_sessions < 1:
            raise ConfigError("max_sessions: must be a whole number of at least 1")
        if not callable(clock):
            raise ConfigError("clock: must be a function that returns seconds, like time.time")
        self.clock = clock
        self._table = Table(max_sessions, clock)

    @property
    def live(self) -> Table | None:
        """The sessions as live objects, or ``None`` if a subclass has verbs of its own, which are to be called."""
        own = any(getattr(getattr(self, verb), "__func__", None) is not getattr(MemoryStore, verb) for verb in VERBS)
        return None if own else self._table

    def __len__(self) -> int:
        return self._table.count

    async def open(self) -> None:
        """Do nothing: memory is always open."""

    async def close(self) -> None:
        """Do nothing: what is stored stays, so a server may start again in the same process."""

    async def load(self, record_id: bytes) -> Record | None:
        return self._table.load(record_id)

    async def create(self, record_id: bytes, record: Record) -> bool:
        times = record.created_at, record.idle_timeout, record.not_after
        return self._table.create(record_id, LiveRecord(record.verifier, *times, record.attributes, record.user))

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        return self._table.update(record_id, verifier, change)

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return self._table.touch(record_id, verifier, accessed_at)

    async def delete(self, record_id: bytes) -> bool:
        return self._table.delete(record_id)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        return self._table.regenerate(record_id, verifier, new_verifier, not_after, change)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return self._table.lock(record_id, verifier, owner, seconds)

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return self._table.unlock(record_id, owner)

    async def purge(self) -> int:
        """Remove what has expired, with pauses. Looks only at sessions whose filed deadline has come."""
        removed = 0
        for slice_ in self._table.purge(self.clock()):
            removed += slice_
            await _pause()
        return removed


async def _pause() -> None:
    """Let other tasks run, where that can be done without knowing more than asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio: no pause
        return
    await asyncio.sleep(0)
