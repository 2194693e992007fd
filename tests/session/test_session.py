"""The session as a dict: it behaves like one, in every method and every request, and marks each access."""

from __future__ import annotations

import copy
import importlib.util
import json
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SuspendingStore

from fastersession import MemoryStore, Session

Act = Callable[[Any], Any]

# Every method that reads or writes attributes, called so that it works on {"a": 1, "b": [2]}.
READS: dict[str, Act] = {
    "__contains__": lambda d: "a" in d,
    "__eq__": lambda d: d == {},
    "__format__": lambda d: bool(format(d)),
    "__getitem__": lambda d: d["a"],
    "__iter__": lambda d: list(iter(d)),
    "__len__": len,
    "__ne__": lambda d: d != {},
    "__or__": lambda d: d | {"c": 3},
    "__reduce_ex__": lambda d: pickle.loads(pickle.dumps(d)),
    "__repr__": lambda d: bool(repr(d)),
    "__reversed__": lambda d: list(reversed(d)),
    "__ror__": lambda d: {"c": 3} | d,
    "__str__": lambda d: bool(str(d)),
    "copy": lambda d: d.copy(),
    "get": lambda d: d.get("a"),
    "items": lambda d: list(d.items()),
    "keys": lambda d: list(d.keys()),
    "values": lambda d: list(d.values()),
}
WRITES: dict[str, Act] = {
    "__delitem__": lambda d: operator.delitem(d, "a"),
    "__ior__": lambda d: bool(operator.ior(d, {"c": 3})),
    "__setitem__": lambda d: operator.setitem(d, "a", 5),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("c", 3),
    "update": lambda d: d.update(a=4, e=5),
}
COMPARISONS = ("__lt__", "__le__", "__gt__", "__ge__")  # dicts have no order: these say NotImplemented
ORDERINGS: dict[str, Act] = {name: lambda d, name=name: getattr(d, name)({}) for name in COMPARISONS}
MARKING: dict[str, Act] = {**READS, **WRITES, **ORDERINGS, "clear": lambda d: d.clear()}
OTHERWISE: dict[str, Act] = {  # not methods of their own, but ways in which real code reads a dict
    "bool": bool,
    "copy.copy": copy.copy,
    "copy.deepcopy": copy.deepcopy,
    "dict()": dict,
    "format_map": "{a}".format_map,
    "json.dumps": json.dumps,
    "**": lambda d: {**d},
    "sorted": sorted,
}
# What touches no attribute: made by the type, or the object's own machinery.
MACHINERY = {
    *("__class__", "__class_getitem__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getstate__"),
    *("__hash__", "__init__", "__init_subclass__", "__new__", "__reduce__", "__setattr__", "__sizeof__"),
    *("__subclasshook__", "fromkeys"),
}


async def with_two(browser: Browser) -> Browser:
    await browser.get("/two")
    return browser


def two_and(act: Callable[[Call], Any], **options: Any) -> Browser:
    """Return a browser at an app where /two makes {"a": 1, "b": [2]} and /act does the act before the start."""

    async def two(call: Call) -> None:
        call.session.update(a=1, b=[2])
        await call.reply()

    async def do(call: Call) -> None:
        act(call)
        await call.reply()

    return Browser(serve({"/two": two, "/act": do}, **options))


def test_no_method_of_dict_is_forgotten() -> None:
    """Each name in dir(dict) is either tried below or is machinery that sees no attribute."""
    assert set(dir(dict)) - MACHINERY == set(MARKING)


