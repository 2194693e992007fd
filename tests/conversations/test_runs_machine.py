"""Stories of runs over two workers, drawn at random: starts, stops, crashes, deletions, faults and readers anywhere.

I1 I2 what a reader gets from any cursor is what the producer said, from there on, without a hole; I3 I9 a run that has
ended never grows; I4 at most one runs; I5 no reader ends before his run; I7 a key is produced once; I10 an answer is in
the history once, and is what the log has.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import run_parts
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from producers import Producer, Reader
from run_parts import Worker
from store_subject import Factory

from fastersession import MemoryStore
from fastersession.conversations import beginning, ending, leases, writer
from fastersession.errors import Busy, Gone

WORKERS = st.integers(0, 1)
SELDOM = st.sampled_from([True, False, False, False, False])
SAID = st.lists(st.sampled_from(["x", "yy", "zzz"]), min_size=1, max_size=4)


@dataclass
class Story:
    """One run, as its producer knows it."""

    producer: Producer
    run: Any
    said: list[str] = field(default_factory=list)
    readers: list[tuple[int, Reader]] = field(default_factory=list)
    log: list[str] | None = None  # from when it has ended


class Runs(RuleBasedStateMachine):
    """The stories, over two stores that share what they keep, or one twice."""

    make: Callable[[], list[Any]]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.name = secrets.token_hex(8)
        self.stores = self.make()
        self.workers = [Worker(store) for store in self.stores]
        for store in self.stores:
            self.do(store.open())
        self.chats = [worker.chat(self.name, fold="".join, gap=0.0) for worker in self.workers]
        self.stories: dict[str, Story] = {}
        self.count = 0

    def do(self, work: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await work

        return self.runner.run(bounded())

    async def settle(self) -> None:
        """Let what is under way come to rest: nothing is written, and nothing fails."""
        for worker in self.workers:
            worker.logs.clear()
        for chat in self.chats:
            runs = chat._handle.keeper.runs
            while any(self.is_busy(own) for own in runs.own.values()):
                await asyncio.sleep(0.001)
        for chat in self.chats:
            await chat._handle.keeper.runs.following.read()
        for _ in range(3):
            await asyncio.sleep(0)

    def is_busy(self, own: Any) -> bool:
        """Return whether a run has more to say or to write, or is about to end."""
        story = self.stories.get(own.run.run.hex())
        has_said = story is None or story.producer.waits.is_set()
        return own.pump._is_marked or own.pump.is_fenced or not has_said

    async def frames_of(self, story: Story) -> list[str] | None:
        found = (await self.workers[0].inner.logs.read({story.run._ending.run: (1, 0)}, 10**6))[story.run._ending.run]
        if found is None:
            return None
        pieces, _ = story.run._ending.packed.pieces(found)
        return [frame for piece in pieces for frame in piece.frames]

    async def check(self) -> None:
        await self.settle()
        entries, running = await self.chats[0].look(1000)
        alive = 0
        answers = [entry.run for entry in entries if entry.run is not None]
        assert len(answers) == len(set(answers))
        for story in self.stories.values():
            log = await self.frames_of(story)
            if log is None:
                continue
            assert log == story.said[: len(log)]
            status = await self.workers[0].inner.logs.read({story.run._ending.run: (1, 10**6)}, 100)
            ended = bool(status[story.run._ending.run])
            alive += not ended
            if not ended:
                assert log == story.said
                assert running is not None
                assert running.id == story.run.id
            else:
                assert story.log is None or story.log == log
                story.log = log
            for entry in entries:
                if entry.run == story.run.id:
                    assert entry.value == "".join(log)
            for start, reader in story.readers:
                assert reader.data == log[start : start + len(reader.data)]
                if reader.task.done() and not reader.task.cancelled() and reader.task.exception() is None:
                    assert ended
                    assert reader.data == log[start:]
        assert alive <= 1

    def last(self) -> Story | None:
        return self.stories[list(self.stories)[-1]] if self.stories else None

    @rule(worker=WORKERS, policy=st.sampled_from(beginning.POLICIES), key=st.sampled_from([None, "a", "b"]))
    def start(self, worker: int, policy: str, key: str | None) -> None:
        if policy == "enqueue":
            policy = "reject"
        producer = Producer()
        self.count += 1

        async def work() -> None:
            for each in self.workers:
                each.logs.clear()  # a start that fails has tests of its own: test_runs_outages
            try:
                run = await self.chats[worker].start(producer.generate(), key=key, when_busy=policy)
            except Busy:
                assert not producer.entered
                return
            if run.id in self.stories:
                assert key is not None
            else:
                self.stories[run.id] = Story(producer, run)

        self.do(work())

    @rule(worker=WORKERS, frames=SAID, more=SAID, back=st.integers(0, 9), settles=st.booleans())
    def talk(self, worker: int, frames: list[str], more: list[str], back: int, settles: bool) -> None:
        """Begin if nothing runs, say something, and let somebody read it on either worker, with more to come."""
        self.start(worker, "reject", None)
        self.say(0, frames)
        if settles:
            self.do(self.check())
        self.read(worker, back)
        self.read(1 - worker, back)
        self.say(0, more)

    @precondition(lambda self: self.stories)
    @rule(which=st.integers(0, 3), frames=SAID)
    def say(self, which: int, frames: list[str]) -> None:
        story = list(self.stories.values())[-1 - which % len(self.stories)]
        if not story.producer.closed.is_set():
            named = [f"{frame}{len(story.said) + number} " for number, frame in enumerate(frames)]
            story.said += named
            story.producer.say(*named)

    @rule(
        worker=WORKERS, verb=st.sampled_from(["write", "end", "begin", "append", "read", "renew"]), lost=st.booleans()
    )
    def fault(self, worker: int, verb: str, lost: bool) -> None:
        self.workers[worker].logs.fail(verb, "lose" if lost else "raise")

    @precondition(lambda self: self.stories)
    @rule(raises=st.booleans())
    def end(self, raises: bool) -> None:
        story = self.last()
        assert story is not None
        story.producer.end(ValueError() if raises else None)
        story.producer.closed.set()

    @rule(worker=WORKERS, really=SELDOM)
    def stop(self, worker: int, really: bool) -> None:
        if not really:
            return
        self.workers[worker].logs.clear()
        self.do(self.chats[worker].stop())
        self.do(self.check())

    @precondition(lambda self: self.stories)
    @rule(really=SELDOM)
    def lose(self, really: bool) -> None:
        """The lease is over: a crash, as others see it; the producer is a zombie from then on."""
        story = self.last()
        assert story is not None
        if not really:
            return
        self.do(self.workers[0].inner.logs.renew([story.run._ending.run], -1.0))

    @precondition(lambda self: self.stories)
    @rule(worker=WORKERS, back=st.integers(0, 9))
    def read(self, worker: int, back: int) -> None:
        async def work() -> None:
            story = self.last()
            assert story is not None
            log = await self.frames_of(story) or []
            start = max(len(log) - back, 0)
            cursor = None
            if start:
                frames = [frame async for frame in _some(story.run, start)]
                cursor = frames[-1].id
            run = await self.chats[worker].run(cursor)
            if run is not None and run.id == story.run.id:
                story.readers.append((start, Reader(run)))

        self.workers[worker].logs.clear()
        self.do(work())

    @precondition(lambda self: any(story.readers for story in self.stories.values()))
    @rule()
    def leave(self) -> None:
        for story in self.stories.values():
            for _, reader in story.readers[:1]:
                self.do(reader.leave())
            del story.readers[:1]

    @rule(really=SELDOM)
    def delete(self, really: bool) -> None:
        if not really:
            return

        async def work() -> None:
            await self.workers[0].inner.logs.delete(self.chats[0]._handle.place)
            for story in self.stories.values():
                for start, reader in story.readers:
                    with suppress(Gone):
                        await reader.task
                    assert reader.data == story.said[start : start + len(reader.data)]
            self.stories.clear()
            self.chats = [worker.chat(self.name, fold="".join, gap=0.0) for worker in self.workers]
            assert await self.chats[1].look() == ([], None)

        for worker in self.workers:
            worker.logs.clear()
        self.do(work())

    @rule()
    def look(self) -> None:
        self.do(self.check())

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            self.do(self.check())
            for worker in self.workers:
                worker.logs.clear()
            self.do(self.chats[0].stop())
            for story in self.stories.values():
                for _, reader in story.readers:
                    self.do(asyncio.wait({reader.task}))
                    assert reader.task.done()
            self.do(self.check())
        finally:
            for store in self.stores:
                self.do(store.close())
            self.runner.close()


async def _some(run: Any, count: int) -> Any:
    async for frame in run.frames():
        yield frame
        count -= 1
        if not count:
            return


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.002)
    for module in (writer, ending, beginning):
        monkeypatch.setattr(module, "PAUSES", (0.001,) * 4)
    monkeypatch.setattr(beginning, "ANSWER_SECONDS", 0.1)


def tell(make: Callable[[], list[Any]], examples: int) -> None:
    """Tell stories."""

    class Told(Runs):
        pass

    Told.make = staticmethod(make)  # type: ignore[method-assign, assignment]
    run_state_machine_as_test(
        Told, settings=settings(max_examples=examples, stateful_step_count=25, suppress_health_check=list(HealthCheck))
    )


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("packs", [False, True], ids=["objects", "bytes"])
def test_stories_in_memory(packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers, one memory."""
    monkeypatch.setattr(run_parts, "PACKS", packs)

    def make() -> list[Any]:
        return [MemoryStore()] * 2

    tell(make, 60)


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("kind", ["sqlite", "redis", "redis_cluster", "asyncpg", "psycopg", "mariadb"])
def test_stories_outside_the_process(kind: str, factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stores that share a file, or a server."""
    monkeypatch.setattr(run_parts, "PACKS", True)
    tell(lambda: [factory(time.time), factory(time.time)], 12)
