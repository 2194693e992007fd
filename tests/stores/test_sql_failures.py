"""SQLStore when connections drop, servers hang or are killed, work collides, and callers give up."""

from __future__ import annotations

import asyncio
import gc
import math
import secrets
import time
from itertools import count
from typing import Any

import pytest
from clocks import FakeClock
from over_sql import KINDS, Place
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from store_subject import ID, OTHER_ID, V1, V2, V3, Subject, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Record
from fastersession.stores.sql import SQLStore
from fastersession.stores.sql.batches import AGAIN, Again
from fastersession.stores.sql.records import Write
from fastersession.testing.contract.cancelled import cancel_each_await


def test_s10_a_dropped_connection_is_replaced_unnoticed(place: Place) -> None:
    """The server ends all connections; the next calls, many at once, work."""

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        for _ in range(3):
            await asyncio.gather(*(store.load(ID) for _ in range(20)))
            await asyncio.to_thread(place.server.drop_clients)
            assert await store.update(ID, V1, Change(store.clock(), {"b": b"2"}, ("a",)))
            await asyncio.to_thread(place.server.drop_clients)
            records = await asyncio.gather(*(store.load(ID) for _ in range(20)))
            assert [dict(record.attributes) for record in records if record] == [{"b": b"2"}] * 20

    place.run(scenario)


class UnheardError(DBAPIError):
    """The connection was lost after the server had done its work, before it could say so."""

    def __init__(self) -> None:
        super().__init__("statement", {}, RuntimeError("lost"), connection_invalidated=True)


def test_a_repetition_that_finds_its_own_outcome_has_succeeded(place: Place) -> None:
    """create and regenerate, whose first attempt was carried out unheard; a foreign outcome stays a failure."""

    async def scenario(store: SQLStore) -> None:
        database = store._database
        works = {"create": database.create, "merge": database.merge}

        def unheard(verb: str) -> None:
            lost = iter([UnheardError()])

            def once(*arguments: Any, **named: Any) -> Any:
                outcome = works[verb](*arguments, **named)
                for error in lost:
                    raise error
                return outcome

            setattr(database, verb, once)

        unheard("create")
        await make(store, a=b"1")
        unheard("create")
        assert await store.create(ID, Record(V2, 1.0, 5.0, math.inf, {})) is False
        unheard("merge")
        assert await store.regenerate(ID, V1, V2, math.inf, Change(store.clock()))
        unheard("merge")
        assert not await store.regenerate(ID, V1, V3, math.inf, Change(store.clock()))
        unheard("merge")
        assert await store.update(ID, V2, Change(store.clock(), {"b": b"2"}))
        assert await content(store) == {"a": b"1", "b": b"2"}

    place.run(scenario)


def test_a_repeated_batch_that_finds_its_own_outcomes_has_succeeded(place: Place) -> None:
    """New sessions whose first attempt was carried out unheard; a taken id stays taken."""
    ids = [bytes([number]) * 16 for number in range(1, 6)]

    async def main() -> None:
        store = place.store()
        create_many, lost = store._database.create_many, iter([UnheardError()])

        def once(*arguments: Any, **named: Any) -> Any:
            outcome = create_many(*arguments, **named)
            for error in lost:
                raise error
            return outcome

        store._database.create_many = once  # type: ignore[method-assign]
        await store.open()
        records = [Record(V1, store.clock(), 5.0, math.inf, {"a": b"1"}) for _ in ids]
        assert all(await asyncio.gather(*map(store.create, ids, records)))
        assert next(lost, None) is None
        others = [Record(V2, store.clock(), 5.0, math.inf, {"a": b"2"}) for _ in ids]
        lost = iter([UnheardError()])
        new = asyncio.gather(*map(store.create, [ids[0], OTHER_ID, ids[1]], others))
        assert await new == [False, True, False]
        assert [await content(store, one) for one in (ids[0], OTHER_ID)] == [{"a": b"1"}, {"a": b"2"}]
        await store.close()

    asyncio.run(main())


def test_idle_connections_are_dropped_once_for_all_who_give_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch has many callers, and all of them find the server silent."""
    monkeypatch.setattr("fastersession.stores.sql.batches.SILENT_SECONDS", 0.0)

    async def scenario(store: SQLStore) -> None:
        here, drops = store._engines.here(), count()
        drop = here.drop_idle

        async def counted() -> None:
            next(drops)
            await drop()

        here.drop_idle = counted  # type: ignore[method-assign]
        calls = [asyncio.ensure_future(store.load(ID)) for _ in range(30)]
        for _ in range(3):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await store.load(ID) is None
        assert next(drops) == 1

    place.run(scenario)


def test_s10_a_server_that_hangs_costs_a_call_and_no_more(place: Place) -> None:
    """The caller's own bound ends the call; when the server answers again, so does the store."""

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        with place.server.silent():
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await store.load(ID)
            assert time.monotonic() - start < 1.5
        assert await content(store) == {"a": b"1"}

    place.run(scenario)


def test_a_server_that_hangs_does_not_keep_the_store_from_closing(place: Place) -> None:
    """However many connections it has: they are left, all at once."""

    async def main() -> None:
        store = place.store()
        await store.open()
        await asyncio.gather(*(store.load(ID) for _ in range(8)))
        with place.server.silent():
            async with asyncio.timeout(8):
                await store.close()

    asyncio.run(main())


