"""The lease of a record: who may save under it, and when it ends.

Rules of residence: a mixin of `StoreContract`; one caller at a time, but for the race at the end.
"""

from __future__ import annotations

import asyncio
import secrets

from .subject import Subject, over_a_store

V, W = b"v" * 32, b"w" * 32
ME, YOU = b"m" * 16, b"y" * 16


class Leases:
    """lock, unlock, and saves that carry a lease."""

    @over_a_store
    async def test_a_lease_has_one_owner(self, subject: Subject) -> None:
        """A free lease is taken; another is refused while it runs, its own renews; a release frees it."""
        record_id = await subject.insert()
        assert await subject.lock(record_id, V, ME, 30.0) is True
        assert await subject.lock(record_id, V, YOU, 30.0) is False
        assert await subject.lock(record_id, V, ME, 30.0) is True
        assert await subject.unlock(record_id, YOU) is False
        assert await subject.lock(record_id, V, YOU, 30.0) is False
        assert await subject.unlock(record_id, ME) is True
        assert await subject.unlock(record_id, ME) is False
        assert await subject.lock(record_id, V, YOU, 30.0) is True

    @over_a_store
    async def test_a_lease_ends_by_itself(self, subject: Subject) -> None:
        """After its seconds, by the store's clock, the lease is another's to take, and nobody's to give back."""
        record_id = await subject.insert()
        assert await subject.lock(record_id, V, ME, 30.25) is True
        subject.clock.advance(30)
        assert await subject.lock(record_id, V, YOU, 30.0) is False
        subject.clock.advance(0.5)
        assert await subject.unlock(record_id, ME) is False
        assert await subject.lock(record_id, V, YOU, 30.0) is True
        assert await subject.lock(record_id, V, ME, 30.0) is False

    @over_a_store
    async def test_renewing_counts_from_now(self, subject: Subject) -> None:
        """A renewed lease runs for the new seconds from the renewal, longer or shorter."""
        record_id = await subject.insert()
        assert await subject.lock(record_id, V, ME, 30.0) is True
        subject.clock.advance(20)
        assert await subject.lock(record_id, V, ME, 30.0) is True
        subject.clock.advance(20)
        assert await subject.lock(record_id, V, YOU, 30.0) is False
        assert await subject.lock(record_id, V, ME, 1.0) is True
        subject.clock.advance(1)
        assert await subject.lock(record_id, V, YOU, 30.0) is True

    @over_a_store
    async def test_a_save_under_a_lease_needs_the_lease(self, subject: Subject) -> None:
        """With a lease that is not the owner's any more, update and regenerate are refused and change nothing."""
        record_id = await subject.insert({"a": b"1"})
        assert await subject.update(record_id, V, sets={"a": b"2"}, lease=ME) is False, "never taken"
        await subject.lock(record_id, V, ME, 30.0)
        assert await subject.update(record_id, V, sets={"a": b"3"}, lease=ME) is True
        before = await subject.read(record_id)
        assert await subject.update(record_id, V, sets={"a": b"4"}, lease=YOU) is False
        assert await subject.regenerate(record_id, V, W, sets={"a": b"4"}, lease=YOU) is False
        subject.clock.advance(30)
        assert await subject.update(record_id, V, sets={"a": b"5"}, lease=ME) is False, "has ended"
        await subject.lock(record_id, V, YOU, 30.0)
        assert await subject.update(record_id, V, sets={"a": b"6"}, lease=ME) is False, "is another's"
        assert await subject.regenerate(record_id, V, W, sets={"a": b"6"}, lease=ME) is False
        assert await subject.read(record_id) == before
        await subject.unlock(record_id, YOU)
        assert await subject.update(record_id, V, sets={"a": b"7"}, lease=YOU) is False, "was given back"
        assert await subject.read(record_id) == before

    @over_a_store
    async def test_a_large_save_under_a_lease_needs_it_too(self, subject: Subject) -> None:
        """The same where a store takes another way for large values."""
        record_id, large = await subject.insert({"a": b"1"}), secrets.token_bytes(300_000)
        await subject.lock(record_id, V, ME, 30.0)
        assert await subject.update(record_id, V, "a", sets={"b": large}, lease=YOU) is False
        assert await subject.attributes(record_id) == {"a": b"1"}
        assert await subject.update(record_id, V, "a", sets={"b": large}, lease=ME) is True
        assert await subject.attributes(record_id) == {"b": large}
        assert await subject.regenerate(record_id, V, W, sets={"c": large}, lease=YOU) is False
        assert await subject.attributes(record_id) == {"b": large}
        assert await subject.regenerate(record_id, V, W, sets={"c": large}, lease=ME) is True
        assert await subject.lock(record_id, W, YOU, 30.0) is False

    @over_a_store
    async def test_who_has_no_lease_is_not_held_up(self, subject: Subject) -> None:
        """L11: another's lease stops neither reads, nor saves without one, nor a logout."""
        record_id = await subject.insert({"a": b"1"})
        await subject.lock(record_id, V, ME, 30.0)
        assert await subject.update(record_id, V, sets={"a": b"2"}) is True
        assert await subject.touch(record_id, V, subject.clock()) is True
        assert await subject.regenerate(record_id, V, W) is True
        assert await subject.attributes(record_id) == {"a": b"2"}
        assert await subject.delete(record_id) is True

    @over_a_store
    async def test_a_lease_outlives_saves_and_regeneration(self, subject: Subject) -> None:
        """The lease is the record's: what is saved meanwhile, by whom ever, does not end it."""
        record_id = await subject.insert()
        await subject.lock(record_id, V, ME, 30.0)
        assert await subject.update(record_id, V, sets={"a": b"1"}, lease=ME) is True
        assert await subject.update(record_id, V, sets={"a": b"2"}) is True
        assert await subject.regenerate(record_id, V, W, lease=ME) is True
        assert await subject.lock(record_id, W, YOU, 30.0) is False
        assert await subject.update(record_id, W, sets={"b": b"1"}, lease=ME) is True
        assert await subject.unlock(record_id, ME) is True

    @over_a_store
    async def test_locking_changes_nothing_of_the_record(self, subject: Subject) -> None:
        """A lease is no access and no attribute: neither reads nor the record's end show it."""
        record_id = await subject.insert({"a": b"1"}, idle=100.0)
        before = await subject.read(record_id)
        subject.clock.advance(50)
        await subject.lock(record_id, V, ME, 1_000.0)
        assert await subject.read(record_id) == before
        await subject.unlock(record_id, ME)
        await subject.lock(record_id, V, YOU, 1_000.0)
        assert await subject.read(record_id) == before
        subject.clock.advance(50)
        assert await subject.load(record_id) is None
        assert await subject.unlock(record_id, YOU) is False

    @over_a_store
    async def test_a_new_record_has_no_lease_of_the_old(self, subject: Subject) -> None:
        """Deleted or run out, a record takes its lease with it."""
        for gone in ("deleted", "expired"):
            record_id = await subject.insert(idle=100.0)
            await subject.lock(record_id, V, ME, 1_000.0)
            if gone == "deleted":
                await subject.delete(record_id)
            subject.clock.advance(100)
            await subject.insert(record_id=record_id)
            assert await subject.update(record_id, V, lease=ME) is False
            assert await subject.lock(record_id, V, YOU, 30.0) is True

    @over_a_store
    async def test_any_owner_is_told_from_any_other(self, subject: Subject) -> None:
        """Owners are random bytes: those that look like text, padding or numbers are as good."""
        for owner in (bytes(16), b" " * 16, b"0" * 16, b"\xff" * 16, b"'\"\\\r\n%{}:;--/*$\0", b"A" * 16):
            record_id = await subject.insert()
            assert await subject.lock(record_id, V, owner, 30.0) is True
            for other in (owner[:-1] + b"\x01", owner.swapcase() if owner == b"A" * 16 else b"x" * 16):
                assert await subject.lock(record_id, V, other, 30.0) is False
                assert await subject.unlock(record_id, other) is False
            assert await subject.update(record_id, V, lease=owner) is True
            assert await subject.unlock(record_id, owner) is True

    @over_a_store
    async def test_one_of_many_gets_the_lease(self, subject: Subject) -> None:
        """Of 20 that want the lease at once exactly one has it, again when it has run out."""
        record_id, owners = await subject.insert(), [secrets.token_bytes(16) for _ in range(20)]
        for _ in range(3):
            got = await asyncio.gather(*(subject.lock(record_id, V, owner, 30.0) for owner in owners))
            assert sorted(got) == [False] * 19 + [True]
            winner = owners[got.index(True)]
            saves = await asyncio.gather(
                *(subject.update(record_id, V, sets={"by": owner}, lease=owner) for owner in owners)
            )
            assert saves == got
            assert await subject.attributes(record_id) == {"by": winner}
            subject.clock.advance(30)
