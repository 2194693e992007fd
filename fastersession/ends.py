"""The end of a session that others have brought about: what the application asks, and what its state knows.

Rules of residence: a part of ``Session`` and a part of ``State``. Who finds out that a session has ended is elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .pending import Ended


class OfEnd:
    """A part of ``State``: why the session has ended, as far as this process knows."""

    __slots__ = ()

    def end_reason(self: Any) -> str | None:
        """Return the reason, ``None`` as long as there is none."""
        reason: str | None = self.rare.end_reason
        return reason

    def has_ended(self: Any, reason: str) -> None:
        """Note that the session has ended. The first reason counts."""
        if self.end_reason() is None:
            self.rarely().end_reason = reason


class Ending:
    """A part of ``Session``: its end."""

    __slots__ = ()

    @property
    def ended(self: Any) -> Ended:
        """Await it to learn that the session has ended, and why.

        ``"invalidated"`` (a logout), ``"expired"``, ``"evicted"`` (too many sessions of the user), ``"revoked"``,
        ``"replaced"`` (another user logged in), ``"ended"`` (elsewhere, and nobody knows why), or ``"outage"`` (only
        with ``end_on_outage``: the store cannot be asked). At once where this process has ended it, else within two
        seconds: while somebody awaits this, the store is asked once a second.

        It speaks of the session as it is when this is awaited, and may be awaited after the request has ended. A
        session that has no record cannot end; where none comes, its end is that of the request (``"ended"``).

        :raises ConfigError: (awaited) the store cannot be asked, or the code runs on trio.
        """
        state = self._state
        return Ended(partial(state.host.runs.watch.wait, state))

    @property
    def end_reason(self: Any) -> str | None:
        """Why the session has ended, as ``ended`` says it; ``None`` as long as this process does not know of an end.

        Of an end elsewhere it knows if ``ended`` is awaited, or ``close_on_end`` is set and an answer streams.
        """
        reason: str | None = self._state.end_reason()
        return reason
