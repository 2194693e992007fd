"""RedisStore and users: the keys it makes, round trips and bytes, races, and servers that refuse a login's commands."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import user_races
from accounts import ROUTES
from driver import Browser, in_loop
from over_redis import KEY, Wire
from over_redis import opened as opened_store
from routes import events, serve
from servers_redis import RedisServer, replicated, until
from store_subject import ID, V1, V2, Change, Factory, Subject, make, opened

from fastersession.errors import StoreError
from fastersession.stores import from_url
from fastersession.stores.base import Extra, Record, Renewal
from fastersession.stores.redis import RedisStore, scripts, users_scripts
from fastersession.stores.redis.commands import creation, merge
from fastersession.stores.users import MARK_SECONDS, Outcome
from fastersession.testing import FakeClock
from fastersession.testing.contract.users import V, W, X, listed, logged_in, login, tags_of

CODE = "from fastersession.stores import from_url; store = from_url({!r})"
LIFE = {b"k", b"v", b"n", b"c", b"t", b"i", b"x"}  # the fields of a session that nobody logged in to


def over(place: Any) -> Factory:
    """Return what makes a store over a server or a proxy."""
    return lambda clock: RedisStore(place.url, clock=clock)


def index_of(tags: tuple[bytes, ...]) -> str:
    """Return the key of a user's index."""
    return f"fs:{{u:{tags[0].hex()}}}"


def keys(server: RedisServer) -> set[str]:
    return set(server.cli("keys", "*").decode().split())


def teach(server: RedisServer) -> None:
    """Have the server know every script, so that none is sent."""
    for module in (scripts, users_scripts):
        for known in vars(module).values():
            if isinstance(known, scripts.Script):
                assert server.cli("script", "load", known.text.decode()).strip() == known.digest


async def heard(subject: Subject) -> None:
    """Wait until the server has heard all that was told to it: a logout goes behind that."""
    assert await subject.delete(bytes(16)) is False


def key_of(record_id: bytes) -> str:
    return f"fs:{{{record_id.hex()}}}"


# --- at once ---


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_u1_u4_logins_revocations_and_logouts_at_once(factory: Factory) -> None:
    """U1 to U4, in rounds of two stores; the limit may be exceeded while keys are swapped: see user_races."""
    user_races.check(factory, rounds=120, limit_holds_while_turned=False)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_u1_u4_two_processes_at_once(one: RedisServer) -> None:
    """U1 to U4, in rounds of two processes: see user_races."""
    user_races.check_processes(from_url(one.url), CODE.format(one.url), rounds=500, limit_holds_while_turned=False)


# --- what is on the server ---


@in_loop
async def test_the_keys_of_a_user(one: RedisServer) -> None:
    """An index in the user's slot, a mark beside it, one hash for each session: none of them outlives what it is of."""
    async with opened(over(one)) as subject:
        tags, now = tags_of(), subject.clock()
        short = await logged_in(subject, tags, record_id=b"s" * 16, life=100.0)
        long = await logged_in(subject, tags, record_id=b"l" * 16, until=now + 5_000.0)
        index = index_of(tags)
        assert keys(one) == {index, key_of(short), key_of(long)}
        assert 5_055 < int(one.cli("pttl", index)) / 1000 <= 5_060
        scores = one.cli("zrange", index, "0", "-1", "withscores").splitlines()
        assert [float(score) for score in scores[1::2]] == [now + 100, now + 5_000]
        subject.clock.advance(50)
        assert await subject.touch(long, W, subject.clock()) is True
        assert one.cli("zrange", index, "0", "-1", "withscores").splitlines() == scores
        await subject.store.revoke(tags, long, subject.clock())
        assert keys(one) == {index, key_of(long), index + ":m"}
        assert MARK_SECONDS - 5 < int(one.cli("pttl", index + ":m")) / 1000 <= MARK_SECONDS
        await subject.delete(long)
        await heard(subject)
        assert keys(one) == {index + ":m"}
        await logged_in(subject, tags, until=float("inf"))
        assert one.cli("pttl", index) == b"-1\n"


