"""Ids, keys and the signed token: K1, K2, K3, K3b, K4, K6 and K7 of SECURITY."""

from __future__ import annotations

import itertools
import secrets
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from apps import OTHER, SECRET, Clock, SpyStore, ask, cookie, page, site, token_of, wrap
from driver import in_loop
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession import tokens
from fastersession.tokens import KeyRing, Ticket, draw, keygen, subkey, verifier_of

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
RING = KeyRing([SECRET.encode()], "sid")
TICKET = Ticket(bytes(range(16)), bytes(range(16, 32)))
TOKEN = RING.sign(TICKET)

# --- known answers; KEY='known answer key, 34 characters ok' in each recipe ---

KEY = b"known answer key, 34 characters ok"

# info: printf cookie-mac | xxd -p; printf %04x 3; printf sid | xxd -p      (purpose, length of the name, name)
# openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:"$KEY" -kdfopt salt:fastersession/v1 \
#     -kdfopt hexinfo:<info> HKDF
SUBKEYS = [
    # hexinfo:636f6f6b69652d6d61630003736964
    (b"cookie-mac", "sid", "a3cac11fe9e03782c960d8f6d3d0d301445fc0bdc6bc0f8176d4d12503db5902"),
    # hexinfo:6b65792d69640003736964
    (b"key-id", "sid", "d665501b462068fb74fd0c3a93148bbec9ea2422a4f674e8d5a7f4a671a811db"),
    # hexinfo:7365616c0003736964
    (b"seal", "sid", "26393ca6c28035615ed605ebf62f4b89770dbd2173e9415f3550276034964b9d"),
    # hexinfo:636f6f6b69652d6d6163000a5f5f486f73742d736964
    (b"cookie-mac", "__Host-sid", "b21ca2ff26987d36b51edbe0c9460c298cfdac002f939345de211d475fbdff18"),
    # hexinfo:6b65792d6964000a5f5f486f73742d736964
    (b"key-id", "__Host-sid", "f6c7782b17daf57a943823eeb56f1cc913028ffcfcbd459b537156217d995fb2"),
    # hexinfo:7365616c000a5f5f486f73742d736964
    (b"seal", "__Host-sid", "3451cd05f2c5a250fdfb2e5df67603f67d2c4b9137e59d3b87af37fa5e61326b"),
]

# MAC: echo -n <version, key id, record id, secret> | xxd -r -p | openssl dgst -sha256 -mac HMAC \
#     -macopt hexkey:<the cookie-mac subkey above>
# token: echo -n <the same, tag> | xxd -r -p | openssl base64 -A | tr +/ -_
SIGNED = [
    # echo -n 01d6000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
    (
        *("sid", "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f"),
        "d555688e5d11093b35021a35ad859992f182fa6d146281764d5850fa762ddcfe",
        b"AdYAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH9VVaI5dEQk7NQIaNa2FmZLxgvptFGKBdk1YUPp2Ldz-",
    ),
    # echo -n 01d6fbeffbeffbeffbeffbeffbeffbeffbefffffffffffffffffffffffffffffffff
    (
        *("sid", "fbeffbeffbeffbeffbeffbeffbeffbef", "ffffffffffffffffffffffffffffffff"),
        "83107569ad07cf54f86e6049746887ca8af4cd675cfabb72c6be9c524332333f",
        b"Adb77_vv--_77_vv--_77_vv_____________________4MQdWmtB89U-G5gSXRoh8qK9M1nXPq7csa-nFJDMjM_",
    ),
    # echo -n 01f6000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
    (
        *("__Host-sid", "000102030405060708090a0b0c0d0e0f", "101112131415161718191a1b1c1d1e1f"),
        "308e0059f5fa54dce513b9a067501cfa35a0c1239052cd36c77ddbcbda1ed48c",
        b"AfYAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHzCOAFn1-lTc5RO5oGdQHPo1oMEjkFLNNsd928vaHtSM",
    ),
]


