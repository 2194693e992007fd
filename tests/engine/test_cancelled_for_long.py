"""Cancelled while the store is slow: the loop rests until the save is done, however often the caller is cancelled."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from routes import Call, content, live, serve, tab
from starlette.responses import StreamingResponse
from stores import SuspendingStore

from fastersession.testing import Browser

TURNS = 500  # of the loop, while the store is silent
FEW = 40  # calls that a request may make there, whatever the number of turns


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts what is called in its turns."""

    calls = 0

    def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:
        self.calls += 1
        return super().call_soon(*args, **options)


def counted(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(scenario())


async def calls_of_others(each_turn: Callable[[], object] = lambda: None) -> int:
    """Let the loop turn for long; return how many calls others have made in it."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, CountingLoop)
    before = loop.calls
    for _ in range(TURNS):
        each_turn()
        await asyncio.sleep(0)
    return loop.calls - before - TURNS


Ways = dict[str, Callable[[Any], Awaitable[None]]]


async def in_a_scope(save: Any) -> None:
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await save()
        raise AssertionError("the scope was cancelled")


async def in_a_cancelled_scope(save: Any) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await save()
        raise AssertionError("the scope was cancelled")


async def in_a_group(save: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(save)
        await asyncio.sleep(0)
        group.cancel_scope.cancel()


async def in_nested_scopes(save: Any) -> None:
    with anyio.CancelScope() as outer, anyio.move_on_after(0):
        outer.cancel()
        await save()
        raise AssertionError("both scopes were cancelled")


WAYS: Ways = {way.__name__: way for way in (in_a_scope, in_a_cancelled_scope, in_a_group, in_nested_scopes)}


@pytest.mark.parametrize("point", ["save", "start", "final"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_a_cancelled_scope_does_not_make_the_loop_spin(way: Any, point: str) -> None:
    """anyio cancels a scope in each turn; a save that waits for the store costs a few calls, not some in each turn."""
    saved: list[bool] = []

    async def do(call: Call) -> None:
        points = {"save": call.session.save, "start": call.start, "final": call.finish}
        if point == "final":
            await call.start()
        call.session["b"] = 2

        async def one() -> None:
            await points[point]()

        await way(one)
        saved.append(True)
        if point == "save":
            await call.start()

    async def scenario() -> None:
        store = SuspendingStore()
        browser = await live(store, do)
        gate = store.hold("update")
        asking = asyncio.ensure_future(browser.get("/act", catch=True))
        await gate.reached.wait()
        assert await calls_of_others() < FEW
        assert not saved  # the scope is not left before the store has answered
        gate.open.set()
        await asking
        assert saved
        assert await content(browser) == {"a": "1", "b": 2}

    counted(scenario)


def test_readers_who_leave_while_the_store_is_slow_cost_the_loop_nothing() -> None:
    """Starlette cancels its stream's scope at the disconnect: ten streams, one silent store, a loop that rests."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        session["answer"] = ""

        async def tokens() -> Any:
            try:
                while True:
                    session["answer"] += "x"
                    yield "x"
                    await asyncio.sleep(0)
            finally:
                await session.save()

        await StreamingResponse(tokens())(scope, receive, send)

    async def scenario() -> None:
        store = SuspendingStore()
        browsers = [Browser(serve_app(app, store)) for _ in range(10)]
        gates = [store.hold("update") for _ in browsers]
        leaving = [asyncio.ensure_future(browser.leave("/", after=2)) for browser in browsers]
        for gate in gates:
            await gate.reached.wait()
        assert await calls_of_others() < FEW * len(browsers)
        for gate in gates:
            gate.open.set()
        await asyncio.gather(*leaving)

    counted(scenario)


def serve_app(app: Any, store: Any) -> Any:
    middleware = serve(store=store)
    middleware.app = app
    return middleware


@pytest.mark.parametrize("loaded", [True, False], ids=["with anyio", "without anyio"])
def test_who_cancels_without_end_wakes_nobody(loaded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cancels a request in each turn until it has ended: saved, cancelled, and a loop that rests."""
    if not loaded:
        monkeypatch.setitem(sys.modules, "anyio", None)

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        await call.finish()

    async def scenario() -> None:
        store = SuspendingStore()
        browser = await live(store, do)
        gate = store.hold("update")
        async with browser.open("/act") as held:
            await gate.reached.wait()
            assert held.task is not None
            assert await calls_of_others(held.task.cancel) < FEW
            assert not held.task.done()
            gate.open.set()
            answer = await held.ended()
        assert isinstance(answer.error, asyncio.CancelledError)
        assert await content(browser) == {"a": "1", "b": 2}

    counted(scenario)


@pytest.mark.parametrize("order", ["scope first", "server first"])
def test_a_server_and_a_scope_that_both_cancel_lose_nothing(order: str) -> None:
    """The save ends before either is heard, and the scope does not take the server's cancellation for its own."""
    scopes: list[anyio.CancelScope] = []

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await call.session.save()
        raise AssertionError("the server's cancellation was lost")

    async def scenario() -> None:
        store = SuspendingStore()
        browser = await live(store, do)
        gate = store.hold("update")
        async with browser.open("/act") as held:
            await gate.reached.wait()
            assert held.task is not None
            for cancel in (scopes[0].cancel, held.task.cancel)[:: 1 if order == "scope first" else -1]:
                cancel()
                for _ in range(3):
                    await asyncio.sleep(0)
            assert not held.task.done()
            gate.open.set()
            answer = await held.ended()
        assert isinstance(answer.error, asyncio.CancelledError)
        assert await content(tab(browser)) == {"a": "1", "b": 2}

    counted(scenario)
