"""Histories by the public interface, over live objects and over bytes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from accounts import BytesStore
from chats import Pages
from driver import in_loop
from hypothesis import given
from hypothesis import strategies as st
from routes import SECRET

from fastersession import (
    AttributeNotSerializable,
    ConversationOptions,
    Conversations,
    Gone,
    MemoryStore,
    MsgspecCodec,
)
from fastersession.conversations.handle import entry_id, position_of
from fastersession.stores.sqlite import SQLiteStore


class Turn(msgspec.Struct, tag=True):
    """What an application keeps."""

    role: str
    content: str


STORES = {"live": MemoryStore, "bytes": BytesStore}


@pytest.fixture(params=[*STORES, "sqlite"])
def pages(request: Any, tmp_path: Path) -> Pages:
    """Give a site over each kind of store."""
    return Pages(STORES[request.param]() if request.param in STORES else SQLiteStore(tmp_path / "sessions.db"))


async def values(chat: Any) -> list[Any]:
    """Return all values, as iteration gives them."""
    return [entry.value async for entry in chat]


@in_loop
async def test_a_sessions_history(pages: Pages) -> None:
    """Appended in one request, read in the next; by nobody else."""
    ada, eve = pages.browser(), pages.browser()

    async def say(session: Any) -> Any:
        chat = session.conversations["main"]
        await chat.append({"role": "user", "content": "hello"})
        return await chat.append({"role": "assistant", "content": "you"})

    async def read(session: Any) -> Any:
        chat = session.conversations["main"]
        return await values(chat), await chat.tail(1), await session.conversations.list()

    last = await pages.inside(ada, say)
    said, tail, listed = await pages.inside(ada, read)
    assert said == [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "you"}]
    assert tail == [last]
    assert [(one.name, one.title, one.is_running) for one in listed] == [("main", None, False)]
    assert await pages.inside(eve, read) == ([], [], [])
    assert eve.jar == {}  # C16: reading makes no session either


@in_loop
async def test_a_users_history_is_on_every_device(pages: Pages) -> None:
    """It needs no session, touches none, and outlives each; another user has one of his own."""
    phone, laptop = pages.browser(), pages.browser()

    async def say(session: Any) -> None:
        await session.conversations_of("ada")["42"].append("hello")

    async def read(session: Any) -> Any:
        mine, hers = session.conversations_of("ada"), session.conversations_of("eve")
        return await values(mine["42"]), await values(hers["42"]), await values(session.conversations["42"])

    await pages.inside(phone, say)
    assert phone.jar == {}
    assert await pages.inside(laptop, read) == (["hello"], [], [])


@in_loop
async def test_users_by_number_and_uuid(pages: Pages) -> None:
    """42 and "42" are one user; nobody is none."""
    uuid = UUID(int=7)

    async def do(session: Any) -> Any:
        await session.conversations_of(42)["a"].append(1)
        await session.conversations_of(uuid)["a"].append(2)
        for nobody in (None, True, "", 1.5, b"ada"):
            with pytest.raises(TypeError, match="conversations_of"):
                session.conversations_of(nobody)
        return await values(session.conversations_of("42")["a"]), await values(session.conversations_of(str(uuid))["a"])

    assert await pages.inside(pages.browser(), do) == ([1], [2])


@pytest.mark.parametrize("name", ["", "x" * 256, 7, None, "\ud800"])
@in_loop
async def test_names_that_are_none(name: Any) -> None:
    """At once, before any call of the store."""

    async def do(session: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            session.conversations[name]

    pages = Pages(MemoryStore())
    await pages.inside(pages.browser(), do)


@in_loop
async def test_c15_it_dies_with_the_session(pages: Pages) -> None:
    """A logout ends it, with whoever still writes."""
    browser, held = pages.browser(), []

    async def say(session: Any) -> None:
        chat = session.conversations["main"]
        held.append(chat)
        await chat.append("hello")

    await pages.inside(browser, say)
    await pages.log_out(browser)
    with pytest.raises(Gone):
        await held[0].append("late")
    assert await pages.inside(browser, lambda session: values(session.conversations["main"])) == []


@in_loop
async def test_a_guest_keeps_his_conversation_at_a_login(pages: Pages) -> None:
    """It is his, whoever he is now; what his requests of before write is refused."""
    browser, held = pages.browser(), []

    async def say(session: Any) -> None:
        held.append(session.conversations["main"])
        await held[0].append("as a guest")

    await pages.inside(browser, say)
    await pages.log_in(browser, "ada")
    with pytest.raises(Gone):
        await held[0].append("late")
    assert await pages.inside(browser, lambda session: values(session.conversations["main"])) == ["as a guest"]


@in_loop
async def test_adopt(pages: Pages) -> None:
    """A guest's conversation becomes the user's, behind what he has; doing it again doubles nothing."""
    browser = pages.browser()

    async def say(session: Any) -> None:
        for value in ("one", "two"):
            await session.conversations["main"].append(value)

    async def adopt(session: Any) -> Any:
        users = session.conversations_of("ada")
        await users["main"].append("before")
        mine = await users.adopt(session.conversations["main"])
        await users.adopt(session.conversations["main"])
        return await values(mine), await values(session.conversations["main"]), mine.name

    await pages.inside(browser, say)
    await pages.log_in(browser, "ada")
    assert await pages.inside(browser, adopt) == (["before", "one", "two"], [], "main")


@in_loop
async def test_adopt_goes_on_after_a_failure(pages: Pages) -> None:
    """Nothing is twice, nothing is missing."""

    async def do(session: Any) -> Any:
        old, users = session.conversations["main"], session.conversations_of("ada")
        entries = [await old.append(number) for number in range(5)]
        for entry in entries[:3]:  # what an adoption did that was killed
            await users["new"].append(entry.value, key=entry.id)
        return await values(await users.adopt(old, "new"))

    assert await pages.inside(pages.browser(), do) == [0, 1, 2, 3, 4]


@in_loop
async def test_keys(pages: Pages) -> None:
    """C7: the same key is the same entry; with another value it is refused, and unhandled it is a 409."""

    async def do(session: Any) -> None:
        chat = session.conversations["main"]
        first = await chat.append({"a": 1}, key="k")
        assert await chat.append({"a": 1}, key="k") == first
        assert await values(chat) == [{"a": 1}]
        for bad in ("", "x" * 256, 7):
            with pytest.raises(ValueError, match="key"):
                await chat.append(1, key=bad)
        await chat.append({"a": 2}, key="k")

    await pages.inside(pages.browser(), do, status=409)


@in_loop
async def test_many_writers(pages: Pages) -> None:
    """Each entry has a place of its own; each writer's order stays."""

    async def do(session: Any) -> None:
        chats = [session.conversations["main"] for _ in range(4)]

        async def write(writer: int) -> None:
            for number in range(10):
                await chats[writer].append([writer, number])

        await asyncio.gather(*map(write, range(4)))
        found = await values(chats[0])
        assert len(found) == 40
        for writer in range(4):
            assert [number for one, number in found if one == writer] == list(range(10))

    await pages.inside(pages.browser(), do)


