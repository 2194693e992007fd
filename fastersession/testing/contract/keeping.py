"""The contract of what becomes of a user's session later: retired, renewed, looked for by its id, paged, taken from.

Rules of residence: a mixin of `UserStoreContract`. No server, no sleep: time is the store's clock.
"""

from __future__ import annotations

import asyncio
import math
import secrets

from ...stores.base import Record, Renewal
from ...stores.users import ABOUT
from .subject import Subject, over_a_store
from .users import V, W, X, listed, logged_in, tags_of


class Keeping:
    """What other requests and administrators do with it."""

    @over_a_store
    async def test_a_retired_record(self, subject: Subject) -> None:
        """Its secret is nobody's, its user's list has it no more, and it ends when it was told to."""
        tags = tags_of()
        record_id = await logged_in(subject, tags, attributes={"a": b"1"})
        assert await subject.store.retire(record_id, V, subject.clock() + 60) is False
        subject.clock.advance(5)
        assert await subject.store.retire(record_id, W, subject.clock() + 60) is True
        found = await subject.read(record_id)
        assert found["verifier"] != W
        assert (found["verifier_before"], found["tag"]) == (None, None)
        assert (found["regenerated_at"], found["not_after"]) == (subject.clock(), subject.clock() + 60)
        assert await subject.update(record_id, W, sets={"late": b"x"}) is False
        assert await subject.store.retire(record_id, W, subject.clock() + 60) is False
        assert await listed(subject, tags) == []
        assert await subject.store.revoke(tags, None, subject.clock()) == []
        assert dict(await subject.store.ended([record_id])) == {record_id: "replaced"}
        subject.clock.advance(60)
        assert await subject.load(record_id) is None

    @over_a_store
    async def test_a_renewal_moves_the_end_for_the_own_verifier_only(self, subject: Subject) -> None:
        """The end moves with the change, in one step; with the verifier before, nothing of it happens."""
        record_id, now = await subject.insert({"a": b"1"}, life=100.0), subject.clock()
        renewal = Renewal(now + 500.0, math.inf)
        assert await subject.update(record_id, V, sets={"a": b"2"}, renewal=renewal) is True
        found = await subject.read(record_id)
        assert (found["not_after"], found["attributes"], found["version"]) == (now + 500.0, {"a": b"2"}, 2)
        assert await subject.regenerate(record_id, V, W, life=200.0) is True
        before = await subject.read(record_id)
        assert await subject.update(record_id, V, sets={"b": b"3"}, renewal=renewal) is False
        assert await subject.read(record_id) == before
        assert await subject.update(record_id, W, renewal=renewal) is True
        subject.clock.advance(499)
        assert await subject.touch(record_id, W, subject.clock()) is True
        assert await subject.load(record_id) is not None
        subject.clock.advance(1)
        assert await subject.load(record_id) is None

    @over_a_store
    async def test_a_renewal_of_a_users_session_keeps_it_listed(self, subject: Subject) -> None:
        """U1: beyond the moment that the login named, too."""
        tags = tags_of()
        record_id, now = await logged_in(subject, tags, life=100.0), subject.clock()
        assert await subject.update(record_id, W, renewal=Renewal(now + 400.0, now + 400.0)) is True
        subject.clock.advance(300)
        assert await listed(subject, tags) == [record_id]
        await logged_in(subject, tags)
        assert record_id in await subject.store.revoke(tags, None, subject.clock())

    @over_a_store
    async def test_which_have_ended(self, subject: Subject) -> None:
        """Of many ids those that are absent, and of those only."""
        tags = tags_of()
        alive, deleted = await logged_in(subject, tags), await logged_in(subject, tags)
        idle, never = await subject.insert({}, idle=10.0), secrets.token_bytes(16)
        await subject.delete(deleted)
        assert {*await subject.store.ended([alive, deleted, idle, never])} == {deleted, never}
        subject.clock.advance(10)
        assert {*await subject.store.ended([alive, deleted, idle, never])} == {deleted, idle, never}
        assert dict(await subject.store.ended([])) == {}
        many = [secrets.token_bytes(16) for _ in range(2500)]
        assert {*await subject.store.ended([alive, *many])} == {*many}

    @over_a_store
    async def test_pages_have_every_session(self, subject: Subject) -> None:
        """U3: each that is alive, whoever's, with what it says of itself; none that is dead; to the end."""
        tags = tags_of()
        made = [await logged_in(subject, tags, attributes={"secret": b"1"}) for _ in range(25)]
        made += [await subject.insert({ABOUT: b"about", "secret": b"1"}) for _ in range(25)]
        gone, old = await subject.insert({}), await subject.insert({}, idle=10.0)
        await subject.delete(gone)
        subject.clock.advance(10)
        for count in (1, 7, 1000):
            found: dict[bytes, Record] = {}
            after, pages = None, 0
            while pages == 0 or after is not None:
                page, after = await subject.store.page(after, count)
                found.update(page)
                pages += 1
                assert pages < 100_000
            assert {*made} <= {*found}
            assert not {gone, old} & {*found}
            assert all(dict(found[record_id].attributes) == {ABOUT: b"about"} for record_id in made)
            assert {found[record_id].extra.tag for record_id in made} == {tags[0], None}

    @over_a_store
    async def test_u11_what_is_taken_is_taken_once(self, subject: Subject) -> None:
        """U11: each of the attributes with that prefix is given to one caller, and no other attribute is touched."""
        record_id = await subject.insert({"~1": b"1", "~2": b"2", "a": b"3", "-~": b"4"})
        results = await asyncio.gather(*(subject.store.take(record_id, V, "~") for _ in range(20)))
        taken = [item for result in results for item in result.items()]
        assert sorted(taken) == [("~1", b"1"), ("~2", b"2")]
        found = await subject.read(record_id)
        assert (found["attributes"], found["version"]) == ({"a": b"3", "-~": b"4"}, 2)
        assert await subject.update(record_id, V, sets={"~3": b"5"}) is True
        assert await subject.regenerate(record_id, V, W) is True
        assert await subject.store.take(record_id, X, "~") == {}
        assert await subject.store.take(record_id, V, "~") == {"~3": b"5"}
        assert await subject.store.take(secrets.token_bytes(16), V, "~") == {}
