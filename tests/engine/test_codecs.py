"""What comes back from bytes is what was kept: JSON, typed MessagePack, and pickle where it is asked for."""

from __future__ import annotations

import enum
import re
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

from fastersession import CodecError, ConfigError, JsonCodec, MemoryStore, MsgspecCodec, PickleCodec
from fastersession.engine.packing import Packer
from fastersession.facts import USUAL

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
    float("nan"), float("inf"), Point(1, 2), frozenset(), bytearray(b"x"), Color.RED, Plain(), 1j, ..., Plain, len,
    object(), OrderedDict(a=1),
]  # fmt: skip
KEYS = [{1: 2}, {None: 1}, {True: 1}, {"a": {1.5: 1}}, {1: 1, "1": 2}, {b"a": 1}, {(1,): 1}]


def as_attribute(codec: Any, name: str, value: Any) -> Any:
    """Return what a save of one attribute comes to."""
    return Packer(codec, None).delta({name: value}, {}, USUAL)


def exactly(value: Any) -> Any:
    """Return what is equal for two values only if they are equal in depth, in type and value, zero's sign included."""
    kind = type(value)
    if kind is dict:
        return kind, [(exactly(key), exactly(inner)) for key, inner in value.items()]
    if kind in (list, tuple):
        return kind, [exactly(inner) for inner in value]
    if kind in (set, frozenset):
        return kind, {exactly_hashed(inner) for inner in value}
    return kind, repr(value) if kind is float else value


def exactly_hashed(value: Any) -> Any:
    return type(value), tuple(map(exactly_hashed, value)) if type(value) is tuple else repr(value)


@given(json_values)
def test_s8_json_gives_back_what_it_took(value: Any) -> None:
    """S8: every JSON value comes back equal, of the same types, and twice to the same bytes."""
    # Invariant: decode(encode(value)) == value, types included; encode(decode(data)) == data.
    codec = JsonCodec()
    data = codec.encode("a", value)
    back = codec.decode("a", data)
    assert exactly(back) == exactly(value)
    assert codec.encode("a", back) == data


@given(any_values)
def test_s8_json_refuses_what_would_come_back_different(value: Any) -> None:
    """S8: any Python value at all is either given back as it was, or refused."""
    # Invariant: encode(value) raises CodecError, or decode(encode(value)) is value, in type and value.
    codec = JsonCodec()
    try:
        data = codec.encode("a", value)
    except CodecError:
        return
    assert exactly(codec.decode("a", data)) == exactly(value)


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
def test_s8_a_refusal_names_place_and_class_never_the_value(value: Any) -> None:
    """S8: the error says where, of which class, and what to do; what it holds may be anybody's secret."""
    secret = "rosebud@example.org"
    places = {"'prompt'": value, "prompt[1]": [secret, value], "prompt[...]": {secret: value}}
    places |= {"prompt[0].inner[1]": [{"inner": (secret, value)}, secret]}
    for place, holder in places.items():
        fault = as_attribute(JsonCodec(), "prompt", holder).faults["prompt"]
        assert fault.startswith(f"{place} is "), fault
        assert type(value).__name__ in fault or isinstance(value, float)
        assert any(remedy in fault for remedy in ("keep ", "MsgspecCodec(types={'prompt': ...})", "PickleCodec"))
        assert secret not in fault


@pytest.mark.parametrize("value", KEYS, ids=repr)
def test_s8_a_key_that_is_no_str_is_refused(value: Any) -> None:
    """S8: JSON would make it one, or two that differ the same; the place of the dict and the class are named."""
    fault = as_attribute(JsonCodec(), "prompt", [value]).faults["prompt"]
    assert re.match(r"prompt\[0\](\.a)? has a key of class \w+: keys must be str$", fault), fault


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
    for value in (circle, deep):
        assert as_attribute(JsonCodec(), "a", value).faults["a"] == "'a' is nested too deep, or holds itself"
        assert "'a' (list, " in as_attribute(MsgspecCodec(), "a", value).faults["a"]
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


class Racing(list[int]):
    """A list to which another thread appends between its encoding and the comparison."""

    raced = False

    def __ne__(self, other: object) -> bool:
        if not self.raced:
            self.raced = True
            self.append(2)
        return list(self) != other


def test_what_a_thread_writes_meanwhile_is_no_reason_to_refuse() -> None:
    """A sync generator's thread may append while a save encodes: the save has the one state or the other."""
    codec, value = MsgspecCodec({"a": list[int]}), Racing([1])
    assert codec.decode("a", codec.encode("a", value)) == [1, 2]
