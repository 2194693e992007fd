"""A value that looks as it did when it was handed out is neither encoded nor checked; no change hides behind that."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest
from counting import Act, Counted
from driver import Browser, in_loop
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from routes import Call, serve
from stores import SuspendingStore

from fastersession import AttributeNotSerializable, MsgspecCodec, PickleCodec
from fastersession.codecs import JsonCodec
from fastersession.engine.plan import Point
from fastersession.plainjson import look_of
from fastersession.testing import session_of

VALUE: dict[str, Any] = {"list": [1, [2]], "text": "x", "one": 1, "half": 0.0, "1": None, "key": {"a": 1, "b": 2}}


@in_loop
async def test_what_was_read_only_is_not_encoded_at_all() -> None:
    """A history that is read costs its decoding, by whichever way it is taken."""
    ways: list[Act] = [
        lambda s: s["value"], lambda s: s.get("value"), lambda s: s.setdefault("value"), dict,
        lambda s: list(s.values()), copy.deepcopy, lambda s: [s[name] for name in s],
    ]  # fmt: skip
    for way in ways:
        assert await Counted({"value": VALUE, "n": 1}).acted(way, way, way) == [[], [], []]


class One(IntEnum):
    ONE = 1


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an item": lambda v: v["list"].append(3),
    "a deep one": lambda v: v["list"][1].clear(),
    "True for 1": lambda v: v.update(one=True),
    "1.0 for 1": lambda v: v.update(one=1.0),
    "-0.0 for 0.0": lambda v: v.update(half=-0.0),
    "a tuple for a list": lambda v: v.update(list=tuple(v["list"])),
    "a Markup for a str": lambda v: v.update(text=Markup(v["text"])),
    "the order": lambda v: v.update(key={"b": 2, "a": 1}),
    "the order of the outer": lambda v: v.update(list=v.pop("list")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
@in_loop
async def test_no_change_hides_behind_a_look(change: Callable[[dict[str, Any]], Any]) -> None:
    """Also where JSON would write the same: what comes back is of the very types that were put there."""
    counted = Counted({"value": copy.deepcopy(VALUE)})
    held: list[Any] = []
    await counted.acted(lambda s: held.append(s["value"]), lambda s: change(held[0]))
    expected = copy.deepcopy(VALUE)
    change(expected)
    assert repr((await counted.content())["value"]) == repr(expected)


@pytest.mark.parametrize("bad", [lambda v: v.update({1: None}), lambda v: v.update(one=One.ONE)])
@in_loop
async def test_what_json_would_silently_change_is_refused(bad: Callable[[dict[str, Any]], Any]) -> None:
    """A key that is no string, a subclass: looks show them, so the codec sees them, and refuses."""
    counted = Counted({"value": copy.deepcopy(VALUE)})

    async def handler(call: Call) -> None:
        bad(call.session["value"])
        with pytest.raises(AttributeNotSerializable):
            await call.start()
        bad(call.session.pop("value"))
        await call.reply()

    await counted.request(handler)


@in_loop
async def test_a_look_says_nothing_once_the_value_has_changed() -> None:
    """A change that was saved, and then is taken back, is a change again."""
    counted = Counted({"list": [1]})
    held: list[Any] = []
    points = await counted.acted(
        lambda s: (held.append(s["list"]), held[0].append(2)), lambda s: held[0].pop(), lambda s: None
    )
    assert points == [["list"], ["list"], ["list"]]
    assert counted.sets() == [[".list"], [".list"]]
    assert await counted.content() == {"list": [1]}


@in_loop
async def test_a_look_says_nothing_once_another_object_stood_there() -> None:
    """Replaced, changed, put back and changed back, with a save between each two."""
    counted = Counted({"list": [1]})
    held: list[Any] = []

    async def handler(call: Call) -> None:
        held.append(call.session["list"])
        await call.start()
        for step in (
            lambda s: s.update(list="another"),
            lambda s: (held[0].append(2), s.update(list=held[0])),
            lambda s: held[0].pop(),
        ):
            step(call.session)
            await call.session.save()
        await call.finish()

    await counted.request(handler)
    assert counted.sets() == [[".list"]] * 3
    assert await counted.content() == {"list": [1]}


@in_loop
async def test_an_object_of_before_a_reload_that_is_put_back_is_a_change() -> None:
    """It looks as it did when it was loaded, but the store has had another state since."""
    counted = Counted({"list": [1]})

    async def handler(call: Call) -> None:
        mine = call.session["list"]
        async with session_of(counted.browser) as other:
            other["list"].append(2)
        await call.session.reload()
        call.session["list"] = mine
        await call.reply()

    await counted.request(handler)
    assert await counted.content() == {"list": [1]}


@in_loop
async def test_what_was_taken_unnoticed_and_put_back_has_no_look() -> None:
    """``dict.get`` notes nothing, and writing the same object must not take its look for the loaded one's."""
    for put in (lambda s, v: s.__setitem__("list", v), lambda s, v: s.update(list=v)):
        counted = Counted({"list": [1]})

        def change(session: Any, put: Callable[[Any, Any], Any] = put) -> None:
            value = dict.get(session, "list")
            value.append(2)
            put(session, value)

        await counted.acted(change)
        assert await counted.content() == {"list": [1, 2]}