@in_loop
async def test_two_processes_write(pages: Pages) -> None:
    """Each learns of the other's top, and appends behind it."""
    store = BytesStore()
    workers = [Pages(store), Pages(store)]
    browser = workers[0].browser()
    for number in range(6):
        browser.app = workers[number % 2].app

        async def say(session: Any, number: int = number) -> Any:
            await session.conversations_of("ada")["main"].append(number)
            return await values(session.conversations_of("ada")["main"])

        assert await workers[number % 2].inside(browser, say) == [*range(number + 1)]


@in_loop
async def test_deleted_elsewhere(pages: Pages) -> None:
    """A new request makes it anew; who holds it from before gets Gone."""
    store = BytesStore()
    one, two = Pages(store), Pages(store)
    held: list[Any] = []

    async def say(session: Any) -> Any:
        held.append(session.conversations_of("ada")["main"])
        await held[-1].append("hello")
        return await values(session.conversations_of("ada")["main"])

    await one.inside(one.browser(), say)
    assert await two.inside(two.browser(), lambda session: session.conversations_of("ada")["main"].delete()) is True
    with pytest.raises(Gone):
        await held[0].append("late")
    with pytest.raises(Gone):
        await held[0].tail()
    assert await one.inside(one.browser(), say) == ["hello"]
    with pytest.raises(Gone):
        await held[0].append("late")


