"""A chat over every store: two workers, of which one produces and the other resumes, stops, logs out and revokes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from chats import Pages
from driver import in_loop
from store_subject import Factory
from test_chats import Model, fold

from fastersession import ConversationOptions, Gone

KINDS = ("sqlite", "redis", "redis_cluster", "asyncpg", "psycopg", "mariadb")
kinds = pytest.mark.parametrize("kind", KINDS)


@asynccontextmanager
async def workers(factory: Factory) -> AsyncIterator[tuple[Pages, Pages]]:
    """Give two middlewares, each on a store of its own over the same server, with keys that no other test has."""
    secret = secrets.token_urlsafe(32)
    stores = [factory(time.time) for _ in range(2)]
    for store in stores:
        await store.open()
    options = ConversationOptions(fold=fold)
    try:
        one, two = (Pages(store, secret_key=secret, conversations=options) for store in stores)
        yield one, two
    finally:
        for store in stores:
            await store.close()


async def texts(run: Any) -> list[str]:
    """Return what a run's frames say."""
    return [frame.data async for frame in run.frames()]


@kinds
@in_loop
async def test_an_answer_is_resumed_in_another_worker(factory: Factory) -> None:
    """C1, C2: from the very frame, to the end; then the history has it, once."""
    async with workers(factory) as (here, there):
        browser, model = here.browser(), Model()
        user = secrets.token_hex(8)

        async def ask(session: Any) -> Any:
            chat = session.conversations_of(user)["main"]
            return await chat.start(model.answer("a", "b", "c"), entry="q", key="1")

        async def resume(session: Any) -> Any:
            return await session.conversations_of(user)["main"].run(None)

        async def look(session: Any) -> Any:
            return await session.conversations_of(user)["main"].look(9)

        await here.inside(browser, ask)
        model.go_on()
        reader = await there.inside(there.browser(), resume)
        frames = reader.frames()
        first = await anext(frames)
        assert first.data == "a"
        await frames.aclose()
        again = await there.inside(
            there.browser(), lambda session: session.conversations_of(user)["main"].run(first.id)
        )
        model.go_on(2)
        assert await texts(again) == ["b", "c"]
        entries, run = await there.inside(there.browser(), look)
        assert [entry.value for entry in entries] == ["q", fold(["a", "b", "c"])]
        assert run is None


@kinds
@in_loop
async def test_another_worker_stops_it(factory: Factory) -> None:
    """C9: the generator is closed, the answer so far is kept, and nothing follows."""
    async with workers(factory) as (here, there):
        model, user = Model(), secrets.token_hex(8)

        async def ask(session: Any) -> Any:
            return await session.conversations_of(user)["main"].start(model.answer("a", "b"), entry="q")

        async def stop(session: Any) -> Any:
            return await session.conversations_of(user)["main"].stop()

        run = await here.inside(here.browser(), ask)
        model.go_on()
        assert (await anext(run.frames())).data == "a"

        async def tail(session: Any) -> Any:
            return await session.conversations_of(user)["main"].tail()

        assert await there.inside(there.browser(), stop) is True
        async with asyncio.timeout(10):
            while not model.was_closed:
                await asyncio.sleep(0.01)
            values: list[Any] = []
            while len(values) < 2:
                found = await there.inside(
                    there.browser(), lambda session: session.conversations_of(user)["main"].tail()
                )
                values = [entry.value for entry in found]
        assert values == ["q", fold(["a"])]


@kinds
@in_loop
async def test_c15_a_logout_in_another_worker_ends_it(factory: Factory) -> None:
    """C15: a session's conversation is gone with it, with its run and its readers."""
    async with workers(factory) as (here, there):
        browser, model = here.browser(), Model()

        async def ask(session: Any) -> Any:
            return await session.conversations["main"].start(model.answer("a", "b"), entry="q")

        run = await here.inside(browser, ask)
        model.go_on()
        frames = run.frames()
        assert (await anext(frames)).data == "a"
        browser.app = there.app
        await there.log_out(browser)
        async with asyncio.timeout(10):
            with pytest.raises(Gone):
                await anext(frames)
            while not model.was_closed:
                await asyncio.sleep(0.01)


@kinds
@in_loop
async def test_revoke_user_in_another_worker_stops_it(factory: Factory) -> None:
    """The runs of a user stop, and his conversations stay."""
    async with workers(factory) as (here, there):
        model, user = Model(), secrets.token_hex(8)

        async def ask(session: Any) -> Any:
            return await session.conversations_of(user)["main"].start(model.answer("a", "b"), entry="q")

        run = await here.inside(here.browser(), ask)
        model.go_on()
        assert (await anext(run.frames())).data == "a"
        await there.revoke(there.browser(), user)
        async with asyncio.timeout(10):
            while not model.was_closed:
                await asyncio.sleep(0.01)
        found = await there.inside(there.browser(), lambda session: session.conversations_of(user)["main"].tail())
        assert [entry.value for entry in found][:1] == ["q"]
