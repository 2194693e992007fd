"""What cannot be opened: S4 to S6, keys and codecs that come and go, and garbage from the store."""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from driver import in_loop
from routes import content, events
from sealed import Bomb, World

from fastersession import JsonCodec, MsgspecCodec, PickleCodec
from fastersession.crypto.tokens import subkey
from fastersession.engine.packing import ABOUT
from fastersession.stores.base import Record

OLD = "an old secret of the sealing tests, to be rotated away"
NEW = "a new secret of the sealing tests, that comes after it"


@pytest.mark.parametrize("codec", [JsonCodec(), MsgspecCodec(), PickleCodec()], ids=lambda codec: codec.name)
@in_loop
async def test_s4_a_pickle_put_into_the_store_is_never_loaded(codec: Any, caplog: Any) -> None:
    """S4: who can write to the store runs no code, whatever the codec."""
    world = World(codec=codec)
    browser = await world.login("alice")
    head = b"\0" + bytes((len(codec.name),)) + codec.name.encode()
    for number, blob in enumerate((pickle.dumps(Bomb()), head + pickle.dumps(Bomb()), b"\1" + pickle.dumps(Bomb()))):
        await world.alter("alice", name=blob)
        assert await content(browser) == {}
        assert len(events(caplog, "session.unreadable")) == number + 1
    assert Bomb.fuse == []


Harm = Callable[[Record, Record], Any]
GARBAGE: dict[str, Harm] = {
    "no attributes": lambda mine, other: {},
    "no about": lambda mine, other: {k: v for k, v in mine.attributes.items() if k != ABOUT},
    "empty about": lambda mine, other: {**mine.attributes, ABOUT: b""},
    "another's about": lambda mine, other: {**mine.attributes, ABOUT: other.attributes[ABOUT]},
    "an attribute as about": lambda mine, other: {**mine.attributes, ABOUT: mine.attributes[".name"]},
    "empty": lambda mine, other: {**mine.attributes, ".name": b""},
    "null": lambda mine, other: {**mine.attributes, ".name": None},
    "text": lambda mine, other: {**mine.attributes, ".name": "name"},
    "a number": lambda mine, other: {**mine.attributes, ".name": 7},
    "zeros": lambda mine, other: {**mine.attributes, ".name": bytes(100)},
    "noise": lambda mine, other: {**mine.attributes, ".name": secrets.token_bytes(1_000_000)},
    "an older format": lambda mine, other: {**mine.attributes, ".name": b"\0" + mine.attributes[".name"][1:]},
    "unsealed": lambda mine, other: {**mine.attributes, ".name": b'\0\4json"admin"'},
    "under another name": lambda mine, other: {**mine.attributes, ".admin": mine.attributes[".name"]},
    "under a name like ours": lambda mine, other: {**mine.attributes, "xrole": mine.attributes[".role"]},
    "a nameless one": lambda mine, other: {**mine.attributes, "": mine.attributes[".name"]},
    "names as bytes": lambda mine, other: {k.encode(): v for k, v in mine.attributes.items()},
    "cut": lambda mine, other: {**mine.attributes, ".name": mine.attributes[".name"][:-1]},
    "another's": lambda mine, other: other.attributes,
}


@pytest.mark.parametrize("harm", GARBAGE.values(), ids=list(GARBAGE))
@in_loop
async def test_s5_s6_garbage_from_the_store_is_no_session(harm: Harm, caplog: Any) -> None:
    """S5, S6: nothing is decoded, nobody else's data shown, one event; what is written is a new session."""
    world = World()
    alice, bob = await world.login("alice"), await world.login("bob")
    record = await world.record("alice")
    record.attributes = harmed = harm(record, await world.record("bob"))
    decoded, version, token = world.codec.decoded, record.version, next(iter(alice.jar.values())).value
    answer = await alice.get("/")
    assert (answer.status, answer.json(), answer.cookies) == (200, {}, [])
    assert world.codec.decoded <= decoded + 1  # at most an attribute that was genuine, and stands before the other
    assert [event.session_id for event in events(caplog, "session.unreadable")] == [world.ids["alice"].hex()]
    assert "alice" not in caplog.text
    answer = await alice.get("/set?name=again")
    assert answer.status == 200
    assert answer.cookies[0].value != token
    assert await content(alice) == {"name": "again"}
    assert ((await world.record("alice")).attributes, record.version) == (harmed, version)
    assert record.attributes is harmed
    assert await content(bob) == {"name": "bob", "role": "user"}


