"""SQLiteStore on a disk that is slow or fails: whose turn it is, and what becomes of a group that others spoil."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batches import Batches, batch_of
from clocks import FakeClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from over_sqlite import run
from store_subject import ID, START, V1, make

from fastersession.stores.sqlite import SQLiteStore
from fastersession.stores.sqlite import store as sqlite
from fastersession.stores.sqlite import threads as _sqlite_threads

Hook = Callable[[str], None]


class Hooked:
    """A connection of the writer that tells of each statement before it is executed."""

    def __init__(self, inner: sqlite3.Connection, hook: Hook) -> None:
        self.inner, self.hook = inner, hook

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self.hook(statement)
        return self.inner.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def hooked(monkeypatch: pytest.MonkeyPatch, hook: Hook) -> None:
    connect = sqlite.connect_writer
    monkeypatch.setattr(sqlite, "connect_writer", lambda path: Hooked(connect(path), hook))


@pytest.mark.parametrize(("seconds", "waits"), [(0.03, True), (0.01, False)])
def test_a_long_transaction_leaves_others_a_turn(
    path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, waits: bool
) -> None:
    """Who waits for the lock looks every half a millisecond; with none between two commits he would wait in vain."""
    said: list[str] = []

    class Time:
        """The writer's clock, which a commit moves."""

        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

        @classmethod
        def sleep(cls, pause: float) -> None:
            assert pause >= 2 * _sqlite_threads.BEGIN_PAUSE - 1e-9
            said.append("pause")
            cls.now += pause

    def hook(statement: str) -> None:
        said.append(statement.split()[0])
        Time.now += seconds if statement == "COMMIT" else 0

    monkeypatch.setattr(_sqlite_threads, "time", Time)
    hooked(monkeypatch, hook)

    async def scenario(store: SQLiteStore) -> None:
        await make(store)
        said.clear()
        for _ in range(3):
            assert await store.touch(ID, V1, store.clock())

    run(path, scenario)
    begins = [before for before, word in zip(["", *said], said, strict=False) if word == "BEGIN"]
    assert begins == (["pause"] * 3 if waits else ["", "COMMIT", "COMMIT"]), said


class Faults:
    """Which statements of writers fail from now on, counted from 0: others have the lock, or the disk fails."""

    def __init__(self) -> None:
        self.plan: frozenset[int] = frozenset()
        self.count = 0
        self.met = Counter[str]()

    def hook(self, statement: str) -> None:
        word, number, self.count = statement.split()[0], self.count, self.count + 1
        if number in self.plan and word != "PRAGMA":
            self.met[word] += 1
            is_begin = word == "BEGIN"
            error = sqlite3.OperationalError("database is locked" if is_begin else "disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY if is_begin else sqlite3.SQLITE_IOERR
            raise error


def test_batches_on_a_disk_that_fails_have_the_outcomes_of_one_verb_after_another(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever statement fails, in a group or alone: who is told of an error has changed nothing."""
    faults = Faults()

    class Mending(Batches):
        async def look(self) -> Any:
            faults.plan = frozenset()
            return await super().look()

    hooked(monkeypatch, faults.hook)
    monkeypatch.setattr(_sqlite_threads, "BUSY_SECONDS", -1.0)
    factory = lambda clock: SQLiteStore(path, clock=clock)  # noqa: E731
    plans = st.frozensets(st.integers(0, 16), min_size=1, max_size=8)
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]

    # Invariant: as of batches on a sound disk, but a call that was refused has not happened.
    @settings(max_examples=150, deadline=None, suppress_health_check=slow)
    @given(drawn=st.lists(st.tuples(plans, batch_of(1)), min_size=1, max_size=4))
    def check(drawn: list[Any]) -> None:
        with asyncio.Runner() as runner:
            batches = Mending(FakeClock(START), [factory], bears="locked|disk")
            runner.run(batches.open())
            try:
                for plan, (seconds, _, visits) in drawn:
                    runner.run(batches.run((seconds, True, [])))
                    faults.plan, faults.count = plan, 0
                    runner.run(batches.run((0.0, False, visits)))
            finally:
                faults.plan = frozenset()
                runner.run(batches.close())

    check()
    assert {*faults.met} >= {"BEGIN", "UPDATE", "INSERT", "DELETE", "COMMIT"}, faults.met
