"""RedisStore and users when a step fails: replies that are lost, servers that die or are full, callers that leave."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from driver import in_loop
from over_redis import Wire
from servers_redis import RedisServer
from store_subject import Factory, Subject, opened

from fastersession.errors import StoreError
from fastersession.stores.base import Extra, Record
from fastersession.stores.redis import RedisStore
from fastersession.stores.users import ABOUT, Login, LoginOutcome, NotConfirmed, Outcome
from fastersession.testing.contract.cancelled import cancelled
from fastersession.testing.contract.users import DONE, V, W, X, listed, logged_in, login, tags_of

ERROR = b"-ERR no\r\n"
JUNK = (
    b":1\r\n",
    b"*1\r\n+x\r\n",
    b"$-1\r\n",
    b"*0\r\n",
    b"*2\r\n:1\r\n*1\r\n+x\r\n",
    b"*2\r\n:1\r\n+x\r\n",
    b"+x\r\n",
)


def over(place: Any) -> Factory:
    """Return what makes a store over a server or a proxy."""
    return lambda clock: RedisStore(place.url, clock=clock)


def index_of(tags: tuple[bytes, ...]) -> bytes:
    return b"fs:{u:%b}" % tags[0].hex().encode()


def key_of(record_id: bytes) -> bytes:
    return b"fs:{%b}" % record_id.hex().encode()


def causes(error: BaseException) -> list[type[BaseException]]:
    """Return the classes of an error and of its causes."""
    found, cause = list[type[BaseException]](), error
    while cause is not None:
        found.append(type(cause))
        cause = cause.__cause__  # type: ignore[assignment]
    return found


Way = Callable[[Subject, tuple[bytes, ...], bytes], Any]
WAYS: dict[str, Way] = {
    "on a new record": lambda subject, tags, _: login(subject, tags),
    "of an anonymous session": lambda subject, tags, one: login(subject, tags, one, V, keep=frozenset({"cart"})),
    "of a large one": lambda subject, tags, one: login(
        subject, tags, one, V, keep=frozenset({"cart"}), attributes={"a": bytes(5_000)}
    ),
}


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_u1_a_login_that_is_not_confirmed_says_so(one: RedisServer, way: str) -> None:
    """U1: bound, and the index refuses: the cause tells it; nobody has the secret, and nothing is listed."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags, anonymous = tags_of(), await subject.insert({"cart": b"1"})
        await logged_in(subject, tags_of())
        wire.denied = {index_of(tags) + b":m": ERROR}
        with pytest.raises(StoreError, match="not confirmed") as caught:
            await WAYS[way](subject, tags, anonymous)
        assert NotConfirmed in causes(caught.value)
        record = await subject.load(anonymous)
        assert (record.verifier == V) is (way == "on a new record")
        wire.denied = {}
        assert await listed(subject, tags) == []
        await logged_in(subject, tags)


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_u1_a_login_that_is_not_bound_changes_nothing(one: RedisServer, way: str) -> None:
    """U1: the record's server refuses: an error that says nothing of a login under way, and all is as before."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags, anonymous = tags_of(), await subject.insert({"cart": b"1"})
        await logged_in(subject, tags_of())
        before = await subject.read(anonymous)
        wire.denied = {tags[0]: ERROR}  # a field of the record, not yet the key of the index, which is in hex
        with pytest.raises(StoreError) as caught:
            await WAYS[way](subject, tags, anonymous)
        assert NotConfirmed not in causes(caught.value)
        assert await subject.read(anonymous) == before


@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_u1_a_server_that_dies_behind_the_confirmation(own: RedisServer, way: str) -> None:
    """U1: carried out, and then the server is killed for good: not confirmed, for all that is known."""
    async with Wire(own) as wire, opened(over(wire)) as subject:
        tags, anonymous = tags_of(), await subject.insert({"cart": b"1"})
        await logged_in(subject, tags_of())
        wire.word, wire.at_cut = index_of(tags) + b":m", own.kill
        with pytest.raises(StoreError) as caught:
            await WAYS[way](subject, tags, anonymous)
        assert NotConfirmed in causes(caught.value)
        own.start()
        (kept,) = await listed(subject, tags)
        assert await subject.store.revoke(tags, None, subject.clock()) == [kept]
        assert await subject.load(kept) is None


@pytest.mark.parametrize("step", [b"fs:{u:", b"fs:{"])
@pytest.mark.parametrize("way", WAYS)
@in_loop
async def test_a_lost_reply_is_no_refusal(one: RedisServer, way: str, step: bytes) -> None:
    """Carried out, and the connection lost before the reply, of either step: the login works, and is there once."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags, anonymous = tags_of(), await subject.insert({"cart": b"1"})
        await logged_in(subject, tags_of())
        wire.word = step if step.endswith(b":") else b"fs:{"
        record_id, outcome = await WAYS[way](subject, tags, anonymous)
        assert (wire.cuts, outcome) == (1, LoginOutcome(DONE))
        assert await listed(subject, tags) == [record_id]
        assert (await subject.load(record_id)).verifier == W