@pytest.mark.parametrize(("purpose", "name", "expected"), SUBKEYS)
def test_k6_subkeys_are_hkdf_sha256(purpose: bytes, name: str, expected: str) -> None:
    """K6: each subkey is HKDF-SHA256 of the secret with the salt and info of DESIGN section 7."""
    assert subkey(KEY, purpose, name).hex() == expected


@pytest.mark.parametrize(("name", "record_id", "secret", "tag", "token"), SIGNED)
def test_k6_tokens_are_frozen(name: str, record_id: str, secret: str, tag: str, token: bytes) -> None:
    """K6: version, key id, record id, secret and tag stand in the token in this order, in base64url."""
    ring, ticket = KeyRing([KEY], name), Ticket(bytes.fromhex(record_id), bytes.fromhex(secret))
    assert ring.sign(ticket) == token
    assert ring.unsign(token) == ticket
    assert urlsafe_b64decode(token)[34:].hex() == tag


# echo -n 101112131415161718191a1b1c1d1e1f | xxd -r -p | openssl dgst -sha256 -binary | xxd -p
def test_k6_the_verifier_is_the_sha256_of_the_secret() -> None:
    """K6: what a store outside the process keeps is SHA-256 of the secret, and nothing that makes a token."""
    expected = subprocess.run(
        ["openssl", "dgst", "-sha256", "-binary"], input=TICKET.secret, capture_output=True, check=True
    ).stdout
    assert verifier_of(TICKET.secret) == expected


@given(purpose=st.binary(max_size=8), name=st.text("sid_-", min_size=1, max_size=8), cut=st.integers(0, 8))
def test_k6_purpose_and_name_cannot_be_shifted(purpose: bytes, name: str, cut: int) -> None:
    """K6: moving characters from the name to the purpose gives another key: the length stands between them."""
    # Invariant: equal subkeys come from equal (purpose, name).
    moved, rest = purpose + name[:cut].encode(), name[cut:]
    same = (moved, rest) == (purpose, name)
    assert (subkey(KEY, purpose, name) == subkey(KEY, moved, rest)) is same


def test_k6_a_token_of_cookie_a_is_nothing_as_cookie_b() -> None:
    """K6: the same secret under another cookie name verifies nothing."""
    assert KeyRing([SECRET.encode()], "__Host-sid").unsign(TOKEN) is None
    assert KeyRing([SECRET.encode()], "sid2").unsign(TOKEN) is None


# --- drawing ---


def spy_on_source(monkeypatch: pytest.MonkeyPatch, *planned: bytes) -> list[int]:
    """Note the size of each draw from `secrets`; give the planned bytes first."""
    genuine, sizes, queue = secrets.token_bytes, [], list(planned)

    def token_bytes(size: int) -> bytes:
        sizes.append(size)
        return queue.pop(0) if queue else genuine(size)

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    return sizes


@in_loop
async def test_k1_one_draw_of_32_bytes_per_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """K1: a new session draws once from `secrets`; reading, and coming back, draw nothing."""
    app, sizes = wrap(site), spy_on_source(monkeypatch)
    await ask(app)
    assert sizes == []
    token = await token_of(app)
    assert sizes == [32]
    await ask(app, "/write?name=bob", cookie(token))
    assert sizes == [32]
    assert urlsafe_b64decode(token)[2:34] not in (bytes(32), SECRET.encode())


def test_k1_ids_and_secrets_never_repeat() -> None:
    """K1: a hundred thousand draws share no id and no secret, nor is one the other."""
    drawn = [draw() for _ in range(100_000)]
    assert len({part for ticket in drawn for part in ticket}) == 200_000
    assert {len(part) for ticket in drawn for part in ticket} == {16}