@pytest.mark.parametrize("name", [*MARKING, *OTHERWISE])
@in_loop
async def test_every_access_is_marked(name: str) -> None:
    """Whatever reads or writes marks the access: a response of known length then varies by cookie."""
    act = (MARKING | OTHERWISE)[name]
    browser = await with_two(two_and(lambda call: act(call.session)))
    assert (await browser.get("/plain")).header("vary") is None
    assert (await browser.get("/act")).header("vary") == b"Cookie"


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@pytest.mark.parametrize("name", [*READS, *WRITES])
@in_loop
async def test_every_method_answers_as_a_dict_does(name: str, make: Any) -> None:
    """Same result, same content, on the session and on a plain dict."""
    act, seen = (READS | WRITES)[name], []
    do = two_and(lambda call: seen.append((act(call.session), dict(call.session))), store=make())
    browser = await with_two(do)
    await browser.get("/act")
    plain: dict[str, Any] = {"a": 1, "b": [2]}
    assert seen == [(act(plain), plain)]


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@pytest.mark.parametrize("when", ["before the start", "in the stream"])
@pytest.mark.parametrize("name", WRITES)
@in_loop
async def test_what_any_method_writes_is_saved(name: str, when: str, make: Any) -> None:
    """Each writing method is seen by the next request, called before the start or in the stream."""

    async def do(call: Call) -> None:
        if when == "before the start":
            WRITES[name](call.session)
        await call.start()
        await call.chunk()
        if when == "in the stream":
            WRITES[name](call.session)
        await call.finish()

    async def two(call: Call) -> None:
        call.session.update(a=1, b=[2])
        await call.reply()

    browser = await with_two(Browser(serve({"/two": two, "/act": do}, store=make())))
    await browser.get("/act")
    plain: dict[str, Any] = {"a": 1, "b": [2]}
    WRITES[name](plain)
    assert await content(browser) == plain


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        dict.copy,
        lambda d: d.copy(),
        lambda d: d | {},
        lambda d: {} | d,
        lambda d: {**d},
        *(lambda d, protocol=protocol: pickle.loads(pickle.dumps(d, protocol)) for protocol in range(6)),
        lambda d: json.loads(json.dumps(d)),
        lambda d: d.fromkeys(d, 1) | {"b": [2]},
    ],
)
@in_loop
async def test_copies_are_plain_dicts(duplicate: Act) -> None:
    """A copy, however it is made, is a plain dict that no save point looks at."""
    seen: list[Any] = []

    def do(call: Call) -> None:
        seen.append(duplicate(call.session))
        seen[0]["c"] = "in the copy only"

    browser = await with_two(two_and(do))
    await browser.get("/act")
    assert type(seen[0]) is dict
    assert seen[0] == {"a": 1, "b": [2], "c": "in the copy only"}
    assert await content(browser) == {"a": 1, "b": [2]}


@in_loop
async def test_it_is_a_real_dict_and_other_encoders_take_it() -> None:
    """isinstance, match, and encoders in C see a dict; empty is falsy."""
    seen: list[Any] = []

    def do(call: Call) -> None:
        match call.session:
            case {"a": 1, **rest}:
                seen.append(rest)
        if importlib.util.find_spec("msgspec"):
            msgspec = importlib.import_module("msgspec")
            assert msgspec.json.decode(msgspec.json.encode(call.session)) == call.session
        seen.append((isinstance(call.session, dict), type(call.session) is Session, bool(call.session)))
        call.session.clear()
        seen.append(bool(call.session))

    await (await with_two(two_and(do))).get("/act")
    assert seen == [{"b": [2]}, (True, True, True), False]


@in_loop
async def test_repr_shows_names_and_no_values() -> None:
    """Its repr and str name the attributes and the state, and nothing that is secret."""
    seen: list[str] = []
    browser = await with_two(two_and(lambda call: seen.extend((repr(call.session), f"{call.session}"))))
    await browser.get("/act")
    token = next(iter(browser.jar.values())).value
    for text in seen:
        assert "'a'" in text
        assert "'b'" in text
        assert "2" not in text
        assert token not in text
        assert "live" in text


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_two_attributes_that_change_places_are_saved(make: Any) -> None:
    """The same objects under each other's names are a change, in whatever order they were put back."""

    async def do(call: Call) -> None:
        a, b = call.session.pop("a"), call.session.pop("b")
        call.session.update(b=a, a=b)
        await call.reply()

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/set?a=of+a&b=of+b")
    await browser.get("/act")
    assert await content(browser) == {"a": "of b", "b": "of a"}
