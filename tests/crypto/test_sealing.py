"""What a store outside the process holds: sealed, bound to its place, and never more than "no session" when altered."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from driver import in_loop
from hypothesis import given
from hypothesis import strategies as st
from routes import content, events
from sealed import World

from fastersession import JsonCodec
from fastersession.crypto.tokens import Sealer
from fastersession.engine.packing import ABOUT, Packer, Unreadable
from fastersession.facts import Identity
from fastersession.stores.base import NOTHING_MORE, Extra, Record

KEY = b"a secret of the sealing tests, and of nothing else at all"
RECORD_ID = bytes(range(16))
NONCE = bytes(range(12))
# key='a secret of the sealing tests, and of nothing else at all'
# hkdf() { openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:"$key" -kdfopt salt:fastersession/v1 \
#            -kdfopt hexinfo:"$1" -binary HKDF | xxd -p -c 64; }
# hkdf $(printf 'key-id\0\3sid' | xxd -p) | cut -c 1-2                                     # the key id: e0
# seal=$(hkdf $(printf 'seal\0\3sid' | xxd -p))
# echo 000102030405060708090a0b0c0d0e0f | xxd -r -p | openssl dgst -sha256 -mac HMAC -macopt hexkey:$seal # RECORD_KEY
# printf '"bob"' | openssl enc -aes-256-ctr -K $RECORD_KEY -iv 000102030405060708090a0b00000002 | xxd -p  # 1f8e0d3174
# `openssl enc` has no GCM, so the tags are of cryptography's AESGCM(RECORD_KEY).encrypt(NONCE, data, associated).
RECORD_KEY = "295a50a0ae5f50c4adf7e835652eeb26feee5b6f241d34b2281d14c7cd2b03bb"
HEAD = "01e0" + NONCE.hex()
NAME_BOB = HEAD + "1f8e0d3174" + "cad08e36cc112cae780bcf2dedae0bc7"
NAME_ASSOCIATED = "01" + RECORD_ID.hex() + "04" + b"json".hex() + "00000005" + b".name".hex()
ABOUT_BOB = HEAD + "6682173f3abef8033d03cc2d0fb2016fe2dcf11331679b50ffcc85819fff20e1d2b28ebb229a28e709995b2d5e"


def packer(*keys: bytes, codec: Any = None, seal: bool = True) -> Packer:
    return Packer(codec or JsonCodec(), Sealer(keys or (KEY,), "sid") if seal else None)


def record_of(attributes: Any) -> Record:
    return Record(b"v" * 32, 0.0, 1.0, 2.0, attributes)


def test_s3_the_sealed_value_is_the_documented_one(monkeypatch: Any) -> None:
    """S3: key, format, nonce, associated data and tag are as the recipe above makes them."""
    monkeypatch.setattr(secrets, "token_bytes", lambda size: NONCE[:size])
    assert packer().pack(RECORD_ID, {"name": b'"bob"'}) == {".name": bytes.fromhex(NAME_BOB)}
    assert packer().pack_about(RECORD_ID, (None, 1_700_000_000.0, 43_200.0)) == bytes.fromhex(ABOUT_BOB)
    body, associated = bytes.fromhex(NAME_BOB)[14:], bytes.fromhex(NAME_ASSOCIATED)
    assert AESGCM(bytes.fromhex(RECORD_KEY)).decrypt(NONCE, body, associated) == b'"bob"'
    record = record_of({".name": bytes.fromhex(NAME_BOB), ABOUT: bytes.fromhex(ABOUT_BOB)})
    assert packer().unpack(RECORD_ID, record) == ({"name": "bob"}, {"name": b'"bob"'})
    assert (record.extra, record.created_at, record.idle_timeout) == (NOTHING_MORE, 1_700_000_000.0, 43_200.0)


def test_a_name_that_is_not_ours_is_unreadable() -> None:
    """Where nothing is sealed anybody can write one beside ours; what a record says of itself is looked at anew."""
    plain = Packer(JsonCodec(), None)
    stored: dict[str, Any] = dict(plain.pack(RECORD_ID, {"name": b'"bob"'}))
    stored[ABOUT] = plain.pack_about(RECORD_ID, (None, 0.0, 1.0))
    assert plain.unpack(RECORD_ID, record_of(stored))[0] == {"name": "bob"}
    with pytest.raises(Unreadable, match="under a name that is not ours"):
        plain.unpack(RECORD_ID, record_of({**stored, "name": stored[".name"]}))
    eve = Identity("eve", 4.0, 5.0, None, None)
    other = record_of({**stored, ABOUT: plain.pack_about(RECORD_ID, (eve, 2.0, 3.0))})
    plain.unpack(RECORD_ID, other)
    assert (other.extra.identity, other.created_at, other.idle_timeout) == (eve, 2.0, 3.0)


def test_nothing_is_decoded_before_all_is_authentic() -> None:
    """One forged value keeps every other of its record from the codec, which may run code."""
    decoded: list[str] = []

    class Noting(JsonCodec):
        def decode(self, attribute: str, data: bytes) -> Any:
            decoded.append(attribute)
            return super().decode(attribute, data)

    noting = packer(codec=Noting())
    stored = noting.pack(RECORD_ID, {"first": b"1", "last": b"2"})
    stored[ABOUT] = noting.pack_about(RECORD_ID, (None, 0.0, 1.0))
    noting.unpack(RECORD_ID, record_of(stored))
    assert decoded == ["first", "last"]
    for name, sealed in stored.items():
        decoded.clear()
        forged = sealed[:-1] + bytes((sealed[-1] ^ 1,))
        with pytest.raises(Unreadable):
            noting.unpack(RECORD_ID, record_of({**stored, name: forged}))
        assert decoded == []


def test_s3_each_bit_and_each_length_matters() -> None:
    """S3: a sealed value with any bit flipped, cut short or prolonged anywhere cannot be opened."""
    sealed, sealer = bytes.fromhex(NAME_BOB), Sealer([KEY], "sid").record(RECORD_ID)
    context = bytes.fromhex(NAME_ASSOCIATED)[17:]
    assert sealer.open(sealed, context) == b'"bob"'
    flipped = [bytes(b ^ (1 << bit) * (i == at) for i, b in enumerate(sealed)) for at in range(35) for bit in range(8)]
    shorter = [sealed[:length] for length in range(35)] + [sealed[start:] for start in range(1, 36)]
    longer = [sealed + b"\0", b"\0" + sealed, sealed * 2, sealed + sealed[-16:]]
    for altered in [*flipped, *shorter, *longer]:
        assert sealer.open(altered, context) is None


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_s3_a_value_opens_in_its_own_place_only(one: bytes, other: bytes) -> None:
    """S3: record, codec, attribute and cookie name are bound to the value, however they are spelt."""
    # Invariant: a value packed for one place unpacks in another only if both places are the same.
    places = [(data.ljust(16, b"\0")[:16], data.hex()[:20], data.hex()[20:26] or "x") for data in (one, other)]
    records = []
    for record_id, name, codec in places:
        packed = _packer_of(codec).pack(record_id, {name: b"1"})
        records.append(record_of({**packed, ABOUT: _packer_of(codec).pack_about(record_id, (None, 0.0, 1.0))}))
    (record_id, name, codec), there = places
    for altered_id, altered_name, altered_codec in {there, (there[0], name, codec), (record_id, there[1], codec)}:
        moved = record_of({f".{altered_name}": records[0].attributes[f".{name}"], ABOUT: records[0].attributes[ABOUT]})
        if (altered_id, altered_name, altered_codec) == places[0]:
            assert _packer_of(codec).unpack(record_id, moved)[0] == {name: 1}
        else:
            with pytest.raises(Unreadable):
                _packer_of(altered_codec).unpack(altered_id, moved)


def _packer_of(codec_name: str) -> Packer:
    codec = JsonCodec()
    codec.name = codec_name
    return packer(codec=codec)


@given(st.dictionaries(st.text(max_size=5), st.just(b"1"), max_size=5))
def test_s2_stored_names_are_injective(attributes: dict[str, bytes]) -> None:
    """S2: no two attributes share a stored name, and none has the name of what a record says of itself."""
    # Invariant: as many stored names as attributes, ABOUT not among them.
    stored = packer().pack(RECORD_ID, attributes)
    assert len(stored) == len(attributes)
    assert ABOUT not in stored


@in_loop
async def test_s1_the_store_sees_no_value_and_no_credential() -> None:
    """S1: of what the application kept, a store outside the process gets names only."""
    world = World()
    browser = await world.login("rosebud")
    await browser.get("/set?answer=rosebud")
    token = next(iter(browser.jar.values())).value
    seen = repr(world.store.arguments) + repr([call[3].sets for call in world.store.arguments if call[0] == "update"])
    assert "answer" in seen
    assert "rosebud" not in seen
    assert token not in seen


@pytest.mark.parametrize("what", ["name", "about", "all"])
@in_loop
async def test_s3_alice_and_bob_cannot_be_swapped(what: str, caplog: Any) -> None:
    """S3: who can write to the store cannot put one user's values into another's record."""
    world = World()
    alice, bob = await world.login("alice"), await world.login("bob")
    one, two = await world.record("alice"), await world.record("bob")
    key = {"name": ".name", "about": ABOUT}.get(what)
    mine, yours = one.attributes, two.attributes
    one.attributes = yours if key is None else {**mine, key: yours[key]}
    two.attributes = mine if key is None else {**yours, key: mine[key]}
    assert [await content(alice), await content(bob)] == [{}, {}]
    assert len(events(caplog, "session.unreadable")) == 2
    assert {event.session_id for event in events(caplog, "session.unreadable")} == {i.hex() for i in world.ids.values()}


@in_loop
async def test_s3_user_admin_cannot_be_written_into_the_store() -> None:
    """S3: a role can neither be forged nor taken from another attribute, and a column says nothing of the user."""
    world = World()
    browser = await world.login("alice")
    genuine = dict((await world.record("alice")).attributes)
    (await world.record("alice")).extra = Extra(b"admin", identity="admin")
    await browser.get("/who")
    assert world.users == [None]
    for forged in (b'"admin"', b"\0\4json" + b'"admin"', genuine[".name"], genuine[ABOUT], genuine[".role"][::-1]):
        await world.alter("alice", role=forged)
        assert await content(browser) == {}
    await world.alter("alice", role=genuine[".role"], admin=genuine[".role"])
    assert await content(browser) == {}
    await world.alter("alice", admin=None)
    assert await content(browser) == {"name": "alice", "role": "user"}


@in_loop
async def test_s3_a_session_cannot_be_prolonged_in_the_store() -> None:
    """S3: creation time and idle timeout are what was sealed, whatever the columns say."""
    world = World(lifetime=1_000, idle_timeout=100)
    browser = await world.login("alice")
    record = await world.record("alice")
    record.not_after, record.idle_timeout = float("inf"), 10**9
    world.clock.advance(99)
    assert await content(browser) != {}
    world.clock.advance(101)
    assert await content(browser) == {}
    record.created_at = record.accessed_at = world.clock()
    assert await content(browser) != {}  # the last access is not sealed, so the idle time is not safe from the store
    world.clock.advance(1_000)
    record.created_at = record.accessed_at = world.clock()
    assert await content(browser) == {}
