"""A chat by the public interface: runs in requests, resumed and stopped by others, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from accounts import BytesStore
from chats import Pages
from driver import in_loop
from routes import SECRET

from fastersession import Busy, ConfigError, ConversationOptions, Gone, MemoryStore, Sessions
from fastersession.stores.sqlite import SQLiteStore

STORES = {"live": MemoryStore, "bytes": BytesStore}


def fold(frames: list[Any]) -> Any:
    """Make the answer of the frames."""
    return {"role": "assistant", "content": "".join(frames)}


@pytest.fixture(params=[*STORES, "sqlite"])
def pages(request: Any, tmp_path: Path) -> Pages:
    """Give a site over each kind of store."""
    store = STORES[request.param]() if request.param in STORES else SQLiteStore(tmp_path / "sessions.db")
    return Pages(store, conversations=ConversationOptions(fold=fold, min_gap=0.001))


class Model:
    """An answer that goes on when a test says so."""

    def __init__(self) -> None:
        self.more = asyncio.Semaphore(0)
        self.was_closed = False

    async def answer(self, *words: str) -> AsyncIterator[str]:
        """Yield the words."""
        try:
            for word in words:
                await self.more.acquire()
                yield word
        finally:
            self.was_closed = True

    def go_on(self, count: int = 1) -> None:
        """Let so many words come."""
        for _ in range(count):
            self.more.release()


async def text(run: Any, after: str | None = None) -> str:
    """Return all frames of a run."""
    return "".join([frame.data async for frame in run.frames(after)])


@in_loop
async def test_an_answer_outlives_its_request(pages: Pages) -> None:
    """It is resumed in another request from its cursor on, and is in the history once it has ended."""
    browser, model = pages.browser(), Model()

    async def ask(session: Any) -> Any:
        chat = session.conversations["main"]
        await chat.start(model.answer("Hel", "lo"), entry={"role": "user", "content": "hi"}, key="1")

    async def look(session: Any) -> Any:
        return await session.conversations["main"].look(20)

    async def resume(session: Any) -> Any:
        return await session.conversations["main"].run(None)

    await pages.inside(browser, ask)
    entries, run = await pages.inside(browser, look)
    assert [entry.value["content"] for entry in entries] == ["hi"]
    assert run.status == "running"
    reader = await pages.inside(browser, resume)
    model.go_on()
    frames = reader.frames()
    first = await anext(frames)
    assert first.data == "Hel"
    await frames.aclose()
    model.go_on()
    again = await pages.inside(browser, lambda session: session.conversations["main"].run(first.id))
    assert await text(again) == "lo"
    entries, run = await pages.inside(browser, look)
    assert [entry.value["content"] for entry in entries] == ["hi", "Hello"]
    assert run is None
    assert entries[1].run == again.id
    assert await pages.inside(browser, resume) is None


@in_loop
async def test_the_same_key_never_generates_twice(pages: Pages) -> None:
    """C7: nor after the end."""
    browser, models = pages.browser(), [Model(), Model()]

    async def ask(session: Any, model: Model) -> Any:
        return await session.conversations["main"].start(model.answer("x"), key="1", entry="q")

    first = await pages.inside(browser, lambda session: ask(session, models[0]))
    second = await pages.inside(browser, lambda session: ask(session, models[1]))
    assert first.id == second.id
    models[0].go_on()
    assert await text(second) == "x"
    third = await pages.inside(browser, lambda session: ask(session, models[1]))
    assert (third.id, third.status) == (first.id, "completed")
    models[1].go_on()
    assert [await text(run) for run in (first, third)] == ["x", "x"]


@in_loop
async def test_c7_a_key_that_an_entry_has(pages: Pages) -> None:
    """C7: of an append, it starts nothing; nor does that of a run whose frames and answer are gone."""
    browser, model = pages.browser(), Model()

    async def ask(session: Any, entry: str, key: str) -> Any:
        return await session.conversations["main"].start(model.answer("x"), key=key, entry=entry)

    await pages.inside(browser, lambda session: session.conversations["main"].append("q", key="a"))
    await pages.inside(browser, lambda session: ask(session, "another", "a"), status=409)
    await pages.inside(browser, lambda session: ask(session, "q", "a"), status=409)
    found = await pages.inside(browser, lambda session: session.conversations["main"].tail())
    assert [entry.value for entry in found] == ["q"]
    assert not model.was_closed


@in_loop
async def test_a_second_question_is_refused(pages: Pages) -> None:
    """By a 409, where nobody handles it, and it leaves no question."""
    browser, model = pages.browser(), Model()

    async def ask(session: Any) -> Any:
        return await session.conversations["main"].start(model.answer("x"), entry="q")

    await pages.inside(browser, ask)
    await pages.inside(browser, ask, status=409)
    entries, _ = await pages.inside(browser, lambda session: session.conversations["main"].look(9))
    assert [entry.value for entry in entries] == ["q"]
    model.go_on()


@in_loop
async def test_stop(pages: Pages) -> None:
    """C9: from another request; what came is kept, the generator is closed, and nothing follows."""
    browser, model = pages.browser(), Model()

    async def ask(session: Any) -> Any:
        return await session.conversations["main"].start(model.answer("a", "b"), entry="q")

    run = await pages.inside(browser, ask)
    model.go_on()
    frames = run.frames()
    assert (await anext(frames)).data == "a"
    stop = await pages.inside(browser, lambda session: session.conversations["main"].stop())
    assert stop is True
    assert [frame.data async for frame in frames] == []
    assert run.status == "cancelled"
    entries: list[Any] = []
    while len(entries) < 2:  # the answer enters a moment after the end
        entries, _ = await pages.inside(browser, lambda session: session.conversations["main"].look(9))
    assert model.was_closed
    assert [entry.value for entry in entries] == ["q", fold(["a"])]
    assert await pages.inside(browser, lambda session: session.conversations["main"].stop()) is False


@in_loop
async def test_c15_a_logout_ends_the_runs_of_a_session(pages: Pages) -> None:
    """C15: its generator is closed, and its readers do not take it for complete."""
    browser, model = pages.browser(), Model()

    async def ask(session: Any) -> Any:
        return await session.conversations["main"].start(model.answer("a", "b"), entry="q")

    run = await pages.inside(browser, ask)
    model.go_on()
    frames = run.frames()
    assert (await anext(frames)).data == "a"
    await pages.log_out(browser)
    with pytest.raises(Gone):
        await anext(frames)
    while not model.was_closed:
        await asyncio.sleep(0)


@pytest.mark.parametrize("elsewhere", [False, True])
@in_loop
async def test_revoke_user_stops_the_runs_of_a_user(pages: Pages, elsewhere: bool) -> None:
    """Also from a job. A logout does not: his conversations are his on every device."""
    browser, model = pages.browser(), Model()

    async def ask(session: Any) -> Any:
        return await session.conversations_of("ada")["main"].start(model.answer("a", "b"), entry="q")

    await pages.log_in(browser, "ada")
    run = await pages.inside(browser, ask)
    await pages.log_out(browser)
    model.go_on()
    while run.status == "running" and not model.more.locked():
        await asyncio.sleep(0)
    assert run.status == "running"
    if elsewhere:
        async with Sessions(pages.store, SECRET, session_cookie=pages.app.session_cookie) as sessions:
            await sessions.revoke_user("ada")
    else:
        await pages.log_in(browser, "ada")
        await pages.revoke(browser, "ada")
    while not model.was_closed:
        await asyncio.sleep(0)
    found = [frame.data async for frame in run.frames()]
    assert found in (["a"], [])
    assert run.status == "cancelled"


@in_loop
async def test_a_store_that_keeps_none() -> None:
    """It says so at the first use, by name and remedy; naming a conversation asks nothing."""

    class Old(BytesStore):
        logs = None  # type: ignore[assignment]

    async def do(session: Any) -> None:
        chat = session.conversations["main"]
        with pytest.raises(ConfigError, match=r"Old keeps none.*take a MemoryStore"):
            await chat.tail()

    old = Pages(Old())
    await old.inside(old.browser(), do)


@in_loop
async def test_a_hundred_conversations(pages: Pages) -> None:
    """C16: a session has a hundred; the next is Busy."""

    async def do(session: Any) -> None:
        for number in range(100):
            await session.conversations[f"{number}"].append(number)
        with pytest.raises(Busy, match="as many conversations"):
            await session.conversations["more"].append(1)

    await pages.inside(pages.browser(), do)


@pytest.mark.parametrize(
    "options",
    [
        {"fold": 7}, {"retention": 0}, {"max_runs": 0}, {"max_runs": True}, {"max_seconds": None}, {"linger": -1},
        {"max_bytes": 10}, {"abandon_after": "x"}, {"min_gap": 0},
    ],
)  # fmt: skip
def test_options_that_cannot_work(options: dict[str, Any]) -> None:
    """Each error names its argument; the middleware refuses what is none."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        ConversationOptions(**options)
    with pytest.raises(ConfigError, match="conversations: must be ConversationOptions"):
        Pages(MemoryStore(), conversations=options)
