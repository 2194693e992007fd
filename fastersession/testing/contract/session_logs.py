"""The contract of stores/logs.py as tests: conversations that die with their session.

Rules of residence: a mixin of `LogStoreContract`. No server, no sleep: time is the store's clock.
"""

from __future__ import annotations

from typing import Any

import pytest

from ...stores.base import Change, Extra, Record
from ...stores.logs import MOST_OF_A_SESSION, Append, Entry, Log, Outcome, Place
from ...stores.users import ABOUT, Login
from .logs import ALL, append, look, made, token, values
from .runs import begin, end, read, running, status, write
from .subject import Subject, over_a_store
from .users import tags_of

DONE, GONE, TAKEN, SAME, BUSY, SUPERSEDED, FULL = Outcome
V, W, X, Y = b"v" * 32, b"w" * 32, b"x" * 32, b"y" * 32
ENDS = ("deleted", "idle", "over", "revoked", "evicted", "replaced")


async def a_session(subject: Subject, tags: tuple[bytes, ...] = (), retention: float | None = None) -> bytes:
    """Make a session, of a user if tags are given, and return its id."""
    record_id, now = token(), subject.clock()
    extra = Extra(tags[0] if tags else None, retention)
    record = Record(V, now, 600.0, now + 3000.0, {ABOUT: b"about"}, extra)
    if tags:
        assert (await subject.store.login(record_id, None, Login(record, tags, now))).outcome.name == "DONE"
    else:
        assert await subject.store.create(record_id, record) is True
    return record_id


async def log_of(subject: Subject, record_id: bytes) -> Log:
    """Make a conversation of a session."""
    return await made(subject, record_id, place=Place(token(), record_id, V))


async def log_in(subject: Subject, record_id: bytes, tags: tuple[bytes, ...], new: bytes, **more: Any) -> None:
    """Log a user in to a session that is there."""
    now = subject.clock()
    record = Record(new, now, 600.0, now + 3000.0, {ABOUT: b"user"}, Extra(tags[0]))
    outcome = await subject.store.login(record_id, V, Login(record, tags, now, until=now + 3000.0, **more))
    assert outcome.outcome.name == "DONE"


async def is_refused(subject: Subject, log: Log) -> bool:
    """Return whether all is refused that a request writes which has loaded the session with this verifier."""
    logs = subject.store.logs
    outcomes = [
        (await logs.append([Append(log, Entry((1, 2), b"no"))]))[0].outcome,
        (await logs.append([Append(log, Entry((1, 2), b"no", key=token()))]))[0].outcome,
        (await begin(subject, log)).outcome,
        (await logs.cut(log, (1, 0), None)).outcome,
        await logs.describe(log, b"no", 1),
        (await logs.create(log.place, token(), log.place.session, b"no")).outcome,
        (await logs.create(log.place._replace(conversation=token()), token(), log.place.session, b"no")).outcome,
    ]
    assert await logs.delete(log.place) is False
    assert len(set(outcomes)) == 1
    return outcomes[0] is GONE


