"""The attributes of one record as a store outside the process keeps them: encoded, then sealed.

Rules of residence: composes codec and sealer; no store call. Authenticates before it decodes, always.

    stored name   "." and the attribute's name; "!" holds what the record says of itself (user, created, idle timeout);
                  "~" and more is a flash
    stored value  sealed: see ``tokens.Sealer``; else  format 0 | length 1 | codec name | data
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from itertools import filterfalse
from typing import Any, NamedTuple

from ..codecs import Codec, JsonCodec
from ..crypto.tokens import Sealer
from ..errors import CodecError
from ..facts import EMPTY, SCALARS, USUAL, Looks, Rare, identity_of
from ..flashes import PREFIX
from ..plainjson import look_of
from ..state import State
from ..stores.base import Record
from ..stores.users import ABOUT
from .values import About, Encoded, Work

PLAIN = b"\x00"
MAX_NAME = 255  # characters: what every store can index
LOOKS = 100  # at a value that other threads change: they get a turn every 5 ms only, so few looks are disturbed
KEPT_NAMES = 1024  # whose context is at hand: applications have few, and each costs a microsecond
KEPT_ABOUT = 1024  # records of which it is at hand what they say of themselves: it hardly ever changes
FOREIGN = "not sealed by us for this place"
_MISSING = object()
_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call
_ABOUT_CODEC = JsonCodec()


class Unreadable(Exception):  # noqa: N818 - an outcome, caught where a record is loaded
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
        name = codec.name.encode("ascii")
        head = bytes((len(name),)) + name
        self._codec = codec
        self._stable = getattr(codec, "stable", False)  # then other bytes are another value
        # A codec that is not stable may keep what no look shows: that two places have one list, for instance.
        self.look_of: Callable[[Any], bytes | None] = look_of if self._stable else _no_look
        self._sealer = _Unsealed(PLAIN + head) if sealer is None else sealer
        self._context = lru_cache(KEPT_NAMES)(partial(_context, head))
        self._about = lru_cache(KEPT_ABOUT)(self._open_about)

    def delta(self, now: Mapping[str, Any], base: Mapping[str, Any], rare: Rare, once: Encoded | None = None) -> Delta:
        """Compare by encoding. What is still the same object needs none if it is a scalar, or was not handed out.

        :param rare: how the store has ``base``, and what was handed out. What does not look as it did is noted in it.
        :param once: what needs none either, if it is the same object; is added to.
        """
        once, encoded, handed, looks = {} if once is None else once, rare.encoded, rare.handed, rare.looks
        sets: dict[str, bytes] = {}
        faults: dict[str, str] = {}
        for name, value in now.items():
            is_same = value is base.get(name, _MISSING)
            if is_same and (type(value) in SCALARS or (handed is not None and name not in handed)):
                continue
            if name in looks and self._looks_the_same(name, value if is_same else _MISSING, looks):
                continue
            known = once.get(name)
            if known is None or known[0] is not value:
                known = once[name] = value, self._encoded(name, value)
            data = known[1]
            if isinstance(data, str):
                faults[name] = data
                continue
            loaded = encoded.get(name)
            if data != loaded and (loaded is None or self._stable or not self._same_value(name, data, loaded)):
                sets[name] = data
        return _new_tuple(Delta, (sets, tuple(filterfalse(now.__contains__, encoded)), faults))

    def pack(self, record_id: bytes, encoded: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return encoded attributes as the store keeps them."""
        seal, context, packed = self._sealer.record(record_id).seal, self._context, {}
        for name, data in encoded.items():
            stored = f".{name}"
            packed[stored] = seal(data, context(stored))
        return packed

    def pack_about(self, record_id: bytes, about: About) -> bytes:
        """Return the user, creation time and idle timeout of a record, as the store keeps them under ``ABOUT``.

        A list of three where nobody has logged in, as releases write that know no users.
        """
        identity, *times = about
        if identity is None:  # as ``json`` writes it, in a tenth of its time
            text = f"[null, {times[0]}, {times[1]}]"
        else:
            text = json.dumps((identity.user, *times, *identity[1:]))
        return self._sealer.record(record_id).seal(text.encode(), self._context(ABOUT))

    def pack_flash(self, record_id: bytes, stored: str, flash: tuple[str, str]) -> bytes:
        """Return a flash as the store keeps it, under its own name."""
        return self._sealer.record(record_id).seal(json.dumps(flash).encode(), self._context(stored))

    def unpack_flash(self, record_id: bytes, stored: str, sealed: bytes) -> tuple[str, str]:
        """Return a flash. What is not ours is none: an empty one."""
        try:
            data = self._sealer.record(record_id).open(sealed, self._context(stored))
            message, category = json.loads(data or b"")
        except (Unreadable, ValueError):
            return "", ""
        return message, category

    def unpack(self, record_id: bytes, record: Record) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Return the attributes, decoded and encoded, and correct what the record says of itself.

        :raises Unreadable: something in it is not ours, whatever it is.
        """
        about, encoded, decoded = b"", {}, {}
        try:
            open_, context = self._sealer.record(record_id).open, self._context
            for stored, sealed in record.attributes.items():
                if stored == ABOUT:
                    about = sealed
                    continue
                data = open_(sealed, context(stored))
                if data is None:
                    raise Unreadable(FOREIGN)
                if not stored.startswith("."):
                    if stored.startswith(PREFIX):
                        continue
                    raise Unreadable("under a name that is not ours")
                encoded[stored[1:]] = data
            identity, record.created_at, record.idle_timeout = self._about(record_id, about)
            decode = self._codec.decode
            for name, data in encoded.items():  # all are authentic by now
                decoded[name] = decode(name, data)
            if record.extra.identity is not identity:
                record.extra = record.extra._replace(identity=identity)
        except Unreadable:
            raise
        except Exception as error:
            raise Unreadable(type(error).__name__) from None
        return decoded, encoded

    def _open_about(self, record_id: bytes, sealed: bytes) -> About:
        data = self._sealer.record(record_id).open(sealed, self._context(ABOUT))
        if data is None:
            raise Unreadable(FOREIGN)
        user, created_at, idle_timeout, *login = _ABOUT_CODEC.decode(ABOUT, data)
        return identity_of(user, *login) if login else None, float(created_at), float(idle_timeout)

    def _same_value(self, name: str, data: bytes, loaded: bytes) -> bool:
        """Return whether other bytes are the value that was loaded all the same."""
        try:
            return self._codec.encode(name, self._codec.decode(name, loaded)) == data
        except Exception:
            return False

    def _looks_the_same(self, name: str, value: Any, looks: Looks) -> bool:
        """Return whether a value looks as it did when it was loaded: so it needs no encoding, nor what that checks.

        Once it does not, its look says nothing any more: the store may have another state of it by the time that it
        looks so again.
        """
        loaded, look = looks[name]
        if loaded is value and look is not None and self.look_of(value) == look:
            return True
        looks[name] = None, None
        return False

    def _encoded(self, name: object, value: Any) -> bytes | str:
        """Return a value's bytes, or what is wrong with it."""
        try:
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
        except Exception as error:
            return _words(name, value, error)


