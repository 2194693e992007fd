"""Runs are produced once, read by many, and kept: over one store, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import run_parts
from driver import in_loop
from producers import Producer, Reader, read, until
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import runs, tail
from fastersession.conversations.running import current_run
from fastersession.errors import ConfigError, KeyReused

JOINED = "".join


@pytest.fixture(autouse=True, params=[False, True], ids=["objects", "bytes"])
def _packs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_parts, "PACKS", request.param)


@in_loop
async def test_a_run_is_read_as_it_was_yielded() -> None:
    """A reader's frames, of any kind, are those that were yielded, in order."""
    chat = Worker(MemoryStore()).chat()
    frames = ["a", b"\xff", {"x": [1]}, ["y"], "ü", ""]
    run = await chat.start(Producer(*frames, ends=True).generate())
    assert await read(run) == frames
    assert run.status == "completed"
    assert run.error is None


@in_loop
async def test_a_reader_may_begin_anywhere() -> None:
    """From each cursor a reader gets exactly what is after it, from memory and from the log."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    said = [str(number) for number in range(20)]
    producer = Producer(*said[:10])
    run = await chat.start(producer.generate())
    first = Reader(run)
    await first.until(10)
    producer.say(*said[10:])
    producer.end()
    await first.task
    ids = [frame.id for frame in first.frames]
    assert first.data == said
    assert len(set(ids)) == 20
    for number, cursor in enumerate(ids):
        assert await read(run, cursor) == said[number + 1 :]
        found = await chat.run(cursor)
        if number == 19:
            assert found is None
        else:
            assert found is not None
            assert await read(found) == said[number + 1 :]


@in_loop
async def test_a_cursor_may_lie_inside_a_batch() -> None:
    """Frames that were written together have ids of their own."""
    worker = Worker(MemoryStore())
    run = await worker.chat().start(Producer("a", "b", "c", ends=True).generate())
    frames = [frame async for frame in run.frames()]
    assert worker.logs.calls.count("write") == 1
    assert await read(run, frames[0].id) == ["b", "c"]


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", "1AAAAAAAA.1", "2AAAAAAAA.1", "1AAAAAAAA.-1", "\0", "9" * 5000])
@in_loop
async def test_a_cursor_of_no_run_is_as_none(cursor: str) -> None:
    """What a client says is looked up among the runs of this conversation, or is nothing."""
    chat = Worker(MemoryStore()).chat()
    assert await chat.run(cursor) is None
    await read(await chat.start(Producer("a", "b", ends=True).generate()))
    found = await chat.run(cursor)
    assert found is not None
    assert await read(found) == ["a", "b"]


@in_loop
async def test_the_question_comes_with_the_run_and_the_answer_with_its_end() -> None:
    """Each is in one step, so a page sees the question with the run, and the answer instead of it."""
    chat = Worker(MemoryStore()).chat()
    producer = Producer("a", "b")
    run = await chat.start(producer.generate(), entry="question", fold=JOINED)
    entries, running = await chat.look()
    assert [entry.value for entry in entries] == ["question"]
    assert running is not None
    assert (running.id, running.status) == (run.id, "running")
    producer.end()
    assert await read(running) == ["a", "b"]
    entries, running = await chat.look()
    assert [entry.value for entry in entries] == ["question", "ab"]
    assert running is None
    assert entries[1].run == run.id
    assert run.entry.value == "ab"
    assert await chat.run() is None


@in_loop
async def test_a_run_without_an_answer_is_shown_itself() -> None:
    """A run that no entry carries is part of what a page draws."""
    chat = Worker(MemoryStore()).chat()
    await read(await chat.start(Producer("a", ends=True).generate()))
    entries, run = await chat.look()
    assert entries == []
    assert run is not None
    assert run.status == "completed"
    assert await read(run) == ["a"]


@in_loop
async def test_what_is_not_there_is_looked_at() -> None:
    """Looking makes nothing."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    assert await chat.look() == ([], None)
    assert await chat.run() is None
    assert await chat.stop() is False
    assert "create" not in worker.logs.calls


@in_loop
async def test_the_same_key_never_generates_twice() -> None:
    """While it runs, and after its end, a start with the key of a run is that run."""
    chat = Worker(MemoryStore()).chat()
    first, second, third = Producer("a"), Producer(), Producer()
    run = await chat.start(first.generate(), key="k", entry="q", fold=JOINED)
    again = await chat.start(second.generate(), key="k", entry="q")
    assert again.id == run.id
    first.end()
    assert await read(again) == await read(run) == ["a"]
    ended = await chat.start(third.generate(), key="k", entry="q", when_busy="interrupt")
    assert (ended.id, ended.status, ended.entry.value) == (run.id, "completed", "a")
    assert await read(ended) == ["a"]
    assert (first.entered, second.entered, third.entered) == (1, 0, 0)
    assert [entry.value for entry in (await chat.look())[0]] == ["q", "a"]


