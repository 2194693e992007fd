"""JSON with tags: what JSON has no word for, written so that it comes back as it was, type and value.

Rules of residence: one value to text and back, and the words for what cannot be kept. No class is looked up by a
stored name. ``codecs`` imports this module when it meets the first value that JSON does not have.

    {"$tag": content}   a value that JSON does not have; the tags are the keys of ``_READERS``, and ``$enum``
    {"$$key": value}    the application's own dict {"$key": value}: each key that begins with "$", and is the only
                        one of its dict, has one "$" more here, so that no dict can be taken for a tag
"""

from __future__ import annotations

import json
import sys
from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

from .errors import CodecError
from .plainjson import to_json

_AS_IT_IS = frozenset({str, int, bool, type(None)})
_BASES = (str, int, float, bytes, list, dict, tuple, set, datetime, date, time, timedelta, Decimal, UUID)
_INSTEAD: Mapping[type, str] = {frozenset: "a set", bytearray: "bytes", memoryview: "bytes", deque: "a list"}
_SHOWN = 30  # characters of a key, which is the application's data: names of fields are shorter, tokens longer


def to_tagged(attribute: str, value: Any, enums: Mapping[type[Enum], str]) -> str:
    """Return the text of a value. Every container is copied before it is walked, so threads may write meanwhile.

    :raises CodecError: some part of it cannot come back as it was.
    """
    try:
        return to_json(_Writer(enums).plain(value))
    except _Refused as refused:
        place, words = refused.place(attribute), refused.words.replace("<attribute>", repr(attribute))
    except RecursionError:
        place, words = repr(attribute), "is nested too deep, or holds itself"
    except ValueError:  # of str(int), the only one that is left
        place, words = repr(attribute), "has an int of more digits than Python reads: keep it as bytes or hex()"
    raise CodecError(f"{place} {words}")


def from_tagged(text: str, enums: Mapping[str, type[Enum]]) -> Any:
    """Return the value of a text.

    :raises Exception: of any kind: the text was not made here, or names an Enum that is not among ``enums``.
    """

    def value_of(found: dict[str, Any]) -> Any:
        if len(found) != 1:
            return found
        ((key, content),) = found.items()
        if not key.startswith("$"):
            return found
        if key.startswith("$$"):
            return {key[1:]: content}
        if key == "$enum":
            name, member = content
            return enums[name][member]
        return _READERS[key](content)

    return json.loads(text, object_hook=value_of)


class _Refused(Exception):  # noqa: N818 - an outcome, on its way up through the containers, which add where it was
    def __init__(self, words: str) -> None:
        self.words = words
        self.steps: list[str] = []

    def place(self, attribute: str) -> str:
        inside = "".join(reversed(self.steps))
        return f"{attribute if inside and attribute.isidentifier() else repr(attribute)}{inside}"


class _Writer:
    """Makes of a value one that JSON has, with tags. The exact type decides."""

    def __init__(self, enums: Mapping[type[Enum], str]) -> None:
        self._enums = enums

    def plain(self, value: Any) -> Any:
        kind = type(value)
        if kind in _AS_IT_IS:
            return value
        if kind is list:
            return self._each(list(value))
        if kind is dict:
            return self._dict(list(value.items()))
        if kind is tuple:
            return {"$tuple": self._each(value)}
        if kind is set:
            return {"$set": sorted(self._each(list(value), "{...}"), key=to_json)}
        return _LEAVES.get(kind, self._rare)(value)

    def _each(self, values: Iterable[Any], step: str = "") -> list[Any]:
        plain, done = self.plain, []
        try:
            for value in values:
                done.append(plain(value))  # noqa: PERF401 - how many are done tells where it was refused
        except _Refused as refused:
            refused.steps.append(step or f"[{len(done)}]")
            raise
        return done

    def _dict(self, items: list[tuple[Any, Any]]) -> dict[str, Any]:
        plain, done, key = self.plain, {}, None
        try:
            for key, value in items:
                if type(key) is not str:
                    raise _Refused(f"has a key of class {_class_of(key)}: keys must be str")
                done[key] = plain(value)
        except _Refused as refused:
            refused.steps.append(_step(key))
            raise
        if len(done) == 1 and key is not None and key.startswith("$"):
            return {f"${key}": done[key]}
        return done

    def _rare(self, value: Any) -> Any:
        kind = type(value)
        name = self._enums.get(kind)
        if name is not None and kind.__members__.get(value._name_) is value:  # not a nameless union of flags
            return {"$enum": [name, value._name_]}
        markupsafe = sys.modules.get("markupsafe")  # it is there if there is such a value
        if markupsafe is not None and kind is getattr(markupsafe, "Markup", None):
            return {"$markup": str.__str__(value)}
        raise _Refused(f"is of class {_class_of(value)}: {_remedy(value, name is not None)}")


