"""When a record ends: what moves its times, how exact they are, and what a purge takes.

Rules of residence: a mixin of `StoreContract`; one caller at a time, and time is the store's clock.
"""

from __future__ import annotations

import asyncio
import math

from .subject import START, Subject, over_a_store

V, W = b"v" * 32, b"w" * 32


class Times:
    """touch, the two ends of a record, and purge."""

    @over_a_store
    async def test_loading_is_no_access(self, subject: Subject) -> None:
        """A record that is only read idles out all the same."""
        record_id = await subject.insert(idle=100.0)
        before = await subject.read(record_id)
        for _ in range(9):
            subject.clock.advance(11)
            assert await subject.read(record_id) == before
        subject.clock.advance(1)
        assert await subject.load(record_id) is None

    @over_a_store
    async def test_touch_moves_the_end_and_writes_no_data(self, subject: Subject) -> None:
        """L6, L7: a touch moves `accessed_at` alone, and with it the idle end, up to the absolute one."""
        record_id = await subject.insert({"a": b"1"}, idle=100.0, life=250.0)
        before = await subject.read(record_id)
        for _ in range(2):
            subject.clock.advance(99.5)
            assert await subject.touch(record_id, V, subject.clock()) is True
            assert await subject.read(record_id) == before | {"accessed_at": subject.clock()}
        subject.clock.advance(50.5)
        assert await subject.read(record_id)
        subject.clock.advance(0.5)
        assert await subject.load(record_id) is None

    @over_a_store
    async def test_an_access_never_moves_back(self, subject: Subject) -> None:
        """A late touch, update or regeneration with an earlier time succeeds and leaves `accessed_at` alone."""
        record_id, start = await subject.insert(idle=100.0), subject.clock()
        subject.clock.advance(50)
        assert await subject.touch(record_id, V, start + 50) is True
        assert await subject.touch(record_id, V, start + 20) is True
        assert await subject.update(record_id, V, at=start + 30, sets={"a": b"1"}) is True
        assert await subject.regenerate(record_id, V, W, at=start + 40) is True
        found = await subject.read(record_id)
        assert (found["accessed_at"], found["regenerated_at"]) == (start + 50, start + 40)
        subject.clock.advance(99.5)
        assert await subject.load(record_id) is not None

    @over_a_store
    async def test_an_update_may_change_the_idle_timeout(self, subject: Subject) -> None:
        """A longer timeout outlives the first, a shorter one ends earlier, None leaves it."""
        longer, shorter, same = [await subject.insert(idle=100.0) for _ in range(3)]
        assert await subject.update(longer, V, idle_timeout=1_000.0)
        assert await subject.update(shorter, V, idle_timeout=10.0)
        assert await subject.update(same, V)
        assert (await subject.read(longer))["idle_timeout"] == 1_000.0
        for seconds, alive in ((9.5, 3), (0.5, 2), (89.5, 2), (0.5, 1), (899.5, 1), (0.5, 0)):
            subject.clock.advance(seconds)
            found = [await subject.load(one) is not None for one in (longer, same, shorter)]
            assert found == [number < alive for number in range(3)]

    @over_a_store
    async def test_regenerate_sets_the_absolute_end(self, subject: Subject) -> None:
        """The new end may be nearer than the old one, and endless."""
        nearer, endless = await subject.insert(idle=math.inf), await subject.insert(idle=math.inf, life=100.0)
        assert await subject.regenerate(nearer, V, W, 10.0)
        assert await subject.regenerate(endless, V, W, math.inf)
        subject.clock.advance(10)
        assert await subject.load(nearer) is None
        subject.clock.advance(1e9)
        assert (await subject.read(endless))["not_after"] == math.inf

    @over_a_store
    async def test_times_are_exact(self, subject: Subject) -> None:
        """A time comes back as the float that was given, so nothing moves back by a rounding."""
        for moment in (START + 1 / 3, START + 0.000001, 1e-3, 0.0, 4_102_444_800.999999):
            subject.clock.now = moment
            record_id = await subject.insert(idle=1_000 / 3, life=2_000 / 3)
            found = await subject.read(record_id)
            assert (found["created_at"], found["accessed_at"]) == (moment, moment)
            assert (found["idle_timeout"], found["not_after"]) == (1_000 / 3, moment + 2_000 / 3)
            subject.clock.advance(1 / 3)
            later = subject.clock()
            assert await subject.regenerate(record_id, V, W, 3_000 / 7, idle_timeout=1_000 / 7) is True
            found = await subject.read(record_id)
            assert (found["accessed_at"], found["regenerated_at"]) == (later, later)
            assert (found["idle_timeout"], found["not_after"]) == (1_000 / 7, later + 3_000 / 7)

    @over_a_store
    async def test_endless_times(self, subject: Subject) -> None:
        """No idle timeout and no absolute end: there after a thousand years, and still to be changed and ended."""
        record_id = await subject.insert({"a": b"1"}, idle=math.inf, life=math.inf)
        subject.clock.advance(3e10)
        found = await subject.read(record_id)
        assert (found["idle_timeout"], found["not_after"]) == (math.inf, math.inf)
        assert await subject.touch(record_id, V, subject.clock()) is True
        assert await subject.update(record_id, V, idle_timeout=10.0) is True
        subject.clock.advance(10)
        assert await subject.load(record_id) is None

    @over_a_store
    async def test_purge_removes_exactly_what_has_expired(self, subject: Subject) -> None:
        """What is expired is removed and counted, at its very second, once; the living stay, whole."""
        subject.clock.now = 6e9  # later than any other test: what those left behind is not counted here
        await subject.purge()
        idle = [await subject.insert({"a": b"1", "b": b"2"}, idle=100.0 + n) for n in range(5)]
        ended = [await subject.insert({"a": b"1"}, idle=math.inf, life=100.0 + n) for n in range(5)]
        touched = await subject.insert({"a": b"1"}, idle=100.0)
        living = [await subject.insert({"a": b"1"}), await subject.insert({"a": b"1"}, idle=math.inf, life=math.inf)]
        assert await subject.purge() == 0
        subject.clock.advance(50)
        assert await subject.touch(touched, V, subject.clock()) is True
        subject.clock.advance(52)
        assert await self.purged(subject, 6)
        assert await subject.purge() == 0
        for number, record_id in enumerate(idle + ended):
            assert (await subject.load(record_id) is None) == (number % 5 <= 2)
        assert [await subject.attributes(one) for one in (touched, *living)] == [{"a": b"1"}] * 3
        subject.clock.advance(3)
        assert await self.purged(subject, 4)
        await subject.insert({"new": b"1"}, record_id=idle[0])
        assert await subject.attributes(idle[0]) == {"new": b"1"}

    @over_a_store
    async def test_a_purge_has_no_bound(self, subject: Subject) -> None:
        """A purge goes on until nothing is left to remove, in however many steps the store takes."""
        subject.clock.now = 7e9
        await subject.purge()
        for _ in range(6):
            await asyncio.gather(*(subject.insert({"a": b"1"}, idle=100.0) for _ in range(100)))
        living = await subject.insert({"a": b"1"}, idle=101.0)
        subject.clock.advance(100)
        assert await self.purged(subject, 600)
        assert await subject.purge() == 0
        assert await subject.attributes(living) == {"a": b"1"}

    async def purged(self, subject: Subject, number: int) -> bool:
        """Purge, and return whether so many were removed. Override it where a server removes them by itself."""
        removed: int = await subject.purge()
        return removed == number
