"""The verifier before: what a request that had loaded a record before a regeneration may still do with it.

Rules of residence: a mixin of `StoreContract`. Nothing waits for a time.
"""

from __future__ import annotations

import secrets

import pytest

from .races import ROUNDS, SIZES, at_once
from .subject import Subject, over_a_store

V, W, X, Y = b"v" * 32, b"w" * 32, b"x" * 32, b"y" * 32
ME, YOU = b"m" * 16, b"y" * 16
MANY = 20


async def refused(subject: Subject, record_id: bytes, verifier: bytes) -> bool:
    """Return whether every verb refuses a verifier and changes nothing."""
    before = await subject.read(record_id)
    outcomes = [
        *[await subject.update(record_id, verifier, sets={"late": b"x" * size}) for size in SIZES],
        await subject.touch(record_id, verifier, subject.clock()),
        await subject.lock(record_id, verifier, secrets.token_bytes(16), 60.0),
        await subject.regenerate(record_id, verifier, Y),
    ]
    return outcomes == [False] * len(outcomes) and await subject.read(record_id) == before


class Before:
    """One generation back is a proof of update, touch and lock, and of nothing else."""

    @pytest.mark.parametrize("size", SIZES)
    @over_a_store
    async def test_l3_the_verifier_before_still_saves(self, subject: Subject, size: int) -> None:
        """L3: after a regeneration the verifier before updates, touches and locks; it never regenerates."""
        value, record_id = b"x" * size, await subject.insert({"a": b"1", "b": b"2"})
        assert await subject.regenerate(record_id, V, W, sets={"r": value}) is True
        subject.clock.advance(10)
        assert await subject.update(record_id, V, "a", sets={"answer": value}, idle_timeout=900.0) is True
        subject.clock.advance(10)
        assert await subject.touch(record_id, V, subject.clock()) is True
        assert await subject.lock(record_id, V, ME, 60.0) is True
        found = await subject.read(record_id)
        assert found["attributes"] == {"b": b"2", "r": value, "answer": value}
        assert (found["verifier"], found["verifier_before"], found["version"]) == (W, V, 3)
        assert (found["accessed_at"], found["idle_timeout"]) == (subject.clock(), 900.0)
        for new in (X, V, W):
            assert await subject.regenerate(record_id, V, new, sets={"late": value}) is False
        assert await subject.read(record_id) == found
        assert await subject.update(record_id, W, sets={"own": b"1"}) is True

    @over_a_store
    async def test_l3_a_second_regeneration_forgets_it(self, subject: Subject) -> None:
        """L3: two generations back is nobody's proof, whatever was saved with it meanwhile."""
        record_id = await subject.insert({"a": b"1"})
        assert await subject.regenerate(record_id, V, W) is True
        assert await subject.update(record_id, V, sets={"b": b"2"}) is True
        assert await subject.regenerate(record_id, W, X) is True
        assert (await subject.read(record_id))["verifier_before"] == W
        assert await refused(subject, record_id, V)
        assert await subject.update(record_id, W, sets={"c": b"3"}) is True
        assert await subject.attributes(record_id) == {"a": b"1", "b": b"2", "c": b"3"}

    @over_a_store
    async def test_l3_a_refused_regeneration_forgets_nothing(self, subject: Subject) -> None:
        """L3: the loser of two changes neither verifier, and saves with the one it has."""
        for size in SIZES:
            record_id = await subject.insert()
            assert await subject.regenerate(record_id, V, W) is True
            for verifier in (V, X):
                assert await subject.regenerate(record_id, verifier, Y, sets={"lost": b"x" * size}) is False
            found = await subject.read(record_id)
            assert (found["verifier"], found["verifier_before"], found["attributes"]) == (W, V, {})
            assert await subject.update(record_id, V, sets={"kept": b"x" * size}) is True

    @over_a_store
    async def test_nothing_like_the_verifier_before_is_one(self, subject: Subject) -> None:
        """Not a part of it, nor it with more behind or in front, nor the record's own beside it, nor none."""
        record_id = await subject.insert({"a": b"1"})
        assert await refused(subject, record_id, b"")
        assert await subject.regenerate(record_id, V, W) is True
        for other in (b"", V[:-1], V[1:], V + W, V + b"v", b"v" + V, W + V, b"V" * 32, V[:-1] + b"\0", V[:-1] + b" "):
            assert await refused(subject, record_id, other)

    @over_a_store
    async def test_a_lease_goes_on_under_the_verifier_before(self, subject: Subject) -> None:
        """Who holds the lease renews it and saves under it; who does not is refused as ever."""
        for size in SIZES:
            record_id = await subject.insert()
            assert await subject.lock(record_id, V, ME, 30.0) is True
            assert await subject.regenerate(record_id, V, W) is True
            subject.clock.advance(20)
            assert await subject.lock(record_id, V, YOU, 30.0) is False
            assert await subject.lock(record_id, V, ME, 30.0) is True
            assert await subject.update(record_id, V, sets={"b": b"x" * size}, lease=YOU) is False
            assert await subject.update(record_id, V, sets={"a": b"x" * size}, lease=ME) is True
            assert await subject.unlock(record_id, ME) is True
            assert await subject.update(record_id, V, sets={"c": b"x" * size}, lease=ME) is False
            assert await subject.lock(record_id, W, YOU, 30.0) is True
            assert await subject.attributes(record_id) == {"a": b"x" * size}

    @over_a_store
    async def test_l5_a_new_record_has_no_verifier_before(self, subject: Subject) -> None:
        """L5: deleted or run out, a record takes the verifier before with it, also under an id made anew."""
        for gone in ("deleted", "expired"):
            record_id = await subject.insert(idle=100.0)
            assert await subject.regenerate(record_id, V, W) is True
            if gone == "deleted":
                assert await subject.delete(record_id) is True
            subject.clock.advance(100)
            assert await subject.update(record_id, V, sets={"late": b"1"}) is False
            assert await subject.touch(record_id, V, subject.clock()) is False
            assert await subject.lock(record_id, V, ME, 30.0) is False
            assert await subject.load(record_id) is None
            await subject.insert(record_id=record_id, verifier=W)
            assert (await subject.read(record_id))["verifier_before"] is None
            assert await refused(subject, record_id, V)

    @over_a_store
    async def test_l3_saves_that_race_a_regeneration_are_all_kept(self, subject: Subject) -> None:
        """L3: of requests that had loaded before nothing is lost, in whatever order their saves arrive."""
        for number in range(ROUNDS):
            value, record_id = b"x" * SIZES[number % 2], await subject.insert()
            saves = [subject.update(record_id, V, sets={f"{n}": value}) for n in range(MANY)]
            results = await at_once(*saves[:10], subject.regenerate(record_id, V, W, sets={"r": value}), *saves[10:])
            assert results == [True] * (MANY + 1)
            assert set((await subject.read(record_id))["attributes"]) == {"r", *map(str, range(MANY))}

    @over_a_store
    async def test_l3_losers_of_a_race_save_all_the_same(self, subject: Subject) -> None:
        """L3: of many that regenerate at once one wins, and what each of the others wanted to save is saved."""
        for size in SIZES:
            record_id, news = await subject.insert(), [secrets.token_bytes(32) for _ in range(MANY)]

            async def race(new: bytes, record_id: bytes = record_id, size: int = size) -> bool:
                won: bool = await subject.regenerate(record_id, V, new, sets={new.hex(): b"x" * size})
                return won or not await subject.update(record_id, V, sets={new.hex(): b"x" * size})

            assert sorted(await at_once(*map(race, news))) == [False] * (MANY - 1) + [True]
            assert set(await subject.attributes(record_id)) == {new.hex() for new in news}
