"""Every verb of a store that keeps bytes, called directly: what it returns and what it leaves.

Rules of residence: one class of tests to inherit, with a ``make`` that gives a store of a clean place. No server here.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from clocks import FakeClock

from fastersession.stores.base import Change, Record

ID, OTHER_ID = b"\x00\xff'\"\\%;:$1?{}\n\r\x1a", bytes(16)
V1, V2, V3 = (bytes(range(start, start + 32)) for start in (0, 32, 200))
OWNER, RIVAL = b"'" * 16, b"\\" * 16
NAMES = (
    "", " ", "  ", "a", "A", "a ", "\0", "a\0b", "é", "e\u0301", "\ud800", "💬", "%s", "%(name)s", "$1", ":name", "?",
    "'; drop table session; --", '"', "`", "\\", "x" * 200, "x" * 201, "x" * 254, "x" * 255, "x" * 256,
    "y" * 5000, "y" * 5001, "\n",
)  # fmt: skip
VALUES = (b"", b"\0", b"'\\\"%;", bytes(range(256)), secrets.token_bytes(1_000_000))

Scenario = Callable[[Any, FakeClock], Awaitable[None]]


async def make(store: Any, record_id: bytes = ID, verifier: bytes = V1, **attributes: bytes) -> Record:
    """Create a record that idles out after 100 s and ends after 1,000."""
    record: Record | None = await store.create(
        record_id, verifier, store.clock(), 100.0, store.clock() + 1000, attributes
    )
    assert record is not None
    return record


def fields(record: Record | None) -> dict[str, Any]:
    assert record is not None
    return {name: getattr(record, name) for name in Record.__slots__} | {"attributes": dict(record.attributes)}


async def content(store: Any, record_id: bytes = ID) -> dict[str, bytes]:
    record = await store.load(record_id)
    assert record is not None
    return dict(record.attributes)


class CancelAt:
    """Awaits a coroutine in the running task, which it cancels where that suspends for the n-th time."""

    def __init__(self, coroutine: Awaitable[Any], suspension: int) -> None:
        self.coroutine, self.suspension = coroutine, suspension

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self.coroutine.__await__()
        try:
            waited, at = next(steps), 0
            while True:
                if at == self.suspension:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                at += 1
                try:
                    yield waited
                except BaseException as error:
                    waited = steps.throw(error)
                else:
                    waited = next(steps)
        except StopIteration as stop:
            return stop.value


async def cancelled(verb: Awaitable[Any], suspension: int) -> bool:
    """Cancel a call at its n-th suspension; tell if it came to that."""

    async def call() -> None:
        await CancelAt(verb, suspension)

    (outcome,) = await asyncio.gather(asyncio.create_task(call()), return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
    return outcome is not None


class Verbs:
    """What stores/base.py says, verb by verb."""

    make: Callable[[FakeClock], Any]

    def bare(self, store: Any) -> None:
        """Let a cancellation reach the store's innermost await, if it is kept from it."""

    def run(self, scenario: Scenario) -> None:
        async def main() -> None:
            clock = FakeClock()
            store = self.make(clock)
            await store.open()
            try:
                await scenario(store, clock)
            finally:
                await store.close()

        asyncio.run(main())

    def test_what_is_created_is_loaded_with_every_field(self) -> None:
        """create returns what load returns; times, user and infinity come back as they were."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            given = {"a": b"1", "b": b""}
            created = await store.create(ID, V1, clock() + 0.123456, 1e9 / 3, math.inf, given, "jo\0é'\ud800")
            loaded = await store.load(ID)
            assert fields(created) == fields(loaded)
            assert (loaded.verifier, loaded.user, loaded.not_after) == (V1, "jo\0é'\ud800", math.inf)
            assert (loaded.accessed_at, loaded.idle_timeout) == (clock() + 0.123456, 1e9 / 3)
            assert await store.create(OTHER_ID, V1, clock(), math.inf, clock() + 5, {}) is not None
            assert (await store.load(OTHER_ID)).idle_timeout == math.inf
            assert fields(loaded)["attributes"] == given

        self.run(scenario)

    def test_k2_create_is_insert_only(self) -> None:
        """K2: a taken id leaves the victim as it was, with the same verifier too; an expired one is free."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store, a=b"1")
            before = fields(await store.load(ID))
            for verifier in (V2, V1):
                assert await store.create(ID, verifier, clock(), 5.0, clock() + 5, {"b": b"2"}) is None
            assert fields(await store.load(ID)) == before
            clock.advance(100)
            await make(store, ID, V2, b=b"2")
            assert fields(await store.load(ID)) | {"verifier": V2, "attributes": {"b": b"2"}} == fields(
                await store.load(ID)
            )

        self.run(scenario)

    def test_update_merges_and_touches_nothing_else(self) -> None:
        """Sets and deletes are deltas; a delete of what is not there is nothing; a name in both is deleted."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store, a=b"1", b=b"2", c=b"3")
            clock.advance(5)
            change = Change(clock(), {"b": b"two", "d": b"4", "e": b"5"}, ("a", "nothing", "e"), 50.0)
            assert await store.update(ID, V1, change)
            assert await content(store) == {"b": b"two", "c": b"3", "d": b"4"}
            assert await store.update(ID, V1, Change(clock() - 3))
            record = await store.load(ID)
            assert (record.accessed_at, record.idle_timeout, record.version) == (clock(), 50.0, 3)
            assert record.regenerated_at is None

        self.run(scenario)

    def test_l5_nothing_but_create_makes_a_record_appear(self) -> None:
        """L5: every other verb says False to an absent record, or to another verifier, and leaves no trace."""

        async def refused(store: Any, verifier: bytes, now: float) -> None:
            assert not await store.update(ID, verifier, Change(now, {"x": b"x"}, ("a",), 1.0))
            assert not await store.update(ID, verifier, Change(now))
            assert not await store.touch(ID, verifier, now)
            assert not await store.regenerate(ID, verifier, V3, math.inf, Change(now, {"x": b"x"}, ("a",)))
            assert not await store.lock(ID, verifier, OWNER, 5.0)

        async def scenario(store: Any, clock: FakeClock) -> None:
            await refused(store, V1, clock())
            assert await store.load(ID) is None
            await make(store, a=b"1")
            before = fields(await store.load(ID))
            clock.advance(1)
            await refused(store, V2, clock())
            assert fields(await store.load(ID)) == before
            assert await store.delete(ID)
            assert not await store.delete(ID)
            await refused(store, V1, clock())
            assert not await store.unlock(ID, OWNER)
            assert await store.load(ID) is None
            await make(store)
            assert await content(store) == {}

        self.run(scenario)

    def test_l6_a_record_ends_at_the_sooner_deadline(self) -> None:
        """L6: idle or absolute, to the second; what has expired is refused before it is purged."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store, a=b"1")
            start = clock()
            for second in range(99, 1000, 99):
                clock.now = start + second
                assert await store.touch(ID, V1, clock())
            clock.now = start + 999.999
            assert await store.load(ID) is not None
            clock.now = start + 1000
            assert await store.load(ID) is None
            assert not await store.update(ID, V1, Change(clock(), {"b": b"2"}))
            assert not await store.touch(ID, V1, clock())
            assert not await store.delete(ID)
            await make(store, OTHER_ID)
            clock.advance(100)
            assert await store.load(OTHER_ID) is None

        self.run(scenario)

    def test_touch_never_moves_back(self) -> None:
        """A late touch of an old request changes nothing, and still succeeds; no data and no version is written."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store, a=b"1")
            assert await store.touch(ID, V1, clock() + 10)
            assert await store.touch(ID, V1, clock() + 10)
            assert await store.touch(ID, V1, clock() - 10)
            record = await store.load(ID)
            assert (record.accessed_at, record.version) == (clock() + 10, 1)

        self.run(scenario)

    def test_l3_regenerate_shuts_out_the_old_verifier(self) -> None:
        """L3: one step gives the new verifier, the new end and the changes; the old one is refused from then on."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store, a=b"1", b=b"2")
            clock.advance(7)
            change = Change(clock(), {"a": b"one"}, ("b",), 60.0)
            assert await store.regenerate(ID, V1, V2, clock() + 500, change)
            assert not await store.regenerate(ID, V1, V3, clock() + 500, change)
            assert not await store.update(ID, V1, Change(clock(), {"a": b"late"}))
            record = await store.load(ID)
            assert (record.verifier, record.regenerated_at, record.accessed_at) == (V2, clock(), clock())
            assert (record.not_after, record.idle_timeout, record.version) == (clock() + 500, 60.0, 2)
            assert dict(record.attributes) == {"a": b"one"}
            clock.advance(60)
            assert await store.load(ID) is None

        self.run(scenario)

    def test_a_lease_has_one_owner_until_it_ends(self) -> None:
        """Taken, renewed, refused to others, ended by time or by its owner; only saves that carry it depend on it."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store)
            assert await store.lock(ID, V1, OWNER, 5.0)
            assert not await store.lock(ID, V1, RIVAL, 5.0)
            clock.advance(4)
            assert await store.lock(ID, V1, OWNER, 5.0)
            clock.advance(4)
            assert await store.update(ID, V1, Change(clock(), {"a": b"1"}, lease=OWNER))
            assert not await store.update(ID, V1, Change(clock(), {"a": b"2"}, lease=RIVAL))
            assert await store.update(ID, V1, Change(clock(), {"b": b"free"}))
            assert not await store.unlock(ID, RIVAL)
            clock.advance(1)
            assert not await store.unlock(ID, OWNER)
            assert not await store.update(ID, V1, Change(clock(), {"a": b"3"}, lease=OWNER))
            assert await store.lock(ID, V1, RIVAL, 5.0)
            assert not await store.regenerate(ID, V1, V2, clock() + 9, Change(clock(), lease=OWNER))
            assert await store.regenerate(ID, V1, V2, clock() + 9, Change(clock(), lease=RIVAL))
            assert await store.update(ID, V2, Change(clock(), {"c": b"3"}, lease=RIVAL))
            assert await store.unlock(ID, RIVAL)
            assert not await store.unlock(ID, RIVAL)
            assert await store.lock(ID, V2, OWNER, 5.0)
            assert await content(store) == {"a": b"1", "b": b"free", "c": b"3"}

        self.run(scenario)

    def test_s7_hostile_names_and_large_values_come_back_as_they_were(self) -> None:
        """S7: any name is a name of its own; any bytes are a value; one megabyte is one too."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            given = {name: VALUES[n % 4] + name.encode("utf-8", "replace") for n, name in enumerate(NAMES)}
            assert await store.create(ID, V1, clock(), 100.0, clock() + 1000, given) is not None
            assert await content(store) == given
            changed = dict.fromkeys(NAMES[::2], VALUES[4])
            assert await store.update(ID, V1, Change(clock(), changed, NAMES[1::2]))
            assert await content(store) == changed
            assert await store.update(ID, V1, Change(clock(), dict(zip(NAMES, VALUES * 9, strict=False)), ("none",)))
            assert await store.update(ID, V1, Change(clock(), {}, NAMES))
            assert await content(store) == {}

        self.run(scenario)

    def test_purge_removes_what_has_expired_and_nothing_else(self) -> None:
        """More than one batch; what is alive stays; how many is told."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await asyncio.gather(*(make(store, number.to_bytes(16), a=b"1") for number in range(1, 1201)))
            clock.advance(99)
            assert await store.purge() == 0
            await make(store, OTHER_ID, b=b"2")
            clock.advance(1)
            assert await store.purge() == 1200
            assert await store.purge() == 0
            assert await content(store, OTHER_ID) == {"b": b"2"}

        self.run(scenario)

    def test_l8_concurrent_writers_of_one_record_all_survive(self) -> None:
        """L8: fifty savers of different attributes, and deletes among them, lose nothing; the version counts them."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store, **{f"old{n}": b"0" for n in range(50)})
            saves = (
                store.update(ID, V1, Change(clock(), {f"new{n}": b"%d" % n, "z": b"z", "b": b"b"}, (f"old{n}",)))
                for n in range(50)
            )
            assert all(await asyncio.gather(*saves))
            assert await content(store) == {f"new{n}": b"%d" % n for n in range(50)} | {"z": b"z", "b": b"b"}
            assert (await store.load(ID)).version == 51

        self.run(scenario)

    def test_l2_of_racing_regenerations_one_wins(self) -> None:
        """L2: by compare-and-set; of racing creates and locks, too."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            wins = await asyncio.gather(
                *(
                    store.create(ID, bytes([n]) * 32, clock(), 100.0, clock() + 1000, {"n": bytes([n])})
                    for n in range(20)
                )
            )
            (winner,) = [record for record in wins if record is not None]
            assert fields(await store.load(ID)) == fields(winner)
            wins = await asyncio.gather(
                *(store.lock(ID, winner.verifier, bytes([n]) * 16, 9.0) for n in range(20)),
            )
            assert wins.count(True) == 1
            change = Change(clock())
            wins = await asyncio.gather(
                *(store.regenerate(ID, winner.verifier, bytes([n]) * 32, clock() + 9, change) for n in range(50, 70))
            )
            assert wins.count(True) == 1
            assert (await store.load(ID)).verifier == bytes([50 + wins.index(True)]) * 32

        self.run(scenario)

    def test_l5_a_logout_in_a_storm_of_saves_is_final(self) -> None:
        """L5: whatever was on its way, nothing of the record is left, and a new one of this id is empty."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            for _ in range(10):
                await make(store)
                saves = [store.update(ID, V1, Change(clock(), {f"a{n}": b"1"}, (f"b{n}",))) for n in range(20)]
                outcomes = await asyncio.gather(*saves[:10], store.delete(ID), *saves[10:])
                assert outcomes[10] is True
                assert await store.load(ID) is None
                await make(store)
                assert await content(store) == {}
                assert await store.delete(ID)

        self.run(scenario)

    def test_s9_a_cancelled_caller_spoils_nothing(self) -> None:
        """S9: cancelled at each await, a save is there as a whole or not at all; whoever comes next gets its own."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await make(store)
            await make(store, OTHER_ID, V2, other=b"1")
            self.bare(store)
            ran_through = False
            for turn in range(200):
                value = b"%d" % turn
                verb = store.update(ID, V1, Change(clock(), {"a": value, "b": value}, ("none",)))
                ran_through = not await cancelled(verb, turn)
                assert fields(await store.load(OTHER_ID))["attributes"] == {"other": b"1"}
                now = await content(store)
                assert now.get("a") == now.get("b")
                assert await store.update(ID, V1, Change(clock(), {"own": value}))
                load = asyncio.ensure_future(store.load(ID))
                await cancelled(store.load(OTHER_ID), turn)
                assert (await load).attributes["own"] == value
                if ran_through:
                    break
            assert ran_through
            assert now == {"a": value, "b": value} | ({"own": b"%d" % (turn - 1)} if turn else {})

        self.run(scenario)

    def test_open_and_close_may_be_repeated(self) -> None:
        """What was stored is there after closing and opening again, and a store that is closed opens by itself."""

        async def scenario(store: Any, clock: FakeClock) -> None:
            await store.open()
            await make(store, a=b"1")
            await store.close()
            await store.close()
            assert await content(store) == {"a": b"1"}
            await store.close()
            await store.open()
            assert await content(store) == {"a": b"1"}

        self.run(scenario)