def _float(value: float) -> float:
    if not isfinite(value):
        raise _Refused("is NaN or infinite, which JSON is not: keep None, or use PickleCodec")
    return value


def _moment(tag: str) -> Callable[[Any], dict[str, Any]]:
    """Return the writer of times: ISO 8601, which has no ``fold`` and no name of an offset; these stand beside."""

    def write(value: datetime | time) -> dict[str, Any]:
        zone, named = value.tzinfo, None
        if zone is not None:
            remedy = "keep its astimezone(UTC)" if isinstance(value, datetime) else "keep it without tzinfo"
            if type(zone) is not timezone:
                raise _Refused(f"has a tzinfo of class {_class_of(zone)}, which would come back as an offset: {remedy}")
            if timedelta(0) < abs(zone.utcoffset(None)) < timedelta(seconds=1):  # fromisoformat() makes UTC of it
                raise _Refused(f"has an offset of less than a second: {remedy}")
            name = zone.tzname(None)
            named = None if name == timezone(zone.utcoffset(None)).tzname(None) else name
        text = value.isoformat()
        return {tag: text if named is None and not value.fold else [text, value.fold, named]}

    return write


def _moment_of(kind: type[datetime] | type[time]) -> Callable[[Any], Any]:
    def read(content: Any) -> Any:
        if isinstance(content, str):
            return kind.fromisoformat(content)
        text, fold, named = content
        value = kind.fromisoformat(text)
        zone = value.tzinfo
        if named is not None and zone is not None:
            zone = timezone(zone.utcoffset(None), named)  # type: ignore[arg-type]  # an offset that was read
        return value.replace(fold=fold, tzinfo=zone)

    return read


def _markup(content: str) -> Any:
    from markupsafe import Markup

    return Markup(content)  # noqa: S704 - it was one when it was kept


_LEAVES: dict[type, Callable[[Any], Any]] = {
    float: _float,
    bytes: lambda value: {"$bytes": b2a_base64(value, newline=False).decode()},
    date: lambda value: {"$date": value.isoformat()},
    datetime: _moment("$datetime"),
    time: _moment("$time"),
    timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    UUID: lambda value: {"$uuid": str(value)},
    Decimal: lambda value: {"$decimal": str(value)},
}

_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$bytes": lambda content: a2b_base64(content, strict_mode=True),
    "$date": date.fromisoformat,
    "$datetime": _moment_of(datetime),
    "$time": _moment_of(time),
    "$timedelta": lambda content: timedelta(*content),
    "$uuid": UUID,
    "$decimal": Decimal,
    "$markup": _markup,
}


def _class_of(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _step(key: object) -> str:
    """Return a key as a part of a place: names of fields are shown, what may be somebody's data is not."""
    if type(key) is not str:
        return ""
    return f".{key}" if key.isidentifier() and len(key) <= _SHOWN else "[...]"


def _remedy(value: object, named: bool) -> str:
    if isinstance(value, Enum):
        known = "" if named else f", or give the class to JsonCodec(enums=[{type(value).__name__}])"
        return f"keep its .value{known}"
    others = "name its type in MsgspecCodec(types={<attribute>: ...}), or use PickleCodec"
    for base in _BASES:
        if isinstance(value, base):
            return f"it would come back as a plain {base.__name__}; keep it as that, {others}"
    instead = _INSTEAD.get(type(value))
    return others if instead is None else f"keep it as {instead}, or use PickleCodec"
