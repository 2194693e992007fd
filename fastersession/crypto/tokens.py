"""Ids, secrets, keys, and the signed token that the cookie carries.

Rules of residence: the only importer of ``cryptography``. Bytes in, bytes out; no clock, no I/O. What is secret has
no repr.

    token = base64url(version 1 | key id 1 | record id 16 | secret 16 | HMAC-SHA256 tag 32)

66 bytes are 88 characters without padding and without spare bits, so each token has exactly one spelling.
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hmac import compare_digest as same
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = [
    "ID_BYTES", "TOKEN_CHARS", "KeyRing", "RecordSealer", "Sealer", "Secret", "Ticket", "draw", "has_form", "same",
    "verifier_of",
]  # fmt: skip

VERSION = 1
ID_BYTES = 16  # 128 bits from the system's generator, as OWASP ASVS 5.0 section 7.2.3 asks for
TOKEN_CHARS = 88
KEPT_RECORDS = 1024  # whose cipher is at hand (3 KB each): deriving it costs as much as opening five small values
LARGE = 16 * 1024  # bytes of a sealed value from which a copy costs more than a view of it
_SIGNED, _RECORD_ID, _SECRET, _TAG = slice(34), slice(2, 18), slice(18, 34), slice(34, None)  # made once: dear
_SALT = b"fastersession/v1"

_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_BASE64 = _BASE64URL[:-2] + b"+/"
# Bytes outside the alphabet become NUL, which the decoder skips: the result is then too short and refused.
_TO_BASE64 = bytes(dict(zip(_BASE64URL, _BASE64, strict=True)).get(byte, 0) for byte in range(256))
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")


class Ticket(NamedTuple):
    """What a genuine token proves: the public record id, and the secret known to its holder only."""

    record_id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "<Ticket>"


class Secret(bytes):
    """Bytes that no repr shows, for they stand in the locals that a traceback may print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Secret>"

    __str__ = __repr__


def draw() -> tuple[bytes, Secret]:
    """Return a new record id and secret, from one draw of the system's random generator."""
    random = secrets.token_bytes(2 * ID_BYTES)
    return random[:ID_BYTES], Secret(random[ID_BYTES:])


def has_form(value: bytes) -> bool:
    """Return whether bytes have the form of a token, genuine or not."""
    if len(value) != TOKEN_CHARS:
        return False
    try:
        raw = a2b_base64(value.translate(_TO_BASE64))
    except binascii.Error:
        return False
    return len(raw) == TOKEN_CHARS * 3 // 4 and raw[0] == VERSION


def verifier_of(secret: bytes) -> bytes:
    """Return what a store outside the process keeps instead of the secret: its SHA-256."""
    return hashlib.sha256(secret).digest()


def subkey(secret_key: bytes, purpose: bytes, cookie_name: str) -> bytes:
    """Derive the 32-byte key for one purpose and one cookie (HKDF, RFC 5869).

    ``info`` is the purpose, the cookie name's length as two bytes (big endian), and the cookie name, so no two uses
    of one secret share a key.
    """
    name = cookie_name.encode("ascii")
    info = purpose + len(name).to_bytes(2, "big") + name
    return HKDF(algorithm=SHA256(), length=32, salt=_SALT, info=info).derive(secret_key)


