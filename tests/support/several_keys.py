"""Four keys to sign and seal with, two of which have the same key id.

Rules of residence: constants; no test.
"""

from __future__ import annotations

from fastersession.crypto.tokens import subkey


def key_id(secret: bytes) -> int:
    """Return the byte that names a key of the cookie `sid`."""
    return subkey(secret, b"key-id", "sid")[0]


FIRST = b"a key of the tests, one of several, number 0"
TWIN = next(key for key in (b"a twin of the first, number %d" % n for n in range(9999)) if key_id(key) == key_id(FIRST))
KEYS = [FIRST, FIRST[:-1] + b"1", FIRST[:-1] + b"2", TWIN]
