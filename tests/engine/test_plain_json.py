"""Plain JSON by msgspec and without it: the same bytes, the same values, the same refusals."""

from __future__ import annotations

import collections
import datetime
import enum
import json
import math
import struct
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession import CodecError, JsonCodec, plainjson

Read = Callable[[bytes], Any]


def as_json_writes(value: Any) -> bytes:
    """What a worker without msgspec writes: the standard library's words, by no code of ours."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def as_json_reads(data: bytes) -> Any:
    """What a worker without msgspec reads: one value, nothing around it."""
    text = data.decode("utf-8", "surrogatepass")
    if text != text.strip(" \t\r\n"):
        raise ValueError("white space around it")
    return json.loads(text)


def shape(value: Any) -> Any:
    """What is equal for two values only if they are equal in depth: types, order of keys, and every bit of a float."""
    if type(value) is dict:
        return dict, [(shape(key), shape(inner)) for key, inner in value.items()]
    if type(value) in (list, tuple):
        return type(value), [shape(inner) for inner in value]
    return type(value), struct.pack(">d", value) if type(value) is float else value


def outcome(read: Read, data: bytes) -> Any:
    """The shape of what is read, or that nothing is."""
    try:
        return shape(read(data))
    except Exception:
        return "refused"


@pytest.fixture
def without_msgspec(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in an environment in which it was never installed."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.setitem(sys.modules, "msgspec.json", None)
    plainjson.fast.cache_clear()
    yield
    plainjson.fast.cache_clear()


EDGES = [
    0.0, -0.0, 1e-4, 9.9e-5, 1e-5, 9.9e-6, 1e-7, 1e15, 9999999999999998.0, 1e16, 1e17, 1e22, 1e23, 123456789012345680.0,
    0.1, 0.3, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 2.0**53, 2.0**-44, 1796057625.25, 2.5, 1e100,
]  # fmt: skip
floats = st.one_of(
    st.sampled_from(EDGES),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e-6, 1e-3),
    st.floats(1e14, 1e18),
    st.builds(lambda digits, power: float(f"{digits}e{power}"), st.integers(-(10**17), 10**17), st.integers(-30, 10)),
    st.builds(math.ldexp, st.integers(-(2**53), 2**53), st.integers(-1074, 900)),
)
numbers = st.one_of(
    st.integers(), st.integers(-(2**65), 2**65), st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1]),
    st.integers(0, 4000).map(lambda power: 10**power), floats,
)  # fmt: skip
texts = st.text(st.characters(codec=None)) | st.text(
    '\x00\x1f\x7f\x80\\"/\b\f\n\r\t\u2028\ud800\udfff\ufeff\U0001f600e1'
)
plain = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@given(plain)
@example([2**64, 1e16, 1e-7, -0.0, "\ud800", 0.00001])
def test_s8_every_worker_writes_the_same_bytes(value: Any) -> None:
    """S8: with msgspec an attribute has the bytes that it has without: else it would look changed."""
    # Invariant: write(value) is what json writes, to the byte.
    assert plainjson.fast() is not None
    assert plainjson.write(value) == as_json_writes(value)
    assert JsonCodec().encode("a", value) == as_json_writes(value)


@given(plain)
@example([2**64, 1e16, 1e-7, -0.0, "\ud800", 0.00001])
def test_s8_every_worker_reads_the_same_values(value: Any) -> None:
    """S8: what was written without msgspec comes back exactly, type and value, to the last bit."""
    # Invariant: read(what json writes) is the value, in type and value.
    assert shape(plainjson.read(as_json_writes(value))) == shape(value)


def between(value: float, digits: int, more: str) -> str:
    """The decimal half-way between a float and the next, where two readers may round apart, cut or with more behind."""
    with localcontext(prec=1200):  # more digits than any float has
        middle = (Decimal(value) + Decimal(math.nextafter(value, math.inf))) / 2
        whole, _, power = f"{middle:.{digits}e}".partition("e")
    return f"{whole}{more}e{power}"


decimals = st.builds(
    between,
    floats.filter(lambda value: abs(value) < 1e308),
    st.integers(1, 800),
    st.sampled_from(["", "1", "0001", "9"]),
)
# What nobody of ours writes. The second part cuts and joins pieces that mean something to a parser.
PIECES = [
    b"0", b"1", b"-", b"+", b".", b"e", b"E", b"00", b"1e5", b"1E400", b"-1e-400", b"-0", b"-0.0", b"1.", b".5", b"0x1",
    b"9" * 19, b"9" * 25, b"1_0", b'"', b'"a"', b"\\", b'\\"', b"\\u", b"d800", b"dc00", b"\\ud83d\\ude00", b"00e9",
    b"\\/", b"\\x", b"[", b"]", b"{", b"}", b":", b",", b'"a":', b" ", b"\n", b"\t", b"\x00", b"\x0b", b"\x1f", b"\x7f",
    b"\xa0", b"\xc2\xa0", b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff", b"\xef\xbb\xbf",
    b"null", b"true", b"false", b"nul", b"NaN", b"Infinity", b"-Infinity",
    b"'", b"/", b"//", b"\xe2\x80\xa8", b"\xd9\xa1",
]  # fmt: skip
soup = st.one_of(
    st.binary(max_size=12),
    st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join),
    st.lists(st.sampled_from(PIECES), max_size=5).map(lambda parts: b'"%b"' % b"".join(parts)),
    st.lists(st.sampled_from(PIECES), max_size=5).map(lambda parts: b"[%b]" % b"".join(parts)),
    st.builds(
        lambda whole, at, piece: whole[: at % (len(whole) + 1)] + piece + whole[at % (len(whole) + 1) :],
        plain.map(as_json_writes), st.integers(0, 1000), st.sampled_from(PIECES),
    ),
    decimals.map(str.encode),
    st.builds(lambda whole, at: whole[: at % (len(whole) + 1)], plain.map(as_json_writes), st.integers(0, 1000)),
)  # fmt: skip


@given(soup)
@example(b'{"a":1,"b":2,"a":3}')
@example(b"[1 , 2]")
@example(b" 1")
@example(b"1 ")
@example(b"\t[]")
@example(b"")
@example(b"-0")
@example(b"[%s]" % (b"1" * 4300))
@example(b"[-%s]" % (b"1" * 4300))
@example(b"[%s]" % (b"1" * 4301))
@example(b"%s.5" % (b"1" * 5000))
@example(b"[9007199254740993.0,9007199254740992.99999999999999999999999999,1.7976931348623158079e308]")
@example(b"0.%s1" % (b"0" * 400))
@example(b'{"\\ud800":1}')
@example(b'{"\xed\xa0\x80":[1e400]}')
def test_s6_every_worker_makes_the_same_of_any_bytes(data: bytes) -> None:
    """S6: bytes that nobody of ours wrote, too: what json refuses is refused, what it reads is read."""
    # Invariant: read(data) is what json makes of it, in type and value, or both refuse.
    assert outcome(plainjson.read, data) == outcome(as_json_reads, data)


def test_s8_each_character_is_spelt_alike() -> None:
    """S8: all 1,114,112 of them, in values and keys; half characters, which msgspec refuses, too."""
    for first in range(0, 0x110000, 0x1000):
        block = [chr(code) for code in range(first, first + 0x1000)]
        for value in ("".join(block), block, dict.fromkeys(block, 0)):
            data = as_json_writes(value)
            assert plainjson.write(value) == data
            assert plainjson.read(data) == value


class Text(str): ...


class Number(int): ...


class Fraction(float): ...


class Scalar(float):
    """As a float of numpy: marshal takes it for bytes, from Python 3.12 on, where classes can say so."""

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(struct.pack("d", self))


class Row(list[Any]): ...


class Table(dict[str, Any]): ...


class Level(enum.IntEnum):
    LOW = 1


class Name(enum.StrEnum):
    ANNA = "anna"


class Struct(msgspec.Struct):
    a: int = 1


STRANGE: list[Any] = [
    Text("a"), Number(1), Fraction(1.5), Scalar(1.5), Row(), Table(), Level.LOW, Name.ANNA, Struct(), (), (1, [2]), {1},
    frozenset(), b"a", bytearray(b"a"), memoryview(b"a"), math.nan, math.inf, -math.inf, 1j, ..., uuid.UUID(int=1),
    Decimal("1.5"),
    datetime.datetime(2026, 1, 1), datetime.date(2026, 1, 1), datetime.timedelta(1), collections.OrderedDict(a=1),
    collections.defaultdict(int), collections.deque(), types.MappingProxyType({}), msgspec.Raw(b"1"), msgspec.UNSET,
    {1: 2}, {None: 1}, {True: 1}, {1.5: 1}, {Text("a"): 1}, {Name.ANNA: 1}, {(): 1}, {b"a": 1}, object(), int, print,
    10**5000,
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE, ids=lambda value: type(value).__name__)
def test_s8_what_json_does_not_have_is_no_plain_json(value: Any) -> None:
    """S8: msgspec writes many of these; at any depth they are refused all the same, and beside what it can write."""
    for around in (value, [value], {"a": [1.5, value]}, ["x" * 1000, {"b": {"c": value}}], [2**64, value]):
        with pytest.raises(Exception):  # noqa: B017 - of any kind, as it says
            plainjson.write(around)


@given(plain, st.sampled_from(STRANGE[:-1]), st.booleans())
def test_s8_a_strange_value_anywhere_has_the_same_fate(value: Any, strange: Any, keyed: bool) -> None:
    """S8: kept with a tag or refused, with msgspec as without, in the same bytes and words."""
    # Invariant: encode() returns or says the same, whether msgspec is there or not.
    around = {"a": value, "b": strange} if keyed else [value, [strange, value]]

    def said() -> Any:
        try:
            return JsonCodec().encode("a", around)
        except CodecError as error:
            return str(error)

    with_it = said()
    part = plainjson.fast()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plainjson, "fast", lambda: None)
        assert said() == with_it
    assert part is not None


def nested(depth: int, pair: tuple[str, str]) -> bytes:
    return f"{pair[0] * depth}0{pair[1] * depth}".encode()


@pytest.mark.parametrize("pair", [("[", "]"), ('{"a":', "}")], ids=["lists", "dicts"])
def test_nesting_ends_where_the_interpreter_says(pair: tuple[str, str]) -> None:
    """What msgspec writes json reads, a few levels of the caller's stack aside; deeper than both is refused."""
    part = plainjson.fast()
    assert part is not None

    def deepest(read: Read) -> int:
        low, high = 1, 200_000
        while high - low > 1:
            middle = (low + high) // 2
            try:
                read(nested(middle, pair))
            except RecursionError:
                high = middle
            else:
                low = middle
        return low

    assert abs(deepest(part.read) - deepest(as_json_reads)) <= 8
    for depth in (100_000, 200_000):
        assert outcome(plainjson.read, nested(depth, pair)) == "refused"
    value = plainjson.read(nested(300, pair))
    assert plainjson.write(value) == nested(300, pair)


