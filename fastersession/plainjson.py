"""JSON of what JSON has, strict, in the bytes of the standard library: by msgspec where it is installed and agrees.

Rules of residence: one value to bytes and back; no tag, no name of an attribute, no error of ours. ``json`` says what
is right: a worker with msgspec and one without it write the same bytes, read the same values, and refuse the same.

How msgspec (0.18.2 to 0.23) differs from ``json``, and what is done about it:

    it writes 1e16, 0.00001, 1e-7 where json has 1e+16,       each float that it has written is compared with Python's
    1e-05, 1e-07; and null for NaN                            word, the value that it wrote with the one that was given
    it takes tuple, set, dataclasses, and int for keys        the same
    it passes over white space around a value                 such bytes are left to json
    it refuses half characters, NaN, 1e999, and int of more   what it refuses is left to json
    than 64 bits (to write) or 4,300 digits (to read)

orjson reads an int of more than 64 bits as a float, without a word. It writes faster still, but all but a tenth of the
time goes into the comparison: so there is one library, for both directions.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

to_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
_read_json = json.JSONDecoder().raw_decode  # a fifth of the time of json.loads, which looks for white space
_VERSION = 2  # of marshal: the newest that writes equal values of equal types as equal bytes, whoever shares them
_SPACE = 32  # the highest byte of JSON's white space (RFC 8259, section 2); no value begins or ends with a lower one
# What a version that is to be used must write as json does: every spelling but those of numbers, which are compared.
_SPELT = {"".join(map(chr, range(256))): ["\u2028\ufeff\uffff\U0010ffff", {}, [], True, False, None, 0, -1]}

Text = TypeVar("Text", str, bytes)


class Different(ValueError):  # noqa: N818 - an outcome: what is no fault of a value is another exception
    """A value would come back as something else."""


class Fast(NamedTuple):
    """What msgspec does in the place of ``json``."""

    write: Callable[[Any], bytes]
    check: Callable[[bytes], Any]  # reads, but raises at a float that json writes otherwise
    read: Callable[[bytes], Any]


@cache
def fast() -> Fast | None:
    """Return msgspec's part, or ``None`` if it is not installed, too old or broken. Imports it at the first call."""
    try:
        from msgspec.json import Decoder, Encoder

        part = Fast(Encoder().encode, Decoder(float_hook=_as_json_writes).decode, Decoder().decode)
        return part if part.write(_SPELT) == to_json(_SPELT).encode() else None
    except Exception:
        return None


def write(value: Any) -> bytes:
    """Return the JSON of a value.

    :raises Exception: of any kind: it would not come back as it was, type and value.
    """
    kept = marshal.dumps(value, _VERSION)
    part = fast()
    if part is not None:
        try:
            return _written(value, kept, part.write, part.check)
        except Different:
            raise
        except Exception:  # noqa: S110 - json has the last word
            pass
    return _written(value, kept, to_json, lambda text: _read_json(text)[0]).encode("utf-8", "surrogatepass")


def read(data: bytes) -> Any:
    """Return the value of JSON that has no white space around it.

    :raises Exception: of any kind: the bytes are something else.
    """
    part = fast()
    if part is not None and data[0] > _SPACE < data[-1]:
        try:
            return part.read(data)
        except Exception:  # noqa: S110 - json has the last word
            pass
    text = data.decode("utf-8", "surrogatepass")
    value, end = _read_json(text)
    if end != len(text):
        raise ValueError("more than one value")
    return value


def look_of(value: Any) -> bytes | None:
    """Return bytes that tell a value from all others, in type, content and order; ``None`` if only encoding can.

    Takes a tenth of the time of decoding the value from JSON, and no thread gets a turn meanwhile.
    """
    try:
        return marshal.dumps(value, _VERSION)
    except ValueError:  # not exactly of builtin types, or nested too deep
        return None


def _written(value: Any, kept: bytes, encode: Callable[[Any], Text], decode: Callable[[Text], Any]) -> Text:
    """Encode a value of which ``kept`` is marshal's form, and prove by that that it comes back as it was.

    Equality sees no subclass (``True == 1``) and not the sign of zero; ``marshal`` does: it refuses what is not exactly
    a builtin type, or writes it as bytes (a float of numpy). Another thread may write between the first two looks: then
    the third is at a copy.
    """
    text = encode(value)
    if marshal.dumps(decode(text), _VERSION) != kept:
        text = encode(marshal.loads(kept))  # noqa: S302 - the caller has made it
        if marshal.dumps(decode(text), _VERSION) != kept:
            raise Different
    return text


def _as_json_writes(text: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise ValueError("json writes this float otherwise")
    return value
