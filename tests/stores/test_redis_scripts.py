"""RedisStore's scripts go by their digest: what is sent, and servers that do not know one, or refuse the command."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import Browser, in_loop
from over_redis import KEY, Wire, change, opened
from routes import Call, serve
from servers_redis import RedisServer, replicated, standalone, until
from store_subject import ID, OWNER, V1, V2, V3, Factory, content, make

from fastersession.errors import StoreError
from fastersession.stores.base import Change, Record
from fastersession.stores.redis import RedisStore
from fastersession.testing.stores import check_store

Verb = Callable[[RedisStore], Awaitable[Any]]
TEXT, DIGEST, REFUSED = "eval:calls=", "evalsha:calls=", "evalsha:.*failed_calls="

# In this order each has an outcome that is true.
VERBS: dict[str, Verb] = {
    "create": lambda store: store.create(ID, Record(V1, time.time(), 99.0, math.inf, {"a": b"1"})),
    "update": lambda store: store.update(ID, V1, Change(time.time(), {"b": b"2"}, ("a",), 50.0)),
    "touch": lambda store: store.touch(ID, V1, time.time()),
    "lock": lambda store: store.lock(ID, V1, OWNER, 5.0),
    "update, leased": lambda store: store.update(ID, V1, Change(time.time(), {"c": b"3"}, lease=OWNER)),
    "unlock": lambda store: store.unlock(ID, OWNER),
    "regenerate": lambda store: store.regenerate(ID, V1, V2, math.inf, Change(time.time(), {"d": b"4"}, ("b",))),
    "delete": lambda store: store.delete(ID),
}


def count(what: str, *servers: RedisServer) -> int:
    """How often the servers were called so."""
    said = [server.cli("info", "commandstats").decode() for server in servers]
    return sum(int(found) for text in said for found in re.findall(f"cmdstat_{what}(\\d+)", text))


def forget(*servers: RedisServer) -> None:
    for server in servers:
        server.cli("script", "flush")


async def add(call: Call) -> None:
    call.session["counter"] = call.session.get("counter", 0) + 1
    await call.reply(str(call.session["counter"]))


async def fill(call: Call) -> None:
    call.session["big"] = "x" * 1_000_000
    await call.reply()


@in_loop
async def test_a_changed_counter_sends_350_bytes(one: RedisServer) -> None:
    """A request that adds one, beside 1 MB too: so much in all, the read and the sealed write."""
    async with Wire(one) as wire, opened(wire.url) as store:
        browser = Browser(serve({"/add": add, "/fill": fill}, store=store))
        await browser.get("/set?user=alice")
        await browser.get("/add")
        for n in range(2, 6):
            if n == 4:
                await browser.get("/fill")
            wire.sent.clear()
            assert (await browser.get("/add")).body == b"%d" % n
            read, written = wire.sent
            assert read.startswith(b"*2\r\n$7\r\nHGETALL\r\n")
            assert b"$7\r\nEVALSHA\r\n" in written
            assert len(read) + len(written) <= 350


@in_loop
async def test_a_server_that_has_forgotten_a_script_is_sent_it_once(one: RedisServer) -> None:
    """SCRIPT FLUSH before each verb, while no connection ends: one NOSCRIPT, one EVAL, the outcome; then the digest."""
    async with opened(one) as store:
        for name, verb in VERBS.items():
            forget(one)
            texts, refused = count(TEXT, one), count(REFUSED, one)
            assert await verb(store), name
            assert (count(TEXT, one) - texts, count(REFUSED, one) - refused) == (1, 1), name
            texts, digests = count(TEXT, one), count(DIGEST, one)
            await verb(store)
            assert (count(TEXT, one), count(DIGEST, one) - digests) == (texts, 1), name
        assert one.cli("keys", "*").strip() == b""


@in_loop
async def test_of_many_at_once_each_has_its_own_outcome(one: RedisServer) -> None:
    """Reads, saves and refused saves that leave in one write, to a server without scripts: nobody gets another's."""
    async with opened(one) as store:
        ids = [n.to_bytes(16) for n in range(60)]
        for record_id in ids:
            await make(store, record_id, who=record_id)
        for _ in range(5):
            forget(one)
            saves = [store.update(i, (V1, V2)[n % 2], change(new=i)) for n, i in enumerate(ids)]
            touches = [store.touch(i, (V2, V1)[n % 2], time.time()) for n, i in enumerate(ids)]
            loads = [content(store, i) for i in ids]
            found = await asyncio.gather(*saves, *touches, *loads)
            assert found[:60] == [True, False] * 30
            assert found[60:120] == [False, True] * 30
            assert [each["who"] for each in found[120:]] == ids
        for n, record_id in enumerate(ids):
            assert (await content(store, record_id)).get("new") == (None if n % 2 else record_id)


