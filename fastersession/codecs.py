"""Values to bytes and back, for stores that keep bytes.

Rules of residence: one value at a time; no key, no record, no store. A codec raises whatever its library raises; the
caller names the attribute. ``name`` stands beside each value, so no value is ever read by another codec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from .errors import ConfigError

__all__ = ["Codec", "JsonCodec", "MsgspecCodec", "PickleCodec", "from_json"]

_PLAIN = (str, int, type(None))
_to_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_read_json = json.JSONDecoder().raw_decode


class Codec(Protocol):
    """Turns one attribute into bytes and back. Stateless; may be used from several tasks."""

    name: str
    unsafe: bool  # decoding bytes of a stranger would run his code, so they must be sealed
    stable: bool  # what is decoded and encoded again gives the same bytes, so other bytes are another value

    def encode(self, attribute: str, value: Any) -> bytes:
        """Return the bytes of a value; any exception means that it cannot be kept."""

    def decode(self, attribute: str, data: bytes) -> Any:
        """Return the value; any exception means that the bytes are not this codec's."""


class JsonCodec:
    """JSON (RFC 8259), strict: what would come back different is refused when it is saved."""

    name = "json"
    unsafe = False
    stable = True

    def encode(self, attribute: str, value: Any) -> bytes:
        """See ``Codec``.

        :raises ValueError: the value would not come back equal (a tuple, a key that is no string, NaN).
        """
        text = str(value) if type(value) is int else _to_json(value)
        while not isinstance(value, _PLAIN) and json.loads(text) != value:
            before, text = text, _to_json(value)
            if text == before:  # else another thread has written between the two
                raise ValueError("does not come back equal from JSON")
        return text.encode("utf-8", "surrogatepass")

    def decode(self, attribute: str, data: bytes) -> Any:
        """See ``Codec``."""
        return from_json(data)


class MsgspecCodec:
    """MessagePack by msgspec: fast, and typed where types are named.

    :param types: the type of an attribute by its name: a dataclass, attrs class, Struct, TypedDict or builtin comes
        back as itself; pydantic models too. Other attributes come back as builtins.
    :raises ConfigError: msgspec is not installed.
    """

    name = "msgspec"
    unsafe = False
    stable = False  # the order in which a set gives its members depends on its past

    def __init__(self, types: Mapping[str, Any] | None = None) -> None:
        try:
            import msgspec
        except ImportError as error:
            raise ConfigError('MsgspecCodec needs msgspec: pip install "fastersession[msgspec]"') from error
        self._encode = msgspec.msgpack.Encoder(enc_hook=_dump_model).encode
        self._plain = msgspec.msgpack.Decoder()
        self._decoders = {
            name: msgspec.msgpack.Decoder(type_, dec_hook=_load_model) for name, type_ in (types or {}).items()
        }

    def encode(self, attribute: str, value: Any) -> bytes:
        """See ``Codec``.

        :raises ValueError: the value would not come back equal.
        """
        data: bytes = self._encode(value)
        if isinstance(value, str | int | float | bytes | None) and attribute not in self._decoders:
            return data
        while self.decode(attribute, data) != value:
            before, data = data, self._encode(value)
            if data == before:  # else another thread has written between the two
                raise ValueError("does not come back equal: name its type in MsgspecCodec(types=...)")
        return data

    def decode(self, attribute: str, data: bytes) -> Any:
        """See ``Codec``."""
        return self._decoders.get(attribute, self._plain).decode(data)


class PickleCodec:
    """Any Python object, by pickle. Only for sealed values: whoever can write a pickle can run code."""

    name = "pickle"
    unsafe = True
    stable = False

    def __init__(self) -> None:
        import pickle

        self._pickle = pickle

    def encode(self, attribute: str, value: Any) -> bytes:
        """See ``Codec``."""
        return self._pickle.dumps(value, protocol=5)

    def decode(self, attribute: str, data: bytes) -> Any:
        """See ``Codec``."""
        return self._pickle.loads(data)


def from_json(data: bytes) -> Any:
    """Return the value of JSON as it is written here, without white space: a fifth of the time of ``json.loads``."""
    text = data.decode("utf-8", "surrogatepass")
    value, end = _read_json(text)
    if end != len(text):
        raise ValueError("more than one value")
    return value


def _dump_model(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # pydantic
    if dump is None:
        raise NotImplementedError(f"{type(value).__name__} has no encoding")
    return dump(mode="json")


def _load_model(type_: Any, value: Any) -> Any:
    validate = getattr(type_, "model_validate", None)
    if validate is None:
        raise NotImplementedError(f"{type_!r} has no decoding")
    return validate(value)
