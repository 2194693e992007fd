"""The entrance to the conversations of one middleware.

Rules of residence: from an owner to what he has. Imported when somebody asks for the first conversation.
"""

from __future__ import annotations

from typing import Any

from ..stores.logs import Listed, Log
from .conversation import Conversation
from .keeper import Keeper
from .of import MOST_LISTED, ConversationsOf
from .owner import OfSession, OfUser, user_of
from .said import Said


class AllConversations:
    """What a middleware has of conversations."""

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def of_session(self, session: Any, state: Any) -> ConversationsOf:
        """Return the conversations of a session."""
        return ConversationsOf(OfSession(self.keeper, session, state))

    def of_user(self, user: object, request: Any = None) -> ConversationsOf:
        """Return the conversations of a user.

        :raises TypeError: it is none.
        """
        return ConversationsOf(OfUser(self.keeper, user_of(user), request))

    async def page(self, after: bytes | None, count: int) -> tuple[list[Conversation], bytes | None]:
        """Return conversations of users, anybody's, about ``count``, and where to go on; there ``None`` is the end.

        :raises StoreError: the store failed.
        """
        found, more = await self.keeper.call("page", after, count)
        shown = map(self.shown, found)
        return [one for one in shown if one is not None], more

    def shown(self, listed: Listed) -> Conversation | None:
        """Return what the store has listed; ``None`` for what cannot be read, or is no user's."""
        said = Said.read(self.keeper.values, Log(listed.place, listed.log), listed.about)
        return None if said is None or said.user is None else self.of_user(said.user).shown(listed)

    async def stop_all(self, user: str) -> None:
        """Stop the runs of a user, wherever they run.

        :raises StoreError: the store failed.
        """
        for conversation in await self.of_user(user).list(MOST_LISTED):
            if conversation.is_running:
                await conversation.stop()
