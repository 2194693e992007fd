"""A conversation as the application has it.

Rules of residence: composition of its two halves, and what a list has told of it.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from struct import Struct
from typing import Any

from ..stores.logs import Listed
from .handle import Handle
from .history import History
from .said import Said
from .turns import Turns

TIME = Struct(">d")


class Conversation(History, Turns):
    """One conversation: ``session.conversations["main"]``. To name it asks nothing of the store, and makes nothing.

    It may be kept, and used by several tasks; a session's works as long as the session lives.

    :ivar user: whose it is; ``None`` for a session's, and if it was not listed.
    :ivar title: as the list has shown it; ``None`` if it has none, or was not listed.
    :ivar metadata: the same.
    :ivar updated_at: of the last entry, run or title, in UTC; ``None`` if it was not listed.
    :ivar created_at: the same.
    :ivar is_running: whether a run was running when it was listed.
    """

    def __init__(self, handle: Handle, listed: Listed | None = None, said: Said | None = None) -> None:
        self._handle = handle
        self._listed = listed
        self.user = None if said is None else said.user
        self.title = None if said is None else said.title
        self.metadata: dict[str, Any] = {} if said is None else dict(said.metadata)
        self.created_at = None if listed is None else datetime.fromtimestamp(listed.created_at, UTC)
        self.updated_at = None if listed is None else datetime.fromtimestamp(listed.updated_at, UTC)
        self.is_running = listed is not None and listed.is_running
        if listed is not None:
            handle.seen = listed.log

    @property
    def cursor(self) -> str | None:
        """Where the next page of the list begins; ``None`` if it was not listed."""
        listed = self._listed
        if listed is None:
            return None
        return urlsafe_b64encode(TIME.pack(listed.updated_at) + listed.place.conversation).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"<Conversation {self._handle.name!r}>"


def page_of(cursor: object) -> tuple[float, bytes] | None:
    """Return what a cursor says; ``None`` for anything that is none, for they come from clients, too."""
    if not isinstance(cursor, str) or len(cursor) != 32:
        return None
    try:
        raw = urlsafe_b64decode(cursor)
        return TIME.unpack(raw[:8])[0], raw[8:]
    except (binascii.Error, ValueError):
        return None
