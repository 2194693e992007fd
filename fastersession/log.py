"""The log: the first listener of events.

Rules of residence: one logger, and how often it is told what.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from .events import Event

HOSTILE_A_MINUTE = 10  # enough to see that something goes on, too few to fill a disk


class EventLog:
    """Tells events to the log, as records with ``extra={"event": …, "session_id": …}``, within the events' limits.

    ``session_id`` is the public id, 32 hexadecimal digits, or ``None``.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._told: set[str] = set()  # of what is told once
        self._listener: Callable[[Event], None] | None = None
        self._minute: float | None = None
        self._heard: dict[int, int] = {}  # by level: how much hostile networks have caused in that minute

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Give events to a function, too, within the same limits. Whether anybody logs them does not matter to it."""
        self._listener = listener

    def tell(self, event: Event, error: BaseException | None = None) -> None:
        """Tell one event. Safe in any thread, as logging is.

        :param error: whose traceback the log gets, too.
        """
        if event.hostile and not (
            (self._listener or self._logger.isEnabledFor(event.level)) and self._is_heard(event.level)
        ):
            return
        if event.once:
            if event.name in self._told:
                return
            self._told.add(event.name)
        if self._listener is not None:
            self._listener(event)
        session_id = None if event.record_id is None else event.record_id.hex()
        extra = {"event": event.name, "session_id": session_id}
        self._logger.log(event.level, event.text, asdict(event), extra=extra, exc_info=error)

    def tell_seldom(self, event: Event) -> None:
        """Tell an event that hostile networks can cause, at its own level, within their limit."""
        if self._is_heard(event.level):
            self.tell(event)

    def _is_heard(self, level: int) -> bool:
        """Return whether one more event of hostile networks is told in this minute: junk must not drown a warning."""
        minute = self._clock() // 60
        if minute != self._minute:
            self._minute = minute
            self._heard.clear()
        self._heard[level] = self._heard.get(level, 0) + 1
        return self._heard[level] <= HOSTILE_A_MINUTE
