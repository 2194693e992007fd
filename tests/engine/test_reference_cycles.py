"""Requests that fail leave nothing behind: no cycle for the collector to find, and no exchange that lives on."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from accounts import BytesStore
from driver import Browser, in_loop
from routes import Call, record_id, serve
from stores import BreakableStore, SuspendingStore, shorten

from fastersession import FasterSessionError, MemoryStore, SessionEnded
from fastersession.asgi.exchange import Exchange

REQUESTS = 20
NUMBERS = itertools.count()  # each a value that is not stored yet


class BrokenError(Exception):
    """The application's own failure."""


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


pytestmark = pytest.mark.usefixtures("_no_collector")
STORES = pytest.mark.parametrize("make", [BreakableStore, SuspendingStore])


def silent() -> logging.Logger:
    """Return a logger that keeps no record: a record of an error holds its traceback, and all that stands in it."""
    logger = logging.Logger("nobody listens")
    logger.addHandler(logging.NullHandler())
    return logger


async def requests(store: Any, handler: Callable[[Call], Awaitable[None]], *, cancel_at: str = "") -> None:
    """Send requests to a handler, each with a live session; cancel each when a call of the store arrives."""
    app = serve({"/act": handler}, store=store, logger=silent())
    browser = Browser(app)
    await browser.get("/set?a=1")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    for _ in range(REQUESTS):
        gate = store.hold(cancel_at) if cancel_at else None
        task = asyncio.ensure_future(app(browser.scope("GET", "/act"), receive, send))
        if gate is not None:
            await gate.reached.wait()
            task.cancel()
            gate.open.set()
        with suppress(FasterSessionError, BrokenError, asyncio.CancelledError):
            await task
        del task, gate
    while app._engine.saves.tasks:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert app._engine.runs.requests == set()
    assert_nothing_is_left(app)


