"""A store that fails or hangs, before the start, after it, and at shutdown; and who keeps it busy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from apps import SpyStore, wrap
from driver import Browser, in_loop
from routes import Call, content, events, live, serve
from stores import BreakableStore, SuspendingStore

from fastersession import HeadersSent, StoreError
from fastersession.engine.plan import Point
from fastersession.session import state_of

FAULTS = pytest.mark.parametrize("fault", ["raise", "hang", "lose"])


pytestmark = pytest.mark.usefixtures("quick")


@FAULTS
@in_loop
async def test_s10_a_store_that_cannot_load_is_a_clean_503(fault: str) -> None:
    """S10: without the store no answer, no cookie touched, nothing deleted; the app is not run."""
    ran: list[bool] = []

    async def do(call: Call) -> None:
        ran.append(True)
        await call.reply()

    store = SuspendingStore()
    browser = await live(store, do)
    store.fail("load", fault)
    answer = await browser.get("/act")
    assert (answer.status, answer.cookies, answer.header("retry-after") is not None) == (503, [], True)
    assert answer.header("cache-control") == b"no-store"
    assert (ran, len(store)) == ([], 1)
    assert await content(browser) == {"a": "1"}


@FAULTS
@pytest.mark.parametrize("verb", ["create", "update", "regenerate", "delete"])
@in_loop
async def test_a_store_that_fails_at_the_start_is_a_clean_503(verb: str, fault: str) -> None:
    """The app's start becomes a 503 without a cookie; the app gets StoreError, what it sends later is dropped."""
    errors: list[type[BaseException]] = []

    async def do(call: Call) -> None:
        if verb == "delete":
            call.session.invalidate()
        else:
            call.session["b"] = 2
        if verb == "regenerate":
            call.session.regenerate_id()
        try:
            await call.start(201)
        except StoreError as error:
            errors.append(type(error))
            await call.start(500)
            await call.chunk("my own error page")
            await call.finish()
            raise

    store = SuspendingStore()
    browser = await live(store, do)
    if verb == "create":
        browser.jar.clear()
    store.fail(verb, fault)
    answer = await browser.get("/act")
    assert [message.get("status") for message in answer.messages] == [503, None]
    assert b"my own" not in answer.body
    assert answer.cookies == []
    assert answer.header("retry-after") is not None
    assert errors == [StoreError]


class WordyStore(BreakableStore):
    """A store in this process that says itself what is wrong with it."""

    def note(self, verb: str, *arguments: Any) -> None:
        super().note(verb, *arguments)
        if verb != "load":
            raise StoreError("no room left")


@pytest.mark.parametrize("verb", ["create", "update"])
@in_loop
async def test_a_live_store_s_own_words_reach_the_log(verb: str, caplog: Any) -> None:
    """A store that raises a StoreError knows best what to say: its text is kept."""
    store = WordyStore()
    browser = Browser(serve(store=store))
    if verb == "update":
        browser.jar = (await live(store.inner)).jar
    answer = await browser.get("/set?b=1")
    assert answer.status == 503
    (record,) = events(caplog, "store.unavailable")
    assert "no room left" in record.getMessage()
    assert store.calls[-1] == verb


