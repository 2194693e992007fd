"""A store that is slow to open where no lifespan has opened it: requests wait for one opening, and not for long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import content, serve, tab
from stores import SuspendingStore, shorten

from fastersession import MemoryStore
from fastersession.engine.calls import TimeLimit

PARALLEL = 5


@pytest.fixture(autouse=True)
def _quick(monkeypatch: Any) -> None:
    """Reach every bound at once."""
    shorten(monkeypatch, STORE_SECONDS=0.05, OPEN_SECONDS=0.05)


async def returning(inner: MemoryStore) -> list[Browser]:
    """Return browsers that hold the cookie of a session in `inner`, in front of an app to be chosen."""
    browser = Browser(serve(store=SuspendingStore(inner)))
    await browser.get("/set?a=1")
    return [tab(browser) for _ in range(PARALLEL)]


async def statuses(browsers: list[Browser], app: Any) -> list[int]:
    for browser in browsers:
        browser.app = app
    return [answer.status for answer in await asyncio.gather(*(browser.get("/") for browser in browsers))]


@in_loop
async def test_parallel_requests_share_one_opening() -> None:
    """However many come while the store opens, it is opened once, and all are answered."""
    inner = MemoryStore()
    browsers, store = await returning(inner), SuspendingStore(inner)
    gate = store.hold("open")
    answers = asyncio.ensure_future(statuses(browsers, serve(store=store)))
    await gate.reached.wait()
    gate.open.set()
    assert await answers == [200] * PARALLEL
    assert store.count("open") == 1


@in_loop
async def test_an_opening_that_hangs_is_a_503_for_all_and_a_later_success_opens_once() -> None:
    """Nobody waits for the others' bounds: all wait for the one opening, and when it ends, later requests use it."""
    inner = MemoryStore()
    browsers, store = await returning(inner), SuspendingStore(inner)
    gate, app = store.hold("open"), serve(store=store)
    answers = asyncio.ensure_future(statuses(browsers, app))
    await gate.reached.wait()
    assert await answers == [503] * PARALLEL
    assert store.calls == []  # nothing has got past the opening
    gate.open.set()
    assert await statuses(browsers, app) == [200] * PARALLEL
    assert store.count("open") == 1
    assert await content(browsers[0]) == {"a": "1"}


@in_loop
async def test_requests_that_wait_for_a_hanging_opening_are_answered_together(monkeypatch: Any) -> None:
    """The bound is one for all: as each times out by itself, the last has waited no longer than the first."""
    bounds: list[object] = []

    def noting(limit: TimeLimit, *call: Any) -> Any:
        bounds.append(call)
        return run(limit, *call)

    inner, run = MemoryStore(), TimeLimit.run
    browsers, store = await returning(inner), SuspendingStore(inner)
    store.fail("open", "hang")
    app = serve(store=store)
    for browser in browsers:
        browser.app = app
    exchanges = [browser.open("/") for browser in browsers]
    monkeypatch.setattr(TimeLimit, "run", noting)
    for exchange in exchanges:
        await exchange.__aenter__()
    while len(bounds) < PARALLEL:  # each has set its bound before any of them is over
        assert not any(exchange.over for exchange in exchanges)
        await asyncio.sleep(0)
    monkeypatch.undo()
    assert [(await exchange.ended()).status for exchange in exchanges] == [503] * PARALLEL
    assert store.count("open!") == 1


@pytest.mark.parametrize("fault", ["raise", "hang", "lose"])
@in_loop
async def test_an_opening_that_failed_is_tried_again_by_a_later_request(fault: str) -> None:
    """One failure is not for ever: when the bound of the opening is over, the next request opens the store anew."""
    inner = MemoryStore()
    browsers, store = await returning(inner), SuspendingStore(inner)
    store.fail("open", fault)
    app = serve(store=store)
    assert await statuses(browsers, app) == [503] * PARALLEL
    for _ in range(10):  # an opening may have its own bound; this is ten of them
        if await statuses(browsers, app) == [200] * PARALLEL:
            break
    assert await statuses(browsers, app) == [200] * PARALLEL
    assert store.count("open") == (2 if fault == "lose" else 1)


@in_loop
async def test_an_opening_that_fails_after_everybody_has_gone_leaves_no_stray_error() -> None:
    """The exception of an opening that nobody waits for any more does not reach the loop's exception handler."""
    strays: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: strays.append(context))
    inner = MemoryStore()
    browsers, store = await returning(inner), SuspendingStore(inner)
    gate, app = store.hold("open"), serve(store=store)
    store.fail("open")
    assert await statuses(browsers, app) == [503] * PARALLEL
    gate.open.set()
    while store.running["open"]:
        await asyncio.sleep(0)
    assert await statuses(browsers, app) == [200] * PARALLEL
    assert strays == []