@in_loop
async def test_s9_a_caller_that_leaves_between_the_digest_and_the_text(one: RedisServer) -> None:
    """S9: cancelled after any number of turns, a save is done as a whole or not at all, and the next is in step."""
    async with opened(one) as store:
        other = bytes(16)
        await make(store, other, who=b"other")
        outcomes = set()
        for turns in range(40):
            await store.delete(ID)
            await make(store, a=b"1", gone=b"1")
            forget(one)
            save = asyncio.ensure_future(store.update(ID, V1, Change(time.time(), {"a": b"2"}, ("gone",))))
            for _ in range(turns):
                await asyncio.sleep(0)
            left = save.cancel()
            await asyncio.gather(save, return_exceptions=True)
            assert await content(store, other) == {"who": b"other"}
            found = await content(store)
            assert found in ({"a": b"1", "gone": b"1"}, {"a": b"2"})
            outcomes.add((left, len(found)))
            assert await store.update(ID, V1, change(b=b"3"))
        assert (True, 2) in outcomes


@pytest.mark.parametrize("verb", ["create", "regenerate"])
@in_loop
async def test_a_lost_reply_and_a_lost_script_are_no_refusal(verb: str, one: RedisServer) -> None:
    """Carried out, then the connection and the server's scripts lost: the text that is sent knows of the first try."""
    async with Wire(one) as wire, opened(wire.url) as store:
        wire.at_cut = lambda: forget(one)
        await make(store)
        await VERBS[verb](store)  # now the server knows the script
        await store.delete(ID)
        if verb == "regenerate":
            await make(store)
        wire.word, texts = b"EVALSHA", count(TEXT, one)
        assert await VERBS[verb](store) is True
        assert (wire.cuts, count(TEXT, one) - texts) == (1, 1)
        assert not await VERBS[verb](store)


def fields(server: RedisServer) -> list[bytes]:
    """The lines of a record's fields and values, in no order of the server's: a look may move them in its table."""
    return sorted(server.cli("hgetall", KEY).splitlines())


@in_loop
async def test_s12_no_transaction_names_a_script_by_its_digest(one: RedisServer) -> None:
    """S12: a server without scripts refuses a large save as ever: what MULTI holds needs none."""
    async with Wire(one) as wire, opened(wire.url) as store:
        for size in (2000, 100_000):
            large, other = {"a": bytes(size)}, {"a": b"x" * size}
            for verb, done in (
                (store.create(ID, Record(V1, time.time(), 99.0, math.inf, large)), True),
                (store.create(ID, Record(V2, time.time(), 99.0, math.inf, other)), False),
                (store.update(ID, V2, Change(time.time(), other, ("b",))), False),
                (store.update(ID, V1, Change(time.time(), other, lease=OWNER)), False),
                (store.update(ID, V1, Change(time.time(), large, ("b",))), True),
                (store.regenerate(ID, V2, V1, math.inf, Change(time.time(), other)), False),
                (store.regenerate(ID, V1, V2, math.inf, Change(time.time(), large)), True),
                (store.regenerate(ID, V1, V3, math.inf, Change(time.time(), other)), False),  # once is enough
                (store.update(ID, V1, Change(time.time(), large)), True),  # and the one before may still save
            ):
                before = fields(one)
                forget(one)
                wire.sent.clear()
                assert await verb is done
                block = b"".join(wire.sent)
                assert block.count(b"MULTI") == block.count(b"EXEC") == 1
                assert b"EVALSHA" not in block
                assert done or fields(one) == before
            assert await store.delete(ID)
        assert one.cli("keys", "*").strip() == b""


