"""A store that is away, loses replies, or loses what it had acknowledged: no frame is lost, doubled or reordered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import run_parts
from driver import in_loop
from producers import Producer, Reader, read, until
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import beginning, ending, leases, pump, writer
from fastersession.errors import Gone, StoreError
from fastersession.stores.logs import TERMINAL

JOINED = "".join
Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True, params=[False, True], ids=["objects", "bytes"])
def _packs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_parts, "PACKS", request.param)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: Patch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)
    for module in (writer, ending, beginning):
        monkeypatch.setattr(module, "PAUSES", (0.001,) * 4)


@contextmanager
def away(worker: Worker) -> Iterator[None]:
    """Nobody in this worker reaches the store."""
    worker.logs.is_away = True
    try:
        yield
    finally:
        worker.logs.is_away = False


@in_loop
async def test_nothing_is_generated_that_cannot_be_kept() -> None:
    """With a store that is away, a start fails, and its generator is closed unused."""
    worker = Worker(MemoryStore())
    producer = Producer()
    frames = producer.generate()
    with away(worker), pytest.raises(StoreError):
        await worker.chat().start(frames)
    assert not producer.entered
    assert frames.ag_frame is None


@pytest.mark.parametrize("times", [1, 2])
@in_loop
async def test_a_begin_whose_reply_is_lost_has_begun(times: int) -> None:
    """It is asked again, and is the one that has begun: one run, which runs."""
    worker = Worker(MemoryStore())
    worker.logs.fail("begin", "lose", times=times)
    producer = Producer("a", ends=True)
    run = await worker.chat().start(producer.generate(), entry="q", key="k", fold=JOINED)
    assert await read(run) == ["a"]
    assert producer.entered == 1
    assert [entry.value for entry in (await worker.chat().look())[0]] == ["q", "a"]


@pytest.mark.parametrize("fault", ["raise", "lose"])
@in_loop
async def test_a_batch_is_written_once(fault: str) -> None:
    """Whether the call or its reply was lost."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    producer = Producer("a")
    run = await chat.start(producer.generate(), fold=JOINED)
    reader = Reader(run)
    await reader.until(1)
    worker.logs.fail("write", fault, times=3)
    producer.say("b", "c")
    await reader.until(3)
    producer.say("d")
    producer.end()
    await reader.task
    assert reader.data == ["a", "b", "c", "d"]
    assert await read(await shared(worker).chat().run(reader.frames[0].id)) == ["b", "c", "d"]
    assert run.entry.value == "abcd"


@pytest.mark.parametrize("fault", ["raise", "lose"])
@in_loop
async def test_an_end_is_written_once(fault: str) -> None:
    """With one answer."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    worker.logs.fail("end", fault, times=3)
    run = await chat.start(Producer("a", ends=True).generate(), fold=JOINED)
    assert await read(run) == ["a"]
    assert run.status == "completed"
    assert [entry.value for entry in (await chat.look())[0]] == ["a"]


@in_loop
async def test_a_stop_whose_reply_is_lost_has_stopped() -> None:
    """It is asked again, and says so."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    run = await chat.start(Producer("a").generate())
    worker.logs.fail("end", "lose")
    assert await chat.stop()
    await until(lambda: run.status == "cancelled")


@in_loop
async def test_readers_see_a_pause() -> None:
    """While the store is away for a short time readers wait, and then go on with ids."""
    worker = Worker(MemoryStore())
    producer = Producer("a")
    run = await worker.chat().start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    with away(worker):
        producer.say("b")
        await until(lambda: worker.logs.calls.count("read") > 3)
        assert reader.data == ["a"]
    producer.end()
    await reader.task
    assert reader.data == ["a", "b"]
    assert all(frame.id for frame in reader.frames)
    assert worker.told == []


@in_loop
async def test_readers_here_get_the_rest_of_what_no_log_has(monkeypatch: Patch) -> None:
    """Without ids, so that their cursor stays at the last frame that is kept; what comes back is appended."""
    monkeypatch.setattr(pump, "HELD_SECONDS", 0.01)
    monkeypatch.setattr(pump, "FORWARD_SECONDS", 0.001)
    worker = Worker(MemoryStore())
    producer = Producer("a")
    run = await worker.chat().start(producer.generate(), fold=JOINED)
    reader = Reader(run)
    await reader.until(1)
    with away(worker):
        producer.say("b")
        await reader.until(2)
        producer.say("c", "d")
        await reader.until(4)
        assert [frame.id is None for frame in reader.frames] == [False, True, True, True]
        assert [event.name for event in worker.told] == ["run.unlogged"]
    await until(lambda: all(piece.is_logged for piece in run._tail.pieces))
    producer.say("e")
    producer.end()
    await reader.task
    assert reader.data == ["a", "b", "c", "d", "e"]
    assert reader.frames[-1].id is not None
    resumed = await shared(worker).chat().run(reader.frames[0].id)
    assert await read(resumed) == ["b", "c", "d", "e"]
    assert run.entry.value == "abcde"


