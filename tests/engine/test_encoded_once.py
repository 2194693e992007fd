"""One save point encodes a value at most once, however often it is tried, and what cannot be encoded blocks nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from counting import Act, Counted
from driver import in_loop
from routes import Call, content, tab
from stores import shorten

from fastersession import AttributeNotSerializable, SessionNotEstablished

WISHES: dict[str, Act] = {
    "nothing": lambda s: None,
    "an idle timeout": lambda s: setattr(s, "idle_timeout", 60),
    "a reload": lambda s: s.reload(),
    "a save": lambda s: s.save(),
    "what cannot be kept": lambda s: s.update(bad=object()),
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=list(WISHES))
@in_loop
async def test_a_save_that_is_tried_again_encodes_a_value_once(wish: Act, monkeypatch: Any) -> None:
    """Whatever else was asked for, and however often the store fails."""
    shorten(monkeypatch, FLUSH_PAUSES=(0, 0, 0))
    counted = Counted({"list": [1], "other": [2]})

    async def handler(call: Call) -> None:
        await call.start()
        wish(call.session)
        call.session["list"].append(2)
        counted.store.fail("update", times=3)
        with suppress(AttributeNotSerializable):
            await call.finish()
        counted.point()

    await counted.request(handler, catch=True)
    assert counted.at[0] == (["bad", "list"] if wish is WISHES["what cannot be kept"] else ["list"])
    assert counted.store.calls.count("update!") == 3
    assert (await counted.content())["list"] == [1, 2]


@in_loop
async def test_saves_at_the_same_time_encode_a_value_once_each() -> None:
    """Who finds another save at work looks when that is done, and only then."""
    counted = Counted({"list": [1], "other": [2]})

    async def handler(call: Call) -> None:
        call.session["list"].append(2)
        gate = counted.store.hold("update")
        saves = [asyncio.ensure_future(call.session.save()) for _ in range(3)]
        await gate.reached.wait()
        call.session["list"].append(3)
        gate.open.set()
        await asyncio.gather(*saves)
        counted.point()
        await call.reply()

    await counted.request(handler)
    assert counted.at[0] == ["list"] * 3
    assert (await counted.content())["list"] == [1, 2, 3]


@in_loop
async def test_a_refused_write_is_encoded_once_and_told_once() -> None:
    """What no cookie can lead to any more is raised by the save point, and forgotten with what it has encoded."""
    counted = Counted(None)

    async def handler(call: Call) -> None:
        await call.start()
        dict.__setitem__(call.session, "list", [1])
        len(call.session)
        with pytest.raises(SessionNotEstablished):
            await call.finish()
        counted.point()

    await counted.request(handler, catch=True)
    assert counted.at[0] == ["list"]


@in_loop
async def test_a_try_encodes_anew_what_another_save_has_stored_meanwhile(monkeypatch: Any) -> None:
    """A save that failed, and is tried again after another one has stored a newer state, takes nothing back."""
    shorten(monkeypatch, FLUSH_PAUSES=(0, 0, 0))
    counted = Counted({"list": [1]})

    async def handler(call: Call) -> None:
        await call.start()
        turn = call.session["list"]
        turn.append(2)
        gate = counted.store.hold("update")
        counted.store.fail("update")
        ending = asyncio.ensure_future(call.finish())
        await gate.reached.wait()
        turn.append(3)
        other = asyncio.ensure_future(call.session.save())
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(ending, other)
        seen.append(await content(tab(counted.browser)))

    seen: list[Any] = []
    await counted.request(handler)
    assert seen == [{"list": [1, 2, 3]}]


@in_loop
async def test_what_was_replaced_between_two_tries_is_encoded_anew(monkeypatch: Any) -> None:
    """The same name, and another object: what the try before has encoded is not taken for it."""
    shorten(monkeypatch, FLUSH_PAUSES=(0, 0, 0))
    counted = Counted({"n": 0})

    async def handler(call: Call) -> None:
        await call.start()
        call.session.idle_timeout = 60
        call.session["n"] = 1
        gate = counted.store.hold("update")
        counted.store.fail("update")
        ending = asyncio.ensure_future(call.finish())
        await gate.reached.wait()
        call.session["n"] = 2
        gate.open.set()
        await ending

    await counted.request(handler)
    assert await counted.content() == {"n": 2}


@in_loop
async def test_the_last_chunk_beside_a_save_at_work_encodes_a_value_once() -> None:
    """It looks when the other save is done, and only then."""
    counted = Counted({"list": [1], "other": [2]})

    async def handler(call: Call) -> None:
        await call.start()
        call.session["list"].append(2)
        gate = counted.store.hold("update")
        other = asyncio.ensure_future(call.session.save())
        await gate.reached.wait()
        counted.codec.take()
        call.session["list"].append(3)
        ending = asyncio.ensure_future(call.finish())
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(ending, other)
        counted.point()

    await counted.request(handler)
    assert counted.at[0] == ["list"]
    assert (await counted.content())["list"] == [1, 2, 3]


@in_loop
async def test_a_close_beside_a_turn_s_save_that_is_about_to_begin_encodes_a_value_once() -> None:
    """The turn's save has been asked for and has not begun: that is known, too."""
    counted = Counted({"list": [1], "other": [2]})

    async def chat(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        call.session["list"].append(2)
        turn = asyncio.ensure_future(call.receive())
        assert counted.codec.take() == ["list"]
        assert counted.store.count("update") == 0
        await call.send({"type": "websocket.close"})
        counted.point()
        turn.cancel()

    async def empty(call: Call) -> None:
        await call.reply()

    await counted.request(empty)
    counted.at, counted.handler = [], chat
    async with counted.browser.websocket("/act") as socket:
        await socket.accepted()
        await socket.ended()
    assert counted.at == [["list"]]
    assert await counted.content() == {"list": [1, 2], "other": [2]}


# --- what cannot be kept ---


@in_loop
async def test_what_cannot_be_encoded_blocks_nothing_and_is_told_though_nobody_reads_it() -> None:
    """Set and never touched again: each save point that looks names it, and all others are saved."""
    counted = Counted({"list": [1], "other": [2]})

    async def handler(call: Call) -> None:
        call.session["bad"] = object()
        call.session["list"].append(2)
        with pytest.raises(AttributeNotSerializable, match="'bad'"):
            await call.start()
        with pytest.raises(AttributeNotSerializable, match="'bad'"):
            await call.session.save()
        del call.session["bad"]
        await call.reply()

    assert (await counted.request(handler)).error is None
    assert await counted.content() == {"list": [1, 2], "other": [2]}


@in_loop
async def test_what_has_become_impossible_inside_is_told_and_what_it_was_is_kept() -> None:
    """A value that was handed out and cannot be encoded any more is named; the store has its last good state."""
    counted = Counted({"list": [1], "other": [2]})

    async def handler(call: Call) -> None:
        await call.start()
        call.session["list"].append(object())
        await call.finish()

    answer = await counted.request(handler, catch=True)
    assert isinstance(answer.error, AttributeNotSerializable)
    assert await counted.content() == {"list": [1], "other": [2]}
