"""The contract of stores/users.py as tests: logins, marks, limits, lists and revocations.

Rules of residence: what is true of the sessions of users; what has ended and is to be told of is in ``ends``. No
server, no sleep: time is the store's clock.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from ...stores.base import Extra, Record
from ...stores.users import ABOUT, FOUND, MARK_SECONDS, Login, LoginOutcome, Outcome
from .races import SIZES
from .subject import Subject, over_a_store

V, W, X = b"v" * 32, b"w" * 32, b"x" * 32
ME = b"m" * 16
HER = b"\x01" + b"a" * 15
DONE, ABSENT, REVOKED, FULL = Outcome


def tags_of(*names: str) -> tuple[bytes, ...]:
    """Return tags that no other test uses."""
    return tuple(b"\x01" + secrets.token_bytes(15) for _ in names or ("first",))


async def login(
    subject: Subject,
    tags: tuple[bytes, ...],
    record_id: bytes | None = None,
    verifier: bytes | None = None,
    new: bytes = W,
    attributes: Mapping[str, bytes] | None = None,
    life: float = 86_400.0,
    **more: Any,
) -> tuple[bytes, LoginOutcome]:
    """Log in, on a new record or on one that is there; ``more`` are fields of ``Login``."""
    now, record_id = subject.clock(), secrets.token_bytes(16) if record_id is None else record_id
    record = Record(new, now, 600.0, now + life, {ABOUT: b"about", **(attributes or {})}, Extra(tags[0]))
    more.setdefault("authenticated_at", now)
    more.setdefault("until", now + life)
    return record_id, await subject.store.login(record_id, verifier, Login(record, tags, **more))


async def logged_in(subject: Subject, tags: tuple[bytes, ...], **more: Any) -> bytes:
    """Log in on a new record, which must work."""
    record_id, outcome = await login(subject, tags, **more)
    assert outcome == LoginOutcome(DONE)
    return record_id


async def listed(subject: Subject, tags: tuple[bytes, ...]) -> list[bytes]:
    """Return the ids of a user's sessions, the last used first."""
    return [record_id for record_id, _ in await subject.store.find(tags)]


