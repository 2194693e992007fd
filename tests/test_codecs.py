"""What comes back from bytes is what was kept: JSON, typed MessagePack, and pickle where it is asked for."""

from __future__ import annotations

import enum
import subprocess
import sys
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
from driver import Browser, in_loop
from hypothesis import given
from hypothesis import strategies as st
from routes import SECRET, Call, serve
from stores import SuspendingStore

from fastersession import ConfigError, JsonCodec, MemoryStore, MsgspecCodec, PickleCodec
from fastersession.packing import Packer

Point = namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = "red"


class Plain:
    """Knows no equality and no encoding."""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
any_values = st.recursive(
    json_values | st.floats() | st.binary(max_size=4) | st.sampled_from([Color.RED, Plain(), Point(1, 2), 1j, ...]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.integers() | st.text(max_size=2) | st.booleans() | st.none(), inner, max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=6,
)
REFUSED = [
    float("nan"), float("inf"), [float("nan")], (1, 2), {"a": [(1,)]}, Point(1, 2), {1: 2}, {None: 1}, {True: 1},
    {"a": {1.5: 1}}, {1: 1, "1": 2}, {1, 2}, frozenset(), b"bytes", [b"bytes"], bytearray(b"x"), Color.RED, Plain(),
    1j, ..., Plain, len, object(),
]  # fmt: skip


def as_attribute(codec: Any, name: str, value: Any) -> Any:
    """Return what a save of one attribute comes to."""
    return Packer(codec, None).delta({name: value}, {}, {})


def same_types(one: Any, two: Any) -> bool:
    """Tell if two equal JSON values are of the same types in depth."""
    if isinstance(one, list):
        return isinstance(two, list) and all(map(same_types, one, two))
    if isinstance(one, dict):
        return isinstance(two, dict) and all(same_types(one[key], two[key]) for key in one)
    return type(one) is type(two)


@given(json_values)
def test_s8_json_gives_back_what_it_took(value: Any) -> None:
    """S8: every JSON value comes back equal, of the same types, and twice to the same bytes."""
    # Invariant: decode(encode(value)) == value, types included; encode(decode(data)) == data.
    codec = JsonCodec()
    data = codec.encode("a", value)
    back = codec.decode("a", data)
    assert back == value
    assert same_types(value, back)
    assert codec.encode("a", back) == data


@given(any_values)
def test_s8_json_refuses_what_would_come_back_different(value: Any) -> None:
    """S8: any Python value at all is either given back equal, or refused."""
    # Invariant: encode(value) raises, or decode(encode(value)) == value.
    codec = JsonCodec()
    try:
        data = codec.encode("a", value)
    except Exception:
        return
    assert codec.decode("a", data) == value


@given(any_values)
def test_msgspec_refuses_what_would_come_back_different(value: Any) -> None:
    """The same for MessagePack; a lone NaN alone comes back as what it is, equal to nothing."""
    # Invariant: encode(value) raises, or decode(encode(value)) == value, or both are NaN.
    codec = MsgspecCodec()
    try:
        data = codec.encode("a", value)
    except Exception:
        return
    back = codec.decode("a", data)
    assert back == value or (back != back and value != value)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: f"{type(value).__name__}")
def test_s8_a_refusal_names_attribute_and_type_never_the_value(value: Any) -> None:
    """S8: the error says what and of which type; what it holds may be anybody's secret."""
    secret = "rosebud"
    for holder in (value, [secret, value], {secret: value}):
        fault = as_attribute(JsonCodec(), "prompt", holder).faults["prompt"]
        assert "'prompt'" in fault
        assert type(holder).__name__ in fault
        assert secret not in fault


@pytest.mark.parametrize("name", [1, None, ("a",), "x" * 256, "a\0b", "\ud800"], ids=repr)
def test_s8_a_name_that_is_no_name_is_refused(name: Any) -> None:
    """S8: attributes are named by short strings that every store can hold; no key is changed silently."""
    delta = as_attribute(JsonCodec(), name, 1)
    assert delta.sets == {}
    assert repr(name) in delta.faults[name]


def test_what_is_too_deep_or_turns_in_a_circle_is_refused() -> None:
    """No value makes a save end in anything but AttributeNotSerializable."""
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    for codec in (JsonCodec(), MsgspecCodec()):
        for value in (circle, deep):
            assert "'a' (list, " in as_attribute(codec, "a", value).faults["a"]
    while deep:
        deep = deep.pop()


@in_loop
async def test_s4_pickle_is_explicit_and_sealed() -> None:
    """S4: any object survives where PickleCodec is named; without a seal it is refused at construction."""

    async def put(call: Call) -> None:
        call.session["point"] = {"deep": (Point(1, 2), {3, 4})}
        await call.reply()

    async def get(call: Call) -> None:
        await call.reply(repr(call.session["point"]))

    browser = Browser(serve({"/put": put, "/get": get}, store=SuspendingStore(), codec=PickleCodec()))
    await browser.get("/put")
    assert (await browser.get("/get")).text == repr({"deep": (Point(1, 2), {3, 4})})
    for store in (SuspendingStore(), MemoryStore(), None):
        with pytest.raises(ConfigError, match="seal=True"):
            serve(store=store, codec=PickleCodec(), seal=False)
    serve(store=SuspendingStore(), codec=JsonCodec(), seal=False)


def test_s4_the_default_installation_imports_no_pickle() -> None:
    """S4: neither the package nor an application of it with the default codec loads pickle or msgspec."""
    program = (
        "import sys; known = set(sys.modules); import fastersession\n"
        f"fastersession.FasterSessionMiddleware(print, secret_key={SECRET!r})\n"
        "ours = [name for name, module in sys.modules.items() if name.startswith('fastersession')\n"
        "        and {'pickle', '_pickle', 'msgspec'} & vars(module).keys()]\n"
        "print(ours, 'msgspec' in sys.modules, 'pickle' in sys.modules and 'pickle' not in known)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False", "False"], done.stdout


def test_an_ordered_dict_is_a_dict() -> None:
    """What equals its JSON form is kept: the order of a dict's names too."""
    data = JsonCodec().encode("a", OrderedDict(b=1, a=2))
    assert list(JsonCodec().decode("a", data)) == ["b", "a"]


class Racing(list[int]):
    """A list to which another thread appends between its encoding and the comparison."""

    raced = False

    def __ne__(self, other: object) -> bool:
        if not self.raced:
            self.raced = True
            self.append(2)
        return list(self) != other


@pytest.mark.parametrize("codec", [JsonCodec(), MsgspecCodec({"a": list[int]})], ids=lambda codec: codec.name)
def test_what_a_thread_writes_meanwhile_is_no_reason_to_refuse(codec: Any) -> None:
    """A sync generator's thread may append while a save encodes: the save has the one state or the other."""
    value = Racing([1])
    assert codec.decode("a", codec.encode("a", value)) == [1, 2]