@in_loop
async def test_a_reload_brings_another_object_whose_look_is_not_known() -> None:
    """What another tab has saved meanwhile is what counts."""
    counted = Counted({"list": [1]})

    async def handler(call: Call) -> None:
        assert call.session["list"] == [1]
        async with session_of(counted.browser) as other:
            other["list"].append(2)
        await call.session.reload()
        call.session["list"].pop()
        await call.reply()

    await counted.request(handler)
    assert await counted.content() == {"list": [1]}


@pytest.mark.parametrize("codec", [PickleCodec(), MsgspecCodec()], ids=lambda codec: codec.name)
@in_loop
async def test_a_codec_that_is_not_stable_has_no_looks(codec: Any) -> None:
    """Pickle keeps that two places have one list, which no look shows."""
    shared: list[int] = [1]

    async def begin(call: Call) -> None:
        call.session["pair"] = [shared, shared]
        await call.reply()

    async def part(call: Call) -> None:
        call.session["pair"][1] = list(call.session["pair"][1])
        await call.reply()

    browser = Browser(serve({"/begin": begin, "/part": part}, store=SuspendingStore(), codec=codec))
    await browser.get("/begin")
    await browser.get("/part")
    async with session_of(browser) as session:
        first, second = session["pair"]
        assert first is not second


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3) | st.tuples(inner)
    ),
    max_leaves=6,
)


@given(values, values)
def test_what_looks_the_same_is_encoded_the_same(one: Any, two: Any) -> None:
    """What a look is for: only what would be written as the same bytes has the same."""
    # Invariant: equal looks <=> equal encodings, for what has no tag but a tuple's.
    codec = JsonCodec()
    assert (look_of(one) == look_of(two)) == (codec.encode("a", one) == codec.encode("a", two))
    assert look_of(copy.deepcopy(one)) == look_of(one)


@pytest.mark.parametrize("compared", [False, True])
@in_loop
async def test_threads_that_take_a_value_first_at_the_same_time_keep_the_first_look(compared: bool) -> None:
    """The second look may be of a value that the first thread has changed already: it is not taken, now or later."""
    counted = Counted({"list": [1]})

    async def handler(call: Call) -> None:
        state, look = call.session._state, call.session._state.host.look_of
        saver = counted.browser.app._engine.saver  # type: ignore[attr-defined]

        def late(value: Any) -> bytes | None:
            object.__setattr__(state.host, "look_of", look)
            call.session["list"].append(2)  # another thread takes it, and changes it
            if compared:
                assert saver.prepare(call.session, state, Point.NOW, discard=False)  # and a save point sees that
            return look(value)

        object.__setattr__(state.host, "look_of", late)
        await asyncio.sleep(0)
        call.session["list"]
        await call.reply()

    await counted.request(handler)
    assert await counted.content() == {"list": [1, 2]}