@in_loop
async def test_u5_an_index_is_bounded_without_a_sweeper(one: RedisServer) -> None:
    """U5: what ended goes with its logout, with the next look, or with the next login after its last moment."""
    async with opened(over(one)) as subject:
        tags = tags_of()
        index = index_of(tags)
        kept, short, lost = [await logged_in(subject, tags, life=life) for life in (9e4, 100.0, 9e4)]
        one.cli("unlink", key_of(lost))
        assert one.cli("zcard", index) == b"3\n"
        assert await listed(subject, tags) in ([kept, short], [short, kept])
        await heard(subject)
        assert one.cli("zcard", index) == b"2\n"
        subject.clock.advance(100)
        assert await listed(subject, tags) == [kept]
        assert one.cli("zcard", index) == b"2\n"  # a clock that is behind may still see it alive
        last = await logged_in(subject, tags)
        assert one.cli("zcard", index) == b"2\n"
        assert {*await listed(subject, tags)} == {kept, last}


@in_loop
async def test_u5_nothing_on_the_server_names_a_user(own: RedisServer) -> None:
    """U5: not in keys or values, not in what it was ever sent, which is in its file."""
    async with opened_store(own) as store:
        browser = Browser(serve(ROUTES, store=store))
        await browser.get("/in/now?user=grace.hopper&label=her-laptop")
        await browser.get("/everyone?user=grace.hopper")
        await browser.get("/out")
    kept = b"".join(file.read_bytes() for file in Path(own.folder).rglob("*") if file.is_file())
    assert re.search(rb"zadd", kept, re.IGNORECASE)
    assert not re.search(rb"hopper|laptop", kept, re.IGNORECASE)


@in_loop
async def test_a_session_without_a_user_is_as_ever(one: RedisServer) -> None:
    """No field, no key and no command more, and no byte on the wire."""
    teach(one)
    one.cli("config", "resetstat")
    async with Wire(one) as wire, opened_store(wire.url) as store:
        now = time.time()
        await asyncio.gather(store.load(ID), store.delete(ID))
        wire.sent.clear()
        await make(store, a=b"1")
        assert {*one.cli("hkeys", KEY).split()} == {*LIFE, b"aa"}
        assert await store.update(ID, V1, Change(now, {"b": b"2"}))
        assert await store.touch(ID, V1, now)
        assert await store.regenerate(ID, V1, V2, now + 99, Change(now))
        assert {*one.cli("hkeys", KEY).split()} == {*LIFE, b"aa", b"ab", b"b", b"r"}
        assert keys(one) == {KEY}
        assert await store.delete(ID)
        assert len(wire.sent) == 5
        assert b"invalidated" not in b"".join(wire.sent)
    assert not re.search(rb"cmdstat_(z|hsetnx)", one.cli("info", "commandstats"))


def test_a_save_without_users_sends_no_byte_more() -> None:
    """Of an update, a regeneration and a creation: what surrounds the value, small as in 0.1.

    The text that a large one sends along has 136 bytes that look whether there are conversations.
    """
    now, key, value = 1e9, b"fs:{%b}" % (b"0" * 32), bytes(2_000)
    change, proof = Change(now, {"a": value}), b"v" * 32
    writes = (
        merge(key, (scripts.UPDATE, scripts.FINISH_UPDATE), now, proof, change),
        merge(key, (scripts.REGENERATE, scripts.FINISH_REGENERATE), now, proof, change, proof, b"1e9"),
        creation(key, b"k" * 16, Record(proof, now, 9.0, 2e9, change.sets), now),
    )
    for write, large, small in zip(writes, (1951, 2276, 817), (229, 283, 392), strict=True):
        assert len(write.large(b"", True)) - len(value) <= large
        assert len(write.small(b"", True)) - len(value) <= small


