"""SQLStore's verbs that leave together: how many statements they are, and that each has its own outcome."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from clocks import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from over_sql import Place
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from store_subject import OWNER, V1, V2, V3, content, fields, make
from test_sql_races import waits

from fastersession import MemoryStore
from fastersession.errors import StoreError
from fastersession.stores.base import Change, Extra, Record
from fastersession.stores.sql import SQLStore, exchange, mysql, statements, traffic
from fastersession.stores.sql.batches import LARGE

IDS = [bytes([number]) * 16 for number in range(60)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the texts that are sent to a server, one for each exchange."""
    texts: list[str] = []
    for module, name in ((statements, "execute"), (mysql, "execute"), (mysql, "execute_several")):
        function = getattr(exchange, name)

        def noted(connection: Any, text: str, *arguments: Any, function: Any = function) -> Any:
            texts.append(text)
            return function(connection, text, *arguments)

        monkeypatch.setattr(module, name, noted)
    return texts


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Give the attempts that failed, also those that were repeated unnoticed."""
    seen: list[Exception] = []
    failed = traffic.Trial.failed

    def noted(trial: traffic.Trial, error: Exception) -> Any:
        seen.append(error)
        return failed(trial, error)

    monkeypatch.setattr(traffic.Trial, "failed", noted)
    return seen


def saving(store: SQLStore, **values: bytes) -> Change:
    return Change(store.clock(), values)


async def fill(store: SQLStore, ids: list[bytes] = IDS) -> None:
    await asyncio.gather(*(make(store, record_id, n=record_id[:1]) for record_id in ids))


def test_what_is_asked_in_one_moment_is_one_statement(place: Place, sent: list[str], failures: list[Exception]) -> None:
    """Of each kind; MariaDB decides first who may save. Nothing is asked a second time."""
    saves = 2 if place.server.url().startswith("mysql") else 1

    async def scenario(store: SQLStore) -> None:
        del sent[:]
        await fill(store)
        assert len(sent) == 1
        loaded = await asyncio.gather(*map(store.load, IDS + IDS[:20]))
        assert [record and record.attributes for record in loaded] == [{"n": i[:1]} for i in IDS + IDS[:20]]
        assert len(sent) == 2
        touches = [store.touch(record_id, V1, store.clock()) for record_id in IDS[:20]]
        done = await asyncio.gather(
            *touches, *(store.update(record_id, V1, saving(store, a=b"1", b=b"2")) for record_id in IDS[20:])
        )
        assert all(done)
        assert len(sent) == 2 + saves
        versions = [record and record.version for record in await asyncio.gather(*map(store.load, IDS))]
        assert versions == [1] * 20 + [2] * 40
        assert await content(store, IDS[0]) == {"n": IDS[0][:1]}
        assert await content(store, IDS[59]) == {"n": IDS[59][:1], "a": b"1", "b": b"2"}

    place.run(scenario)
    assert failures == []


def test_one_call_is_one_statement_and_waits_for_nobody(place: Place, sent: list[str]) -> None:
    """In the next turn of the event loop it has a task that carries it, and nothing that could be waited for."""
    saves = 2 if place.server.url().startswith("mysql") else 1

    async def scenario(store: SQLStore) -> None:
        for call, statements_ in (
            (lambda: make(store, IDS[0], a=b"1"), 1),
            (lambda: store.load(IDS[0]), 1),
            (lambda: store.update(IDS[0], V1, saving(store, a=b"2")), saves),
            (lambda: store.touch(IDS[0], V1, store.clock()), saves),
        ):
            del sent[:]
            assert await call()
            assert len(sent) == statements_

    place.run(scenario)


def test_s12_each_of_a_batch_has_its_own_outcome(place: Place, sent: list[str]) -> None:
    """Refused, gone, expired, taken, out of its lease, in the place of what has expired: as if asked alone."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        await fill(store, IDS[:10])
        assert await store.delete(IDS[1])
        assert await store.regenerate(IDS[2], V1, V2, math.inf, saving(store))
        assert await store.regenerate(IDS[3], V1, V2, math.inf, saving(store))
        assert await store.regenerate(IDS[3], V2, V3, math.inf, saving(store))
        assert await store.lock(IDS[4], V1, OWNER, 60.0)
        assert await store.create(IDS[10], Record(V1, clock(), 1.0, math.inf, {"old": b"1"}))
        assert await store.create(IDS[11], Record(V1, clock(), 1.0, math.inf, {"old": b"1"}))
        clock.advance(2)
        del sent[:]
        change, leased = saving(store, n=b"new"), saving(store, n=b"new")._replace(lease=OWNER)
        saves = [
            store.update(IDS[0], V1, change), store.update(IDS[1], V1, change), store.update(IDS[2], V1, change),
            store.update(IDS[3], V1, change), store.update(IDS[4], V1, leased), store.update(IDS[5], V1, leased),
            store.update(IDS[6], V2, change), store.touch(IDS[7], V2, clock()), store.touch(IDS[8], V1, clock()),
            store.update(IDS[10], V1, change), store.update(IDS[12], V1, change),
        ]  # fmt: skip
        creates = [
            store.create(record_id, Record(V2, clock(), 100.0, math.inf, {"new": b"1"}, TAGGED))
            for record_id in (IDS[0], IDS[11], IDS[13], IDS[14])
        ]
        outcomes = await asyncio.gather(*saves, *creates)
        assert outcomes[:11] == [True, False, True, False, True, False, False, False, True, False, False]
        assert outcomes[11:] == [False, True, True, True]
        found = await asyncio.gather(*map(store.load, IDS[:15]))
        kept = [record and record.attributes.get("n") for record in found]
        assert kept == [
            b"new", None, b"new", IDS[3][:1], b"new", *(i[:1] for i in IDS[5:10]), None, None, None, None, None,
        ]  # fmt: skip
        assert [record and dict(record.attributes) for record in found[10:]] == [
            None, {"new": b"1"}, None, {"new": b"1"}, {"new": b"1"},
        ]  # fmt: skip
        assert found[13] is not None
        assert (found[13].extra, found[13].verifier, found[13].idle_timeout) == (TAGGED, V2, 100.0)

    place.run(scenario, clock=clock)


