"""A caller that is cancelled, at every await: a run that has begun runs, and one that has not is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from driver import in_loop
from producers import Producer, Reader, read, until
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import beginning, ending, leases, writer

JOINED = "".join


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    for module in (writer, ending, beginning):
        monkeypatch.setattr(module, "PAUSES", (0.001,) * 4)


async def cancelled_at(turn: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Cancel a task after so many turns of the loop; return whether it had ended before."""
    task = asyncio.ensure_future(work)
    for _ in range(turn):
        await asyncio.sleep(0)
    is_over = task.done()
    task.cancel()
    await asyncio.wait({task})
    return is_over


@pytest.mark.parametrize("fault", ["", "lose"])
@in_loop
async def test_a_cancelled_start(fault: str) -> None:
    """The retry with the key gets the run that runs, or begins it: the generators are entered once in all."""
    turn, is_over = 1, False
    while not is_over:
        worker = Worker(MemoryStore())
        chat = worker.chat()
        if fault:
            worker.logs.fail("begin", fault)
        first, second = Producer("a", ends=True), Producer("a", ends=True)
        frames = [first.generate(), second.generate()]
        is_over = await cancelled_at(turn, chat.start(frames[0], key="k", entry="q", fold=JOINED))
        run = await chat.start(frames[1], key="k", entry="q", fold=JOINED)
        assert await read(run) == ["a"]
        assert run.status == "completed"
        assert first.entered + second.entered == 1
        assert [entry.value for entry in (await chat.look())[0]] == ["q", "a"]
        await until(lambda frames=frames: all(one.ag_frame is None for one in frames))
        turn += 1
    assert turn > 5


@in_loop
async def test_a_cancelled_interrupt() -> None:
    """The turn is the first run's, the second's, or free; never somebody's who is not there."""
    turn, is_over = 1, False
    while not is_over:
        worker = Worker(MemoryStore())
        chat = worker.chat()
        first, second = Producer("a"), Producer("b")
        await chat.start(first.generate(), fold=JOINED)
        is_over = await cancelled_at(turn, chat.start(second.generate(), fold=JOINED, when_busy="interrupt"))
        run = (await chat.look())[1]
        if run is not None and run.status == "running":
            producer = first if not first.closed.is_set() else second
            producer.end()
            assert await read(run) == ["a" if producer is first else "b"]
        last = await chat.start(Producer("c", ends=True).generate(), when_busy="enqueue", fold=JOINED)
        assert await read(last) == ["c"]
        turn += 1
    assert turn > 5


@in_loop
async def test_a_cancelled_stop() -> None:
    """It has stopped the run, or has not; another stop does."""
    turn, is_over = 1, False
    while not is_over:
        here = Worker(MemoryStore())
        there = shared(here)
        producer = Producer("a")
        run = await here.chat().start(producer.generate(), fold=JOINED)
        reader = Reader(run)
        await reader.until(1)
        is_over = await cancelled_at(turn, there.chat(fold=JOINED).stop())
        await there.chat().stop()
        await reader.task
        assert run.status == "cancelled"
        await until(lambda run=run: run.entry)
        assert [entry.value for entry in (await there.chat().look())[0]] == ["a"]
        turn += 1
    assert turn > 3


@in_loop
async def test_those_who_wait_for_a_turn_may_leave() -> None:
    """Whoever is cancelled while he waits, the next one gets on."""
    chat = Worker(MemoryStore()).chat()
    first, third = Producer("a"), Producer("c", ends=True)
    await chat.start(first.generate())
    leaving = asyncio.ensure_future(chat.start(Producer("b").generate(), when_busy="enqueue"))
    staying = asyncio.ensure_future(chat.start(third.generate(), when_busy="enqueue"))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.wait({leaving})
    first.end()
    assert await read(await staying) == ["c"]


@in_loop
async def test_the_context_is_a_copy() -> None:
    """What the generator sets is not seen outside, and it sees what its caller had."""
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    async def frames():  # type: ignore[no-untyped-def]
        yield variable.get()
        variable.set("inside")

    variable.set("outside")
    assert await read(await Worker(MemoryStore()).chat().start(frames())) == ["outside"]
    assert variable.get() == "outside"