FORKS = """
import os, sys
from fastersession.tokens import draw
draw()
for _ in range(3):
    if os.fork() == 0:
        os.write(1, b"".join(part for _ in range(100) for part in draw()))  # one write below PIPE_BUF is atomic
        os._exit(0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


def test_k1_forked_children_do_not_overlap() -> None:
    """K1: no pool of random bytes survives a fork."""
    raw = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, check=True, timeout=60).stdout
    parts = {raw[at : at + 16] for at in range(0, len(raw), 16)}
    assert len(raw) == 3 * 100 * 32
    assert len(parts) == 3 * 100 * 2


def test_k1_a_ticket_has_no_repr() -> None:
    """K1: what is secret does not print itself."""
    assert repr(TICKET) == str(TICKET) == "<Ticket>"
    assert SECRET not in repr(RING)


def test_k5_keygen_carries_256_bits() -> None:
    """K5: a made key is 43 characters of base64url, each time another."""
    keys = {keygen() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 43 and set(key.encode()) <= set(ALPHABET) for key in keys)


@in_loop
async def test_k2_a_repeated_id_never_touches_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2: a taken id is minted anew; the victim's record stays as it is, to the object."""
    store = SpyStore(clock=Clock())
    app = wrap(site, store=store)
    victim = await token_of(app)
    drawn = urlsafe_b64decode(victim)[2:34]
    record = await store.load(drawn[:16])
    assert record is not None
    frozen = {name: getattr(record, name) for name in ("attributes", "verifier", "version", "accessed_at", "not_after")}
    sizes = spy_on_source(monkeypatch, drawn, drawn)
    fresh = await token_of(app, "/write?name=mallory")
    assert sizes == [32, 32, 32]
    assert urlsafe_b64decode(fresh)[2:18] != drawn[:16]
    assert await store.load(drawn[:16]) is record
    assert {name: getattr(record, name) for name in frozen} == frozen
    assert record.attributes is frozen["attributes"]
    assert (await ask(app, headers=cookie(victim))).json() == {"name": "alice"}


