"""SQLiteStore and users: what shares a transaction, what is refused, fails or is given up, and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import user_races
from clocks import FakeClock
from driver import in_loop
from over_sqlite import run, traced
from store_subject import ID, START, V1, V2, Change, Subject, content, make, opened

from fastersession.errors import StoreError
from fastersession.stores.base import Extra, Record
from fastersession.stores.sqlite import SQLiteStore
from fastersession.stores.sqlite import store as sqlite
from fastersession.stores.users import ABOUT, MARK_SECONDS, Login, Outcome
from fastersession.testing.contract.cancelled import cancelled
from fastersession.testing.contract.users import V, W, X, listed, logged_in, login, tags_of

CODE = "from fastersession.stores.sqlite import SQLiteStore; store = SQLiteStore({!r})"


def dump(path: Path) -> list[str]:
    """All that is in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def over(path: Path) -> Callable[[Callable[[], float]], SQLiteStore]:
    return lambda clock: SQLiteStore(path, clock=clock)


# --- at once ---


def test_u1_u4_logins_revocations_and_logouts_at_once(over: Any) -> None:
    """U1 to U4, in rounds of two stores: see user_races."""
    user_races.check(over, rounds=120)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_u1_u4_two_processes_at_once(path: Path) -> None:
    """U1 to U4, in rounds of two processes: see user_races."""
    user_races.check_processes(SQLiteStore(path), CODE.format(str(path)), rounds=500)


