"""Conversations in Redis: keys, slots and ends; what a session pays for them; replies that are lost, and failovers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from over_redis import Wire, eventually
from servers_redis import RedisServer, replicated, until
from store_subject import Factory, Subject, opened

from fastersession.errors import StoreError
from fastersession.stores.base import Change
from fastersession.stores.logs import Batch, Entry, Log, Outcome, Place, Run
from fastersession.stores.redis import RedisStore
from fastersession.testing.contract.logs import append, filled, look, made, numbers, token, values
from fastersession.testing.contract.runs import begin, end, read, running, write
from fastersession.testing.contract.session_logs import V, W, a_session, log_of

DONE, GONE, TAKEN = Outcome.DONE, Outcome.GONE, Outcome.TAKEN


def over(place: Any) -> Factory:
    """Return what makes a store over a server or a proxy."""
    return lambda clock: RedisStore(place.url, clock=clock)


def keys(server: RedisServer, what: bytes) -> list[bytes]:
    """Return the keys that hold this."""
    return [key for key in server.cli("keys", "*").split() if what in key]


def life(server: RedisServer, key: bytes) -> int:
    """Return how many seconds the server keeps a key; -1 for ever."""
    return int(server.cli("ttl", key.decode()))


async def a_run_of_a_session(subject: Subject) -> tuple[bytes, Log, Run]:
    """Make a session with a conversation that runs."""
    record_id = await a_session(subject)
    log = await log_of(subject, record_id)
    assert (await append(subject, log, (1, 1), key=token())).outcome is DONE
    return record_id, log, await running(subject, log, frames=2)


@in_loop
async def test_no_module_of_conversations_is_imported_before_they_are_used() -> None:
    """A store that keeps sessions only does not import what it does not need."""
    code = (
        "import sys; from fastersession.stores.redis import RedisStore; store = RedisStore('redis://localhost');"
        "name = 'fastersession.stores.redis.logs'; assert not any(one.startswith(name) for one in sys.modules);"
        "assert store.logs is store.logs; assert name in sys.modules"
    )
    assert await asyncio.to_thread(subprocess.call, [sys.executable, "-c", code]) == 0


@in_loop
async def test_all_keys_of_a_conversation_are_in_one_slot(one: RedisServer) -> None:
    """That of its own id, or of its session's; only a user's list is elsewhere. Deleted, none is left."""
    async with opened(over(one)) as subject:
        owner = token()
        users = await made(subject, owner)
        assert (await append(subject, users, (1, 1), key=token())).outcome is DONE
        await running(subject, users, frames=1)
        record_id, sessions, _ = await a_run_of_a_session(subject)
        for tag, log, count in ((users.place.conversation, users, 4), (record_id, sessions, 7)):
            found = keys(one, tag.hex().encode())
            assert len(found) == count
            assert {key.partition(b"}")[0] for key in found} == {b"fs:{" + tag.hex().encode()}
            assert await subject.store.logs.delete(log.place) is True
        assert keys(one, users.place.conversation.hex().encode()) == keys(one, owner.hex().encode()) == []
        assert keys(one, record_id.hex().encode()) == [b"fs:{%b}" % record_id.hex().encode()]
        assert one.cli("hexists", f"fs:{{{record_id.hex()}}}", "h") == b"0\n"


@pytest.mark.parametrize("retention", [None, 9000.0])
@in_loop
async def test_nothing_is_left_after_a_logout(one: RedisServer, retention: float | None) -> None:
    """Of the conversations, also where the record stays for its end to be told."""
    async with opened(over(one)) as subject:
        record_id = await a_session(subject, (), retention)
        for _ in range(3):
            log = await log_of(subject, record_id)
            assert (await append(subject, log, (1, 1), key=token())).outcome is DONE
            await end(subject, await running(subject, log, frames=1))
            await running(subject, log, frames=1)
        tag = record_id.hex().encode()
        assert len(keys(one, tag)) == 3 + 3 * 5
        assert await subject.store.delete(record_id) is True
        assert keys(one, tag) == ([] if retention is None else [b"fs:{%b}" % tag])


@in_loop
async def test_an_end_that_is_told_leaves_no_conversation(one: RedisServer) -> None:
    """What has expired and is claimed has none any more."""
    async with opened(over(one)) as subject:
        record_id = await a_session(subject, (), 9000.0)
        await running(subject, await log_of(subject, record_id), frames=1)
        subject.clock.advance(700)
        claimed = [ended.record_id for _ in range(16) for ended in await subject.store.due()]
        assert record_id in claimed
        assert keys(one, record_id.hex().encode()) == [b"fs:{%b}" % record_id.hex().encode()]


@in_loop
async def test_what_moves_the_records_life_moves_theirs(one: RedisServer) -> None:
    """Of all keys but the frames', by any verb; of a conversation that is made later, too."""
    async with opened(over(one)) as subject:
        record_id, _, _ = await a_run_of_a_session(subject)
        tag, now = record_id.hex().encode(), subject.clock()

        def lives() -> set[int]:
            return {round(life(one, key), -1) for key in keys(one, tag) if b":r:" not in key}

        assert lives() == {660}
        assert await subject.store.update(record_id, V, Change(now, idle_timeout=1400.0)) is True
        assert lives() == {1460}
        assert await subject.store.regenerate(record_id, V, W, now + 1000.0, Change(now)) is True
        assert lives() == {1060}
        assert await subject.store.touch(record_id, W, now + 1.0) is True
        place = Place(token(), record_id, W)
        log = await made(subject, record_id, place=place)
        assert (await append(subject, log, (1, 1), key=token())).outcome is DONE
        assert lives() == {1060}
        assert await subject.store.regenerate(record_id, W, V, float("inf"), Change(now, idle_timeout=1e13)) is True
        found = [key for key in keys(one, tag) if b":r:" not in key]
        assert min(life(one, key) for key in found if b":" in key[3:]) > 1e9