def test_s12_the_culprit_of_a_batch_fails_alone(place: Place) -> None:
    """A time that no database takes; the others are saved, created and answered."""

    async def scenario(store: SQLStore) -> None:
        await fill(store)
        idle = [-1e300 if number in (7, 15) else 50.0 for number in range(20)]
        saves = [
            store.update(i, V1, Change(store.clock(), {"a": b"1"}, (), one)) for i, one in zip(IDS, idle, strict=False)
        ]
        creates = [
            store.create(bytes([100 + number]) * 16, Record(V1, store.clock(), one, math.inf, {}))
            for number, one in enumerate(idle)
        ]
        outcomes = await asyncio.gather(*saves, *creates, return_exceptions=True)
        failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StoreError)]
        assert failed == [7, 15, 27, 35]
        assert all(outcome for number, outcome in enumerate(outcomes) if number not in failed)
        assert await content(store, IDS[7]) == {"n": IDS[7][:1]}
        assert await content(store, IDS[8]) == {"n": IDS[8][:1], "a": b"1"}

    place.run(scenario)


def test_large_values_go_alone(place: Place, sent: list[str]) -> None:
    """Saved or loaded, they are whole, and no small one waits for them in its statement."""
    large = bytes(range(256)) * (LARGE // 128)

    async def scenario(store: SQLStore) -> None:
        await fill(store)
        await asyncio.gather(*(store.update(i, V1, saving(store, large=large, m=b"2")) for i in IDS[::20]))
        del sent[:]
        found = await asyncio.gather(*map(store.load, IDS))
        assert len(sent) == 4
        for record_id, record in zip(IDS, found, strict=True):
            expected = {"n": record_id[:1], **({"large": large, "m": b"2"} if record_id in IDS[::20] else {})}
            assert record is not None
            assert dict(record.attributes) == expected

    place.run(scenario)


def test_loads_of_one_record_share_a_row_and_nothing_else(place: Place) -> None:
    """The engine writes into the record that it got."""

    async def scenario(store: SQLStore) -> None:
        await make(store, IDS[0], a=b"1")
        one, two = await asyncio.gather(store.load(IDS[0]), store.load(IDS[0]))
        assert one is not None
        assert two is not None
        assert fields(one) == fields(two)
        one.verifier, one.requests = V3, 1
        assert one.attributes is not two.attributes
        assert (two.verifier, two.requests) == (V1, 0)

    place.run(scenario)


def test_a_load_sees_what_was_acknowledged_before_it_was_asked(place: Place) -> None:
    """Among loads and saves that are always under way: it never gets a row that was read before."""

    async def scenario(store: SQLStore) -> None:
        await fill(store)

        async def user(record_id: bytes) -> None:
            for turn in range(15):
                value = b"%d" % turn
                assert await store.update(record_id, V1, saving(store, turn=value))
                assert (await content(store, record_id))["turn"] == value

        await asyncio.gather(*map(user, IDS))

    place.run(scenario)


def test_s9_who_gives_up_ends_his_own_waiting_only(place: Place) -> None:
    """The others of his batch get what they asked for; a limit of time is such a case."""

    async def scenario(store: SQLStore) -> None:
        await fill(store)
        for steps in range(0, 40, 4):
            value = b"%d" % steps
            saves = [asyncio.ensure_future(store.update(i, V1, saving(store, a=value))) for i in IDS]
            loads = [asyncio.ensure_future(store.load(i)) for i in IDS]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in (*saves[::3], *loads[::3]):
                call.cancel()
            outcomes = await asyncio.gather(*saves, *loads, return_exceptions=True)
            assert all(outcome for number, outcome in enumerate(outcomes) if number % 3)
            kept = await asyncio.gather(*(content(store, i) for i in IDS))
            assert all(one["a"] == value for number, one in enumerate(kept) if number % 3)

    place.run(scenario)


def test_a_limit_of_time_ends_one_waiting_and_not_the_batch(place: Place) -> None:
    """Behind the lock of a row: who waits on is answered, and what the other had asked is done with the rest."""

    async def scenario(store: SQLStore) -> None:
        await fill(store, IDS[:5])
        engine = create_async_engine(place.url)

        async def bounded() -> bool:
            async with asyncio.timeout(0.1):
                return await store.update(IDS[3], V1, saving(store, a=b"1"))

        try:
            async with engine.begin() as other:
                await other.execute(text(f"update {place.table} set version = 7 where id = :id"), {"id": IDS[2]})
                limited = asyncio.ensure_future(bounded())
                saves = [asyncio.ensure_future(store.update(i, V1, saving(store, a=b"1"))) for i in IDS[:3]]
                with pytest.raises(TimeoutError):
                    await limited
                assert not any(save.done() for save in saves)
            assert await asyncio.gather(*saves) == [True] * 3
        finally:
            await engine.dispose()
        assert all([(await content(store, i))["a"] == b"1" for i in IDS[:4]])

    place.run(scenario)


def test_batches_of_many_stores_do_not_deadlock(place: Place, failures: list[Exception]) -> None:
    """Six stores, each with batches of 40 out of 60 records, in any order: no deadlock is even repeated."""
    # A server that knows the table to be large looks rows up in the order in which they are asked for.
    table = " table" if place.server.url().startswith("mysql") else ""

    async def main() -> None:
        stores = [place.store() for _ in range(6)]
        try:
            await stores[0].open()
            await fill(stores[0])
            await fill(stores[0], [b"more" + number.to_bytes(12) for number in range(2000)])
            await asyncio.to_thread(place.server.execute, f"analyze{table} {place.table}")

            async def worker(number: int, store: SQLStore) -> None:
                chance = random.Random(number)
                for turn in range(8):
                    change = saving(store, **{f"{number} {turn}": b"x", "same": b"%d" % number})
                    chosen = chance.sample(IDS, 40)
                    assert all(await asyncio.gather(*(store.update(i, V1, change) for i in chosen)))

            await asyncio.gather(*(worker(number, store) for number, store in enumerate(stores)))
            saved = [len(one) - 2 for one in await asyncio.gather(*(content(stores[0], i) for i in IDS))]
            assert sum(saved) == 6 * 8 * 40
        finally:
            await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(main())
    assert failures == []


@pytest.mark.parametrize("change", ["deleted", "regenerated", "attribute"])
def test_s12_a_batch_sees_what_others_did_while_it_waited_for_a_row(place: Place, change: str) -> None:
    """L5, L8: behind the lock of one of its rows it judges that row as it is then; the other rows are saved."""

    async def scenario(store: SQLStore) -> None:
        await fill(store, IDS[:5])
        engine = create_async_engine(place.url)
        theirs = {
            "deleted": [f"delete from {place.table} where id = :id"],
            "regenerated": [f"update {place.table} set verifier = :id where id = :id"],
            "attribute": [
                f"update {place.table} set version = version + 1, accessed = accessed + 7 where id = :id",
                f"insert into {place.table}_attribute (session_id, name, value) values (:id, :name, :id)",
            ],
        }[change]
        try:
            async with engine.begin() as other:
                for statement in theirs:
                    await other.execute(text(statement), {"id": IDS[2], "name": b"new"})
                saves = [asyncio.ensure_future(store.update(i, V1, saving(store, new=b"1"))) for i in IDS[:5]]
                await waits(place)
            outcomes = await asyncio.gather(*saves)
        finally:
            await engine.dispose()
        assert outcomes == [True, True, change == "attribute", True, True]
        assert await content(store, IDS[1]) == {"n": IDS[1][:1], "new": b"1"}
        record = await store.load(IDS[2])
        if change == "attribute":
            assert record is not None
            assert dict(record.attributes) == {"n": IDS[2][:1], "new": b"1"}
            assert record.version == 3
        else:
            assert record is None or dict(record.attributes) == {"n": IDS[2][:1]}

    place.run(scenario)
    orphans = f"_attribute where session_id not in (select id from {place.table})"
    assert place.count(orphans) == 0


@pytest.mark.parametrize("options", [{"poolclass": NullPool}, {"pool_size": 1, "max_overflow": 0}, {"cache": 0}])
def test_given_engines_of_any_kind_work(place: Place, options: dict[str, Any]) -> None:
    """With a connection for each exchange, with a single one for all, and without prepared statements."""
    if "cache" in options:
        none = {"asyncpg": {"statement_cache_size": 0, "prepared_statement_cache_size": 0}}
        driver = place.url.partition("+")[2].partition(":")[0]
        options = {"connect_args": {**none, "psycopg": {"prepare_threshold": None}}.get(driver, {})}

    async def main() -> None:
        engine = create_async_engine(place.url, **options)
        store = SQLStore(engine, table=place.table)
        await store.open()
        await fill(store)
        for turn in range(3):
            value = b"%d" % turn
            saves = [store.update(i, V1, saving(store, turn=value)) for i in IDS[:30]]
            alone = [store.update(i, V1, Change(store.clock(), {"turn": value}, ("n",))) for i in IDS[30:35]]
            assert all(await asyncio.gather(*saves, *map(store.load, IDS), *alone))
            assert all([(await content(store, i))["turn"] == value for i in IDS[:35:5]])
        await store.close()
        await engine.dispose()

    asyncio.run(main())


TAGGED = Extra(b"t" * 16)
VERBS = st.sampled_from(["create", "update", "update", "touch", "delete", "regenerate", "lock", "unlock", "removing"])
CALLS = st.tuples(st.integers(0, 5), VERBS, st.sampled_from([V1, V2, V3]), st.integers(0, 3), st.booleans())
STEPS = st.lists(st.tuples(st.lists(CALLS, max_size=12), st.integers(0, 60)), max_size=8)


def call(store: Any, now: float, record: int, verb: str, verifier: bytes, value: int, leased: bool) -> Any:
    """Return the coroutine of one call."""
    record_id, lease = IDS[record], OWNER if leased else None
    change = Change(now - value, {f"a{value}": b"%d" % value, "same": verifier}, (), 50.0 + value, lease)
    new = {V1: V2, V2: V3, V3: V1}[verifier]
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: store.create(record_id, Record(verifier, now, 90.0, now + 200, {"a": verifier}, TAGGED)),
        "update": lambda: store.update(record_id, verifier, change),
        "removing": lambda: store.update(record_id, verifier, change._replace(deletes=("a1", "same"))),
        "touch": lambda: store.touch(record_id, verifier, now + value),
        "delete": lambda: store.delete(record_id),
        "regenerate": lambda: store.regenerate(record_id, verifier, new, now + 150 + value, change),
        "lock": lambda: store.lock(record_id, verifier, OWNER if leased else V1[:16], 30.0),
        "unlock": lambda: store.unlock(record_id, OWNER if leased else V1[:16]),
    }
    return calls[verb]()


