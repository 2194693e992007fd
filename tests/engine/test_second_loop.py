"""One application and one store in one event loop after the other, as a loop for each test or a restart has it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, closing
from typing import Any

import pytest
from driver import Browser, lifespan
from examples import GUIDED
from over_sql import Place
from routes import Call, content, events, serve, tab
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from store_subject import EVERY, ID, START, Factory, make
from stores import SpyStore, SuspendingStore
from turns import spin

from fastersession import MemoryStore, StoreError
from fastersession.stores.sql import SQLStore
from fastersession.testing import FakeClock

TABS = 5


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """Find what a loop has left open: the warnings of that are errors here."""
    yield
    gc.collect()


async def plus_one(call: Call) -> None:
    async with call.session.exclusive() as session:
        count = session.get("n", 0)
        await asyncio.sleep(0)
        session["n"] = count + 1
    await call.reply()


async def day(browser: Browser, number: int) -> None:
    """What a loop of its own serves: reads and writes at once, a stream, turns, and a login."""
    assert await content(browser) == ({"n": TABS * number, "a": "1", "b": "2", "user": "me"} if number else {})
    await browser.get("/set?a=1")
    tabs = [tab(browser) for _ in range(TABS)]
    await asyncio.gather(*(one.get("/plus") for one in tabs), *(content(one) for one in tabs))
    await browser.get("/stream?b=2")
    await browser.get("/login")
    assert await content(browser) == {"n": TABS * (number + 1), "a": "1", "b": "2", "user": "me"}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("told", [True, False], ids=["lifespan", "no lifespan"])
def test_one_app_and_store_serve_one_loop_after_the_other(told: bool, factory: Factory) -> None:
    """Nothing is bound to the first loop: with a lifespan in each, and where nobody opens or closes the store."""
    browser = Browser(serve({"/plus": plus_one}, store=factory(time.time)))

    async def main(number: int) -> None:
        async with AsyncExitStack() as stack:
            if told:
                await stack.enter_async_context(lifespan(browser.app))
            await day(browser, number)

    for number in range(3):
        asyncio.run(main(number))
        gc.collect()


def test_connections_do_not_outlive_their_loop(place: Place) -> None:
    """A loop for each request, as in tests, leaves no connection at the server."""
    store = place.store()

    async def one() -> int:
        await asyncio.gather(*(store.load(ID) for _ in range(TABS)))
        return _connections(place)

    asyncio.run(one_after(store))
    before = _connections(place)
    for _ in range(3):
        assert asyncio.run(one()) > before
        while _connections(place) > before:  # the server takes a moment to see that one was closed
            time.sleep(0.01)


async def one_after(store: Any) -> None:
    await store.open()
    await store.close()


def _connections(place: Place) -> int:
    table = "pg_stat_activity" if "postgresql" in place.url else "information_schema.processlist"
    return int(place.server.execute(f"select count(*) from {table}"))


# --- an engine that was given ---


def test_a_given_engine_in_a_second_loop_is_an_error_that_says_so(place: Place) -> None:
    """Its connections belong to the first loop; the error names three remedies, and the first loop is not harmed."""
    engine = create_async_engine(place.url)
    store = SQLStore(engine, table=place.table)

    async def first() -> None:
        await store.open()
        await make(store)
        await asyncio.to_thread(asyncio.run, second())
        assert await store.load(ID) is not None
        await store.close()
        await engine.dispose()

    async def second() -> None:
        for call in (store.load(ID), store.delete(ID)):
            with pytest.raises(StoreError, match=r"another event loop.*the URL.*NullPool.*dispose\(\)"):
                await call

    asyncio.run(first())


@pytest.mark.parametrize("way", ["dispose", "NullPool"])
def test_a_given_engine_that_keeps_no_connection_works_in_each_loop(place: Place, way: str) -> None:
    """Disposed of before a loop ends, or without a pool."""
    engine = create_async_engine(place.url, **({"poolclass": NullPool} if way == "NullPool" else {}))
    store = SQLStore(engine, table=place.table)

    async def one() -> None:
        await store.open()
        if await store.load(ID) is None:
            await make(store)
        assert await store.load(ID) is not None
        await store.close()
        if way == "dispose":
            await engine.dispose()

    for _ in range(3):
        asyncio.run(one())


def test_the_guides_fixture_of_an_engine_works(on_postgresql: Place) -> None:
    """The example under "Event loops", with the address of a server that is there."""
    names: dict[str, Any] = {}
    exec(GUIDED["engines.py"].replace("postgresql+asyncpg://localhost/db", on_postgresql.url), names)
    names["two_tests"]()


# --- a loop that died ---

STORES = pytest.mark.parametrize("make_store", [MemoryStore, SpyStore, SuspendingStore])


def died(*works: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run works in a loop, one behind the other, and close it in the middle of all; return what is left of them."""
    with closing(asyncio.new_event_loop()) as loop:
        loop.set_exception_handler(lambda _loop, _context: None)  # it complains of tasks that are destroyed

        tasks = []
        for work in works:
            tasks.append(loop.create_task(work()))
            loop.run_until_complete(spin())
        assert not any(task.done() for task in tasks)
    return tasks


async def raw(browser: Browser, path: str) -> None:
    """Ask without a client around it, which would not like to die."""

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    await browser.app(browser.scope("GET", path), None, send)


async def write(call: Call) -> None:
    call.session["lost"] = 1
    await call.reply()


async def endless(call: Call) -> None:
    await call.start()
    async with call.session.exclusive():
        call.session["lost"] = 1
        await asyncio.Event().wait()


@STORES
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "collected"])
def test_a_loop_that_died_in_a_turn_holds_up_the_next_for_a_lease_at_most(make_store: Any, kept: bool) -> None:
    """Whether its tasks are collected or not, those in the turn and those in line: like a process that crashed."""
    clock = FakeClock(START)
    browser = Browser(serve({"/endless": endless, "/plus": plus_one}, store=make_store(clock=clock)))
    asyncio.run(_one(browser, "/set?a=1"))
    left = died(lambda: raw(browser, "/endless"), *[lambda: raw(browser, "/plus")] * 3)
    if not kept:
        left.clear()
        gc.collect()
    clock.advance(10)

    async def main() -> None:
        async with asyncio.timeout(30):
            await asyncio.gather(*(tab(browser).get("/plus") for _ in range(TABS)))
        assert await content(browser) == {"a": "1", "n": TABS}

    asyncio.run(main())
    left.clear()
    gc.collect()
    asyncio.run(main_again(browser))


async def main_again(browser: Browser) -> None:
    await tab(browser).get("/plus")
    assert (await content(browser))["n"] == TABS + 1


async def _one(browser: Browser, target: str) -> None:
    await browser.get(target)


def test_a_loop_that_died_in_an_opening_a_save_and_a_drain_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The next loop opens the store itself, waits for none of the first one's tasks, and stops at once."""
    store = SuspendingStore()
    browser = Browser(serve({"/write": write}, store=store))
    store.fail("open", "hang")
    died(lambda: raw(browser, "/write"))
    asyncio.run(_one(browser, "/set?a=1"))
    assert store.count("open") == 1
    store.fail("update", "hang")
    left = died(lambda: raw(browser, "/write"))

    async def main() -> None:
        async with asyncio.timeout(5), lifespan(browser.app):
            await browser.get("/set?c=3")

    asyncio.run(main())
    assert not events(caplog, "store.close_failed")
    left.clear()
