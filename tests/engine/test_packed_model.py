"""Sessions in a store of bytes against a plain dict: any program, nested values and all, cut into requests anywhere."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import Call, content, serve, tab
from stores import SuspendingStore

from fastersession import JsonCodec, MsgspecCodec, PickleCodec

Act = Callable[[Any], Any]

names = st.sampled_from(["a", "b", "c", ""])
scalars = st.none() | st.booleans() | st.integers(-1, 2) | st.floats(0, 1, width=16) | st.text(max_size=2)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
contents = st.dictionaries(names, values, max_size=4)


def fresh(value: Any) -> Any:
    """Return the value as nobody else holds it."""
    return json.loads(json.dumps(value))


def differs(one: Any, two: Any, name: str) -> bool:
    """Tell if an attribute of the one is missing in the other, or another JSON there."""
    return name not in two or json.dumps(one[name]) != json.dumps(two[name])


def deepest(value: Any) -> Any:
    """Go down the last of each until there is nothing below."""
    while True:
        inner = list(value.values())[-1:] if isinstance(value, dict) else value[-1:]
        if not inner or not isinstance(inner[0], dict | list):
            return value
        value = inner[0]


def change_inside(value: Any, new: Any) -> None:
    """Change the deepest container of a value in place; TypeError if it has none."""
    target = deepest(value)
    if isinstance(target, dict):
        target["x"] = fresh(new)
    elif isinstance(target, list):
        target.append(fresh(new))
    else:
        raise TypeError


steps = st.one_of(
    st.builds(lambda n, v: lambda d: operator.setitem(d, n, fresh(v)), names, values),
    st.builds(lambda n: lambda d: operator.delitem(d, n), names),
    st.builds(lambda n, v: lambda d: change_inside(d[n], v), names, values),
    st.builds(lambda n, v: lambda d: change_inside(d.get(n), v), names, values),
    st.builds(lambda v: lambda d: [change_inside(one, v) for one in d.values()], values),
    st.builds(lambda n: lambda d: d[n].pop(), names),
    st.builds(lambda n: lambda d: d[n].clear(), names),
    st.builds(lambda n, v: lambda d: d.setdefault(n, fresh(v)), names, values),
    st.builds(lambda new: lambda d: d.update(fresh(new)), contents),
    st.builds(lambda n: lambda d: d.pop(n), names),
    st.sampled_from([dict, json.dumps, lambda d: [d[name] for name in d], lambda d: fresh(d) == d, len]),
)


def outcome(step: Act, of: Any) -> Any:
    try:
        return repr(step(of))
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("codec", [JsonCodec(), MsgspecCodec(), PickleCodec()], ids=lambda codec: codec.name)
def test_a_session_in_bytes_is_a_dict(codec: Any) -> None:
    """Any program, cut into requests and into the parts of a stream, does what it does on one plain dict."""
    # Invariant: each step has the same result on both, each request begins where the last ended, types included, and
    # what a save sets is what differs by its JSON.

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.lists(steps, max_size=8), max_size=4))
    def check(requests: list[list[Act]]) -> None:
        run(requests)

    @in_loop
    async def run(requests: list[list[Act]]) -> None:
        model: dict[str, Any] = {}
        program: list[Act] = []
        store = SuspendingStore()

        def play(session: Any, part: list[Act]) -> None:
            for step in part:
                assert outcome(step, session) == outcome(step, model)

        async def do(call: Call) -> None:
            in_order = {name: fresh(model[name]) for name in call.session}  # a store keeps no order of attributes
            assert json.dumps(call.session) == json.dumps(in_order)
            assert len(in_order) == len(model)
            model.clear()
            model.update(in_order)
            held = list(call.session.values())
            call.session.establish()
            third = len(program) // 3
            play(call.session, program[:third])
            await call.start()
            play(call.session, program[third : 2 * third])
            if third:
                await call.session.save()
            play(call.session, program[2 * third :])
            await call.finish()
            del held

        browser = Browser(serve({"/act": do}, store=store, codec=codec))
        for request in [*requests, []]:
            program[:] = request
            before, seen = fresh(model), len(store.arguments)
            await browser.get("/act")
            changes = [call[3] for call in store.arguments[seen:] if call[0] == "update"]
            if len(changes) == 1 and len(request) < 3:  # one save point after the last step
                assert set(changes[0].sets) == {f".{name}" for name in model if differs(model, before, name)}

    check()


@given(contents, st.lists(steps, max_size=5), st.lists(steps, max_size=5), st.booleans())
@settings(max_examples=60, deadline=None)
def test_l8_two_tabs_make_one_merged_session(base: Any, one: list[Act], two: list[Act], reload: bool) -> None:
    """L8: what each of two overlapping requests changed is there, attribute by attribute; the later save wins."""
    # Invariant: content after both == base, with the first's changed and deleted attributes, then with the second's.
    models = [fresh(base), fresh(base)]
    merged: dict[str, Any] = fresh(base)
    for model, program in zip(models, (one, two), strict=True):
        for step in program:
            outcome(step, model)
        for name in base:
            if name not in model:
                merged.pop(name, None)
        merged.update({name: value for name, value in model.items() if differs(model, base, name)})

    async def begin(call: Call) -> None:
        call.session.establish()
        call.session.update(fresh(base))
        await call.reply()

    async def first(call: Call) -> None:
        await call.start()
        for step in one:
            outcome(step, call.session)
        await call.finish()

    async def second(call: Call) -> None:
        for step in two:
            outcome(step, call.session)
        await tab(browser).get("/first")
        if reload:
            await call.session.reload()
            assert dict(call.session) == merged
        await call.reply()

    browser = Browser(serve({"/begin": begin, "/first": first, "/second": second}, store=SuspendingStore()))

    @in_loop
    async def run() -> None:
        await browser.get("/begin")
        await browser.get("/second")
        assert await content(browser) == merged

    run()
