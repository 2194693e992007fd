"""One state machine over all stores of conversations: any sequence of verbs, by anybody, with retries and zombies.

Rules of residence: hypothesis, and lists of what was acknowledged. The outcomes are compared with those of
``MemoryStore``, which is judged by the lists.

    check_logs(lambda clock: MyStore(url, clock=clock), examples=30)
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ...stores.base import Change, Extra, Record
from ...stores.logs import (
    Append,
    Appended,
    Batch,
    Begin,
    Begun,
    End,
    Ended,
    Entry,
    Log,
    Look,
    Outcome,
    Place,
    Run,
    Status,
)
from ...stores.memory import MemoryStore
from ...stores.users import ABOUT, Login
from ..clock import FakeClock
from .subject import START, Factory

LONG = 10_000.0
ALL = 2**20
VALUES = (b"", b"x", b"y" * 40, b"z" * 3000)
KEYS = [bytes([n]) * 16 for n in range(2)]
TAGS = [bytes([1]) + bytes([n]) * 15 for n in range(2)]

numbers = st.integers(0, 3)
values, keys = st.sampled_from(VALUES), st.sampled_from((None, None, *KEYS))
steps = st.sampled_from((1, 1, 1, 1, 0, 2, -1))  # from the top to the seq that is written
epochs = st.sampled_from((0, 0, 0, 0, -1, 1))
leases = st.sampled_from((LONG, LONG, 0.0))
keeps = st.sampled_from((None, None, 50.0))


class LogMachine(RuleBasedStateMachine):
    """Every verb has the reference's outcome, and every read shows what was acknowledged."""

    # Invariant: after any sequence of verbs each outcome and each read is the reference's; what was acknowledged is
    # read once, in order, at its place, until it is cut off, deleted or over; nothing else is.

    def __init__(self, factory: Factory, *, shared: bool) -> None:
        super().__init__()
        self.factory, self.shared = factory, shared
        self.clock = FakeClock(START)
        self.owner, self.session = secrets.token_bytes(16), secrets.token_bytes(16)
        self.places = [Place(secrets.token_bytes(16)), Place(secrets.token_bytes(16), self.session)]
        self.verifiers = [secrets.token_bytes(32)]
        self.logs: list[Log] = []
        self.runs: list[Run] = []
        self.acknowledged: dict[bytes, list[tuple[tuple[int, int], bytes]]] = {}
        self.last: tuple[str, tuple[Any, ...]] | None = None
        self.runner = asyncio.Runner()
        self.reference = MemoryStore(clock=self.clock)
        self.store = factory(self.clock)
        self.crashed: list[Any] = []
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        """Remove what is there, and close."""

        async def close() -> None:
            await self.store.delete(self.session)
            for place in self.places:
                await self.store.logs.delete(place)
            for store in (self.store, *self.crashed):
                await store.close()

        self.runner.run(close())
        self.runner.close()

    # --- how it works ---

    def both(self, verb: str, *arguments: Any, of_sessions: bool = False) -> Any:
        """Call a verb on both stores, and compare."""

        async def call() -> tuple[Any, Any]:
            subject, reference = (self.store, self.reference) if of_sessions else (self.store.logs, self.reference.logs)
            return await getattr(subject, verb)(*arguments), await getattr(reference, verb)(*arguments)

        found, expected = self.runner.run(call())
        assert shown(found) == shown(expected), verb
        if not of_sessions and verb not in ("look", "read", "owned"):
            self.last = verb, arguments
        return expected

    def entry(self, log: Log, step: int, epoch: int, value: bytes, key: bytes | None, run: bytes | None) -> Entry:
        """Make an entry at a place near the top."""
        found = self.runner.run(self.reference.logs.look([log.place], 0, 0))
        top = found.top if found is not None else (1, 0)
        return Entry((max(top[0] + epoch, 0), max(top[1] + step, 0)), value, run, key, len(value))

    def note(self, log: Log, entry: Entry) -> None:
        """Note what was acknowledged."""
        listed = self.acknowledged.setdefault(log.log, [])
        if (entry.position, entry.value) not in listed:
            listed.append((entry.position, entry.value))

    def log(self, number: int) -> Log:
        """Return a log that was made once, mostly one of the last, as somebody of now or of before sees it."""
        log = self.logs[-1 - number % len(self.logs)]
        if log.place.session is None:
            return log
        return Log(log.place._replace(verifier=self.verifiers[-1 - number % 3 % len(self.verifiers)]), log.log)

    # --- histories ---

    @initialize()
    def begin_with_a_session(self) -> None:
        """Begin with a record, and a conversation of each kind."""
        record = Record(self.verifiers[0], self.clock(), 1e6, self.clock() + 1e6, {ABOUT: b""}, Extra(None))
        assert self.both("create", self.session, record, of_sessions=True) is True
        for which in range(2):
            self.create(which, None)

    @rule(which=st.integers(0, 1), keep=keeps)
    def create(self, which: int, keep: float | None) -> None:
        """Make a conversation, or learn of it."""
        place = self.places[which]
        if place.session is not None:
            place, keep = place._replace(verifier=self.verifiers[-1]), None
        log, owner = secrets.token_bytes(16), place.session or self.owner
        if self.both("create", place, log, owner, b"about", keep).log == log:
            self.logs.append(Log(place, log))

    @rule(number=numbers, step=steps, epoch=epochs, value=values, key=keys, keep=keeps, of=st.integers(-1, 2))
    def append(self, number: int, step: int, epoch: int, value: bytes, key: bytes | None, keep: Any, of: int) -> None:
        """Append, for a request or for a run."""
        log = self.log(number)
        run = self.runs[-1 - of].run if 0 <= of < len(self.runs) else None
        entry = self.entry(log, step, epoch, value, key, run)
        (appended,) = self.both("append", [Append(log, entry, None if log.place.session else keep)])
        if appended.outcome is Outcome.DONE:
            self.note(log, entry)

    @rule(number=numbers, back=st.integers(-1, 4), epoch=epochs, is_tail=st.booleans())
    def cut(self, number: int, back: int, epoch: int, is_tail: bool) -> None:
        """Cut the tail or the head."""
        log = self.log(number)
        at = self.entry(log, -back, epoch, b"", None, None).position
        cut = self.both("cut", log, *((at, None) if is_tail else (None, at)))
        if cut.outcome is Outcome.DONE:
            kept = self.acknowledged.get(log.log, [])
            self.acknowledged[log.log] = [one for one in kept if (one[0] <= at if is_tail else one[0] >= at)]

    @rule(number=numbers, version=st.integers(1, 3), about=values)
    def describe(self, number: int, version: int, about: bytes) -> None:
        """Say something about it."""
        self.both("describe", self.log(number), about, version)

    @rule(number=numbers, exactly=st.booleans())
    def delete(self, number: int, exactly: bool) -> None:
        """Delete."""
        log = self.log(number)
        self.both("delete", log.place, *((log.log,) if exactly else ()))

    # --- runs ---

    @rule(
        number=numbers, known=st.integers(-3, 2), seconds=leases, kept=leases, value=st.none() | values, key=keys,
        step=steps, of=st.integers(-4, 2),
    )  # fmt: skip
    def begin(
        self, number: int, known: int, seconds: float, kept: float, value: Any, key: Any, step: int, of: int
    ) -> None:
        """Begin a run, a new one or a known one, with a question or without, after a certain one or any."""
        log = self.log(number)
        run = self.runs[-1 - known].run if 0 <= known < len(self.runs) else secrets.token_bytes(16)
        entry = None if value is None else self.entry(log, step, 0, value, key, None)
        instead_of = self.runs[-1 - of].run if 0 <= of < len(self.runs) else None
        begin = Begin(Run(log, run), seconds, kept, secrets.token_bytes(16), entry, instead_of)
        if self.both("begin", begin).outcome is Outcome.DONE:
            self.runs.append(Run(log, run))
            if entry is not None:
                self.note(log, entry)

    @precondition(lambda self: self.runs)
    @rule(which=st.lists(numbers, min_size=1, max_size=3, unique=True), seq=st.integers(0, 12), value=values)
    def write(self, which: list[int], seq: int, value: bytes) -> None:
        """Write to several runs."""
        runs = {self.runs[-1 - number % len(self.runs)] for number in which}
        self.both("write", [Batch(run, (1, seq), value, len(value)) for run in sorted(runs)])

    @precondition(lambda self: self.runs)
    @rule(number=numbers, is_lost=st.booleans(), lingers=leases, value=values, answer=st.none() | values, step=steps)
    def end(self, number: int, is_lost: bool, lingers: float, value: bytes, answer: Any, step: int) -> None:
        """End a run, with an answer or without."""
        run = self.runs[-1 - number % len(self.runs)]
        entry = None if answer is None else self.entry(run.log, step, 0, answer, run.run, run.run)
        before = self.top(run.log)
        ended = self.both("end", End(run, value, lingers, entry, is_lost))
        if ended.outcome is Outcome.DONE and entry is not None and ended.top != before:
            self.note(run.log, entry)

    @precondition(lambda self: self.runs)
    @rule(seconds=leases)
    def renew(self, seconds: float) -> None:
        """Renew all that there were."""
        self.both("renew", list(dict.fromkeys(self.runs[-4:])), seconds)

    @precondition(lambda self: self.last is not None)
    @rule()
    def again(self) -> None:
        """Do the last verb again, as after a lost reply."""
        assert self.last is not None
        self.both(self.last[0], *self.last[1])

    # --- around them ---

    @rule(seconds=st.sampled_from((0.0, 20.0, 60.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(kind=st.sampled_from(("regenerate", "login", "relogin")), tag=st.sampled_from(TAGS))
    def renew_session(self, kind: str, tag: bytes) -> None:
        """Give the session another verifier, or a user."""
        now, new, old = self.clock(), secrets.token_bytes(32), self.verifiers[-1]
        if kind == "regenerate":
            done = self.both("regenerate", self.session, old, new, now + 1e6, Change(now), of_sessions=True)
        else:
            record = Record(new, now, 1e6, now + 1e6, {ABOUT: b""}, Extra(tag))
            keep = None if kind == "relogin" else frozenset[str]()
            login = Login(record, (tag,), now, until=now + 1e6, keep=keep)
            done = self.both("login", self.session, old, login, of_sessions=True).outcome.name == "DONE"
        if done:
            self.verifiers.append(new)

    @precondition(lambda self: self.shared)
    @rule()
    def begin_anew(self) -> None:
        """Go on in another process."""
        if len(self.crashed) < 2:
            self.crashed.append(self.store)
            self.store = self.factory(self.clock)
            self.runner.run(self.store.open())

    def top(self, log: Log) -> tuple[int, int] | None:
        """Return the top of a log of now."""
        found = self.runner.run(self.reference.logs.look([log.place], 0, 0))
        return found.top if found is not None and found.log.log == log.log else None

    @invariant()
    def shows_what_was_acknowledged(self) -> None:
        """Look at both conversations, at what their owners have, and at all runs."""
        for place in self.places:
            found: Look | None = self.both("look", [place], 1000, ALL)
            if found is not None:
                written = [(entry.position, entry.value) for entry in found.entries]
                assert written == self.acknowledged.get(found.log.log, [])
                assert [position for position, _ in written] == sorted({position for position, _ in written})
        for owner in (self.owner, self.session):
            self.both("owned", owner, 10, None)
        if self.runs:
            self.both("read", dict.fromkeys(self.runs[-4:], (0, 0)), ALL)


def shown(value: Any) -> Any:
    """Return an outcome without what goes by the server's clock: of a lease only whether it is over."""
    if isinstance(value, Status):
        return value._replace(seconds_left=value.seconds_left > 0)
    if isinstance(value, Begun | Ended):
        return value._replace(status=shown(value.status))
    if isinstance(value, Look):
        return value.log.log, *value[1:-1], shown(value.run)
    if isinstance(value, Appended):
        return value
    return dict(value) if isinstance(value, Mapping) else value


def check_logs(factory: Factory, *, examples: int = 50, shared: bool = False) -> None:
    """Run the state machine over a store.

    :param factory: makes a store by a clock.
    :param examples: how many sequences of verbs are tried.
    :param shared: whether what one store has is in the next one of this factory.
    """
    machine: Any = partial(LogMachine, factory, shared=shared)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink), print_blob=False,
        ),
    )  # fmt: skip