@in_loop
async def test_truncate(pages: Pages) -> None:
    """Regenerate: what is behind an entry goes; the head goes, too; a stranger's id is refused."""

    async def do(session: Any) -> None:
        chat = session.conversations["main"]
        entries = [await chat.append(number) for number in range(6)]
        await chat.truncate(after=entries[3])
        await chat.append("new")
        assert await values(chat) == [0, 1, 2, 3, "new"]
        await chat.truncate(before=entries[2].id)
        assert await values(chat) == [2, 3, "new"]
        assert [entry.value for entry in await chat.tail(9, before=entries[3])] == [2]
        other = await session.conversations["other"].append("x")
        for stranger in (other, "x", "", entries[0].id + "9" * 20):
            with pytest.raises(ValueError, match="truncate"):
                await chat.truncate(after=stranger)
        with pytest.raises(ValueError, match="after= or before="):
            await chat.truncate()
        with pytest.raises(Gone):
            await session.conversations["none"].truncate(after=entries[0])

    await pages.inside(pages.browser(), do)


@in_loop
async def test_titles_and_lists(pages: Pages) -> None:
    """The last updated first, in pages, by the last one or its cursor."""

    async def do(session: Any) -> None:
        chats = session.conversations_of("ada")
        for number in range(5):
            await chats[f"n{number}"].append(number)
        await chats["n1"].set(title="First things", metadata={"pinned": True})
        await chats["n1"].set(title="Last things")
        listed = await chats.list()
        shown = next(one for one in listed if one.name == "n1")
        assert (shown.title, shown.metadata) == ("Last things", {"pinned": True})
        assert {one.name for one in listed} == {f"n{number}" for number in range(5)}
        names, before = [], None
        while page := await chats.list(2, before):
            names += [one.name for one in page]
            before = page[-1].cursor
        assert names == [one.name for one in listed]
        assert [one.name for one in await chats.list(2, listed[1])] == names[2:4]
        assert [one.name for one in await chats.list(9, "no cursor")] == names
        assert await values(listed[0]) == [int(listed[0].name[1:])]
        for bad in (
            {"title": "x" * 256},
            {"title": 7},
            {"metadata": {"x": "y" * 20_000}},
            {"metadata": {"x": object()}},
        ):
            with pytest.raises(ValueError, match="set"):
                await chats["n1"].set(**bad)
        for bad_limit in (0, 1001, True, "9"):
            with pytest.raises(ValueError, match="limit"):
                await chats.list(bad_limit)

    await pages.inside(pages.browser(), do)


@in_loop
async def test_c14_owner_a_reaches_nothing_of_b(pages: Pages) -> None:
    """C14: whatever names, ids and cursors he sends."""

    async def do(session: Any) -> None:
        hers, mine = session.conversations_of("eve"), session.conversations_of("ada")
        secret = await hers["private"].append("hers")
        await hers["private"].set(title="hers")
        listed = (await hers.list())[0]
        assert await values(mine["private"]) == []
        assert await mine.list() == []
        assert await mine.list(9, listed.cursor) == []
        own = await mine["private"].append("mine")
        assert [entry.value for entry in await mine["private"].tail(9, before=secret)] == ["mine"]
        with pytest.raises(ValueError, match="truncate"):
            await mine["private"].truncate(after=secret.id)
        assert await mine["private"].delete() is True
        assert await values(hers["private"]) == ["hers"]
        assert own.id != secret.id

    await pages.inside(pages.browser(), do)


