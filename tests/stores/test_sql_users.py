"""SQLStore's sessions of users: what only it can meet. Locks, hours, clocks that differ, and what statements cost."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from typing import Any

import pytest
import user_races
from clocks import FakeClock
from over_sql import Place
from release_0_1 import OldSQL
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from store_subject import ID, OWNER, V1, V2, V3, content, make
from test_sql_races import waits

from fastersession.stores.base import Change, Extra, Record, Renewal
from fastersession.stores.sql import SQLStore, exchange, mysql, statements
from fastersession.stores.users import ABOUT, CLAIM_SECONDS, MARK_SECONDS, Login, LoginOutcome, Outcome

DONE, ABSENT, REVOKED, _ = Outcome
TAG, OLD, HERS = (kind * 16 for kind in (b"\x01", b"\x00", b"\x02"))
DAY, HOUR = 86_400.0, 3_600.0


def login_of(store: Any, tags: tuple[bytes, ...] = (TAG,), verifier: bytes = V1, **more: Any) -> Login:
    now = store.clock()
    retention, life = more.pop("retention", None), more.pop("life", DAY)
    attributes = {ABOUT: b"about", **more.pop("attributes", {})}
    record = Record(verifier, now, more.pop("idle", DAY), now + life, attributes, Extra(tags[0], retention))
    return Login(record, tags, more.pop("authenticated_at", now), **more)


async def logged_in(store: Any, record_id: bytes | None = None, **more: Any) -> bytes:
    record_id = secrets.token_bytes(16) if record_id is None else record_id
    assert (await store.login(record_id, None, login_of(store, **more))).outcome is DONE
    return record_id


async def listed(store: Any, tag: bytes = TAG) -> list[bytes]:
    return [record_id for record_id, _ in await store.find((tag,))]


async def claimed(store: Any, first: bytes | None = None) -> list[bytes]:
    return [ended.record_id for ended in await store.due(first)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the texts that are sent to a server, one for each exchange, those of transactions too."""
    texts: list[str] = []
    modules = ((exchange, "execute"), (exchange, "execute_several"), (statements, "execute"), (mysql, "execute"),
               (mysql, "execute_several"))  # fmt: skip
    functions = {name: getattr(exchange, name) for _, name in modules}
    for module, name in modules:

        def noted(connection: Any, text: str, *arguments: Any, function: Any = functions[name]) -> Any:
            texts.append(text)
            return function(connection, text, *arguments)

        monkeypatch.setattr(module, name, noted)
    return texts


# --- at once ---


def opened(place: Place) -> Callable[[Any], SQLStore]:
    """Make the tables, and return what makes a store over them."""
    place.run(lambda store: store.load(ID))
    return lambda clock: place.store(clock=clock)


def test_u1_u4_rounds_of_two_stores(place: Place) -> None:
    """U1, U3, U4: logins, revocations, limits and keys in rotation at random moments, by two stores."""
    # Invariant: what survives a revoke was authenticated at or after its call or is the kept one; whatever is alive and
    # was logged in is listed; confirmed sessions never exceed the limit; nothing dead is listed.
    user_races.check(opened(place), rounds=100)


@pytest.mark.long
def test_u1_u4_rounds_of_two_processes(place: Place) -> None:
    """The same by two processes, on the machine's clock."""
    # Invariant: as above.
    opened(place)
    code = f"from fastersession.stores.sql import SQLStore; store = SQLStore({place.url!r}, table={place.table!r})"
    user_races.check_processes(place.store(), code, rounds=300)


def test_a_users_lock_holds_up_nobody_else(place: Place) -> None:
    """While another server process has his row, his logins wait; his requests, and another user's logins, do not."""

    async def scenario(store: SQLStore) -> None:
        record_id = await logged_in(store)
        engine = create_async_engine(place.url)
        try:
            async with engine.begin() as other:
                raw = {"tag": TAG}
                await other.execute(text(f"select * from {place.table}_user where user_id = :tag for update"), raw)
                waiting = asyncio.ensure_future(logged_in(store))
                await waits(place)
                await logged_in(store, tags=(HERS,))
                assert await store.revoke((HERS,), None, store.clock() + 1) != []
                assert await store.update(record_id, V1, Change(store.clock(), {"a": b"1"}))
                assert await store.delete(record_id) is True
                assert not waiting.done()
            new = await waiting
            assert await listed(store) == [new]
        finally:
            await engine.dispose()

    place.run(scenario)


