"""Worker threads whose write of many attributes is still running while a save point compares."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SpyStore, SuspendingStore

from fastersession import MemoryStore, Session

Pairs = Iterable[tuple[str, int]]

STORES = pytest.mark.parametrize("make", [MemoryStore, SpyStore, SuspendingStore])
WRITES: dict[str, Callable[[Session, Pairs], Any]] = {
    "update": lambda session, pairs: session.update(pairs),
    "|=": lambda session, pairs: session.__ior__(pairs),
}
BY_METHOD = pytest.mark.parametrize("write", WRITES.values(), ids=list(WRITES))


class SlowWrite:
    """A write in a worker thread that has begun, and stands in the middle until `finish()`."""

    def __init__(self, session: Session, write: Callable[[Session, Pairs], Any]) -> None:
        self.begun, self.going_on = threading.Event(), threading.Event()
        self.done = asyncio.ensure_future(asyncio.to_thread(write, session, self.pairs()))

    def pairs(self) -> Iterator[tuple[str, int]]:
        yield "first", 1
        self.begun.set()
        self.going_on.wait(10)
        yield "answer", 2

    async def stand(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 10)

    async def finish(self) -> None:
        self.going_on.set()
        await self.done


async def final_message(call: Call) -> None:
    await call.finish()


async def save(call: Call) -> None:
    await call.session.save()
    assert await content(Browser(call.scope["app"])) == {}  # another user's request, while this one runs


async def the_end(call: Call) -> None:
    await call.chunk()


@STORES
@BY_METHOD
@pytest.mark.parametrize("later", [final_message, save, the_end], ids=lambda later: later.__name__)
@in_loop
async def test_a_write_that_outlasts_the_start_is_saved_by_the_next_save_point(
    later: Any, write: Any, make: Any
) -> None:
    """What a thread's update() sets after the start has compared is no more lost than any other write."""

    async def do(call: Call) -> None:
        slow = SlowWrite(call.session, write)
        await slow.stand()
        await call.start()
        await slow.finish()
        await later(call)

    app = serve({"/act": do}, store=make())
    browser = Browser(app, extra={"app": app})
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "first": 1, "answer": 2}


@STORES
@BY_METHOD
@in_loop
async def test_a_write_that_outlasts_the_final_message_is_saved_by_the_end(write: Any, make: Any) -> None:
    """Every save point that compared too early is followed by one that looks again, the last one at the end."""

    async def do(call: Call) -> None:
        slow = SlowWrite(call.session, write)
        await slow.stand()
        await call.start()
        await call.finish()
        await slow.finish()

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "first": 1, "answer": 2}
