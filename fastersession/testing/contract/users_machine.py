"""One state machine over all stores of users: any sequence of logins, limits, revocations, ends and claims.

Rules of residence: hypothesis; the outcomes are compared with those of ``MemoryStore``, which the tests beside this
judge. One caller at a time: races have tests of their own.

    check_users(lambda clock: MyStore(url, clock=clock), examples=30)
"""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ...stores.base import Change, Extra, Record, Renewal
from ...stores.memory import MemoryStore
from ...stores.users import ABOUT, CLAIM_SECONDS, Ended, Login, Outcome
from ..clock import FakeClock
from .subject import START, Factory, fields

RECORDS = range(4)
RETENTION = 1e6  # never over here: when it is goes by the clock of a server

records = st.sampled_from(RECORDS)
users = st.integers(0, 1)
verifiers = st.sampled_from(("own", "own", "own", "before", "another"))
contents = st.dictionaries(st.sampled_from(("a", "b", "~1", "~2")), st.sampled_from((b"", b"x" * 40)), max_size=3)
retentions = st.sampled_from((None, RETENTION))
times = st.sampled_from((60.0, 500.0, 3_000.0))


class UserMachine(RuleBasedStateMachine):
    """Every verb has the reference's outcome, and every load and list shows what the reference has."""

    # Invariant: after any sequence of verbs, each outcome, record and list is the reference's; a session is in the list
    # of its user and in no other; what has ended is claimed by one until its claim is over, and never opens again.

    def __init__(self, factory: Factory, *, shared: bool) -> None:
        super().__init__()
        self.factory, self.shared = factory, shared
        self.clock = FakeClock(START)
        self.ids = [secrets.token_bytes(16) for _ in RECORDS]
        self.every = list(self.ids)
        # Each user has a tag for each of two keys.
        self.tags = [tuple(b"\x01" + secrets.token_bytes(15) for _ in range(2)) for _ in range(2)]
        self.runner = asyncio.Runner()
        self.reference = MemoryStore(clock=self.clock)
        self.store = factory(self.clock)
        self.left: list[Any] = []
        self.runner.run(self.store.open())

    def teardown(self) -> None:
        """Remove what is there, and close."""

        async def close() -> None:
            for record_id in self.every:
                await self.store.delete(record_id)
                await self.store.settle(record_id)
            for store in (self.store, *self.left):
                await store.close()

        self.runner.run(close())
        self.runner.close()

    # --- how it works ---

    def both(self, verb: str, *arguments: Any) -> Any:
        """Call a verb on both stores, and compare."""

        async def call() -> tuple[Any, Any]:
            return await getattr(self.store, verb)(*arguments), await getattr(self.reference, verb)(*arguments)

        found, expected = self.runner.run(call())
        assert found == expected, verb
        return expected

    def free_id(self, record: int) -> bytes:
        """Return an id for a new record: one that is taken, or one that nobody has had."""
        if self.runner.run(self.reference.load(self.ids[record])) is None:
            self.ids[record] = secrets.token_bytes(16)
            self.every.append(self.ids[record])
        return self.ids[record]

    def verifier(self, record: int, which: str) -> bytes:
        """Return a verifier of a record: as it is now, as it was before, or of nobody."""
        there = self.runner.run(self.reference.load(self.ids[record]))
        own = {"own": there.verifier, "before": there.verifier_before} if there is not None else {}
        return own.get(which) or b"?" * 32

    # --- sessions ---

    @rule(record=records, idle=times, life=times, content=contents, retention=retentions)
    def create(self, record: int, idle: float, life: float, content: dict[str, bytes], retention: float | None) -> None:
        """Create a guest's."""
        now = self.clock()
        new = Record(secrets.token_bytes(32), now, idle, now + life, {ABOUT: b"", **content}, Extra(None, retention))
        self.both("create", self.free_id(record), new)

    @rule(record=records, which=verifiers, content=contents, life=st.none() | times)
    def update(self, record: int, which: str, content: dict[str, bytes], life: float | None) -> None:
        """Save, and perhaps move the end."""
        now = self.clock()
        renewal = None if life is None else Renewal(now + life, now + 3_000.0)
        change = Change(now, sets=content, renewal=renewal)
        self.both("update", self.ids[record], self.verifier(record, which), change)

    @rule(record=records, which=verifiers)
    def regenerate(self, record: int, which: str) -> None:
        """Give a session another verifier."""
        now, new = self.clock(), secrets.token_bytes(32)
        verifier = self.verifier(record, which)
        self.both("regenerate", self.ids[record], verifier, new, now + 3_000.0, Change(now))

    @rule(record=records, reason=st.sampled_from(("invalidated", "revoked")))
    def delete(self, record: int, reason: str) -> None:
        """Log out."""
        self.both("delete", self.ids[record], reason)

    @rule(seconds=st.sampled_from((0.0, 1.0, 30.0, 60.0, 400.0)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    # --- users ---

    @rule(
        record=records, user=users, which=st.none() | verifiers, keep=st.sampled_from((None, (), ("a", "~1"))),
        content=contents, since=st.sampled_from((0.0, 0.0, 10.0)), strictly=st.booleans(), swapped=st.booleans(),
        limit=st.sampled_from((None, None, 1, 2)), evicts=st.booleans(), retention=retentions, idle=times,
    )  # fmt: skip
    def login(
        self, record: int, user: int, which: str | None, keep: tuple[str, ...] | None, content: dict[str, bytes],
        since: float, strictly: bool, swapped: bool, limit: int | None, evicts: bool, retention: float | None,
        idle: float,
    ) -> None:  # fmt: skip
        """Log a user in, on a new record or on one that is there, with one key or the other."""
        now, record_id = self.clock(), self.ids[record] if which is not None else self.free_id(record)
        there = self.runner.run(self.reference.load(record_id))
        tags = self.tags[user][::-1] if swapped else self.tags[user]
        if which is not None and there is not None and there.extra.tag not in (None, *tags):
            return  # another user's session is retired, and a new one made
        keep = keep or () if there is None or there.extra.tag is None else None  # ``None``: the user stays the same
        new = Record(
            secrets.token_bytes(32), now, idle, now + 3_000.0, {ABOUT: b"!", **content}, Extra(tags[0], retention)
        )
        login = Login(
            new, tags, now - since, strictly, now + 3_000.0, None if keep is None else frozenset(keep), (), None,
            limit, evicts,
        )  # fmt: skip
        verifier = None if which is None else self.verifier(record, which)

        async def call() -> tuple[Any, Any]:
            args = record_id, verifier, login
            return await self.store.login(*args), await self.reference.login(*args)

        found, expected = self.runner.run(call())
        if expected.outcome is not Outcome.DONE:  # where several reasons apply, any may be given
            found = found._replace(outcome=expected.outcome) if found.outcome is not Outcome.DONE else found
        assert (found.outcome, {*found.evicted}) == (expected.outcome, {*expected.evicted})
        if found.record_is_gone:  # a store may have to pay for a refusal with the record
            self.runner.run(self.reference.delete(record_id))
            self.runner.run(self.reference.settle(record_id))

    @rule(record=records, which=verifiers)
    def retire(self, record: int, which: str) -> None:
        """Put another session in the place of one."""
        self.both("retire", self.ids[record], self.verifier(record, which), self.clock() + 60.0)

    @rule(user=users, kept=st.none() | records)
    def revoke(self, user: int, kept: int | None) -> None:
        """Log a user out everywhere, but here."""

        async def call() -> tuple[Any, Any]:
            args = self.tags[user], None if kept is None else self.ids[kept], self.clock()
            return await self.store.revoke(*args), await self.reference.revoke(*args)

        found, expected = self.runner.run(call())
        assert sorted(found) == sorted(expected)

    @rule(record=records, which=verifiers)
    def take(self, record: int, which: str) -> None:
        """Take what was flashed."""
        self.both("take", self.ids[record], self.verifier(record, which), "~")

    # --- what has ended ---

    @rule(settled=st.booleans())
    def tell(self, settled: bool) -> None:
        """Claim all that has ended, and settle it or not."""

        async def claims(store: Any) -> dict[bytes, Any]:
            found: dict[bytes, Any] = {}
            for record_id in self.every * 3:  # a claim may find only what other tests have left in a server
                while claimed := await store.due(record_id):
                    assert not {one.record_id for one in claimed} & {*found}
                    found |= {one.record_id: shown(one) for one in claimed if one.record_id in self.every}
            return found

        found, expected = self.runner.run(claims(self.store)), self.runner.run(claims(self.reference))
        assert found == expected
        for record_id in found if settled else ():
            self.runner.run(self.store.settle(record_id))
            self.runner.run(self.reference.settle(record_id))
        if not settled:
            self.clock.advance(CLAIM_SECONDS)

    @precondition(lambda self: self.shared)
    @rule()
    def begin_anew(self) -> None:
        """Go on in another process."""
        if len(self.left) < 2:
            self.left.append(self.store)
            self.store = self.factory(self.clock)
            self.runner.run(self.store.open())

    @invariant()
    def shows_the_same(self) -> None:
        """Compare records, lists, and which have ended."""

        async def state(store: Any) -> tuple[Any, ...]:
            loaded = [without_nobodys(fields(await store.load(record_id))) for record_id in self.ids]
            lists = [sorted(record_id for record_id, _ in await store.find(tags)) for tags in self.tags]
            ended = await store.ended(self.ids)
            return loaded, lists, {*ended}, {key for key, reason in ended.items() if reason == "replaced" and loaded}

        found, expected = self.runner.run(state(self.store)), self.runner.run(state(self.reference))
        assert found[:3] == expected[:3]
        alive = [record_id for record_id, there in zip(self.ids, expected[0], strict=True) if there is not None]
        assert found[3] & {*alive} == expected[3] & {*alive}


def without_nobodys(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Leave out the verifier of a retired record, which is nobody's."""
    retired = record is not None and record["regenerated_at"] is not None and record["verifier_before"] is None
    return {**record, "verifier": b""} if record is not None and retired and record["tag"] is None else record


def shown(ended: Ended) -> tuple[Any, ...]:
    """Return what an end says."""
    return ended.reason, ended.redelivered, dict(ended.record.attributes)


def check_users(factory: Factory, *, examples: int = 50, shared: bool = False) -> None:
    """Run the state machine over a store.

    :param factory: makes a store by a clock.
    :param examples: how many sequences of verbs are tried.
    :param shared: whether what one store has is in the next one of this factory.
    """
    machine: Any = partial(UserMachine, factory, shared=shared)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink), print_blob=False,
        ),
    )  # fmt: skip
