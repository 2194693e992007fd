"""Saves that come late or fail late: what the log says of them, before the end of a request and after it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, events, serve
from stores import SuspendingStore, shorten

from fastersession import MemoryStore, Session, StoreError
from fastersession.engine import patience

ALL_TRIES = 4  # of a save after the headers


@pytest.fixture(autouse=True)
def _quick(monkeypatch: Any) -> None:
    """Try again at once."""
    shorten(monkeypatch, FLUSH_PAUSES=(0,) * (ALL_TRIES - 1))


def texts(caplog: Any, name: str) -> list[str]:
    return [record.getMessage() for record in events(caplog, name)]


async def ended(store: Any) -> tuple[Browser, Session]:
    """Return a browser and its session, whose request is over."""
    kept: list[Session] = []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    browser = Browser(serve({"/keep": keep}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/keep")
    return browser, kept.pop()


def test_the_tries_of_a_late_save_use_its_bound(monkeypatch: Any) -> None:
    """A server that is being restarted refuses at once: the last try is not over long before the bound."""
    monkeypatch.undo()
    assert patience.FLUSH_SECONDS - 1.0 <= sum(patience.FLUSH_PAUSES) < patience.FLUSH_SECONDS


# --- what session.save_failed says ---


@in_loop
async def test_a_save_that_fails_before_the_end_is_not_called_lost(caplog: Any) -> None:
    """While the request runs there is another chance, and the log says so: not saved yet."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", times=ALL_TRIES)
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    assert isinstance((await browser.get("/act", catch=True)).error, StoreError)
    (text,) = texts(caplog, "session.save_failed")
    assert "yet" in text
    assert "lost" not in text
    assert await content(browser) == {"a": "1", "b": 2}


@in_loop
async def test_a_save_that_fails_at_the_end_is_called_lost(caplog: Any) -> None:
    """At the end there is no other chance, and the log says so: lost."""

    async def do(call: Call) -> None:
        await call.start()
        await call.finish()
        call.session["b"] = 2
        store.fail("update", times=ALL_TRIES)

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    assert isinstance((await browser.get("/act", catch=True)).error, StoreError)
    (text,) = texts(caplog, "session.save_failed")
    assert "lost" in text
    assert "yet" not in text
    assert await content(browser) == {"a": "1"}


@in_loop
async def test_what_is_lost_after_a_failed_final_save_and_an_error_of_the_application_is_called_lost(
    caplog: Any,
) -> None:
    """An error of the application's hides ours, so the log alone can tell that the last try has failed too."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", times=99)
        with pytest.raises(StoreError):
            await call.finish()
        raise ZeroDivisionError

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    assert isinstance((await browser.get("/act", catch=True)).error, ZeroDivisionError)
    assert "lost" in texts(caplog, "session.save_failed")[-1]


# --- after the end ---


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_a_sync_save_after_the_end_saves_and_does_not_warn(make: Any, caplog: Any) -> None:
    """save() from sync code after the end reaches a store that suspends too, also if nobody holds the session."""
    store = make()
    browser, session = await ended(store)
    session["late"] = 1
    session.save()
    del session
    while await content(browser) != {"a": "1", "late": 1}:
        await asyncio.sleep(0)
    gc.collect()
    assert events(caplog) == []


@in_loop
async def test_a_sync_save_after_the_end_that_fails_says_what_was_lost(caplog: Any) -> None:
    """A save that could not be done takes no name from the warning."""
    store = SuspendingStore()
    browser, session = await ended(store)
    store.fail("update", times=ALL_TRIES)
    session["late"] = 1
    session.save()
    del session
    while store.count("update!") < ALL_TRIES or any(store.running.values()):
        await asyncio.sleep(0)
    assert await content(browser) == {"a": "1"}
    gc.collect()
    assert "lost" in texts(caplog, "session.save_failed")[0]
    assert "'late'" in texts(caplog, "session.unsaved")[0]


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_late_writes_note_each_name_once(make: Any, caplog: Any) -> None:
    """However often an attribute is written after the end, the warning names it once, and keeps no list of writes."""
    _, session = await ended(make())
    for number in range(1000):
        session["answer"] = number
        session.update(answer=number, other=number)
    session.pop("other")
    assert len(session._state.rare.late) == 2
    del session
    gc.collect()
    (text,) = texts(caplog, "session.unsaved")
    assert (text.count("'answer'"), text.count("'other'")) == (1, 1)


@in_loop
async def test_what_is_written_while_a_save_after_the_end_is_in_flight_is_warned_of(caplog: Any) -> None:
    """A save takes from the warning only the names that it has saved."""
    store = SuspendingStore()
    browser, session = await ended(store)
    gates = [store.hold("update", after=True) for _ in range(2)]
    session["saved"] = 1
    saving = asyncio.ensure_future(session.save())
    await gates[0].reached.wait()
    session["saved too"] = 2
    gates[0].open.set()
    await gates[1].reached.wait()  # what came meanwhile is on its way too, and this is the last save
    session["missed"] = 3
    gates[1].open.set()
    await saving
    while store.running["update"]:
        await asyncio.sleep(0)
    del session, saving
    gc.collect()
    assert await content(browser) == {"a": "1", "saved": 1, "saved too": 2}
    (text,) = texts(caplog, "session.unsaved")
    assert "'missed'" in text
    assert "'saved" not in text


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_a_write_after_an_end_without_an_answer_is_warned_of(make: Any, caplog: Any) -> None:
    """No headers have left, so the text that speaks of them would be wrong: it is a late write like others."""
    kept: list[Session] = []

    async def give_up(call: Call) -> None:
        kept.append(call.session)

    browser = Browser(serve({"/give-up": give_up}, store=make()))
    async with browser.open("/give-up") as request:
        await request.ended()
    session = kept.pop()
    session["late"] = 1
    del session, request  # the server's scope holds the session, too
    gc.collect()
    assert "'late'" in texts(caplog, "session.unsaved")[0]
