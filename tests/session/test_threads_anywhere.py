"""A worker thread that logs out, at every single step of a request: between any two bytecodes of the package."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve, tab
from stores import SuspendingStore

import fastersession
from fastersession import FasterSessionError, MemoryStore, Session

PACKAGE = str(Path(fastersession.__file__).parent)
LIMIT = 20_000  # steps of one request: more are an endless loop
STRIDE = 19  # prime: not the same place of every function

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
Handler = Callable[[Call], Awaitable[None]]


@contextmanager
def at_step(number: int, do: Callable[[], object]) -> Iterator[list[str]]:
    """Run `do` before the so manieth bytecode of the package in this thread; yield where that was, if it came."""
    steps, where = 0, []
    threads: list[threading.Thread] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal steps
        if not frame.f_code.co_filename.startswith(PACKAGE) or "/testing/" in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            steps += 1
            if steps == number:
                where.append(f"{frame.f_code.co_qualname} line {frame.f_lineno}")
                threads.append(threading.Thread(target=do))
                threads[0].start()
                threads[0].join(0.05)  # where this thread holds a lock, the other one comes a moment later
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield where
    finally:
        sys.settrace(before)
        for thread in threads:
            thread.join()


async def save(call: Call) -> None:
    call.session["b"] = 2
    await call.session.save()
    await call.reply()


async def login(call: Call) -> None:
    call.session.regenerate_id()
    call.session["b"] = 2
    await call.reply()


async def stream(call: Call) -> None:
    await call.start()
    call.session["b"] = 2
    call.session.idle_timeout = 60
    await call.finish()


async def reload(call: Call) -> None:
    await call.session.reload()
    await call.reply()


async def look(call: Call) -> None:
    session = call.session
    assert None not in [session.id, session.created_at, session.last_accessed_at, session.idle_timeout, session.is_new]
    await call.reply()


async def begin(call: Call) -> None:
    await call.session.invalidate()
    call.session["b"] = 2
    await call.session.save()
    await call.reply()


HANDLERS = (begin, save, login, stream, reload, look)


@STORES
@pytest.mark.parametrize("handler", HANDLERS, ids=[handler.__name__ for handler in HANDLERS])
@in_loop
async def test_a_logout_in_a_thread_is_carried_out_wherever_it_comes(handler: Handler, make: Any) -> None:
    """No error but the package's own comes out of the request, and the session is gone when it has ended."""
    steps, store = 0, make()
    sessions: list[Session] = []

    async def act(call: Call) -> None:
        sessions[:] = [call.session]
        with at_step(steps, call.session.invalidate) as where:
            await handler(call)
        places[:] = where

    browser, places = Browser(serve({"/act": act}, store=store)), [""]
    for _ in range(2):  # CPython 3.12 traces the bytecodes of a function from its second call on
        await browser.get("/set?a=1")
        await browser.get("/act")
    steps, places = 1, [""]
    while places:
        browser.jar.clear()
        await browser.get("/set?a=1")
        old, alive = tab(browser), len(store) - 1
        answer = await browser.get("/act", catch=True)
        assert answer.error is None or isinstance(answer.error, FasterSessionError), (places, answer.error)
        if places:
            assert await content(old) == {}, places
            assert "a" not in await content(browser), places
            assert len(store) - alive <= 1, places
        assert steps < LIMIT
        steps += STRIDE
    assert steps > 5 * STRIDE
    gc.collect()
