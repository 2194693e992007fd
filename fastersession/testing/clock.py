"""A clock for tests, which only ``advance`` moves.

Rules of residence: clocks only; no waiting, no event loop.
"""

from __future__ import annotations

from datetime import UTC, datetime


class FakeClock:
    """A clock that stands still until ``advance``. Give it to a store: ``MemoryStore(clock=clock)``.

    :param now: its first time, in seconds since the epoch.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward. Timers of an event loop do not notice."""
        self.now += seconds

    @property
    def datetime(self) -> datetime:
        """The time as an aware UTC ``datetime``."""
        return datetime.fromtimestamp(self.now, UTC)