@in_loop
async def test_u3_an_index_that_names_anothers_session_ends_nothing(one: RedisServer) -> None:
    """U3: whoever is listed, evicted or revoked has the user in the record; the entry goes."""
    async with opened(over(one)) as subject:
        tags, others = tags_of(), tags_of()
        mine = await logged_in(subject, tags)
        hers = await logged_in(subject, others, record_id=b"h" * 16)
        entry = "redis.call('ZADD', KEYS[1], 9e9, string.rep('h', 16))"
        one.cli("eval", entry, "1", index_of(tags))
        assert await listed(subject, tags) == [mine]
        one.cli("eval", entry, "1", index_of(tags))
        assert (await login(subject, tags, limit=1))[1].evicted == (mine,)
        one.cli("eval", entry, "1", index_of(tags))
        assert hers not in await subject.store.revoke(tags, None, subject.clock())
        assert await listed(subject, others) == [hers]


# --- what it costs ---


@in_loop
async def test_each_verb_is_as_many_round_trips_as_promised(one: RedisServer) -> None:
    """Counted as pieces that leave: each waits for the one before."""
    teach(one)
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags, store, now = tags_of("new", "old"), subject.store, subject.clock()
        mine = tags[:1]
        three = [await logged_in(subject, mine, attributes={"~": b"1"}) for _ in range(3)]
        await asyncio.gather(subject.load(ID), store.revoke(tags_of(), None, now))  # the connections are there
        anonymous = await subject.insert({})
        kept = Extra(None, 9e4)
        trips = {}
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "login": lambda: login(subject, mine),
            "login of an anonymous session": lambda: login(subject, mine, anonymous, V, keep=frozenset()),
            "login again": lambda: login(subject, mine, three[0], W, X),
            "login since a given time": lambda: login(subject, mine, strictly=True),
            "login below a limit": lambda: login(subject, mine, limit=99),
            "login below a limit that refuses": lambda: login(subject, mine, limit=99, evicts=False),
            "login while keys are swapped": lambda: login(subject, tags),
            "login of a large session": lambda: login(subject, mine, attributes={"a": bytes(5000)}),
            "list": lambda: store.find(mine),
            "ended": lambda: store.ended([*three, ID]),
            "take": lambda: store.take(three[1], W, "~"),
            "renew": lambda: store.update(three[1], W, Change(now, renewal=Renewal(now + 9, now + 9))),
            "renew beyond the login": lambda: store.update(three[1], W, Change(now, renewal=Renewal(9e9, 9e9))),
            "retire": lambda: store.retire(three[1], W, now + 60),
            "login at the limit": lambda: login(subject, mine, limit=8),
            "logout": lambda: store.delete(three[2]),
            "create to be told of": lambda: store.create(ID, Record(V, now, 9.0, now + 9, {}, kept)),
            "delete to be told of": lambda: store.delete(ID),
            "claim": lambda: store.due(ID),
            "settle": lambda: store.settle(ID),
            "revoke": lambda: store.revoke(mine, None, now),
        }
        for name, call in calls.items():
            await heard(subject)
            wire.sent.clear()
            await call()
            trips[name] = len(wire.sent)
        assert trips == {
            "login": 2, "login of an anonymous session": 2, "login again": 2, "login since a given time": 3,
            "login below a limit": 2, "login below a limit that refuses": 4, "login while keys are swapped": 3,
            "login of a large session": 2, "list": 2, "ended": 1, "take": 1, "renew": 2, "renew beyond the login": 3,
            "retire": 1, "login at the limit": 5, "logout": 1, "create to be told of": 1, "delete to be told of": 1,
            "claim": 2, "settle": 1, "revoke": 2,
        }  # fmt: skip


def commands(server: RedisServer) -> int:
    """How many commands the server has carried out, those of scripts too."""
    return sum(map(int, re.findall(rb"calls=(\d+)", server.cli("info", "commandstats"))))


async def crowd(store: RedisStore, users: int) -> None:
    """Log in users with three sessions each."""

    class Some:
        def __init__(self) -> None:
            self.store, self.clock = store, store.clock

    some: Any = Some()
    for _ in range(0, users, 500):
        lots = [tags for tags in (tags_of() for _ in range(min(users, 500))) for _ in range(3)]
        await asyncio.gather(*(logged_in(some, tags) for tags in lots))