class Users:
    """A mixin of `UserStoreContract`."""

    # --- what a login makes of a record ---

    @pytest.mark.parametrize("size", SIZES)
    @over_a_store
    async def test_a_login_on_a_new_record(self, subject: Subject, size: int) -> None:
        """The record is there, his, and in his list."""
        tags, value = tags_of(), b"x" * size
        record_id = await logged_in(subject, tags, attributes={"a": value})
        now, found = subject.clock(), await subject.read(record_id)
        assert found == {
            "verifier": W, "verifier_before": None, "created_at": now, "accessed_at": now, "idle_timeout": 600.0,
            "not_after": now + 86_400.0, "regenerated_at": None, "tag": tags[0], "version": 1,
            "attributes": {ABOUT: b"about", "a": value},
        }  # fmt: skip
        assert await listed(subject, tags) == [record_id]

    @pytest.mark.parametrize("size", SIZES)
    @over_a_store
    async def test_l3b_a_login_of_an_anonymous_session(self, subject: Subject, size: int) -> None:
        """L3b: same id, new secret, only what is kept stays; the verifier before proves nothing."""
        tags, value = tags_of(), b"x" * size
        given = {ABOUT: b"old", "cart": b"1", "other": b"2", "both": b"3", "gone": b"4", "new": b"5"}
        record_id = await subject.insert(given, life=90.0)
        assert await subject.update(record_id, sets={"added": value}) is True  # since this request loaded
        assert await subject.regenerate(record_id, V, X, life=90.0) is True
        created = subject.clock()
        subject.clock.advance(10)
        _, outcome = await login(
            subject, tags, record_id, X, attributes={"both": value, "new": b"6"}, deletes=("gone",),
            keep=frozenset({"cart", "both", "gone", "never"}),
        )  # fmt: skip
        assert outcome == LoginOutcome(DONE)
        now, found = subject.clock(), await subject.read(record_id)
        assert found["attributes"] == {ABOUT: b"about", "cart": b"1", "both": value, "new": b"6"}
        assert (found["verifier"], found["verifier_before"], found["tag"]) == (W, None, tags[0])
        assert (found["created_at"], found["accessed_at"], found["regenerated_at"]) == (created, now, now)
        assert (found["not_after"], found["idle_timeout"], found["version"]) == (now + 86_400.0, 600.0, 4)
        for old in (V, X):
            assert await subject.update(record_id, old, sets={"late": b"x"}) is False
            assert await subject.touch(record_id, old, now) is False
            assert await subject.lock(record_id, old, ME, 60.0) is False
            assert await subject.regenerate(record_id, old, V) is False
        assert await subject.read(record_id) == found
        subject.clock.advance(100)  # beyond the end that it had
        assert await listed(subject, tags) == [record_id]
        assert await subject.read(record_id) == found

    @over_a_store
    async def test_a_login_of_the_same_user_again(self, subject: Subject) -> None:
        """Everything stays but the secret; requests that run may finish on it; he is listed once."""
        tags = tags_of()
        record_id = await logged_in(subject, tags, attributes={"a": b"1", "b": b"2"})
        subject.clock.advance(5)
        _, outcome = await login(subject, tags, record_id, W, X, attributes={"c": b"3"}, deletes=("b",))
        assert outcome == LoginOutcome(DONE)
        found = await subject.read(record_id)
        assert found["attributes"] == {ABOUT: b"about", "a": b"1", "c": b"3"}
        assert (found["verifier"], found["verifier_before"], found["version"]) == (X, W, 2)
        assert (found["regenerated_at"], found["tag"]) == (subject.clock(), tags[0])
        assert await subject.update(record_id, W, sets={"late": b"x"}) is True
        assert await listed(subject, tags) == [record_id]

    @pytest.mark.parametrize("why", ["taken", "absent", "expired", "another secret", "the one before", "no lease"])
    @over_a_store
    async def test_a_login_that_finds_no_such_record(self, subject: Subject, why: str) -> None:
        """It changes nothing, and enters nothing in the index."""
        tags = tags_of()
        record_id = await subject.insert({"a": b"1"}, idle=100.0)
        verifier: bytes | None = {"taken": None, "another secret": X}.get(why, V)
        if why == "the one before":
            await subject.regenerate(record_id, V, X)
        elif why == "absent":
            await subject.delete(record_id)
        elif why == "expired":
            subject.clock.advance(100)
        before = await subject.load(record_id) and await subject.read(record_id)
        lease = ME if why == "no lease" else None
        _, outcome = await login(subject, tags, record_id, verifier, keep=frozenset(), lease=lease)
        assert outcome == LoginOutcome(ABSENT)
        assert (await subject.load(record_id) and await subject.read(record_id)) == before
        assert await listed(subject, tags) == []

    @over_a_store
    async def test_a_lease_stays_its_owners(self, subject: Subject) -> None:
        """A login under a lease is made with it, and the turn goes on."""
        tags, record_id = tags_of(), await subject.insert({})
        assert await subject.lock(record_id, V, ME, 60.0) is True
        _, outcome = await login(subject, tags, record_id, V, keep=frozenset(), lease=ME)
        assert outcome.outcome is DONE
        assert await subject.update(record_id, W, sets={"a": b"1"}, lease=ME) is True
        assert await subject.lock(record_id, W, b"y" * 16, 60.0) is False
        assert await subject.unlock(record_id, ME) is True

    @over_a_store
    async def test_l5_no_login_brings_a_record_back(self, subject: Subject) -> None:
        """L5: after a logout, an update or a login with its verifier finds nothing."""
        tags = tags_of()
        record_id = await logged_in(subject, tags)
        assert await subject.delete(record_id) is True
        for keep in (None, frozenset({"a"})):
            _, outcome = await login(subject, tags, record_id, W, X, keep=keep)
            assert outcome.outcome is ABSENT
        assert await subject.update(record_id, W, sets={"a": b"1"}) is False
        assert await subject.load(record_id) is None
        assert await listed(subject, tags) == []

    # --- marks ---

    @pytest.mark.parametrize(("since", "strictly", "works"), [
        (-0.001, False, False), (0.0, False, True), (0.0, True, False), (0.001, True, True), (5.0, False, True),
    ])  # fmt: skip
    @over_a_store
    async def test_u2_a_login_beside_a_mark(self, subject: Subject, since: float, strictly: bool, works: bool) -> None:
        """U2: what was authenticated before the mark is refused; at it only where its time was given."""
        tags, at = tags_of(), subject.clock()
        await subject.store.revoke(tags, None, at)
        subject.clock.advance(10)
        anonymous = await subject.insert({"a": b"1"})
        for record_id, verifier in ((None, None), (anonymous, V)):
            given: Any = {"authenticated_at": at + since, "strictly": strictly, "keep": frozenset({"a"})}
            made, outcome = await login(subject, tags, record_id, verifier, **given)
            assert outcome.outcome is (DONE if works else REVOKED)
            if not works:
                record = await subject.load(made)
                assert record is None or record.verifier == V
                assert outcome.record_is_gone is (record is None and verifier is not None)
        assert len(await listed(subject, tags)) == 2 * works

    @over_a_store
    async def test_a_mark_never_moves_back_and_spares_one(self, subject: Subject) -> None:
        """The kept session may go on logging in; a revocation of before moves no mark."""
        tags, kept = tags_of(), secrets.token_bytes(16)
        before = subject.clock()
        await subject.store.revoke(tags, None, before + 20)
        await subject.store.revoke(tags, kept, before + 10)
        subject.clock.advance(60)
        _, outcome = await login(subject, tags, authenticated_at=before + 15)
        assert outcome.outcome is REVOKED
        _, outcome = await login(subject, tags, kept, authenticated_at=before + 15, strictly=True)
        assert outcome.outcome is DONE

    @over_a_store
    async def test_a_mark_of_any_tag_counts(self, subject: Subject) -> None:
        """While keys are swapped a user has several tags; marks, lists and revocations are of all."""
        tags = tags_of("new", "old")
        old, new = await logged_in(subject, tags[::-1]), await logged_in(subject, tags)
        assert {*await listed(subject, tags)} == {old, new}
        assert await listed(subject, tags[:1]) == [new]
        await subject.store.revoke(tags[1:], None, subject.clock() + 1)
        _, outcome = await login(subject, tags)
        assert outcome.outcome is REVOKED
        assert await listed(subject, tags) == [new]

    @over_a_store
    async def test_u5_a_mark_ends(self, subject: Subject) -> None:
        """U5: a month later nothing is kept of it."""
        tags, at = tags_of(), subject.clock()
        await subject.store.revoke(tags, None, at)
        subject.clock.advance(MARK_SECONDS - 60)
        _, outcome = await login(subject, tags, authenticated_at=at - 1)
        assert outcome.outcome is REVOKED

    # --- lists ---

    @over_a_store
    async def test_u3_a_list_shows_what_is_alive(self, subject: Subject) -> None:
        """U3: the last used first, and of each what it says of itself; nothing dead, nobody else's."""
        tags, others = tags_of(), tags_of()
        first = await logged_in(subject, tags, attributes={"secret": b"1"})
        second = await logged_in(subject, tags, life=50.0)
        third, gone = await logged_in(subject, tags), await logged_in(subject, tags)
        await logged_in(subject, others)
        await subject.insert({}, tag=tags[0])  # bound, never confirmed
        subject.clock.advance(10)
        assert await subject.touch(first, W, subject.clock()) is True
        subject.clock.advance(10)
        assert await subject.touch(third, W, subject.clock()) is True
        assert await subject.delete(gone) is True
        assert await listed(subject, tags) == [third, first, second]
        for _, record in await subject.store.find(tags):
            assert dict(record.attributes) == {ABOUT: b"about"}
            assert (record.extra.tag, record.created_at) == (tags[0], subject.clock() - 20)
        subject.clock.advance(30)
        assert await listed(subject, tags) == [third, first]
        subject.clock.advance(590)
        assert await listed(subject, tags) == []
        assert await subject.store.find(tags_of()) == []

    @over_a_store
    async def test_a_list_is_bounded(self, subject: Subject) -> None:
        """U5: it has the last ``FOUND``, and a revocation ends the rest as well."""
        tags = tags_of()
        oldest = [await logged_in(subject, tags) for _ in range(3)]
        subject.clock.advance(1)
        made: list[bytes] = []
        while len(made) < FOUND:
            made += await asyncio.gather(*(logged_in(subject, tags) for _ in range(50)))
        assert {*await listed(subject, tags)} == {*made}
        assert {*await subject.store.revoke(tags, None, subject.clock())} == {*oldest, *made}

    # --- revocations ---

    @over_a_store
    async def test_u1_a_revocation_ends_all_but_one(self, subject: Subject) -> None:
        """U1: what it returns has ended; the kept one and other users' live; again, it ends nothing more."""
        tags, others = tags_of(), tags_of()
        mine = [await logged_in(subject, tags) for _ in range(5)]
        other, dead = await logged_in(subject, others), mine.pop()
        await subject.delete(dead)
        subject.clock.advance(1)
        ended = await subject.store.revoke(tags, mine[0], subject.clock())
        assert sorted(ended) == sorted(mine[1:])
        for record_id in mine[1:]:
            assert await subject.load(record_id) is None
            assert await subject.update(record_id, W, sets={"a": b"1"}) is False
        assert await listed(subject, tags) == [mine[0]]
        assert await listed(subject, others) == [other]
        assert await subject.store.revoke(tags, mine[0], subject.clock()) == []
        assert await subject.store.revoke(tags, None, subject.clock()) == [mine[0]]
