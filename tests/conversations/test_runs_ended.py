"""Who ends a run: a stop from anywhere, a crash, a deletion, a reader or a request that was to keep it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from driver import in_loop
from producers import Producer, Reader, read, until
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import following, leases, own
from fastersession.errors import Gone
from fastersession.stores.logs import Run

JOINED = "".join
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _fast(monkeypatch: Patch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)


@in_loop
async def test_a_stop_ends_the_run_and_its_producer() -> None:
    """The partial answer enters the history; a second stop finds nothing to stop."""
    chat = Worker(MemoryStore()).chat()
    producer = Producer("a", "b")
    run = await chat.start(producer.generate(), entry="q", fold=JOINED)
    reader = Reader(run)
    await reader.until(2)
    assert await chat.stop()
    assert not await chat.stop()
    await reader.task
    await producer.closed.wait()
    assert run.status == "cancelled"
    await until(lambda: run.entry)
    assert [entry.value for entry in (await chat.look())[0]] == ["q", "ab"]
    assert (await chat.look())[1] is None


@in_loop
async def test_a_stop_from_another_worker_ends_it_while_the_model_is_silent() -> None:
    """The producer learns of it at its next renewal, and what it says then is in no log."""
    here = Worker(MemoryStore())
    there = shared(here)
    producer = Producer("a")
    run = await here.chat().start(producer.generate(), fold=JOINED)
    reader = Reader(run)
    await reader.until(1)
    assert await there.chat().stop()
    await producer.closed.wait()
    await reader.task
    assert run.status == "cancelled"
    await until(lambda: run.entry)
    assert [entry.value for entry in (await there.chat().look())[0]] == ["a"]


@in_loop
async def test_after_a_stop_the_log_never_grows() -> None:
    """What is in flight when the stop returns is refused."""
    here = Worker(MemoryStore())
    producer = Producer("a")
    run = await here.chat().start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    gate = here.logs.hold("write")
    producer.say("b")
    await gate.reached.wait()
    assert await shared(here).chat().stop()
    key = run._ending.run
    before = await here.inner.logs.read({key: (0, 0)}, 1000)
    gate.open.set()
    await producer.closed.wait()
    await reader.task
    assert reader.data == ["a"]
    assert await here.inner.logs.read({key: (0, 0)}, 1000) == before


@in_loop
async def test_a_batch_whose_reply_was_lost_before_a_stop_is_read() -> None:
    """The log has it, so readers and the answer have it, too."""
    here = Worker(MemoryStore())
    producer = Producer("a")
    run = await here.chat().start(producer.generate(), fold=JOINED)
    reader = Reader(run)
    await reader.until(1)
    gate = here.logs.hold("write", after=True)
    here.logs.fail("write", "lose")
    producer.say("b")
    await gate.reached.wait()
    assert await shared(here).chat().stop()
    gate.open.set()
    await reader.task
    assert reader.data == ["a", "b"]
    await until(lambda: run.entry)
    assert run.entry.value == "ab"


@in_loop
async def test_what_a_stopped_generator_saves_is_kept_until_the_next_run() -> None:
    """Its ``finally`` may still write; once a later run has begun it may not."""
    here = Worker(MemoryStore())
    chat = here.chat()
    run = await chat.start(Producer("a").generate())
    look = await here.inner.logs.look(chat._handle.places, 0, 0)
    await chat.stop()
    await here.append(chat, "late", run=look.run.run)
    await chat.start(Producer("b").generate())
    await here.append(chat, "too late", run=look.run.run)
    assert [entry.value for entry in (await chat.look())[0]] == ["late"]
    assert run.status == "cancelled"


@in_loop
async def test_the_end_of_a_lease_is_found_by_a_look(monkeypatch: Patch) -> None:
    """Whoever looks ends the run of a process that is gone, and enters what the log has."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 1000)
    here = Worker(MemoryStore())
    there = shared(here)
    run = await here.chat().start(Producer("a", "b").generate(), entry="q")
    reader = Reader(run)
    await reader.until(2)
    await crash(here, run)
    entries, found = await there.chat(fold=JOINED).look()
    assert [entry.value for entry in entries] == ["q", "ab"]
    assert found is None
    await reader.leave()


@in_loop
async def test_the_end_of_a_lease_is_found_by_a_start(monkeypatch: Patch) -> None:
    """The next question does not wait for a process that is gone."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 1000)
    here = Worker(MemoryStore())
    run = await here.chat().start(Producer("a").generate())
    reader = Reader(run)
    await reader.until(1)
    await crash(here, run)
    there = shared(here).chat(fold=JOINED)
    second = await there.start(Producer("b", ends=True).generate())
    await read(second)
    assert [entry.value for entry in (await there.look())[0]] == ["a", "b"]
    await reader.leave()


@in_loop
async def test_the_end_of_a_lease_is_found_by_a_reader(monkeypatch: Patch) -> None:
    """C5: a reader elsewhere is not left waiting for a process that is gone."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 1000)
    monkeypatch.setattr(following, "LEASE_SECONDS", 0.05)
    here = Worker(MemoryStore())
    run = await here.chat().start(Producer("a").generate())
    follower = Reader(await shared(here).chat().run())
    await follower.until(1)
    await crash(here, run)
    await follower.task
    assert follower.data == ["a"]


