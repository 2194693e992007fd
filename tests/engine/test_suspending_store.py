"""A store across a network: saves in flight, cancellation, failures, and the drain at shutdown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SuspendingStore

from fastersession import MemoryStore, StoreError
from fastersession.testing import InjectedError


async def writing_while(store: SuspendingStore, verb: str, act: Any, *, after: bool = True) -> Browser:
    """Let a live session's stream act while its own save() is in flight at a verb; then let it end."""

    async def do(call: Call) -> None:
        await call.start()
        gate = store.hold(verb, after=after)
        call.session["b"] = 2
        saving = asyncio.ensure_future(call.session.save())
        await gate.reached.wait()
        act(call.session)
        gate.open.set()
        await saving
        await call.chunk()
        await call.finish()

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    return browser


@in_loop
async def test_s1_the_store_gets_the_sha256_of_the_secret_and_never_the_secret() -> None:
    """S1: nothing that the store is asked holds the secret of a cookie; the verifier is its SHA-256."""
    store = SuspendingStore()
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    await browser.get("/login")
    raw = base64.urlsafe_b64decode(next(iter(browser.jar.values())).value)
    record_id, secret = raw[2:18], raw[18:34]
    assert any(call[:2] == ("regenerate", record_id) for call in store.arguments)
    assert hashlib.sha256(secret).digest() in repr_bytes(store.arguments)
    assert secret not in repr_bytes(store.arguments)


def repr_bytes(value: Any) -> bytes:
    if isinstance(value, dict):
        return repr_bytes(list(value.items()))
    if isinstance(value, list | tuple):
        return b"|".join(map(repr_bytes, value))
    return value if isinstance(value, bytes) else repr(value).encode()


@in_loop
async def test_saves_of_one_session_take_turns() -> None:
    """However many ask at once, one save of a session runs at a time."""

    async def do(call: Call) -> None:
        async def save(number: int) -> None:
            call.session[f"{number}"] = number
            await call.session.save()

        await call.start()
        await asyncio.gather(*map(save, range(10)))
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert store.most_at_once == 1
    assert await content(browser) == {"a": "1"} | {f"{number}": number for number in range(10)}


@pytest.mark.parametrize("after", [True, False], ids=["the store has acted", "the store has not acted"])
@in_loop
async def test_what_is_written_while_a_save_is_in_flight_is_saved_by_the_next(after: bool) -> None:
    """A save forgets only what its snapshot held: set, overwritten and deleted attributes alike."""

    def act(session: Any) -> None:
        session["b"] = 3
        session["c"] = 4
        del session["a"]

    browser = await writing_while(SuspendingStore(), "update", act, after=after)
    assert await content(browser) == {"b": 3, "c": 4}


@in_loop
async def test_an_idle_timeout_set_while_a_save_is_in_flight_is_saved_by_the_next() -> None:
    """The idle timeout is a change like any other, at any moment."""
    clock = FakeClock()

    def act(session: Any) -> None:
        session.idle_timeout = 60

    browser = await writing_while(SuspendingStore(clock=clock), "update", act)
    clock.advance(61)
    assert await content(browser) == {}


@in_loop
async def test_clear_while_a_save_is_in_flight_ends_the_session() -> None:
    """clear() with nothing written afterwards deletes the record, at any moment."""
    store = SuspendingStore()
    await writing_while(store, "update", lambda session: session.clear())
    assert len(store) == 0


@pytest.mark.parametrize("verb", ["create", "update", "regenerate"])
@pytest.mark.parametrize("after", [True, False], ids=["the store has acted", "the store has not acted"])
@in_loop
async def test_invalidate_while_a_save_is_in_flight_leaves_no_record(verb: str, after: bool) -> None:
    """A logout wins over the save it meets, and the session is empty."""
    store, seen = SuspendingStore(), []

    async def do(call: Call) -> None:
        gate = store.hold(verb, after=after)
        call.session["b"] = 2
        if verb == "regenerate":
            call.session.regenerate_id()
        starting = asyncio.ensure_future(call.start())
        await gate.reached.wait()
        call.session.invalidate()
        gate.open.set()
        await starting
        seen.append((dict(call.session), call.session.is_new))
        await call.finish()

    browser = Browser(serve({"/act": do}, store=store))
    if verb != "create":
        await browser.get("/set?a=1")
    answer = await browser.get("/act")
    assert seen == [({}, True)]
    assert len(store) == 0
    assert not any(cookie.value for cookie in answer.cookies)


@in_loop
async def test_invalidate_while_a_reload_is_in_flight_stays_a_logout() -> None:
    """No call undoes invalidate(): what the reload fetched does not come back, in no session."""
    store, seen = SuspendingStore(), []

    async def do(call: Call) -> None:
        gate = store.hold("load", after=True)
        loading = asyncio.ensure_future(call.session.reload())
        await gate.reached.wait()
        call.session.invalidate()
        call.session["fresh"] = 1
        gate.open.set()
        await loading
        seen.append(dict(call.session))
        await call.reply()

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert seen == [{"fresh": 1}]
    assert await content(browser) == {"fresh": 1}


@in_loop
async def test_a_reload_during_a_save_loses_no_foreign_change() -> None:
    """What a reload fetched while a save was in flight is not written back later over another tab's newer value."""
    store, seen = SuspendingStore(), []

    async def do(call: Call) -> None:
        await call.start()
        gate = store.hold("update", after=True)
        call.session["mine"] = 1
        saving = asyncio.ensure_future(call.session.save())
        await gate.reached.wait()
        await other.get("/set?theirs=old")
        loading = asyncio.ensure_future(call.session.reload())
        for _ in range(10):
            await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(saving, loading)
        seen.append(dict(call.session))
        await other.get("/set?theirs=new")
        call.session["mine"] = 2
        await call.finish()

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    other = Browser(browser.app)
    other.jar = browser.jar.copy()
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "mine": 2, "theirs": "new"}


def test_the_exceptions_of_a_driver_are_the_cause_of_ours() -> None:
    """StoreError names the kind of failure and carries the driver's exception, so that both can be handled."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        store.fail("create")
        with pytest.raises(StoreError, match="InjectedError") as caught:
            await call.session.save()
        assert isinstance(caught.value.__cause__, InjectedError)
        await call.reply()

    store = SuspendingStore(MemoryStore())
    browser = Browser(serve({"/act": do}, store=store))
    asyncio.run(browser.get("/act"))
    assert len(store) == 1


@in_loop
async def test_an_explicit_save_asked_for_while_another_is_in_flight_covers_what_it_saw() -> None:
    """An unawaited save() is an intent like any other: a save that began before it does not carry it out."""

    async def do(call: Call) -> None:
        call.session["b"] = 2
        gate = store.hold("update", after=True)
        saving = asyncio.ensure_future(call.session.save())
        await gate.reached.wait()
        call.session["c"] = 3
        call.session.save()
        gate.open.set()
        await saving
        await call.reply(status=500)

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    await browser.get("/act")
    assert await content(browser) == {"a": "1", "b": 2, "c": 3}
