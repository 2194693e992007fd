"""Values to bytes and back, for stores that keep bytes.

Rules of residence: one value at a time; no key, no record, no store. A codec raises whatever its library raises; the
caller names the attribute. ``name`` stands beside each value, so no value is ever read by another codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Protocol

from .errors import CodecError, ConfigError
from .plainjson import read, to_json, write

_MARK = 1  # the first byte of what has tags: no JSON begins with it (RFC 8259, section 2)


class Codec(Protocol):
    """Turns one attribute into bytes and back. Stateless; may be used from several tasks."""

    name: str
    unsafe: bool  # decoding bytes of a stranger would run his code, so they must be sealed
    # What is decoded and encoded again gives the same bytes, so other bytes are another value. What is equal in type,
    # content and order gives the same bytes.
    stable: bool

    def encode(self, attribute: str, value: Any) -> bytes:
        """Return the bytes of a value; any exception means that it cannot be kept.

        The text of a ``CodecError`` is passed on to the application and its logs, of any other only the class.
        """

    def decode(self, attribute: str, data: bytes) -> Any:
        """Return the value; any exception means that the bytes are not this codec's."""


class JsonCodec:
    """JSON (RFC 8259), and tags for what JSON does not have; strict: all comes back as it was, type and value.

    Tagged are tuple, bytes, date, time, datetime, timedelta, UUID, Decimal, set, markupsafe's ``Markup``, and the
    members of ``enums``. Keys of dicts are ``str``, time zones are ``datetime.timezone``, and no offset is
    below a second. A subclass of any of these types is refused, for it would come back as its base. Where msgspec is
    installed it writes and reads plain JSON, in the same bytes.

    :param enums: Enum classes whose members are kept, under the class's qualified name and the member's name. Only a
        codec that has the class can read them: give it to every worker before one keeps a member.
    :raises ConfigError: ``enums`` are no Enum classes, or two have one name.
    """

    name = "json"
    unsafe = False
    stable = True

    def __init__(self, enums: Iterable[type[Enum]] = ()) -> None:
        self._classes = _enums_by_name(enums)
        self._names = {kind: name for name, kind in self._classes.items()}

    def encode(self, attribute: str, value: Any) -> bytes:
        """Encode a value.

        :raises CodecError: the value would not come back as it was; says where, which class, and what to do.
        """
        try:
            scalar = _SCALARS.get(type(value))
            return write(value) if scalar is None else scalar(value).encode("utf-8", "surrogatepass")
        except Exception:  # noqa: S110 - JSON does not have it, or it is refused below, with a reason
            pass
        from .tagged import to_tagged

        return bytes((_MARK,)) + to_tagged(attribute, value, self._names).encode("utf-8", "surrogatepass")

    def decode(self, attribute: str, data: bytes) -> Any:
        """Decode a value.

        :raises CodecError: the bytes are none of this codec's, or name an Enum that it was not given.
        """
        try:
            if data[0] == _MARK:
                from .tagged import from_tagged

                return from_tagged(data[1:].decode("utf-8", "surrogatepass"), self._classes)
            return read(data)
        except Exception as error:
            raise CodecError(f"not written by this codec: {type(error).__name__}") from None


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
        self._malformed = msgspec.DecodeError
        self._decoders = {
            name: msgspec.msgpack.Decoder(type_, dec_hook=_load_model) for name, type_ in (types or {}).items()
        }

    def encode(self, attribute: str, value: Any) -> bytes:
        """Encode a value.

        :raises CodecError: the value would not come back equal.
        """
        data = self._bytes(value)
        if isinstance(value, str | int | float | bytes | None) and attribute not in self._decoders:
            return data
        while self._read(attribute, data) != value:
            before, data = data, self._bytes(value)
            if data == before:  # else another thread has written between the two
                kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
                raise CodecError(
                    f"{attribute!r}, of class {kind}, does not come back equal: name its type in "
                    f"MsgspecCodec(types={{{attribute!r}: ...}})"
                )
        return data

    def decode(self, attribute: str, data: bytes) -> Any:
        return self._decoders.get(attribute, self._plain).decode(data)

    def _bytes(self, value: Any) -> bytes:
        try:
            data: bytes = self._encode(value)
        except SystemError as error:  # of a set that grew while a hook ran
            raise error.__cause__ or error from None
        return data

    def _read(self, attribute: str, data: bytes) -> Any:
        try:
            return self.decode(attribute, data)
        except self._malformed as error:
            if type(error) is not self._malformed:  # of what is not of the type that was named
                raise
            raise RuntimeError("a dict was changed during iteration") from None  # a hook ran, and it has another length


class PickleCodec:
    """Any Python object, by pickle. Only for sealed values: whoever can write a pickle can run code."""

    name = "pickle"
    unsafe = True
    stable = False

    def __init__(self) -> None:
        import pickle

        self._pickle = pickle

    def encode(self, attribute: str, value: Any) -> bytes:
        return self._pickle.dumps(value, protocol=5)

    def decode(self, attribute: str, data: bytes) -> Any:
        return self._pickle.loads(data)


# How each is written. Of a float or int that JSON has no word for, these raise.
_SCALARS: Mapping[type, Callable[[Any], str]] = {int: str, **dict.fromkeys((str, float, bool, type(None)), to_json)}


def _enums_by_name(enums: Iterable[type[Enum]]) -> dict[str, type[Enum]]:
    given: list[Any] = list(enums) if isinstance(enums, Iterable) and not isinstance(enums, type) else [None]
    by_name: dict[str, type[Enum]] = {}
    for kind in given:
        if not (isinstance(kind, type) and issubclass(kind, Enum) and kind.__members__):
            raise ConfigError("enums: must be a list of Enum classes that have members")
        if by_name.setdefault(kind.__qualname__, kind) is not kind:
            raise ConfigError(f"enums: two classes have the name {kind.__qualname__}, under which members are kept")
    return by_name


def _dump_model(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # pydantic
    if dump is None:
        raise NotImplementedError(f"{type(value).__name__} has no encoding")
    try:
        return dump(mode="json")
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise
        raise RuntimeError(str(error)) from None  # pydantic-core panics at a dict that grows


def _load_model(type_: Any, value: Any) -> Any:
    validate = getattr(type_, "model_validate", None)
    if validate is None:
        raise NotImplementedError(f"{type_!r} has no decoding")
    return validate(value)
