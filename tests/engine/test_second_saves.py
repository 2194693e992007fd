"""The save after the first: what a request still wants when a save of its has failed, was refused, or went well."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, events, live, serve, tab
from stores import SuspendingStore, shorten

from fastersession import JsonCodec, LeaseLost, Session, StoreError
from fastersession.testing import FakeClock

BOTH_STATUSES = pytest.mark.parametrize("status", [200, 500])  # 500 keeps only what save() covers


async def failing_save(session: Session, store: SuspendingStore, meanwhile: Callable[[Session], None]) -> None:
    """Save, and let the store fail after the application has done something more."""
    gate = store.hold("update")
    store.fail("update")
    saving = asyncio.ensure_future(session.save())
    await gate.reached.wait()
    meanwhile(session)
    gate.open.set()
    with pytest.raises(StoreError):
        await saving


@BOTH_STATUSES
@in_loop
async def test_the_newer_save_wins_over_the_one_that_failed(status: int) -> None:
    """What save() covered last is kept, not what an earlier call covered whose save the store refused."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        def meanwhile(session: Session) -> None:
            session["turn"] = "newer"
            session.save()
            if status == 500:
                session["turn"] = "covered by no save"

        call.session["turn"] = "older"
        await failing_save(call.session, store, meanwhile)
        await call.reply(status=status)

    browser = await live(store, do)
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "turn": "newer"}


@in_loop
async def test_the_newer_idle_timeout_wins_over_the_one_that_failed() -> None:
    """The store gets the idle timeout that was set last."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        def meanwhile(session: Session) -> None:
            session.idle_timeout = 200

        call.session.idle_timeout = 100
        await failing_save(call.session, store, meanwhile)
        await call.reply()

    async def look(call: Call) -> None:
        await call.reply(str(call.session.idle_timeout.total_seconds()))

    browser = Browser(serve({"/act": do, "/look": look}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert (await browser.get("/look")).text == "200.0"


@in_loop
async def test_a_deletion_that_failed_is_made_at_the_next_save_point() -> None:
    """L4: the record of invalidate() is deleted by a later save point if the store failed at the first."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        call.session.invalidate()
        store.fail("delete")
        with pytest.raises(StoreError):
            await call.session.save()
        await call.reply()

    browser = await live(store, do)
    thief = tab(browser)
    await browser.get("/act")
    assert (store.count("delete!"), store.count("delete"), len(store)) == (1, 1, 0)
    assert await content(thief) == {}


@in_loop
async def test_every_deletion_that_failed_is_made_later() -> None:
    """Two sessions that ended in one request are two records to delete; a failure forgets neither."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        call.session.invalidate()
        call.session["b"] = 2
        store.fail("delete", times=2)
        with pytest.raises(StoreError):
            await call.session.save()
        call.session.invalidate()
        with pytest.raises(StoreError):
            await call.session.save()
        await call.reply()

    browser = await live(store, do)
    await browser.get("/act")
    assert len(store) == 0


@in_loop
async def test_an_attribute_is_deleted_once() -> None:
    """L8: a save takes away what the request has deleted since the last, so what another tab has set since stays."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        del call.session["a"]
        await call.session.save()
        await other.get("/set?a=of+the+other+tab")
        call.session["b"] = 2
        await call.reply()

    browser = await live(store, do)
    other = tab(browser)
    await browser.get("/act")
    assert await content(browser) == {"a": "of the other tab", "b": 2}


@in_loop
async def test_a_failed_save_after_the_end_forgets_no_name(caplog: Any, monkeypatch: Any) -> None:
    """The warning names what the failed save would have covered, and what was written while it ran."""
    shorten(monkeypatch, FLUSH_PAUSES=(0,))
    store, kept = SuspendingStore(), []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    browser = await live(store, keep)
    await browser.get("/act")
    session = kept.pop()
    session["covered"] = 1
    gate = store.hold("update")
    store.fail("update", times=2)
    session.save()
    await gate.reached.wait()
    session["meanwhile"] = 2
    gate.open.set()
    del session
    for _ in range(20):  # the task that saves holds the session until it ends
        await asyncio.sleep(0)
    gc.collect()
    (record,) = events(caplog, "session.unsaved")
    assert "'covered'" in record.getMessage()
    assert "'meanwhile'" in record.getMessage()


