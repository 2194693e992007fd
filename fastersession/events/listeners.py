"""What is told of listeners.

Rules of residence: as for all events, see ``base``.
"""

from __future__ import annotations

from logging import ERROR, WARNING

from .base import Event, Once


class ListenerFailed(Event, name="listener.failed", level=ERROR):
    """A listener has raised, or did not finish in time."""

    text = "%(listener)s.%(method)s has failed: %(error)s"
    listener: str = ""
    method: str = ""
    error: str = ""


class ListenersOverrun(Once, name="listener.overrun", level=ERROR):
    """Listeners are slower than what they are told of."""

    text = "more than a thousand events wait for the listeners: what happens meanwhile is not told to them"


class SweepFailed(Event, name="listener.sweep_failed", level=WARNING):
    """The store could not be asked for ended sessions."""

    text = "listeners are not told of ended sessions until the store can be asked again: %(error)s"
    error: str = ""
