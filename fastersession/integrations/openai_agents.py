"""A conversation as the session of the OpenAI Agents SDK.

Rules of residence: the SDK's protocol ``agents.memory.Session`` over a conversation. The SDK is not imported.

    memory = ConversationSession(request.session.conversations_of(user.id)["42"])
    result = await Runner.run(agent, question, session=memory)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._items import Items

if TYPE_CHECKING:
    from .. import Conversation


class ConversationSession:
    """What an agent remembers, in a conversation that the application keeps for nothing else.

    Any number of runs may use one conversation at once, in any worker. A popped item is not returned any more; it is
    erased by ``clear_session()``, or with the conversation.

    :param session_settings: the SDK's ``SessionSettings``; its ``limit`` is how many items are read.
    :ivar session_id: the conversation's name.
    """

    def __init__(self, conversation: Conversation, session_settings: Any = None) -> None:
        self.session_id = conversation.name
        self.session_settings = session_settings
        self._items = Items(conversation)

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """Return the last items, the oldest first.

        :param limit: how many; ``None``: as many as the settings say, or all.
        :raises StoreError: the store failed.
        """
        return await self._items.last(getattr(self.session_settings, "limit", None) if limit is None else limit)

    async def add_items(self, items: list[Any]) -> None:
        """Add items: all of them, also if the caller is cancelled meanwhile, or none.

        :raises AttributeNotSerializable: the codec does not keep them, or they have more than 1 MiB.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        await self._items.add(items)

    async def pop_item(self) -> Any:
        """Take the last item away and return it; ``None`` if there is none. No two callers get the same.

        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        return await self._items.pop()

    async def clear_session(self) -> None:
        """Remove all items, for good.

        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        await self._items.clear()
