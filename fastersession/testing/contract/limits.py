"""The contract of the limit of sessions, and of logins, revocations and limits at once.

Rules of residence: a mixin of `UserStoreContract`. No server, no sleep: time is the store's clock.
"""

from __future__ import annotations

import asyncio

from ...stores.users import LoginOutcome
from .races import ROUNDS
from .subject import Subject, over_a_store
from .users import DONE, FULL, REVOKED, V, W, X, listed, logged_in, login, tags_of


class Limits:
    """However many log in at once, no more stay than may."""

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
