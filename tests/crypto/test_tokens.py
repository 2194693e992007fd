"""The signed token by itself, with known answers: K3, K4 and K6 of SECURITY."""

from __future__ import annotations

import re
import subprocess
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from apps import SECRET, SpyStore, ask, cookie, site, token_of, wrap
from driver import in_loop
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.crypto import tokens
from fastersession.crypto.tokens import KeyRing, Ticket, subkey, verifier_of

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
    """K6: each subkey is HKDF-SHA256 of the secret with a fixed salt, and an info of purpose and cookie name."""
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


FIELDS = b"\x01\x02" + bytes(range(64))  # version, key id, and the rest of a token
URL_SAFE = urlsafe_b64encode(FIELDS)


def naive_form(value: bytes) -> bool:
    return re.fullmatch(rb"[A-Za-z0-9_-]{88}", value) is not None and urlsafe_b64decode(value)[0] == 1


@given(st.one_of(st.binary(max_size=100), st.text("AZaz09-_", min_size=87, max_size=89).map(str.encode)))
@example(URL_SAFE)
@example(urlsafe_b64encode(b"\x01" + b"\xfb\xef\xff" * 21 + b"\xff\xff"))  # has both - and _
@example(urlsafe_b64encode(b"\x02\x01" + bytes(64)))
@example(URL_SAFE[:-1])
@example(URL_SAFE + b"A")
@example(URL_SAFE[:-1] + b"!")
@example(URL_SAFE[:-1] + b"=")
@example(URL_SAFE[:85] + b"!!!")  # of its 85 digits base64 can make nothing
@example(b"\0" * 88)
def test_k4_the_form_of_a_token_is_told_from_any_other(value: bytes) -> None:
    """K4: 88 characters of base64url that begin with the version; whether the tag is right does not matter."""
    # Invariant: as the naive reading of the grammar says, and no exception.
    assert tokens.has_form(value) is naive_form(value)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_k4_what_any_ring_signs_has_the_form(record_id: bytes, secret: bytes) -> None:
    """K4: so a token of another worker's key is known for one."""
    # Invariant: has_form(sign(t)), for every ticket.
    assert tokens.has_form(RING.sign(Ticket(record_id, secret)))