@in_loop
async def test_what_no_log_has_is_not_in_the_answer_of_a_run_that_was_lost(monkeypatch: Patch) -> None:
    """The lease was over before the store came back: all of it is refused."""
    monkeypatch.setattr(pump, "HELD_SECONDS", 0.01)
    here = Worker(MemoryStore())
    producer = Producer("a")
    run = await here.chat().start(producer.generate(), fold=JOINED)
    reader = Reader(run)
    await reader.until(1)
    with away(here):
        producer.say("b")
        await reader.until(2)
        await here.inner.logs.renew([run._ending.run], -1.0)
        await shared(here).chat().look()
    await reader.task
    assert (reader.data, run.status) == (["a", "b"], "lost")
    await until(lambda: run.entry)
    assert [entry.value for entry in (await here.chat().look())[0]] == ["a"]


@in_loop
async def test_a_producer_may_say_much_while_the_store_is_away(monkeypatch: Patch) -> None:
    """Up to ``max_bytes`` are held, and all are appended in order when the store is back."""
    monkeypatch.setattr(pump, "HELD_SECONDS", 0.0)
    worker = Worker(MemoryStore())
    said = [str(number % 10) * 50_000 for number in range(40)]
    producer = Producer("a")
    run = await worker.chat().start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    with away(worker):
        producer.say(*said)
        await reader.until(41)
    producer.end()
    await reader.task
    assert reader.data == ["a", *said]
    assert await read(await shared(worker).chat().run()) == ["a", *said]


@pytest.mark.parametrize("lost", [1, 2, 5])
@in_loop
async def test_what_a_failover_has_lost_is_appended_again(lost: int) -> None:
    """After a failure the top is compared with what was acknowledged."""
    worker = Worker(MemoryStore())
    producer = Producer()
    run = await worker.chat().start(producer.generate(), fold=JOINED)
    reader = Reader(run)
    for number in range(5):
        producer.say(str(number))
        await reader.until(number + 1)
    lose_last(worker, run, lost)
    worker.logs.fail("write")
    producer.say("x")
    producer.end()
    await reader.task
    assert reader.data == [*"01234x"]
    assert await read(await shared(worker).chat().run(reader.frames[0].id)) == [*"1234x"]
    assert run.entry.value == "01234x"


@in_loop
async def test_a_run_that_has_lost_more_than_is_held_is_lost(monkeypatch: Patch) -> None:
    """What is missing is never passed over in silence."""
    from fastersession.conversations import tail

    monkeypatch.setattr(tail, "MOST_HELD", 1)
    worker = Worker(MemoryStore())
    producer = Producer()
    run = await worker.chat().start(producer.generate())
    reader = Reader(run)
    for number in range(5):
        producer.say(str(number))
        await reader.until(number + 1)
    lose_last(worker, run, 3)
    worker.logs.fail("write")
    producer.say("x")
    await reader.task
    assert (reader.data, run.status) == ([*"01234"], "lost")
    assert producer.closed.is_set()
    assert await read(await shared(worker).chat().run()) == ["0", "1"]


@in_loop
async def test_a_hole_is_never_passed_over() -> None:
    """A reader that meets one is told that the run is gone."""
    worker = Worker(MemoryStore())
    producer = Producer()
    run = await worker.chat().start(producer.generate())
    reader = Reader(run)
    for number in range(3):
        producer.say(str(number))
        await reader.until(number + 1)
    frames = frames_of(worker, run)
    del frames.positions[2], frames.values[2]
    resumed = Reader(await shared(worker).chat().run())
    with pytest.raises(Gone, match="missing"):
        await resumed.task
    assert resumed.data == ["0"]
    producer.end()
    await reader.task


@in_loop
async def test_a_follower_outlasts_an_outage() -> None:
    """C5: it goes on when the store is back."""
    here = Worker(MemoryStore())
    there = shared(here)
    producer = Producer("a")
    await here.chat().start(producer.generate())
    follower = Reader(await there.chat().run())
    await follower.until(1)
    with away(there):
        producer.say("b")
        calls = len(there.logs.calls)
        await until(lambda: len(there.logs.calls) > calls + 2)
    producer.end()
    await follower.task
    assert follower.data == ["a", "b"]


@in_loop
async def test_a_lease_that_could_not_be_renewed_is_renewed_later() -> None:
    """A store that was away ends nothing by that."""
    worker = Worker(MemoryStore())
    producer = Producer("a")
    run = await worker.chat().start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    worker.logs.fail("renew", times=3)
    await until(lambda: worker.logs.calls.count("renew") > 5)
    producer.end()
    await reader.task
    assert run.status == "completed"


def frames_of(worker: Worker, run: object):  # type: ignore[no-untyped-def]
    """Return the frames as the store keeps them."""
    key = run._ending.run  # type: ignore[attr-defined]
    return worker.inner.logs.shelf.of(key.log).runs[key.run]


def lose_last(worker: Worker, run: object, count: int) -> None:
    """Let the store have lost what it has acknowledged last."""
    frames = frames_of(worker, run)
    assert TERMINAL not in frames.positions
    del frames.positions[-count:], frames.values[-count:]
