"""Codecs to the letter: their words, their bytes, and what they do where a library leaves off."""

from __future__ import annotations

import enum
import sys
from collections import namedtuple
from typing import Any

import pydantic
import pytest

from fastersession import CodecError, ConfigError, JsonCodec, MsgspecCodec, PickleCodec
from fastersession.plainjson import fast, look_of, read


class Role(enum.Enum):
    USER = "user"


class Color(enum.Enum):
    RED = 1


class Plain:
    """Knows no encoding."""


class Page(pydantic.BaseModel):
    """Has a value that only its JSON can write."""

    url: pydantic.AnyUrl


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize("value", [("\ud800",), {"\ud800": {1}}, "\ud800"])
def test_half_a_character_comes_back(value: Any) -> None:
    """With tags and without."""
    codec = JsonCodec()
    assert codec.decode("a", codec.encode("a", value)) == value


@pytest.mark.parametrize(("data", "kind"), [
    (b"[1", "JSONDecodeError"), (b"", "IndexError"), (b"\x01\xff", "UnicodeDecodeError"),
    (b'\x01{"$none":1}', "KeyError"),
])  # fmt: skip
def test_bytes_that_are_not_its_own_are_refused_by_class(data: bytes, kind: str) -> None:
    """What stands in them is not told."""
    with pytest.raises(CodecError) as raised:
        JsonCodec().decode("a", data)
    assert str(raised.value) == f"not written by this codec: {kind}"


def test_enums_are_looked_up_by_their_own_names() -> None:
    """Several may be given; what is none is refused."""
    codec = JsonCodec(enums=[Role, Color])
    for member in (Role.USER, Color.RED):
        assert codec.decode("a", codec.encode("a", member)) is member
    with pytest.raises(ConfigError, match=r"^enums: must be a list of Enum classes that have members$"):
        JsonCodec(enums=[Plain])  # type: ignore[list-item]


def test_pickles_are_of_protocol_5() -> None:
    """Whatever the interpreter's own is: another worker may have another."""
    assert PickleCodec().encode("a", [1])[:2] == b"\x80\x05"


def test_without_msgspec_its_codec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigError, match=r'^MsgspecCodec needs msgspec: pip install "fastersession\[msgspec\]"$'):
        MsgspecCodec()


@pytest.mark.parametrize(("value", "kind"), [((1, 2), "tuple"), (Point(1, 2), f"{__name__}.Point")])
def test_what_does_not_come_back_equal_is_named_by_its_class(value: Any, kind: str) -> None:
    """With the remedy."""
    with pytest.raises(CodecError) as raised:
        MsgspecCodec().encode("a", value)
    assert str(raised.value) == (
        f"'a', of class {kind}, does not come back equal: name its type in MsgspecCodec(types={{'a': ...}})"
    )


def test_what_has_no_encoding_is_refused_by_its_class() -> None:
    """And so is a type that has no decoding; a model goes by its JSON."""
    with pytest.raises(NotImplementedError, match=r"^Plain has no encoding$"):
        MsgspecCodec().encode("a", Plain())
    with pytest.raises(NotImplementedError, match=r"Plain'> has no decoding$"):
        MsgspecCodec({"a": Plain}).decode("a", b"\x01")
    codec, page = MsgspecCodec({"a": Page}), Page(url="https://example.org/")  # type: ignore[arg-type]
    assert codec.decode("a", codec.encode("a", page)) == page


def test_an_error_of_msgspec_s_own_is_told_from_a_value_in_motion() -> None:
    """Half a dict has been written while a hook ran; what is of another type than was named stays so."""
    codec: Any = MsgspecCodec({"a": list[int]})
    with pytest.raises(codec._malformed) as raised:
        codec.encode("a", ["x"])
    assert type(raised.value) is not codec._malformed
    codec._encode = lambda value: b"\x82"  # the head of a dict of two
    with pytest.raises(RuntimeError, match=r"^a dict was changed during iteration$"):
        codec.encode("b", {})


@pytest.mark.parametrize("cause", [None, RuntimeError("Set changed size during iteration")])
def test_an_error_of_the_interpreter_s_is_told_by_its_cause(cause: Exception | None) -> None:
    """Or as it is, if it has none."""

    def fail(value: Any) -> bytes:
        raise SystemError from cause

    codec: Any = MsgspecCodec()
    codec._encode = fail
    with pytest.raises(SystemError if cause is None else RuntimeError):
        codec.encode("a", {})


def test_msgspec_s_part_reads_all_floats_and_passes_those_that_json_writes_alike() -> None:
    """The one for loading, the other for proving what was written."""
    fast.cache_clear()
    part = fast()
    assert part is not None
    assert part.read(b"[1e16,1.5]") == [1e16, 1.5]
    assert part.check(b"[1e+16,1.5]") == [1e16, 1.5]
    with pytest.raises(ValueError, match=r"^json writes this float otherwise\b"):
        part.check(b"[1e16]")


def test_more_than_one_value_is_refused() -> None:
    """Whoever reads it."""
    with pytest.raises(ValueError, match=r"^more than one value$"):
        read(b"1 2")


def test_a_look_shows_no_sharing() -> None:
    """Whether two places have one object is nothing that JSON keeps."""
    text = "a text that is made anew each time"
    assert look_of([text, text]) == look_of([text, "".join(list(text))])