@in_loop
async def test_k2_after_three_taken_ids_there_is_no_session_but_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2: a generator that repeats itself is broken; no fourth try, no record overwritten, no cookie."""
    store = SpyStore()
    app = wrap(site, store=store)
    victim = await token_of(app)
    store.calls.clear()
    sizes = spy_on_source(monkeypatch, *[urlsafe_b64decode(victim)[2:34]] * 9)
    answer = await ask(app, "/write?name=mallory")
    assert (answer.status, answer.cookies) == (503, [])
    assert sizes == [32] * 3
    assert store.calls == ["create"] * 3
    assert (await ask(app, headers=cookie(victim))).json() == {"name": "alice"}


# --- the token ---


def edits(token: bytes) -> list[bytes]:
    """Every single-bit flip of the 66 bytes, and every other alphabet character in each of the 88 places."""
    raw = urlsafe_b64decode(token)
    flips = [
        urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])
        for at in range(len(raw))
        for bit in range(8)
    ]
    swaps = [
        token[:at] + bytes([char]) + token[at + 1 :]
        for at in range(len(token))
        for char in ALPHABET
        if char != token[at]
    ]
    assert (len(flips), len(swaps)) == (528, 88 * 63)
    return flips + swaps


@in_loop
async def test_k3_every_edit_is_rejected_before_the_store() -> None:
    """K3: all bit flips and one-character edits of a live token are anonymous, with no store call."""
    store = SpyStore()
    app = wrap(site, store=store)
    token = await token_of(app)
    store.calls.clear()
    for edit in edits(token.encode()):
        answer = await ask(app, headers=cookie(edit))
        assert (answer.json(), answer.all("set-cookie"), store.calls) == ({}, [], [])
    assert (await ask(app, headers=cookie(token))).json() == {"name": "alice"}


@pytest.mark.parametrize("size", [*range(32), 33, 64])
def test_k3_a_tag_of_another_size_is_rejected(size: int) -> None:
    """K3: 32 bytes of tag, not a truncated one, none, or more; also when padded to the length of a token."""
    raw = urlsafe_b64decode(TOKEN)
    short = urlsafe_b64encode(raw[:34] + (raw[34:] + bytes(32))[:size])
    for candidate in (short, short.rstrip(b"="), short.ljust(88, b"="), short.ljust(88, b"A"), short.ljust(88, b"\0")):
        assert candidate == TOKEN or RING.unsign(candidate) is None


def test_k3_the_tag_is_compared_by_hmac_verify_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """K3: the comparison is the constant-time one of cryptography, over 32 bytes."""
    seen: list[bytes] = []

    class Watched:
        def __init__(self, mac: Any) -> None:
            self.mac = mac

        def __getattr__(self, name: str) -> Any:
            return getattr(self.mac, name)

        def copy(self) -> Watched:
            return Watched(self.mac.copy())

        def verify(self, tag: bytes) -> None:
            seen.append(bytes(tag))
            self.mac.verify(tag)

    genuine = tokens.HMAC
    monkeypatch.setattr(tokens, "HMAC", lambda *args: Watched(genuine(*args)))
    ring = KeyRing([SECRET.encode()], "sid")
    assert ring.unsign(TOKEN) == TICKET
    assert ring.unsign(edits(TOKEN)[527]) is None
    assert [len(tag) for tag in seen] == [32, 32]


@in_loop
async def test_k3b_a_right_id_with_a_wrong_secret_is_anonymous() -> None:
    """K3b: another session's secret, or the one before a regeneration, opens nothing and changes nothing."""
    clock = Clock()
    app = wrap(site, store=SpyStore(clock=clock))
    alice, mallory = await token_of(app), await token_of(app, "/write?name=mallory")
    ring = KeyRing([SECRET.encode()], "sid")
    mine, hers = ring.unsign(mallory.encode()), ring.unsign(alice.encode())
    assert mine is not None
    assert hers is not None
    renewed = (await ask(app, "/login", cookie(alice))).cookies[0].value
    for wrong in (
        ring.sign(Ticket(hers.record_id, mine.secret)),
        ring.sign(Ticket(mine.record_id, hers.secret)),
        alice,
    ):
        for _ in range(2):
            assert (await ask(app, headers=cookie(wrong))).json() == {}
            clock.now += 61  # an earlier secret is superseded first, unknown later
    assert (await ask(app, headers=cookie(renewed))).json() == {"name": "alice"}


@given(st.binary(max_size=8192))
@example(TOKEN + b"=")
@example(b"=" * 88)
@example(b"\0" * 88)
def test_k4_arbitrary_bytes_are_no_token(raw: bytes) -> None:
    """K4: whatever the bytes: no ticket, no exception."""
    # Invariant: unsign(x) is a ticket exactly for x == sign(ticket); arbitrary bytes cannot hit a tag.
    assert RING.unsign(raw) is None


@given(st.lists(st.tuples(st.integers(0, 88), st.integers(0, 3), st.binary(max_size=4)), max_size=3))
def test_k4_mutants_verify_only_as_the_one_spelling(mutations: list[tuple[int, int, bytes]]) -> None:
    """K4: replacing, inserting and cutting bytes leaves either the token itself or nothing."""
    # Invariant: what unsign accepts is, byte by byte, what sign writes.
    mutant = TOKEN
    for at, cut, put in mutations:
        mutant = mutant[:at] + put + mutant[at + cut :]
    ticket = RING.unsign(mutant)
    assert (ticket is not None) == (mutant == TOKEN)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_k4_sign_and_unsign_are_inverse(record_id: bytes, secret: bytes) -> None:
    """K4: each ticket has one token, of exactly 88 characters of base64url."""
    # Invariant: unsign(sign(t)) == t, and the spelling is canonical.
    token = RING.sign(Ticket(record_id, secret))
    assert RING.unsign(token) == (record_id, secret)
    assert len(token) == 88
    assert set(token) <= set(ALPHABET)


