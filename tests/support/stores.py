"""The public kit's faulty store under the names of our own tests, and the live twin of it.

Rules of residence: stores that misbehave or tell what was asked of them; what they can do is in testing/faults.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from fastersession.stores.base import LiveStore
from fastersession.testing import FaultyStore, Gate

__all__ = ["BreakableStore", "Gate", "LiveSpy", "SpyStore", "SuspendingStore", "shorten"]

SuspendingStore = FaultyStore


class LiveSpy:
    """A live store that tells `note` of each verb, and then does it. It never swaps, so that each save is an update."""

    def __init__(self, inner: LiveStore, note: Callable[..., None]) -> None:
        self.inner, self.note, self.record_type = inner, note, inner.record_type

    def swap(self, *_: Any) -> bool:
        return False

    def watch(self, watcher: Callable[..., None]) -> None:
        """Not told: it is no request's, but a new middleware's."""
        self.inner.watch(watcher)

    def __getattr__(self, verb: str) -> Any:
        act = getattr(self.inner, verb)

        def noted(*arguments: Any) -> Any:
            self.note(verb, *arguments)
            return act(*arguments)

        return noted


class SpyStore(FaultyStore):
    """A MemoryStore that notes each verb, of its live store too, and never fails."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.live: Any = LiveSpy(self.inner.live, self.note)

    def note(self, verb: str, *arguments: Any) -> None:
        self.calls.append(verb)
        self.arguments.append((verb, *arguments))

    async def _run(self, verb: str, *args: Any) -> Any:
        return await self._act(verb, *args)


class BreakableStore(SpyStore):
    """A store in this process whose next updates fail as told."""

    failing = 0

    def fail(self, verb: str, *, times: int = 1) -> None:
        self.failing = times

    def note(self, verb: str, *arguments: Any) -> None:
        if self.failing and verb == "update":
            self.failing -= 1
            raise OSError("no")
        super().note(verb, *arguments)


def shorten(monkeypatch: Any, **constants: Any) -> None:
    """Set constants of the package wherever they stand, so that a bound is reached at once."""
    for name, value in constants.items():
        holders = [m for key, m in sys.modules.items() if key.startswith("fastersession") and name in vars(m)]
        assert holders, f"no module has {name}"
        for module in holders:
            monkeypatch.setattr(module, name, value)
