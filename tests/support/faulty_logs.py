"""A store's conversations that fail on purpose and stop where told, as another process would reach them.

Rules of residence: the verbs of ``LogStore`` and faults. What the faults are for is the tests'.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from fastersession.testing.faults import Gate, InjectedError


class FaultyLogs:
    """The verbs of a store's ``logs``: each suspends, and fails as told."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.arguments: list[tuple[Any, ...]] = []
        self.is_away = False
        self._faults: dict[str, deque[str]] = defaultdict(deque)
        self._gates: dict[str, deque[Gate]] = defaultdict(deque)

    def fail(self, verb: str, fault: str = "raise", *, times: int = 1, after: int = 0) -> None:
        """Let the next calls of a verb fail: "raise" does nothing, "lose" acts and loses the reply."""
        self._faults[verb].extend([""] * after + [fault] * times)

    def clear(self) -> None:
        """Forget the faults that have not come about."""
        self._faults.clear()

    def hold(self, verb: str, *, after: bool = False) -> Gate:
        """Stop the next call of a verb before it acts, or after."""
        gate = Gate(after=after)
        self._gates[verb].append(gate)
        return gate

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        inner = getattr(self.inner, verb)

        async def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(verb)
            self.arguments.append((verb, *arguments))
            gate = self._gates[verb].popleft() if self._gates[verb] else None
            fault = self._faults[verb].popleft() if self._faults[verb] else ""
            if gate is not None and not gate.after:
                await gate.passing()
            await asyncio.sleep(0)
            if self.is_away or fault == "raise":
                raise InjectedError("no connection")
            result = await inner(*arguments, **named)
            if gate is not None and gate.after:
                await gate.passing()
            await asyncio.sleep(0)
            if fault == "lose":
                raise InjectedError("the reply was lost")
            return result

        return call