class SessionLogs:
    """A mixin of `LogStoreContract`."""

    @over_a_store
    async def test_without_a_record_there_is_none(self, subject: Subject) -> None:
        """It is made only for a session that is there, by who has its verifier."""
        logs, record_id = subject.store.logs, await a_session(subject)
        assert (await logs.create(Place(token(), token(), V), token(), token(), b"")).outcome is GONE
        assert (await logs.create(Place(token(), record_id, W), token(), record_id, b"")).outcome is GONE
        assert await logs.owned(record_id, 10, None) == []
        log = await log_of(subject, record_id)
        assert [one.place for one in await logs.owned(record_id, 10, None)] == [log.place._replace(verifier=None)]
        assert await logs.look([Place(log.place.conversation)], 10, ALL) is None
        assert (await append(subject, Log(Place(log.place.conversation), log.log), (1, 1))).outcome is GONE

    @pytest.mark.parametrize("how", ENDS)
    @pytest.mark.parametrize("retention", [None, 9000.0])
    @over_a_store
    async def test_c15_it_dies_with_its_session(self, subject: Subject, how: str, retention: float | None) -> None:
        """C6, C15: in the same step, with its run; also where the record is kept for its end to be told."""
        tags = tags_of()
        record_id, store = await a_session(subject, tags, retention), subject.store
        log, other = await log_of(subject, record_id), await made(subject)
        assert (await append(subject, log, (1, 1))).outcome is DONE
        run = await running(subject, log, frames=1)
        if how == "deleted":
            assert await store.delete(record_id) is True
        elif how == "idle":
            subject.clock.advance(600)
        elif how == "over":
            assert await store.touch(record_id, V, subject.clock() + 2900) is True
            subject.clock.advance(3000)
        elif how == "revoked":
            assert await store.revoke(tags, None, subject.clock()) == [record_id]
        elif how == "evicted":
            now = subject.clock()
            record = Record(W, now, 600.0, now + 3000.0, {ABOUT: b""}, Extra(tags[0]))
            outcome = await store.login(token(), None, Login(record, tags, now, limit=1))
            assert outcome.evicted == (record_id,)
        else:
            assert await store.retire(record_id, V, subject.clock() + 60) is True
            assert await is_refused(subject, log)
            subject.clock.advance(60)
        assert await look(subject, log) is None
        assert await store.logs.entries(log, None, None, 10, ALL, newest=False) is None
        assert await read(subject, run) is None
        assert await write(subject, run, 9) is GONE
        assert await store.logs.renew([run], 100.0) == {run}
        assert (await end(subject, run, entry=Entry((1, 2), b"2", run.run, run.run, 1))).outcome is GONE
        assert (await append(subject, log, (1, 2), run=run.run)).outcome is GONE
        assert await is_refused(subject, log)
        assert await store.logs.owned(record_id, 10, None) == []
        assert await values(subject, other) == []
        await store.settle(record_id)  # or it would be told of in other tests over this server

    @over_a_store
    async def test_it_lives_as_long_as_its_session(self, subject: Subject) -> None:
        """Also where that lives longer than it was to when the conversation was made."""
        record_id = await a_session(subject)
        log = await log_of(subject, record_id)
        assert (await append(subject, log, (1, 1))).outcome is DONE
        for _ in range(3):
            subject.clock.advance(500)
            assert await subject.store.touch(record_id, V, subject.clock()) is True
        assert await values(subject, log) == [b"value"]
        assert await subject.store.update(record_id, V, Change(subject.clock(), idle_timeout=1400.0)) is True
        subject.clock.advance(1300)
        assert await values(subject, log) == [b"value"]
        subject.clock.advance(100)
        assert await look(subject, log) is None

    @over_a_store
    async def test_a_regeneration_lets_running_requests_finish(self, subject: Subject) -> None:
        """One generation back is admitted, two are not; a run goes on through any number."""
        record_id, now = await a_session(subject), subject.clock()
        log = await log_of(subject, record_id)
        run = await running(subject, log)
        assert await subject.store.regenerate(record_id, V, W, now + 3000.0, Change(now)) is True
        assert (await append(subject, log, (1, 1))).outcome is DONE
        assert await subject.store.regenerate(record_id, W, X, now + 3000.0, Change(now)) is True
        assert await is_refused(subject, log)
        assert await write(subject, run, 1) is DONE
        assert (await append(subject, log, (1, 2), run=run.run)).outcome is DONE
        ended = await end(subject, run, entry=Entry((1, 3), b"3", run.run, run.run, 1))
        assert ended.outcome is DONE
        assert await values(subject, log) == [b"value", b"value", b"3"]

    @over_a_store
    async def test_c15_after_a_login_nothing_of_before_writes(self, subject: Subject) -> None:
        """C15, L3b: neither a request nor a run; the entries stay, for who has logged in."""
        record_id, tags = await a_session(subject), tags_of()
        log = await log_of(subject, record_id)
        assert (await append(subject, log, (1, 1))).outcome is DONE
        run = await running(subject, log)
        await log_in(subject, record_id, tags, W, keep=frozenset())
        assert await is_refused(subject, log)
        assert await write(subject, run, 1) is GONE
        assert (await append(subject, log, (1, 2), run=run.run)).outcome is GONE
        ended = await end(subject, run, lingers=0.0, entry=Entry((1, 2), b"2", run.run, run.run, 1))
        assert ended.outcome is DONE
        shown = await status(subject, log)
        assert shown is None
        await begin(subject, log)  # which is refused, and forgets frames that are over
        assert (await append(subject, log, (1, 2), run=run.run)).outcome is GONE
        his = Log(log.place._replace(verifier=W), log.log)
        assert await values(subject, his) == [b"value"]
        assert (await append(subject, his, (1, 2))).outcome is DONE
        assert (await begin(subject, his)).outcome is DONE

    @over_a_store
    async def test_a_login_of_the_same_user_ends_no_run(self, subject: Subject) -> None:
        """It is a regeneration."""
        tags = tags_of()
        record_id = await a_session(subject, tags)
        log = await log_of(subject, record_id)
        run = await running(subject, log)
        await log_in(subject, record_id, tags, W, keep=None)
        assert await write(subject, run, 1) is DONE
        assert (await append(subject, log, (1, 1))).outcome is DONE
        assert (await append(subject, log, (1, 2), run=run.run)).outcome is DONE

    @over_a_store
    async def test_c16_a_session_has_a_hundred(self, subject: Subject) -> None:
        """C16: the next is refused, until one is deleted; what is there is found all the same."""
        record_id = await a_session(subject)
        logs = [await log_of(subject, record_id) for _ in range(MOST_OF_A_SESSION)]
        place = Place(token(), record_id, V)
        assert (await subject.store.logs.create(place, token(), record_id, b"")).outcome is FULL
        assert (await subject.store.logs.create(logs[7].place, token(), record_id, b"")).log == logs[7].log
        assert await subject.store.logs.delete(logs[0].place) is True
        assert (await subject.store.logs.create(place, token(), record_id, b"")).outcome is DONE
        assert len(await subject.store.logs.owned(record_id, 1000, None)) == MOST_OF_A_SESSION
