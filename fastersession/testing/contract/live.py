"""The contract of a live store: all of ``StoreContract``, over its plain functions, and what only it promises.

Rules of residence: the adapter from plain functions to coroutines, and the tests that need the very objects.
"""

from __future__ import annotations

import gc
import secrets
from typing import Any

import pytest

from ...stores.base import NOTHING_MORE, Change, Record
from ...stores.users import ABOUT, Login
from .keeping import Keeping
from .limits import Limits
from .subject import Factory, OverAFactory, Subject, over_a_store
from .suite import StoreContract
from .users import DONE, Users, login, tags_of

V, W = b"v" * 32, b"w" * 32


class Awaited:
    """The live store of a store, as a store of coroutines: a verb never suspends.

    :param swaps: save as the engine does: by ``swap`` where there is nothing to merge with, else by ``update``.
    """

    live = None

    def __init__(self, store: Any, *, swaps: bool) -> None:
        self.store, self.verbs, self.clock, self.swaps = store, store.live, store.clock, swaps
        self.open, self.close, self.purge = store.open, store.close, store.purge

    async def create(self, record_id: bytes, record: Record) -> bool:
        created: bool = self.verbs.create(record_id, self.made(record))
        return created

    async def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> Any:
        return self.verbs.login(record_id, verifier, login._replace(record=self.made(login.record)))

    async def find(self, tags: Any) -> list[tuple[bytes, Record]]:
        """Return what a store of bytes would: of the attributes ``ABOUT`` only."""
        return [(record_id, self.bare(record)) for record_id, record in self.verbs.find(tags)]

    async def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        """Return what a store of bytes would."""
        found, more = self.verbs.page(after, count)
        return [(record_id, self.bare(record)) for record_id, record in found], more

    def made(self, record: Record) -> Any:
        """Return a record of the store's own class."""
        times = record.created_at, record.idle_timeout, record.not_after
        return self.verbs.record_type(record.verifier, *times, record.attributes, record.extra)

    def bare(self, record: Record) -> Record:
        """Return a record with the one attribute that a list shows."""
        bare: Record = self.made(record)
        bare.attributes = {name: value for name, value in record.attributes.items() if name == ABOUT}
        return bare

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        updated: bool = self.swapped(record_id, verifier, change) or self.verbs.update(record_id, verifier, change)
        return updated

    def swapped(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Save by ``swap``, as a request that runs, if the change needs no more than that."""
        record = self.verbs.load(record_id) if self.swaps else None
        if record is None or record.verifier != verifier or any(change[3:]):
            return False
        content = {**record.attributes, **change.sets}
        content = {name: value for name, value in content.items() if name not in change.deletes}
        record.requests += 1
        try:
            done: bool = self.verbs.swap(record, record.verifier, record.attributes, content, change.accessed_at)
        finally:
            record.requests -= 1
        return done

    def __getattr__(self, verb: str) -> Any:
        act = getattr(self.verbs, verb)

        async def awaited(*arguments: Any) -> Any:
            return act(*arguments)

        return awaited


class LiveUserStoreContract(OverAFactory, Users, Limits, Keeping):
    """Every verb that ``store.live`` has in addition, if it keeps sessions of users."""

    @pytest.fixture
    def factory(self) -> Factory:
        """Give a function from a clock to the live store, awaited."""
        return lambda clock: Awaited(self.make_store(clock), swaps=False)

    @over_a_store
    async def test_l3c_a_login_takes_another_object(self, subject: Subject) -> None:
        """L3c: who holds the record of before the login sees nothing of the user; a re-login is the same object."""
        record_id = await subject.insert({"a": b"1", "b": b"2"})
        before = await subject.load(record_id)
        tags = tags_of()
        _, outcome = await login(subject, tags, record_id, V, keep=frozenset({"a"}))
        assert outcome.outcome is DONE
        after = await subject.load(record_id)
        assert after is not before
        assert (before.extra, before.verifier) == (NOTHING_MORE, b"")
        assert dict(before.attributes) == {"a": b"1", "b": b"2"}
        assert subject.store.verbs.swap(before, V, before.attributes, {"late": b"1"}, subject.clock()) is False
        assert (await login(subject, tags, record_id, W, V))[1].outcome is DONE
        assert await subject.load(record_id) is after

    @over_a_store
    async def test_u11_what_is_taken_is_taken_once(self, subject: Subject) -> None:
        """U11: of entries that were given each is taken once, and the attributes stay as they are."""
        record_id, verbs = await subject.insert({"~a": b"1"}), subject.store.verbs
        assert verbs.give(record_id, W, {"~1": 1}) is False
        assert verbs.give(record_id, V, {"~1": 1, "~2": 2, "other": 3}) is True
        results = [await subject.store.take(record_id, V, "~") for _ in range(3)]
        assert results == [{"~1": 1, "~2": 2}, {}, {}]
        assert await subject.store.take(record_id, W, "other") == {}
        assert await subject.store.take(record_id, V, "other") == {"other": 3}
        assert await subject.attributes(record_id) == {"~a": b"1"}
        assert await subject.store.take(secrets.token_bytes(16), V, "~") == {}

    @over_a_store
    async def test_u7_watchers_are_told_of_every_end(self, subject: Subject) -> None:
        """U7: of each once, with its reason and the record; a watcher that is gone is told nothing."""
        ends: list[tuple[bytes, str, Any]] = []

        class Watcher:
            def note(self, record: Any, reason: str, is_over: bool) -> None:
                assert is_over is (reason != "replaced")
                ends.append((record.record_id, reason, dict(record.attributes)))

        watcher, gone, tags, verbs = Watcher(), Watcher(), tags_of(), subject.store.verbs
        verbs.watch(watcher.note)
        verbs.watch(gone.note)
        del gone
        gc.collect()
        made = {
            reason: await subject.insert({reason: b"1"}, idle=10.0 if reason == "expired" else 600.0)
            for reason in ("invalidated", "expired")
        }
        made |= {reason: (await login(subject, tags))[0] for reason in ("replaced", "revoked", "evicted")}
        assert await subject.delete(made["invalidated"]) is True
        subject.clock.advance(10)
        assert await subject.load(made["expired"]) is None
        assert await subject.store.retire(made["replaced"], W, subject.clock() + 60) is True
        assert await subject.touch(made["revoked"], W, subject.clock()) is True
        kept, outcome = await login(subject, tags, limit=2)
        assert outcome.evicted == (made["evicted"],)
        assert await subject.store.revoke(tags, kept, subject.clock()) == [made["revoked"]]
        assert {reason: record_id for record_id, reason, _ in ends} == made
        assert len(ends) == len(made)


class LiveStoreContract(StoreContract):
    """Every verb of ``store.live``, twice: with saves by ``update``, and by ``swap``. ``make_store`` is as above."""

    @pytest.fixture(params=["update", "swap"])
    def factory(self, request: pytest.FixtureRequest) -> Factory:
        """Give a function from a clock to the live store, awaited."""
        return lambda clock: Awaited(self.make_store(clock), swaps=request.param == "swap")

    @over_a_store
    async def test_the_record_is_the_very_object(self, subject: Subject) -> None:
        """All load the record that was created, its values are the objects that were given, and saves show in it."""
        verbs, now, record_id = subject.store.verbs, subject.clock(), secrets.token_bytes(16)
        value, later = object(), object()
        record = verbs.record_type(V, now, 100.0, now + 1_000.0, {"value": value})
        assert verbs.create(record_id, record) is True
        assert verbs.load(record_id) is verbs.load(record_id) is record
        assert record.attributes["value"] is value
        assert verbs.update(record_id, V, Change(now + 1, {"later": later})) is True
        assert verbs.load(record_id) is record
        assert (record.attributes, record.version, record.accessed_at) == ({"value": value, "later": later}, 2, now + 1)

    @over_a_store
    async def test_a_refused_creation_keeps_the_record_that_is_there(self, subject: Subject) -> None:
        """K2: the object that was refused is in no store."""
        verbs, now = subject.store.verbs, subject.clock()
        record_id = await subject.insert({"a": b"1"})
        there = verbs.load(record_id)
        assert verbs.create(record_id, verbs.record_type(W, now, 9e9, now + 9e9, {})) is False
        assert verbs.load(record_id) is there
        assert there.verifier == V

    @over_a_store
    async def test_a_running_request_keeps_the_record(self, subject: Subject) -> None:
        """While a request is counted the record does not idle out; its absolute end comes all the same."""
        record_id = await subject.insert(idle=100.0, life=1_000.0)
        record = await subject.load(record_id)
        record.requests += 1
        subject.clock.advance(500)
        assert await subject.load(record_id) is record
        record.requests -= 1
        assert await subject.load(record_id) is None
        other = await subject.insert(idle=100.0, life=1_000.0)
        (await subject.load(other)).requests += 1
        subject.clock.advance(1_000)
        assert await subject.load(other) is None

    @over_a_store
    async def test_swap_publishes_the_content(self, subject: Subject) -> None:
        """If it is done, the very mapping is the record's, the version grows, no access moves back; else nothing."""
        record_id = await subject.insert({"a": b"1"})
        record = await subject.load(record_id)
        record.requests += 1
        version, now = 1, subject.clock()
        for at in (now, now + 5, now - 5):
            content, before = {"b": at}, await subject.read(record_id)
            if subject.store.verbs.swap(record, record.verifier, record.attributes, content, at):
                version += 1
                assert record.attributes is content
                before |= {"attributes": content, "version": version, "accessed_at": max(at, before["accessed_at"])}
            assert await subject.read(record_id) == before

    @pytest.mark.parametrize("why", ["saved", "equal", "stranger", "before", "deleted", "ended"])
    @over_a_store
    async def test_l5_swap_is_refused(self, subject: Subject, why: str) -> None:
        """L5: where another saved, for another verifier, and for a record that is absent; nothing is changed."""
        record_id = await subject.insert({"a": b"1"}, life=100.0)
        record = await subject.load(record_id)
        record.requests += 1
        base, verifier = record.attributes, record.verifier
        if why == "saved":
            assert await subject.update(record_id, V, sets={"other": b"2"}) is True
        elif why == "equal":
            base = dict(base)
        elif why == "stranger":
            verifier = W
        elif why == "before":
            assert await subject.regenerate(record_id, V, W, life=100.0) is True
            base = record.attributes
        elif why == "deleted":
            assert await subject.delete(record_id) is True
        else:
            subject.clock.advance(100)
        before = (await subject.load(record_id)) and await subject.read(record_id)
        assert subject.store.verbs.swap(record, verifier, base, {"late": b"3"}, subject.clock()) is False
        assert ((await subject.load(record_id)) and await subject.read(record_id)) == before

    @over_a_store
    async def test_the_same_sessions_are_in_the_store(self, subject: Subject) -> None:
        """What the live store has is what the store's coroutines have, both ways."""
        store, (one, other) = subject.store.store, (await subject.insert({"a": b"1"}), secrets.token_bytes(16))
        now = subject.clock()
        assert (await store.load(one)).attributes == {"a": b"1"}
        assert await store.create(other, Record(V, now, 100.0, now + 100.0, {"b": b"2"})) is True
        assert await subject.attributes(other) == {"b": b"2"}
        assert await store.delete(one) is True
        assert await subject.load(one) is None
