"""The end of a process: runs get a while to end, then they are interrupted, and what they said is kept."""

from __future__ import annotations

import asyncio

import pytest
from driver import in_loop
from producers import Producer, Reader, read
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import runs
from fastersession.errors import Busy


@in_loop
async def test_a_run_may_end_by_itself() -> None:
    """Within the grace nothing is cut, and no other run begins."""
    worker = Worker(MemoryStore())
    chat = worker.chat(fold="".join)
    keeper = chat._handle.keeper
    producer = Producer("a")
    run = await chat.start(producer.generate())
    draining = asyncio.ensure_future(keeper.runs.drain(keeper))
    await asyncio.sleep(0)
    with pytest.raises(Busy) as caught:
        await chat.start(Producer().generate())
    assert caught.value.status == 503
    producer.say("b")
    producer.end()
    await draining
    assert run.status == "completed"
    assert await read(run) == ["a", "b"]


@in_loop
async def test_what_does_not_end_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The partial answer is in the history, and another worker goes on with the conversation."""
    monkeypatch.setattr(runs, "GRACE_SECONDS", 0.01)
    worker = Worker(MemoryStore())
    chat = worker.chat(fold="".join)
    keeper = chat._handle.keeper
    producer = Producer("a")
    run = await chat.start(producer.generate(), entry="q")
    reader = Reader(run)
    await reader.until(1)
    gate = worker.logs.hold("write")
    producer.say("b")
    await gate.reached.wait()
    draining = asyncio.ensure_future(keeper.runs.drain(keeper))
    await producer.closed.wait()
    gate.open.set()
    await draining
    await reader.task
    assert (reader.data, run.status) == (["a", "b"], "interrupted")
    there = shared(worker).chat()
    entries, _ = await there.look()
    assert [entry.value for entry in entries] == ["q", "ab"]
    await read(await there.start(Producer("c", ends=True).generate()))


@in_loop
async def test_the_shutdown_of_one_middleware_ends_its_own_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one on the same store goes on."""
    monkeypatch.setattr(runs, "GRACE_SECONDS", 0.01)
    worker = Worker(MemoryStore())
    first, second = worker.chat("1"), worker.chat("2")
    producer = Producer("a")
    run = await first.start(Producer().generate())
    other = await second.start(producer.generate())
    keeper = first._handle.keeper
    assert keeper.runs is second._handle.keeper.runs
    await keeper.runs.drain(keeper)
    assert run.status == "interrupted"
    assert other.status == "running"
    producer.end()
    assert await read(other) == ["a"]


@in_loop
async def test_a_store_that_is_away_does_not_hold_up_the_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease ends by itself, and others find the run lost."""
    monkeypatch.setattr(runs, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(runs, "DRAIN_SECONDS", 0.01)
    worker = Worker(MemoryStore())
    chat = worker.chat()
    producer = Producer("a")
    run = await chat.start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    worker.logs.is_away = True
    await chat._handle.keeper.runs.drain(chat._handle.keeper)
    assert producer.closed.is_set()
    worker.logs.is_away = False
    await reader.task
    assert run.status == "interrupted"
