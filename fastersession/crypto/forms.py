"""The tokens that forms carry against forged requests.

Rules of residence: text in, text out. What a session is, and which verifiers count, is not known here.

    token = base64url(nonce 32 | nonce XOR HMAC-SHA256(csrf subkey, record id 16 | verifier))

64 bytes are 86 characters without padding. A fresh nonce makes each reading look different, or whoever sees compressed
answers grow could guess the token (BREACH). Nothing of it is stored: it lives as long as the verifier does.
"""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from .tokens import same, subkey

MAC_BYTES = 32
FORM_CHARS = 86
FORM = re.compile(rf"[0-9A-Za-z_-]{{{FORM_CHARS}}}")


class FormTokens:
    """Makes tokens with the first key, accepts those of all. Bound to one cookie name."""

    __slots__ = ("_keys",)

    def __init__(self, secret_keys: Sequence[bytes], cookie_name: str) -> None:
        self._keys = [HMAC(subkey(key, b"csrf", cookie_name), SHA256()) for key in secret_keys]

    def make(self, record_id: bytes, verifier: bytes) -> str:
        """Return a token for a session as long as it has this verifier."""
        return _masked(self._mac(self._keys[0], record_id, verifier))

    @staticmethod
    def nobodys() -> str:
        """Return what looks like a token, and no session accepts."""
        return _masked(secrets.token_bytes(MAC_BYTES))

    def is_of(self, token: object, record_id: bytes, verifiers: Iterable[bytes]) -> bool:
        """Return whether it is a token made for this session under one of the verifiers. Anything may be given."""
        mac = _unmasked(token)
        if mac is None:
            return False
        # All are compared, whichever is the right one.
        return True in [same(mac, self._mac(key, record_id, each)) for each in verifiers for key in self._keys]

    @staticmethod
    def _mac(key: HMAC, record_id: bytes, verifier: bytes) -> bytes:
        mac = key.copy()
        mac.update(record_id + verifier)
        return mac.finalize()


def _masked(mac: bytes) -> str:
    nonce = secrets.token_bytes(MAC_BYTES)
    return _spelt(nonce + _xor(nonce, mac))


def _unmasked(token: object) -> bytes | None:
    """Return what is masked in a token; ``None`` if it is no token in its one spelling."""
    if not isinstance(token, str) or FORM.fullmatch(token) is None:
        return None
    raw = urlsafe_b64decode(f"{token}==")
    return _xor(raw[:MAC_BYTES], raw[MAC_BYTES:]) if same(_spelt(raw), token) else None  # spare bits are zeros


def _spelt(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
