"""A store that fails on purpose, stops where told, and tells what was asked of it, around one that does the work.

Rules of residence: the store contract and faults; nothing about requests. Only the fault "slow" waits for a time.

    store = FaultyStore(clock=clock)               # over a MemoryStore; FaultyStore(other) is over any store
    store.fail("update", "raise", times=2)         # or "hang", "lose", "slow": see `fail`
    gate = store.hold("update")                    # the next update stops before it acts ...
    await gate.reached.wait(); gate.open.set()     # ... until told to go on
    store.calls                                    # the verbs in the order of their arrival; "update!" failed
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from ..stores.base import Change, LiveStore, Record
from ..stores.memory import MemoryStore

__all__ = ["FaultyStore", "Gate", "InjectedError"]

FAULTS = ("raise", "hang", "lose", "slow")


class InjectedError(ConnectionError):
    """What the driver of a broken store raises."""


class Gate:
    """Stops one call: ``reached`` is set when it arrives, it goes on when ``open`` is set."""

    def __init__(self, *, after: bool = False) -> None:
        self.after = after
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def passing(self) -> None:
        """Stop here."""
        self.reached.set()
        await self.open.wait()


class _Fault(NamedTuple):
    kind: str = ""
    seconds: float = 0.0


class FaultyStore:
    """A store as one across a network: each verb suspends, records are handed out as copies, and it fails as told.

    It has no ``live``, so attributes reach it encoded and sealed, even over a ``MemoryStore``.

    :param inner: the store that does the work; ``None`` takes a ``MemoryStore`` made with ``options``.
    """

    live: LiveStore | None = None

    def __init__(self, inner: Any = None, calls: list[str] | None = None, **options: Any) -> None:
        self.inner: Any = MemoryStore(**options) if inner is None else inner
        self.clock: Callable[[], float] = self.inner.clock
        self.calls: list[str] = [] if calls is None else calls
        self.arguments: list[tuple[Any, ...]] = []  # (verb, arguments...) of each call that acted
        self.running: dict[str, int] = defaultdict(int)
        self.most_at_once = 0  # saves that ran at the same time
        self._gates: dict[str, deque[Gate]] = defaultdict(deque)
        self._faults: dict[str, deque[_Fault]] = defaultdict(deque)

    def __len__(self) -> int:
        return len(self.inner)

    def count(self, verb: str) -> int:
        """How many calls of a verb acted."""
        return self.calls.count(verb)

    def hold(self, verb: str, *, after: bool = False) -> Gate:
        """Stop the next call of a verb before it acts, or after."""
        gate = Gate(after=after)
        self._gates[verb].append(gate)
        return gate

    def fail(self, verb: str, fault: str = "raise", *, times: int = 1, after: int = 0, seconds: float = 0.0) -> None:
        """Let the next ``times`` calls of a verb fail, when ``after`` more of them have gone well.

        :param fault: ``"raise"`` does nothing and raises ``InjectedError``; ``"hang"`` never returns; ``"lose"`` acts,
            then raises, as if the answer were lost; ``"slow"`` acts ``seconds`` later.
        :raises ValueError: there is no such fault.
        """
        if fault not in FAULTS:
            raise ValueError(f"{fault!r} is none of {FAULTS}")
        self._faults[verb].extend([_Fault()] * after + [_Fault(fault, seconds)] * times)

    async def _run(self, verb: str, *args: Any) -> Any:
        self.running[verb] += 1
        self.most_at_once = max(self.most_at_once, sum(self.running.values()) - self.running["load"])
        try:
            return await self._suspend(verb, *args)
        finally:
            self.running[verb] -= 1

    async def _suspend(self, verb: str, *args: Any) -> Any:
        gate = self._gates[verb].popleft() if self._gates[verb] else None
        fault = self._faults[verb].popleft() if self._faults[verb] else _Fault()
        if gate is not None and not gate.after:
            await gate.passing()
        await asyncio.sleep(fault.seconds)
        if fault.kind in ("raise", "hang"):
            self.calls.append(f"{verb}!")
            if fault.kind == "raise":
                raise InjectedError("no connection")
            await asyncio.Event().wait()
        result = await self._act(verb, *args)
        if isinstance(result, Record):
            result = _copy(result)  # at once: another verb may change the record while this one suspends
        if gate is not None and gate.after:
            await gate.passing()
        await asyncio.sleep(0)
        if fault.kind == "lose":
            raise InjectedError("the answer was lost")
        return result

    async def _act(self, verb: str, *args: Any) -> Any:
        self.calls.append(verb)
        self.arguments.append((verb, *args))
        return await getattr(self.inner, verb)(*args)

    async def open(self) -> None:
        await self._run("open")

    async def close(self) -> None:
        await self._run("close")

    async def load(self, record_id: bytes) -> Record | None:
        return await self._run("load", record_id)  # type: ignore[no-any-return]

    async def create(self, record_id: bytes, record: Record) -> bool:
        return await self._run("create", record_id, record)  # type: ignore[no-any-return]

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        return await self._run("update", record_id, verifier, change)  # type: ignore[no-any-return]

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return await self._run("touch", record_id, verifier, accessed_at)  # type: ignore[no-any-return]

    async def delete(self, record_id: bytes) -> bool:
        return await self._run("delete", record_id)  # type: ignore[no-any-return]

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        arguments = record_id, verifier, new_verifier, not_after, change
        return await self._run("regenerate", *arguments)  # type: ignore[no-any-return]

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        return await self._run("lock", record_id, verifier, owner, seconds)  # type: ignore[no-any-return]

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return await self._run("unlock", record_id, owner)  # type: ignore[no-any-return]

    async def purge(self) -> int:
        return await self._run("purge")  # type: ignore[no-any-return]


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
    copy.verifier_before = record.verifier_before
    return copy
