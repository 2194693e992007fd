"""The attributes of one record as a store outside the process keeps them: encoded, then sealed.

Rules of residence: composes codec and sealer; no store call, no session. Authenticates before it decodes, always.

    stored name   "." and the attribute's name; "!" holds what the record says of itself (user, created, idle timeout)
    stored value  sealed: see ``tokens.Sealer``; else  format 0 | length 1 | codec name | data
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

from ..codecs import Codec, from_json
from ..crypto.tokens import RecordSealer, Sealer
from ..errors import CodecError
from ..stores.base import Record

__all__ = ["ABOUT", "SCALARS", "Delta", "Packer", "Unreadable"]

ABOUT = "!"
PLAIN = b"\x00"
MAX_NAME = 255  # characters: what every store can index
SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
LOOKS = 100  # at a value that other threads change: they get a turn every 5 ms only, so few looks are disturbed
KEPT_NAMES = 1024  # whose context is at hand: applications have few, and each costs a microsecond
_MISSING = object()


class Unreadable(Exception):  # noqa: N818 - an outcome, caught by the manager
    """A stored value is not ours: forged, moved, of another key or of another codec."""


class Delta(NamedTuple):
    """What changed since the load, packed; and what the store has once it is saved."""

    sets: dict[str, bytes]  # by attribute name, encoded but not sealed
    deletes: tuple[str, ...]
    faults: dict[str, str]  # what the codec refused, by attribute name, in words


class Packer:
    """Packs and unpacks attributes.

    :param sealer: ``None`` stores values unsealed.
    """

    def __init__(self, codec: Codec, sealer: Sealer | None) -> None:
        self._codec = codec
        self._sealer = sealer
        name = codec.name.encode("ascii")
        self._head = bytes((len(name),)) + name
        self._context = lru_cache(KEPT_NAMES)(partial(_context, self._head))

    def delta(self, now: Mapping[str, Any], base: Mapping[str, Any], encoded: Mapping[str, bytes]) -> Delta:
        """Compare by encoding. A scalar that is still the same object needs none."""
        sets: dict[str, bytes] = {}
        faults: dict[str, str] = {}
        for name, value in now.items():
            if value is base.get(name, _MISSING) and type(value) in SCALARS:
                continue
            try:
                data = self._encode(name, value)
            except Exception as error:
                faults[name] = _words(name, value, error)
                continue
            if data != encoded.get(name) and not self._same_value(name, data, encoded.get(name)):
                sets[name] = data
        deletes = tuple([name for name in encoded if name not in now])
        return Delta(sets, deletes, faults)

    def pack(self, record_id: bytes, encoded: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return encoded attributes as the store keeps them."""
        sealer = self._for(record_id)
        return {(stored := f".{name}"): self._wrap(sealer, stored, data) for name, data in encoded.items()}

    def pack_about(self, record_id: bytes, about: tuple[str | None, float, float]) -> bytes:
        """Return the user, creation time and idle timeout of a record, as the store keeps them under ``ABOUT``."""
        return self._wrap(self._for(record_id), ABOUT, json.dumps(about).encode())

    def unpack(self, record_id: bytes, record: Record) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the attributes, decoded and encoded, and correct what the record says of itself.

        :raises Unreadable: something in it is not ours, whatever it is.
        """
        try:
            stored = self._unwrap(record_id, record.attributes)
            user, created_at, idle_timeout = from_json(stored.pop(ABOUT, b""))
            encoded = {_attribute(name): data for name, data in stored.items()}
            decode = self._codec.decode
            decoded = {name: decode(name, data) for name, data in encoded.items()}
            record.user, record.created_at, record.idle_timeout = user, float(created_at), float(idle_timeout)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(type(error).__name__) from None
        return decoded, encoded

    def _same_value(self, name: str, data: bytes, loaded: bytes | None) -> bool:
        """Tell if other bytes are the value that was loaded all the same. A codec that is stable needs no answer."""
        if loaded is None or getattr(self._codec, "stable", False):
            return False
        try:
            return self._codec.encode(name, self._codec.decode(name, loaded)) == data
        except Exception:
            return False

    def _encode(self, name: object, value: Any) -> bytes:
        if not isinstance(name, str) or len(name) > MAX_NAME or "\x00" in name:
            raise CodecError(f"{name!r} is no name: it must be a str of at most {MAX_NAME} characters, without NUL")
        name.encode()  # a lone surrogate has no place in a store
        for _ in range(LOOKS):
            try:
                return self._codec.encode(name, value)
            except RuntimeError as error:
                if not _in_motion(error):
                    raise
        raise CodecError(
            f"{name!r} was changed by another thread each time it was looked at: give it a lock, or a copy"
        )

    def _for(self, record_id: bytes) -> RecordSealer | None:
        return None if self._sealer is None else self._sealer.record(record_id)

    def _wrap(self, sealer: RecordSealer | None, stored_name: str, data: bytes) -> bytes:
        if sealer is None:
            return PLAIN + self._head + data
        return sealer.seal(data, self._context(stored_name))

    def _unwrap(self, record_id: bytes, stored: Mapping[str, bytes]) -> dict[str, bytes]:
        if self._sealer is None:
            head = PLAIN + self._head
            if not all(data.startswith(head) for data in stored.values()):
                raise Unreadable("of another codec")
            return {name: data[len(head) :] for name, data in stored.items()}
        open_, context = self._sealer.record(record_id).open, self._context
        opened = {name: data for name, sealed in stored.items() if (data := open_(sealed, context(name))) is not None}
        if len(opened) != len(stored):
            raise Unreadable("not sealed by us for this place")
        return opened


def _context(codec: bytes, stored_name: str) -> bytes:
    """Return what a sealed value is bound to: the codec's name and the stored one, each after its length."""
    encoded = b"" if stored_name == ABOUT else stored_name.encode()
    return codec + len(encoded).to_bytes(4, "big") + encoded


def _in_motion(error: RuntimeError) -> bool:
    """Tell if another thread has changed a dict, set or deque while it was walked: CPython has no class for that."""
    return type(error) is RuntimeError and "during iteration" in str(error)


def _words(name: object, value: object, error: Exception) -> str:
    """Tell what is wrong with an attribute. A library's own text may quote the value."""
    if isinstance(error, CodecError):
        return str(error)
    return f"{name!r} ({type(value).__name__}, {type(error).__name__})"


def _attribute(stored_name: str) -> str:
    if not stored_name.startswith("."):
        raise Unreadable("under a name that is not ours")
    return stored_name[1:]
