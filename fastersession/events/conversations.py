"""What is told of conversations.

Rules of residence: as for all events, see ``base``.
"""

from __future__ import annotations

from logging import WARNING

from .base import Event


class EntryUnreadable(Event, name="entry.unreadable", level=WARNING):
    """An entry of a conversation was not sealed by a key of ours for this place, or the codec cannot read it."""

    text = "entry %(position)s of a conversation cannot be read: of a key that was dropped, or not ours; it is left out"
    position: str = ""
