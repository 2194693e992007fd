"""Coverage-guided fuzzing of what reads the bytes of strangers, by atheris (libFuzzer).

    python tests/support/fuzz_atheris.py scanner|token|seal|record [-max_total_time=60 and what else libFuzzer knows]

Rules of residence: one function of bytes for each target; it raises what it finds. Runs alone: atheris instruments the
package when it is first imported.
"""

from __future__ import annotations

import contextlib
import sys
from base64 import urlsafe_b64encode
from itertools import zip_longest

import atheris
from paths import TESTS

with atheris.instrument_imports(include=["fastersession"]):
    from fastersession.asgi.cookies import CookieFinder
    from fastersession.codecs import JsonCodec
    from fastersession.crypto.tokens import TOKEN_CHARS, Sealer
    from fastersession.engine.packing import ABOUT, Packer, Unreadable
    from fastersession.stores.base import Record

sys.path += [str(TESTS / floor) for floor in ("asgi", "crypto")]

from several_keys import KEYS
from test_cookies import fields, naive
from test_sealer import CONTEXT, RECORD_ID, seal
from test_token_mutants import KNOWN, ONE, RINGS

FINDER, USUAL = CookieFinder("sid"), CookieFinder("sid", TOKEN_CHARS)
SEALER, SEALED = Sealer(KEYS, "sid").record(RECORD_ID), seal(KEYS[0])
PLAIN = Packer(JsonCodec(), None)
HEAD = b"\0\4json"


def changed(genuine: bytes, data: bytes) -> bytes:
    """Return something genuine with the bits flipped that are set in the data."""
    return bytes(one ^ other for one, other in zip_longest(genuine, data[: len(genuine)], fillvalue=0))


def scanner(data: bytes) -> None:
    """Find what the naive model finds, in one field for each line."""
    values = data.split(b"\n")
    found = naive(b"sid", *values)
    assert list(FINDER.find(fields(*values)) or ()) == found
    usual = [value for value in USUAL.find(fields(*values)) or () if len(value) == TOKEN_CHARS]
    ours = [value for value in usual if b";" not in value and value == value.rstrip(b" \t")]  # else it is no token
    assert ours == [value for value in found if len(value) == TOKEN_CHARS]


def token(data: bytes) -> None:
    """Accept what a key signed, and nothing else."""
    for candidate in (data, urlsafe_b64encode(data[:66].ljust(66, b"\0")), changed(ONE, data)):
        for ring, known in zip(RINGS, KNOWN, strict=True):
            assert ring.unsign(candidate) == known.get(candidate)


def seal_(data: bytes) -> None:
    """Open what a key sealed, and nothing else."""
    for candidate in (data, SEALED[:2] + data, changed(SEALED, data), SEALED + data):
        assert SEALER.open(candidate, CONTEXT) == (b"data" if candidate == SEALED else None)


def record(data: bytes) -> None:
    """Read an unsealed record as what it says or not at all; the first line is what it says of itself."""
    about, *values = data.split(b"\n")
    stored = {f".{number}": HEAD + value for number, value in enumerate(values)}
    with contextlib.suppress(Unreadable):
        decoded, encoded = PLAIN.unpack(RECORD_ID, Record(b"v" * 32, 0.0, 1.0, 2.0, {**stored, ABOUT: HEAD + about}))
        assert list(encoded.values()) == values
        assert decoded.keys() == encoded.keys()


TARGETS = {"scanner": scanner, "token": token, "seal": seal_, "record": record}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