async def crash(worker: Worker, run: object) -> None:
    """Let the lease of a run be over, as if its process had died."""
    key: Run = run._ending.run  # type: ignore[attr-defined]
    await worker.inner.logs.renew([key], -1.0)


@in_loop
async def test_a_process_that_wakes_writes_no_more() -> None:
    """Its run was lost meanwhile: its frames, its answer and its end are refused."""
    here = Worker(MemoryStore())
    producer = Producer("a")
    run = await here.chat().start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    await crash(here, run)
    there = shared(here).chat()
    await there.look()
    second = await there.start(Producer("x", ends=True).generate(), fold=JOINED)
    producer.say("b")
    await reader.task
    assert (reader.data, run.status) == (["a"], "lost")
    await read(second)
    assert [entry.value for entry in (await there.look())[0]] == ["x"]


@in_loop
async def test_a_deleted_conversation_ends_its_run() -> None:
    """The producer is closed, readers are told, here and elsewhere, and nothing comes back."""
    here = Worker(MemoryStore())
    chat = here.chat()
    producer = Producer("a")
    run = await chat.start(producer.generate(), fold=JOINED)
    reader, follower = Reader(run), Reader(await shared(here).chat().run())
    await reader.until(1)
    await follower.until(1)
    await here.inner.logs.delete(chat._handle.place)
    for one in (reader, follower):
        with pytest.raises(Gone):
            await one.task
    await producer.closed.wait()
    assert await here.chat().look() == ([], None)


@in_loop
async def test_a_producer_that_does_not_end_is_left_behind(monkeypatch: Patch) -> None:
    """The run ends all the same, and one event tells of it."""
    monkeypatch.setattr(own, "CLOSE_SECONDS", 0.05)
    released = asyncio.Event()

    async def stubborn():  # type: ignore[no-untyped-def]
        yield "a"
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    worker = Worker(MemoryStore())
    chat = worker.chat()
    run = await chat.start(stubborn())
    reader = Reader(run)
    await reader.until(1)
    await chat.stop()
    await reader.task
    runs = chat._handle.keeper.runs
    await until(lambda: not runs.own)
    assert [event.name for event in worker.told] == ["run.stuck"]
    released.set()


@in_loop
async def test_cancel_on_disconnect_ends_the_run_with_its_reader() -> None:
    """Only the run that ``start`` returned: a run that was attached to goes on."""
    chat = Worker(MemoryStore()).chat()
    producer = Producer("a")
    run = await chat.start(producer.generate(), on_disconnect="cancel")
    other, reader = Reader(await chat.run()), Reader(run)
    await other.until(1)
    await reader.until(1)
    await reader.leave()
    await producer.closed.wait()
    await other.task
    assert run.status == "cancelled"


@in_loop
async def test_cancel_on_disconnect_ends_the_run_with_its_request() -> None:
    """Also if nobody has read it."""
    chat = Worker(MemoryStore()).chat()
    producer = Producer("a")
    run = await chat.start(producer.generate(), on_disconnect="cancel")
    reader = Reader(await chat.run())
    await reader.until(1)
    chat._handle.is_over = True
    await producer.closed.wait()
    await reader.task
    assert run.status == "cancelled"


@in_loop
async def test_a_run_that_nobody_reads_is_abandoned() -> None:
    """After ``abandon_after`` seconds without a reader it ends, and not before the last has left."""
    chat = Worker(MemoryStore()).chat(abandon_after=0.1)
    producer = Producer("a")
    run = await chat.start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    await asyncio.sleep(0.2)
    assert run.status == "running"
    await reader.leave()
    await producer.closed.wait()
    await until(lambda: run.status != "running")
    assert run.status == "cancelled"


@in_loop
async def test_a_silent_run_is_not_lost(monkeypatch: Patch) -> None:
    """As long as its process renews its lease, a reader elsewhere waits."""
    monkeypatch.setattr(following, "LEASE_SECONDS", 0.01)
    here = Worker(MemoryStore())
    there = shared(here)
    producer = Producer("a")
    run = await here.chat().start(producer.generate())
    follower = Reader(await there.chat().run())
    await until(lambda: there.logs.calls.count("end") > 3)
    producer.say("b")
    producer.end()
    await follower.task
    assert (follower.data, run.status) == (["a", "b"], "completed")


@in_loop
async def test_a_run_that_an_entry_carries_is_shown_while_it_runs() -> None:
    """A generator may append more than once; what it says afterwards can still be followed."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    producer = Producer("a")
    run = await chat.start(producer.generate())
    await worker.append(chat, "a tool's call", run=run._ending.run.run)
    _, running = await chat.look()
    assert running is not None
    assert running.id == run.id
    producer.end()
    await read(running)
    assert (await chat.look())[1] is None


@in_loop
async def test_nothing_is_taken_of_a_producer_that_yields_on(monkeypatch: Patch) -> None:
    """One that swallows its cancellation and says more is closed, and heard no more."""
    closed = asyncio.Event()

    async def stubborn():  # type: ignore[no-untyped-def]
        try:
            yield "a"
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            while True:
                yield "more"
        finally:
            closed.set()

    monkeypatch.setattr(own, "CLOSE_SECONDS", 5.0)
    worker = Worker(MemoryStore())
    run = await worker.chat(max_seconds=0.05).start(stubborn())
    assert await read(run) == ["a"]
    assert closed.is_set()
    assert (run.status, run.error) == ("failed", "TimeoutError")
