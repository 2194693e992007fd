"""Only what was handed out can have changed: nothing else is encoded, and nothing that was handed out is forgotten."""

from __future__ import annotations

import copy
import itertools
import json
import operator
import pickle
from typing import Any, cast

import msgspec
import pydantic
import pytest
from counting import TAGGED, Act, Counted
from driver import Browser, in_loop
from routes import Call, serve, tab
from stores import SuspendingStore

from fastersession import MemoryStore
from fastersession.noting import NotingSession
from fastersession.session import give_state, state_of
from fastersession.state import State

BEGIN: dict[str, Any] = {"n": 1, "list": [TAGGED], "dict": {"x": [TAGGED]}, "last": [TAGGED]}
ALL = ["dict", "last", "list"]

# Every method of dict that reads or writes attributes, and what it hands out.
METHODS: dict[str, tuple[Act, list[str]]] = {
    "__contains__": (lambda s: "list" in s, []),
    "__delitem__": (lambda s: operator.delitem(s, "list"), []),
    "__eq__": (lambda s: s == {}, []),
    "__format__": (lambda s: format(s), []),
    "__ge__": (lambda s: s.__ge__({}), []),
    "__getitem__": (lambda s: s["list"], ["list"]),
    "__gt__": (lambda s: s.__gt__({}), []),
    "__ior__": (lambda s: operator.ior(s, {"list": [4]}), ["list"]),
    "__iter__": (lambda s: iter(s), ALL),
    "__le__": (lambda s: s.__le__({}), []),
    "__len__": (len, []),
    "__lt__": (lambda s: s.__lt__({}), []),
    "__ne__": (lambda s: s != {}, []),
    "__or__": (lambda s: s | {}, ALL),
    "__reduce_ex__": (pickle.dumps, ALL),
    "__repr__": (repr, []),
    "__reversed__": (reversed, ALL),
    "__ror__": (lambda s: {} | s, ALL),
    "__setitem__": (lambda s: operator.setitem(s, "list", [4]), ["list"]),
    "__str__": (str, []),
    "clear": (lambda s: (s.clear(), s.update(list=[4])), ["list"]),
    "copy": (lambda s: s.copy(), ALL),
    "get": (lambda s: s.get("list"), ["list"]),
    "items": (lambda s: s.items(), ALL),
    "keys": (lambda s: list(s.keys()), []),
    "pop": (lambda s: dict.__setitem__(s, "list", s.pop("list")), ["list"]),
    "popitem": (lambda s: dict.__setitem__(s, *s.popitem()), ["last"]),
    "setdefault": (lambda s: s.setdefault("list", 5), ["list"]),
    "update": (lambda s: s.update(list=[4], dict={}), ["dict", "list"]),
    "values": (lambda s: s.values(), ALL),
}
# What touches no attribute: made by the type, or the object's own machinery.
MACHINERY = {
    *("__class__", "__class_getitem__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getstate__"),
    *("__hash__", "__init__", "__init_subclass__", "__new__", "__reduce__", "__setattr__", "__sizeof__"),
    *("__subclasshook__", "fromkeys"),
}


# Before, its C code walks a subclass of dict without a method of it.
PYDANTIC_ASKS = tuple(map(int, pydantic.VERSION.split(".")[:2])) >= (2, 12)


class OnlyList(pydantic.BaseModel):
    list: Any


def matched(session: Any) -> Any:
    match session:
        case {"n": 1, **rest}:
            return rest
    raise AssertionError("a session is a mapping")


def named(**attributes: Any) -> Any:
    return attributes


