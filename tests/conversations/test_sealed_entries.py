"""What a store of bytes gets of conversations: sealed for one place each, and without a name in it (C13, C14)."""

from __future__ import annotations

import asyncio
import itertools
import pickle
from typing import Any

import pytest
from accounts import BytesStore
from chats import Pages
from driver import in_loop
from routes import SECRET

from fastersession import ConfigError, ConversationOptions, Conversations, Gone, JsonCodec, PickleCodec

NEW = "another secret, which is as long as the first one is"


def kept(store: Any) -> list[Any]:
    """Return all conversations that a store has."""
    found: list[Any] = store.logs.shelf.all()
    return found


async def values(chat: Any) -> list[Any]:
    """Return all values, as iteration gives them."""
    return [entry.value async for entry in chat]


@in_loop
async def test_c13_an_entry_is_sealed_for_its_place() -> None:
    """C13: moved to any other position, conversation, log or run it is left out, and never read as another's."""
    store = BytesStore()
    async with Conversations(store, SECRET) as conversations:
        chats = [conversations.of_user(user)[name] for user, name in (("ada", "a"), ("ada", "b"), ("eve", "a"))]
        for chat in chats:
            for number in range(2):
                await chat.append(f"{chat.name}{number}")
        await chats[1].delete()
        again = conversations.of_user("ada")["b"]
        for number in range(2):
            await again.append(f"again{number}")
        held = [one for one in kept(store) if one.entries]
        places = [(one, number) for one in held for number in range(2)]
        for (source, at), (target, to) in itertools.permutations(places, 2):
            whole, moved = target.entries[to], source.entries[at]
            target.entries[to] = whole._replace(value=moved.value)
            try:
                for user, name in (("ada", "a"), ("ada", "b"), ("eve", "a")):
                    chat = conversations.of_user(user)[name]
                    found = await values(chat)
                    assert len(found) == (1 if chat._handle.places[0].conversation == target.id else 2)
                    assert [entry.value for entry in await chat.tail()] == found
            finally:
                target.entries[to] = whole
        one = held[0]
        for run in (bytes(16), b"r" * 16):
            one.entries[0] = one.entries[0]._replace(run=run)
            assert len(await values(conversations.of_user("ada")["a"])) == 1


@in_loop
async def test_c13_nothing_of_an_earlier_log_is_read_in_a_new_one() -> None:
    """C13: a log that was deleted and made anew under its name has another id, which is under the seal."""
    store = BytesStore()
    async with Conversations(store, SECRET) as conversations:
        await conversations.of_user("ada")["a"].append("old")
        old = kept(store)[0].entries[0]
        await conversations.of_user("ada")["a"].delete()
        await conversations.of_user("ada")["a"].append("new")
        kept(store)[0].entries[0] = old
        assert await values(conversations.of_user("ada")["a"]) == []


async def _words(more: asyncio.Semaphore, *words: str) -> Any:
    for word in words:
        await more.acquire()
        yield word


async def _said(chat: Any, *words: str) -> list[Any]:
    """Return the frames of its run: each is written by itself, for the next one comes when it was read."""
    more, found = asyncio.Semaphore(1), []
    run = await chat.start(_words(more, *words), key="k")
    async for frame in run.frames():
        found.append(frame.data)
        more.release()
    return found


@in_loop
async def test_c13_a_cut_tail_of_a_run_shows() -> None:
    """C13: its producer has written how many frames there are; a batch is of its place, in its run alone."""
    store, options = BytesStore(), ConversationOptions(min_gap=0.001)
    async with Conversations(store, SECRET, options=options) as conversations:
        chats = [conversations.of_user("ada")[name] for name in ("a", "b")]
        for chat in chats:
            assert await _said(chat, "one", "two", "three") == ["one", "two", "three"]
        one, other = (next(iter(each.runs.values())) for each in kept(store))
        assert len(one.values) == len(other.values) == 5  # a head, three batches, an end

        async def read() -> list[Any]:
            return await _said(conversations.of_user("ada")["a"])

        assert await read() == ["one", "two", "three"]
        frames = next(each for each in kept(store) if each.id == chats[0]._handle.places[0].conversation)
        one = next(iter(frames.runs.values()))
        other = next(each for each in (one, other) if each is not one)
        values_, positions = list(one.values), list(one.positions)
        for damage in ("cut", "swapped", "foreign"):
            if damage == "cut":
                del one.values[3], one.positions[3]
            elif damage == "swapped":
                one.values[1], one.values[2] = one.values[2], one.values[1]
            else:
                one.values[3] = other.values[3]
            with pytest.raises(Gone, match="missing"):
                await read()
            one.values[:], one.positions[:] = values_, positions
        assert await read() == ["one", "two", "three"]