@given(plain)
def test_what_msgspec_does_it_does(value: Any) -> None:
    """The fast way is taken: nothing in the other tests is true because json did all the work."""
    # Invariant: where msgspec writes and reads, json is not asked.
    data = as_json_writes(value)
    part = plainjson.fast()
    assert part is not None
    try:
        ours = part.write(value) == data and shape(part.check(data)) == shape(value)
    except Exception:
        ours = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plainjson, "to_json", None)
        patch.setattr(plainjson, "_read_json", None)
        if ours:
            assert plainjson.write(value) == data
            assert shape(plainjson.read(data)) == shape(value)
        else:
            with pytest.raises(TypeError):
                plainjson.write(value)


def test_without_msgspec_nothing_is_missing(without_msgspec: None) -> None:
    """The same bytes and values, by json."""
    assert plainjson.fast() is None
    value = {"a": [1, -0.0, 1e16, 2**70, "\ud800é", None, True], "": {}}
    assert plainjson.write(value) == as_json_writes(value)
    assert shape(plainjson.read(as_json_writes(value))) == shape(value)
    for data in (b" 1", b"1 ", b"", b"[", b"\xff"):
        assert outcome(plainjson.read, data) == "refused"


class Old:
    """A decoder as before 0.18: it knows no ``float_hook``."""

    def __init__(self, kind: Any = Any) -> None: ...


