"""The contract of stores/users.py as tests: logins, marks, limits, lists and revocations.

Rules of residence: what is true of the sessions of users; what has ended and is to be told of is in ``ends``. No
server, no sleep: time is the store's clock.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from ...stores.base import Extra, Record, Renewal
from ...stores.users import ABOUT, FOUND, MARK_SECONDS, Login, LoginOutcome, Outcome
from .races import ROUNDS, SIZES
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

    # --- the limit ---

    @over_a_store
    async def test_u4_evict(self, subject: Subject) -> None:
        """U4: the least recently used goes, for what is new only; dead ones evict nobody, a re-login neither."""
        tags = tags_of()
        made = []
        for _ in range(3):
            made.append(await logged_in(subject, tags, limit=3))
            subject.clock.advance(1)
        assert await subject.touch(made[0], W, subject.clock()) is True
        _, outcome = await login(subject, tags, made[2], W, X, limit=1)
        assert outcome == LoginOutcome(DONE)
        record_id, outcome = await login(subject, tags, limit=3)
        assert outcome == LoginOutcome(DONE, (made[1],))
        assert await subject.load(made[1]) is None
        assert {*await listed(subject, tags)} == {made[0], made[2], record_id}
        await subject.delete(made[0])
        _, outcome = await login(subject, tags, limit=3)
        assert outcome == LoginOutcome(DONE)
        last, outcome = await login(subject, tags, limit=1)
        assert outcome.outcome is DONE
        assert len(outcome.evicted) == 3
        assert await listed(subject, tags) == [last]

    @over_a_store
    async def test_u4_deny(self, subject: Subject) -> None:
        """U4: at the limit a login is refused and changes nothing; what has expired makes room."""
        tags = tags_of()
        made = [await logged_in(subject, tags, limit=2, evicts=False, life=life) for life in (100.0, 1000.0)]
        anonymous = await subject.insert({"a": b"1"})
        for record_id, verifier in ((None, None), (anonymous, V)):
            refused, outcome = await login(
                subject, tags, record_id, verifier, keep=frozenset({"a"}), limit=2, evicts=False
            )
            assert outcome.outcome is FULL
            record = await subject.load(refused)
            assert record is None or record.verifier == V
        assert {*await listed(subject, tags)} == {*made}
        _, outcome = await login(subject, tags, made[0], W, X, limit=1, evicts=False)
        assert outcome.outcome is DONE
        subject.clock.advance(100)
        if await subject.load(anonymous) is not None:
            _, outcome = await login(subject, tags, anonymous, V, keep=frozenset(), limit=3, evicts=False)
            assert outcome.outcome is DONE

    # --- at once ---

    @over_a_store
    async def test_u4_logins_at_once_never_exceed_the_limit(self, subject: Subject) -> None:
        """U4: seven logins at once, two may stay; whatever the order, the confirmed sessions are two."""
        for _ in range(ROUNDS):
            tags = tags_of()
            outcomes = await asyncio.gather(*(login(subject, tags, limit=2) for _ in range(7)))
            assert {outcome.outcome for _, outcome in outcomes} == {DONE}
            alive = await listed(subject, tags)
            assert len(alive) == 2
            evicted = [gone for _, outcome in outcomes for gone in outcome.evicted]
            assert sorted(evicted + alive) == sorted(record_id for record_id, _ in outcomes)

    @over_a_store
    async def test_u1_logins_beside_a_revocation(self, subject: Subject) -> None:
        """U1: what is alive after it is listed, and was authenticated at its time or later."""
        for _ in range(ROUNDS):
            tags = tags_of()
            at = subject.clock()
            times = [at - 1, at, at - 1, at, at - 1, at]
            logins = [login(subject, tags, authenticated_at=time) for time in times]
            *outcomes, ended = await asyncio.gather(*logins[:3], subject.store.revoke(tags, None, at), *logins[3:])
            revoked = outcomes.pop(3) if isinstance(outcomes[3], list) else ended
            done = [*outcomes, ended] if revoked is not ended else outcomes
            alive = {record_id for record_id, _ in done if await subject.load(record_id) is not None}
            assert {*await listed(subject, tags)} == alive
            for time, (record_id, outcome) in zip(times, done, strict=True):
                if record_id in alive:
                    assert outcome.outcome is DONE
                    assert time == at
                assert not (outcome.outcome is REVOKED and time == at)

    # --- the rest ---

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
