"""Conversations outlive keys: they are moved under the current one before an old one is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import pytest
from accounts import BytesStore
from chats import Pages
from driver import in_loop
from faulty_logs import FaultyLogs
from hypothesis import given
from hypothesis import strategies as st
from routes import SECRET

from fastersession import CodecError, ConversationOptions, Conversations, MsgspecCodec, StoreError

NEW = "another secret, which is as long as the first one is"
NEWER = "a third secret, which is as long as the others are, too"


class FarStore(BytesStore):
    """A store whose conversations fail as told."""

    def __init__(self) -> None:
        super().__init__()
        self.faulty = FaultyLogs(super().logs)

    @property
    def logs(self) -> Any:
        return self.faulty


async def values(chat: Any) -> list[Any]:
    """Return all values, as iteration gives them."""
    return [entry.value async for entry in chat]


async def contents(store: Any, keys: Any, user: str) -> list[tuple[Any, ...]]:
    """Return all that a user has, as his list shows it."""
    async with Conversations(store, keys) as conversations:
        listed = await conversations.of_user(user).list()
        return [(one.name, one.title, one.metadata, await values(one)) for one in listed]


async def write(store: Any, keys: Any, user: str, *names: str) -> None:
    """Write a conversation under each name."""
    async with Conversations(store, keys) as conversations:
        for name in names:
            chat = conversations.of_user(user)[name]
            for number in range(3):
                await chat.append([name, number])
            await chat.set(title=f"title of {name}", metadata={"n": name})


async def reseal(store: Any, *keys: str) -> tuple[int, ...]:
    """Make one pass."""
    async with Conversations(store, keys) as conversations:
        return tuple(await conversations.reseal())


@in_loop
async def test_after_a_pass_the_old_key_is_not_needed() -> None:
    """Everything of everybody is there under the new one, in the same order; a second pass has nothing to do."""
    ticks = itertools.count()
    store = BytesStore(clock=lambda: next(ticks) // 100.0)  # many have the same time
    for number, user in enumerate(["ada", "eve", "ada", "ada", "ada", "ada"]):
        await write(store, SECRET, user, f"n{number}")
    async with Conversations(store, SECRET) as conversations:
        await conversations.of_user("ada")["empty"].set(title="no entry")
    await write(store, [NEW, SECRET], "ada", "new")
    before = {user: await contents(store, [NEW, SECRET], user) for user in ("ada", "eve")}
    assert await reseal(store, NEW, SECRET) == (7, 0, 0)
    assert await reseal(store, NEW, SECRET) == (0, 0, 0)
    for user, had in before.items():
        found = await contents(store, NEW, user)
        assert sorted(found, key=str) == sorted(had, key=str)
        assert await contents(store, SECRET, user) == []


@in_loop
async def test_lists_stay_in_order() -> None:
    """What was updated last is the first of the list after a pass, too."""
    ticks = itertools.count()
    store = BytesStore(clock=lambda: float(next(ticks)))
    names = [f"n{number}" for number in range(8)]
    await write(store, SECRET, "ada", *names)
    assert [name for name, *_ in await contents(store, SECRET, "ada")] == names[::-1]
    assert await reseal(store, NEW, SECRET) == (8, 0, 0)
    assert [name for name, *_ in await contents(store, NEW, "ada")] == names[::-1]


@in_loop
async def test_what_workers_write_in_between_is_under_the_key_of_its_place() -> None:
    """Keys are swapped in steps: a worker may find what another has made under a key that is not his first."""
    store = BytesStore()
    await write(store, [NEW, SECRET], "ada", "n")
    async with Conversations(store, [SECRET, NEW]) as behind:
        await behind.of_user("ada")["n"].append("of a worker that is behind")
        run = await behind.of_user("ada")["n"].start(answer(), key="k")
        assert [frame.data async for frame in run.frames()] == ["answer"]
    async with Conversations(store, NEW) as conversations:
        chat = conversations.of_user("ada")["n"]
        assert (await values(chat))[-1] == "of a worker that is behind"
        again = await chat.start(answer("another"), key="k")
        assert [frame.data async for frame in again.frames()] == ["answer"]


async def answer(said: str = "answer") -> Any:
    """Yield one frame."""
    yield said


@in_loop
async def test_what_runs_is_left_for_the_next_pass() -> None:
    """It goes on where it is, and is moved when it has ended."""
    store, more = BytesStore(), asyncio.Event()

    async def slow() -> Any:
        yield "a"
        await more.wait()

    async with Conversations(store, SECRET, options=ConversationOptions(fold="".join, min_gap=0.001)) as conversations:
        run = await conversations.of_user("ada")["n"].start(slow(), entry="q")
        assert await reseal(store, NEW, SECRET) == (0, 1, 0)
        more.set()
        assert [frame.data async for frame in run.frames()] == ["a"]
        assert run.status == "completed"
    assert await reseal(store, NEW, SECRET) == (1, 0, 0)
    assert await contents(store, NEW, "ada") == [("n", None, {}, ["q", "a"])]


@in_loop
async def test_what_cannot_be_read_is_left() -> None:
    """Of a key or codec that is not there: nothing of it is lost, and the count tells."""
    store = BytesStore()
    await write(store, SECRET, "ada", "n", "damaged")
    one = next(one for one in store.logs.shelf.all() if len(one.entries) == 3)
    assert await reseal(store, NEW) == (0, 0, 2)
    whole = one.entries[1]
    one.entries[1] = whole._replace(value=whole.value[:-1] + bytes((whole.value[-1] ^ 1,)))
    assert await reseal(store, NEW, SECRET) == (1, 0, 1)
    one.entries[1] = whole
    assert await reseal(store, NEW, SECRET) == (1, 0, 0)
    assert {name for name, *_ in await contents(store, NEW, "ada")} == {"n", "damaged"}
    async with Conversations(store, [NEWER, NEW], codec=MsgspecCodec()) as other:
        assert tuple(await other.reseal()) == (0, 0, 2)
    assert len(await contents(store, NEW, "ada")) == 2


@in_loop
async def test_adopt_loses_nothing_that_cannot_be_read() -> None:
    """It is refused, and the old conversation stays as it is; else the title comes along."""
    pages = Pages(store := BytesStore())
    browser = pages.browser()

    async def say(session: Any) -> None:
        chat = session.conversations["main"]
        await chat.append("readable")
        await chat.append("damaged")
        await chat.set(title="first words")

    async def adopt(session: Any) -> Any:
        users = session.conversations_of("ada")
        await users.adopt(session.conversations["main"])
        return [(one.title, await values(one)) for one in await users.list()]

    await pages.inside(browser, say)
    (one,) = store.logs.shelf.all()
    whole, one.entries[1] = one.entries[1], one.entries[1]._replace(value=b"x")

    async def refused(session: Any) -> None:
        with pytest.raises(CodecError, match="stays where it is"):
            await adopt(session)

    await pages.inside(browser, refused)
    one.entries[1] = whole
    assert await pages.inside(browser, adopt) == [("first words", ["readable", "damaged"])]


@given(st.lists(st.tuples(st.sampled_from(["raise", "lose"]), st.integers(0, 12)), max_size=4), st.booleans())
def test_a_pass_that_fails_goes_on_where_it_stopped(faults: list[tuple[str, int]], writes: bool) -> None:
    """Whatever call fails, or acts and loses its reply; whoever writes meanwhile."""
    # Invariant: when a pass has come to its end, every entry is there once, in order, under the new key alone.
    asyncio.run(_with_faults(faults, writes))


async def _with_faults(faults: list[tuple[str, int]], writes: bool) -> None:
    store = FarStore()
    await write(store, SECRET, "ada", "n")
    expected = [["n", number] for number in range(3)]
    async with Conversations(store, SECRET) as old:
        chat = old.of_user("ada")["n"]
        await chat.tail()
        for fault, after in faults:
            for verb in ("look", "entries", "append", "delete", "create", "describe", "page", "owned"):
                store.faulty.fail(verb, fault, after=after)
            gate = store.faulty.hold("delete") if writes else None
            going = asyncio.ensure_future(reseal(store, NEW, SECRET))
            if gate is not None:
                reached = asyncio.ensure_future(gate.reached.wait())
                await asyncio.wait({going, reached}, return_when=asyncio.FIRST_COMPLETED)
                reached.cancel()
                if not going.done():
                    store.faulty.clear()
                    async with Conversations(store, [SECRET, NEW]) as worker:
                        await worker.of_user("ada")["n"].append("meanwhile")
                    expected.append("meanwhile")
                gate.open.set()
                store.faulty._gates.clear()
            with contextlib.suppress(StoreError):
                await going
            store.faulty.clear()
    await reseal(store, NEW, SECRET)
    found = await contents(store, NEW, "ada")
    assert [(name, title) for name, title, *_ in found] == [("n", "title of n")]
    assert found[0][3] == expected
    assert len(store.faulty.inner.shelf.all()) == 1
