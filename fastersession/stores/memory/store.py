"""Sessions in this process: live objects, no serialisation, nothing that suspends.

Rules of residence: the store contract over ``Table``, and what a user of the store sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ConfigError
from ..base import Change, Record
from .table import Table

__all__ = ["MemoryStore"]

VERBS = ("load", "create", "update", "touch", "delete", "regenerate", "lock", "unlock")


class MemoryStore:
    """Keeps sessions as live objects in this process, for one event loop.

    What is stored comes back as the same object, in every request of the session. Sessions are lost when the process
    ends, and other worker processes do not see them.

    :param max_sessions: the bound on sessions. Above it the least recently used is evicted: first of those whose
        cookie never came back, then of the rest; never one that a running request uses.
    :param clock: returns the time in seconds since the epoch.
    :raises ConfigError: ``max_sessions`` is not a positive whole number, or ``clock`` cannot be called.
    """

    live = True

    def __init__(self, *, max_sessions: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        if isinstance(max_sessions, bool) or not isinstance(max_sessions, int) or max_sessions < 1:
            raise ConfigError("max_sessions: must be a whole number of at least 1")
        if not callable(clock):
            raise ConfigError("clock: must be a function that returns seconds, like time.time")
        self.clock = clock
        self._table = Table(max_sessions, clock)

    @property
    def direct(self) -> Table | None:
        """The verbs as plain functions; ``None`` if a subclass has verbs of its own: they must be called.

        Asked once, when the middleware is made.
        """
        own = [
            verb for verb in VERBS if getattr(getattr(self, verb), "__func__", None) is not getattr(MemoryStore, verb)
        ]
        return None if own else self._table

    def __len__(self) -> int:
        return self._table.count

    async def open(self) -> None:
        """Do nothing: memory is always open."""

    async def close(self) -> None:
        """Do nothing: what is stored stays, so a server may start again in the same process."""

    async def load(self, record_id: bytes) -> Record | None:
        """See :meth:`Store.load`."""
        return self._table.load(record_id)

    async def create(
        self,
        record_id: bytes,
        verifier: bytes,
        created_at: float,
        idle_timeout: float,
        not_after: float,
        attributes: Mapping[str, Any],
        user: str | None = None,
    ) -> Record | None:
        """See :meth:`Store.create`."""
        return self._table.create(record_id, verifier, created_at, idle_timeout, not_after, attributes, user)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """See :meth:`Store.update`."""
        return self._table.update(record_id, verifier, change)

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        """See :meth:`Store.touch`."""
        return self._table.touch(record_id, verifier, accessed_at)

    async def delete(self, record_id: bytes) -> bool:
        """See :meth:`Store.delete`."""
        return self._table.delete(record_id)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """See :meth:`Store.regenerate`."""
        return self._table.regenerate(record_id, verifier, new_verifier, not_after, change)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        """See :meth:`Store.lock`."""
        return self._table.lock(record_id, verifier, owner, seconds)

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        """See :meth:`Store.unlock`."""
        return self._table.unlock(record_id, owner)

    async def purge(self) -> int:
        """See :meth:`Store.purge`. Looks only at sessions whose filed deadline has come; pauses between slices."""
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
