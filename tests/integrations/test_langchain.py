"""A conversation as LangChain's history of messages, by its real classes."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
from accounts import BytesStore
from driver import in_loop
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from fastersession import AttributeNotSerializable, Conversations, MemoryStore
from fastersession.integrations.langchain import ConversationHistory

SECRET = "a secret of the tests of adapters, and of nothing else"
STORES = {"live": MemoryStore, "bytes": BytesStore}


@pytest.fixture(params=STORES)
def conversations(request: Any) -> Conversations:
    """Give conversations over each kind of store."""
    return Conversations(STORES[request.param](), SECRET)


TURN: list[BaseMessage] = [
    SystemMessage("be brief"),
    HumanMessage([{"type": "text", "text": "what is the weather?"}], name="ada"),
    AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Bern", "n": [1, 2.5, None]}, "id": "c1"}]),
    ToolMessage("rain", tool_call_id="c1", status="error", artifact={"on": date(2026, 1, 2)}),
    AIMessage("rain", id="m1", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),
]


@in_loop
async def test_messages_come_back_as_they_were(conversations: Conversations) -> None:
    """Each with its class and all that it has, in order; another user has none."""
    history = ConversationHistory(conversations.of_user("ada")["42"])
    assert await history.aget_messages() == []
    await history.aadd_messages([])
    assert await conversations.of_user("ada").list() == []
    await history.aadd_messages(TURN[:2])
    await history.aadd_messages(TURN[2:])
    found = await ConversationHistory(conversations.of_user("ada")["42"]).aget_messages()
    assert found == TURN
    assert [type(message) for message in found] == [type(message) for message in TURN]
    assert await ConversationHistory(conversations.of_user("eve")["42"]).aget_messages() == []


@in_loop
async def test_turns_of_many_tabs_stay_whole(conversations: Conversations) -> None:
    """What was added in one call stands together."""

    async def turn(number: int) -> None:
        history = ConversationHistory(conversations.of_user("ada")["42"])
        await history.aadd_messages([HumanMessage(f"{number}"), AIMessage(f"{number}")])

    await asyncio.gather(*map(turn, range(20)))
    found = await ConversationHistory(conversations.of_user("ada")["42"]).aget_messages()
    kinds = [
        (one.type, other.type, one.content == other.content) for one, other in zip(found[::2], found[1::2], strict=True)
    ]
    assert kinds == [("human", "ai", True)] * 20
    assert len({message.content for message in found}) == 20


@in_loop
async def test_cleared_is_gone_and_goes_on(conversations: Conversations) -> None:
    """The same object goes on."""
    history = ConversationHistory(conversations.of_user("ada")["42"])
    await history.aadd_messages(TURN)
    await history.aclear()
    assert await history.aget_messages() == []
    await history.aadd_messages(TURN[:1])
    assert await history.aget_messages() == TURN[:1]


@in_loop
async def test_a_message_that_cannot_be_kept_leaves_nothing_of_its_call() -> None:
    """All of them or none."""
    history = ConversationHistory(Conversations(BytesStore(), SECRET).of_user("ada")["42"])
    with pytest.raises(AttributeNotSerializable):
        await history.aadd_messages([HumanMessage("a"), ToolMessage("b", tool_call_id="c", artifact=object())])
    assert await history.aget_messages() == []


def test_the_synchronous_methods_say_what_to_do(conversations: Conversations) -> None:
    """Also those that LangChain has made of them; what is shown of one asks no store."""
    history = ConversationHistory(conversations.of_user("ada")["42"])
    calls: list[Any] = [
        lambda: history.messages,
        lambda: history.add_messages(TURN),
        lambda: history.add_user_message("a"),
        lambda: history.add_ai_message("a"),
        history.clear,
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="aget_messages"):
            call()
    assert str(history) == repr(history) == "<ConversationHistory '42'>"
