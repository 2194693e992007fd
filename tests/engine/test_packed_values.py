"""Attributes in a store of bytes: found changed by comparing, and written one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SuspendingStore

from fastersession import JsonCodec, MsgspecCodec, PickleCodec

Act = Callable[[Any], Any]


class SpyCodec(JsonCodec):
    """Notes which attributes it encodes."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, attribute: str, value: Any) -> bytes:
        self.encoded.append(attribute)
        return super().encode(attribute, value)


def saves(store: SuspendingStore) -> list[tuple[list[str], list[str]]]:
    """Return what each update set and deleted, by name."""
    changes = [call[3] for call in store.arguments if call[0] == "update"]
    return [(sorted(change.sets), sorted(change.deletes)) for change in changes]


async def acting(store: Any, *steps: Act, begin: Any = None, codec: Any = None, catch: bool = False) -> tuple[Any, Any]:
    """Begin a session, then run one request: a step before the start, one in the stream, one before its end."""

    async def start(call: Call) -> None:
        call.session.update(begin)
        await call.reply()

    async def do(call: Call) -> None:
        for number, step in enumerate(steps):
            step(call.session)
            await (call.start() if number == 0 else call.chunk())
        await call.finish()

    browser = Browser(serve({"/begin": start, "/act": do}, store=store, codec=codec))
    if begin is not None:
        await browser.get("/begin")
    return browser, await browser.get("/act", catch=catch)


def nothing(session: Any) -> None:
    """Touch nothing."""


NESTED: dict[str, Act] = {
    "a list": lambda s: s["nested"]["list"].append(1),
    "a dict": lambda s: s["nested"].update(new=1),
    "a deep one": lambda s: s["nested"]["list"][0]["deep"].append(1),
    "through values()": lambda s: next(iter(s.values()))["list"].append(1),
    "through items()": lambda s: next(iter(s.items()))[1].clear(),
    "through get()": lambda s: s.get("nested")["list"].clear(),
    "through copy()": lambda s: s.copy()["nested"].update(new=1),
    "through **": lambda s: {**s}["nested"].update(new=1),
    "the order of names": lambda s: s["nested"].update(list=s["nested"].pop("list")),
    "an equal value of another type": lambda s: s["nested"].update(one=True),
}


@pytest.mark.parametrize("late", [False, True], ids=["before the start", "in the stream"])
@pytest.mark.parametrize("change", NESTED.values(), ids=list(NESTED))
@in_loop
async def test_what_changes_inside_a_value_is_saved(change: Act, late: bool) -> None:
    """In place, however deep and however it was reached: the bytes differ, so it is written, it alone, and once."""
    store = SuspendingStore()
    begin = {"nested": {"list": [{"deep": []}], "one": 1, "z": 0}, "other": [1]}
    steps = (nothing, change) if late else (change, nothing)
    browser, _ = await acting(store, *steps, begin=begin)
    model = {"nested": {"list": [{"deep": []}], "one": 1, "z": 0}, "other": [1]}
    change(model)
    assert repr(await content(browser)) == repr(model)
    assert saves(store) == [([".nested"], [])]


@in_loop
async def test_what_was_handed_out_before_the_start_is_looked_at_until_the_end() -> None:
    """`h = session["history"]` before the start and `h.append(answer)` in the generator: the answer is saved."""
    held: list[Any] = []
    steps: list[Act] = [
        lambda s: held.append(s["history"]), nothing, nothing, lambda s: held[0].append("answer"), nothing,
    ]  # fmt: skip
    store = SuspendingStore()
    browser, _ = await acting(store, *steps, begin={"history": ["question"], "big": ["x"] * 1_000})
    assert (await content(browser))["history"] == ["question", "answer"]
    assert saves(store) == [([".history"], [])]


@in_loop
async def test_an_untouched_attribute_is_neither_written_nor_encoded() -> None:
    """A counter beside megabytes costs a counter; what is the same object is encoded only if it can have changed."""
    store, codec = SuspendingStore(), SpyCodec()
    begin = {"big": "x" * 1_000_000, "n": 1.5, "list": [1], "none": None, "yes": True, "count": 0}
    codec_calls: list[str] = []

    def count(session: Any) -> None:
        codec.encoded.clear()
        session["count"] += 1
        session["same"] = session["big"]
        del session["same"]

    browser, _ = await acting(store, count, lambda s: codec_calls.extend(codec.encoded), begin=begin, codec=codec)
    assert codec_calls == ["count"]
    assert saves(store) == [([".count"], [])]
    change = next(call[3] for call in store.arguments if call[0] == "update")
    assert sum(len(value) for value in change.sets.values()) < 1_000
    assert (await content(browser))["count"] == 1


def grown() -> set[int]:
    """Return a set whose members change their order once they are put into a new set in the old order."""
    for size in range(5, 200):
        tags = set(range(0, size * 64, 64))
        if list(tags) != list(set(list(tags))):  # noqa: C414 - the list between is the point
            return tags
    raise AssertionError("sets have an order by now")


@pytest.mark.parametrize("codec", [JsonCodec(), MsgspecCodec({"tags": set[int]}), PickleCodec()], ids=lambda c: c.name)
@in_loop
async def test_reading_writes_nothing(codec: Any) -> None:
    """A request that only reads saves nothing, whatever order a set has by now."""
    tags = grown()
    begin = {"tags": sorted(tags) if codec.name == "json" else tags, "a": [{"b": 1.0}]}
    store = SuspendingStore()
    seen: list[Any] = []
    await acting(store, lambda s: seen.append(dict(s)), nothing, begin=begin, codec=codec)
    assert seen == [begin]
    assert saves(store) == []
    if codec.name != "json":
        await acting(store, lambda s: s["tags"].add(1), begin=begin, codec=codec)
        assert saves(store) == [([".tags"], [])]


@in_loop
async def test_a_value_that_is_put_back_is_not_written() -> None:
    """What equals the loaded bytes at the save point has not changed; equal is not enough where the type differs."""
    store = SuspendingStore()
    steps: list[Act] = [lambda s: s.update(a=[1]), lambda s: s.update(n=2), lambda s: s.update(n=1), nothing]
    browser, _ = await acting(store, *steps, begin={"a": [1], "n": 1})
    assert saves(store) == []
    for value, written in ((True, 1), (True, 0), (1.0, 1), (1, 1), (1, 0), ("1", 1)):
        before = len(saves(store))
        await _put(browser, value)
        assert len(saves(store)) - before == written
        assert repr((await content(browser))["n"]) == repr(value)


async def _put(browser: Browser, value: Any) -> None:
    async def put(call: Call) -> None:
        call.session["n"] = value
        await call.reply()

    app, jar = browser.app, browser.jar
    store = app._engine.calls.store  # type: ignore[attr-defined]
    other = Browser(serve({"/put": put}, store=store))
    other.jar = jar
    await other.get("/put")
