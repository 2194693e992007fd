"""The contract of a live store: all of ``StoreContract``, over its plain functions, and what only it promises.

Rules of residence: the adapter from plain functions to coroutines, and the tests that need the very objects.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from ...stores.base import Change, Record
from .subject import Factory, Subject, over_a_store
from .suite import StoreContract

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
        times = record.created_at, record.idle_timeout, record.not_after
        made = self.verbs.record_type(record.verifier, *times, record.attributes, record.user)
        created: bool = self.verbs.create(record_id, made)
        return created

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        updated: bool = self.swapped(record_id, verifier, change) or self.verbs.update(record_id, verifier, change)
        return updated

    def swapped(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Save by ``swap``, as a request that runs, if the change needs no more than that."""
        record = self.verbs.load(record_id) if self.swaps else None
        if record is None or record.verifier != verifier or change.lease is not None or change.idle_timeout is not None:
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
