"""A conversation as the session of the OpenAI Agents SDK, by its real Runner; and what failed in sessions of others.

``#1900`` and the like are issues of openai-agents-python.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from accounts import BytesStore
from agents import Agent, Runner, SessionSettings, set_tracing_disabled
from agents.memory import Session
from driver import in_loop
from echo import Echo

from fastersession import Conversation, Conversations, MemoryStore
from fastersession.integrations.openai_agents import ConversationSession

SECRET = "a secret of the tests of adapters, and of nothing else"
STORES = {"live": MemoryStore, "bytes": BytesStore}


@pytest.fixture(params=STORES)
def conversations(request: Any) -> Conversations:
    """Give conversations over each kind of store."""
    return Conversations(STORES[request.param](), SECRET)


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def texts(items: list[Any]) -> list[str]:
    return [item["content"] for item in items]


@in_loop
async def test_an_agent_remembers(conversations: Conversations) -> None:
    """The second turn is given the first, also by another object, as in another worker; another user's is not."""
    set_tracing_disabled(True)
    agent = Agent(name="echo", model=Echo())
    answers = []
    for user, question in (("ada", "one"), ("ada", "two"), ("eve", "three")):
        memory = ConversationSession(conversations.of_user(user)["42"])
        answers.append((await Runner.run(agent, question, session=memory)).final_output)
    assert answers == ["1: one", "3: two", "1: three"]
    memory = ConversationSession(conversations.of_user("ada")["42"], SessionSettings(limit=1))
    assert (await Runner.run(agent, "four", session=memory)).final_output == "2: four"


def test_it_is_a_session(conversations: Conversations) -> None:
    """By the SDK's own protocol; the name of the conversation is its id."""
    memory = ConversationSession(conversations.of_user("ada")["42"])
    assert isinstance(memory, Session)
    assert (memory.session_id, memory.session_settings) == ("42", None)


@in_loop
async def test_the_last_items(conversations: Conversations) -> None:
    """In order, as many as are asked for, over the borders of what was added in one call."""
    memory = ConversationSession(conversations.of_user("ada")["42"])
    assert await memory.get_items() == []
    await memory.add_items([])
    assert await conversations.of_user("ada").list() == []  # nothing was made
    await memory.add_items(said("a", "b", "c"))
    await memory.add_items(said("d"))
    for limit, expected in ((None, "abcd"), (9, "abcd"), (3, "bcd"), (1, "d"), (0, ""), (-1, "")):
        assert "".join(texts(await memory.get_items(limit))) == expected
    memory.session_settings = SessionSettings(limit=2)
    assert texts(await memory.get_items()) == ["c", "d"]
    assert texts(await memory.get_items(3)) == ["b", "c", "d"]


@in_loop
async def test_what_the_application_appended_is_an_item(conversations: Conversations) -> None:
    """A question that came with the start of a run, say."""
    chat = conversations.of_user("ada")["42"]
    await chat.append({"role": "user", "content": "a"})
    memory = ConversationSession(chat)
    await memory.add_items(said("b"))
    assert [texts([await memory.pop_item()]) for _ in range(2)] == [["b"], ["a"]]


@in_loop
async def test_what_is_changed_afterwards_is_not_changed_in_it(conversations: Conversations) -> None:
    """A list that was added, and one that was returned, are the caller's."""
    memory = ConversationSession(conversations.of_user("ada")["42"])
    items: list[Any] = [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]
    await memory.add_items(items)
    items[0]["content"][0]["text"] = "changed"
    items.clear()
    found = await memory.get_items()
    found[0]["content"][0]["text"] = "changed"
    assert (await memory.get_items())[0]["content"][0]["text"] == "a"
    (await memory.get_items())[0].clear()
    assert (await memory.pop_item())["content"][0]["text"] == "a"


@in_loop
async def test_1900_items_come_in_the_order_in_which_they_were_added(conversations: Conversations) -> None:
    """A message without the reasoning before it is refused by the API: time decides nothing, the place does."""
    memory = ConversationSession(conversations.of_user("ada")["42"])
    expected = []
    for number in range(120):  # more entries than one page
        pair = [{"type": "reasoning", "content": f"r{number}"}, {"type": "message", "content": f"m{number}"}]
        await memory.add_items(pair)
        expected += texts(pair)
    assert texts(await memory.get_items()) == expected
    assert texts(await memory.get_items(203)) == expected[-203:]


@in_loop
async def test_2722_first_writes_at_once_are_all_there(conversations: Conversations) -> None:
    """Twenty-five tasks write to a fresh conversation, by objects of their own."""

    async def add(number: int) -> None:
        await ConversationSession(conversations.of_user("ada")["race"]).add_items(said(f"{number}a", f"{number}b"))

    await asyncio.gather(*map(add, range(25)))
    found = texts(await ConversationSession(conversations.of_user("ada")["race"]).get_items())
    assert sorted(found) == sorted(f"{number}{which}" for number in range(25) for which in "ab")
    assert all(found[at][:-1] == found[at + 1][:-1] for at in range(0, 50, 2))  # none came between two of one call


