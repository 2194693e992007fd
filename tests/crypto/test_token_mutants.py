"""Altered tokens of several keys: K3 and K4 of SECURITY, further than one edit of one token."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from several_keys import KEYS

from fastersession.crypto.tokens import KeyRing, Ticket

BITS = 66 * 8
TICKETS = [Ticket(bytes(range(16)), bytes(range(16, 32))), Ticket(b"\xff" * 16, bytes(16))]


RINGS = [KeyRing(KEYS[:1], "sid"), KeyRing(KEYS, "sid"), KeyRing(KEYS[::-1], "sid")]
GENUINE = {KeyRing([key], "sid").sign(ticket): ticket for key in KEYS for ticket in TICKETS}
ONE = KeyRing(KEYS[:1], "sid").sign(TICKETS[0])
MINE = {KeyRing(KEYS[:1], "sid").sign(ticket): ticket for ticket in TICKETS}
KNOWN = [MINE, GENUINE, GENUINE]  # what each ring accepts

tokens, rings = st.sampled_from(list(GENUINE)), st.sampled_from(range(3))


def flipped(token: bytes, bits: set[int]) -> bytes:
    raw = bytearray(urlsafe_b64decode(token))
    for bit in bits:
        raw[bit // 8] ^= 1 << bit % 8
    return urlsafe_b64encode(raw)


@pytest.mark.parametrize("ring", range(3))
def test_k3_every_bit_of_the_tokens_of_every_key(ring: int) -> None:
    """K3: of four keys, two with one id, each token verifies, and with any one bit flipped none does."""
    for token in GENUINE:
        assert RINGS[ring].unsign(token) == KNOWN[ring].get(token)
        assert [RINGS[ring].unsign(flipped(token, {bit})) for bit in range(BITS)] == [None] * BITS


@given(rings, tokens, st.sets(st.integers(0, BITS - 1), max_size=64))
@example(1, ONE, set(range(BITS)))
def test_k3_any_number_of_flipped_bits(ring: int, token: bytes, bits: set[int]) -> None:
    """K3: flipping more bits never makes up for the first."""
    # Invariant: a token is accepted exactly if it is one that a key of the ring signed.
    mutant = flipped(token, bits)
    assert RINGS[ring].unsign(mutant) == KNOWN[ring].get(mutant)


@given(rings, st.lists(st.tuples(tokens, st.integers(0, 66), st.integers(0, 66)), min_size=1, max_size=5))
@example(1, [(ONE, 0, 2), (flipped(ONE, {7}), 2, 66)])
def test_k3_pieces_of_genuine_tokens_make_none(ring: int, pieces: list[tuple[bytes, int, int]]) -> None:
    """K3: head, id, secret and tag of different sessions or keys do not fit together."""
    # Invariant: as above.
    raw = b"".join(urlsafe_b64decode(token)[begin:end] for token, begin, end in pieces)
    mutant = urlsafe_b64encode(raw[:66].ljust(66, b"\0"))
    assert RINGS[ring].unsign(mutant) == KNOWN[ring].get(mutant)


EDITS = st.tuples(st.integers(0, 88), st.integers(0, 6), st.one_of(st.binary(max_size=6), tokens))


@given(rings, tokens, st.lists(EDITS, max_size=6))
def test_k4_characters_put_in_cut_out_and_replaced(
    ring: int, token: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    """K4: edits of the spelling, whole tokens put in among them, give the token itself or nothing."""
    # Invariant: as above.
    mutant = bytearray(token)
    for at, cut, put in edits:
        mutant[at : at + cut] = put
    assert RINGS[ring].unsign(bytes(mutant)) == KNOWN[ring].get(bytes(mutant))
