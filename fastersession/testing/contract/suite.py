"""The contract of stores/base.py as tests: any store passes them, over any server.

Rules of residence: what is true of one caller at a time; times, values, races, cancellations and leases have files of
their own, mixed in here. No server, no sleep: time is the store's clock.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from ...stores.base import Extra, Record
from .before import Before
from .cancelled import Cancelled
from .ends import Ends
from .keeping import Keeping
from .leases import Leases
from .limits import Limits
from .listing import Listing
from .logs import Histories
from .logs_machine import check_logs
from .machine import check_store
from .races import Races
from .roundtrip import RoundTrip
from .run_ends import RunEnds
from .runs import Runs
from .session_logs import SessionLogs
from .subject import Factory, OverAFactory, Subject, fields, opened, over_a_store
from .times import Times
from .users import Users
from .users_machine import check_users

V, W, X = b"v" * 32, b"w" * 32, b"x" * 32
OWNER, TAG = b"o" * 16, b"\x01" + b"t" * 15
ABSENT = ("never created", "deleted", "idle for too long", "at its absolute end")


async def absent(subject: Subject, why: str) -> bytes:
    """Return the id of a record that is not there."""
    if why == "never created":
        return secrets.token_bytes(16)
    record_id = await subject.insert({"old": b"1"}, idle=100.0, life=100.0 if "end" in why else 1_000.0)
    if why == "deleted":
        assert await subject.delete(record_id) is True
    else:
        subject.clock.advance(100)
    return record_id


class StoreContract(OverAFactory, Before, Cancelled, Leases, Races, RoundTrip, Times):
    """Every verb: what it returns and what it leaves behind. Subclass it, and pytest runs all of it over your store.

        class TestMyStore(SharedStoreContract):
            def make_store(self, clock):
                return MyStore("server.example", clock=clock)

    Where a store needs fixtures, override the fixture ``factory`` instead, which returns such a function. Each test
    makes its store, opens it, uses ids of its own, and closes it, in an event loop of its own; records of other tests
    may be in the server.
    """

    shared = False  # what one store acknowledged is in another one of the same factory
    examples = 100  # how many sequences of verbs the state machine tries

    def test_state_machine(self, factory: Factory) -> None:
        """Any sequence of verbs, by requests that overlap and at once, has the model's outcomes."""
        check_store(factory, shared=self.shared, examples=self.examples)

    @over_a_store
    async def test_create_then_load(self, subject: Subject) -> None:
        """What was created is loaded, every field as it was given; the record that was given stays as it is."""
        now = subject.clock() + 0.123456
        subject.clock.advance(0.123456)
        given = {"a": b"1", "b": b"\x00\xff"}
        record, record_id = Record(V, now, 60.25, now + 90.5, given, Extra(TAG)), secrets.token_bytes(16)
        before = fields(record)
        assert await subject.create(record_id, record) is True
        assert await subject.read(record_id) == fields(record) == before == {
            "verifier": V, "verifier_before": None, "created_at": now, "accessed_at": now, "idle_timeout": 60.25,
            "not_after": now + 90.5, "regenerated_at": None, "tag": TAG, "version": 1, "attributes": given,
        }  # fmt: skip

    @over_a_store
    async def test_k2_create_is_insert_only(self, subject: Subject) -> None:
        """K2: with an id that is taken, create returns False and the record there stays as it is, to the byte."""
        record_id = await subject.insert({"a": b"1"}, tag=TAG)
        before = await subject.read(record_id)
        subject.clock.advance(5)
        now = subject.clock()
        other = Record(W, now, 1.0, now + 1.0, {"a": b"2", "b": b"3"}, Extra(b"e" * 16))
        assert await subject.create(record_id, other) is False
        assert await subject.create(record_id, Record(V, now, 9e9, now + 9e9, {})) is False
        assert await subject.read(record_id) == before

    @pytest.mark.parametrize("why", ABSENT)
    @over_a_store
    async def test_create_over_what_is_absent(self, subject: Subject, why: str) -> None:
        """An id whose record is gone is free, and nothing of that record is in the new one."""
        record_id = await absent(subject, why)
        await subject.insert({"new": b"2"}, record_id=record_id, verifier=W)
        found = await subject.read(record_id)
        assert (found["attributes"], found["verifier"], found["version"]) == ({"new": b"2"}, W, 1)
        assert (found["accessed_at"], found["regenerated_at"]) == (subject.clock(), None)
        assert found["verifier_before"] is None

    @over_a_store
    async def test_a_created_record_is_the_callers(self, subject: Subject) -> None:
        """What the caller does to the record that it gave is nothing to the store, nor the other way round."""
        now, record_id = subject.clock(), secrets.token_bytes(16)
        record = Record(V, now, 100.0, now + 100.0, {"a": b"1"})
        assert await subject.create(record_id, record) is True
        before, record.accessed_at, record.idle_timeout, record.attributes = await subject.read(record_id), 0.0, 1.0, {}
        assert await subject.read(record_id) == before
        assert await subject.update(record_id, V, sets={"b": b"2"}) is True
        assert (record.version, record.attributes) == (1, {})

    @pytest.mark.parametrize("why", ABSENT)
    @over_a_store
    async def test_l5_no_verb_brings_a_record_back(self, subject: Subject, why: str) -> None:
        """L5: on an absent record every verb says so, and it stays absent after each of them."""
        record_id = await absent(subject, why)
        change: Any = {"sets": {"late": b"1"}}
        for verb, outcome in (
            (lambda: subject.load(record_id), None),
            (lambda: subject.update(record_id, V, **change), False),
            (lambda: subject.update(record_id, V, "old"), False),
            (lambda: subject.update(record_id, V, **change, idle_timeout=1e9, lease=OWNER), False),
            (lambda: subject.touch(record_id, V, subject.clock()), False),
            (lambda: subject.regenerate(record_id, V, W, **change, idle_timeout=1e9), False),
            (lambda: subject.lock(record_id, V, OWNER, 1e9), False),
            (lambda: subject.unlock(record_id, OWNER), False),
            (lambda: subject.delete(record_id), False),
        ):
            assert await verb() is outcome
            assert await subject.load(record_id) is None

    @over_a_store
    async def test_another_verifier_changes_nothing(self, subject: Subject) -> None:
        """Every verb that carries a verifier is refused with another's, or a part of it, and changes nothing."""
        record_id = await subject.insert({"a": b"1"})
        before = await subject.read(record_id)
        subject.clock.advance(10)
        for other in (W, b"", V[:-1], V + b"v", b"V" * 32, V[:-1] + b"\0", V[:-1] + b" "):
            assert await subject.update(record_id, other, "a", sets={"b": b"2"}, idle_timeout=1.0) is False
            assert await subject.touch(record_id, other, subject.clock()) is False
            assert await subject.regenerate(record_id, other, W, 1.0, sets={"b": b"2"}) is False
            assert await subject.regenerate(record_id, other, other) is False
            assert await subject.lock(record_id, other, OWNER, 60.0) is False
        assert await subject.read(record_id) == before
        assert await subject.lock(record_id, V, b"p" * 16, 60.0) is True

    @over_a_store
    async def test_update_merges(self, subject: Subject) -> None:
        """An update sets and deletes by name, leaves the rest, and counts; it deletes a name in both, or in neither."""
        record_id = await subject.insert({"a": b"1", "b": b"2", "c": b"3"})
        before = await subject.read(record_id)
        subject.clock.advance(7)
        assert await subject.update(record_id, V, "b", "none", sets={"a": b"10", "d": b"4"}) is True
        expected = before | {"accessed_at": subject.clock(), "version": 2}
        assert await subject.read(record_id) == expected | {"attributes": {"a": b"10", "c": b"3", "d": b"4"}}
        assert await subject.update(record_id, V, "a", "c", "d", "both", sets={"both": b"5"}) is True
        assert await subject.read(record_id) == expected | {"attributes": {}, "version": 3}
        assert await subject.update(record_id) is True
        assert await subject.attributes(record_id) == {}

    @over_a_store
    async def test_a_record_in_hand_stays_as_it_is(self, subject: Subject) -> None:
        """A mapping that was handed out, or given, is changed by no later verb."""
        given = {"a": b"1"}
        record_id = await subject.insert(given)
        held = (await subject.load(record_id)).attributes
        assert await subject.update(record_id, V, "a", sets={"b": b"2"})
        assert await subject.regenerate(record_id, V, W, sets={"c": b"3"})
        assert (dict(held), given) == ({"a": b"1"}, {"a": b"1"})

    @over_a_store
    async def test_delete_wins_whatever_the_verifier(self, subject: Subject) -> None:
        """Delete removes the record and all of it, once; its neighbour stays."""
        record_id, neighbour = await subject.insert({"a": b"1"}), await subject.insert({"a": b"2"})
        await subject.regenerate(record_id, V, W)
        await subject.lock(record_id, W, OWNER, 60.0)
        assert [await subject.delete(record_id), await subject.delete(record_id)] == [True, False]
        assert await subject.load(record_id) is None
        assert await subject.attributes(neighbour) == {"a": b"2"}

    @over_a_store
    async def test_l2_regenerate_is_a_compare_and_set(self, subject: Subject) -> None:
        """L2: verifier, end and change come in one step, which the old verifier is no proof for any more."""
        record_id = await subject.insert({"a": b"1", "b": b"2"}, idle=600.0, life=60.0, tag=TAG)
        before = await subject.read(record_id)
        subject.clock.advance(30)
        change = subject.change("b", sets={"c": b"3"}, idle_timeout=90.0)
        assert await subject.store.regenerate(record_id, V, W, subject.clock() + 1_000.5, change) is True
        now = subject.clock()
        after = before | {
            "verifier": W, "verifier_before": V, "regenerated_at": now, "accessed_at": now,
            "not_after": now + 1_000.5, "version": 2, "idle_timeout": 90.0, "attributes": {"a": b"1", "c": b"3"},
        }  # fmt: skip
        assert await subject.read(record_id) == after
        assert await subject.regenerate(record_id, V, X) is False
        assert await subject.regenerate(record_id, V, V, sets={"d": b"4"}) is False
        assert await subject.read(record_id) == after
        assert await subject.update(record_id, W, sets={"d": b"4"}) is True
        subject.clock.advance(89.5)
        assert await subject.load(record_id) is not None

    @over_a_store
    async def test_opening_and_closing_again(self, subject: Subject) -> None:
        """A second open does nothing; a store may be opened again after it was closed, and does so by itself."""
        record_id = await subject.insert({"a": b"1"})
        await subject.store.open()
        assert await subject.attributes(record_id) == {"a": b"1"}
        await subject.store.close()
        assert await subject.attributes(record_id) == {"a": b"1"}
        await subject.store.close()
        await subject.store.open()
        assert await subject.attributes(record_id) == {"a": b"1"}


