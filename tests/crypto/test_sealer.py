"""The sealer by itself: what it gives back, which keys open, and that no other bytes do. S3 of SECURITY."""

from __future__ import annotations

import itertools

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st
from several_keys import KEYS, key_id

from fastersession.crypto import tokens
from fastersession.crypto.tokens import LARGE, Sealer

RECORD_ID = bytes(range(16))
CONTEXT = b"what it is"


def seal(key: bytes, data: bytes = b"data") -> bytes:
    return Sealer([key], "sid").record(RECORD_ID).seal(data, CONTEXT)


@given(st.binary(max_size=200), st.binary(max_size=20), st.binary(min_size=16, max_size=16))
@example(b"", b"", bytes(16))
def test_s3_what_was_sealed_opens(data: bytes, context: bytes, record_id: bytes) -> None:
    """S3: sealing loses nothing, not even nothing at all; it adds 30 bytes, and never twice the same."""
    # Invariant: open(seal(data)) == data for the same record and context, and for no other.
    sealer = Sealer(KEYS[:1], "sid").record(record_id)
    sealed = sealer.seal(data, context)
    assert sealer.open(sealed, context) == data
    assert len(sealed) == len(data) + 30
    assert sealed != sealer.seal(data, context)
    assert sealer.open(sealed, context + b"!") is None
    other = record_id[1:] + bytes([record_id[0] ^ 1])
    assert Sealer(KEYS[:1], "sid").record(other).open(sealed, context) is None


@pytest.mark.parametrize("size", [LARGE - 31, LARGE - 30, LARGE - 29, 3 * LARGE])
def test_a_large_value_opens_as_a_small_one_does(size: int) -> None:
    """On either side of the size from which it is not copied; an altered one does not."""
    sealer, data = Sealer(KEYS[:1], "sid").record(RECORD_ID), bytes(size)
    sealed = sealer.seal(data, CONTEXT)
    assert sealer.open(sealed, CONTEXT) == data
    assert sealer.open(sealed[:-1] + bytes((sealed[-1] ^ 1,)), CONTEXT) is None


def test_s3_an_empty_value_of_an_older_key_opens() -> None:
    """S3: what is sealed is never too short to be ours, under whichever key."""
    assert Sealer(KEYS[::-1], "sid").record(RECORD_ID).open(seal(KEYS[0], b""), CONTEXT) == b""


@pytest.mark.parametrize("order", [order for n in (1, 2, 3, 4) for order in itertools.permutations(range(4), n)])
def test_s3_the_first_key_seals_and_all_open(order: tuple[int, ...]) -> None:
    """S3: in every order, with two keys of one id among them: what a listed key sealed opens, and nothing else."""
    sealer = Sealer([KEYS[number] for number in order], "sid").record(RECORD_ID)
    for number, key in enumerate(KEYS):
        assert sealer.open(seal(key), CONTEXT) == (b"data" if number in order else None)
    sealed = sealer.seal(b"data", CONTEXT)
    assert sealed[:2] == bytes([1, key_id(KEYS[order[0]])])
    assert Sealer([KEYS[order[0]]], "sid").record(RECORD_ID).open(sealed, CONTEXT) == b"data"


@given(
    st.sampled_from(KEYS),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4), st.binary(max_size=4)), max_size=3),
    st.sets(st.integers(0, 8 * 34 - 1)),
)
def test_s3_an_altered_value_never_opens(key: bytes, edits: list[tuple[int, int, bytes]], flips: set[int]) -> None:
    """S3: bits flipped, bytes put in, cut out and replaced, any number of them, in a value of any key of several."""
    # Invariant: what opens is, byte by byte, what was sealed.
    sealed = seal(key)
    altered = bytearray(sealed)
    for bit in flips:
        altered[bit // 8] ^= 1 << bit % 8
    for at, cut, put in edits:
        altered[at : at + cut] = put
    opened = Sealer(KEYS, "sid").record(RECORD_ID).open(bytes(altered), CONTEXT)
    assert opened == (b"data" if altered == sealed else None)


@pytest.mark.parametrize(
    "bound", [None, b"", CONTEXT, RECORD_ID + CONTEXT, b"\1" + RECORD_ID, b"\2" + RECORD_ID + CONTEXT]
)
@pytest.mark.parametrize("number", range(4))
def test_s3_a_value_of_the_right_key_without_its_place_is_refused(bound: bytes | None, number: int) -> None:
    """S3: the cipher's own key is not enough: format, record and context have to be bound to the value."""
    cipher = Sealer([KEYS[number]], "sid").record(RECORD_ID)._cipher
    head, nonce = bytes([1, key_id(KEYS[number])]), bytes(12)
    sealer = Sealer(KEYS, "sid").record(RECORD_ID)
    assert isinstance(cipher, AESGCM)
    assert sealer.open(head + nonce + cipher.encrypt(nonce, b"data", b"\1" + RECORD_ID + CONTEXT), CONTEXT) == b"data"
    assert sealer.open(head + nonce + cipher.encrypt(nonce, b"data", bound), CONTEXT) is None


def test_s3_another_format_is_not_opened() -> None:
    """S3: the first byte is the format; a value of another one is refused, whatever key it names."""
    for key, number in itertools.product(KEYS, range(2, 256)):
        assert Sealer(KEYS, "sid").record(RECORD_ID).open(bytes([number]) + seal(key)[1:], CONTEXT) is None


def test_ciphers_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ciphers of the records last used are kept, and no more of them."""
    monkeypatch.setattr(tokens, "KEPT_RECORDS", 3)
    sealer = Sealer(KEYS[:1], "sid")
    kept = [sealer.record(bytes([number]) * 16) for number in range(3)]
    assert [sealer.record(bytes([number]) * 16) for number in range(3)] == kept
    sealer.record(b"the fourth of it")
    assert sealer.record(bytes([2]) * 16) is kept[2]
    assert sealer.record(bytes(16)) is not kept[0]
