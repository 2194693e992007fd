"""Stores that misbehave on purpose, or tell what was asked of them, around a MemoryStore that does the work.

Rules of residence: the store contract and faults; nothing about requests. No sleeping: a verb waits for its turn of the
loop, for an event, or for ever.

    store = SuspendingStore(clock=clock)           # every verb suspends, as a driver of a network store does
    gate = store.hold("update")                    # the next update stops before it acts ...
    await gate.reached.wait(); gate.open.set()     # ... until told to go on
    store.fail("update", "raise", times=2)         # "raise", "hang", or "lose": it acts, and its answer is lost
    store.calls                                    # the verbs in the order of their arrival
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from fastersession import MemoryStore
from fastersession.stores.base import Change, Record

__all__ = ["BrokenStoreError", "Gate", "SpyStore", "SuspendingStore", "shorten"]


class BrokenStoreError(Exception):
    """What the driver of a broken store raises."""


class Gate:
    """Stops one call: `reached` is set when it arrives, it goes on when `open` is set."""

    def __init__(self, *, after: bool = False) -> None:
        self.after = after
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def passing(self) -> None:
        self.reached.set()
        await self.open.wait()


class SpyStore:
    """Forwards to a MemoryStore and notes each verb in `calls`, which may be shared with other observers."""

    live = True

    def __init__(self, inner: MemoryStore | None = None, calls: list[str] | None = None, **options: Any) -> None:
        self.inner = MemoryStore(**options) if inner is None else inner
        self.clock: Callable[[], float] = self.inner.clock
        self.calls: list[str] = [] if calls is None else calls
        self.arguments: list[tuple[Any, ...]] = []

    def __len__(self) -> int:
        return len(self.inner)

    def count(self, verb: str) -> int:
        return self.calls.count(verb)

    async def _run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(verb)
        self.arguments.append((verb, *args, kwargs))
        return await getattr(self.inner, verb)(*args, **kwargs)

    async def open(self) -> None:
        await self._run("open")

    async def close(self) -> None:
        await self._run("close")

    async def load(self, record_id: bytes) -> Record | None:
        return await self._run("load", record_id)

    async def create(self, record_id: bytes, *fields: Any, **more: Any) -> Record | None:
        return await self._run("create", record_id, *fields, **more)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        return await self._run("update", record_id, verifier, change)

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return await self._run("touch", record_id, verifier, accessed_at)

    async def delete(self, record_id: bytes) -> bool:
        return await self._run("delete", record_id)

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        return await self._run("regenerate", record_id, verifier, new_verifier, not_after, change)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return await self._run("lock", record_id, verifier, owner, seconds)

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return await self._run("unlock", record_id, owner)

    async def purge(self) -> int:
        return await self._run("purge")


class SuspendingStore(SpyStore):
    """Behaves like a store across a network: suspends, hands out copies of records, fails as told."""

    live = False

    def __init__(self, inner: MemoryStore | None = None, calls: list[str] | None = None, **options: Any) -> None:
        super().__init__(inner, calls, **options)
        self.running: dict[str, int] = defaultdict(int)
        self.most_at_once = 0  # saves that ran at the same time
        self._gates: dict[str, deque[Gate]] = defaultdict(deque)
        self._faults: dict[str, deque[str]] = defaultdict(deque)

    def hold(self, verb: str, *, after: bool = False) -> Gate:
        """Stop the next call of a verb before it acts, or after."""
        gate = Gate(after=after)
        self._gates[verb].append(gate)
        return gate

    def fail(self, verb: str, fault: str = "raise", *, times: int = 1) -> None:
        """Let the next calls of a verb fail."""
        self._faults[verb].extend([fault] * times)

    async def _run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        self.running[verb] += 1
        self.most_at_once = max(self.most_at_once, sum(self.running.values()) - self.running["load"])
        try:
            return await self._suspend(verb, *args, **kwargs)
        finally:
            self.running[verb] -= 1

    async def _suspend(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        gate = self._gates[verb].popleft() if self._gates[verb] else None
        fault = self._faults[verb].popleft() if self._faults[verb] else None
        if gate is not None and not gate.after:
            await gate.passing()
        await asyncio.sleep(0)
        if fault == "raise":
            self.calls.append(f"{verb}!")
            raise BrokenStoreError("no connection")
        if fault == "hang":
            self.calls.append(f"{verb}!")
            await asyncio.Event().wait()
        result = await super()._run(verb, *args, **kwargs)
        if gate is not None and gate.after:
            await gate.passing()
        await asyncio.sleep(0)
        if fault == "lose":
            raise BrokenStoreError("the answer was lost")
        return _copy(result) if isinstance(result, Record) else result


def shorten(monkeypatch: Any, **constants: Any) -> None:
    """Set constants of the package wherever they stand, so that a bound is reached at once."""
    for name, value in constants.items():
        holders = [m for key, m in sys.modules.items() if key.startswith("fastersession") and name in vars(m)]
        assert holders, f"no module has {name}"
        for module in holders:
            monkeypatch.setattr(module, name, value)


def _copy(record: Record) -> Record:
    copy = Record(
        verifier=record.verifier,
        created_at=record.created_at,
        idle_timeout=record.idle_timeout,
        not_after=record.not_after,
        attributes=dict(record.attributes),
        user=record.user,
    )
    copy.accessed_at, copy.regenerated_at, copy.version = record.accessed_at, record.regenerated_at, record.version
    return copy