@in_loop
async def test_s5_nothing_is_decoded_before_all_of_it_is_authentic() -> None:
    """S5: one value that cannot be opened keeps the codec from seeing any, whichever it is."""
    world = World()
    browser = await world.login("alice")
    genuine = dict((await world.record("alice")).attributes)
    for name, sealed in genuine.items():
        for altered in (
            sealed[:-1],
            sealed[:1] + bytes((sealed[1] ^ 1,)) + sealed[2:],
            sealed[:-1] + bytes((sealed[-1] ^ 1,)),
        ):
            (await world.record("alice")).attributes = {**genuine, name: altered}
            assert await content(browser) == {}
    assert world.codec.decoded == 0
    (await world.record("alice")).attributes = genuine
    assert await content(browser) == {"name": "alice", "role": "user"}
    assert world.codec.decoded == 2


@in_loop
async def test_s6_logging_out_of_what_cannot_be_opened_keeps_the_record(caplog: Any) -> None:
    """S6: without the session there is nothing to end; writes, logins and logouts leave the old blobs alone."""
    world = World()
    browser = await world.login("alice")
    await world.alter("alice", role=b"forged")
    record = await world.record("alice")
    kept = (record.attributes, record.verifier, record.accessed_at, record.version)
    for path in ("/logout", "/plain", "/login", "/stream?a=1"):
        await browser.get(path, catch=True)
    assert (record.attributes, record.verifier, record.accessed_at, record.version) == kept
    assert await world.store.inner.load(world.ids["alice"]) is record


def test_s6_the_errors_are_logged_once_and_each_session_has_its_event(caplog: Any) -> None:
    """S6: one line says what may be the reason, however many sessions it ends; it shows no value."""

    @in_loop
    async def run() -> None:
        world = World(codec=JsonCodec())
        for name in ("alice", "bob", "carol"):
            await world.login(name)
        browsers = [world.reconfigured(name, codec=MsgspecCodec()) for name in world.browsers]
        app = browsers[0].app
        for browser in browsers:
            browser.app = app
            assert await content(browser) == {}
        assert len(world.store) == 3
        assert await content(world.browsers["bob"]) == {"name": "bob", "role": "user"}  # the codec that wrote it

    run()
    assert len(events(caplog, "store.unreadable")) == 1
    assert len(events(caplog, "session.unreadable")) == 3
    assert "codec" in events(caplog, "store.unreadable")[0].getMessage()
    assert not {"alice", "bob", "carol"} & set(caplog.text.split())


def key_id(secret: str) -> int:
    return subkey(secret.encode(), b"key-id", "sid")[0]


@in_loop
async def test_s3_keys_rotate(caplog: Any) -> None:
    """S3: an old key opens, the first seals what is written; once dropped, what it sealed is no session any more."""
    world = World(secret_key=OLD)
    await world.login("alice")
    browser = world.reconfigured("alice", secret_key=[NEW, OLD])
    assert await content(browser) == {"name": "alice", "role": "user"}
    await browser.get("/set?role=editor")
    attributes = (await world.record("alice")).attributes
    assert (attributes[".role"][1], attributes[".name"][1]) == (key_id(NEW), key_id(OLD))
    await browser.get("/login")  # its cookie is signed with the new key from here on
    world.browsers["alice"] = browser
    browser = world.reconfigured("alice", secret_key=[NEW])
    kept = dict((await world.record("alice")).attributes)
    assert events(caplog, "session.unreadable") == []
    assert await content(browser) == {}
    assert len(events(caplog, "session.unreadable")) == 1
    await browser.get("/set?name=new")
    assert (await world.record("alice")).attributes == kept
    assert await content(world.reconfigured("alice", secret_key=[NEW, OLD])) == {
        "name": "alice",
        "role": "editor",
        "user": "me",
    }


@in_loop
async def test_s3_a_dropped_key_never_reaches_the_store() -> None:
    """S3: a cookie of a key that is gone is refused by its signature; the record is neither read nor touched."""
    world = World(secret_key=OLD)
    await world.login("alice")
    browser = world.reconfigured("alice", secret_key=NEW)
    world.store.calls.clear()
    assert await content(browser) == {}
    assert world.store.calls == []
    assert len(world.store) == 1


@pytest.mark.parametrize("about", [b"", b"null", b"[]", b"[1]", b'{"a":1}', b'[null,"x",1]', b"[null,1,1,1]", b"\xff"])
@in_loop
async def test_s6_unsealed_garbage_is_no_session_either(about: bytes, caplog: Any) -> None:
    """S6: without a seal nothing is proved, and still nothing but "no session" comes of what cannot be read."""
    world = World(seal=False)
    browser = await world.login("alice")
    await world.alter("alice", about=b"\0\4json" + about)
    answer = await browser.get("/")
    assert (answer.status, answer.json()) == (200, {})
    assert len(events(caplog, "session.unreadable")) == 1
    await world.alter("alice", about=b"\0\4json[null, 1700000000.0, 100]", role=b"\0\4json{")
    assert await content(browser) == {}
    await world.alter("alice", role=b'\0\4json"admin"')
    assert (await content(browser))["role"] == "admin"  # which is why it is not the default
