"""What JSON has no word for comes back from JsonCodec as it was; what would not is refused in words."""

from __future__ import annotations

import contextlib
import enum
import json
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from driver import Browser, in_loop
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from routes import Call, serve
from stores import SuspendingStore

from fastersession import AttributeNotSerializable, CodecError, ConfigError, JsonCodec
from fastersession.tagged import to_tagged


class Role(enum.StrEnum):
    USER = "user"
    MODEL = "model"
    ASSISTANT = "model"  # an alias


class Level(enum.IntEnum):
    LOW = 1


class Color(enum.Enum):
    RED = (1, 2)


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Word(str):
    __slots__ = ()


class Ratio(float):
    pass


class Moment(datetime):
    pass


Point = namedtuple("Point", "x y")
CODEC = JsonCodec(enums=[Role, Level, Color, Right])

NO_OFFSETS = timedelta(0), timedelta(seconds=1)  # between them is what Python writes, and reads as none
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).filter(
    lambda offset: not NO_OFFSETS[0] < abs(offset) < NO_OFFSETS[1]
)
ZONES = st.none() | st.builds(
    timezone, OFFSETS, st.sampled_from(["UTC", "CET", ""]) | st.text(max_size=3)
) | st.builds(timezone, OFFSETS) | st.just(UTC)  # fmt: skip
FOLDS = st.sampled_from([0, 1])
FOLDED = st.builds(lambda value, fold: value.replace(fold=fold), st.datetimes(timezones=ZONES), FOLDS)
FOLDED_TIMES = st.builds(lambda value, fold: value.replace(fold=fold), st.times(timezones=ZONES), FOLDS)
NAMES = st.sampled_from(["$", "$$", "$tuple", "$$tuple", "$set", "$enum", "$bytes", "a", "\x01"]) | st.text(max_size=3)
HASHABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=4) | st.binary(max_size=4) | st.dates() | FOLDED | FOLDED_TIMES
    | st.timedeltas() | st.uuids() | st.decimals(allow_nan=False) | st.builds(Markup, st.text(max_size=4))
    | st.sampled_from([*Role, *Level, *Color, *Right, Decimal("-0.00"), Decimal("1E+400"), -0.0]),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)  # fmt: skip
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(NAMES, inner, max_size=3)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=1)
    ),
    max_leaves=10,
)


def exactly(value: Any) -> Any:
    """Return what is equal for two values only if nothing tells them apart, in depth."""
    kind = type(value)
    if kind is dict:
        return kind, [(key, exactly(inner)) for key, inner in value.items()]
    if kind in (list, tuple):
        return kind, [exactly(inner) for inner in value]
    if kind is set:
        return kind, sorted(map(str, map(exactly, value)))
    if kind in (datetime, time):
        zone = value.tzinfo
        return kind, value.isoformat(), value.fold, zone and (zone.utcoffset(None), zone.tzname(None))
    return kind, repr(value)


@given(VALUES)
def test_s8_what_needs_a_tag_comes_back_as_it_was(value: Any) -> None:
    """S8: type and value in depth, beside dicts that look like tags; and again to the same bytes."""
    # Invariant: decode(encode(value)) is value, in type and value; encode(decode(data)) == data.
    data = CODEC.encode("a", value)
    back = CODEC.decode("a", data)
    assert exactly(back) == exactly(value)
    assert CODEC.encode("a", back) == data


LOOK_ALIKES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
)


@given(LOOK_ALIKES)
def test_s8_what_json_has_is_written_as_plain_json(value: Any) -> None:
    """S8: byte for byte as 0.1 wrote it, whatever its keys look like; and what 0.1 wrote is read as what it was."""
    # Invariant: encode(value) == JSON, compact, in UTF-8; decode of that is value.
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    assert CODEC.encode("a", value) == data
    assert exactly(CODEC.decode("a", data)) == exactly(value)