# Ways in which real code takes values, through some method or other.
WAYS: dict[str, tuple[Act, list[str]]] = {
    "dict()": (dict, ALL),
    "**": (lambda s: {**s}, ALL),
    "named arguments": (lambda s: named(**s), ALL),
    "update of another": (lambda s: {}.update(s), ALL),
    "for": (lambda s: [name for name in s], ALL),  # noqa: C416 - the loop is the point
    "list": (list, ALL),
    "sorted": (sorted, ALL),
    "json.dumps": (json.dumps, ALL),
    "json.dumps, in lines": (lambda s: json.dumps(s, indent=1), ALL),
    "pickle, the oldest": (lambda s: pickle.dumps(s, 0), ALL),
    "copy.copy": (copy.copy, ALL),
    "copy.deepcopy": (copy.deepcopy, ALL),
    "pydantic, a dict": (pydantic.TypeAdapter(dict).validate_python, ALL if PYDANTIC_ASKS else []),
    "pydantic, a model": (OnlyList.model_validate, ["list"] if PYDANTIC_ASKS else []),
    "match": (matched, ALL),
    "format_map": ("{list}".format_map, ["list"]),
    "%": (lambda s: "%(list)s" % s, ["list"]),  # noqa: UP031 - the old way is the point
    "itemgetter": (operator.itemgetter("list"), ["list"]),
    "a default": (lambda s: s.get("new", []), []),
    "the same object again": (lambda s: operator.setitem(s, "list", dict.get(s, "list")), ["list"]),
    "pairs": (lambda s: s.update([("list", dict.get(s, "list"))]), ["list"]),
}


def test_no_method_of_dict_is_forgotten() -> None:
    """Each name in dir(dict) is either tried here or is machinery that sees no attribute."""
    assert set(dir(dict)) - MACHINERY == set(METHODS)


@pytest.mark.parametrize(("act", "handed"), [*METHODS.values(), *WAYS.values()], ids=[*METHODS, *WAYS])
@in_loop
async def test_what_was_handed_out_is_encoded_once_a_save_point_and_nothing_else(act: Act, handed: list[str]) -> None:
    """Before the start: each of the three save points looks at what was handed out, and never at another value."""
    counted = Counted(copy.deepcopy(BEGIN))
    held: list[Any] = []
    assert await counted.acted(lambda s: held.append(act(s))) == [handed] * 3


@pytest.mark.parametrize("name", [*METHODS, *WAYS])
@in_loop
async def test_nothing_that_was_handed_out_before_is_forgotten(name: str) -> None:
    """Whatever a method does to the notes, a value that the application holds is looked at until the end."""
    act, _ = (METHODS | WAYS)[name]
    counted = Counted({**copy.deepcopy(BEGIN), "held": [TAGGED]})
    held: list[Any] = []

    def hold(session: Any) -> None:
        held.append(session["held"])
        act(session)

    points = await counted.acted(hold, lambda s: None, lambda s: held[0].append("late"))
    kept = name != "clear"  # which takes it out
    assert all(("held" in point) == kept for point in points)
    if kept:
        assert (await counted.content())["held"] == [TAGGED, "late"]


@pytest.mark.parametrize(
    "take",
    [
        lambda s: dict.get(s, "list"),
        lambda s: next(iter(dict.values(s))),
        msgspec.json.Encoder(enc_hook=str).encode,
        pydantic.TypeAdapter(Any).dump_python,
    ],
)
@in_loop
async def test_what_calls_no_method_of_the_session_is_not_noticed(take: Act) -> None:
    """As GUIDE says: dict's own methods, and encoders in C that walk a dict, hand out without a note."""
    assert await Counted(copy.deepcopy(BEGIN)).acted(take) == [[], [], []]


@in_loop
async def test_reading_one_name_beside_megabytes_decodes_each_once_and_encodes_nothing() -> None:
    """What a request did not touch costs no more than its decoding."""
    counted = Counted({"name": "ada", "messages": [{"role": "user", "content": "x" * 400}] * 5_000})
    assert await counted.acted(lambda s: s["name"], lambda s: s["name"], lambda s: s["name"]) == [[], [], []]
    assert sorted(counted.codec.decoded) == ["messages", "name"]