@in_loop
async def test_frames_have_an_end_of_their_own(one: RedisServer) -> None:
    """At the begin how long they are kept, at the end how long they linger; a frame moves nothing."""
    async with opened(over(one)) as subject:
        log = await made(subject, keep=5000.0)
        run = await running(subject, log, kept=2000.0, frames=1)
        (frames,) = keys(one, run.run.hex().encode())
        assert 1990 <= life(one, frames) <= 2000
        assert await write(subject, run, 9) is DONE
        assert (await append(subject, log, (1, 1), key=token(), keep=7000.0)).outcome is DONE
        assert 1990 <= life(one, frames) <= 2000
        assert (await end(subject, run, lingers=300.0)).outcome is DONE
        assert 290 <= life(one, frames) <= 300
        others = [key for key in keys(one, log.place.conversation.hex().encode()) if key != frames]
        assert {round(life(one, key), -1) for key in others} == {7060}
        assert len(others) == 3


@in_loop
async def test_the_names_of_frames_that_are_over_are_forgotten(one: RedisServer) -> None:
    """By the next begin, so that a conversation of many runs does not grow by each."""
    async with opened(over(one)) as subject:
        record_id = await a_session(subject)
        log = await log_of(subject, record_id)
        for _ in range(5):
            assert (await end(subject, await running(subject, log), lingers=0.0)).outcome is DONE
        await running(subject, log)
        assert one.cli("scard", f"fs:{{{record_id.hex()}}}:f") == b"1\n"


def calls(server: RedisServer) -> dict[str, int]:
    """Return how often each command was called."""
    said = server.cli("info", "commandstats").decode()
    return {name: int(count) for name, count in re.findall(r"cmdstat_([^:]+):calls=(\d+)", said)}


@in_loop
async def test_a_session_without_conversations_costs_no_command_more(own: RedisServer) -> None:
    """Each verb calls what it called before there were any; one that has some moves theirs."""
    expected = {
        "touch": {"hmget": 1, "hset": 1, "pexpire": 1},
        "update": {"hmget": 1, "hset": 1, "hincrby": 1, "pexpire": 1},
        "regenerate": {"hmget": 1, "hset": 1, "hincrby": 1, "pexpire": 1, "info": 1},
        "delete": {"hmget": 1, "unlink": 1, "info": 1},
    }
    async with opened(over(own)) as subject:
        for has_some in (False, True):
            record_id, now = await a_session(subject), subject.clock()
            if has_some:
                await log_of(subject, record_id)
            verbs: dict[str, Callable[[], Awaitable[Any]]] = {
                "touch": partial(subject.store.touch, record_id, V, now + 1),
                "update": partial(subject.store.update, record_id, V, Change(now, {"a": b"1"})),
                "regenerate": partial(subject.store.regenerate, record_id, V, W, now + 1000.0, Change(now)),
                "delete": partial(subject.store.delete, record_id),
            }
            for name, verb in verbs.items():
                before = calls(own)
                assert await verb()
                after = calls(own)
                more = {what: after[what] - before.get(what, 0) for what in after}
                more = {what: n for what, n in more.items() if n and what not in ("eval", "evalsha", "hello")}
                more["info"] = more.get("info", 0) - 1  # ours
                assert ({what: n for what, n in more.items() if n} == expected[name]) is not has_some, name


