"""Writes that come late or from elsewhere: after the headers, after the end, in worker threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, events, serve
from stores import SuspendingStore

from fastersession import MemoryStore, Session, SessionNotEstablished

LATE_WRITES: dict[str, Callable[[Session], Any]] = {
    "[]": lambda s: s.__setitem__("answer", 1),
    "setdefault": lambda s: s.setdefault("answer", 1),
    "update": lambda s: s.update(answer=1),
    "update with a dict": lambda s: s.update({"answer": 1}),
    "update with pairs": lambda s: s.update([("answer", 1)]),
    "|=": lambda s: s.__ior__({"answer": 1}),
}


@pytest.mark.parametrize("write", LATE_WRITES.values(), ids=list(LATE_WRITES))
@in_loop
async def test_a_first_attribute_after_the_headers_is_refused_at_the_write(write: Callable[[Session], Any]) -> None:
    """The write itself raises, names the attribute and the remedy, and leaves the session empty."""
    seen: list[Any] = []

    async def do(call: Call) -> None:
        await call.start()
        with pytest.raises(SessionNotEstablished, match=r"'answer'.*establish\(\)"):
            write(call.session)
        call.session.update({})
        call.session |= {}
        seen.append((dict(call.session), call.session.get("answer"), call.session.pop("answer", None)))
        await call.finish()

    await Browser(serve({"/act": do})).get("/act")
    assert seen == [({}, None, None)]


@pytest.mark.parametrize("looked", [True, False], ids=["looked at before", "never looked at"])
@pytest.mark.parametrize("how", ["dict's own method", "a method taken before the start"])
@in_loop
async def test_a_late_write_that_bypasses_the_guard_raises_at_the_next_save_point(how: str, looked: bool) -> None:
    """Nothing vanishes silently: what gets past the session's methods raises from the app call."""

    async def do(call: Call) -> None:
        write = call.session.__setitem__
        if looked:
            call.session.get("answer")
        await call.start()
        if how == "dict's own method":
            dict.__setitem__(call.session, "answer", 1)
        else:
            write("answer", 1)
        if looked:
            call.session.get("answer")
        await call.finish()

    answer = await Browser(serve({"/act": do})).get("/act", catch=True)
    assert isinstance(answer.error, SessionNotEstablished)
    assert "'answer'" in str(answer.error)


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_a_write_after_the_end_warns_unless_it_is_saved(make: Any, caplog: Any) -> None:
    """After the app call, save() still saves; without it one warning names what was lost."""
    kept: list[Session] = []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    browser = Browser(serve({"/keep": keep}, store=make()))
    await browser.get("/set?a=1")
    await browser.get("/keep")
    session = kept.pop()
    session["saved"] = 1
    await session.save()
    assert await content(browser) == {"a": "1", "saved": 1}
    del session
    gc.collect()
    assert events(caplog) == []
    await browser.get("/keep")
    session = kept.pop()
    session["lost"] = "a value"
    session |= {"gone": "a value"}
    del session
    gc.collect()
    (record,) = events(caplog)
    assert record.levelname == "WARNING"
    assert "'lost'" in record.getMessage()
    assert "'gone'" in record.getMessage()
    assert "a value" not in record.getMessage()
    assert await content(browser) == {"a": "1", "saved": 1}


AFTER_THE_END: dict[str, Callable[[Session], Any]] = {
    "[]": lambda s: s.__setitem__("a", 2),
    "del": lambda s: s.__delitem__("a"),
    "pop": lambda s: s.pop("a"),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("b", 2),
    "update": lambda s: s.update(a=2),
    "|=": lambda s: s.__ior__({"a": 2}),
    "clear": lambda s: s.clear(),
}


@pytest.mark.parametrize("act", AFTER_THE_END.values(), ids=list(AFTER_THE_END))
@in_loop
async def test_every_way_of_writing_after_the_end_warns_once(act: Callable[[Session], Any], caplog: Any) -> None:
    """No way of writing after the end is lost without one warning; reading and failing writes give none."""
    kept: list[Session] = []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    browser = Browser(serve({"/keep": keep}))
    await browser.get("/set?a=1")
    await browser.get("/keep")
    session = kept.pop()
    assert (session.get("a"), session.pop("none", None), session.setdefault("a", 5)) == ("1", None, "1")
    with pytest.raises(KeyError):
        del session["none"]
    act(session)
    del session
    gc.collect()
    assert [record.event for record in events(caplog)] == ["session.unsaved"]


@in_loop
async def test_sync_save_after_the_end_reaches_a_live_store_at_once() -> None:
    """On a store in this process even an unawaited save() and invalidate() work after the end."""
    kept: list[Session] = []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    store = MemoryStore()
    browser = Browser(serve({"/keep": keep}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/keep")
    kept[0]["late"] = 1
    kept[0].save()
    assert await content(browser) == {"a": "1", "late": 1}
    kept[0].invalidate()
    assert len(store) == 0


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_a_worker_thread_may_use_the_session(make: Any) -> None:
    """Reads, writes and verbs from a thread count like those of the event loop, before the headers and after them."""

    def work(session: Session, name: str) -> None:
        session[name] = [name]
        session[name].append(session.id)
        session.save()

    async def do(call: Call) -> None:
        await asyncio.to_thread(work, call.session, "before")
        await call.start()
        await call.chunk()
        await asyncio.to_thread(work, call.session, "after")
        await call.finish()

    browser = Browser(serve({"/act": do}, store=make()))
    await browser.get("/act")
    assert list(await content(browser)) == ["before", "after"]


@pytest.mark.parametrize("call_of_the_clock", range(1, 6))
@in_loop
async def test_what_a_thread_writes_while_a_save_point_runs_is_saved_by_the_next(call_of_the_clock: int) -> None:
    """A save point may forget only what it has seen: a write that another thread makes meanwhile is not lost."""
    clock = FakeClock()

    async def do(call: Call) -> None:
        def write() -> None:
            call.session["late"] = 1

        left = [call_of_the_clock]

        def during_the_save_point() -> float:
            left[0] -= 1
            if left[0] == 0:
                thread = threading.Thread(target=write)
                thread.start()
                thread.join()
            return clock()

        call.session["early"] = 1
        hook[0] = during_the_save_point
        await call.start()
        hook[0] = clock
        if left[0] > 0:  # the save point asked the clock less often
            write()
        await call.chunk()
        await call.finish()

    hook: list[Callable[[], float]] = [clock]
    browser = Browser(serve({"/act": do}, store=MemoryStore(clock=lambda: hook[0]())))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "early": 1, "late": 1}


@in_loop
async def test_a_foreign_websocket_s_idle_timeout_breaks_nothing() -> None:
    """Metadata set on a session that is never saved is no attribute: the socket is accepted all the same."""

    async def chat(call: Call) -> None:
        call.session.idle_timeout = 60
        await call.send({"type": "websocket.accept"})

    async with Browser(serve({"/ws": chat})).websocket("/ws", headers=[(b"origin", b"https://evil.example")]) as socket:
        answer = await socket.accepted()
    assert answer.error is None
    assert answer.start["type"] == "websocket.accept"
