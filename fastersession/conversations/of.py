"""The conversations of one owner: what ``session.conversations`` and ``session.conversations_of(user)`` are.

Rules of residence: naming, listing and taking over. What is done with one is its own.
"""

from __future__ import annotations

import secrets

from ..errors import CodecError
from ..stores.logs import Listed, Log
from .conversation import Conversation, page_of
from .handle import Handle
from .keeper import Keeper
from .owner import OfSession, OfUser, name_of
from .said import Said

MOST_LISTED = 1000


class ConversationsOf:
    """The conversations of a session, or of a user, by name."""

    def __init__(self, owner: OfUser | OfSession) -> None:
        self._owner = owner
        self._keeper: Keeper = owner.keeper

    def __getitem__(self, name: str) -> Conversation:
        """Return the conversation of a name, be it there or not: nothing is asked of the store.

        :raises TypeError: the name is no ``str``.
        :raises ValueError: it has not 1 to 255 characters.
        """
        return Conversation(Handle(self._owner, name_of(name)))

    def new(self) -> Conversation:
        """Return a conversation under a name that nobody has: 22 random characters."""
        return self[secrets.token_urlsafe(16)]

    async def list(self, limit: int = 20, before: Conversation | str | None = None) -> list[Conversation]:
        """Return the conversations that are there, the last updated first, at most a thousand.

        :param before: the last one of the page before, or its ``cursor``; what is none: the first page.
        :raises StoreError: the store failed.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST_LISTED:
            raise ValueError(f"list(): limit must be a whole number from 1 to {MOST_LISTED}")
        at = page_of(before.cursor if isinstance(before, Conversation) else before)
        found: list[Listed] = []
        for owner in self._owner.owners:
            found += await self._keeper.call("owned", owner, limit, at)
        found.sort(key=lambda one: (one.updated_at, one.place.conversation), reverse=True)
        shown = (self.shown(one) for one in found[:limit])
        return [one for one in shown if one is not None]

    def shown(self, listed: Listed) -> Conversation | None:
        """Return what the store has listed as lists show it; ``None`` for what is unreadable, or leads elsewhere."""
        said = Said.read(self._keeper.values, Log(listed.place, listed.log), listed.about)
        if said is None or said.user != self._owner.user:
            return None
        handle = Handle(self._owner, said.name)
        if listed.place.conversation not in [place.conversation for place in handle.places]:
            return None
        return Conversation(handle, listed, said)

    async def adopt(self, conversation: Conversation, name: str | None = None) -> Conversation:
        """Take over a conversation, say that of the session after a login: its entries go behind what is there.

        Then the old one is deleted. After a failure in between it may be called again: nothing is there twice.

        :param name: under which it is taken over; ``None``: its own.
        :returns: the conversation here.
        :raises Busy: a run of the old one runs.
        :raises CodecError: something of the old one cannot be read: nothing was taken over.
        :raises Gone: one of the two was deleted meanwhile.
        :raises StoreError: the store failed: call it again.
        """
        mine = self[conversation.name if name is None else name]
        if not await conversation.hand_over(mine):
            raise CodecError("adopt(): an entry of this conversation cannot be read, so it stays where it is")
        return mine
