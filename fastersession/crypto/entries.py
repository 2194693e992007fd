"""Ids of conversations, their owners, and their runs.

Rules of residence: keyed hashes. Bytes and names in, 16 bytes out; nothing is kept.

User data outlive cookies, so none of this is bound to a cookie's name, as all other keys are: the name is empty, which
no cookie's is. Values are sealed by the ``Sealer`` of that name, whose record is the conversation.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from .tokens import ID_BYTES, Sealer, subkey

NO_COOKIE = ""
USERS, SESSIONS = b"\x01", b"\x02"  # the kind of an owner


class ConversationKeys:
    """Computes ids from the caller's own owner, so that what he names leads to nobody else's.

    :param secret_keys: the first makes the ids that are written, all make those that are looked for.
    """

    def __init__(self, secret_keys: Sequence[bytes]) -> None:
        self._owners = [HMAC(subkey(key, b"conversation-owner", NO_COOKIE), SHA256()) for key in secret_keys]
        self._names = [HMAC(subkey(key, b"conversation", NO_COOKIE), SHA256()) for key in secret_keys]

    def owners(self, user: str) -> tuple[bytes, ...]:
        """Return the tags of a user, that of the first key first."""
        return tuple(dict.fromkeys(_hash(key, (user.encode(),)) for key in self._owners))

    def of_user(self, user: str, name: str) -> tuple[bytes, ...]:
        """Return the ids of a user's conversation, that of the first key first."""
        return self._places((USERS, user.encode(), name.encode()))

    def of_session(self, record_id: bytes, name: str) -> tuple[bytes, ...]:
        """Return the ids of a session's conversation, that of the first key first."""
        return self._places((SESSIONS, record_id, name.encode()))

    def _places(self, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(_hash(key, parts) for key in self._names))

    @staticmethod
    def run_id(log: bytes, key: str) -> bytes:
        """Return the id of the run that begins with a key."""
        return _digest(b"run", log, key)

    @staticmethod
    def key_digest(log: bytes, key: str) -> bytes:
        """Return what the store knows of an entry's key."""
        return _digest(b"key", log, key)


def sealers_of(secret_keys: Sequence[bytes]) -> list[Sealer]:
    """Return what seals the values of conversations: one for each key, which opens what any has sealed."""
    keys = list(dict.fromkeys(secret_keys))
    return [Sealer([key, *(other for other in keys if other is not key)], NO_COOKIE) for key in keys]


def _hash(key: HMAC, parts: tuple[bytes, ...]) -> bytes:
    """Return a keyed hash; each part's length stands before it, so no two lists of parts are alike."""
    mac = key.copy()
    for part in parts:
        mac.update(len(part).to_bytes(4, "big") + part)
    return mac.finalize()[:ID_BYTES]


def _digest(kind: bytes, log: bytes, key: str) -> bytes:
    return sha256(kind + log + key.encode("utf-8", "surrogatepass")).digest()[:ID_BYTES]