@in_loop
async def test_u1_a_login_that_is_refused_when_it_is_bound(one: RedisServer) -> None:
    """U1: its record goes; if even that fails, the error says so, and the secret is nobody's."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        tags = tags_of()
        await subject.store.revoke(tags, None, subject.clock() + 1)
        guests = [await subject.insert({"cart": b"1"}) for _ in range(2)]
        _, outcome = await login(subject, tags, guests[0], V, keep=frozenset())
        assert outcome == LoginOutcome(Outcome.REVOKED, (), record_is_gone=True)
        assert await subject.load(guests[0]) is None
        deletes = asyncio.ensure_future(login(subject, tags, guests[1], V, keep=frozenset()))
        while not [piece for piece in wire.sent if index_of(tags) + b":m" in piece and guests[1] in piece]:
            await asyncio.sleep(0)
        wire.denied = {key_of(guests[1]): ERROR}
        with pytest.raises(StoreError) as caught:
            await deletes
        assert NotConfirmed in causes(caught.value)
        assert await listed(subject, tags) == []


@in_loop
async def test_u1_a_revocation_that_fails_goes_on_when_called_again(one: RedisServer) -> None:
    """U1: the mark stands, what could be ended has ended, the rest is ended by the next call."""
    async with opened(over(one)) as subject:
        tags = tags_of()
        mine = [await logged_in(subject, tags) for _ in range(5)]
        at = subject.clock() + 1
        one.cli("rename", key_of(mine[2]).decode(), "aside")
        one.cli("set", key_of(mine[2]).decode(), "of another type")
        with pytest.raises(StoreError):
            await subject.store.revoke(tags, None, at)
        one.cli("rename", "aside", key_of(mine[2]).decode())
        _, outcome = await login(subject, tags)
        assert outcome.outcome is Outcome.REVOKED
        alive = {one for one in mine if await subject.load(one) is not None}
        assert alive == {mine[2]}
        assert {*await subject.store.revoke(tags, None, at)} == alive
        assert await listed(subject, tags) == []


@in_loop
async def test_a_full_server(own: RedisServer) -> None:
    """maxmemory: a login or a mark is refused as a whole; lists, logouts and looks go on."""
    async with opened(over(own)) as subject:
        tags, now = tags_of(), subject.clock()
        mine, guest = await logged_in(subject, tags), await subject.insert({"cart": b"1"})
        told = secrets.token_bytes(16)
        record = Record(W, now, 600.0, now + 3_000.0, {ABOUT: b"about"}, Extra(tags[0], 9e4))
        assert (await subject.store.login(told, None, Login(record, tags, now))).outcome is DONE
        before = await subject.read(guest)
        own.cli("config", "set", "maxmemory", "1")
        for call in (
            login(subject, tags),
            login(subject, tags, guest, V, keep=frozenset()),
            login(subject, tags, guest, V, keep=frozenset(), attributes={"a": bytes(5000)}),
            subject.store.revoke(tags, None, now),
            subject.store.retire(mine, W, now + 60),
        ):
            with pytest.raises(StoreError):
                await call
        assert await subject.read(guest) == before
        assert {*await listed(subject, tags)} == {mine, told}
        assert await subject.delete(told) is True  # a logout wins: its end is not told
        assert await subject.delete(mine) is True
        assert {*await subject.store.ended([told, mine, guest])} == {told, mine}
        assert await listed(subject, tags) == []
        own.cli("config", "set", "maxmemory", "0")
        await logged_in(subject, tags)


# --- callers that leave ---


async def prepared(subject: Subject) -> dict[str, Any]:
    """A user with three sessions, of which one is to be told of; one that is due; and a session of nobody."""
    tags, now = tags_of(), subject.clock()
    kept, gone = secrets.token_bytes(16), secrets.token_bytes(16)
    for record_id in (kept, gone):
        record = Record(W, now, 600.0, now + 3_000.0, {ABOUT: b"about", "~1": b"flash"}, Extra(tags[0], 9e4))
        assert (await subject.store.login(record_id, None, Login(record, tags, now))).outcome is DONE
    await subject.delete(gone)
    mine = [await logged_in(subject, tags, attributes={"a": b"1"}) for _ in range(2)]
    anonymous = await subject.insert({"cart": b"1"})
    subject.clock.advance(1)
    return {"tags": tags, "kept": kept, "gone": gone, "mine": mine, "anonymous": anonymous}


Act = Callable[[Subject, dict[str, Any]], Any]
VERBS: dict[str, Act] = {
    "a login on a new record": lambda subject, made: login(subject, made["tags"], limit=2),
    "a login of an anonymous session": lambda subject, made: login(
        subject, made["tags"], made["anonymous"], V, keep=frozenset({"cart"}), limit=2, attributes={"a": bytes(5000)}
    ),
    "a login again": lambda subject, made: login(subject, made["tags"], made["mine"][0], W, X, strictly=True),
    "a revocation": lambda subject, made: subject.store.revoke(made["tags"], made["mine"][0], subject.clock()),
    "a list": lambda subject, made: subject.store.find(made["tags"]),
    "a look": lambda subject, made: subject.store.ended([made["kept"], made["gone"], *made["mine"]]),
    "retiring": lambda subject, made: subject.store.retire(made["mine"][0], W, subject.clock() + 60),
    "a logout that is to be told": lambda subject, made: subject.delete(made["kept"], "logged out"),
    "taking": lambda subject, made: subject.store.take(made["kept"], W, "~"),
    "claiming": lambda subject, made: subject.store.due(made["gone"]),
    "settling": lambda subject, made: subject.store.settle(made["gone"]),
}


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_s9_cancelled_at_each_await(factory: Factory, verb: str, kind: str) -> None:
    """S9, U1: what is alive and not listed has a secret that nobody has; who comes next has his own outcome."""
    async with opened(factory) as subject:
        neighbour = tags_of()
        hers = await logged_in(subject, neighbour)
        for at in itertools.count():
            made = await prepared(subject)
            tags, mine, anonymous = made["tags"], made["mine"], made["anonymous"]
            was_cancelled = await cancelled(VERBS[verb](subject, made), at)
            found, shown = await asyncio.gather(subject.load(hers), listed(subject, neighbour))
            assert (found.verifier, shown) == (W, [hers])
            shown = await listed(subject, tags)
            for one in (made["kept"], *mine):
                record = await subject.load(one)
                assert record is None or record.extra.tag is None or one in shown
            record = await subject.load(anonymous)
            assert record is None or record.verifier == V or anonymous in shown or record.verifier == W
            assert record is None or (record.verifier == V) is (record.extra.tag is None)
            if not was_cancelled:
                break
            assert {*await subject.store.revoke(tags, None, subject.clock() + 1)} >= {*shown} - {anonymous}
            assert await listed(subject, tags) == []
            assert [await subject.load(one) for one in (made["kept"], mine[1])] == [None, None]
        assert at > 0


@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_s9_s10_replies_out_of_step_are_an_error_never_data(one: RedisServer, verb: str) -> None:
    """S9, S10: after what is no reply, or one too many, any verb fails or is carried out; others get their own."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        for junk in (b"garbage\r\n", b"+a reply of nobody\r\n", *JUNK):
            made, others = await prepared(subject), tags_of()
            hers = await logged_in(subject, others)
            assert await subject.delete(bytes(16)) is False  # what was told before has been heard
            wire.inject = junk
            await asyncio.gather(VERBS[verb](subject, made), return_exceptions=True)
            wire.inject = b""
            for _ in range(2):
                outcomes = await asyncio.gather(
                    listed(subject, others), subject.store.ended([hers]), return_exceptions=True
                )
            assert outcomes == [[hers], {}]


@pytest.mark.parametrize(
    "junk", [b":1\r\n", b"*1\r\n+x\r\n", b"$-1\r\n", b"*0\r\n", b"*2\r\n:1\r\n*1\r\n+x\r\n", b"+x\r\n"]
)
@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_s9_a_misrouting_server_is_an_error_or_ends_nothing_of_others(
    one: RedisServer, verb: str, junk: bytes
) -> None:
    """S9: who is given the reply to another's command raises what a store may raise, or had no use for it."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        made, others = await prepared(subject), tags_of()
        hers = await logged_in(subject, others)
        assert await subject.delete(bytes(16)) is False  # what was told before has been heard
        wire.instead = junk
        (outcome,) = await asyncio.gather(VERBS[verb](subject, made), return_exceptions=True)
        assert not isinstance(outcome, BaseException) or isinstance(outcome, StoreError), repr(outcome)
        wire.instead = b""
        assert await listed(subject, others) == [hers]
