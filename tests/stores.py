"""The public kit's faulty store under the names of our own tests, and the live twin of it.

Rules of residence: stores that misbehave or tell what was asked of them; what they can do is in testing/faults.py.
"""

from __future__ import annotations

import sys
from typing import Any

from fastersession.testing import FaultyStore, Gate

__all__ = ["BreakableStore", "Gate", "SpyStore", "SuspendingStore", "shorten"]

SuspendingStore = FaultyStore


class SpyStore(FaultyStore):
    """Forwards to a MemoryStore at once, notes each verb, and never fails."""

    live = True

    async def _run(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        return await self._act(verb, *args, **kwargs)


class BreakableStore(SpyStore):
    """A store in this process whose next updates fail as told."""

    failing = 0

    def fail(self, verb: str, *, times: int = 1) -> None:
        self.failing = times

    async def update(self, *args: Any) -> bool:
        if self.failing:
            self.failing -= 1
            raise OSError("no")
        return await super().update(*args)


def shorten(monkeypatch: Any, **constants: Any) -> None:
    """Set constants of the package wherever they stand, so that a bound is reached at once."""
    for name, value in constants.items():
        holders = [m for key, m in sys.modules.items() if key.startswith("fastersession") and name in vars(m)]
        assert holders, f"no module has {name}"
        for module in holders:
            monkeypatch.setattr(module, name, value)