@in_loop
async def test_a_change_of_one_name_encodes_that_name() -> None:
    """Megabytes beside a counter, and beside a list that grows, stay where they are."""
    counted = Counted({"count": 0, "messages": ["x" * 1_000_000], "turns": []})
    points = await counted.acted(lambda s: s.update(count=1), lambda s: s["turns"].append("one"))
    assert points == [["count"], ["turns"], ["turns"]]
    assert counted.sets() == [[".count"], [".turns"]]


# --- values kept over several save points ---

MOMENTS = ["before the start", "in the stream", "after a save", "after another save", "after the last chunk"]


@pytest.mark.parametrize("how", ["read", "set", "set in a new session"])
@pytest.mark.parametrize(("taken", "changed"), [*itertools.combinations_with_replacement(range(len(MOMENTS)), 2)])
@in_loop
async def test_a_value_is_looked_at_from_where_it_was_taken_to_the_end(taken: int, changed: int, how: str) -> None:
    """Whenever it was taken and whenever it is changed, the change is in the store when the request is over."""
    counted = Counted(None if how == "set in a new session" else {"turn": {"text": ""}, "other": [1]})
    moments = iter(range(len(MOMENTS)))
    held: list[Any] = []

    def moment(session: Any) -> None:
        now = next(moments)
        if now == taken and how == "read":
            held.append(session["turn"])
        elif now == taken:
            held.append({"text": ""})
            session["turn"] = held[0]
        if now == changed:
            held[0]["text"] += "token"

    async def handler(call: Call) -> None:
        call.session.establish()
        moment(call.session)
        await call.start()
        moment(call.session)
        await call.session.save()
        moment(call.session)
        await call.session.save()
        moment(call.session)
        await call.finish()
        moment(call.session)

    await counted.request(handler)
    assert (await counted.content())["turn"] == {"text": "token"}


@in_loop
async def test_a_note_survives_a_reload() -> None:
    """A view that was taken before shows what a reload has brought: that is looked at, too."""
    counted = Counted({"list": [], "other": 1})

    async def handler(call: Call) -> None:
        values, read = call.session.values(), call.session["list"]
        await call.session.reload()
        assert next(iter(values)) is not read
        next(iter(values)).append("of the view")
        await call.reply()

    await counted.request(handler)
    assert (await counted.content())["list"] == ["of the view"]


@in_loop
async def test_a_view_hands_out_what_comes_later_too() -> None:
    """What another tab has added stands in a view that was taken before it came."""
    counted = Counted({"old": 1})

    async def add(call: Call) -> None:
        call.session["new"] = []
        await call.reply()

    async def handler(call: Call) -> None:
        values = call.session.values()
        counted.handler = add
        await tab(counted.browser).get("/act")
        await call.session.reload()
        [value.append("of the view") for value in values if type(value) is list]
        await call.reply()

    await counted.request(handler)
    assert await counted.content() == {"old": 1, "new": ["of the view"]}


@in_loop
async def test_a_read_note_survives_a_reload_too() -> None:
    """`[]` before a reload, and what stands there afterwards: the name is noted, not the object."""
    counted = Counted({"list": [], "other": [1]})

    async def handler(call: Call) -> None:
        assert call.session["list"] == []
        await call.session.reload()
        dict.get(call.session, "list").append(1)  # unnoticed by itself
        counted.codec.take()
        await call.start()
        counted.point()
        await call.finish()

    await counted.request(handler)
    assert counted.at[0] == ["list"]
    assert (await counted.content())["list"] == [1]