WRITTEN_BY_0_1 = [  # what JsonCodec of 0.1.0 returned for the values beside it
    (b"1", 1),
    (b"true", True),
    (b"null", None),
    (b"-0.0", -0.0),
    (b"1e+300", 1e300),
    (b'"\xc3\xa9\xed\xa0\x80"', "\xe9\ud800"),
    (b'"\\u0001{}"', "\x01{}"),
    (b"[]", []),
    (b'{"$tuple":[1,2]}', {"$tuple": [1, 2]}),
    (b'{"$$tuple":{"$enum":["Role","USER"]}}', {"$$tuple": {"$enum": ["Role", "USER"]}}),
    (b'{"$bytes":"eA==","$":{"$set":[]}}', {"$bytes": "eA==", "$": {"$set": []}}),
    (b'[{"question":"a \\"b\\"","answer":""}]', [{"question": 'a "b"', "answer": ""}]),
]
FORM = [  # what this version writes, and every later one must read; the second is the value
    (b'\x01{"$tuple":[1,{"$tuple":[]}]}', (1, ())),
    (b'\x01{"$bytes":"AP8="}', b"\x00\xff"),
    (b'\x01{"$date":"2024-02-29"}', date(2024, 2, 29)),
    (b'\x01{"$time":"23:59:59.000001"}', time(23, 59, 59, 1)),
    (b'\x01{"$datetime":"2024-02-29T01:02:03"}', datetime(2024, 2, 29, 1, 2, 3)),
    (b'\x01{"$datetime":"2024-02-29T01:02:03+00:00"}', datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)),
    (b'\x01{"$datetime":["2024-10-27T02:30:00",1,null]}', datetime(2024, 10, 27, 2, 30, fold=1)),
    (
        b'\x01{"$datetime":["2024-02-29T01:02:03+01:00",0,"CET"]}',
        datetime(2024, 2, 29, 1, 2, 3, tzinfo=timezone(timedelta(hours=1), "CET")),
    ),
    (b'\x01{"$timedelta":[-1,86399,5]}', timedelta(microseconds=-999_995)),
    (b'\x01{"$uuid":"00000000-0000-0000-0000-000000000007"}', UUID(int=7)),
    (b'\x01{"$decimal":"1.10"}', Decimal("1.10")),
    (b'\x01{"$set":["b",1,10,{"$bytes":"AA=="}]}', {1, 10, "b", b"\x00"}),
    (b'\x01{"$markup":"<b>"}', Markup("<b>")),
    (b'\x01{"$enum":["Role","MODEL"]}', Role.ASSISTANT),
    (b'\x01{"$$tuple":{"$tuple":[]}}', {"$tuple": ()}),
    (b'\x01{"$tuple":{"a":1},"b":{"$tuple":[]}}', {"$tuple": {"a": 1}, "b": ()}),
]


@pytest.mark.parametrize(("data", "value"), WRITTEN_BY_0_1 + FORM, ids=repr)
def test_s8_the_form_is_fixed(data: bytes, value: Any) -> None:
    """S8: records outlive a deployment, so what a value is written as never changes."""
    assert CODEC.encode("a", value) == data
    assert exactly(CODEC.decode("a", data)) == exactly(value)