@pytest.mark.parametrize(
    "spell",
    [
        lambda t: t + b"=", lambda t: t + b"==", lambda t: t[:-1], lambda t: t[:-1] + b"=", lambda t: b" " + t,
        lambda t: t + b" ", lambda t: t + b"\n", lambda t: t + b"\r\n", lambda t: t[:44] + b"\n" + t[44:],
        lambda t: t[:44] + b" " + t[45:], lambda t: b'"' + t + b'"', lambda t: t.replace(b"-", b"+"),
        lambda t: t.replace(b"_", b"/"), lambda t: t.replace(b"-", b"%2D"), lambda t: t.swapcase(),
        lambda t: t.decode().encode("utf-16-le"), lambda t: t.replace(b"A", "\uff21".encode()), lambda t: t + t,
        lambda t: b"", lambda t: t + b"\0", urlsafe_b64decode,
        lambda t: urlsafe_b64decode(t).hex().encode(),
    ],
)  # fmt: skip
def test_k4_no_other_spelling_is_read(spell: Any) -> None:
    """K4: padding, the other alphabet, white space, quotes, escapes and unicode are all refused."""
    token = RING.sign(Ticket(b"\xfb\xef" * 8, b"\xff" * 16))  # has both - and _
    assert RING.unsign(spell(token)) is None


# --- key rotation ---

KEYS = [
    SECRET,
    OTHER,
    "a third secret of these tests, as long as the others",
    b"a fourth secret, given as bytes \xff\xfe",
]


@pytest.mark.parametrize("order", [order for n in (1, 2, 3, 4) for order in itertools.permutations(range(4), n)])
@in_loop
async def test_k7_the_first_key_signs_and_all_verify(order: tuple[int, ...]) -> None:
    """K7: a fresh cookie carries the first key's id in every order; every listed key's is accepted, no other's."""
    app = wrap(page(dict), secret_key=[KEYS[index] for index in order])
    writer = wrap(site, secret_key=[KEYS[index] for index in order])
    raw = [key if isinstance(key, bytes) else key.encode() for key in KEYS]
    fresh = urlsafe_b64decode(await token_of(writer))
    assert fresh[:2] == bytes([1, subkey(raw[order[0]], b"key-id", "sid")[0]])
    assert KeyRing([raw[order[0]]], "sid").unsign(urlsafe_b64encode(fresh)) is not None
    ring = KeyRing([raw[index] for index in order], "sid")
    for index in range(4):
        accepted = ring.unsign(KeyRing([raw[index]], "sid").sign(TICKET)) is not None
        assert accepted == (index in order)
    assert (await ask(app)).json() == {}


@in_loop
async def test_k7_dropping_a_key_ends_its_sessions_and_adding_one_ends_none() -> None:
    """K7: old accepted while listed, anonymous once removed; a new key in front changes no running session."""
    store = SpyStore()
    old = await token_of(wrap(site, store=store, secret_key=KEYS[0]))
    both = wrap(site, store=store, secret_key=[KEYS[1], KEYS[0]])
    answer = await ask(both, "/write?seen=yes", cookie(old))
    assert (answer.json(), answer.cookies) == ({"name": "alice", "seen": "yes"}, [])
    calls = len(store.calls)
    assert (await ask(wrap(site, store=store, secret_key=KEYS[1]), headers=cookie(old))).json() == {}
    assert len(store.calls) == calls


def test_k7_keys_with_the_same_key_id_are_all_tried() -> None:
    """K7: the key id is one byte; two keys that share it both verify."""
    first = subkey(b"key 0", b"key-id", "sid")[0]
    twin = next(key for key in (b"key %d" % n for n in range(1, 9999)) if subkey(key, b"key-id", "sid")[0] == first)
    for order in ([b"key 0", twin], [twin, b"key 0"]):
        ring = KeyRing(order, "sid")
        assert [ring.unsign(KeyRing([key], "sid").sign(TICKET)) for key in order] == [TICKET, TICKET]