@in_loop
async def test_what_cannot_be_kept() -> None:
    """C16: bytes: the codec's refusal, and what is too large, at the call."""

    async def do(session: Any) -> None:
        chat = session.conversations["main"]
        for value in (object(), {1: 2}, "x" * 2**20):
            with pytest.raises(AttributeNotSerializable, match="conversation"):
                await chat.append(value)
        assert await values(chat) == []

    pages = Pages(BytesStore())
    await pages.inside(pages.browser(), do)


@in_loop
async def test_typed_values() -> None:
    """A turn comes back as its type: the object itself in memory, else by the codec."""
    turn = Turn("user", "hello")

    async def say(session: Any) -> Any:
        await session.conversations["main"].append(turn)
        return await values(session.conversations["main"])

    live = Pages(MemoryStore())
    assert (await live.inside(live.browser(), say))[0] is turn
    packed = Pages(BytesStore(), codec=MsgspecCodec(types={"conversation": Turn | str}))
    assert await packed.inside(packed.browser(), say) == [turn]


@in_loop
async def test_outside_of_a_request() -> None:
    """The same conversations, with the keys alone: the cookie's name does not matter."""
    store = BytesStore()
    pages = Pages(store, session_cookie="other")
    await pages.inside(pages.browser(), lambda session: session.conversations_of("ada")["main"].append("hello"))
    async with Conversations(store, SECRET) as conversations:
        assert await values(conversations.of_user("ada")["main"]) == ["hello"]
        await conversations.of_user("ada")["main"].append("from a job")
        assert "BytesStore" in repr(conversations)
    found = await pages.inside(pages.browser(), lambda session: values(session.conversations_of("ada")["main"]))
    assert found == ["hello", "from a job"]


@in_loop
async def test_keys_are_swapped() -> None:
    """What was made with the old key is found while it is there; what is made with the new one is, too."""
    store, new = BytesStore(), "another secret, which is as long as the first one is"
    async with Conversations(store, SECRET) as before:
        await before.of_user("ada")["old"].append("old")
    async with Conversations(store, [new, SECRET]) as both:
        chats = both.of_user("ada")
        await chats["old"].append("more")
        await chats["new"].append("new")
        assert {one.name for one in await chats.list()} == {"new", "old"}
        assert await values(chats["old"]) == ["old", "more"]
    async with Conversations(store, new) as after:
        assert await values(after.of_user("ada")["old"]) == []
        assert [one.name for one in await after.of_user("ada").list()] == ["new"]


@in_loop
async def test_retention() -> None:
    """A user's conversation goes so long after its last entry; a session's with its session."""
    clock = [1_000_000.0]
    store = BytesStore(clock=lambda: clock[0])
    pages = Pages(store, conversations=ConversationOptions(retention=100), idle_timeout=10_000)
    browser = pages.browser()

    async def say(session: Any) -> None:
        await session.conversations_of("ada")["main"].append("his")
        await session.conversations["main"].append("of the session")

    async def read(session: Any) -> Any:
        return await values(session.conversations_of("ada")["main"]), await values(session.conversations["main"])

    await pages.inside(browser, say)
    clock[0] += 99
    assert await pages.inside(browser, read) == (["his"], ["of the session"])
    clock[0] += 1
    assert await pages.inside(browser, read) == ([], ["of the session"])


@given(st.binary(min_size=16, max_size=16), st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), st.text())
def test_ids_of_entries(log: bytes, position: tuple[int, int], junk: str) -> None:
    """They come back from clients: what is none of this log is nothing."""
    # Invariant: an id leads to its own position, in its own log; any other text raises nothing, and leads to none.
    said = entry_id(log, position)
    assert position_of(said, log) == position
    assert position_of(said, bytes(byte ^ 1 for byte in log)) is None
    for text in (junk, said + junk, junk + said, said[: len(junk)], f"1{junk}.1.1"):
        found = position_of(text, log)
        assert found is None or entry_id(log, found) == text or text.isascii()
