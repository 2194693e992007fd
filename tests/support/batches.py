"""Batches of verbs at once, over several stores on one server or file, and whether some order of them explains it all.

Rules of residence: the calls of a batch, and the search for the order; no store, no server, no test.

    batches = Batches(clock, factories=[factory, factory])
    runner.run(batches.open())
    runner.run(batches.run(batch))      # drawn from `batch_of(stores=2)`; raises AssertionError
    runner.run(batches.close())

A batch is a list of visits that begin at the same moment, each over one store. A visit does its steps one after
another; one that gives up is cancelled after some turns of the event loop. `Batches.run` notes when each call began
and ended, and then, for each record on its own, seeks an order of the calls in which the reference has all their
outcomes. A call that ended before another began comes before it. Writes of one record through one store come in the
order in which they were asked. What was given up has happened as a whole or not at all, before the next batch. What
was refused, in words that a test bears, has not happened, and ends its visit; what a batch needs is asked again.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from clocks import FakeClock
from hypothesis import strategies as st

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Extra, Record
from fastersession.testing.contract.machine import VERIFIERS, leases, steps, writes
from fastersession.testing.contract.reference import Reference, Row
from fastersession.testing.contract.subject import Factory, fields

RECORDS = 2  # as many as the machine's steps name
NOBODY = b"n" * 16  # who never holds a lease: to unlock for it changes nothing, and comes after every earlier write
NEVER = math.inf

Visit = tuple[int, Sequence[Any], int | None]  # store, steps, and after how many turns it gives up


def batch_of(stores: int) -> st.SearchStrategy[tuple[float, bool, list[Visit]]]:
    """Draw a batch over so many stores, the seconds that pass before it, and whether absent records are made first."""
    several = st.lists(st.one_of(writes, leases, steps, steps), min_size=1, max_size=3)
    turns = st.sampled_from((None, None, None, None, 0, 1, 2, 5))
    visits = st.lists(st.tuples(st.integers(0, stores - 1), several, turns), min_size=1, max_size=8)
    return st.tuples(st.sampled_from((0.0, 0.0, 0.5, 4.5, 25.0, 61.0)), st.sampled_from((True, True, False)), visits)


@dataclass(eq=False)
class Call:
    """One verb as it was called. ``begin`` and ``end`` are moments of a clock that all processes share."""

    store: int
    verb: str
    arguments: tuple[Any, ...]
    begin: float = 0
    end: float = NEVER
    outcome: Any = None
    given_up: bool = False  # then nobody knows the outcome, and it may not have happened
    refused: bool = False

    @property
    def record_id(self) -> bytes:
        return self.arguments[0]

    async def run(self, store: Any) -> None:
        """Do it, and note what came of it."""
        self.begin = time.monotonic_ns()
        try:
            outcome = await getattr(store, self.verb)(*self.arguments)
        except asyncio.CancelledError:
            self.given_up = True
            raise
        except StoreError:
            self.refused = True
            raise
        self.outcome = fields(outcome) if isinstance(outcome, Record) else outcome
        self.end = time.monotonic_ns()


class Batches:
    """Some records, what may be in them by now, and the stores over them, all opened and used in one event loop."""

    def __init__(self, clock: FakeClock, factories: Sequence[Factory], *, bears: str = "$^") -> None:
        self.clock, self.factories = clock, factories
        self._bears = bears
        self.ids = [secrets.token_bytes(16) for _ in range(RECORDS)]
        self.possible: dict[bytes, list[Row | None]] = {record_id: [None] for record_id in self.ids}
        self.stores: list[Any] = []

    async def open(self) -> None:
        self.stores = [factory(self.clock) for factory in self.factories]
        for store in self.stores:
            await store.open()

    async def close(self) -> None:
        await self._together([Call(0, "delete", (record_id,)) for record_id in self.ids])
        for store in self.stores:
            await store.close()

    async def run(self, batch: tuple[float, bool, list[Visit]]) -> None:
        """Do a batch, and find the order that explains it.

        :raises AssertionError: there is none.
        """
        seconds, fill, visits = batch
        self.clock.advance(seconds)
        if fill:
            steps = [("create", record, VERIFIERS[0], 60.0, 1_000.0, {"a": b"1"}, None) for record in range(RECORDS)]
            self.explain(await self._together([self.bound(0, step) for step in steps]))
        plans = [(store, [self.bound(store, step) for step in steps], turns) for store, steps, turns in visits]
        ended = await asyncio.gather(*(self._visit(*plan) for plan in plans), return_exceptions=True)
        assert not [error for error in ended if isinstance(error, Exception) and not self._is_borne(error)], ended
        calls = [call for _, visit, _ in plans for call in visit if call.begin and not call.refused]
        self.explain(calls + await self.look())

    async def _visit(self, store: int, calls: list[Call], turns: int | None) -> None:
        async def all_of_them() -> None:
            for call in calls:
                await call.run(self.stores[store])

        visit = asyncio.ensure_future(all_of_them())
        if turns is not None:
            for _ in range(turns + 1):
                await asyncio.sleep(0)
            visit.cancel()
        await visit

    async def look(self) -> list[Call]:
        """Wait for what was given up, by a write behind it, and read every record through every store."""
        looks: list[Call] = []
        for verb, rest in (("unlock", (NOBODY,)), ("load", ())):
            pairs = [(store, record_id) for store in range(len(self.stores)) for record_id in self.ids]
            looks += await self._together([Call(store, verb, (record_id, *rest)) for store, record_id in pairs])
        return looks

    async def _together(self, calls: list[Call]) -> list[Call]:
        await asyncio.gather(*map(self._insistently, calls))
        return calls

    async def _insistently(self, call: Call) -> None:
        while True:
            try:
                return await call.run(self.stores[call.store])
            except StoreError as error:
                if not self._is_borne(error):
                    raise
                call.refused = False

    def _is_borne(self, error: Exception) -> bool:
        return isinstance(error, StoreError) and re.search(self._bears, str(error)) is not None

    def bound(self, store: int, step: Sequence[Any]) -> Call:
        """Put ids and times into a step of the state machine."""
        verb, record, *rest = step
        record_id, now = self.ids[record], self.clock()
        if verb in ("update", "regenerate", "touch", "lock") and rest[0] is None:
            row = self.possible[record_id][0]
            rest[0] = VERIFIERS[0] if row is None else row.verifier
        if verb == "create":
            verifier, idle, life, content, tag = rest
            rest = [Record(verifier, now, idle, now + life, content, Extra(tag))]
        elif verb == "regenerate":
            rest[-2] += now
        elif verb == "touch":
            rest[-1] += now
        if verb in ("update", "regenerate"):
            given = dict(rest[-1])
            sets, deletes, back = given.pop("sets"), tuple(given.pop("deletes")), given.pop("back", 0.0)
            rest[-1] = Change(now - back, sets, deletes, **given)
        return Call(store, verb, (record_id, *rest))

    def explain(self, calls: Sequence[Call]) -> None:
        """Find what may be in each record after these calls."""
        for record_id in self.ids:
            history = sorted((call for call in calls if call.record_id == record_id), key=lambda call: call.begin)
            after: dict[str, Row | None] = {}
            for before in self.possible[record_id]:
                search = _Search(self.clock, history)
                search.go(before, 0)
                after |= search.after
            assert after, "\n".join(
                [
                    "no order of these calls has their outcomes:",
                    *map(repr, self.possible[record_id]),
                    *map(repr, history),
                ]
            )
            self.possible[record_id] = list(after.values())


class _Search:
    """Looks for the orders of the calls of one record that the reference agrees with."""

    def __init__(self, clock: FakeClock, history: Sequence[Call]) -> None:
        self.clock, self.history = clock, history
        self.seen: set[tuple[int, str]] = set()
        self.after: dict[str, Row | None] = {}  # what is in the record at the end of such an order, by its key

    def go(self, row: Row | None, done: int) -> None:
        """Try what may come next, after the calls whose bits are set and that left the record like this."""
        key = repr(row)  # with the lease, which no comparison sees
        if (done, key) in self.seen:
            return
        self.seen.add((done, key))
        if done + 1 == 1 << len(self.history):
            self.after[key] = row
            return
        candidates = list(self.next(done))
        for number in candidates:
            call = self.history[number]
            if call.verb == "load" and (call.given_up or self.said(row, call)[0] == call.outcome):
                self.go(row, done | 1 << number)  # no other order can do better: a load changes nothing
                return
        for number in candidates:
            call = self.history[number]
            outcome, changed = self.said(row, call)
            if call.given_up:
                self.go(row, done | 1 << number)  # it has not happened
            if call.verb != "load" and (call.given_up or outcome == call.outcome):
                self.go(changed, done | 1 << number)

    def said(self, row: Row | None, call: Call) -> tuple[Any, Row | None]:
        """Return what the reference says to a call, and what it leaves."""
        reference = Reference(self.clock, {} if row is None else {call.record_id: row})
        outcome = getattr(reference, call.verb)(*call.arguments)
        return outcome, reference.rows.get(call.record_id)

    def next(self, done: int) -> Iterator[int]:
        """Return the calls that none of the others must precede."""
        left = [number for number in range(len(self.history)) if not done >> number & 1]
        first_end = min(self.history[number].end for number in left)
        writers: set[int] = set()
        for number in left:
            call = self.history[number]
            if call.begin > first_end:
                return
            if call.verb == "load":
                yield number
            elif call.store not in writers:
                writers.add(call.store)
                yield number
