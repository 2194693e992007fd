"""What is told of stores.

Rules of residence: as for all events, see ``base``.
"""

from __future__ import annotations

from logging import ERROR, WARNING

from ..stores.base import AHEAD_TEXT
from .base import Event, Once


class StoreNotShared(Once, name="store.not_shared"):
    """A genuine cookie leads nowhere, and a MemoryStore is used as if it were shared."""

    text = (
        "a genuine session cookie leads to no session here, and this process is one of several, or another middleware "
        "of it has a MemoryStore of its own: a MemoryStore is not shared; use one worker, and give one store to all "
        "middlewares (a restart or an expired session shows the same way)"
    )


class RecordsUnreadable(Once, name="store.unreadable"):
    """The first record that cannot be opened."""

    text = (
        "a session of the store cannot be opened: was it sealed under a secret_key or a codec that is not configured "
        "any more? Such sessions end; their records are kept"
    )


class RecordUnreadable(Event, name="session.unreadable", level=WARNING):
    """A record that cannot be opened."""

    text = "a record cannot be opened: %(why)s"
    why: str = ""


class ClockAhead(Once, name="clock.ahead"):
    """A record was used in the future."""

    text = AHEAD_TEXT


class RequestRefused(Event, name="store.unavailable", level=ERROR):
    """A request got a 503, for the store failed before its answer began."""

    text = "%(what)s: %(error)s"
    what: str = ""
    error: str = ""


class TouchFailed(Event, name="store.touch_failed", level=WARNING):
    """The last access could not be recorded."""

    text = "a session was not touched"


class StoreNotClosed(Event, name="store.close_failed", level=WARNING):
    """Closing the store failed."""

    text = "the store was not closed: %(error)s"
    error: str = ""


class WatchFailed(Event, name="watch.failed", level=ERROR):
    """For a while nobody could say which sessions have ended; told once until the store answers again."""

    text = "for %(seconds)s s the store could not be asked which sessions have ended: %(outcome)s; %(error)s"
    seconds: int = 0
    outcome: str = ""
    error: str = ""