class SharedStoreContract(StoreContract):
    """The same for a store outside the process: what one worker writes, all read."""

    shared = True
    examples = 25

    @over_a_store
    async def test_two_workers_share_the_records(self, subject: Subject) -> None:
        """A record is the same through every store over the same server, and survives the one that made it."""
        record_id = await subject.insert({"a": b"1"}, tag=TAG)
        before: Any = await subject.read(record_id)
        async with opened(subject.factory, subject.clock) as other:
            assert await other.read(record_id) == before
            assert await other.lock(record_id, V, OWNER, 60.0) is True
            assert await other.update(record_id, V, "a", sets={"b": b"2"}) is True
        assert await subject.attributes(record_id) == {"b": b"2"}
        assert await subject.lock(record_id, V, b"p" * 16, 60.0) is False


class UserStoreContract(OverAFactory, Users, Limits, Keeping, Ends):
    """Every verb that stores of users have in addition. Used as ``StoreContract`` is, beside it."""

    shared = False  # what one store acknowledged is in another one of the same factory
    user_examples = 30  # how many sequences of verbs the state machine tries

    def test_state_machine_of_users(self, factory: Factory) -> None:
        """Any sequence of verbs has the outcomes of a reference."""
        check_users(factory, examples=self.user_examples, shared=self.shared)


class LogStoreContract(OverAFactory, Histories, Listing, Runs, RunEnds, SessionLogs):
    """Every verb of stores that keep conversations. Used as ``StoreContract`` is, beside the contract of users."""

    shared = False  # what one store acknowledged is in another one of the same factory
    log_examples = 50  # how many sequences of verbs the state machine tries

    def test_state_machine_of_logs(self, factory: Factory) -> None:
        """Any sequence of verbs has the outcomes of a reference."""
        check_logs(factory, examples=self.log_examples, shared=self.shared)
