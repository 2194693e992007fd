"""A conversation as LangChain's history of messages.

Rules of residence: LangChain's ``BaseChatMessageHistory`` over a conversation, nothing else.

    history = ConversationHistory(request.session.conversations_of(user.id)["42"])
    await history.aadd_messages([HumanMessage(question), answer])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from ._items import Items

if TYPE_CHECKING:
    from .. import Conversation

ADVICE = "a ConversationHistory is asynchronous: call aget_messages(), aadd_messages(), aclear(), or chain.ainvoke()"


class ConversationHistory(BaseChatMessageHistory):
    """Messages in a conversation that the application keeps for nothing else. It has the asynchronous methods only."""

    def __init__(self, conversation: Conversation) -> None:
        self._name = conversation.name
        self._items = Items(conversation)

    async def aget_messages(self) -> list[BaseMessage]:
        """Return all messages, the oldest first.

        :raises StoreError: the store failed.
        """
        return messages_from_dict(await self._items.last())

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages: all of them, also if the caller is cancelled meanwhile, or none.

        :raises AttributeNotSerializable: the codec does not keep them, or they have more than 1 MiB.
        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        await self._items.add([message_to_dict(message) for message in messages])

    async def aclear(self) -> None:
        """Remove all messages, for good.

        :raises Gone: the conversation was deleted, or its session has ended.
        :raises StoreError: the store failed.
        """
        await self._items.clear()

    @property
    def messages(self) -> NoReturn:  # type: ignore[override]
        """Raise: reading them is asynchronous."""
        raise NotImplementedError(ADVICE)

    def add_messages(self, messages: Sequence[BaseMessage]) -> NoReturn:
        """Raise: adding them is asynchronous."""
        raise NotImplementedError(ADVICE)

    def clear(self) -> NoReturn:
        """Raise: removing them is asynchronous."""
        raise NotImplementedError(ADVICE)

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        return f"<ConversationHistory {self._name!r}>"