def assert_nothing_is_left(app: Any) -> None:
    """Look while the middleware is still there: with its application and store it is a cycle, once and for all."""
    kept = sum(issubclass(type(thing), Exchange) and thing.host is app._terms for thing in gc.get_objects())
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        garbage = [type(thing).__name__ for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert (kept, garbage) == (0, [])


async def ordinary(call: Call) -> None:
    call.session["b"] = next(NUMBERS)
    await call.reply()


async def refused(call: Call) -> None:
    call.session["b"] = object()  # no codec of bytes can keep it
    await call.reply()


async def raising(call: Call) -> None:
    call.session["b"] = next(NUMBERS)
    raise BrokenError


async def taking_a_turn(call: Call) -> None:
    async with call.session.exclusive():
        call.session["b"] = next(NUMBERS)
    await call.reply()


async def raising_in_the_stream(call: Call) -> None:
    await call.start()
    call.session["b"] = next(NUMBERS)
    raise BrokenError


@STORES
@pytest.mark.parametrize(
    "handler", [ordinary, taking_a_turn, refused, raising, raising_in_the_stream], ids=lambda handler: handler.__name__
)
@in_loop
async def test_requests_of_every_day_leave_no_cycle(handler: Any, make: Any) -> None:
    """Whether the application answers or raises, counting references is enough to free the request."""
    await requests(make(), handler)


@STORES
@pytest.mark.parametrize("survives", [True, False], ids=["the application goes on", "the application unwinds"])
@in_loop
async def test_a_failing_save_at_the_start_leaves_no_cycle(survives: bool, make: Any) -> None:
    """The error that replaces the response by a 503 does not keep the request that it is raised in."""

    async def do(call: Call) -> None:
        call.session["b"] = next(NUMBERS)
        store.fail("update")
        try:
            await call.reply()
        except FasterSessionError:
            if not survives:
                raise

    store = make()
    await requests(store, do)


@STORES
@pytest.mark.parametrize("how", ["the end succeeds", "the end fails", "the application raises"])
@in_loop
async def test_a_failing_final_save_leaves_no_cycle(how: str, make: Any, monkeypatch: Any) -> None:
    """The error that is raised from the app call does not keep the request that it came from."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = next(NUMBERS)
        store.fail("update", times=tries if how == "the end succeeds" else tries + 1)
        await call.finish()
        if how == "the application raises":
            raise BrokenError

    shorten(monkeypatch, FLUSH_PAUSES=(0,))
    store = make()
    tries = 1 if store.live else 2
    await requests(store, do)


@pytest.mark.parametrize("fault", [None, "raise", "lose"])
@pytest.mark.parametrize("point", ["start", "save", "final"])
@in_loop
async def test_a_cancelled_save_leaves_no_cycle(point: str, fault: str | None, monkeypatch: Any) -> None:
    """A save that outlives the cancellation of its request, and even fails, does not keep it."""

    async def do(call: Call) -> None:
        if point != "start":
            await call.start()
        call.session["b"] = next(NUMBERS)
        if fault is not None:
            store.fail("update", fault)
        await {"start": call.start, "save": call.session.save, "final": call.finish}[point]()

    shorten(monkeypatch, FLUSH_PAUSES=(0,))
    store = SuspendingStore()
    await requests(store, do, cancel_at="update")


async def waiting_for_the_end(call: Call) -> None:
    waits = asyncio.create_task(call.session.ended)
    await asyncio.sleep(0)
    await call.reply()
    waits.cancel()


async def streaming_to_the_end(call: Call) -> None:
    await call.start()
    receiving = asyncio.create_task(call.receive())
    await asyncio.sleep(0)
    waits = asyncio.create_task(call.session.ended)
    await asyncio.sleep(0)
    call.scope["end"]()
    assert await waits == "revoked"
    receiving.cancel()  # where nothing is cut, it still waits
    await asyncio.wait([receiving])
    await call.chunk()


async def ended_before_the_start(call: Call) -> None:
    call.session["b"] = next(NUMBERS)
    call.scope["end"]()
    await call.reply()


async def swallowing_the_end(call: Call) -> None:
    await call.start()
    call.scope["end"]()
    with suppress(SessionEnded):
        await call.chunk()


@pytest.mark.parametrize("make", [MemoryStore, BytesStore])
@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize(
    "handler",
    [ordinary, raising, waiting_for_the_end, streaming_to_the_end, ended_before_the_start, swallowing_the_end],
    ids=lambda handler: handler.__name__,
)
@in_loop
async def test_an_end_leaves_no_cycle(handler: Any, closes: bool, make: Any) -> None:
    """Neither who is cut off, nor who waits for the end, nor the watch keeps the request."""
    app = serve({"/act": handler}, store=make(), logger=silent(), close_on_end=closes)
    found = app._engine.runs.watch

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    for _ in range(3):
        browser = Browser(app)
        await browser.get("/set?a=1")
        end = partial(found.end, {record_id(browser): "revoked"})
        scope = {**browser.scope("GET", "/act"), "end": end}
        task = asyncio.ensure_future(app(scope, receive, send))
        with suppress(FasterSessionError, BrokenError, asyncio.CancelledError):
            await task
        del task, scope, end
    await asyncio.sleep(0)
    assert (found._long, found._waiters, found._spared) == (set(), set(), set())
    assert app._engine.runs.requests == set()
    assert_nothing_is_left(app)


@in_loop
async def test_an_error_at_the_very_end_leaves_no_request_running() -> None:
    """A clock that fails when the last access is looked at is an error of the server; the record is let go."""
    broken: list[BrokenError] = []

    def clock() -> float:
        if broken:
            raise broken.pop()
        return 1e9

    async def do(call: Call) -> None:
        await call.reply()
        broken.append(BrokenError())

    browser = Browser(app := serve({"/act": do}, store=MemoryStore(clock=clock)))
    await browser.get("/set?a=1")
    assert isinstance((await browser.get("/act", catch=True)).error, BrokenError)
    assert app._engine.runs.requests == set()
