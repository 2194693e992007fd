"""A store across a network: saves in flight, cancellation, failures, and the drain at shutdown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import anyio
import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, events, serve
from starlette.requests import Request
from starlette.responses import StreamingResponse
from stores import BrokenStoreError, SuspendingStore, shorten

from fastersession import FasterSessionMiddleware, MemoryStore, StoreError


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


@pytest.mark.parametrize("times", [1, 2, 5])
@in_loop
async def test_a_save_in_flight_survives_cancellation(times: int) -> None:
    """Cancelled in the middle of its final save, once or repeatedly, the request ends cancelled and saved."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    gate = store.hold("update")
    async with browser.open("/act") as held:
        await gate.reached.wait()
        assert held.task is not None
        for _ in range(times):
            held.task.cancel()
            await asyncio.sleep(0)
        assert not held.task.done()
        gate.open.set()
        answer = await held.ended()
    assert isinstance(answer.error, asyncio.CancelledError)
    assert await content(browser) == {"a": "1", "b": 2}


@pytest.mark.parametrize("times", [1, 2, 3])
@in_loop
async def test_a_record_whose_cookie_never_left_is_deleted_under_cancellation_too(times: int) -> None:
    """If no start comes because the request was cancelled, once or repeatedly, its early record is deleted."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.session.save()
        saved.set()
        await asyncio.Event().wait()

    store, saved = SuspendingStore(), asyncio.Event()
    async with Browser(serve({"/act": do}, store=store)).open("/act") as held:
        await saved.wait()
        await held.cancel(times)
    assert len(store) == 0


@in_loop
async def test_a_save_that_fails_under_cancellation_is_logged(caplog: Any, monkeypatch: Any) -> None:
    """A shutdown that cancels a stream does not hide that its session could not be saved."""
    shorten(monkeypatch, LATE_PAUSES=(0, 0, 0))
    store, held_at = SuspendingStore(), asyncio.Event()

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        held_at.set()
        await asyncio.Event().wait()

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    store.fail("update", times=20)
    async with browser.open("/act") as held:
        await held_at.wait()
        gate = store.hold("update")
        assert held.task is not None
        held.task.cancel()
        await gate.reached.wait()
        held.task.cancel()
        gate.open.set()
        await held.ended()
    assert [record.levelname for record in events(caplog, "session.save_failed")] == ["ERROR"]


@in_loop
async def test_a_cancel_scope_around_save_waits_for_the_save() -> None:
    """Scopes of anyio cancel again and again; the save is done when the scope is left."""

    async def do(call: Call) -> None:
        await call.start()
        gate = store.hold("update")
        call.session["b"] = 2
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(release, gate, scope)
                await call.session.save()
        assert (await content(other))["b"] == 2
        await call.finish()

    async def release(gate: Any, scope: anyio.CancelScope) -> None:
        await gate.reached.wait()
        scope.cancel()
        gate.open.set()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    other = Browser(browser.app)
    other.jar = browser.jar.copy()
    await browser.get("/act")


@in_loop
async def test_a_starlette_stream_that_the_client_leaves_is_saved() -> None:
    """Starlette cancels the scope of its stream at a disconnect; what the generator wrote is kept."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        session.setdefault("answer", "")

        async def tokens() -> Any:
            try:
                while True:
                    session["answer"] += "tick "
                    yield "tick "
                    await asyncio.sleep(0)
            finally:
                session["closed"] = True

        reading = Request(scope).url.path == "/read"
        response = StreamingResponse(iter([repr(dict(session))]) if reading else tokens())
        await response(scope, receive, send)

    store = SuspendingStore()
    secret = "a secret of the suspending store tests only"
    browser = Browser(FasterSessionMiddleware(app, secret_key=secret, secure=False, store=store))
    await browser.leave("/", after=3)
    assert "tick tick tick " in (await browser.get("/read")).text
    assert "'closed': True" in (await browser.get("/read")).text


def test_the_exceptions_of_a_driver_are_the_cause_of_ours() -> None:
    """StoreError names the kind of failure and carries the driver's exception, so that both can be handled."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        store.fail("create")
        with pytest.raises(StoreError, match="BrokenStoreError") as caught:
            await call.session.save()
        assert isinstance(caught.value.__cause__, BrokenStoreError)
        await call.reply()

    store = SuspendingStore(MemoryStore())
    browser = Browser(serve({"/act": do}, store=store))
    asyncio.run(browser.get("/act"))
    assert len(store) == 1