def test_a_revocation_leaves_what_another_users_login_has_taken(place: Place) -> None:
    """It has seen the record as his, and waits for it; then it is hers, and stays."""

    async def scenario(store: SQLStore) -> None:
        mine, hers = await logged_in(store), await logged_in(store)
        engine = create_async_engine(place.url)
        try:
            async with engine.begin() as other:
                raw = {"tag": HERS, "id": hers}
                await other.execute(text(f"update {place.table} set user_id = :tag where id = :id"), raw)
                waiting = asyncio.ensure_future(store.revoke((TAG,), None, store.clock()))
                await waits(place)
            assert await waiting == [mine]
        finally:
            await engine.dispose()
        assert await listed(store, HERS) == [hers]

    place.run(scenario)


def test_u11_two_workers_that_waited_for_one_record_take_from_it_once(place: Place) -> None:
    """U11: each looks for the attributes when it has the record, not before."""

    async def scenario(store: SQLStore) -> None:
        await make(store, **{"~1": b"1"})
        engine, other_store = create_async_engine(place.url), place.store()
        try:
            async with engine.begin() as other:
                await other.execute(text(f"update {place.table} set version = 7 where id = :id"), {"id": ID})
                takes = [asyncio.ensure_future(one.take(ID, V1, "~")) for one in (store, other_store)]
                await waits(place, 2)
            assert sorted(await asyncio.gather(*takes), key=len) == [{}, {"~1": b"1"}]
        finally:
            await engine.dispose()
            await other_store.close()

    place.run(scenario)


@pytest.mark.parametrize("retention", [None, DAY])
def test_u4_a_login_that_finds_no_record_evicts_nobody(place: Place, retention: float | None) -> None:
    """U4: the room that it has made is given back, and his row is as it was."""

    async def scenario(store: SQLStore) -> None:
        others = [await logged_in(store, retention=retention) for _ in range(2)]
        login = login_of(store, verifier=V2, keep=frozenset(), limit=1)
        assert await store.login(ID, V1, login) == LoginOutcome(ABSENT)
        await make(store)
        assert await store.login(ID, V3, login) == LoginOutcome(ABSENT)
        assert {*await listed(store)} == {*others}
        assert await store.due() == []

    place.run(scenario)


# --- clocks ---


def test_l5_what_was_ended_stays_so_for_a_clock_that_is_behind(place: Place) -> None:
    """L5: an end that is to be told of is kept as a row, which no worker opens or moves, whatever its time is."""
    clock, behind = FakeClock(), FakeClock()
    clock.advance(2 * HOUR)

    async def scenario(store: SQLStore) -> None:
        late = place.store(clock=behind)
        ended = [await logged_in(store, tags=(tag,), retention=DAY) for tag in (TAG, HERS)]
        expired = await logged_in(late, tags=(OLD,), retention=DAY, idle=HOUR)
        assert await store.delete(ended[0], "logged out") is True
        assert await store.revoke((HERS,), None, clock()) == ended[1:]
        assert sorted(await claimed(store)) == sorted([*ended, expired])
        for record_id in (*ended, expired):
            assert await late.load(record_id) is None
            assert await late.touch(record_id, V1, behind()) is False
            assert await late.update(record_id, V1, Change(behind(), {"a": b"1"})) is False
            assert (await late.login(record_id, V1, login_of(late))).outcome is ABSENT
            assert await late.retire(record_id, V1, behind() + 60) is False
        assert [await listed(late, tag) for tag in (TAG, HERS, OLD)] == [[], [], []]
        await late.close()

    place.run(scenario, clock=clock)


# --- what is kept, and for how long ---


def test_u5_nothing_of_a_user_outlives_his_sessions(place: Place) -> None:
    """U5: a purge leaves no row of his but a mark, and that for its month."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        for tag in (TAG, HERS):
            for _ in range(3):
                await logged_in(store, tags=(tag, OLD), idle=HOUR)
        await store.revoke((HERS,), None, clock())
        clock.advance(HOUR + 1)
        assert await store.purge() == 3
        assert (place.count(), place.count("_attribute"), place.count("_user")) == (0, 0, 1)
        clock.advance(MARK_SECONDS - HOUR - 1)
        assert await store.purge() == 0
        refused = login_of(store, (HERS,), authenticated_at=clock() - MARK_SECONDS - 1)
        assert (await store.login(ID, None, refused)).outcome is REVOKED
        clock.advance(2 * HOUR)
        assert await store.purge() == 0
        assert place.count("_user") == 0

    place.run(scenario, clock=clock)


def test_u5_a_mark_stays_a_month_after_a_login(place: Place) -> None:
    """The row of a mark is written again by each login, which keeps neither the mark nor its time shorter."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        at = clock()
        await store.revoke((TAG,), None, at)
        clock.advance(HOUR)
        await logged_in(store)
        clock.advance(DAY)
        await store.purge()
        assert (await store.login(ID, None, login_of(store, authenticated_at=at - 1))).outcome is REVOKED

    place.run(scenario, clock=clock)