@in_loop
async def test_frames_of_all_runs_leave_as_one_write_without_scripts(one: RedisServer) -> None:
    """A user's: of each run one XADD, in one piece; they are read by one XREAD."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        runs = [await running(subject, await made(subject)) for _ in range(20)]
        wire.sent.clear()
        batches = [Batch(run, (1, 2), b"frames", 6) for run in runs]
        assert await subject.store.logs.write(batches) == [DONE] * 20
        (sent,) = [piece for piece in wire.sent if b"XADD" in piece]
        assert (sent.count(b"XADD"), sent.count(b"EVAL")) == (20, 0)
        wire.sent.clear()
        found = await subject.store.logs.read(dict.fromkeys(runs, (1, 0)), 1000)
        (sent,) = [piece for piece in wire.sent if b"XREAD" in piece]
        assert (sent.count(b"XREAD"), sent.count(b"EVAL")) == (1, 0)
        assert [found[run] for run in runs] == [[((1, 2), b"frames")]] * 20


JUNK = (b":1\r\n", b"*0\r\n", b"+OK\r\n", b"*1\r\n+x\r\n", b"*1\r\n:9\r\n", b"*2\r\n:1\r\n+x\r\n", b"$1\r\nx\r\n")
Verb = Callable[[Subject, Log, Run], Awaitable[Any]]
QUESTION, HEAD, BEGUN, KEY = Entry((1, 3), b"3", size=1), b"head", b"b" * 16, b"k" * 16
LOST: dict[str, tuple[bytes, Verb]] = {
    "append": (b"value-3", lambda subject, log, run: append(subject, log, (1, 3), b"value-3")),
    "keyed": (b"value-3", lambda subject, log, run: append(subject, log, (1, 3), b"value-3", key=KEY)),
    "write": (b"XADD", lambda subject, log, run: write(subject, run, 7)),
    "describe, again": (b"other", lambda subject, log, run: subject.store.logs.describe(log, b"other", 1)),
    "end": (b"the-end", lambda subject, log, run: end(subject, run, b"the-end", entry=QUESTION)),
    "create": (b"EVAL", lambda subject, log, run: made(subject)),
}


@pytest.mark.parametrize("verb", LOST)
@in_loop
async def test_a_lost_reply_is_made_again_with_the_same_outcome(one: RedisServer, verb: str) -> None:
    """Whatever was carried out before the connection was cut is not carried out twice."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        log = await filled(subject, 2)
        run = await running(subject, log, frames=2)
        word, call = LOST[verb]
        other = await filled(subject, 2)
        await call(subject, other, await running(subject, other, frames=2))  # the server knows the script then
        wire.word = word
        outcome = await call(subject, log, run)
        assert wire.cuts == 1
        expected = TAKEN if verb == "describe, again" else DONE
        found = outcome if isinstance(outcome, Outcome) else getattr(outcome, "outcome", DONE)
        assert found is expected
        added = verb in ("append", "keyed", "end")
        assert len(await values(subject, log)) == 2 + added
        frames = await read(subject, run)
        assert frames == [b"2", b"4", *([b"7"] if verb == "write" else [b"the-end"] if verb == "end" else [])]


