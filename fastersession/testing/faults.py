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

from ..stores.base import LiveStore, Record
from ..stores.memory import MemoryStore

FAULTS = ("raise", "hang", "lose", "slow")
VERBS = (
    "open", "close", "load", "create", "update", "touch", "delete", "regenerate", "lock", "unlock", "purge", "login",
    "retire", "find", "revoke", "ended", "take", "due", "settle", "page",
)  # fmt: skip


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


def _verb(name: str) -> Any:
    async def verb(self: FaultyStore, *arguments: Any) -> Any:
        return await self._run(name, *arguments)

    verb.__name__, verb.__qualname__ = name, f"FaultyStore.{name}"
    return verb


class FaultyStore:
    """A store as one across a network: each verb suspends, records are handed out as copies, and it fails as told.

    It has no ``live``, so attributes reach it encoded and sealed, even over a ``MemoryStore``.

    :param inner: the store that does the work; ``None`` takes a ``MemoryStore`` made with ``options``.
    """

    live: LiveStore | None = None
    open, close, load, create, update, touch, delete, regenerate, lock, unlock, purge = map(_verb, VERBS[:11])
    login, retire, find, revoke, ended, take, due, settle, page = map(_verb, VERBS[11:])

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


def _copy(record: Record) -> Record:
    times = record.created_at, record.idle_timeout, record.not_after
    copy = Record(record.verifier, *times, dict(record.attributes), record.extra)
    copy.accessed_at, copy.regenerated_at, copy.version = record.accessed_at, record.regenerated_at, record.version
    copy.verifier_before = record.verifier_before
    return copy
