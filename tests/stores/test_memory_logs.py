"""Conversations in memory: bounds, and what is counted towards them."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastersession import MemoryStore
from fastersession.stores.logs import Append, Batch, Begin, End, Entry, Log, Outcome, Place, Run
from fastersession.stores.memory import shelf


class Value:
    """An object that is equal to nothing."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("it was compared")

    __hash__ = object.__hash__


async def made(store: MemoryStore, entries: int = 0) -> Log:
    """Make a conversation of so many entries."""
    log = Log(Place(secrets.token_bytes(16)), secrets.token_bytes(16))
    await store.logs.create(log.place, log.log, b"o" * 16, "about")
    for number in range(1, entries + 1):
        (appended,) = await store.logs.append([Append(log, Entry((1, number), number, size=8))])
        assert appended.outcome is Outcome.DONE
    return log


async def begun(store: MemoryStore, log: Log, size: int = 0) -> Run:
    """Begin a run with frames of so many bytes."""
    run = Run(log, secrets.token_bytes(16))
    assert (await store.logs.begin(Begin(run, 100.0, 100.0, object()))).outcome is Outcome.DONE
    assert await store.logs.write([Batch(run, (1, 1), ["frame"], size)]) == [Outcome.DONE]
    return run


async def is_there(store: MemoryStore, log: Log) -> bool:
    """Return whether a conversation is there."""
    return await store.logs.look([log.place], 1, 1) is not None


def test_objects_come_back_as_themselves() -> None:
    """Nothing encodes, copies or compares them, in a retry neither."""

    async def scenario() -> None:
        store, value, frame = MemoryStore(), Value(), Value()
        log = await made(store)
        append = Append(log, Entry((1, 1), value))
        for _ in range(2):
            assert (await store.logs.append([append]))[0].outcome is Outcome.DONE
        found = await store.logs.look([log.place], 1, 1)
        assert found is not None
        assert found.entries[0].value is value
        run = await begun(store, log)
        for _ in range(2):
            assert await store.logs.write([Batch(run, (1, 2), frame, 1)]) == [Outcome.DONE]
            assert (await store.logs.end(End(run, frame, 10.0))).outcome is Outcome.DONE

    asyncio.run(scenario())


def test_above_a_bound_the_least_recently_used_goes(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Never one that runs, nor the one that is written to; one line tells of it."""
    monkeypatch.setattr(shelf, "MOST_ENTRIES", 10)

    async def scenario() -> None:
        store = MemoryStore()
        running, first, second, last = [await made(store, 2) for _ in range(4)]
        await begun(store, running)
        (appended,) = await store.logs.append([Append(first, Entry((1, 3), 3))])
        assert appended.outcome is Outcome.DONE
        for number in range(3, 8):
            assert (await store.logs.append([Append(last, Entry((1, number), number))]))[0].outcome is Outcome.DONE
        assert [await is_there(store, log) for log in (running, first, second, last)] == [True, False, False, True]
        for number in range(8, 30):
            assert (await store.logs.append([Append(last, Entry((1, number), number))]))[0].outcome is Outcome.DONE
        assert await is_there(store, last)
        (again,) = await store.logs.append([Append(second, Entry((1, 3), 3))])
        assert again.outcome is Outcome.GONE

    asyncio.run(scenario())
    assert [record.event for record in caplog.records] == ["store.full"]


def test_frames_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run that has ended had goes with its conversation."""
    monkeypatch.setattr(shelf, "MOST_FRAME_BYTES", 1000)

    async def scenario() -> None:
        store = MemoryStore()
        logs = [await made(store) for _ in range(3)]
        runs = [await begun(store, log, 400) for log in logs[:2]]
        await store.logs.end(End(runs[0], "end", 100.0))
        await begun(store, logs[2], 400)
        assert [await is_there(store, log) for log in logs] == [False, True, True]
        assert await store.logs.write([Batch(runs[1], (1, 2), "more", 400)]) == [Outcome.DONE]

    asyncio.run(scenario())


@given(st.lists(st.tuples(st.sampled_from("aabbdecf"), st.integers(0, 2), st.integers(0, 5)), max_size=40))
def test_the_count_is_that_of_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    """Whatever was written, cut, ended, forgotten and deleted."""
    # Invariant: entries and bytes that are counted are those of the conversations that are there.

    async def scenario() -> None:
        store = MemoryStore()
        logs, runs = [await made(store) for _ in range(3)], list[Run]()
        for what, which, number in steps:
            log = logs[which]
            found = await store.logs.look([log.place], 0, 0)
            if found is None:
                logs[which] = await made(store)
            elif what == "a":
                await store.logs.append([Append(log, Entry((found.top[0], found.top[1] + 1), object()))])
            elif what == "b":
                run = Run(log, secrets.token_bytes(16))
                await store.logs.begin(Begin(run, 100.0, 100.0, object()))
                runs.append(run)
                await store.logs.write([Batch(one, (1, number), object(), number) for one in runs])
            elif what == "c":
                await store.logs.cut(log, (1, number), None)
            elif what == "d":
                await store.logs.delete(log.place)
            elif what == "e":
                for run in runs[-number:]:
                    await store.logs.end(End(run, object(), 0.0))
            else:
                await store.logs.purge()
        counted, kept = store.logs.shelf, store.logs.shelf.all()
        assert counted.entries == sum(len(one.entries) for one in kept)
        assert counted.frame_bytes == sum(frames.size for one in kept for frames in one.runs.values())

    asyncio.run(scenario())
