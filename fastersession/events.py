"""Events as log records.

Rules of residence: one logger and the limits on it. Callers give no token, secret, key or attribute value.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

__all__ = ["EventLog"]

HOSTILE_A_MINUTE = 10  # enough to see that something goes on, too few to fill a disk


class EventLog:
    """Turns events into log records with ``extra={"event": …, "session_id": …}``."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._once: set[str] = set()
        self._minute = -1.0
        self._count = 0

    def emit(self, level: int, event: str, record_id: bytes | None, text: str, *args: object) -> None:
        """Log one event. ``record_id`` becomes the public ``session_id`` of the log record."""
        session_id = None if record_id is None else record_id.hex()
        self._logger.log(level, text, *args, extra={"event": event, "session_id": session_id})

    def once(self, event: str, text: str, *args: object) -> None:
        """Warn of something that is worth one line in the life of the middleware."""
        if event not in self._once:
            self._once.add(event)
            self.emit(logging.WARNING, event, None, text, *args)

    def hostile(self, event: str, text: str) -> None:
        """Log what anybody on the network can cause: DEBUG, a few a minute."""
        if not self._logger.isEnabledFor(logging.DEBUG):
            return
        minute = self._clock() // 60
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        if self._count <= HOSTILE_A_MINUTE:
            self.emit(logging.DEBUG, event, None, text)
