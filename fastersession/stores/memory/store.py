"""Sessions in this process: live objects, no serialisation, nothing that suspends.

Rules of residence: the store contract over ``Table``, and what a user of the store sees.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ..base import Change, Record
from ..users import ABOUT, CLAIM_SECONDS, CLAIMED, Ended, Login, LoginOutcome
from .record import LiveRecord
from .users import UserTable

if TYPE_CHECKING:
    from .logs import MemoryLogs

VERBS = (
    "load", "create", "update", "touch", "delete", "regenerate", "lock", "unlock", "login", "retire", "find", "revoke",
    "ended", "take", "page",
)  # fmt: skip


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
        self._table = UserTable(max_sessions, clock)
        self._claims = Claims(max_sessions, clock)
        self._table.watch(self._claims.note)
        self._logs: MemoryLogs | None = None

    @property
    def live(self) -> UserTable | None:
        """The sessions as live objects, or ``None`` if a subclass has verbs of its own, which are to be called."""
        own = any(getattr(getattr(self, verb), "__func__", None) is not getattr(MemoryStore, verb) for verb in VERBS)
        return None if own else self._table

    @property
    def logs(self) -> MemoryLogs:
        """The conversations; see ``LogStore``. Made when they are first asked for."""
        if self._logs is None:
            from .logs import MemoryLogs

            self._logs = MemoryLogs(self._table, self.clock)
        return self._logs

    def __len__(self) -> int:
        return self._table.count

    async def open(self) -> None:
        """Do nothing: memory is always open."""

    async def close(self) -> None:
        """Do nothing: what is stored stays, so a server may start again in the same process."""

    async def load(self, record_id: bytes) -> Record | None:
        return self._table.load(record_id)

    async def create(self, record_id: bytes, record: Record) -> bool:
        return self._table.create(record_id, _copy(record))

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        return self._table.update(record_id, verifier, change)

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return self._table.touch(record_id, verifier, accessed_at)

    async def delete(self, record_id: bytes, reason: str = "invalidated") -> bool:
        return self._table.delete(record_id, reason)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        return self._table.regenerate(record_id, verifier, new_verifier, not_after, change)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return self._table.lock(record_id, verifier, owner, seconds)

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return self._table.unlock(record_id, owner)

    async def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        return self._table.login(record_id, verifier, login._replace(record=_copy(login.record)))

    async def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool:
        return self._table.retire(record_id, verifier, until)

    async def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        return [(record_id, _without_attributes(record)) for record_id, record in self._table.find(tags)]

    async def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]:
        return self._table.revoke(tags, keep, at)

    async def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        return self._table.ended(record_ids)

    async def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        return self._table.take_attributes(record_id, verifier, prefix)

    async def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        found, more = self._table.page(after, count)
        return [(record_id, _without_attributes(record)) for record_id, record in found], more

    async def due(self, first: bytes | None = None) -> list[Ended]:
        await self.purge()
        return self._claims.due()

    async def settle(self, record_id: bytes) -> None:
        self._claims.settle(record_id)

    async def purge(self) -> int:
        """Remove what has expired, with pauses. Looks only at sessions whose filed deadline has come."""
        removed = 0
        for slice_ in self._table.purge(self.clock()):
            removed += slice_
            await _pause()
        return removed


class Claims:
    """Ended records that are kept to be told of: those that the store's coroutines have made.

    Of the others, a live store's, whoever watches it is told. To keep them, too, would hold an application's objects
    for a day beyond their logout.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._kept: dict[bytes, tuple[Record, str, float, float | None]] = {}  # reason, the end, when it was claimed

    def note(self, record: LiveRecord, reason: str, is_over: bool) -> None:
        """Keep a record that has ended, if its end is to be told."""
        if isinstance(record, Copied) and record.extra.retention is not None and is_over:
            ended_at = min(self._clock(), record.deadline())  # it may have expired before anybody looked
            self._kept[record.record_id] = record, reason, ended_at + record.extra.retention, None
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]

    def due(self) -> list[Ended]:
        """See ``UserStore.due``."""
        now, due = self._clock(), list[Ended]()
        for record_id, (record, reason, until, claimed) in list(self._kept.items()):
            if now >= until:
                del self._kept[record_id]
            elif (claimed is None or now >= claimed + CLAIM_SECONDS) and len(due) < CLAIMED:
                self._kept[record_id] = record, reason, until, now
                due.append(Ended(record_id, record, reason, claimed is not None))
        return due

    def settle(self, record_id: bytes) -> None:
        """Forget a record whose end was told."""
        self._kept.pop(record_id, None)


class Copied(LiveRecord):
    """A record that one of the store's coroutines has made."""

    __slots__ = ()


def _copy(record: Record) -> Copied:
    """Return a record for the table: the one that was given stays the caller's."""
    times = record.created_at, record.idle_timeout, record.not_after
    copy = Copied(record.verifier, *times, record.attributes, record.extra)
    copy.accessed_at = record.accessed_at
    return copy


def _without_attributes(record: Record) -> Record:
    copy: Record = _copy(record)
    copy.regenerated_at, copy.version, copy.verifier_before = (
        record.regenerated_at, record.version, record.verifier_before
    )  # fmt: skip
    copy.attributes = {name: value for name, value in record.attributes.items() if name == ABOUT}
    return copy


async def _pause() -> None:
    """Let other tasks run, where that can be done without knowing more than asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio: no pause
        return
    await asyncio.sleep(0)