ACCOUNTS = {
    "no right to it": ("-evalsha",),
    "to nothing but what is needed": ("-@all", "+hello", "+eval", "+@hash", "+@keyspace"),
}


@pytest.mark.parametrize("account", ACCOUNTS)
@in_loop
async def test_an_account_that_may_not_use_digests_is_found_at_the_opening(account: str, own: RedisServer) -> None:
    """It is sent the texts from the first verb on, and nothing is refused to it."""
    own.cli("acl", "setuser", "modest", "reset", "on", ">right", "~fs:*", "+@all", *ACCOUNTS[account])
    async with opened(f"redis://modest:right@127.0.0.1:{own.port}") as store:
        asked = count("evalsha:.*rejected_calls=", own)
        for name, verb in VERBS.items():
            assert await verb(store), name
        assert count("evalsha:.*rejected_calls=", own) == asked
        assert count(DIGEST, own) == 0
    assert asked == 1


@in_loop
async def test_a_server_without_the_command_gets_the_texts(tmp_path: Path) -> None:
    """As one whose configuration has renamed it, or a proxy that knows EVAL only."""
    with standalone(tmp_path, "--rename-command", "EVALSHA", "") as server:
        async with Wire(server) as wire, opened(wire.url) as store:
            assert b"EVALSHA" in b"".join(wire.sent)
            wire.sent.clear()
            for name, verb in VERBS.items():
                assert await verb(store), name
            assert b"EVALSHA" not in b"".join(wire.sent)


@pytest.mark.parametrize("refusal", [b"-ERR unsupported command\r\n", b"-DENIED by the proxy\r\n"])
@in_loop
async def test_any_refusal_at_the_opening_is_one(refusal: bytes, one: RedisServer) -> None:
    """Whatever a proxy says to the first digest: the store opens, and sends no other."""
    async with Wire(one) as wire:
        wire.denied = {b"EVALSHA": refusal}
        async with opened(wire.url) as store:
            wire.sent.clear()
            for name, verb in VERBS.items():
                assert await verb(store), name
            assert b"EVALSHA" not in b"".join(wire.sent)


@in_loop
async def test_an_account_without_scripts_is_told_at_the_opening(own: RedisServer) -> None:
    """Who may EVALSHA but not EVAL could not go on after NOSCRIPT. A server that knows the scripts hides nothing."""
    async with opened(own) as store:
        await make(store)
    own.cli("acl", "setuser", "frail", "reset", "on", ">right", "~*", "+@all", "-eval")
    with pytest.raises(StoreError, match="'eval'"):
        await RedisStore(f"redis://frail:right@127.0.0.1:{own.port}").open()


@in_loop
async def test_a_right_that_is_lost_while_the_store_is_open(own: RedisServer) -> None:
    """As after a failover to a server with another list of rights: the texts go, no call fails, each verb once."""
    own.cli("acl", "setuser", "modest", "reset", "on", ">right", "~*", "+@all")
    async with opened(f"redis://modest:right@127.0.0.1:{own.port}") as store:
        assert await make(store, n=b"0")
        own.cli("acl", "setuser", "modest", "-evalsha")
        found = await asyncio.gather(*(store.update(ID, V1, change(n=b"%d" % n)) for n in range(20)))
        assert found == [True] * 20
        record = await store.load(ID)
        assert record is not None
        assert record.version == 21
        asked = count("evalsha:.*rejected_calls=", own)
        assert await store.regenerate(ID, V1, V2, math.inf, change())
        assert await store.delete(ID)
        assert count("evalsha:.*rejected_calls=", own) == asked