@BOTH_STATUSES
@in_loop
async def test_a_lost_turn_keeps_nothing_of_its_changes(status: int) -> None:
    """What save() covered inside the turn is dropped with it: saved later, it would undo the turn of another."""
    clock = FakeClock()
    store = SuspendingStore(clock=clock)

    async def lose_a_turn(session: Session) -> None:
        async with session.exclusive():
            session["count"] = "of the lost turn"
            session.save()
            session["count"] = "and what came after the save()"
            clock.advance(11)  # the lease is over
            await other.get("/turn")

    async def do(call: Call) -> None:
        with pytest.raises(LeaseLost):
            await lose_a_turn(call.session)
        await call.reply(status=status)

    async def turn(call: Call) -> None:
        async with call.session.exclusive():
            call.session["count"] = "of the turn after"
        await call.reply()

    browser = await live(store, do)
    other = Browser(serve({"/turn": turn}, store=store))  # as in another process: it does not stand in our line
    other.jar = browser.jar
    await browser.get("/act")
    assert (await content(browser))["count"] == "of the turn after"


class Loaded(list):  # type: ignore[type-arg]
    """What LongerAgain decodes a list to."""


class LongerAgain:
    """A codec that encodes a value it has decoded in more bytes than the application's, as pickle may."""

    name = "longer"

    def encode(self, name: str, value: object) -> bytes:
        return json.dumps(value, indent=4 if isinstance(value, Loaded) else None).encode()

    def decode(self, name: str, data: bytes) -> object:
        value = json.loads(data)
        return Loaded(value) if isinstance(value, list) else value


@in_loop
async def test_other_bytes_of_the_same_value_are_no_change() -> None:
    """With a codec that is not stable, an encoding of another length is compared by what it means."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        call.session.setdefault("turns", [1, 2])
        if "n" in call.query:
            call.session["turns"].append(3)
        await call.reply()

    browser = Browser(serve({"/act": do}, store=store, codec=LongerAgain()))
    await browser.get("/act")
    await browser.get("/act")
    assert store.count("update") == 0
    await browser.get("/act?n=1")
    assert store.count("update") == 1
    assert (await content(browser))["turns"] == [1, 2, 3]


class Interrupted(JsonCodec):
    """Stands for another thread, which does something while a value is encoded."""

    meanwhile: Callable[[], Any] | None = None

    def encode(self, attribute: str, value: Any) -> bytes:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().encode(attribute, value)


@BOTH_STATUSES
@pytest.mark.parametrize("late", [True, False])
@in_loop
async def test_what_save_covered_does_not_come_back_after_a_logout_in_another_thread(late: bool, status: int) -> None:
    """The session is invalidated in the middle of its save: no new session begins with what the old one held."""
    store, codec = SuspendingStore(), Interrupted()

    async def do(call: Call) -> None:
        if late:
            await call.start(status)
            await call.chunk()
        call.session["turn"] = ["of the session before"]
        call.session.save()
        codec.meanwhile = call.session.invalidate
        await (call.finish() if late else call.reply(status=status))

    browser = Browser(serve({"/act": do}, store=store, codec=codec))
    await browser.get("/set?a=1")
    answer = await browser.get("/act")
    assert (answer.status, answer.error) == (status, None)
    assert await content(browser) == {}
    assert len(store) == 0


@in_loop
async def test_what_save_covered_does_not_come_back_after_a_logout_while_the_store_works() -> None:
    """Another task logs out while a save point first reloads: what was covered was of the session before."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        call.session["turn"] = "of the session before"
        call.session.reload()
        call.session.save()
        gate = store.hold("load")
        starting = asyncio.ensure_future(call.reply(status=500))
        await gate.reached.wait()
        call.session.invalidate()
        gate.open.set()
        await starting

    browser = await live(store, do)
    await browser.get("/act")
    assert await content(browser) == {}
    assert len(store) == 0


@in_loop
async def test_a_save_that_is_tried_again_takes_nothing_back() -> None:
    """Another save came between its tries: the second try saves what there is by then, not what there was."""
    store = SuspendingStore()

    async def do(call: Call) -> None:
        await call.start()
        await call.chunk()
        call.session["turn"] = "older"
        gate = store.hold("update")
        store.fail("update")
        finishing = asyncio.ensure_future(call.finish())
        await gate.reached.wait()
        call.session["turn"] = "newer"
        saving = asyncio.ensure_future(call.session.save())
        await asyncio.sleep(0)
        gate.open.set()
        await saving
        await finishing

    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch, FLUSH_PAUSES=(0,))
        browser = await live(store, do)
        await browser.get("/act")
    assert store.calls.count("update") == 1
    assert await content(browser) == {"a": "1", "turn": "newer"}
