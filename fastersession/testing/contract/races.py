"""Many callers at once on one record: the outcome is one that some order of them could have had.

Rules of residence: a mixin of `StoreContract`. Nothing waits for a time; each race is run often enough to be one.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any

from ...stores.base import Record
from .subject import Subject, over_a_store

V, W, X = b"v" * 32, b"w" * 32, b"x" * 32
MANY, ROUNDS = 20, 5
SIZES = (8, 5_000)  # a store may take another way for large values


async def at_once(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all as tasks of one loop and return their results in order."""
    return list(await asyncio.gather(*work))


class Races:
    """Exactly one wins where one may, and nothing is lost or torn."""

    @over_a_store
    async def test_k2_one_of_many_creates(self, subject: Subject) -> None:
        """K2: of many that create one id exactly one gets it, and the record is that one's alone."""
        for size in SIZES:
            record_id, now = secrets.token_bytes(16), subject.clock()
            verifiers = [secrets.token_bytes(32) for _ in range(MANY)]
            records = [Record(one, now, 60.0, now + 60.0, {one.hex(): one * (size // 8)}) for one in verifiers]
            won = await at_once(*(subject.create(record_id, record) for record in records))
            assert sorted(won) == [False] * (MANY - 1) + [True]
            winner = verifiers[won.index(True)]
            found = await subject.read(record_id)
            assert (found["verifier"], list(found["attributes"])) == (winner, [winner.hex()])

    @over_a_store
    async def test_l2_one_of_many_regenerates(self, subject: Subject) -> None:
        """L2: of many regenerations that race exactly one gets True; verifier and change are that one's alone."""
        for size in SIZES:
            record_id, news = await subject.insert(), [secrets.token_bytes(32) for _ in range(MANY)]
            won = await at_once(
                *(subject.regenerate(record_id, V, new, sets={new.hex(): new * (size // 8)}) for new in news)
            )
            assert sorted(won) == [False] * (MANY - 1) + [True]
            winner = news[won.index(True)]
            found = await subject.read(record_id)
            assert (found["verifier"], list(found["attributes"]), found["version"]) == (winner, [winner.hex()], 2)

    @over_a_store
    async def test_one_of_many_deletes(self, subject: Subject) -> None:
        """Of many logouts one removed the record."""
        for _ in range(ROUNDS):
            record_id = await subject.insert({"a": b"1"})
            assert sorted(await at_once(*(subject.delete(record_id) for _ in range(MANY)))) == [False] * 19 + [True]

    @over_a_store
    async def test_l8_different_attributes_all_survive(self, subject: Subject) -> None:
        """L8: 50 saves of different attributes at once, some of them deletes: every one is in the record."""
        for size in SIZES:
            record_id = await subject.insert({f"old {number}": b"1" for number in range(50)})
            saved = await at_once(
                *(
                    subject.update(record_id, V, f"old {number}", sets={f"new {number}": b"%8d" % number * (size // 8)})
                    for number in range(50)
                )
            )
            found = await subject.read(record_id)
            assert (saved, found["version"]) == ([True] * 50, 51)
            assert found["attributes"] == {f"new {number}": b"%8d" % number * (size // 8) for number in range(50)}

    @over_a_store
    async def test_the_same_attributes_are_one_writers(self, subject: Subject) -> None:
        """Of many that rewrite the same attributes the last wins, with all of them: no mixture is stored."""
        for size in SIZES:
            record_id = await subject.insert()
            writes = [dict.fromkeys(("z", "a", "m"), secrets.token_bytes(size)) for _ in range(MANY)]
            turned = [dict(reversed(write.items())) if n % 2 else write for n, write in enumerate(writes)]
            assert all(await at_once(*(subject.update(record_id, V, sets=write) for write in turned)))
            assert await subject.attributes(record_id) in writes

    @over_a_store
    async def test_a_reader_sees_saves_whole(self, subject: Subject) -> None:
        """What one save wrote is read together: verifier, attributes and version never of two moments."""
        for size in SIZES:
            first = (b"%16d" % 0) * (size // 8)
            record_id = await subject.insert({"a": first, "b": first}, verifier=first[:32].ljust(32))
            done = asyncio.Event()

            async def write(
                record_id: bytes = record_id, old: bytes = first, size: int = size, done: asyncio.Event = done
            ) -> None:
                for number in range(1, 21):
                    new = (b"%16d" % number) * (size // 8)
                    pair = old[:32].ljust(32), new[:32].ljust(32)
                    assert await subject.regenerate(record_id, *pair, sets={"b": new, "a": new})
                    old = new
                done.set()

            async def read(record_id: bytes = record_id, done: asyncio.Event = done) -> None:
                while not done.is_set():
                    found = await subject.read(record_id)
                    assert found["attributes"]["a"] == found["attributes"]["b"]
                    assert found["verifier"] == found["attributes"]["a"][:32].ljust(32)
                    assert found["version"] == int(found["verifier"][:16]) + 1
                    await asyncio.sleep(0)

            await at_once(write(), *(read() for _ in range(4)))

    @over_a_store
    async def test_l5_a_delete_among_saves_is_final(self, subject: Subject) -> None:
        """L5: a logout among saves, touches, leases and regenerations: gone, nothing left, and it stays so."""
        for number in range(ROUNDS):
            size = SIZES[number % 2]
            record_id = await subject.insert({"a": b"1"})
            saves = [subject.update(record_id, V, sets={f"{n}": b"x" * size}) for n in range(MANY)]
            others = [
                subject.touch(record_id, V, subject.clock()), subject.lock(record_id, V, b"o" * 16, 60.0),
                subject.regenerate(record_id, V, W, sets={"r": b"x" * size}), subject.unlock(record_id, b"o" * 16),
            ]  # fmt: skip
            results = await at_once(*saves[::2], subject.delete(record_id), *others, *saves[1::2])
            assert results[MANY // 2] is True
            assert await subject.load(record_id) is None
            await subject.insert({"new": b"1"}, record_id=record_id, verifier=W)
            assert await subject.attributes(record_id) == {"new": b"1"}

    @over_a_store
    async def test_l3_no_save_two_generations_back(self, subject: Subject) -> None:
        """L3: saves that race two regenerations are in the record exactly if they were told so."""
        for number in range(ROUNDS):
            value, record_id = b"x" * SIZES[number % 2], await subject.insert()
            saves = [subject.update(record_id, V, sets={f"{n}": value}) for n in range(MANY)]

            async def twice(record_id: bytes = record_id, value: bytes = value) -> bool:
                once = await subject.regenerate(record_id, V, W, sets={"r": value})
                return once and await subject.regenerate(record_id, W, X)

            results = await at_once(*saves[:10], twice(), *saves[10:])
            told = [name for name, saved in zip([*range(10), "r", *range(10, MANY)], results, strict=True) if saved]
            found = await subject.read(record_id)
            assert "r" in told
            assert set(found["attributes"]) == set(map(str, told))
            assert (found["verifier"], found["version"]) == (X, 2 + len(told))

    @over_a_store
    async def test_concurrent_touches_keep_the_latest(self, subject: Subject) -> None:
        """Touches and saves with different times at once: the latest stays, in whatever order they arrive."""
        record_id, start = await subject.insert(), subject.clock()
        subject.clock.advance(100)
        touches = [subject.touch(record_id, V, start + n) for n in (3, 99, 1, 50, 98, 2)]
        saves = [subject.update(record_id, V, sets={"a": b"1"}, at=start + n) for n in (97, 5, 96)]
        assert all(await at_once(*touches[:3], *saves, *touches[3:]))
        assert (await subject.read(record_id))["accessed_at"] == start + 99

    @over_a_store
    async def test_more_callers_than_connections(self, subject: Subject) -> None:
        """300 loads, 100 creates and 100 saves at once wait for their turn: none fails, none gets another's data."""
        records = [await subject.insert({"n": b"%d" % number}) for number in range(10)]
        loads = [subject.attributes(records[number % 10]) for number in range(300)]
        creates = [subject.insert({"new": b"%d" % number}) for number in range(100)]
        saves = [subject.update(records[number % 10], V, sets={f"{number}": b"1"}) for number in range(100)]
        results = await at_once(*loads, *creates, *saves)
        assert [int(result["n"]) for result in results[:300]] == list(range(10)) * 30
        assert len(set(results[300:400])) == 100
        assert all(results[400:])