class _Unsealed:
    """A sealer, and what it returns for each record, where values are stored as they are: behind the codec's name."""

    def __init__(self, head: bytes) -> None:
        self._head = head

    def record(self, record_id: bytes) -> _Unsealed:
        return self

    def seal(self, data: bytes, context: bytes) -> bytes:
        return self._head + data

    def open(self, stored: bytes, context: bytes) -> bytes | None:
        if not stored.startswith(self._head):
            raise Unreadable("of another codec")
        return stored[len(self._head) :]


class PackedValues:
    """Bytes. An attribute is written when its encoding differs from the bytes that were loaded."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer
        self.load = packer.unpack
        self.look_of = packer.look_of

    def compare(self, state: State, source: dict[str, Any], once: Encoded | None = None) -> Work:
        content = dict(dict.items(source))
        rare = state.rare
        sets, deletes, faults = self._packer.delta(content, state.base, rare, once)
        handed = rare.handed
        if handed is not None:  # also what was put there by none of the session's methods
            for name in sets:
                if name not in handed and type(content[name]) not in SCALARS:
                    state.handed_out((name,))
        kept = {name: value for name, value in content.items() if name not in faults} if faults else content
        return _new_tuple(Work, (kept, sets, deletes, faults))

    def changed_inside(self, state: State, source: dict[str, Any], longest: int) -> list[str]:
        base, rare = state.base, state.rare
        small = [name for name, data in rare.encoded.items() if len(data) <= longest]
        same = {name: base[name] for name in small if name in base and dict.get(source, name, small) is base[name]}
        sets, _, faults = self._packer.delta(same, base, rare)
        return [*sets, *faults]

    def to_create(self, record_id: bytes, work: Work, about: About) -> Mapping[str, Any]:
        return {**self._packer.pack(record_id, work.sets), ABOUT: self._packer.pack_about(record_id, about)}

    def to_change(self, record_id: bytes, work: Work, about: About | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        sets = self._packer.pack(record_id, work.sets)
        if about is not None:
            sets[ABOUT] = self._packer.pack_about(record_id, about)
        return sets, tuple([f".{name}" for name in work.deletes]) if work.deletes else ()

    def whole(self, content: Mapping[str, Any]) -> Work:
        sets, _, faults = self._packer.delta(content, EMPTY, USUAL)
        return Work(content, sets, (), faults)

    def stored_name(self, name: str) -> str:
        return f".{name}"

    def settle(self, state: State, work: Work) -> None:
        encoded = {**state.rare.encoded, **work.sets}
        for name in work.deletes:
            encoded.pop(name, None)
        state.settled(work.content, encoded)


def _context(codec: bytes, stored_name: str) -> bytes:
    """Return what a sealed value is bound to: the codec's name and the stored one, each after its length."""
    encoded = b"" if stored_name == ABOUT else stored_name.encode()
    return codec + len(encoded).to_bytes(4, "big") + encoded


def _no_look(value: object) -> None:
    return None


def _in_motion(error: RuntimeError) -> bool:
    """Return whether another thread has changed what was walked, a dict, set or deque: CPython has no class for it."""
    return type(error) is RuntimeError and "during iteration" in str(error)


def _words(name: object, value: object, error: Exception) -> str:
    """Say what is wrong with an attribute. A library's own text may quote the value."""
    if isinstance(error, CodecError):
        return str(error)
    return f"{name!r} ({type(value).__name__}, {type(error).__name__})"