@pytest.mark.parametrize("users", [500, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
@in_loop
async def test_a_users_verbs_take_the_time_of_his_sessions(one: RedisServer, users: int) -> None:
    """List, login at the limit and revocation are as many commands however many other users there are."""
    async with opened(over(one)) as subject:
        counts = []
        await logged_in(subject, tags_of())
        for _ in range(2):
            tags = tags_of()
            for _ in range(3):
                await logged_in(subject, tags)
            seen = [commands(one)]
            for call in (
                subject.store.find(tags),
                login(subject, tags, limit=3),
                subject.store.revoke(tags, None, subject.clock()),
            ):
                await call
                seen.append(commands(one))
            counts.append([after - before for before, after in itertools.pairwise(seen)])
            await crowd(subject.store, users)
        assert counts[0] == counts[1]
        assert max(counts[0]) < 80


# --- the first login ---


@in_loop
async def test_an_account_that_may_not_keep_an_index_is_told_at_the_first_login(own: RedisServer) -> None:
    """Not at the opening: sessions without users need none of it. Nothing is written, and the right helps at once."""
    own.cli("acl", "setuser", "modest", "reset", "on", ">right", "~fs:*", "+@all", "-zadd")
    async with opened_store(f"redis://modest:right@127.0.0.1:{own.port}") as store:
        await make(store)
        await store.delete(ID)
        subject: Any = type("Some", (), {"store": store, "clock": staticmethod(store.clock)})
        tags = tags_of()
        with pytest.raises(StoreError, match=r"no login can be made: .*can't run.*the right to ZADD"):
            await login(subject, tags)
        assert keys(own) == set()
        own.cli("acl", "setuser", "modest", "+zadd")
        await logged_in(subject, tags)


@pytest.mark.parametrize(("policy", "warned"), [("noeviction", 0), ("allkeys-lru", 1), ("volatile-ttl", 1)])
@in_loop
async def test_u1_a_server_that_may_evict_an_index_is_a_warning(
    own: RedisServer, policy: str, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    """U1: revoking would miss whom it forgot. Told once, at the first login; an account that may not ask is spared."""
    own.cli("config", "set", "maxmemory-policy", policy)
    async with opened(over(own)) as subject:
        await subject.insert({})
        assert events(caplog, "redis.evicts") == []
        for _ in range(3):
            await logged_in(subject, tags_of())
    told = events(caplog, "redis.evicts")
    assert [(event.levelname, policy in event.getMessage()) for event in told] == [("WARNING", True)] * warned
    own.cli("acl", "setuser", "blind", "reset", "on", ">right", "~fs:*", "+@all", "-info")
    place = type("Place", (), {"url": f"redis://blind:right@127.0.0.1:{own.port}"})
    async with opened(over(place)) as subject:
        await logged_in(subject, tags_of())
    assert len(events(caplog, "redis.evicts")) == warned


@in_loop
async def test_logins_and_revocations_wait_for_a_replica(tmp_path: Path) -> None:
    """A failover forgets a mark no more easily than a logout: a WAIT behind each."""
    with replicated(tmp_path) as (master, replica):
        async with opened(over(master)) as subject:
            tags = tags_of()

            def waits() -> int:
                found = re.search(rb"cmdstat_wait:calls=(\d+)", master.cli("info", "commandstats"))
                return int(found[1]) if found else 0

            seen = [0]
            mine = [await logged_in(subject, tags)]
            seen.append(waits())
            await login(subject, tags, mine[0], W, X)
            seen.append(waits())
            assert await subject.store.revoke(tags, None, subject.clock()) == mine
            seen.append(waits())
            assert seen == [0, 1, 2, 3]
            until(lambda: replica.cli("exists", index_of(tags) + ":m") == b"1\n", "replication")


# --- slots that move ---


@pytest.mark.parametrize("what", ["user", "record"])
@in_loop
async def test_u1_a_slot_of_users_that_moves_is_followed(three: list[RedisServer], what: str) -> None:
    """U1: before, while and after it moves, logins, lists, marks and revocations say what they say elsewhere."""

    def factory(clock: Callable[[], float]) -> RedisStore:
        return RedisStore(three[0].cluster_url, clock=clock)

    async with opened(factory) as subject:
        tags, guest = tags_of(), await subject.insert({})
        moving = index_of(tags) if what == "user" else key_of(guest)
        slot = three[0].cli("cluster", "keyslot", moving).strip().decode()
        names = [server.cli("cluster", "myid").strip().decode() for server in three]
        old = [await logged_in(subject, tags) for _ in range(2)]

        async def turn(guest: bytes) -> None:
            """A login of each kind, a revocation that spares the guest's, and logins that are refused."""
            before = await listed(subject, tags)
            subject.clock.advance(1)
            kinds: Any = {"strictly": True, "limit": 9, "keep": frozenset({"a"})}
            assert (await login(subject, tags, guest, V, W, **kinds))[1].outcome is Outcome.DONE
            assert (await login(subject, tags, guest, W, X, attributes={"a": bytes(5000)}))[1].outcome is Outcome.DONE
            assert {*await listed(subject, tags)} == {guest, *before}
            _, outcome = await login(subject, tags, limit=len(before) + 1)
            assert (outcome.outcome, len(outcome.evicted)) == (Outcome.DONE, 1)
            at = subject.clock()
            assert len(await subject.store.revoke(tags, guest, at + 1)) == len(before)
            assert await listed(subject, tags) == [guest]
            for strictly in (False, True):
                assert (await login(subject, tags, strictly=strictly))[1].outcome is Outcome.REVOKED
            subject.clock.advance(2)
            assert (await login(subject, tags, limit=1, evicts=False))[1].outcome is Outcome.FULL
            assert await subject.store.take(guest, X, "a") == {"a": bytes(5000)}
            assert await subject.store.retire(guest, X, subject.clock() + 60) is True
            assert await subject.store.ended([guest, *old]) == {guest: "replaced", **dict.fromkeys(old, "")}
            assert await listed(subject, tags) == []

        await turn(guest)
        await subject.delete(guest)
        await subject.insert({}, record_id=guest)
        old = [await logged_in(subject, tags) for _ in range(2)]
        (source,) = [n for n, server in enumerate(three) if moving.encode() in server.cli("keys", "*").split()]
        target = (source + 1) % 3
        three[target].cli("cluster", "setslot", slot, "importing", names[source])
        three[source].cli("cluster", "setslot", slot, "migrating", names[target])
        await turn(guest)  # index and mark are there
        for _ in range(2):  # then one of them is gone, or is where the slot goes
            await subject.delete(guest)
            await subject.insert({}, record_id=guest)
            old = [await logged_in(subject, tags) for _ in range(2)]
            await turn(guest)
        await subject.delete(guest)
        await subject.insert({}, record_id=guest)
        for server in (three[target], three[source], *three):
            server.cli("cluster", "setslot", slot, "node", names[target])
        old = [await logged_in(subject, tags) for _ in range(2)]
        await turn(guest)


@in_loop
async def test_a_clock_of_another_worker_that_is_behind(one: RedisServer) -> None:
    """U1: a session that one worker sees expired, and another touches, is still listed and revoked."""
    ahead, behind = FakeClock(1_700_000_002.0), FakeClock(1_700_000_000.0)
    async with opened(over(one), behind) as subject, opened(over(one), ahead) as other:
        tags = tags_of()
        record_id = await logged_in(subject, tags)
        for clock in (ahead, behind):
            clock.advance(599)
        assert await listed(other, tags) == []
        assert await subject.touch(record_id, W, behind()) is True
        assert await listed(other, tags) == [record_id]
        for clock in (ahead, behind):
            clock.advance(599)
        _, outcome = await login(other, tags, limit=1)
        assert outcome.evicted == ()
        assert await subject.touch(record_id, W, behind()) is False  # it ended when it made room
        assert len(await subject.store.revoke(tags, None, ahead())) == 1