def test_u6_purges_pass_over_ends_that_nobody_has_told(place: Place) -> None:
    """U6: until their retention is over, counted from the end. Then a new record may have the id."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        await logged_in(store, ID, retention=DAY, idle=2 * HOUR)
        await logged_in(store, V2[:16], retention=DAY)
        clock.advance(HOUR)
        assert await store.delete(V2[:16]) is True
        clock.advance(HOUR)
        new = Record(V3, clock(), HOUR, math.inf, {"a": b"1"})
        for ahead, removed in ((DAY - HOUR - 1, 0), (1, 1), (HOUR - 1, 0)):
            clock.advance(ahead)
            assert await store.create(ID, new) is False
            assert (await store.login(ID, None, login_of(store))).outcome is ABSENT
            assert await store.purge() == removed
        clock.advance(1)
        assert (await store.login(ID, None, login_of(store))).outcome is DONE
        assert await store.purge() == 0

    place.run(scenario, clock=clock)


def test_u6_a_retired_record_was_replaced_however_it_ends(place: Place) -> None:
    """U6: deleted before its time, too; and a reason may be long."""
    clock = FakeClock()

    async def scenario(store: SQLStore) -> None:
        long = "é" * 200
        retired, deleted = await logged_in(store, retention=DAY), await logged_in(store, retention=DAY)
        assert await store.ended([retired, deleted]) == {}
        assert await store.retire(retired, V1, clock() + 60) is True
        assert await store.ended([retired, deleted]) == {retired: "replaced"}
        assert await store.delete(retired, "logged out") is True
        assert await store.delete(deleted, long) is True
        told = {ended.record_id: ended.reason for ended in await store.due()}
        assert told.pop(retired) == "replaced"
        assert long.startswith(told[deleted])
        assert await store.ended([retired, deleted]) == {retired: "replaced", deleted: told[deleted]}

    place.run(scenario, clock=clock)


def test_u6_the_running_hour_is_looked_at_once_a_minute(place: Place, sent: list[str]) -> None:
    """U6: what was ended, expired in a past hour, or is named, is claimed at once; the rest within the minute."""
    clock = FakeClock(HOUR * 1_000)

    async def scenario(store: SQLStore) -> None:
        ids = [await logged_in(store, retention=DAY, idle=idle) for idle in (10.0, 20.0, HOUR + 1)]
        ids.append(await logged_in(store, retention=DAY))
        assert await claimed(store) == []
        clock.advance(30)
        del sent[:]
        assert await claimed(store) == []
        assert len(sent) == 1
        assert await store.delete(ids[3]) is True
        assert await claimed(store) == [ids[3]]
        assert await claimed(store, ids[1]) == [ids[1]]
        clock.advance(30)
        assert await claimed(store) == [ids[0]]
        clock.advance(HOUR)
        await store.settle(ids[0])
        for again in (1, 3):
            await store.settle(ids[again])
        clock.advance(1)
        assert await claimed(store) == [ids[2]]

    place.run(scenario, clock=clock)


def test_u6_nobody_waits_for_what_another_worker_claims(place: Place) -> None:
    """U6: it is passed over, by whoever looks for all that is due and by whoever names it."""

    async def scenario(store: SQLStore) -> None:
        ids = [await logged_in(store, retention=DAY) for _ in range(3)]
        for record_id in ids:
            await store.delete(record_id)
        engine = create_async_engine(place.url)
        try:
            async with engine.begin() as other, asyncio.timeout(20):
                raw = {"id": ids[0]}
                await other.execute(text(f"select id from {place.table} where id = :id for update"), raw)
                assert {*await claimed(store, ids[0])} == {*ids[1:]}
                assert await store.purge() == 0
        finally:
            await engine.dispose()
        assert await claimed(store) == ids[:1]

    place.run(scenario)


def test_u6_what_is_alive_cannot_be_settled(place: Place) -> None:
    """Nor what somebody else has logged in on that id since."""

    async def scenario(store: SQLStore) -> None:
        record_id = await logged_in(store, retention=DAY)
        await store.settle(record_id)
        assert await listed(store) == [record_id]

    place.run(scenario)


# --- values ---


def test_names_of_any_length_stay_go_and_are_taken(place: Place) -> None:
    """A key of the table is a part of a long name; what is kept and taken is decided by all of it."""
    long = {f"~{'x' * 300}{end}": end.encode() for end in "abc"}
    a, b, c = long

    async def scenario(store: SQLStore) -> None:
        await make(store, **long, short=b"1")
        login = login_of(store, verifier=V2, keep=frozenset({a, b, "short"}), deletes=(b,))
        assert await store.login(ID, V1, login) == LoginOutcome(DONE)
        assert await content(store) == {ABOUT: b"about", a: b"a", "short": b"1"}
        assert await store.update(ID, V2, Change(store.clock(), long))
        assert await store.take(ID, V2, c) == {c: b"c"}
        assert await store.take(ID, V2, f"~{'x' * 300}d") == {}
        assert await store.take(ID, V2, "~x") == {a: b"a", b: b"b"}
        assert await content(store) == {ABOUT: b"about", "short": b"1"}

    place.run(scenario)


def test_sessions_without_an_end(place: Place) -> None:
    """Infinite times are listed, and end when they are ended."""

    async def scenario(store: SQLStore) -> None:
        record_id = await logged_in(store, idle=math.inf, life=math.inf, retention=DAY)
        ((_, record),) = await store.find((TAG,))
        assert (record.idle_timeout, record.not_after) == (math.inf, math.inf)
        assert await store.update(record_id, V1, Change(store.clock(), renewal=Renewal(math.inf, math.inf)))
        assert await store.purge() == 0
        assert await store.delete(record_id) is True
        (ended,) = await store.due()
        assert ended.record.extra.tag == TAG

    place.run(scenario)


# --- what it costs ---


def test_how_many_statements_each_verb_is(place: Place, sent: list[str]) -> None:
    """A login is one transaction; who uses no users has the statements that there were before them."""
    on_postgresql = "postgresql" in place.url

    async def scenario(store: SQLStore) -> None:
        async def of(verb: Any) -> int:
            del sent[:]
            await verb
            return len(sent)

        ids = [secrets.token_bytes(16) for _ in range(4)]
        await make(store, OWNER, a=b"1")
        counts = {
            "new": await of(store.login(ids[0], None, login_of(store))),
            "anonymous": await of(store.login(OWNER, V1, login_of(store, verifier=V2, keep=frozenset()))),
            "again": await of(store.login(ids[0], V1, login_of(store, verifier=V2))),
            "limited": await of(store.login(ids[1], None, login_of(store, limit=3))),
            "evicting": await of(store.login(ids[2], None, login_of(store, limit=1))),
            "find": await of(store.find((TAG,))),
            "ended": await of(store.ended(ids)),
            "retire": await of(store.retire(ids[2], V1, store.clock() + 60)),
            "take": await of(store.take(ids[3], V1, "~")),
            "delete": await of(store.delete(await logged_in(store))),
            "revoke": await of(store.revoke((TAG,), None, store.clock())),
        }
        # begin and commit, the user's row (and on MariaDB its mark), then the record, and with it its attributes
        rows = 3 if on_postgresql else 4
        assert counts == {
            "new": rows + (1 if on_postgresql else 2), "anonymous": rows + 3, "again": rows + 2, "limited": rows + 2
            + (not on_postgresql), "evicting": rows + 4 + (not on_postgresql), "find": 1, "ended": 1, "retire": 1,
            "take": 3, "delete": 1, "revoke": rows + 1,
        }  # fmt: skip

    place.run(scenario)


def test_nobody_pays_who_has_no_users(place: Place, sent: list[str]) -> None:
    """What a usual request sends names no column, table or condition of users, but for a new session's retention."""
    ours = ("retention", "ended_reason", "claimed_until", f"{place.table}_user", "not_before")

    async def scenario(store: SQLStore) -> None:
        change = Change(store.clock(), {"a": b"1"})
        for verb, named in (
            (lambda: make(store, a=b"1"), {"retention"}),
            (lambda: store.load(ID), set()),
            (lambda: store.update(ID, V1, change), set()),
            (lambda: store.update(ID, V1, change._replace(deletes=("b",))), set()),
            (lambda: store.touch(ID, V1, store.clock()), set()),
            (lambda: store.regenerate(ID, V1, V2, math.inf, change), set()),
            (lambda: store.lock(ID, V2, OWNER, 5.0), set()),
            (lambda: store.unlock(ID, OWNER), set()),
            (lambda: store.delete(ID), {"retention"}),
        ):
            del sent[:]
            assert await verb()
            assert {name for name in ours if name in " ".join(sent)} == named

    place.run(scenario)


