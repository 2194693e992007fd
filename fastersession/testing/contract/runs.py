"""The contract of stores/logs.py as tests: runs. Whose turn it is, what a run writes, and how it ends.

Rules of residence: a mixin of `LogStoreContract`. No server, no sleep: a lease of no seconds is over at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from ...stores.logs import ORIGIN, TERMINAL, Batch, Begin, Begun, End, Ended, Entry, Log, Outcome, Run, Status
from .cancelled import cancelled
from .logs import ALL, filled, look, made, token, values
from .subject import Subject, over_a_store

DONE, GONE, TAKEN, SAME, BUSY, SUPERSEDED, FULL = Outcome
LONG = 1000.0


async def begin(subject: Subject, log: Log, run: bytes | None = None, seconds: float = LONG, **more: Any) -> Begun:
    """Begin a run; ``more`` are fields of ``Begin``."""
    more = {"kept": LONG, "head": token(), **more}
    begun = await subject.store.logs.begin(Begin(Run(log, run or token()), seconds, **more))
    assert isinstance(begun, Begun)
    return begun


async def running(subject: Subject, log: Log, seconds: float = LONG, frames: int = 0, **more: Any) -> Run:
    """Begin a run that has written so many batches, at even seqs."""
    run = Run(log, token())
    assert (await begin(subject, log, run.run, seconds, **more)).outcome is DONE
    for number in range(1, frames + 1):
        assert await write(subject, run, 2 * number) is DONE
    return run


async def write(subject: Subject, run: Run, seq: int, value: bytes | None = None) -> Outcome:
    """Write one batch; its value is its seq."""
    value = b"%d" % seq if value is None else value
    (outcome,) = await subject.store.logs.write([Batch(run, (1, seq), value, len(value))])
    assert isinstance(outcome, Outcome)
    return outcome


async def end(subject: Subject, run: Run, value: bytes = b"end", **more: Any) -> Ended:
    """End a run; ``more`` are fields of ``End``."""
    ended = await subject.store.logs.end(End(run, value, **{"lingers": LONG, **more}))
    assert isinstance(ended, Ended)
    return ended


async def read(subject: Subject, run: Run, after: int = 0, limit: int = ALL) -> list[bytes] | None:
    """Return the values of a run above a seq."""
    found = (await subject.store.logs.read({run: (1, after)}, limit))[run]
    return None if found is None else [value for _, value in found]


async def status(subject: Subject, log: Log) -> Status | None:
    """Return the status that a look shows, but for the lease."""
    found = await look(subject, log)
    assert found is not None
    return None if found.run is None else found.run._replace(seconds_left=0.0)


class Runs:
    """A mixin of `LogStoreContract`."""

    @over_a_store
    async def test_a_run_from_begin_to_end(self, subject: Subject) -> None:
        """Its head, its frames and its end are read from any position; a look shows it."""
        log = await made(subject)
        run = Run(log, token())
        begun = await begin(subject, log, run.run, head=b"head")
        assert begun.outcome is DONE
        assert begun.status is not None
        assert 0 < begun.status.seconds_left <= LONG
        assert await status(subject, log) == Status(run.run, is_running=True)
        for number in (2, 5, 6):
            assert await write(subject, run, number) is DONE
        ended = await end(subject, run)
        assert (ended.outcome, ended.top) == (DONE, ORIGIN)
        assert await status(subject, log) == ended.status == Status(run.run, is_running=False, terminal=b"end")
        found = await subject.store.logs.read({run: (0, 0)}, ALL)
        expected = [(ORIGIN, b"head"), ((1, 2), b"2"), ((1, 5), b"5"), ((1, 6), b"6"), (TERMINAL, b"end")]
        assert found[run] == expected
        for after in range(8):
            assert await read(subject, run, after) == [value for position, value in expected if position > (1, after)]
        assert await subject.store.logs.read({run: TERMINAL}, ALL) == {run: []}

    @over_a_store
    async def test_c4_one_runs_at_a_time(self, subject: Subject) -> None:
        """C4: the turn is taken until the end; then it is free."""
        log = await made(subject)
        run = await running(subject, log)
        busy = await begin(subject, log)
        assert busy.outcome is BUSY
        assert busy.status is not None
        assert busy.status.run == run.run
        assert await read(subject, Run(log, token())) is None
        assert (await end(subject, run)).outcome is DONE
        assert (await begin(subject, log)).outcome is DONE

    @over_a_store
    async def test_of_several_begins_at_once_one_works(self, subject: Subject) -> None:
        """C4: and the others are told whose turn it is."""
        log, runs = await made(subject), [token() for _ in range(8)]
        begun = await asyncio.gather(*(begin(subject, log, run) for run in runs))
        assert sorted(one.outcome.name for one in begun) == ["BUSY"] * 7 + ["DONE"]
        assert {one.status.run for one in begun if one.status is not None} == {
            runs[number] for number, one in enumerate(begun) if one.outcome is DONE
        }

    @over_a_store
    async def test_c7_a_run_begins_once(self, subject: Subject) -> None:
        """C7: the same id is the same run, running or ended, whoever runs meanwhile; the same head is a retry."""
        log, head = await made(subject), token()
        run = await running(subject, log, head=head)
        assert (await begin(subject, log, run.run, head=head)).outcome is DONE
        again = await begin(subject, log, run.run, instead_of=token())
        assert again.outcome is SAME
        assert again.status is not None
        assert again.status.is_running
        assert (await end(subject, run)).outcome is DONE
        await running(subject, log)
        again = await begin(subject, log, run.run)
        assert again.outcome is SAME
        assert again.status == Status(run.run, is_running=False, terminal=b"end")
        found = await subject.store.logs.read({run: (0, 0)}, ALL)
        assert found[run] == [(ORIGIN, head), (TERMINAL, b"end")]

    @over_a_store
    async def test_the_question_begins_with_the_run(self, subject: Subject) -> None:
        """Both or neither: a run that is refused leaves no question, a question that is refused no run."""
        log = await filled(subject, 1)
        question = Entry((1, 2), b"2", key=token(), size=1)
        assert (await begin(subject, log, entry=question._replace(position=(1, 1)))).outcome is TAKEN
        assert await status(subject, log) is None
        run = await running(subject, log, entry=question)
        assert (await begin(subject, log, entry=Entry((1, 3), b"3"))).outcome is BUSY
        found = await look(subject, log)
        assert found is not None
        assert (found.top, found.entries[1:]) == ((1, 2), [question])
        assert (await begin(subject, log, run.run, entry=Entry((1, 3), b"3"))).outcome is SAME
        assert await values(subject, log) == [b"1", b"2"]

    @over_a_store
    async def test_instead_of_a_certain_run(self, subject: Subject) -> None:
        """Who has stopped one follows that one only."""
        log = await made(subject)
        first = await running(subject, log)
        assert (await begin(subject, log, instead_of=first.run)).outcome is BUSY
        assert (await end(subject, first)).outcome is DONE
        second = Run(log, token())
        assert (await begin(subject, log, second.run, instead_of=first.run)).outcome is DONE
        assert (await end(subject, second)).outcome is DONE
        late = await begin(subject, log, instead_of=first.run)
        assert late.outcome is BUSY
        assert late.status is not None
        assert (late.status.run, late.status.is_running) == (second.run, False)

    @over_a_store
    async def test_c2_frames_only_grow(self, subject: Subject) -> None:
        """C2: what is not above all that is there is refused; the same again is the same."""
        run = await running(subject, await made(subject), frames=3)
        for seq in (6, 4, 2):
            assert await write(subject, run, seq) is DONE
            assert await write(subject, run, seq, b"other") is TAKEN
        for seq in (0, 1, 5):
            assert await write(subject, run, seq) is TAKEN
        assert await read(subject, run) == [b"2", b"4", b"6"]

    @over_a_store
    async def test_frames_of_many_runs_in_one_call(self, subject: Subject) -> None:
        """Each has its own outcome, and each is read in one call, too."""
        runs = [await running(subject, await made(subject), frames=1) for _ in range(5)]
        assert (await end(subject, runs[0])).outcome is DONE
        assert await subject.store.logs.delete(runs[1].log.place) is True
        seqs = (4, 4, 1, 4, 4)
        batches = [Batch(run, (1, seq), b"%d" % seq, 1) for run, seq in zip(runs, seqs, strict=True)]
        strange = Run(runs[3].log, token())
        batches.append(Batch(strange, (1, 1), b"x", 1))
        assert await subject.store.logs.write(batches) == [TAKEN, GONE, TAKEN, DONE, DONE, GONE]
        found = await subject.store.logs.read(dict.fromkeys((*runs, strange), (1, 2)), ALL)
        assert [found[run] for run in (*runs, strange)] == [
            [(TERMINAL, b"end")], None, [], [((1, 4), b"4")], [((1, 4), b"4")], None
        ]  # fmt: skip

    @over_a_store
    async def test_reading_goes_on_where_it_was_bounded(self, subject: Subject) -> None:
        """A reader with any limit gets all, in order."""
        run, sizes = await running(subject, await made(subject)), (10, 5000, 10, 3000)
        for number, size in enumerate(sizes, 1):
            assert await write(subject, run, number, b"%d" % number * size) is DONE
        found: list[bytes] = []
        while more := await read(subject, run, len(found), 100):
            found += more
        assert [len(value) for value in found] == [*sizes]

    @over_a_store
    async def test_no_tail_is_cut_while_a_run_runs(self, subject: Subject) -> None:
        """The head may be."""
        log = await filled(subject, 3)
        run = await running(subject, log)
        assert await subject.store.logs.cut(log, (1, 1), None) == (BUSY, (1, 3), None)
        assert await subject.store.logs.cut(log, None, (1, 2)) == (DONE, (1, 3), None)
        assert (await end(subject, run)).outcome is DONE
        assert await subject.store.logs.cut(log, (1, 2), None) == (DONE, (2, 2), None)

    @over_a_store
    async def test_c12_runs_cancelled_at_each_await(self, subject: Subject) -> None:
        """C12: a begin, a write and an end are done wholly or not at all."""
        for verb in ("begin", "write", "end"):
            at = 0
            while True:
                log = await filled(subject, 1)
                run = Run(log, token())
                if verb != "begin":
                    assert (await begin(subject, log, run.run)).outcome is DONE
                answer = Entry((1, 2), b"2", run.run, run.run, 1)
                work: dict[str, Callable[[], Awaitable[Any]]] = {
                    "begin": partial(begin, subject, log, run.run, entry=Entry((1, 2), b"2", size=1)),
                    "write": partial(write, subject, run, 1),
                    "end": partial(end, subject, run, entry=answer),
                }
                if not await cancelled(work[verb](), at):
                    break
                found, frames = await look(subject, log), await read(subject, run)
                assert found is not None
                done = len(found.entries) == 2
                if verb == "begin":
                    assert (frames is not None, found.run is not None) == (done, done)
                elif verb == "write":
                    assert frames in ([], [b"1"])
                else:
                    assert (frames == [b"end"], found.run is not None and not found.run.is_running) == (done, done)
                at += 1
                assert at < 500
