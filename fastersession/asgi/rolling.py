"""Sessions that end some time after the last visit, not after the first: ``rolling=True``.

Rules of residence: which answers issue the cookie again. Moving the end, and what if that is refused, is the engine's.
"""

from __future__ import annotations

from collections.abc import Awaitable

from ..facts import NOT_STARTED, Status
from .exchange import Exchange
from .messages import Message


class RollingExchange(Exchange):
    """One request of a middleware whose sessions roll.

    A WebSocket does not: some servers drop the headers of its accept, and the page that opens it was a request.
    """

    __slots__ = ()

    def on_start(self, message: Message) -> Awaitable[None]:
        """Run the save point of the start; where the cookie has grown old enough, it moves the end, too."""
        if message["type"] == "http.response.start" and 200 <= message["status"] < 500 and self._rolls():
            self.wishes().rolling = True
        return super().on_start(message)

    def _rolls(self) -> bool:
        record = self.record  # read once: another thread may invalidate the session at any time
        if record is None or self.status is not Status.LIVE or self.secret is not None or self.phase != NOT_STARTED:
            return False
        return self.host.spans.rolls(record, self.host.now())