@pytest.mark.long
def test_u3_the_sessions_of_one_among_100_000_users(place: Place) -> None:
    """U3: a list, a login and a revocation read his rows, and no table from end to end."""
    on_postgresql = "postgresql" in place.url
    columns = "id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, expire_hour, version"
    filled = (
        "select decode(md5(i::text), 'hex'), '', decode(md5('u' || i / 3), 'hex'), 0, i, 1e9, 1e12, 1e12, 277777777, 1 "
        "from generate_series(1, 300000) as i"
        if on_postgresql
        else "select unhex(md5(seq)), '', unhex(md5(concat('u', seq div 3))), 0, seq, 1e9, 1e12, 1e12, 277777777, 1 "
        "from seq_1_to_300000"
    )
    tag = bytes.fromhex(place.server.execute("select md5('u77')").strip())

    def read() -> int:
        """Return how many rows of the table were read in its order."""
        if on_postgresql:  # what a connection has done is told at its end
            return int(
                place.server.execute(f"select seq_tup_read from pg_stat_user_tables where relname = '{place.table}'")
            )
        (line,) = place.server.execute("show global status like 'Handler_read_rnd_next'").splitlines()
        return int(line.split()[1])

    async def act(store: SQLStore) -> None:
        found = await listed(store, tag)
        assert len(found) == 3
        assert (await store.login(ID, None, login_of(store, (tag, OLD), limit=3))).evicted == (found[2],)
        assert {*await store.revoke((tag,), ID, store.clock())} == {*found[:2]}
        assert await store.due() == []
        assert {*await store.ended([*found, ID])} == {*found}
        assert len((await store.page(None, 10))[0]) == 10

    opened(place)
    place.server.execute(f"insert into {place.table} ({columns}) {filled}")
    tag_of = f"'\\x{tag.hex()}'" if on_postgresql else f"x'{tag.hex()}'"
    about = f"select id, '!', 'about' from {place.table} where user_id = {tag_of}"
    place.server.execute(f"insert into {place.table}_attribute (session_id, name, value) {about}")
    place.server.execute(f"analyze {'' if on_postgresql else 'table '}{place.table}")
    before = read()
    place.run(act)
    assert read() - before < 1_000
    place.run(lambda store: store.purge())
    assert read() - before < 2_000


