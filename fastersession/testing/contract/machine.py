"""One state machine over all stores: any sequence of verbs, requests that overlap, verbs at once, and crashes.

Rules of residence: hypothesis, the reference, and the loop that a store lives in from its opening to its closing.

    check_store(lambda clock: MyStore(url, clock=clock), examples=30)
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import math
import secrets
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ...stores.base import Change, Extra, Record
from ..clock import FakeClock
from .reference import Reference
from .subject import START, Factory, fields

RECORDS = range(2)
VERIFIERS = [bytes([n]) * 32 for n in range(3)]  # the record's own, the one before, and neither
OWNERS = [bytes([n]) * 16 for n in range(2)]
NAMES = ("a", "b", "A", "a ", "", "\N{GRINNING FACE}")
TIMES = (10.0, 60.0, 1_000.0, math.inf)
SIZES = (0, 1, 40, 3_000)
MOST_CRASHES = 2  # each leaves the connections of a store open until the end

records, owners = st.sampled_from(RECORDS), st.sampled_from(OWNERS)
verifiers = st.sampled_from((None, None, *VERIFIERS))  # None: the record's own
values = st.builds(lambda letter, size: letter * size, st.sampled_from((b"\0", b"x", b"\xff")), st.sampled_from(SIZES))
contents = st.dictionaries(st.sampled_from(NAMES), values, max_size=3)
changes = st.fixed_dictionaries(
    {"sets": contents, "deletes": st.lists(st.sampled_from(NAMES), max_size=2, unique=True)},
    optional={"idle_timeout": st.sampled_from(TIMES), "lease": owners, "back": st.sampled_from((0.0, 5.0, 70.0))},
)
# A verb with its arguments, but for what depends on the machine: ids are numbers, times are relative to now.
writes = st.tuples(st.just("update"), records, verifiers, changes)
leases = st.one_of(
    st.tuples(st.just("lock"), records, verifiers, owners, st.sampled_from((5.0, 30.0))),
    st.tuples(st.just("unlock"), records, owners),
)
steps = st.one_of(
    writes,
    leases,
    st.tuples(st.just("load"), records),
    st.tuples(
        st.just("create"), records, st.sampled_from(VERIFIERS), st.sampled_from(TIMES), st.sampled_from(TIMES),
        contents, st.sampled_from((None, b"\x01" + b"a" * 15)),
    ),
    st.tuples(st.just("touch"), records, verifiers, st.sampled_from((0.0, -5.0))),
    st.tuples(st.just("delete"), records),
    st.tuples(st.just("regenerate"), records, verifiers, st.sampled_from(VERIFIERS), st.sampled_from(TIMES), changes),
)  # fmt: skip


class StoreMachine(RuleBasedStateMachine):
    """Every verb has the reference's outcome, and every read shows the reference's record.

    Run it with ``check_store``, or ``hypothesis.stateful.run_state_machine_as_test`` and settings of your own.

    :param factory: makes a store by a clock; each call makes one that has just begun, as in a new process.
    :param shared: whether what one store acknowledged is in the next one over the same server or file; false for a
        store whose sessions end with the process.
    """

    # Invariant: after any sequence of verbs, by requests that overlap in any way, at any times, each outcome and each
    # read is the reference's; the outcomes of verbs at once, and the reads after them, are those of some order of them.
    begun = Bundle("begun")

    def __init__(self, factory: Factory, *, shared: bool = True) -> None:
        super().__init__()
        self.factory, self.shared = factory, shared
        self.clock = FakeClock(START)
        self.reference = Reference(self.clock)
        self.crashed: list[Any] = []
        self.ids = [secrets.token_bytes(16) for _ in RECORDS]
        self.runner = asyncio.Runner()
        self.store = factory(self.clock)
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        """End the store, and those that crashed."""

        async def end() -> None:
            for record_id in self.ids:
                await self.store.delete(record_id)
            for store in (self.store, *self.crashed):
                await store.close()

        self.runner.run(end())
        self.runner.close()

    @initialize()
    def fill(self) -> None:
        """Begin with records that live for a while."""
        for record in RECORDS:
            self.one(("create", record, VERIFIERS[0], 60.0 * (record + 1), 1_000.0, {"a": b"1", "b": b"2"}, None))

    @rule(step=steps)
    def one(self, step: Any) -> None:
        """Do one verb."""
        verb, arguments = self.bound(step)
        assert self.run([(verb, arguments)]) == [getattr(self.reference, verb)(*arguments)], verb

    @rule(step=writes)
    def write(self, step: Any) -> None:
        """Save, oftener than by the rule above."""
        self.one(step)

    @rule(step=leases)
    def lease(self, step: Any) -> None:
        """Lock or unlock, oftener."""
        self.one(step)

    @rule(together=st.lists(steps, min_size=2, max_size=4), record=records)
    def several(self, together: list[Any], record: int) -> None:
        """Do several verbs on one record at once."""
        calls = [self.bound((step[0], record, *step[2:])) for step in together]
        outcomes, found, possible = self.run(calls), self.all_records(), []
        for order in itertools.permutations(range(len(calls))):
            reference = Reference(self.clock, self.reference.rows)
            said = {number: getattr(reference, calls[number][0])(*calls[number][1]) for number in order}
            if [said[number] for number in range(len(calls))] == outcomes and self.expected(reference) == found:
                possible.append(reference)
        assert possible, f"no order of {[verb for verb, _ in calls]} has the outcomes {outcomes}"
        self.reference = possible[0]
        if len({reference.lease(self.ids[record]) for reference in possible}) > 1:  # no read shows a lease: have none
            self.run([("unlock", (self.ids[record], owner)) for owner in OWNERS])
            self.reference.free(self.ids[record])

    @rule(target=begun, record=records)
    def begin(self, record: int) -> Any:
        """Begin a request: load, and keep the verifier that the record had."""
        found = self.run([("load", (self.ids[record],))])[0]
        assert found == self.reference.load(self.ids[record])
        return record, found["verifier"] if found else VERIFIERS[0]

    @rule(request=begun, change=changes)
    def save(self, request: Any, change: Any) -> None:
        """Save in a request, whatever happened to its record since."""
        self.one(("update", *request, change))

    @rule(request=consumes(begun), change=changes)
    def end(self, request: Any, change: Any) -> None:
        """End a request with its last save."""
        self.one(("update", *request, change))

    @rule(request=begun, new=st.sampled_from(VERIFIERS), change=changes)
    def log_in(self, request: Any, new: bytes, change: Any) -> None:
        """Regenerate in a request."""
        self.one(("regenerate", *request, new, 1_000.0, change))

    @rule(requests=st.lists(begun, min_size=2, max_size=3), all_changes=st.lists(changes, min_size=3, max_size=3))
    def save_at_once(self, requests: list[Any], all_changes: list[Any]) -> None:
        """Let requests of one record save at the same time."""
        self.several(
            [("update", *request, change) for request, change in zip(requests, all_changes, strict=False)],
            requests[0][0],
        )

    @rule(seconds=st.sampled_from((0.5, 4.5, 5.0, 9.5, 25.0, 61.0, 990.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(record=records, early=st.sampled_from((0.0, 0.0, 0.5)), lease=st.booleans())
    def wait_for_an_end(self, record: int, early: float, lease: bool) -> None:
        """Wait until a record or its lease ends, or shortly before, and look at everything then."""
        row = self.reference.alive(self.ids[record])
        ends = [row.lease[1] if lease and row.lease else row.end - early] if row else []
        self.clock.now = max([self.clock(), *(end for end in ends if end < math.inf)])
        self.compare()

    @rule()
    def purge(self) -> None:
        """Purge: what is left is what the reference says is alive."""
        self.run([("purge", ())])  # not how many: a load may have removed them before, and others share the server
        self.reference.purge()
        self.compare()

    @precondition(lambda self: len(self.crashed) < MOST_CRASHES)
    @rule()
    def crash(self) -> None:
        """Lose the process between two verbs: what was acknowledged is there in the next, leases and all."""
        self.crashed.append(self.store)  # neither closed nor used again
        self.store = self.factory(self.clock)
        self.runner.run(self.store.open())
        if not self.shared:
            self.reference = Reference(self.clock)
        self.compare()

    @rule()
    def compare(self) -> None:
        """Read all records."""
        assert self.all_records() == self.expected(self.reference)

    def bound(self, step: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
        """Put ids and times into a step."""
        verb, record, *rest = step
        now = self.clock()
        if verb not in ("load", "delete", "unlock", "create") and rest[0] is None:
            row = self.reference.rows.get(self.ids[record])
            rest[0] = VERIFIERS[0] if row is None else row.verifier
        if verb == "create":
            verifier, idle, life, content, tag = rest
            rest = [Record(verifier, now, idle, now + life, content, Extra(tag))]
        elif verb == "update":
            rest[-1] = self.change(rest[-1])
        elif verb == "regenerate":
            rest[-2:] = now + rest[-2], self.change(rest[-1])
        elif verb == "touch":
            rest[-1] += now
        return verb, (self.ids[record], *rest)

    def change(self, given: Any) -> Change:
        """Put times into a change."""
        more = {name: value for name, value in given.items() if name in ("idle_timeout", "lease")}
        return Change(self.clock() - given.get("back", 0.0), given["sets"], tuple(given["deletes"]), **more)

    def run(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Do the calls at once, and return their outcomes in order."""

        async def call(verb: str, arguments: tuple[Any, ...]) -> Any:
            outcome = await getattr(self.store, verb)(*arguments)
            return fields(outcome) if isinstance(outcome, Record) else outcome  # before another verb changes it

        async def together() -> list[Any]:
            return list(await asyncio.gather(*(call(*one) for one in calls)))

        return self.runner.run(together())

    def all_records(self) -> list[Any]:
        """Return what the store has."""
        return self.run([("load", (record_id,)) for record_id in self.ids])

    def expected(self, reference: Reference) -> list[Any]:
        """Return what a reference has."""
        return [reference.load(record_id) for record_id in self.ids]


def check_store(factory: Factory, *, shared: bool = True, examples: int = 100, length: int = 40) -> None:
    """Run the machine over a store, in event loops of its own.

    :param factory: see ``StoreMachine``, as for ``shared``. :param examples: how many sequences are tried.
    :param length: the most verbs of one.
    :raises AssertionError: an outcome or a read was not the contract's; its notes are the shortest sequence found.
    """
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = [phase for phase in Phase if phase is not Phase.explain]  # it costs minutes on a server
    limits = settings(
        max_examples=examples,
        stateful_step_count=length,
        deadline=None,
        suppress_health_check=slow,
        phases=phases,
        report_multiple_bugs=False,
    )
    made: Any = functools.partial(StoreMachine, factory, shared=shared)
    run_state_machine_as_test(made, settings=limits)
