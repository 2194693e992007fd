"""SQLStore's verbs of users when connections drop between two statements, answers are lost, and callers give up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from clocks import FakeClock
from over_sql import Place
from sqlalchemy.exc import DBAPIError
from store_subject import OWNER, V1, V2, V3, content, make
from test_sql_users import TAG, listed, logged_in, login_of

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Renewal
from fastersession.stores.sql import SQLStore, exchange, mysql, statements
from fastersession.stores.sql.records import Write
from fastersession.stores.users import LoginOutcome, NotConfirmed, Outcome
from fastersession.testing.contract.cancelled import cancelled

DONE = Outcome.DONE
MOST_STEPS = 20  # more than any verb has
Act = Callable[[SQLStore, bytes], Awaitable[Any]]


class Steps:
    """Calls ``fault`` before the n-th exchange from now on, of each attempt or of the first one only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None]) -> None:
        self.fault, self.at, self.left, self.seen = fault, -1, 0, 0
        functions = {name: getattr(exchange, name) for name in ("execute", "execute_several")}
        for module, name in (
            (exchange, "execute"), (exchange, "execute_several"), (statements, "execute"), (mysql, "execute"),
            (mysql, "execute_several"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self._stepping(functions[name]))

    def arm(self, at: int, times: int) -> None:
        self.at, self.left, self.seen = at, times, 0

    def _stepping(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            self.seen += 1
            if self.left and self.seen > self.at:
                self.left -= 1
                self.seen = 0  # what comes next is another attempt's first
                self.fault()
            return function(*arguments)

        return step


@pytest.fixture
def steps(place: Place, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Give a way to lose all connections before an exchange."""
    return Steps(monkeypatch, place.server.drop_clients)


async def opens_unlisted(store: SQLStore, ids: Sequence[bytes], verifiers: Sequence[bytes]) -> list[bytes]:
    """Return what somebody can open that is his, and in no list."""
    found = [(one, await store.load(one)) for one in ids]
    his = [one for one, record in found if record and record.verifier in verifiers and record.extra.tag is not None]
    return [one for one in his if one not in await listed(store)]


LOGINS: dict[str, Act] = {
    "new": lambda store, one: store.login(one, None, login_of(store, verifier=V2, attributes={"a": b"2"}, limit=2)),
    "anonymous": lambda store, one: store.login(
        one, V1, login_of(store, verifier=V2, attributes={"a": b"2"}, keep=frozenset({"b"}), limit=2)
    ),
}


@pytest.mark.parametrize("kind", LOGINS)
def test_s10_a_connection_lost_between_two_steps_of_a_login(place: Place, steps: Steps, kind: str) -> None:
    """S10: once, it is not noticed; twice, nothing of it is there: no record of his, no other's end, no attribute."""

    async def scenario(store: SQLStore) -> None:
        unconfirmed: list[bool] = []
        for times in (1, 2):
            for at in range(MOST_STEPS):
                others, one = [await logged_in(store) for _ in range(2)], secrets.token_bytes(16)
                if kind == "anonymous":
                    await make(store, one, a=b"1", b=b"1", c=b"1")
                steps.arm(at, times)
                try:
                    outcome = await LOGINS[kind](store, one)
                except StoreError as error:
                    assert times == 2
                    unconfirmed.append(isinstance(error.__cause__, NotConfirmed))
                    assert {*await listed(store)} == {*others}
                    record = await store.load(one)
                    assert (record is None) is (kind == "new")
                    assert record is None or (record.verifier, record.extra.tag) == (V1, None)
                    assert record is None or dict(record.attributes) == {"a": b"1", "b": b"1", "c": b"1"}
                else:
                    assert outcome == LoginOutcome(DONE, (others[0],))
                    assert {*await listed(store)} == {one, others[1]}
                    kept = {"b": b"1"} if kind == "anonymous" else {}
                    assert await content(store, one) == {"!": b"about", "a": b"2", **kept}
                assert await opens_unlisted(store, [one, *others], (V1, V2)) == []
                unreached, steps.left = steps.left, 0
                await store.revoke((TAG,), None, store.clock())
                if unreached:
                    break
            assert 4 <= at < MOST_STEPS
        # only of a commit it is not known whether it was heard, and only a new record may go for that
        assert unconfirmed == [False] * (at - 1) + [kind == "new"]

    place.run(scenario)


def test_s10_a_connection_lost_between_two_steps_of_a_revocation(place: Place, steps: Steps) -> None:
    """S10: all of it or nothing, the mark too; called again, it ends the rest."""

    async def scenario(store: SQLStore) -> None:
        for at in range(MOST_STEPS):
            ids = [await logged_in(store), await logged_in(store, retention=60.0), await logged_in(store)]
            steps.arm(at, 2)
            try:
                ended = await store.revoke((TAG,), ids[2], store.clock())
            except StoreError:
                assert {*await listed(store)} == {*ids}
                early = login_of(store, authenticated_at=0.0)
                assert (await store.login(OWNER, None, early)).outcome is (DONE if at == 0 else Outcome.REVOKED) or at
                await store.delete(OWNER)
                ended = await store.revoke((TAG,), ids[2], store.clock())
            assert {*ended} == {*ids[:2]}
            assert await listed(store) == [ids[2]]
            unreached, steps.left = steps.left, 0
            await store.delete(ids[2])
            if unreached:
                break
        assert 4 <= at < MOST_STEPS

    place.run(scenario)


# --- answers that are lost ---


class UnheardError(DBAPIError):
    """The connection was lost after the server had done its work, before it could say so."""

    def __init__(self) -> None:
        super().__init__("statement", {}, RuntimeError("lost"), connection_invalidated=True)


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give what loses the answers of the next commits. Each is done."""
    function, lost = exchange.execute, [0]

    def execute(connection: Any, text: str, *arguments: Any) -> Any:
        done = function(connection, text, *arguments)
        if text == "commit" and lost[0]:
            lost[0] -= 1
            raise UnheardError
        return done

    monkeypatch.setattr(exchange, "execute", execute)
    return lambda times: lost.__setitem__(0, times)


@pytest.mark.parametrize("kind", LOGINS)
def test_a_repeated_login_that_finds_its_own_outcome_has_succeeded(place: Place, unheard: Any, kind: str) -> None:
    """It says whom it has evicted the first time, and evicts nobody more."""

    async def scenario(store: SQLStore) -> None:
        others, one = [await logged_in(store) for _ in range(2)], secrets.token_bytes(16)
        if kind == "anonymous":
            await make(store, one, b=b"1")
        unheard(1)
        assert await LOGINS[kind](store, one) == LoginOutcome(DONE, (others[0],))
        assert {*await listed(store)} == {others[1], one}
        assert (await store.login(one, None, login_of(store, verifier=V3))).outcome is Outcome.ABSENT

    place.run(scenario)


def test_s10_a_login_that_may_be_there_is_not_confirmed(place: Place, steps: Steps, unheard: Any) -> None:
    """Where the answer to its commit was lost, and then the server: its record is listed, and has to go."""

    async def scenario(store: SQLStore) -> None:
        one = secrets.token_bytes(16)
        here = store._engines.here()
        attempts, tries = here.attempts, iter(range(10))

        async def failing(work: Any, *more: Any) -> Any:
            def twice(connection: Any) -> Any:
                if next(tries):
                    raise UnheardError
                return work(connection)

            return await attempts(twice, *more)

        here.attempts = failing  # type: ignore[method-assign]
        unheard(1)
        with pytest.raises(StoreError, match="RuntimeError") as caught:
            await LOGINS["new"](store, one)
        here.attempts = attempts  # type: ignore[method-assign]
        assert isinstance(caught.value.__cause__, NotConfirmed)
        assert isinstance(caught.value.__cause__.__cause__, RuntimeError)
        assert await listed(store) == [one]

    place.run(scenario)


def test_a_repeated_retirement_that_finds_its_own_outcome_has_succeeded(place: Place) -> None:
    """The secret that nobody has is its own."""

    async def scenario(store: SQLStore) -> None:
        one = await logged_in(store)
        retire, lost = store._users.retire, iter([UnheardError()])

        def once(*arguments: Any, **named: Any) -> bool:
            done = retire(*arguments, **named)
            for error in lost:
                raise error
            return done

        store._users.retire = once  # type: ignore[method-assign]
        assert await store.retire(one, V1, store.clock() + 60) is True
        assert await store.retire(one, V1, store.clock() + 60) is False

    place.run(scenario)


# --- callers that give up ---


@pytest.fixture(params=["at the store", "in an exchange"])
def bare(request: pytest.FixtureRequest) -> Callable[[SQLStore], None]:
    """Let a caller's cancellation reach the driver, which the store keeps it from as long as it can; or not."""

    def to_the_driver(store: SQLStore) -> None:
        here = store._engines.here()

        async def alone(_: bytes, write: Write) -> Any:
            return await here.attempts(write.work, write.found)

        here.alone, here.do = alone, here.attempts  # type: ignore[method-assign]

    def as_it_is(_: SQLStore) -> None:
        return None

    return to_the_driver if "exchange" in request.param else as_it_is


def verbs(store: SQLStore, one: bytes, other: bytes) -> Iterator[Callable[[], Awaitable[Any]]]:
    """Give each verb on a record that is his, with V1, and another one."""
    at = store.clock() + 60
    yield lambda: store.login(secrets.token_bytes(16), None, login_of(store, verifier=V2, attributes={"a": b"x" * 9}))
    yield lambda: store.login(one, V1, login_of(store, verifier=V2, attributes={"a": b"2"}, keep=frozenset()))
    yield lambda: store.login(one, V1, login_of(store, verifier=V2, attributes={"a": b"2"}, limit=1))
    yield lambda: store.retire(one, V1, at)
    yield lambda: store.find((TAG,))
    yield lambda: store.revoke((TAG,), other, store.clock())
    yield lambda: store.ended([one, other])
    yield lambda: store.take(one, V1, "~")
    yield lambda: store.update(one, V1, Change(store.clock(), {"a": b"2"}, renewal=Renewal(at, at)))
    yield lambda: store.delete(one, "logged out")
    yield lambda: store.due(one)
    yield lambda: store.settle(one)


def test_s9_verbs_of_users_are_cancelled_at_each_await(place: Place, bare: Callable[[SQLStore], None]) -> None:
    """S9: wholly done or not at all, a little later maybe; whoever comes next gets its own."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        bare(store)
        kept = await logged_in(store, tags=(b"\x09" * 16,), attributes={"kept": b"1"})
        for number in range(12):
            at = 0
            while True:
                given = {"attributes": {"a": b"1", "~": b"1"}}
                one, other = await logged_in(store, **given), await logged_in(store, retention=60.0, **given)
                was_cancelled = await cancelled([*verbs(store, one, other)][number](), at)
                while store._engines.here()._running:
                    await asyncio.sleep(0)
                listed_now = await listed(store)
                for record_id in (one, other):
                    record = await store.load(record_id)
                    assert (record is None or record.extra.tag is None) is (record_id not in listed_now)
                    assert (
                        record is None
                        or record.attributes.get("a") == (b"2" if record.version > 1 else b"1")
                        or (record.version == 2 and "~" not in record.attributes)
                    ), (number, at)
                assert await content(store, kept) == {"!": b"about", "kept": b"1"}
                await store.revoke((TAG,), None, store.clock())
                assert await listed(store) == []
                at += 1
                assert at < 500
                if not was_cancelled:
                    break

    place.run(scenario, clock=clock)