@pytest.mark.parametrize("where", ["about", "entry"])
@in_loop
async def test_c13_every_byte_counts(where: str) -> None:
    """C13: a change of any byte of what is stored makes it unreadable, not another."""
    store = BytesStore()
    async with Conversations(store, SECRET) as conversations:
        await conversations.of_user("ada")["a"].append("x")
        one = kept(store)[0]
        stored = one.about if where == "about" else one.entries[0].value
        for number in range(len(stored)):
            changed = stored[:number] + bytes((stored[number] ^ 1,)) + stored[number + 1 :]
            if where == "about":
                one.about = changed
                assert await conversations.of_user("ada").list() == []
            else:
                one.entries[0] = one.entries[0]._replace(value=changed)
                assert await values(conversations.of_user("ada")["a"]) == []


@in_loop
async def test_c14_no_name_is_in_what_is_stored() -> None:
    """C14: no user, name, title, key or value, in ids, indexes and values; the same name of two users has two ids."""
    store, words = BytesStore(), ["ada-lovelace", "secret-name", "secret-title", "secret-key", "secret-value"]
    user, name, title, key, value = words
    async with Conversations(store, SECRET) as conversations:
        for each in (user, "eve"):
            chat = conversations.of_user(each)[name]
            await chat.append(value, key=key)
            await chat.set(title=title, metadata={"secret-title": title})
        found = kept(store)
        dump = pickle.dumps([(one.id, one.owner, one.log, one.about, one.entries, one.keys) for one in found])
        assert not [word for word in words if word.encode() in dump]
        assert len({one.id for one in found}) == len({one.owner for one in found}) == 2
        assert len({key for one in found for key in one.keys}) == 2


@in_loop
async def test_c14_what_a_list_is_given_of_others_is_not_shown() -> None:
    """C14: an index that leads to another user's conversation, or to another place, shows none."""
    store = BytesStore()
    async with Conversations(store, SECRET) as conversations:
        await conversations.of_user("ada")["a"].append("hers")
        await conversations.of_user("eve")["a"].append("mine")
        hers, mine = sorted(kept(store), key=lambda one: one.owner == conversations.all.of_user("eve")._owner.owners[0])
        mine.about = hers.about
        assert await conversations.of_user("eve").list() == []
        store.logs.shelf._owned[mine.owner][hers.id] = hers
        assert await conversations.of_user("eve").list() == []


@in_loop
async def test_c16_reading_makes_nothing() -> None:
    """C16: ten thousand reads of what is not there leave the store as it was."""
    pages = Pages(store := BytesStore())

    async def read(session: Any) -> None:
        for number in range(1000):
            for chats in (session.conversations, session.conversations_of("ada")):
                chat = chats[f"{number}"]
                await chat.tail()
                await chat.look()
                await chat.run(None)
                await chat.stop()
                assert await values(chat) == []
        assert await session.conversations.list() == await session.conversations_of("ada").list() == []

    browser = pages.browser()
    await pages.inside(browser, read)
    assert kept(store) == []
    assert len(store) == 0
    assert browser.jar == {}


@in_loop
async def test_unsealed() -> None:
    """Without a seal values are as the codec makes them; what is none of ours is left out all the same."""
    store = BytesStore()
    with pytest.raises(ConfigError, match="seal"):
        Conversations(store, SECRET, codec=PickleCodec(), seal=False)
    async with Conversations(store, SECRET, seal=False) as conversations:
        await conversations.of_user("ada")["a"].append("plain")
        one = kept(store)[0]
        assert JsonCodec().encode("conversation", "plain") in one.entries[0].value
        assert await values(conversations.of_user("ada")["a"]) == ["plain"]
        for junk in (b"", b"\x01x", b"\x00{"):
            one.entries[0] = one.entries[0]._replace(value=junk)
            assert await values(conversations.of_user("ada")["a"]) == []


@in_loop
async def test_a_sessions_conversations_outlive_the_first_key() -> None:
    """While the old key is behind the new one its sessions live, and so do their conversations."""
    store = BytesStore()
    before, both = Pages(store), Pages(store, secret_key=[NEW, SECRET])
    browser = before.browser()
    await before.inside(browser, lambda session: session.conversations["main"].append("old"))
    browser.app = both.app

    async def more(session: Any) -> Any:
        await session.conversations["main"].append("more")
        return await values(session.conversations["main"]), [one.name for one in await session.conversations.list()]

    assert await both.inside(browser, more) == (["old", "more"], ["main"])
    browser.app = before.app
    read = await before.inside(browser, lambda session: values(session.conversations["main"]))
    assert read == ["old", "more"]


def test_places_are_of_one_owner_and_name() -> None:
    """No two owners, names or kinds share an id, however their texts run into each other."""
    conversations = Conversations(BytesStore(), SECRET)
    keys = conversations.all.keeper.keys
    named = [("ab", "c"), ("a", "bc"), ("abc", "x"), ("x", "abc"), ("a" * 16, "c")]
    ids = [keys.of_user(user, name)[0] for user, name in named] + [keys.of_session(b"a" * 16, "c")[0]]
    assert len(set(ids)) == len(ids)
    assert all(len(one) == 16 for one in ids)
    log = b"l" * 16
    assert keys.run_id(log, "k") != keys.key_digest(log, "k") != keys.key_digest(log, "l")
