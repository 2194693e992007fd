"""The contract of stores/logs.py as tests: how a run ends, and what may be written after it.

Rules of residence: a mixin of `LogStoreContract`. No server, no sleep: a lease of no seconds is over at once.
"""

from __future__ import annotations

import asyncio

from ...stores.logs import Entry, Outcome, Run, Status
from .logs import append, filled, look, made, token, values
from .runs import LONG, begin, end, read, running, status, write
from .subject import Subject, over_a_store

DONE, GONE, TAKEN, SAME, BUSY, SUPERSEDED, FULL = Outcome


class RunEnds:
    """A mixin of `LogStoreContract`."""

    @over_a_store
    async def test_c9_nothing_is_written_after_the_end(self, subject: Subject) -> None:
        """C3, C9: the end fences the writer, whoever has ended it; of several ends one is."""
        run = await running(subject, await made(subject), frames=1)
        ended = await asyncio.gather(*(end(subject, run, b"%d" % number) for number in range(6)))
        assert sorted(one.outcome.name for one in ended) == ["DONE"] + ["TAKEN"] * 5
        (winner,) = [b"%d" % number for number, one in enumerate(ended) if one.outcome is DONE]
        assert {one.status.terminal for one in ended if one.status is not None} == {winner}
        assert (await end(subject, run, winner)).outcome is DONE
        assert await write(subject, run, 4) is TAKEN
        assert await write(subject, run, 2) is DONE
        assert await read(subject, run) == [b"2", winner]

    @over_a_store
    async def test_the_answer_enters_with_the_end(self, subject: Subject) -> None:
        """Both or neither; of the run that it comes from."""
        log = await filled(subject, 1)
        run = await running(subject, log, frames=1)
        answer = Entry((1, 2), b"answer", run.run, run.run, 6)
        ended = await end(subject, run, entry=answer._replace(position=(1, 1)))
        assert (ended.outcome, ended.top) == (TAKEN, (1, 1))
        assert await status(subject, log) == Status(run.run, is_running=True)
        ended = await end(subject, run, entry=answer)
        expected = Status(run.run, is_running=False, is_entered=True, terminal=b"end")
        assert (ended.outcome, ended.top, ended.status) == (DONE, (1, 2), expected)
        assert await end(subject, run, entry=answer) == ended
        found = await look(subject, log)
        assert found is not None
        assert found.entries[1] == answer
        assert await subject.store.logs.find(log, None, run.run) == answer

    @over_a_store
    async def test_a_run_is_lost_when_its_lease_is_over(self, subject: Subject) -> None:
        """Only then; a renewal makes it anew, also late, as long as nobody has ended it."""
        log = await made(subject)
        run = await running(subject, log)
        assert (await end(subject, run, b"lost", if_lost=True)).outcome is BUSY
        assert await subject.store.logs.renew([run], 0.0) == set()
        found = await look(subject, log)
        assert found is not None
        assert found.run == Status(run.run, is_running=True, seconds_left=0.0)
        assert await write(subject, run, 1) is DONE
        assert await subject.store.logs.renew([run], LONG) == set()
        assert (await end(subject, run, b"lost", if_lost=True)).outcome is BUSY
        assert await subject.store.logs.renew([run], 0.0) == set()
        assert (await begin(subject, log)).outcome is BUSY
        assert (await end(subject, run, b"lost", if_lost=True)).outcome is DONE
        assert await write(subject, run, 2) is TAKEN

    @over_a_store
    async def test_who_renews_learns_what_has_ended(self, subject: Subject) -> None:
        """Stopped, deleted, or never there."""
        runs = [await running(subject, await made(subject)) for _ in range(4)]
        assert (await end(subject, runs[0])).outcome is DONE
        assert await subject.store.logs.delete(runs[1].log.place) is True
        assert (await end(subject, runs[2])).outcome is DONE
        assert (await begin(subject, runs[2].log)).outcome is DONE
        strange = Run(runs[3].log, token())
        assert await subject.store.logs.renew([*runs, strange], LONG) == {*runs[:3], strange}

    @over_a_store
    async def test_what_a_run_writes_late(self, subject: Subject) -> None:
        """Accepted after its end, and under its key once; never behind a later run's begin."""
        log = await filled(subject, 1)
        run = await running(subject, log)
        assert (await append(subject, log, (1, 2), b"2", run=run.run)).outcome is DONE
        assert await status(subject, log) == Status(run.run, is_running=True, is_entered=True)
        assert (await end(subject, run)).outcome is DONE
        assert (await append(subject, log, (1, 3), b"3", run=run.run, key=run.run)).outcome is DONE
        assert (await append(subject, log, (1, 4), b"4", run=run.run, key=run.run)).outcome is SAME
        assert (await subject.store.logs.find(log, None, run.run)).value == b"3"
        assert (await append(subject, log, (1, 4), b"4", run=token())).outcome is SUPERSEDED
        await running(subject, log)
        assert await append(subject, log, (1, 4), b"4", run=run.run) == (SUPERSEDED, (1, 3), None)
        assert await values(subject, log) == [b"1", b"2", b"3"]

    @over_a_store
    async def test_c10_an_answer_that_was_cut_off_stays_entered(self, subject: Subject) -> None:
        """C10: or a look would show its frames again."""
        log = await filled(subject, 1)
        run = await running(subject, log)
        assert (await end(subject, run, entry=Entry((1, 2), b"2", run.run, run.run, 1))).outcome is DONE
        assert (await subject.store.logs.cut(log, (1, 1), None)).outcome is DONE
        shown = await status(subject, log)
        assert shown is not None
        assert shown.is_entered

    @over_a_store
    async def test_frames_linger(self, subject: Subject) -> None:
        """When they are over, only a run that an entry carries is known."""
        log = await made(subject)
        run = await running(subject, log, frames=2)
        assert (await end(subject, run, lingers=0.0)).outcome is DONE
        assert await read(subject, run) is None
        assert await status(subject, log) is None
        assert (await end(subject, run)).outcome is GONE
        assert await write(subject, run, 9) is GONE
        assert (await begin(subject, log, run.run)).outcome is DONE
        entry = Entry((1, 1), b"1", run.run, run.run, 1)
        assert (await end(subject, run, lingers=0.0, entry=entry)).outcome is DONE
        carried = Status(run.run, is_running=False, is_entered=True)
        assert await status(subject, log) == carried
        again = await begin(subject, log, run.run)
        assert (again.outcome, again.status) == (SAME, carried)
        assert (await subject.store.logs.cut(log, (1, 0), None)).outcome is DONE
        assert (await begin(subject, log, run.run)).outcome is DONE

    @over_a_store
    async def test_frames_that_nobody_has_ended(self, subject: Subject) -> None:
        """They are over in time, and the turn is still to be freed, by whoever finds it lost."""
        log = await made(subject)
        run = await running(subject, log, seconds=0.0, kept=0.0)
        assert await read(subject, run) is None
        assert await write(subject, run, 1) is GONE
        assert await subject.store.logs.renew([run], LONG) == {run}
        busy = await begin(subject, log)
        assert (busy.outcome, busy.status) == (BUSY, Status(run.run, is_running=True))
        assert await status(subject, log) == Status(run.run, is_running=True)
        entry = Entry((1, 1), b"1", run.run, run.run, 1)
        assert (await end(subject, run, if_lost=True, entry=entry)).outcome is DONE
        assert await values(subject, log) == [b"1"]
        assert await status(subject, log) == Status(run.run, is_running=False, is_entered=True)
        assert (await begin(subject, log)).outcome is DONE

    @over_a_store
    async def test_c15_a_deleted_conversation_ends_its_run(self, subject: Subject) -> None:
        """C6, C15: frames, fold and finally of a zombie are refused, also where the name was made anew."""
        log = await filled(subject, 1)
        run = await running(subject, log, frames=2)
        assert await subject.store.logs.delete(log.place) is True
        for anew in (False, True):
            if anew:
                await made(subject, place=log.place)
            assert await write(subject, run, 9) is GONE
            assert await subject.store.logs.renew([run], LONG) == {run}
            assert (await end(subject, run, entry=Entry((1, 2), b"2", run.run, run.run, 1))).outcome is GONE
            assert (await append(subject, log, (1, 2), b"2", run=run.run)).outcome is GONE
            assert await read(subject, run) is None
            assert (await begin(subject, log)).outcome is GONE

    @over_a_store
    async def test_lists_show_what_runs(self, subject: Subject) -> None:
        """And a begin and an end are updates."""
        owner = token()
        log, other = await made(subject, owner), await made(subject, owner)
        subject.clock.advance(1)
        run = await running(subject, log)
        listed = await subject.store.logs.owned(owner, 10, None)
        assert [(one.log, one.is_running) for one in listed] == [(log.log, True), (other.log, False)]
        subject.clock.advance(1)
        assert (await append(subject, other, (1, 1))).outcome is DONE
        subject.clock.advance(1)
        assert (await end(subject, run)).outcome is DONE
        listed = await subject.store.logs.owned(owner, 10, None)
        assert [(one.log, one.is_running) for one in listed] == [(log.log, False), (other.log, False)]
        assert listed[0].updated_at == subject.clock()

    @over_a_store
    async def test_a_writer_against_the_end(self, subject: Subject) -> None:
        """C9: what is acknowledged before the end is in front of it, and nothing is behind it."""
        log = await made(subject)
        for _ in range(8):
            run = await running(subject, log)

            async def writer(run: Run = run) -> list[bytes]:
                kept: list[bytes] = []
                while await write(subject, run, len(kept) + 1) is DONE:
                    kept.append(b"%d" % (len(kept) + 1))
                    await asyncio.sleep(0)  # a store in memory never suspends
                return kept

            async def stopper(run: Run = run) -> None:
                await read(subject, run)
                assert (await end(subject, run)).outcome is DONE

            kept, _ = await asyncio.gather(writer(), stopper())
            assert await read(subject, run) == [*kept, b"end"]