@pytest.mark.parametrize("kind", ["http.response", "websocket.http.response"])
@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_s10_an_answer_that_was_replaced_is_whole(live: bool, kind: str) -> None:
    """S10: what the application goes on to send of its own answer, chunks too, does not follow the 503 in its place."""

    async def answer_all_the_same(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        scope["session"]["a"] = 1
        with pytest.raises(StoreError):
            await send({"type": f"{kind}.start", "status": 401, "headers": []})
        await send({"type": f"{kind}.body", "body": b"no ", "more_body": True})
        await send({"type": f"{kind}.body", "body": b"entry"})

    store = SpyStore(live=live)
    store.broken = {"create"}
    browser = Browser(wrap(answer_all_the_same, store=store))
    if kind == "http.response":
        answer = await browser.get("/")
    else:
        async with browser.websocket("/", extensions={kind: {}}) as socket:
            answer = await socket.ended()
    assert [message["type"] for message in answer.messages] == [f"{kind}.start", f"{kind}.body"]
    assert answer.status == 503


@FAULTS
@pytest.mark.parametrize("verb", ["save", "reload", "exclusive"])
@in_loop
async def test_an_awaited_verb_that_fails_before_the_start_is_a_clean_503(verb: str, fault: str, caplog: Any) -> None:
    """If the application lets the error pass, the answer is that of a failed start; what `save()` covers is kept."""

    async def do(call: Call) -> None:
        call.session["b"] = 2
        store.fail("load" if verb == "reload" else "update", fault)
        if verb == "exclusive":
            async with call.session.exclusive():
                raise AssertionError("nobody is let in")
        await getattr(call.session, verb)()

    store = SuspendingStore()
    browser = await live(store, do)
    answer = await browser.get("/act")
    assert (answer.status, answer.cookies, answer.header("retry-after") is not None) == (503, [], True)
    assert [record.getMessage().partition(":")[0] for record in events(caplog)] == ["no session was saved"]
    kept = verb == "save" or (verb == "exclusive" and fault == "lose")
    assert await content(browser) == ({"a": "1", "b": 2} if kept else {"a": "1"})


@pytest.mark.parametrize(("other", "status"), [(None, 503), (KeyError("the application's own"), None)])
@in_loop
async def test_a_verb_that_fails_in_a_task_group_is_the_same_503(other: Exception | None, status: int | None) -> None:
    """Streaming applications await in a task group, which hands on what fails as a group, in another one or not."""

    async def do(call: Call) -> None:
        call.session["b"] = 2
        store.fail("update", "raise")
        async with asyncio.TaskGroup() as outer:
            if other is not None:
                outer.create_task(fail(other))
            async with asyncio.TaskGroup():
                await call.session.save()

    async def fail(error: Exception) -> None:
        raise error

    store = SuspendingStore()
    browser = await live(store, do)
    if status is None:
        with pytest.raises(ExceptionGroup):
            await browser.get("/act")
    else:
        answer = await browser.get("/act")
        assert (answer.status, answer.header("retry-after") is not None) == (status, True)


@FAULTS
@in_loop
async def test_what_the_client_was_told_has_failed_is_not_saved_afterwards(fault: str) -> None:
    """After our own 503 the changes are discarded like after the app's, even if the app survives the error."""

    async def do(call: Call) -> None:
        call.session["b"] = 2
        with pytest.raises(StoreError):
            await call.start()
        call.session["c"] = 3

    store = SuspendingStore()
    browser = await live(store, do)
    store.fail("update", fault)
    assert (await browser.get("/act")).status == 503
    assert "c" not in await content(browser)
    assert fault == "lose" or "b" not in await content(browser)


@FAULTS
@in_loop
async def test_a_late_save_is_tried_again(fault: str) -> None:
    """A save after the headers survives a store that comes back in time."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", fault, times=1 if fault == "hang" else 2)  # two that hang would use up nearly all the time
        await call.finish()

    store = SuspendingStore()
    browser = await live(store, do)
    assert (await browser.get("/act")).status == 200
    assert await content(browser) == {"a": "1", "b": 2}


@pytest.mark.parametrize("fault", ["raise", "hang"])
@in_loop
async def test_a_late_save_that_fails_is_logged_and_raised_with_the_id(fault: str, caplog: Any) -> None:
    """When the retries are used up: an ERROR record with the public id, then StoreError from the app call."""
    ids: list[str] = []

    async def do(call: Call) -> None:
        ids.append(call.session.id)
        await call.start()
        call.session["b"] = "a value"
        store.fail("update", fault, times=99)
        await call.finish()

    store = SuspendingStore()
    answer = await (await live(store, do)).get("/act", catch=True)
    assert isinstance(answer.error, StoreError)
    records = [*events(caplog, "session.save_failed"), *events(caplog, "answer.withheld")]
    assert [(record.levelname, record.session_id) for record in records] == [("ERROR", ids[0])] * 3
    assert "a value" not in caplog.text


@in_loop
async def test_an_application_error_is_not_replaced_by_ours() -> None:
    """If the app raised, its error arrives, whatever the store did to the last save."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["b"] = 2
        store.fail("update", times=99)
        raise ZeroDivisionError

    store = SuspendingStore()
    answer = await (await live(store, do)).get("/act", catch=True)
    assert isinstance(answer.error, ZeroDivisionError)


@in_loop
async def test_a_regeneration_asked_for_while_the_start_is_being_saved_is_done_or_refused() -> None:
    """Between the start's decision and its departure regenerate_id() takes effect, or raises; it is never ignored."""
    refused: list[bool] = []

    async def do(call: Call) -> None:
        gate = store.hold("update", after=True)
        call.session["b"] = 2
        starting = asyncio.ensure_future(call.start())
        await gate.reached.wait()
        try:
            call.session.regenerate_id()
        except HeadersSent:
            refused.append(True)
        gate.open.set()
        await starting
        await call.finish()

    store = SuspendingStore()
    browser = await live(store, do)
    answer = await browser.get("/act")
    assert refused == [True] or len(answer.cookies) == 1


@in_loop
async def test_what_is_written_after_a_failed_final_save_has_its_own_chance() -> None:
    """The end is a save point too: if the store is back by then, what the application wrote as it ended is kept."""

    async def do(call: Call) -> None:
        await call.start()
        call.session["answer"] = 1
        store.fail("update", times=4)  # all tries of the final save
        try:
            await call.finish()
        finally:
            call.session["cleaned up"] = 2

    store = SuspendingStore()
    browser = await live(store, do)
    assert isinstance((await browser.get("/act", catch=True)).error, StoreError)
    assert await content(browser) == {"a": "1", "answer": 1, "cleaned up": 2}


@in_loop
async def test_a_save_that_is_tried_again_after_an_error_status_keeps_no_attributes() -> None:
    """What was prepared before the start is decided anew: an answer that failed saves nothing by itself."""

    async def do(call: Call) -> None:
        session, state, saver = call.session, state_of(call.session), browser.app._engine.saver
        session["b"] = 2
        tries = saver.prepare(session, state, Point.NOW, discard=False)
        assert tries
        await call.start(500)
        await saver.commit(session, state, Point.NOW, tries=tries)
        await call.finish()

    browser: Any = await live(SuspendingStore(), do)
    await browser.get("/act")
    assert await content(browser) == {"a": "1"}