class KeyRing:
    """Signs with the first key, verifies with all. Bound to one cookie name."""

    __slots__ = ("_by_head", "_first", "_head", "_only")

    def __init__(self, secret_keys: Sequence[bytes], cookie_name: str) -> None:
        self._by_head: dict[bytes, list[HMAC]] = {}  # version and key id, as a token begins
        for secret_key in secret_keys:
            head = bytes((VERSION, subkey(secret_key, b"key-id", cookie_name)[0]))
            mac = HMAC(subkey(secret_key, b"cookie-mac", cookie_name), SHA256())
            self._by_head.setdefault(head, []).append(mac)
        self._head = next(iter(self._by_head))
        self._first = self._by_head[self._head][0]
        self._only = len(secret_keys) == 1

    def sign(self, ticket: tuple[bytes, bytes]) -> bytes:
        """Return the 88-character token for a ticket, signed with the first key."""
        signed = self._head + ticket[0] + ticket[1]
        mac = self._first.copy()
        mac.update(signed)
        return b2a_base64(signed + mac.finalize(), newline=False).translate(_TO_BASE64URL)

    def unsign(self, token: bytes) -> Ticket | None:
        """Return what a genuine token proves, ``None`` for anything else. Never raises; any bytes may be given."""
        pair = self.unsign_pair(token)
        return None if pair is None else Ticket(*pair)

    def unsign_pair(self, token: bytes) -> tuple[bytes, bytes] | None:
        """Do what ``unsign`` does, faster; the caller must not let an exception escape while it holds the pair."""
        if len(token) != TOKEN_CHARS:
            return None
        try:
            raw = a2b_base64(token.translate(_TO_BASE64))
        except binascii.Error:
            return None
        mac = self._first.copy()
        mac.update(raw[_SIGNED])
        try:
            mac.verify(raw[_TAG])  # also of a tag that is short, because the decoder skipped something
        except InvalidSignature:
            if self._only or not self._verify_any(raw):
                return None
        return raw[_RECORD_ID], raw[_SECRET]

    def _verify_any(self, raw: bytes) -> bool:
        """Try every key whose id the token names."""
        for first in self._by_head.get(raw[:2], ()):
            mac = first.copy()
            mac.update(raw[_SIGNED])
            try:
                mac.verify(raw[_TAG])
            except InvalidSignature:
                continue
            return True
        return False


class Sealer:
    """Encrypts and authenticates values for stores outside the process. Bound to one cookie name.

    value = format 1 | key id 1 | nonce 12 | AES-256-GCM(key of the record, nonce, data, format | record id | context)

    The key of a record is HMAC-SHA256(seal subkey, record id), so no nonce is ever used with too many values.
    """

    __slots__ = ("record",)

    FORMAT = 1
    NONCE_BYTES = 12

    def __init__(self, secret_keys: Sequence[bytes], cookie_name: str) -> None:
        keys: dict[int, list[HMAC]] = {}
        for secret_key in secret_keys:
            key_id = subkey(secret_key, b"key-id", cookie_name)[0]
            keys.setdefault(key_id, []).append(HMAC(subkey(secret_key, b"seal", cookie_name), SHA256()))
        make = partial(RecordSealer, keys, next(iter(keys)))
        self.record: Callable[[bytes], RecordSealer] = lru_cache(KEPT_RECORDS)(make)
        """Return the sealer for the values of one record."""


class RecordSealer:
    """Seals and opens the values of one record.

    :param keys: by id, pre-keyed.
    :param first_id: the id of the key that seals, the first of that id.
    """

    __slots__ = ("_bound", "_cipher", "_head", "_keys", "_record_id")

    def __init__(self, keys: Mapping[int, Sequence[HMAC]], first_id: int, record_id: bytes) -> None:
        self._keys = keys
        self._record_id = record_id
        self._head = bytes((Sealer.FORMAT, first_id))
        self._bound = self._head[:1] + record_id
        self._cipher = self._derive(keys[first_id][0])

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Return the sealed value; ``context`` says what it is, and must be given to open it."""
        nonce = secrets.token_bytes(Sealer.NONCE_BYTES)
        return self._head + nonce + self._cipher.encrypt(nonce, data, self._bound + context)

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """Return the data if the value was sealed for this record and context by one of the keys, else ``None``."""
        bound = self._bound + context
        if sealed[:2] == self._head:
            try:
                body = sealed[_BODY:] if len(sealed) < LARGE else memoryview(sealed)[_BODY:]
                return self._cipher.decrypt(sealed[2:_BODY], body, bound)
            except (InvalidTag, ValueError):
                pass  # it may be another key of the same id
        return self._open_by_any(sealed, bound)

    def _open_by_any(self, sealed: bytes, bound: bytes) -> bytes | None:
        if len(sealed) < _BODY + _TAG_BYTES or sealed[0] != Sealer.FORMAT:
            return None
        for key in self._keys.get(sealed[1], ()):
            try:
                return self._derive(key).decrypt(sealed[2:_BODY], sealed[_BODY:], bound)
            except InvalidTag:
                continue
        return None

    def _derive(self, key: HMAC) -> AESGCM:
        mac = key.copy()
        mac.update(self._record_id)
        return AESGCM(mac.finalize())


_BODY = 2 + Sealer.NONCE_BYTES  # where what is encrypted begins
_TAG_BYTES = 16
