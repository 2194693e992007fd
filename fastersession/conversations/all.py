"""The entrance to the conversations of one middleware.

Rules of residence: from an owner to what he has. Imported when somebody asks for the first conversation.
"""

from __future__ import annotations

from typing import Any

from .keeper import Keeper
from .of import MOST_LISTED, ConversationsOf
from .owner import OfSession, OfUser, user_of


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

    async def stop_all(self, user: str) -> None:
        """Stop the runs of a user, wherever they run.

        :raises StoreError: the store failed.
        """
        for conversation in await self.of_user(user).list(MOST_LISTED):
            if conversation.is_running:
                await conversation.stop()
