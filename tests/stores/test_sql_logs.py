"""Conversations in a database: tables that are made when they are needed, and two workers on one conversation."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from over_sql import Place as Server
from store_subject import ID, V1, make

from fastersession import StoreError
from fastersession.stores.logs import (
    MOST_OF_A_SESSION,
    Append,
    Appended,
    Batch,
    Begin,
    End,
    Entry,
    Log,
    Outcome,
    Place,
    Run,
)
from fastersession.stores.sql import SQLStore

LONG = 1000.0


async def made(store: SQLStore) -> Log:
    """Make a conversation."""
    log = Log(Place(secrets.token_bytes(16)), secrets.token_bytes(16))
    await store.logs.create(log.place, log.log, b"o" * 16, b"about")
    return log


async def begun(store: SQLStore, log: Log) -> Run:
    """Begin a run."""
    run = Run(log, secrets.token_bytes(16))
    assert (await store.logs.begin(Begin(run, LONG, LONG, secrets.token_bytes(16)))).outcome is Outcome.DONE
    return run


def test_tables_come_with_the_first_use(place: Server) -> None:
    """Several workers may be the first at once; a database without conversations has none of them."""

    async def main() -> None:
        stores = [place.store() for _ in range(4)]
        try:
            await stores[0].open()
            await stores[0].purge()
            with pytest.raises(Exception, match="_conversation"):
                place.count("_conversation")
            await asyncio.gather(*(made(store) for store in stores))
            assert place.count("_conversation") == 4
        finally:
            await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(main())


def test_a_purge_finds_what_another_process_has_made(place: Server) -> None:
    """As that of the command line, which has used no conversation."""

    async def scenario(store: SQLStore) -> None:
        await store.logs.create(Place(b"c" * 16), b"l" * 16, b"o" * 16, b"about", 0.0)
        other = place.store()
        try:
            await other.purge()
            assert place.count("_conversation") == 0
        finally:
            await other.close()

    place.run(scenario)


def test_a_hundred_of_a_session_also_at_once(place: Server) -> None:
    """C16: two creates beside each other do not both take the last place."""

    async def scenario(store: SQLStore) -> None:
        other = place.store()
        try:
            await make(store)
            made = await asyncio.gather(*(
                mine.logs.create(Place(secrets.token_bytes(16), ID, V1), secrets.token_bytes(16), ID, b"")
                for _ in range(53) for mine in (store, other)
            ))  # fmt: skip
            assert [one.outcome for one in made].count(Outcome.DONE) == MOST_OF_A_SESSION
        finally:
            await other.close()

    place.run(scenario)


def test_tables_that_may_not_be_made(place: Server) -> None:
    """The error says what to do, and its statements are enough."""

    async def scenario(store: SQLStore) -> None:
        strict = place.store(create_tables=False)
        try:
            with pytest.raises(StoreError, match=r"SQLStore.logs.ddl"):
                await strict.logs.look([Place(b"c" * 16)], 1, 1)
            for statement in strict.logs.ddl:
                place.server.execute(statement)
            assert await strict.logs.look([Place(b"c" * 16)], 1, 1) is None
        finally:
            await strict.close()

    place.run(scenario)


def test_two_workers_write_one_history(place: Server) -> None:
    """Each entry has a place of its own; what was acknowledged is there."""

    async def scenario(store: SQLStore) -> None:
        other = place.store()
        log, kept = await made(store), list[bytes]()

        async def writer(mine: SQLStore) -> None:
            top = (1, 0)
            for _ in range(15):
                value = secrets.token_bytes(16)
                outcome: Any = None
                while outcome is not Outcome.DONE:
                    (found,) = await mine.logs.append([Append(log, Entry((top[0], top[1] + 1), value))])
                    assert isinstance(found, Appended)
                    outcome, top = found.outcome, found.top
                kept.append(value)

        try:
            await asyncio.gather(*(writer(mine) for mine in (store, other) * 2))
            found = await other.logs.entries(log, None, None, 1000, 10**6, newest=False)
            assert found is not None
            assert [entry.position for entry in found] == [(1, seq) for seq in range(1, 61)]
            assert sorted(entry.value for entry in found) == sorted(kept)
        finally:
            await other.close()

    place.run(scenario)


def test_two_workers_write_frames_of_the_same_runs(place: Server) -> None:
    """Batches of many runs, in any order, beside ends and renewals of them: no deadlock, and one wins each position."""

    async def scenario(store: SQLStore) -> None:
        other = place.store()
        runs = [await begun(store, await made(store)) for _ in range(12)]
        acknowledged: dict[Run, set[bytes]] = {run: set() for run in runs}

        async def writer(mine: SQLStore, order: int) -> None:
            for seq in range(1, 8):
                batches = [Batch(run, (1, seq), secrets.token_bytes(8), 8) for run in runs[::order]]
                outcomes = await mine.logs.write(batches)
                for batch, outcome in zip(batches, outcomes, strict=True):
                    if outcome is Outcome.DONE:
                        acknowledged[batch.run].add(batch.value)
                await mine.logs.renew(runs[::-order], LONG)

        try:
            await asyncio.gather(writer(store, 1), writer(other, -1), writer(store, -1))
            ended = await asyncio.gather(
                *(mine.logs.end(End(run, b"end", LONG)) for run in runs for mine in (store, other))
            )
            assert {one.outcome for one in ended} == {Outcome.DONE}
            found = await other.logs.read(dict.fromkeys(runs, (1, 0)), 10**6)
            for run in runs:
                frames = found[run]
                assert frames is not None
                assert {value for _, value in frames[:-1]} == acknowledged[run]
                assert len(frames) == 8
        finally:
            await other.close()

    place.run(scenario)


def test_two_workers_begin_and_delete(place: Server) -> None:
    """One has the turn at a time; a conversation that was deleted in between takes nothing more."""

    async def scenario(store: SQLStore) -> None:
        other = place.store()
        try:
            for _ in range(8):
                log = await made(store)
                begins = [Begin(Run(log, secrets.token_bytes(16)), LONG, LONG, b"head") for _ in range(4)]
                work = [mine.logs.begin(begin) for begin, mine in zip(begins, (store, other) * 2, strict=True)]
                *outcomes, _ = await asyncio.gather(*work, other.logs.delete(log.place))
                assert [one.outcome for one in outcomes].count(Outcome.DONE) <= 1
                assert await store.logs.look([log.place], 1, 1) is None
                assert (await store.logs.begin(begins[0])).outcome is Outcome.GONE
        finally:
            await other.close()

    place.run(scenario)