def seen(record: Record | None) -> Any:
    return None if record is None else fields(record)


@pytest.fixture
def two(place: Place) -> Iterator[tuple[Place, asyncio.Runner, FakeClock, list[SQLStore]]]:
    """Give two stores over the same tables, in one event loop."""
    clock = FakeClock()
    with asyncio.Runner() as runner:
        stores = [place.store(clock=clock) for _ in range(2)]
        runner.run(stores[0].open())
        yield place, runner, clock, stores
        for store in stores:
            runner.run(store.close())


def test_s12_batches_have_the_outcomes_of_one_call_after_the_other(two: Any) -> None:
    """Any calls at once, over two stores, against the same calls one by one on another store."""
    place, runner, clock, stores = two

    @settings(max_examples=25)
    @given(STEPS)
    def outcomes_and_content_are_the_same(steps: Any) -> None:
        # Invariant: calls at once have the outcomes that they have one by one, each record's in their order, and leave
        # the same content. Only one store writes a record in a step: between two there is no order.
        place.server.execute(f"delete from {place.table}")

        async def example() -> None:
            reference = MemoryStore(clock=clock)
            for number, (calls, seconds) in enumerate(steps):
                now = clock()
                expected = [await call(reference, now, *one) for one in calls]
                got = await asyncio.gather(*(call(stores[(one[0] + number) % 2], now, *one) for one in calls))
                assert got == expected
                for store in stores:
                    found = await asyncio.gather(*map(store.load, IDS[:6]))
                    assert [seen(one) for one in found] == [seen(await reference.load(i)) for i in IDS[:6]]
                clock.advance(seconds)

        runner.run(example())

    outcomes_and_content_are_the_same()


def test_loads_of_much_are_bounded_in_bytes(place: Place, sent: list[str]) -> None:
    """By what a session had in the batch before: many attributes below the bound make a large session, too."""
    values = {str(number): b"x" * 50_000 for number in range(4)}

    async def scenario(store: SQLStore) -> None:
        await asyncio.gather(*(make(store, record_id, **values) for record_id in IDS[:40]))
        assert all(await asyncio.gather(*map(store.load, IDS[:40])))
        del sent[:]
        found = await asyncio.gather(*map(store.load, IDS[:40]))
        assert [record and dict(record.attributes) for record in found] == [values] * 40
        assert len(sent) == 3

    place.run(scenario)