# --- releases ---


@pytest.mark.parametrize("since", ["0.1", "a change that was broken off"])
def test_tables_of_0_1_are_brought_to_what_new_ones_are(place: Place, since: str) -> None:
    """The same columns and the same indexes, also where the table of users was made and the rest was not."""
    on_postgresql = "postgresql" in place.url
    tables = "in ('{0}', '{0}_attribute', '{0}_user')"
    columns = f"select table_name, column_name, data_type from information_schema.columns where table_name {tables}"
    indexes = (
        f"select indexdef from pg_indexes where tablename {tables}"
        if on_postgresql
        else "select table_name, index_name, seq_in_index, column_name, sub_part from information_schema.statistics "
        f"where table_name {tables}"
    )

    def shape(table: str) -> list[set[str]]:
        told = [place.server.execute(query.format(table)) for query in (columns, indexes)]
        return [{line.replace(table, "T") for line in lines.splitlines()} for lines in told]

    OldSQL(place, lambda: 0.0).make_tables()
    if since != "0.1":
        for statement in place.store().ddl[-3:-1] if on_postgresql else place.store().ddl[-1:]:
            place.server.execute(statement)
    opened(place)
    brought, place.table = shape(place.table), f"new{place.table}"
    opened(place)
    assert brought == shape(place.table)


def test_l5_a_worker_of_0_1_opens_nothing_that_was_ended(place: Place) -> None:
    """It knows no ended records, and its statements find none; it goes on with a user's session, and leaves it his."""
    clock = FakeClock()
    old = OldSQL(place, clock)
    old.make_tables()

    async def scenario(store: SQLStore) -> None:
        alive, ended = [await logged_in(store, tags=(tag,), retention=DAY) for tag in (TAG, HERS)]
        assert await store.delete(ended) is True
        for record_id in (alive, ended):
            old.update(record_id, V1)
            old.regenerate(record_id, V1, V2)
        assert (await listed(store), await listed(store, HERS)) == ([alive], [])
        record = await store.load(alive)
        assert record is not None
        assert (record.verifier, record.version) == (V2, 3)
        assert await store.load(ended) is None
        assert [one.record_id for one in await store.due()] == [ended]
        clock.advance(CLAIM_SECONDS)
        assert [one.redelivered for one in await store.due()] == [True]

    place.run(scenario, clock=clock)