@in_loop
async def test_a_key_with_another_question_is_refused() -> None:
    """The same key with another entry is another request, and nothing of it happens."""
    chat = Worker(MemoryStore()).chat()
    await chat.start(Producer(ends=True).generate(), key="k", entry="q")
    with pytest.raises(KeyReused):
        await chat.start(Producer().generate(), key="k", entry="other")
    assert [entry.value for entry in (await chat.look())[0]] == ["q"]


@in_loop
async def test_a_producer_that_raises_is_named_and_no_more() -> None:
    """C17: readers end as usual; the class's name is all that they are told, and the log has the rest."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    producer = Producer("a")
    producer.end(RuntimeError("secret"))
    run = await chat.start(producer.generate(), fold=JOINED)
    assert await read(run) == ["a"]
    assert (run.status, run.error) == ("failed", "RuntimeError")
    assert run.entry.value == "a"
    assert [event.name for event in worker.told] == ["run.failed"]
    assert "secret" not in worker.told[0].said()
    found = await chat.start(Producer().generate())
    assert found.id != run.id


@pytest.mark.parametrize(("frame", "error"), [(1, "TypeError"), (None, "TypeError"), ("x" * (2**20 + 1), "TooLarge")])
@in_loop
async def test_what_is_no_frame_fails_the_run(frame: object, error: str) -> None:
    """What came before it is kept."""
    run = await Worker(MemoryStore()).chat().start(Producer("a", frame, "b", ends=True).generate())
    assert (await read(run))[:1] == ["a"]
    assert run.status == "failed"
    assert run.error == error


@in_loop
async def test_a_run_is_bounded_in_bytes() -> None:
    """C16: a run that exceeds ``max_bytes`` fails, and keeps what fitted."""
    run = await Worker(MemoryStore()).chat(max_bytes=10).start(Producer("12345", "67890", "1", ends=True).generate())
    assert await read(run) == ["12345", "67890"]
    assert (run.status, run.error) == ("failed", "TooLarge")


@in_loop
async def test_a_run_is_bounded_in_time() -> None:
    """A run that takes longer than ``max_seconds`` fails, and its producer is closed."""
    producer = Producer("a")
    run = await Worker(MemoryStore()).chat(max_seconds=0.05).start(producer.generate())
    assert await read(run) == ["a"]
    assert (run.status, run.error) == ("failed", "TimeoutError")
    assert producer.closed.is_set()


@in_loop
async def test_a_fold_that_fails_costs_the_answer_alone() -> None:
    """The run ends all the same, and one event tells of it."""
    worker = Worker(MemoryStore())
    run = await worker.chat().start(Producer("a", ends=True).generate(), fold=lambda frames: frames["x"])  # type: ignore[call-overload]
    assert await read(run) == ["a"]
    assert (run.status, run.entry) == ("completed", None)
    assert [event.name for event in worker.told] == ["run.fold_failed"]


@in_loop
async def test_an_answer_moves_behind_what_others_have_appended() -> None:
    """The end is tried again at the position that the history has reached."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    producer = Producer("a")
    run = await chat.start(producer.generate(), entry="q", fold=JOINED)
    await worker.append(chat, "meanwhile")
    producer.end()
    assert await read(run) == ["a"]
    assert [entry.value for entry in (await chat.look())[0]] == ["q", "meanwhile", "a"]


@in_loop
async def test_a_reader_that_leaves_ends_nothing() -> None:
    """The others and the producer go on."""
    chat = Worker(MemoryStore()).chat()
    producer = Producer("a")
    run = await chat.start(producer.generate())
    leaving, staying = Reader(run), Reader(run)
    await leaving.until(1)
    await leaving.leave()
    producer.say("b")
    producer.end()
    await staying.task
    assert staying.data == ["a", "b"]


@in_loop
async def test_a_producer_waits_for_the_log() -> None:
    """What waits for a store is bounded: above it the producer is not asked for more."""
    worker = Worker(MemoryStore())
    gate = worker.logs.hold("write")
    producer = Producer(*["x" * 100_000] * 10, ends=True)
    run = await worker.chat().start(producer.generate())
    await gate.reached.wait()
    assert not producer.closed.is_set()
    gate.open.set()
    assert len(await read(run)) == 10


