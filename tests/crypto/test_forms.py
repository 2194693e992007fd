"""The tokens that forms carry: U9b of SECURITY, as text and keys."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from apps import OTHER, SECRET
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.crypto.forms import FORM_CHARS, FormTokens

ID, VERIFIER, BEFORE = bytes(range(16)), bytes(range(16, 32)), bytes(range(32, 64))
FORMS = FormTokens([SECRET.encode()], "sid")

# hexinfo: printf csrf | xxd -p; printf %04x 3; printf sid | xxd -p
# openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt key:"$SECRET" -kdfopt salt:fastersession/v1 \
#     -kdfopt hexinfo:637372660003736964 HKDF
# MAC: echo -n <ID, VERIFIER> | xxd -r -p | openssl dgst -sha256 -mac HMAC -macopt hexkey:<that subkey>
# token: echo -n <32 bytes of zeros, MAC> | xxd -r -p | openssl base64 -A | tr +/ -_ | tr -d =
KNOWN = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAArq7e-sXybQt9k-Ng5ZyY-v72_B8JCiB5C4bKgAZd7wg"


def test_u9b_known_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """U9b: the token is the documented one; under a nonce of zeros nothing is masked."""
    assert FORMS.is_of(KNOWN, ID, [VERIFIER])
    monkeypatch.setattr(secrets, "token_bytes", bytes)
    assert FORMS.make(ID, VERIFIER) == KNOWN


verifiers = st.binary(min_size=16, max_size=16) | st.binary(min_size=32, max_size=32)


@given(st.binary(min_size=16, max_size=16), verifiers, verifiers, st.binary(min_size=16, max_size=16))
def test_u9b_a_token_is_of_one_session_and_one_verifier(
    record_id: bytes, verifier: bytes, other: bytes, other_id: bytes
) -> None:
    """U9b: under its own id and verifier, wherever that stands, it is valid; under no other."""
    # Invariant: is_of(make(i, v), j, w) if and only if i == j and v is in w.
    token = FORMS.make(record_id, verifier)
    assert FORMS.is_of(token, record_id, [verifier])
    assert FORMS.is_of(token, record_id, [other, verifier])
    assert FORMS.is_of(token, record_id, [verifier, other])
    assert FORMS.is_of(token, record_id, [other]) == (verifier == other)
    assert FORMS.is_of(token, other_id, [verifier]) == (record_id == other_id)
    assert not FORMS.is_of(token, record_id, [])


def test_u9b_each_reading_is_another_and_shares_nothing_with_the_last() -> None:
    """U9b: of two tokens no byte has to be the same, so an answer's compressed length tells nothing (BREACH)."""
    raw = [urlsafe_b64decode(FORMS.make(ID, VERIFIER) + "==") for _ in range(200)]
    assert len({one[:32] for one in raw}) == len({one[32:] for one in raw}) == 200
    assert all(len({one[place] for one in raw}) > 50 for place in range(64))
    assert {bytes(a ^ b for a, b in zip(one[:32], one[32:], strict=True)) for one in raw} == {
        urlsafe_b64decode(KNOWN + "==")[32:]
    }


def test_u9b_every_character_counts_and_each_token_has_one_spelling() -> None:
    """U9b: each change of one character, of one bit, of the length or the alphabet is no token any more."""
    raw = urlsafe_b64decode(KNOWN + "==")
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not FORMS.is_of(urlsafe_b64encode(flipped).decode().rstrip("="), ID, [VERIFIER])
    for place in range(FORM_CHARS):
        for character in "AZaz09-_hiv+/=. \n\0":  # some differ from the last one in spare bits only
            changed = KNOWN[:place] + character + KNOWN[place + 1 :]
            assert FORMS.is_of(changed, ID, [VERIFIER]) == (changed == KNOWN)
    for changed in (KNOWN + "==", KNOWN + "A", KNOWN[:-1], KNOWN + "\n", " " + KNOWN, KNOWN.replace("-", "+"), ""):
        assert not FORMS.is_of(changed, ID, [VERIFIER])


JUNK: list[Any] = [
    *(None, True, 0, 86, 1.5, b"", KNOWN.encode(), bytearray(KNOWN.encode()), [KNOWN], (KNOWN,), {KNOWN: KNOWN}),
    *(object(), str, "é" * FORM_CHARS, "\ud800" * FORM_CHARS, KNOWN[:-1] + "é", "=" * FORM_CHARS, "A" * 10**6),
]


spelt = st.text("AZaz09-_+/= \n", min_size=FORM_CHARS, max_size=FORM_CHARS)


@given(st.text() | spelt | st.text(min_size=FORM_CHARS, max_size=FORM_CHARS) | st.sampled_from(JUNK) | st.binary())
@example(KNOWN[:-1] + "\ud800")
@example("A" * FORM_CHARS)
@example("A" * (FORM_CHARS - 3) + "===")
def test_u9b_anything_else_is_false(junk: Any) -> None:
    """U9b: whatever a request brings as a token, of any type, is False, and never an error."""
    # Invariant: nothing but a made token is True, and nothing raises.
    assert FORMS.is_of(junk, ID, [VERIFIER, BEFORE]) is False


def test_u9b_a_subclass_of_str_is_a_str() -> None:
    """U9b: a template's marked-up text is the text."""

    class Text(str):
        __slots__ = ()

    assert FORMS.is_of(Text(KNOWN), ID, [VERIFIER])


def test_u9b_keys() -> None:
    """U9b: the first key makes, all accept; a key that was dropped, and another cookie's name, accept nothing."""
    old, new = FormTokens([SECRET.encode()], "sid"), FormTokens([OTHER.encode(), SECRET.encode()], "sid")
    dropped, named = FormTokens([OTHER.encode()], "sid"), FormTokens([SECRET.encode()], "__Host-sid")
    before, after = old.make(ID, VERIFIER), new.make(ID, VERIFIER)
    assert [each.is_of(before, ID, [VERIFIER]) for each in (old, new, dropped, named)] == [True, True, False, False]
    assert [each.is_of(after, ID, [VERIFIER]) for each in (old, new, dropped, named)] == [False, True, True, False]


def test_u9b_nobodys_token_looks_like_any_and_is_none() -> None:
    """U9b: what is given where no token can be is spelt as one, and no session takes it."""
    tokens = {FORMS.nobodys() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(each) for each in tokens} == {FORM_CHARS}
    assert not any(FORMS.is_of(each, ID, [VERIFIER]) for each in tokens)