@in_loop
async def test_a_login_that_is_refused_writes_nothing_and_its_company_is_served(
    over: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in one transaction: refused for each reason, between writes of others, who have their outcomes."""
    statements = traced(monkeypatch)
    async with opened(over) as subject:
        tags, full = tags_of(), tags_of()
        await subject.store.revoke(tags, None, subject.clock() + 10)
        await logged_in(subject, full)
        anonymous, other = await subject.insert({"cart": b"1"}), await subject.insert({})
        untouched = dump(path)
        refusals = [
            login(subject, tags),
            login(subject, tags, anonymous, V, keep=frozenset({"cart"})),
            login(subject, full, limit=1, evicts=False),
            login(subject, full, anonymous, V, keep=frozenset(), limit=1, evicts=False),
            login(subject, full, anonymous, X, keep=frozenset()),
            login(subject, full, anonymous),
        ]
        statements.clear()
        refused = await asyncio.gather(*refusals)
        kinds = [outcome.outcome.name for _, outcome in refused]
        assert kinds == ["REVOKED", "REVOKED", "FULL", "FULL", "ABSENT", "ABSENT"]
        assert statements.count("BEGIN IMMEDIATE") == 1
        assert not [one for one in statements if one.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))]
        assert dump(path) == untouched
        statements.clear()
        saves = [subject.update(other, V, sets={f"{number}": b"x"}) for number in range(6)]
        mixed = [call for pair in zip(saves, (login(subject, tags) for _ in range(6)), strict=True) for call in pair]
        outcomes = await asyncio.gather(*mixed)
        assert outcomes[::2] == [True] * 6
        assert {outcome.outcome for _, outcome in outcomes[1::2]} == {Outcome.REVOKED}
        assert statements.count("BEGIN IMMEDIATE") == 1
        assert len(await subject.attributes(other)) == 6


@in_loop
async def test_a_login_that_fails_undoes_no_others(over: Any) -> None:
    """What cannot be written is its own caller's error; logins and saves beside it are done."""
    async with opened(over) as subject:
        tags, other = tags_of(), await subject.insert({})
        lost: Any = {"attributes": {"a": object()}}
        calls = [login(subject, tags), subject.update(other, V, sets={"a": b"1"}), login(subject, tags, **lost)]
        first, saved, failed, last = await asyncio.gather(*calls, login(subject, tags), return_exceptions=True)
        assert isinstance(failed, StoreError)
        assert saved is True
        assert {*await listed(subject, tags)} == {first[0], last[0]}  # type: ignore[index]


# --- failing and given up at each step ---


class Failing:
    """A connection whose n-th statement fails, as on a disk that does."""

    def __init__(self, inner: sqlite3.Connection, fault: dict[str, int]) -> None:
        self.inner, self.fault = inner, fault

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        self.fault["left"] -= 1
        if self.fault["left"] == 0:
            raise sqlite3.OperationalError("disk I/O error")
        return self.inner.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def fault(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What makes the writer fail: ``left`` statements from now on."""
    fault = {"left": 0}
    connect = sqlite.connect_writer
    monkeypatch.setattr(sqlite, "connect_writer", lambda path: Failing(connect(path), fault))
    return fault


async def prepared(subject: Subject) -> dict[str, Any]:
    """A user with three sessions, of which one is to be told of; a session of nobody; and another that has ended."""
    tags, now = tags_of(), subject.clock()
    kept, gone = secrets.token_bytes(16), secrets.token_bytes(16)
    for record_id in (kept, gone):
        record = Record(W, now, 600.0, now + 3_000.0, {ABOUT: b"about", "~1": b"flash"}, Extra(tags[0], 9e4))
        assert (await subject.store.login(record_id, None, Login(record, tags, now))).outcome is Outcome.DONE
    await subject.delete(gone)
    mine = []
    for _ in range(2):
        subject.clock.advance(1)
        mine.append(await logged_in(subject, tags, attributes={"a": b"1", "b": b"2"}))
    anonymous = await subject.insert({"cart": b"1", "other": b"2"})
    subject.clock.advance(1)
    return {"tags": tags, "kept": kept, "mine": mine, "anonymous": anonymous}


Act = Callable[[Subject, dict[str, Any]], Any]
VERBS: dict[str, Act] = {
    "a login on a new record": lambda subject, made: login(subject, made["tags"], limit=2, attributes={"a": b"1"}),
    "a login of an anonymous session": lambda subject, made: login(
        subject, made["tags"], made["anonymous"], V, keep=frozenset({"cart"}), limit=2, attributes={"a": b"1"}
    ),
    "a login again": lambda subject, made: login(subject, made["tags"], made["mine"][0], W, X, deletes=("a",)),
    "a revocation": lambda subject, made: subject.store.revoke(made["tags"], made["mine"][0], subject.clock()),
    "retiring": lambda subject, made: subject.store.retire(made["mine"][0], W, subject.clock() + 60),
    "a logout that is to be told": lambda subject, made: subject.delete(made["kept"], "logged out"),
    "taking": lambda subject, made: subject.store.take(made["kept"], W, "~"),
    "claiming": lambda subject, made: subject.store.due(),
}


@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_s10_a_disk_that_fails_at_any_step(over: Any, path: Path, fault: dict[str, int], verb: str) -> None:
    """S10: an error, and the file is as it was before; nothing opens that is not listed."""
    async with opened(over) as subject:
        for step in itertools.count(1):
            made = await prepared(subject)
            before = dump(path)
            fault["left"] = step
            try:
                await VERBS[verb](subject, made)
            except StoreError:
                assert fault["left"] <= 0
                assert dump(path) == before
                await VERBS[verb](subject, made)
                continue
            assert dump(path) != before
            break
        assert step > 4


async def settled(subject: Subject) -> None:
    """Wait until what was given up has been done or left, for jobs are done in order."""
    assert await subject.touch(secrets.token_bytes(16), V, 0.0) is False


@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_s9_cancelled_at_each_await(over: Any, path: Path, verb: str) -> None:
    """S9: what is given up has happened as a whole or not at all, and who comes next has his own outcome."""
    async with opened(over) as subject:
        made, before = await prepared(subject), dump(path)
        await VERBS[verb](subject, made)
        changed = len({*dump(path)} ^ {*before})
        for at in itertools.count():
            made = await prepared(subject)
            before = dump(path)
            was_cancelled = await cancelled(VERBS[verb](subject, made), at)
            await settled(subject)
            assert len({*dump(path)} ^ {*before}) in {0, changed} or verb == "claiming"  # that claims all there is
            alive = {one for one in (made["kept"], *made["mine"]) if await subject.load(one) is not None}
            assert alive - {*await listed(subject, made["tags"])} <= {made["mine"][0]} & alive
            if not was_cancelled:
                break
        assert at > 0


# --- what is on the disk, and what it costs ---


@pytest.mark.parametrize("durability", ["process", "power"])
def test_logins_and_revocations_wait_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """A power cut brings back no session that was revoked, and forgets no mark: by the setting at each COMMIT."""
    statements = traced(monkeypatch)
    modes: dict[str, str] = {}

    async def scenario(store: SQLiteStore) -> None:
        subject, tags = Subject(store, FakeClock(START), SQLiteStore), tags_of()
        store.clock = subject.clock
        record_id = await logged_in(subject, tags, attributes={"~": b"1"})
        for verb, call in {
            "take": lambda: store.take(record_id, W, "~"),
            "login": lambda: login(subject, tags),
            "renew": lambda: store.touch(record_id, W, store.clock()),
            "retire": lambda: store.retire(record_id, W, store.clock() + 60),
            "settle": lambda: store.settle(record_id),
            "revoke": lambda: store.revoke(tags, None, store.clock()),
        }.items():
            statements.clear()
            await call()
            assert statements[-1] == "COMMIT"
            modes[verb] = next(iter(one.partition("=")[2] for one in statements if "synchronous" in one), "as before")

    run(path, scenario, durability=durability)
    usual = ["NORMAL", "FULL"] * 3 if durability == "process" else ["as before"] * 6
    assert list(modes.values()) == usual


@in_loop
async def test_each_verb_is_one_transaction_of_few_statements(over: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has neither user nor retention pays for none of it: the counts of the first six are those of 0.1."""
    statements = traced(monkeypatch)
    async with opened(over) as subject:
        tags, store, kept, now = tags_of(), subject.store, Extra(None, 9e4), subject.clock()
        await logged_in(subject, tags)
        subject.clock.advance(1)  # so that it is the one which is evicted
        newest, _ = await logged_in(subject, tags), await logged_in(subject, tags)
        counts = {}
        for verb, call in {
            "create": lambda: make(store, a=b"1"),
            "update": lambda: store.update(ID, V1, Change(now, {"a": b"1"})),
            "touch": lambda: store.touch(ID, V1, now),
            "regenerate": lambda: store.regenerate(ID, V1, V2, now + 9, Change(now)),
            "lock": lambda: store.lock(ID, V2, b"o" * 16, 9.0),
            "delete": lambda: store.delete(ID),
            "create to be told of": lambda: store.create(ID, Record(V1, now, 9.0, now + 9, {"a": b"1"}, kept)),
            "delete to be told of": lambda: store.delete(ID),
            "login": lambda: login(subject, tags),
            "login at the limit": lambda: login(subject, tags, limit=4),
            "login again": lambda: login(subject, tags, newest, W, X),
            "revoke": lambda: store.revoke(tags, newest, now),
        }.items():
            statements.clear()
            await call()
            assert (statements.count("BEGIN IMMEDIATE"), statements.count("COMMIT")) == (1, 1), verb
            inside = statements[statements.index("BEGIN IMMEDIATE") + 1 : -1]
            counts[verb] = len([*itertools.groupby(inside)])  # a cascade is told in its statement's words
    assert counts == {
        "create": 3, "update": 2, "touch": 1, "regenerate": 1, "lock": 1, "delete": 1,
        "create to be told of": 3, "delete to be told of": 2,
        "login": 5, "login at the limit": 7, "login again": 4, "revoke": 3 + 3,
    }  # fmt: skip


class Steps:
    """Counts the instructions of SQLite's virtual machine in both threads: the same whatever else the machine does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        for name in ("connect_writer", "connect_reader"):
            monkeypatch.setattr(sqlite, name, partial(self._connect, getattr(sqlite, name)))

    def _connect(self, connect: Callable[[str], sqlite3.Connection], path: str) -> sqlite3.Connection:
        connection = connect(path)
        connection.set_progress_handler(self._step, 1)
        return connection

    def _step(self) -> int:
        self.count += 1
        return 0

    async def of(self, call: Any) -> tuple[int, Any]:
        self.count = 0
        result = await call
        return self.count, result


def crowd(path: Path, users: int) -> None:
    """Put users with three sessions each into the file, past the store; of each tenth one has ended and is kept."""
    with closing(sqlite3.connect(path)) as connection:
        sessions = (
            (secrets.token_bytes(16), W, tag, START, START, 600.0, 4e9, 4e9 if n or user % 10 else -4e9, 1)
            for user in range(users)
            for tag in [secrets.token_bytes(16)]
            for n in range(3)
        )
        connection.executemany(
            "INSERT INTO session (id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, version)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            sessions,
        )
        connection.commit()


@pytest.mark.parametrize("users", [2_000, pytest.param(100_000, marks=pytest.mark.long)])
@in_loop
async def test_a_users_verbs_take_the_time_of_his_sessions(
    over: Any, path: Path, monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    """List, login at the limit and revocation look at his three, however many others there are."""
    steps = Steps(monkeypatch)
    async with opened(over) as subject:
        counts = []
        for _ in range(2):
            tags = tags_of()
            for _ in range(3):
                await logged_in(subject, tags)
            finding, found = await steps.of(subject.store.find(tags))
            entering, (_, outcome) = await steps.of(login(subject, tags, limit=3))
            revoking, revoked = await steps.of(subject.store.revoke(tags, None, subject.clock()))
            assert (len(found), len(outcome.evicted), len(revoked)) == (3, 1, 3)
            counts.append((finding, entering, revoking))
            crowd(path, users)
        assert all(abs(then - before) <= 5 for before, then in zip(*counts, strict=True)), counts


# --- what is left ---


@in_loop
async def test_u5_what_has_ended_leaves_the_index(over: Any, path: Path) -> None:
    """U5: without a sweeper; logins and new sessions purge what is dead, whoever's it was."""
    async with opened(over) as subject:
        for _ in range(20):
            await logged_in(subject, tags_of(), life=10.0)
        subject.clock.advance(10)
        for _ in range(5):
            await logged_in(subject, tags_of())
        assert rows(path, "SELECT count(*) FROM session WHERE user_id IS NOT NULL") == [(20 - 10 + 5,)]
        for _ in range(5):
            await subject.insert({})
        assert rows(path, "SELECT count(*) FROM session WHERE user_id IS NOT NULL") == [(5,)]


@pytest.mark.parametrize("by", ["another revocation", "purging"])
@in_loop
async def test_u5_marks_go_after_a_month(over: Any, path: Path, by: str) -> None:
    """U5: those that refuse nothing any more, with the next one or with a purge."""
    async with opened(over) as subject:
        for _ in range(3):
            await subject.store.revoke(tags_of("one", "two"), None, subject.clock())
        subject.clock.advance(MARK_SECONDS)
        await (subject.purge() if by == "purging" else subject.store.revoke(tags_of(), None, subject.clock()))
        assert rows(path, "SELECT count(*) FROM mark") == [(6 if by == "purging" else 7,)]
        subject.clock.advance(1)
        await (subject.purge() if by == "purging" else subject.store.revoke(tags_of("one", "two"), None, 0.0))
        assert rows(path, "SELECT count(*) FROM mark") == [(0 if by == "purging" else 7 + 2 - 4,)]


@in_loop
async def test_a_list_does_not_wait_for_writers(over: Any, path: Path) -> None:
    """Nor does the question which sessions have ended."""
    async with opened(over) as subject:
        tags = tags_of()
        record_id = await logged_in(subject, tags)
        with held(path):
            assert await listed(subject, tags) == [record_id]
            assert await subject.store.ended([record_id, ID]) == {ID: ""}
        assert await content(subject.store, record_id) == {ABOUT: b"about"}


@in_loop
async def test_pages_have_every_live_session_once(over: Any) -> None:
    """Anybody's, with what each says of itself; in the order of their ids, so that what comes or goes moves nothing."""
    async with opened(over) as subject:
        tags = tags_of()
        made = {await logged_in(subject, tags, attributes={"a": b"1"}) for _ in range(5)}
        made |= {await subject.insert({"a": b"1"}) for _ in range(6)}
        await logged_in(subject, tags, life=10.0)
        await subject.delete(await subject.insert({}))
        subject.clock.advance(10)
        for count in (1, 3, 11, 12):
            found, after = await subject.store.page(None, count)
            while after is not None:
                await subject.delete(await subject.insert({}, record_id=b"\0" * 16))
                more, after = await subject.store.page(after, count)
                assert len(more) <= count
                found += more
            assert [one for one, _ in found] == sorted(made)
            assert [dict(record.attributes) for _, record in found if record.extra.tag] == [{ABOUT: b"about"}] * 5
            assert {len(record.attributes) for _, record in found if record.extra.tag is None} == {0}


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the file's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
