"""What stores know instead of a user's name.

Rules of residence: one keyed hash. Nothing here is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from .tokens import subkey

USER = b"\x01"  # the kind of tag
TAG_BYTES = 15


class UserTags:
    """Makes the tags of users: kind | HMAC-SHA256(user-index subkey, name), 16 bytes. Bound to one cookie name.

    :param secret_keys: the first makes the tags that are written, all make those that are looked for.
    """

    def __init__(self, secret_keys: Sequence[bytes], cookie_name: str) -> None:
        self._keys = [HMAC(subkey(key, b"user-index", cookie_name), SHA256()) for key in secret_keys]

    def of(self, user: str) -> tuple[bytes, ...]:
        """Return the tags of a user, compared byte by byte, the one of the first key first."""
        return tuple(dict.fromkeys(USER + self._tag(key.copy(), user.encode()) for key in self._keys))

    @staticmethod
    def _tag(mac: HMAC, name: bytes) -> bytes:
        mac.update(name)
        return mac.finalize()[:TAG_BYTES]
