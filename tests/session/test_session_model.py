"""Sessions against a plain dict: any program of operations, cut into requests anywhere, has the same results."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from collections.abc import Callable
from typing import Any

from driver import Browser, in_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import Call, serve

Act = Callable[[Any], Any]

names = st.sampled_from(["a", "b", "c", ""])
values = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2), st.text(max_size=2), st.none())
dicts = st.dictionaries(names, values, max_size=3)
steps = st.one_of(
    st.builds(lambda n, v: lambda d: operator.setitem(d, n, copy.deepcopy(v)), names, values),
    st.builds(lambda n: lambda d: operator.delitem(d, n), names),
    st.builds(lambda n: lambda d: d[n], names),
    st.builds(lambda n, v: lambda d: d.pop(n, v), names, values),
    st.builds(lambda n: lambda d: d.pop(n), names),
    st.builds(lambda n, v: lambda d: d.setdefault(n, copy.deepcopy(v)), names, values),
    st.builds(lambda new: lambda d: d.update(copy.deepcopy(new)), dicts),
    st.builds(lambda new: lambda d: d.update(list(copy.deepcopy(new).items())), dicts),
    st.builds(lambda new: lambda d: dict(operator.ior(d, copy.deepcopy(new))), dicts),
    st.builds(lambda new: lambda d: d | new, dicts),
    st.builds(lambda new: lambda d: new | d, dicts),
    st.builds(lambda new: lambda d: d == new, dicts),
    st.sampled_from([lambda d: d.popitem(), list, lambda d: list(reversed(d)), lambda d: json.dumps(d), copy.deepcopy]),
    st.sampled_from([lambda d: {**d}, lambda d: list(d.items()), bool, len, lambda d: pickle.loads(pickle.dumps(d))]),
    st.builds(lambda n: lambda d: d[n].append(4), names),  # in place: seen only because a live store keeps the object
)


def outcome(step: Act, of: Any) -> Any:
    try:
        return step(of)
    except Exception as error:
        return type(error)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(steps, max_size=6), max_size=4))
def test_a_session_over_several_requests_is_a_dict(requests: list[list[Act]]) -> None:
    """Any program of dict operations, cut into requests anywhere, does what it does on one plain dict."""
    # Invariant: each step has the same result (or exception) on both, and each request begins where the last ended.
    model: dict[str, Any] = {}
    program: list[Act] = []
    checked = []

    async def do(call: Call) -> None:
        assert dict(call.session) == model
        ordered = {name: model[name] for name in call.session}  # a store keeps no order between attributes
        model.clear()
        model.update(ordered)
        call.session.establish()
        half = len(program) // 2
        for step in program[:half]:
            assert outcome(step, call.session) == outcome(step, model)
        await call.start()
        await call.chunk()
        for step in program[half:]:
            assert outcome(step, call.session) == outcome(step, model)
        assert dict(call.session) == model
        await call.finish()
        checked.append(True)

    @in_loop
    async def run() -> None:
        browser = Browser(serve({"/act": do}))
        for request in [*requests, []]:
            program[:] = request
            await browser.get("/act")

    run()
    assert len(checked) == len(requests) + 1
