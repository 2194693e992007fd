"""What happens to a start while another run runs."""

from __future__ import annotations

import asyncio

import pytest
import run_parts
from driver import in_loop
from producers import Producer, Reader, read, until
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import beginning, leases
from fastersession.errors import Busy, Gone

JOINED = "".join


@pytest.fixture(autouse=True, params=[False, True], ids=["objects", "bytes"])
def _packs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_parts, "PACKS", request.param)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)


ELSEWHERE = pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])


@ELSEWHERE
@in_loop
async def test_reject(elsewhere: bool) -> None:
    """The second question leaves nothing behind, and its generator is closed unused."""
    here = Worker(MemoryStore())
    second = (shared(here) if elsewhere else here).chat()
    await here.chat().start(Producer("a").generate(), entry="q")
    refused = Producer()
    frames = refused.generate()
    with pytest.raises(Busy) as caught:
        await second.start(frames, entry="other")
    assert caught.value.status == 409
    assert [entry.value for entry in (await second.look())[0]] == ["q"]
    assert not refused.entered
    assert frames.ag_frame is None


@ELSEWHERE
@in_loop
async def test_enqueue(elsewhere: bool) -> None:
    """It begins when the run before has ended."""
    here = Worker(MemoryStore())
    second = (shared(here) if elsewhere else here).chat()
    first, later = Producer("a"), Producer("b", ends=True)
    await here.chat().start(first.generate(), entry="1", fold=JOINED)
    waiting = asyncio.ensure_future(second.start(later.generate(), entry="2", fold=JOINED, when_busy="enqueue"))
    await until(lambda: here.logs.calls.count("write") or waiting.done())
    assert not waiting.done()
    first.end()
    await read(await waiting)
    assert [entry.value for entry in (await second.look())[0]] == ["1", "a", "2", "b"]


@in_loop
async def test_those_who_wait_here_begin_in_their_order() -> None:
    """First come, first served."""
    chat = Worker(MemoryStore()).chat()
    first = Producer("0")
    await chat.start(first.generate(), fold=JOINED)
    waiting = []
    for number in range(1, 6):
        frames = Producer(str(number), ends=True).generate()
        waiting.append(asyncio.ensure_future(chat.start(frames, fold=JOINED, when_busy="enqueue")))
        await asyncio.sleep(0)
    first.end()
    for one in waiting:
        await read(await one)
    assert [entry.value for entry in (await chat.look())[0]] == list("012345")


@in_loop
async def test_enqueue_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is told that the conversation is busy."""
    monkeypatch.setattr(beginning, "WAIT_SECONDS", 0.05)
    chat = Worker(MemoryStore()).chat()
    await chat.start(Producer("a").generate())
    producer = Producer()
    for _ in range(2):
        with pytest.raises(Busy):
            await chat.start(producer.generate(), when_busy="enqueue")
    assert not producer.entered


@ELSEWHERE
@in_loop
async def test_interrupt(elsewhere: bool) -> None:
    """The run before ends, its partial answer enters, and then comes the new question."""
    here = Worker(MemoryStore())
    second = (shared(here) if elsewhere else here).chat()
    first = Producer("a", "b")
    run = await here.chat().start(first.generate(), entry="1", fold=JOINED)
    reader = Reader(run)
    await reader.until(2)
    await read(await second.start(Producer("c", ends=True).generate(), entry="2", fold=JOINED, when_busy="interrupt"))
    await reader.task
    assert run.status == "interrupted"
    await first.closed.wait()
    assert [entry.value for entry in (await second.look())[0]] == ["1", "ab", "2", "c"]


@ELSEWHERE
@in_loop
async def test_rollback(elsewhere: bool) -> None:
    """What the run before and its question have added is removed; what was there before them stays."""
    here = Worker(MemoryStore())
    chat, second = here.chat(), (shared(here) if elsewhere else here).chat()
    await read(await chat.start(Producer("0", ends=True).generate(), entry="q0", fold=JOINED))
    first = Producer("a", "b")
    reader = Reader(await chat.start(first.generate(), entry="1", fold=JOINED))
    await reader.until(2)
    await read(await second.start(Producer("c", ends=True).generate(), entry="2", fold=JOINED, when_busy="rollback"))
    await reader.task
    assert [entry.value for entry in (await second.look())[0]] == ["q0", "0", "2", "c"]


@in_loop
async def test_two_that_interrupt_leave_one_running() -> None:
    """Whoever was slower interrupts the faster: one run runs, and nobody is told that he is busy."""
    here = Worker(MemoryStore())
    chats = [here.chat(), shared(here).chat(), shared(here).chat()]
    first = await chats[0].start(Producer("a").generate())
    producers = [Producer("b"), Producer("c")]
    runs = await asyncio.gather(
        *(chat.start(one.generate(), when_busy="interrupt") for chat, one in zip(chats[1:], producers, strict=True))
    )
    running = (await chats[0].look())[1]
    assert running is not None
    assert running.id in [run.id for run in runs]
    for run, producer in zip(runs, producers, strict=True):
        if run.id != running.id:
            await producer.closed.wait()
    await until(lambda: first.status == "interrupted")


@in_loop
async def test_a_process_takes_so_many_runs() -> None:
    """C16: one more is refused with 503, and the others go on."""
    worker = Worker(MemoryStore())
    first = Producer("a")
    run = await worker.chat("1", max_runs=1).start(first.generate())
    with pytest.raises(Busy) as caught:
        await worker.chat("2", max_runs=1).start(Producer().generate())
    assert caught.value.status == 503
    first.end()
    await read(run)
    await until(lambda: not worker.chat()._handle.keeper.runs.own)
    await worker.chat("2", max_runs=1).start(Producer(ends=True).generate())


@in_loop
async def test_a_start_in_a_conversation_that_is_gone_is_refused() -> None:
    """Its generator is closed unused."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    producer = Producer()
    gate = worker.logs.hold("begin")
    starting = asyncio.ensure_future(chat.start(producer.generate(), entry="q"))
    await gate.reached.wait()
    await worker.inner.logs.delete(chat._handle.place)
    gate.open.set()
    with pytest.raises(Gone):
        await starting
    assert not producer.entered
    assert await worker.chat().look() == ([], None)
