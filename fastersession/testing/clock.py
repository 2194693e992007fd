"""Time as an argument: a clock that moves only when told.

Rules of residence: nothing but clocks; no waiting, no event loop.
"""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["FakeClock"]


class FakeClock:
    """Seconds since the epoch, standing still until ``advance``. Give it to a store: ``MemoryStore(clock=clock)``.

    :param now: where it begins, in seconds since the epoch.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass, at once. No timer of an event loop runs because of it."""
        self.now += seconds

    @property
    def datetime(self) -> datetime:
        """The time as an aware UTC ``datetime``."""
        return datetime.fromtimestamp(self.now, UTC)