CONTENTS = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["Role", "USER", "2024-01-01"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=2),
)
TAGS = ["tuple", "set", "bytes", "date", "datetime", "time", "timedelta", "uuid", "decimal", "enum", "markup", "none"]
FORGED = st.builds(lambda tag, content: {f"${tag}": content}, st.sampled_from(TAGS), CONTENTS)
JUNK = (
    st.binary()
    | st.binary().map(lambda data: b"\x01" + data)
    | (FORGED | st.lists(FORGED)).map(lambda value: b"\x01" + json.dumps(value).encode())
    | st.sampled_from(
        [b"[" * 100_000, b"\x01" + b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\x01" + b"9" * 5000]
    )
)


@given(JUNK)
def test_s6_bytes_that_are_not_ours_raise_the_codecs_own_error(data: bytes) -> None:
    """S6: whatever lies in a store that is not sealed is a value or a CodecError."""
    # Invariant: decode(data) returns, or raises CodecError.
    with contextlib.suppress(CodecError):
        CODEC.decode("a", data)


MALFORMED = [
    '{"$bytes":"eA"}', '{"$bytes":"e!A=="}', '{"$date":"2024-02-30"}', '{"$uuid":"7"}', '{"$timedelta":[1e99]}',
    '{"$set":[[]]}', '{"$tuple":1}', '{"$datetime":["2024-01-01",2,null]}', '{"$time":7}', '{"$later":1}', '{"$":1}',
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_s6_a_tag_with_another_content_is_not_ours(text: str) -> None:
    """S6: a tag of a later version too; nothing is guessed."""
    with pytest.raises(CodecError):
        CODEC.decode("a", b"\x01" + text.encode())


SUBCLASSES = [
    Role.USER, Level.LOW, OrderedDict(a=1), defaultdict(list, a=1), Counter("a"), Point(1, 2), Word("w"), Ratio(1.5),
    Moment(2024, 1, 1), type("Number", (int,), {})(1), type("Rows", (list,), {})([1]), type("Bag", (set,), {})([1]),
    type("Key", (UUID,), {})(int=1), type("Price", (Decimal,), {})(1), type("Span", (timedelta,), {})(1),
    type("Day", (date,), {})(2024, 1, 1), type("Hour", (time,), {})(1), type("Raw", (bytes,), {})(b"x"),
    type("Html", (Markup,), {})("x"),
]  # fmt: skip


@pytest.mark.parametrize("value", SUBCLASSES, ids=lambda value: type(value).__name__)
def test_s8_a_subclass_that_would_come_back_as_its_base_is_refused(value: Any) -> None:
    """S8: equality sees no subclass; the error names it, where it is, and what to do."""
    holders = {"'a'": value, "a[1]": [0, value], "a.b[0]": {"b": (value,)}, "a.b.c": {"b": {"c": value}, "d": 1}}
    for place, holder in holders.items():
        with pytest.raises(CodecError) as caught:
            JsonCodec().encode("a", holder)
        kind = type(value)
        assert str(caught.value).startswith(f"{place} is of class {kind.__module__}.{kind.__qualname__}: ")
        assert ".value" in str(caught.value) or "as a plain " in str(caught.value)


def test_s8_a_key_of_a_subclass_of_str_is_refused() -> None:
    """S8: a key comes back as it was too."""
    for key in (Word("w"), Role.USER, Markup("x")):
        with pytest.raises(CodecError, match=r"key of class .*keys must be str"):
            CODEC.encode("a", {key: 1})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")), r"zoneinfo\.ZoneInfo, which .* keep its astimezone\(UTC\)"),
        (time(1, tzinfo=ZoneInfo("UTC")), r"zoneinfo\.ZoneInfo, which .* keep it without tzinfo"),
        (
            datetime(2024, 1, 1, tzinfo=timezone(-timedelta(microseconds=1))),
            r"less than a second: .*UTC",
        ),
        (time(1, tzinfo=timezone(timedelta(milliseconds=999))), r"less than a second: keep it without tzinfo"),
        (datetime(2024, 1, 1, tzinfo=type("Zone", (tzinfo,), {})()), r"Zone, which"),
        (Color.RED, r"Color: keep its \.value, or give the class to JsonCodec\(enums=\[Color\]\)"),
        (float("nan"), "NaN"),
        (object(), r"MsgspecCodec\(types=\{'turns': \.\.\.\}\), or use PickleCodec"),
        (frozenset(), "frozenset: keep it as a set"),
        (bytearray(), "bytearray: keep it as bytes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_s8_a_refusal_names_the_place_and_the_remedy(value: Any, said: str) -> None:
    """S8: where it is, as one would write it, and what would do."""
    with pytest.raises(CodecError, match=rf"^turns\[3\]\.message (is|has) .*{said}"):
        JsonCodec().encode("turns", [1, 2, (3,), {"message": value}])


def test_s8_a_key_that_may_be_data_is_not_shown() -> None:
    """S8: names of fields are shown; addresses, numbers, sentences and tokens are not."""
    for key in ("rosebud@example.org", "42", "", "a b", "k" * 31, "$tuple"):
        with pytest.raises(CodecError) as caught:
            JsonCodec().encode("a", {"of": {key: object()}})
        assert str(caught.value).startswith("a.of[...] is of class object")


def test_an_attribute_that_is_no_identifier_is_quoted() -> None:
    """The place is legible with any name."""
    with pytest.raises(CodecError, match=r"^'my turns'\[0\] is of class object: .*\{'my turns': \.\.\.\}"):
        JsonCodec().encode("my turns", [object()])


def test_members_of_enums_are_kept_as_members() -> None:
    """Of the classes given, also those that are a str or an int; an alias is its member."""
    for member in (*Role, Role.ASSISTANT, *Level, *Color, *Right):
        assert CODEC.decode("a", CODEC.encode("a", [member]))[0] is member


def test_a_union_of_flags_has_no_name() -> None:
    """It is no member of its class, and is refused as what it is."""
    with pytest.raises(CodecError, match=r"Right: keep its \.value$"):
        CODEC.encode("a", Right.READ | Right.WRITE)


def test_k8_no_class_is_looked_up_by_a_stored_name() -> None:
    """K8: an Enum that the codec was not given is not found, wherever it is; nor is any other class."""
    for stored in ('["Role","USER"]', '["enum.Enum","USER"]', '["os","system"]', '["builtins.str","x"]', "[]", '"ab"'):
        with pytest.raises(CodecError):
            JsonCodec(enums=[Color]).decode("a", b'\x01{"$enum":%b}' % stored.encode())
    with pytest.raises(CodecError):
        CODEC.decode("a", b'\x01{"$enum":["Role","NOBODY"]}')


@pytest.mark.parametrize("enums", [Role, [str], [Role.USER], ["Role"], [enum.Enum], "Role", 5, None, [None]], ids=repr)
def test_what_are_no_enum_classes_is_refused_at_construction(enums: Any) -> None:
    """A developer's mistake is told when it is made."""
    with pytest.raises(ConfigError, match="list of Enum classes"):
        JsonCodec(enums=enums)


def test_two_enum_classes_of_one_name_are_refused() -> None:
    """What is stored is the name: it must lead to one class. The same class twice does no harm."""
    twin = enum.Enum("Role", "A")
    with pytest.raises(ConfigError, match="two classes have the name Role"):
        JsonCodec(enums=[Role, twin])
    JsonCodec(enums=(Role, Role))


def test_nobody_pays_for_tags_who_does_not_use_them() -> None:
    """What JSON has needs no further module; Markup is known without an import of markupsafe."""
    program = (
        "import sys; from fastersession import JsonCodec; codec = JsonCodec()\n"
        "codec.decode('a', codec.encode('a', [{'a': 1}])); print('fastersession.tagged' in sys.modules)\n"
        "codec.decode('a', codec.encode('a', (1,)))\n"
        "try: codec.encode('a', object())\n"
        "except ValueError: print('markupsafe' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@in_loop
async def test_s8_a_refused_attribute_is_named_by_place_and_the_others_are_saved() -> None:
    """S8: a tagged attribute beside it is kept, and comes back in the next request as it was."""
    caught: list[str] = []

    async def put(call: Call) -> None:
        call.session.update(when=datetime(2024, 1, 1, tzinfo=UTC), turns=[{"message": object()}])
        with pytest.raises(AttributeNotSerializable) as error:
            await call.session.save()
        caught.append(str(error.value))
        del call.session["turns"]
        await call.reply()

    async def get(call: Call) -> None:
        await call.reply(repr(dict(call.session)))

    browser = Browser(serve({"/put": put, "/get": get}, store=SuspendingStore()))
    await browser.get("/put")
    assert "turns[0].message is of class object" in caught[0]
    assert (await browser.get("/get")).text == repr({"when": datetime(2024, 1, 1, tzinfo=UTC)})


@in_loop
async def test_what_is_tagged_is_compared_as_bytes() -> None:
    """Read and not changed, it is not written again; changed inside, it is."""

    async def put(call: Call) -> None:
        call.session["bag"] = {"of": {"c", "a", b"b", ("t",)}, "list": [(1, 2)]}
        await call.reply()

    async def read(call: Call) -> None:
        call.session["bag"]["of"].update({"z", "y"})
        call.session["bag"]["of"].difference_update({"z", "y"})
        await call.reply()

    async def add(call: Call) -> None:
        call.session["bag"]["list"].append((3,))
        await call.reply()

    async def get(call: Call) -> None:
        await call.reply(repr(call.session["bag"]["list"]))

    store = SuspendingStore()
    browser = Browser(serve({"/put": put, "/read": read, "/add": add, "/get": get}, store=store))
    await browser.get("/put")
    await browser.get("/read")
    assert store.count("update") == 0
    await browser.get("/add")
    assert store.count("update") == 1
    assert (await browser.get("/get")).text == "[(1, 2), (3,)]"


# --- at the bounds ---


@pytest.mark.parametrize("seconds", [1, 1.5, -1, -1.5])
def test_an_offset_of_a_second_comes_back(seconds: float) -> None:
    """Python reads only what is shorter as none."""
    value = datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(seconds=seconds)))
    assert exactly(CODEC.decode("a", CODEC.encode("a", value))) == exactly(value)


OTHERS = "name its type in MsgspecCodec(types={'a': ...}), or use PickleCodec"


@pytest.mark.parametrize(("value", "words"), [
    ({(1, 1j)}, f"a{{...}}[1] is of class complex: {OTHERS}"), ({1: 2}, "'a' has a key of class int: keys must be str"),
    ({"x" * 30: 1j}, f"a.{'x' * 30} is of class complex: {OTHERS}"),
    ({"x" * 31: 1j}, f"a[...] is of class complex: {OTHERS}"),
])  # fmt: skip
def test_the_words_of_a_refusal(value: Any, words: str) -> None:
    """To the letter: the place inside, the class, and what to do."""
    with pytest.raises(CodecError) as raised:
        CODEC.encode("a", value)
    assert str(raised.value) == words


@pytest.mark.parametrize(("error", "words"), [
    (RecursionError(), "'a' is nested too deep, or holds itself"),
    (ValueError(), "'a' has an int of more digits than Python reads: keep it as bytes or hex()"),
])  # fmt: skip
def test_what_the_interpreter_refuses_is_said_of_the_attribute(error: Exception, words: str) -> None:
    """Wherever inside it was."""

    class Raising(dict[Any, Any]):
        """Stands for the place inside."""

        def get(self, *_: object) -> Any:
            raise error

    with pytest.raises(CodecError) as raised:
        to_tagged("a", [1j], Raising())
    assert str(raised.value) == words


def test_a_module_of_markupsafe_s_name_may_be_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its class nothing is taken for it."""
    monkeypatch.setitem(sys.modules, "markupsafe", ModuleType("markupsafe"))
    with pytest.raises(CodecError, match="is of class complex"):
        CODEC.encode("a", 1j)