@in_loop
async def test_a_begin_whose_reply_was_lost(one: RedisServer) -> None:
    """It is known by its head; its question is there once."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        log = await filled(subject, 2)
        wire.word = b"head-of-it"
        begun = await begin(subject, log, BEGUN, head=b"head-of-it", entry=QUESTION)
        assert wire.cuts == 1
        assert begun.outcome is DONE
        assert await numbers(subject, log) == [1, 2, 3]


@in_loop
async def test_a_begin_is_known_though_its_frames_are_over(one: RedisServer) -> None:
    """By the digest of its head: as long as it runs, a retry is one, and another caller is not."""
    async with opened(over(one)) as subject:
        log = await made(subject)
        run = await running(subject, log, kept=0.0, head=b"head")
        assert (await begin(subject, log, run.run, head=b"head")).outcome is DONE
        assert (await begin(subject, log, run.run, head=b"other")).outcome is Outcome.SAME


@in_loop
async def test_the_session_of_frames_is_looked_at_in_the_step_that_writes(one: RedisServer) -> None:
    """Cut in the middle of it, too: nothing is written after the record is gone."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        record_id, log, run = await a_run_of_a_session(subject)
        wire.word = b"value-of-it"
        assert await write(subject, run, 6, b"value-of-it") is DONE
        assert wire.cuts == 1
        assert await read(subject, run) == [b"2", b"4", b"value-of-it"]
        assert await subject.store.delete(record_id) is True
        assert await write(subject, run, 8) is GONE
        assert (await append(subject, log, (1, 2), run=run.run)).outcome is GONE
        assert keys(one, record_id.hex().encode()) == []


@in_loop
async def test_a_failover_that_loses_the_last_entries(tmp_path: Path) -> None:
    """What is read then is without a gap, in order; a writer that is ahead is told the top, and goes on from there."""
    with replicated(tmp_path) as (master, replica):
        async with Wire(master) as wire, opened(over(wire)) as subject:
            log = await filled(subject, 3)
            run = await running(subject, log, frames=2)
            until(lambda: offset(replica) == offset(master), "the replica")
            replica.cli("replicaof", "no", "one")
            assert (await append(subject, log, (1, 4), b"4")).outcome is DONE
            assert await write(subject, run, 6) is DONE
            wire.server = replica
            master.kill()
            appended = await eventually(partial(append, subject, log, (1, 5), b"5"))
            assert (appended.outcome, appended.top) == (TAKEN, (1, 3))
            assert (await append(subject, log, (1, 4), b"44")).outcome is DONE
            assert await write(subject, run, 8) is DONE
            assert await numbers(subject, log) == [1, 2, 3, 44]
            assert await read(subject, run) == [b"2", b"4", b"8"]
            assert (await end(subject, run)).outcome is DONE


def offset(server: RedisServer) -> bytes:
    """Return up to where a server has what was written."""
    found = re.search(rb"master_repl_offset:(\d+)", server.cli("info", "replication"))
    assert found is not None
    return found[1]


@in_loop
async def test_a_reply_to_something_else_is_no_outcome(one: RedisServer) -> None:
    """A connection that is out of step is left, and nothing is made of what it said."""
    async with Wire(one) as wire, opened(over(wire)) as subject:
        log = await filled(subject, 1)
        run = await running(subject, log, frames=1)
        logs = subject.store.logs
        verbs: tuple[Callable[[], Awaitable[Any]], ...] = (
            partial(logs.entries, log, None, None, 9, 9, newest=True),
            partial(logs.find, log, None, run.run),
            partial(begin, subject, log, run.run),
            partial(logs.cut, log, (9, 9), None),
            partial(logs.delete, log.place, token()),
        )
        for verb in verbs:
            for junk in JUNK[: 5 if verb is verbs[-1] else None]:
                await verb()  # over a connection that is made
                await logs.owned(token(), 1, None)  # behind all that was told
                wire.instead = junk
                with pytest.raises(StoreError, match="not to what was asked"):
                    await verb()
        verbs = partial(look, subject, log), partial(append, subject, log, (1, 9)), partial(logs.renew, [run], 100.0)
        for verb in verbs:
            for junk in JUNK[:5]:
                await verb()
                await logs.owned(token(), 1, None)
                wire.instead = junk + b"+PONG\r\n"
                with pytest.raises(StoreError, match="not to what was asked"):
                    await verb()
        assert await numbers(subject, log) == [1]
        assert await read(subject, run) == [b"2"]