@in_loop
async def test_a_script_that_fails_is_not_run_again(one: RedisServer) -> None:
    """What it did may have been done: only a refusal to begin is followed by the text."""
    async with opened(one) as store:
        await make(store)
        for verb in ("update", "touch", "lock"):
            await VERBS[verb](store)
        one.cli("set", KEY, "text")
        texts, digests = count(TEXT, one), count(DIGEST, one)
        for verb in ("update", "touch", "lock"):
            with pytest.raises(StoreError):
                await VERBS[verb](store)
        assert (count(TEXT, one), count(DIGEST, one) - digests) == (texts, 3)


@in_loop
async def test_the_replica_that_takes_over_is_sent_them(tmp_path: Path) -> None:
    """A server's scripts are its own: the new master has none, and the same store goes on."""
    with replicated(tmp_path) as (master, replica):
        async with Wire(master) as wire, opened(wire.url) as store:
            await make(store, a=b"1")
            assert await store.update(ID, V1, change(b=b"2"))
            until(lambda: replica.cli("hget", KEY, "ab") == b"2\n", "replication")
            replica.cli("replicaof", "no", "one")
            wire.server = replica
            master.kill()
            assert await store.update(ID, V1, change(c=b"3"))
            assert await content(store) == {"a": b"1", "b": b"2", "c": b"3"}
            assert (count(REFUSED, replica), count(TEXT, replica)) == (1, 1)


@pytest.mark.parametrize("verb", [name for name in VERBS if name != "create"])
@in_loop
async def test_a_slot_that_moves_to_a_node_without_scripts(verb: str, three: list[RedisServer]) -> None:
    """ASK leads to a node that knows no script: it gets the text, with another ASKING; MOVED likewise."""
    slot = three[0].cli("cluster", "keyslot", KEY).strip().decode()
    names = [server.cli("cluster", "myid").strip().decode() for server in three]
    async with opened(three[0].cluster_url) as store:
        await VERBS["create"](store)
        (source,) = [n for n, server in enumerate(three) if KEY.encode() in server.cli("keys", "*")]
        target = (source + 1) % 3
        before = list(VERBS)[: list(VERBS).index(verb)]
        three[target].cli("cluster", "setslot", slot, "importing", names[source])
        three[source].cli("cluster", "setslot", slot, "migrating", names[target])
        await store.delete(ID)
        for name in before:
            assert await VERBS[name](store), name
        forget(*three)
        asked = count("asking:calls=", three[target])
        assert await VERBS[verb](store)
        assert count("asking:calls=", three[target]) - asked == 2
        for server in (three[target], three[source], *three):
            server.cli("cluster", "setslot", slot, "node", names[target])
        if verb != "delete":
            forget(*three)
            assert await store.delete(ID)
        assert all(server.cli("dbsize") == b"0\n" for server in three)


@contextlib.contextmanager
def forgetful(*servers: RedisServer) -> Iterator[None]:
    """Let servers forget their scripts a thousand times a second."""
    command = ["redis-cli", "-r", "-1", "-i", "0.001", "-p"]
    with contextlib.ExitStack() as stack:
        for server in servers:
            process = subprocess.Popen(
                [*command, str(server.port), "script", "flush"], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_the_contract_on_servers_that_forget(kind: str, factory: Factory, request: Any) -> None:
    """The state machine: any verbs have the model's outcomes, whatever scripts are lost before and between them."""
    servers = [request.getfixturevalue("redis_server")] if kind == "redis" else request.getfixturevalue("redis_nodes")
    before = count(REFUSED, *servers)
    with forgetful(*servers):
        check_store(factory, examples=10)
    assert count(REFUSED, *servers) > before
