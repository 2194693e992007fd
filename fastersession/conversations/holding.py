"""A run of a session's conversation holds the session, as a request does.

Rules of residence: what is held of a session, and for how long. When a run begins and ends is ``own``'s.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..engine.plan import TOUCH_FRACTION
from ..engine.running import Running
from ..state import State


class Holding:
    """Keeps a session: a bounded store does not evict it, and its idle timeout does not end it. ``not_after`` does.

    :param state: of the request that has begun the run, which may have ended.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._runs: Running = state.host.runs
        self._record = state.record
        if self._record is not None:
            self._record.requests += 1
            if not self._runs.live:
                self._runs.repeats.add(self, self.pause())

    def let_go(self) -> None:
        """Keep it no longer."""
        if self._record is not None:
            self._record.requests -= 1
            self._runs.repeats.remove(self)
            self._record = None

    def pause(self) -> float:
        """Return the seconds between two touches."""
        return self._state.idle_seconds() * TOUCH_FRACTION

    def again(self) -> Coroutine[Any, Any, None]:
        """Touch the session."""
        return self._runs.saves.saver.touch(self._state)