@in_loop
async def test_a_full_server_does_nothing_by_halves(own: RedisServer) -> None:
    """Each verb fails, and all is as before."""
    async with opened(over(own)) as subject:
        log = await filled(subject, 2)
        run = await running(subject, log, frames=1)
        before = await look(subject, log)
        assert before is not None
        own.cli("config", "set", "maxmemory", "1")
        answer = Entry((1, 3), b"3", run.run, run.run, 1)
        for verb in (
            partial(append, subject, log, (1, 3), b"3", key=token()),
            partial(write, subject, run, 4),
            partial(end, subject, run, entry=answer),
            partial(made, subject),
        ):
            with pytest.raises(StoreError):
                await verb()
        own.cli("config", "set", "maxmemory", "0")
        after = await look(subject, log)
        assert after is not None
        assert after[:-1] == before[:-1]
        assert after.run is not None
        assert after.run.is_running
        assert await read(subject, run) == [b"2"]
        assert (await end(subject, run, entry=answer)).outcome is DONE


@in_loop
async def test_a_slow_writer_after_a_cut_and_after_a_deletion(one: RedisServer) -> None:
    """Refused by the server, in whatever order its bytes arrive; also where the name was made anew."""
    async with opened(over(one)) as subject:
        log = await filled(subject, 4)
        run = await running(subject, log, frames=1)
        assert (await end(subject, run, lingers=500.0)).outcome is DONE
        assert await subject.store.logs.cut(log, (1, 2), None) == (DONE, (2, 2), None)
        for seq in (3, 4, 5):
            assert (await append(subject, log, (1, seq), b"9")).outcome is TAKEN
        assert await subject.store.logs.delete(log.place) is True
        anew = await made(subject, place=log.place)
        assert await write(subject, run, 50) is GONE
        assert (await append(subject, log, (2, 3), b"9")).outcome is GONE
        assert (await end(subject, run)).outcome is GONE
        assert await values(subject, anew) == []
        assert len(keys(one, log.log.hex().encode())) == 0


@in_loop
async def test_a_cut_leaves_the_other_entries_of_a_run(one: RedisServer) -> None:
    """The last of them that stays is found."""
    async with opened(over(one)) as subject:
        log = await made(subject)
        run = await running(subject, log)
        for number in (1, 2, 3):
            assert (await append(subject, log, (1, number), b"%d" % number, run=run.run)).outcome is DONE
        assert (await end(subject, run)).outcome is DONE
        for seq, expected in ((2, b"2"), (1, b"1")):
            assert (await subject.store.logs.cut(log, (1, seq), None)).outcome is DONE
            found = await subject.store.logs.find(log, None, run.run)
            assert found is not None
            assert found.value == expected


@in_loop
async def test_a_list_forgets_what_is_gone(one: RedisServer) -> None:
    """An owner's list is a hint: what a look does not find goes, and a page is full all the same."""
    async with opened(over(one)) as subject:
        owner = token()
        over_soon = [await made(subject, owner, keep=10.0) for _ in range(5)]
        subject.clock.advance(1)
        kept = [await made(subject, owner) for _ in range(2)]
        one.cli("zadd", f"fs:{{o:{owner.hex()}}}", "9e9", "nothing-like-this")
        subject.clock.advance(20)
        assert (await append(subject, kept[0], (1, 1))).outcome is DONE
        listed = await subject.store.logs.owned(owner, 2, None)
        assert {found.log for found in listed} == {log.log for log in kept}
        assert await subject.store.logs.owned(owner, 10, None) == listed
        last = one.cli("zrange", f"fs:{{o:{owner.hex()}}}", "-1", "-1", "withscores").split()[-1]
        assert float(last) == subject.clock()
        assert one.cli("zcard", f"fs:{{o:{owner.hex()}}}") == b"2\n"
        assert await subject.store.logs.purge() >= len(over_soon)


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_pages_and_purge_find_every_node(kind: str, factory: Factory) -> None:
    """Of users' conversations only; a session's is not on any page."""

    async def scenario() -> None:
        async with opened(factory) as subject:
            logs = [await made(subject, keep=10.0) for _ in range(40)]
            record_id = await a_session(subject)
            hidden = await log_of(subject, record_id)
            found, after = set[bytes](), None
            while True:
                page, after = await subject.store.logs.page(after, 20)
                found |= {one.log for one in page}
                if after is None:
                    break
            assert {log.log for log in logs} <= found
            assert hidden.log not in found
            subject.clock.advance(20)
            assert await subject.store.logs.purge() >= len(logs)
            assert await values(subject, hidden) == []

    assert kind
    asyncio.run(scenario())