def raising(*_: Any, **__: Any) -> Any:
    raise RuntimeError("broken")


class Other:
    """An encoder that writes as no other does."""

    def encode(self, value: Any) -> bytes:
        return json.dumps(value).encode()


@pytest.mark.parametrize(
    "change", [{"Decoder": Old}, {"Encoder": raising}, {"Encoder": Other}, {"Decoder": None}], ids=str
)
def test_an_installation_that_is_old_or_broken_is_not_used(change: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error at the first save, and json does the work."""
    for name, part in change.items():
        monkeypatch.setattr(msgspec.json, name, part)
    plainjson.fast.cache_clear()
    try:
        assert plainjson.fast() is None
        assert plainjson.read(plainjson.write(["é", 1.5])) == ["é", 1.5]
    finally:
        plainjson.fast.cache_clear()


def test_an_import_that_fails_in_any_way_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-installed library raises more than ImportError."""

    class Finder:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "msgspec" or name.startswith("msgspec."):
                raise OSError("a library of another machine")

    for name in [name for name in sys.modules if name.partition(".")[0] == "msgspec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    plainjson.fast.cache_clear()
    try:
        assert plainjson.fast() is None
        assert plainjson.write([1]) == b"[1]"
    finally:
        plainjson.fast.cache_clear()


@pytest.mark.parametrize("with_it", [True, False])
def test_what_a_thread_writes_between_two_looks_is_kept_as_it_was(with_it: bool) -> None:
    """The save has the state of the first look, whole: a sync generator's thread may append at any time."""
    value: list[Any] = [1]
    part = plainjson.fast()
    assert part is not None

    def write(given: Any) -> Any:
        if given is value:
            value.append(2)
        return part.write(given) if with_it else part.write(given).decode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plainjson, "fast", lambda: part._replace(write=write) if with_it else None)
        if not with_it:
            patch.setattr(plainjson, "to_json", write)
        assert plainjson.write(value) == b"[1]"
    assert value == [1, 2]