def test_a_call_that_fails_when_nobody_waits_for_it_any_more_is_no_stray_error() -> None:
    """What it raises reaches neither the caller, who has gone, nor the loop's exception handler."""

    async def main() -> None:
        strays: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: strays.append(context))
        store, gate = SQLStore("postgresql://h/d"), asyncio.Event()

        async def failing(*_: Any) -> None:
            await gate.wait()
            raise StoreError("late")

        store._engines.here().attempts = failing  # type: ignore[method-assign]
        call = asyncio.ensure_future(store.load(ID))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        gate.set()
        while store._engines.here()._running:
            await asyncio.sleep(0)
        gc.collect()
        assert strays == []

    asyncio.run(main())


@pytest.mark.long
def test_a_call_to_a_silent_server_is_given_up_while_it_is_silent(place: Place) -> None:
    """What nobody waits for any more ends by itself, and gives its connection back, within the driver's 5 s."""

    async def scenario(store: SQLStore) -> None:
        await make(store, a=b"1")
        with place.server.silent():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await store.load(ID)
            async with asyncio.timeout(20):
                while store._engines.here()._running:
                    await asyncio.sleep(0.01)
        assert await content(store) == {"a": b"1"}

    place.run(scenario)


@pytest.mark.parametrize("driver", KINDS)
def test_kill_9_of_the_server_loses_nothing_acknowledged(driver: str) -> None:
    """With the durable settings, in a storm of saves: errors while it is away, all acknowledged saves afterwards."""
    server = KINDS[driver](durable=True)
    place = Place(server, driver)
    acknowledged: dict[int, int] = {}

    async def scenario(store: SQLStore) -> None:
        dead = asyncio.Event()

        async def writer(number: int) -> None:
            record_id = bytes([number]) * 16
            await make(store, record_id)
            for turn in count():
                value = b"%d" % turn
                try:
                    assert await store.update(record_id, V1, Change(store.clock(), {"turn": value, "twin": value}))
                except StoreError:
                    dead.set()
                    return
                acknowledged[number] = turn

        writers = asyncio.gather(*map(writer, range(8)))
        async with asyncio.timeout(30):
            while sum(acknowledged.values()) < 400:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(server.kill)
        await writers
        assert dead.is_set()
        with pytest.raises(StoreError):
            await store.load(ID)
        await asyncio.to_thread(server.start)
        for number, turn in acknowledged.items():
            kept = await content(store, bytes([number]) * 16)
            assert int(kept["turn"]) in (turn, turn + 1)
            assert kept["turn"] == kept["twin"]
            assert await store.delete(bytes([number]) * 16)

    try:
        place.run(scenario)
    finally:
        server.close()


def test_a_deadlock_is_repeated(place: Place) -> None:
    """By SQLSTATE or error number, a bounded number of times."""

    async def scenario(store: SQLStore) -> None:
        class CollisionError(Exception):
            sqlstate = "40P01"

        def collide(times: int) -> None:
            load = type(store._database).load
            left = iter(range(times))

            def colliding(*arguments: Any, **named: Any) -> Any:
                if next(left, None) is not None:
                    raise DBAPIError("statement", {}, CollisionError(1213, "Deadlock found"))
                return load(store._database, *arguments, **named)

            store._database.load = colliding

        await make(store)
        collide(3)
        assert await content(store) == {}
        collide(1000)
        with pytest.raises(StoreError, match="CollisionError"):
            await store.load(ID)

    place.run(scenario)


def test_s9_cancellation_leaks_no_connection_of_a_given_engine(place: Place) -> None:
    """However far a verb has come when its caller gives up; and no connection is handed on half-used."""

    async def main() -> None:
        engine = create_async_engine(place.url, pool_size=2, max_overflow=0, pool_timeout=5)
        store = SQLStore(engine, table=place.table)
        await store.open()
        await make(store, a=b"1")
        await make(store, OTHER_ID, V2)
        verbs = (
            lambda: store.load(ID),
            lambda: store.touch(ID, V1, store.clock()),
            lambda: store.update(ID, V1, Change(store.clock(), {"b": b"2"}, ("c",))),
            lambda: store.create(secrets.token_bytes(16), Record(V3, store.clock(), 5.0, math.inf, {"b": b"2"})),
            store.purge,
        )
        for verb in verbs:
            for steps in range(0, 60, 3):
                task = asyncio.ensure_future(verb())
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                both = await asyncio.gather(store.load(ID), store.load(OTHER_ID))
                assert [record and record.verifier for record in both] == [V1, V2]
        await store.close()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.parametrize("together", [False, True])
def test_s9_cancelled_in_the_middle_of_an_exchange(place: Place, together: bool) -> None:
    """S9: at each await of the driver itself, which the store keeps its callers from as long as it can."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        here, database = store._engines.here(), store._database

        async def load(record_id: bytes) -> Any:
            found = (await here._load_many([record_id]))[0] if together else AGAIN
            return await here._load(record_id, found) if isinstance(found, Again) else found

        def sent_by(many: Any) -> Any:
            async def send(record_id: bytes, write: Write) -> bool:
                done = (await here._write_many(many, [write]))[0] if together and many else AGAIN
                return await here._write(write, done) if isinstance(done, Again) else done

            return send

        here.load = load  # type: ignore[method-assign]
        here.create, here.merge, here.alone = map(sent_by, (database.create_many, database.merge_many, None))
        await cancel_each_await(Subject(store, clock, lambda _: store))

    place.run(scenario, clock=clock)