@in_loop
async def test_4205_no_two_pops_get_the_same(conversations: Conversations) -> None:
    """Forty at once take forty items, each once, while others add; the next gets none."""

    def memory() -> ConversationSession:
        return ConversationSession(conversations.of_user("ada")["42"])

    for first in range(0, 40, 4):
        await memory().add_items(said(*map(str, range(first, first + 4))))
    more = [memory().add_items(said(f"{number}")) for number in range(40, 50)]
    popped, _ = await asyncio.gather(asyncio.gather(*(memory().pop_item() for _ in range(40))), asyncio.gather(*more))
    left = await memory().get_items()
    assert sorted(texts([*popped, *left]), key=int) == [str(number) for number in range(50)]
    assert len(texts(left)) == 10
    for _ in range(10):
        assert await memory().pop_item() in left
    assert (await memory().pop_item(), await memory().get_items()) == (None, [])


class Held:
    """A conversation whose appends wait until they may."""

    def __init__(self, chat: Conversation) -> None:
        self.name = chat.name
        self.tail = chat.tail
        self.truncate = chat.truncate
        self.free = asyncio.Event()
        self.waits = asyncio.Event()
        self._chat = chat

    async def append(self, value: Any) -> Any:
        self.waits.set()
        await self.free.wait()
        return await self._chat.append(value)


@pytest.mark.parametrize("cancels", [1, 2, 3])
@in_loop
async def test_1658_a_cancelled_caller_leaves_no_half_turn(conversations: Conversations, cancels: int) -> None:
    """However often it is cancelled: the items are there when it ends, all of them."""
    chat = conversations.of_user("ada")["42"]
    held: Any = Held(chat)
    adding = asyncio.create_task(ConversationSession(held).add_items(said("a", "b", "c")))
    await held.waits.wait()
    for _ in range(cancels):
        adding.cancel()
        await asyncio.sleep(0)
    assert not adding.done()
    held.free.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert texts(await ConversationSession(chat).get_items()) == ["a", "b", "c"]


@in_loop
async def test_a_cancelled_add_that_fails_says_so_to_nobody(conversations: Conversations) -> None:
    """The caller asked to be cancelled, and is; an error that nobody can get is not complained of."""
    held: Any = Held(conversations.of_user("ada")["42"])
    adding = asyncio.create_task(ConversationSession(held).add_items([object()]))
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    await held.waits.wait()
    adding.cancel()
    held.free.set()
    with pytest.raises(asyncio.CancelledError):
        await adding
    del adding
    await asyncio.sleep(0)
    assert complaints == []


@in_loop
async def test_cleared_is_gone_and_goes_on(conversations: Conversations) -> None:
    """What was there is erased, and the same object goes on; what is popped is hidden."""
    chat = conversations.of_user("ada")["42"]
    memory = ConversationSession(chat)
    await memory.clear_session()
    assert await conversations.of_user("ada").list() == []  # nothing was made
    await memory.add_items(said("a", "b"))
    assert (await memory.pop_item())["content"] == "b"
    await memory.clear_session()
    assert await memory.get_items() == []
    assert await memory.pop_item() is None
    assert [entry.value for entry in await chat.tail(9)] == [{"cleared": 1}]
    await memory.add_items(said("c"))
    assert texts(await ConversationSession(chat).get_items()) == ["c"]


@in_loop
async def test_it_is_taken_over_as_it_is(conversations: Conversations) -> None:
    """What was popped stays popped when another owner adopts the conversation."""
    memory = ConversationSession(conversations.of_user("guest")["42"])
    await memory.add_items(said("a", "b"))
    await memory.pop_item()
    adopted = await conversations.of_user("ada").adopt(conversations.of_user("guest")["42"])
    assert texts(await ConversationSession(adopted).get_items()) == ["a"]


@pytest.mark.parametrize("seed", range(5))
@in_loop
async def test_it_is_a_list(seed: int, conversations: Conversations) -> None:
    """Two hundred changes in any order are those of a list."""
    draw, model = random.Random(seed), list[str]()
    memory = ConversationSession(conversations.of_user("ada")["42"])
    for step in range(200):
        match draw.choices(["add", "pop", "clear", "get"], [5, 6, 0.2, 2])[0]:
            case "add":
                new = [f"{step}.{number}" for number in range(draw.randint(0, 3))]
                model += new
                await memory.add_items(said(*new))
            case "pop":
                item = await memory.pop_item()
                assert (item and item["content"]) == (model.pop() if model else None)
            case "clear":
                model.clear()
                await memory.clear_session()
            case "get":
                limit = draw.randint(1, 9)
                assert texts(await memory.get_items(limit)) == model[-limit:]
    assert texts(await memory.get_items()) == model