@in_loop
async def test_neither_the_first_frame_nor_the_end_waits() -> None:
    """What comes in between is gathered."""
    worker = Worker(MemoryStore())
    producer = Producer("a")
    run = await worker.chat(gap=1000.0).start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    producer.say("b", "c")
    await producer.waits.wait()
    producer.end()
    await reader.task
    assert reader.data == ["a", "b", "c"]
    assert worker.logs.calls.count("write") == 2


@in_loop
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound of a process frames are let go of, and answers are made of what the log has."""
    monkeypatch.setattr(runs, "MOST_BYTES", 1000)
    monkeypatch.setattr(tail, "MOST_HELD", 100)
    worker = Worker(MemoryStore())
    here = worker.chat()._handle.keeper.runs
    producers = [Producer(), Producer(), Producer()]
    readers = []
    for number, producer in enumerate(producers):
        readers.append(Reader(await worker.chat(str(number), fold=JOINED).start(producer.generate())))
        for count in range(1, 11):
            producer.say("x" * 60)
            await readers[-1].until(count)
            assert here.size <= 1060
    assert any(one.tail.first > 1 for one in here.own.values())
    for number, (producer, reader) in enumerate(zip(producers, readers, strict=True)):
        producer.end()
        await reader.task
        entries, _ = await worker.chat(str(number)).look()
        assert [entry.value for entry in entries] == ["x" * 600]
    await until(lambda: not here.own)
    assert (here.size, here.is_full) == (0, False)


@in_loop
async def test_who_comes_late_reads_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run that runs here does not hold any more is read, and then it is followed."""
    monkeypatch.setattr(tail, "MOST_HELD", 100)
    chat = Worker(MemoryStore()).chat()
    producer = Producer()
    run = await chat.start(producer.generate())
    first = Reader(run)
    said = [f"{number:060}" for number in range(10)]
    for number, frame in enumerate(said, 1):
        producer.say(frame)
        await first.until(number)
    late = Reader(run)
    await late.until(10)
    producer.say("end")
    producer.end()
    await late.task
    await first.task
    assert late.data == first.data == [*said, "end"]


@in_loop
async def test_what_a_generator_asks_knows_its_run() -> None:
    """So that what it appends is written by this run; outside nobody is in one."""
    chat = Worker(MemoryStore()).chat()
    found: list[bytes | None] = []

    async def frames() -> AsyncIterator[str]:
        look = await chat._handle.keeper.call("look", chat._handle.places, 0, 0)
        found.extend([current_run(look.log.log), current_run(b"other")])
        yield "a"

    run = await chat.start(frames())
    assert await read(run) == ["a"]
    assert found == [bytes.fromhex(run.id), None]
    assert current_run(run._ending.run.log.log) is None


@in_loop
async def test_memory_is_let_go_of() -> None:
    """C11: a process that has no run has nothing of those that it had."""
    worker = Worker(MemoryStore())
    here = worker.chat()._handle.keeper.runs
    run = await worker.chat().start(Producer("a" * 1000, ends=True).generate(), fold=JOINED)
    await read(run)
    await until(lambda: not here.own)
    assert here.size == 0
    await until(lambda: not here.tasks)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"when_busy": "wait"}, ValueError),
        ({"on_disconnect": "stop"}, ValueError),
        ({"format": "json"}, ValueError),
    ],
)
@in_loop
async def test_wrong_arguments_are_refused(arguments: dict[str, str], error: type[Exception]) -> None:
    """Before anything is done."""
    worker = Worker(MemoryStore())
    with pytest.raises(error):
        await worker.chat().start(Producer().generate(), **arguments)  # type: ignore[arg-type]
    assert worker.logs.calls == []


@in_loop
async def test_only_async_iterators_are_taken() -> None:
    """A list, a generator or a coroutine is none."""
    chat = Worker(MemoryStore()).chat()
    for wrong in ([], (one for one in ()), asyncio.sleep):
        with pytest.raises(TypeError, match="async iterator"):
            await chat.start(wrong)  # type: ignore[arg-type]


def test_a_run_needs_asyncio() -> None:
    """Under another event loop it is refused in words."""
    coroutine = Worker(MemoryStore()).chat().start(Producer().generate())
    with pytest.raises(ConfigError, match="asyncio"):
        coroutine.send(None)


@in_loop
async def test_a_run_of_another_conversation_is_not_there() -> None:
    """C8: a cursor of one conversation leads nowhere in another."""
    worker = Worker(MemoryStore())
    frames = [frame async for frame in (await worker.chat().start(Producer("a", "b", ends=True).generate())).frames()]
    assert await worker.chat("other").run(frames[0].id) is None
    assert shared(worker) is not worker