@in_loop
async def test_a_websocket_s_turns_look_at_what_was_handed_out_only() -> None:
    """A value that was taken before the accept is looked at at each turn; the megabytes beside it are not."""
    counted = Counted({"turns": [], "messages": ["x" * 100_000], "n": 1})

    async def chat(call: Call) -> None:
        turns = call.session["turns"]
        await call.receive()
        await call.send({"type": "websocket.accept"})
        while (message := await call.receive())["type"] == "websocket.receive":
            turns.append(message["text"])
            await call.send({"type": "websocket.send", "text": "taken"})
        await call.session.save()
        assert not counted.browser.app._engine.saves.is_busy(state_of(call.session))  # type: ignore[attr-defined]
        turns.append("left")

    await counted.request(_empty)
    counted.handler = chat
    async with counted.browser.websocket("/act") as socket:
        await socket.accepted()
        for text in ("one", "two"):
            await socket.send(text)
            assert await socket.receive() == "taken"
    assert set(counted.codec.take()) == {"turns"}
    assert (await counted.content())["turns"] == ["one", "two", "left"]


async def _empty(call: Call) -> None:
    await call.reply()


@in_loop
async def test_of_a_dict_in_the_session_s_place_everything_is_handed_out() -> None:
    """The application holds that dict, and what it keeps of the old content, however it came by it."""
    counted = Counted({"old": [1], "kept": [2]})

    async def handler(call: Call) -> None:
        new: dict[str, Any] = {"kept": dict.get(call.session, "kept"), "turn": {"text": ""}}
        call.scope["session"] = new
        await call.start()
        counted.point()
        new["kept"].append("in place")
        new["turn"]["text"] += "token"
        await call.finish()
        counted.point()
        new["late"] = []
        new["late"].append(1)

    await counted.request(handler)
    assert counted.at == [["kept", "turn"], ["kept", "turn"], ["kept", "late", "turn"]]
    assert await counted.content() == {"kept": [2, "in place"], "turn": {"text": "token"}, "late": [1]}


@in_loop
async def test_what_dict_s_own_method_has_set_is_looked_at_from_then_on() -> None:
    """No method has noted it, but the next save point sees another object there, and it stays the application's."""
    counted = Counted({"list": [1], "other": [2]})
    mine: list[int] = []
    points = await counted.acted(
        lambda s: (dict.__setitem__(s, "list", mine), len(s)), lambda s: mine.append(2), lambda s: mine.append(3)
    )
    assert points == [["list"], ["list"], ["list"]]
    assert (await counted.content())["list"] == [2, 3]


@in_loop
async def test_scalars_that_are_handed_out_are_never_encoded() -> None:
    """They cannot change in place: a session of them is not even compared, and one that is taken is not noted."""
    scalars = {"a": 1, "b": 1.5, "c": "text", "d": None, "e": True}
    notes: list[Any] = []
    assert await Counted(scalars).acted(
        lambda s: [s[name] for name in scalars], lambda s: notes.append(state_of(s).rare.handed)
    ) == [[], [], []]
    assert notes == [set()]
    assert await Counted(scalars).acted(dict, lambda s: [s[name] for name in s], lambda s: s.pop("a")) == [[], [], []]


@in_loop
async def test_a_session_in_memory_notes_nothing() -> None:
    """A live store's session is of the plain class."""
    seen: list[str] = []

    async def handler(call: Call) -> None:
        seen.append(type(call.session).__name__)
        await call.reply()

    for store in (SuspendingStore(), MemoryStore()):
        browser = Browser(serve({"/act": handler}, store=store))
        for path in ("/act", "/set?a=1", "/act"):  # a new session, and one with a record
            await browser.get(path)
    assert seen == ["NotingSession"] * 2 + ["Session"] * 2


def test_a_value_is_given_after_its_note() -> None:
    """A save point of another thread that comes before the note may close the gate: the note opens it again."""

    class Name(str):
        """While it is noted, a save point sees no note yet, and closes the gate."""

        __slots__ = ()

        def __hash__(self) -> int:
            state.accessed = False
            return str.__hash__(self)

    state = State()
    state.opened(cast(Any, None))
    session = NotingSession({"list": []})
    give_state(session, state)
    for read in (session.__getitem__, session.get, session.setdefault, session.pop):
        read(Name("list"))
        assert state.accessed
        dict.__setitem__(session, "list", [])
    session[Name("list")] = []
    assert state.accessed
