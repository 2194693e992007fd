"""When an open WebSocket is saved: as its application turns to the next message, beside it, and never at its cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from apps import SpyStore
from driver import Browser, in_loop
from quart import Quart, session, websocket
from routes import Call, Handler, content, events, serve, tab
from store_subject import EVERY, Factory
from stores import BreakableStore, SuspendingStore, shorten

from fastersession import FasterSessionMiddleware, JsonCodec, MemoryStore, SessionNotEstablished, StoreError
from fastersession.integrations.quart import FasterSessionInterface
from fastersession.testing import Socket

STORES = pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])


async def chat(call: Call) -> None:
    """Do what a message says to the session, then answer; "close" closes."""
    await call.receive()
    await call.send({"type": "websocket.accept"})
    while (message := await call.receive())["type"] == "websocket.receive":
        word, _, rest = message["text"].partition(" ")
        if word == "close":
            return await call.send({"type": "websocket.close", "code": 1000})
        DO[word](call, rest)
        await call.send({"type": "websocket.send", "text": str(dict(call.session))})
    return None


def append(call: Call, text: str) -> None:
    call.session.setdefault("history", []).append(text)


DO: dict[str, Callable[[Call, str], Any]] = {
    "set": lambda call, text: call.session.__setitem__(text, 1),
    "del": lambda call, text: call.session.pop(text),
    "append": append,
    "idle": lambda call, text: setattr(call.session, "idle_timeout", float(text)),
    "odd": lambda call, text: call.session.__setitem__(text, object()),
    "around": lambda call, text: dict.__setitem__(call.session, text, 1),
    "clear": lambda call, text: call.session.clear(),
    "logout": lambda call, text: call.session.invalidate(),
    "replace": lambda call, text: call.scope.__setitem__("session", {text: 1}),
    "look": lambda call, text: list(call.session.items()),
    "nothing": lambda call, text: None,
}


async def say(socket: Socket, text: str) -> None:
    await socket.send(text)
    assert await socket.receive() is not None


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until something holds: the test's own time limit ends it."""
    while not condition():
        await asyncio.sleep(0)


async def seen(browser: Browser, expected: dict[str, Any]) -> None:
    """Wait until another tab sees this."""
    other = tab(browser)
    async with asyncio.timeout(20):
        while await content(other) != expected:
            await asyncio.sleep(0)


async def known(store: Any, handler: Handler = chat) -> Browser:
    browser = Browser(serve({"/act": handler}, store=store))
    await browser.get("/set?a=1")
    return browser


# --- what is saved, and when ---


@pytest.mark.parametrize("kind", EVERY)
@in_loop
async def test_another_tab_sees_what_an_open_socket_has_written(factory: Factory) -> None:
    """Set, changed in place and deleted: it is there a moment after the application has turned to its next message."""
    store = factory(time.time)
    browser = await known(store)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "set b")
        await seen(browser, {"a": "1", "b": 1})
        await say(socket, "append hello")
        await say(socket, "append again")
        await seen(browser, {"a": "1", "b": 1, "history": ["hello", "again"]})
        await say(socket, "del a")
        await seen(browser, {"b": 1, "history": ["hello", "again"]})
    assert socket.answer.error is None
    await store.close()


@STORES
@in_loop
async def test_what_another_tab_writes_meanwhile_is_kept(make: Any) -> None:
    """Saves of a socket merge as all others do: an attribute that it has not touched is left alone."""
    browser = await known(make())
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "set b")
        await seen(browser, {"a": "1", "b": 1})
        await tab(browser).get("/set?a=2")
        await say(socket, "set c")
        await seen(browser, {"a": "2", "b": 1, "c": 1})
    assert await content(browser) == {"a": "2", "b": 1, "c": 1}


@STORES
@in_loop
async def test_other_save_points_rules_hold_at_a_turn(make: Any) -> None:
    """A new idle timeout and a plain dict in the session's place are saved at a turn, too; a logout is done there."""

    async def idle(call: Call) -> None:
        await call.reply(str(call.session.idle_timeout.total_seconds()))

    browser = Browser(serve({"/act": chat, "/idle": idle}, store=make()))
    await browser.get("/set?a=1")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "replace b")
        await seen(browser, {"b": 1})
        await say(socket, "idle 60")
        while (await tab(browser).get("/idle")).text != "60.0":
            await asyncio.sleep(0)
        await say(socket, "logout")
        await seen(browser, {})


@STORES
@in_loop
async def test_clear_is_a_logout_at_the_close_only(make: Any) -> None:
    """A chat that is begun anew goes on in its session; with nothing written afterwards the close ends it."""
    store = make()
    browser = await known(store)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "clear")
        await say(socket, "set b")
        await seen(browser, {"b": 1})
        await say(socket, "clear")
        await say(socket, "nothing")
    assert socket.answer.error is None
    assert len(store) == 0


@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_a_socket_that_changes_nothing_asks_no_store(live: bool) -> None:
    """However many messages it takes, and whatever it reads."""
    store = SpyStore(live=live)
    browser = await known(store)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        store.calls.clear()
        for _ in range(50):
            await say(socket, "nothing")
            await say(socket, "look")
        assert store.calls == []


# --- beside the application ---


@in_loop
async def test_no_message_waits_for_the_store_and_one_save_runs_at_a_time() -> None:
    """While one save hangs the chat goes on; what it changes meanwhile is saved by the next, all at once."""
    browser = await known(store := SuspendingStore())
    gate = store.hold("update")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "set b")
        await gate.reached.wait()
        tasks = len(asyncio.all_tasks())
        for name in "cdef":
            await say(socket, f"set {name}")
        assert store.running["update"] == 1
        assert len(asyncio.all_tasks()) == tasks  # none waits for its turn
        gate.open.set()
        await seen(browser, {"a": "1", **dict.fromkeys("bcdef", 1)})
    assert store.count("update") == 2
    assert store.most_at_once == 1


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_a_cancelled_receive_loses_nothing(make: Any) -> None:
    """A receive() that is given up, as one with a time limit is, has begun a save that goes on."""

    async def impatient(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        call.session["b"] = 2
        waiting = asyncio.ensure_future(call.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await given_up.wait()

    given_up = asyncio.Event()
    browser = await known(make(), impatient)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await seen(browser, {"a": "1", "b": 2})
        given_up.set()
        assert (await socket.ended()).error is None


@STORES
@in_loop
async def test_a_reader_that_always_waits_is_saved_after_a_message_was_sent(make: Any, monkeypatch: Any) -> None:
    """Where one task reads and another writes there is no turn: what has changed is saved a while after a message."""
    shorten(monkeypatch, AFTER_SEND=0.0)

    async def two_tasks(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        reading = asyncio.ensure_future(call.receive())
        await asyncio.sleep(0)
        for name in "bc":
            await call.send({"type": "websocket.send", "text": name})
            call.session[name] = 2  # after the message: the save comes later still
            await going_on.wait()
            going_on.clear()
        await reading

    going_on = asyncio.Event()
    browser = await known(make(), two_tasks)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await seen(browser, {"a": "1", "b": 2})
        going_on.set()
        await seen(browser, {"a": "1", "b": 2, "c": 2})
        going_on.set()


@in_loop
async def test_every_message_of_a_writer_task_has_its_save(monkeypatch: Any) -> None:
    """What is written after the last of several messages, while a save of the first is at work, is saved as well."""
    shorten(monkeypatch, AFTER_SEND=0.05)

    async def two_tasks(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        reading = asyncio.ensure_future(call.receive())
        await asyncio.sleep(0)
        call.session["b"] = 2
        for _ in range(2):
            await call.send({"type": "websocket.send", "text": "said"})
        await gate.reached.wait()
        call.session["c"] = 2
        gate.open.set()
        await reading

    browser = await known(store := SuspendingStore(), two_tasks)
    gate = store.hold("update")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await seen(browser, {"a": "1", "b": 2, "c": 2})


@STORES
@in_loop
async def test_what_stands_in_the_session_s_place_is_looked_at_after_a_message(make: Any) -> None:
    """An application that puts a dict there, and touches no session, is saved at its turn once it has answered."""

    async def replacing(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        await call.receive()
        call.scope["session"] = {"b": 2}
        await call.send({"type": "websocket.send", "text": "done"})
        await call.receive()

    browser = await known(make(), replacing)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "replace it")
        await seen(browser, {"b": 2})


@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_without_such_a_reader_nothing_is_saved_between_two_turns(live: bool, monkeypatch: Any) -> None:
    """An answer in many messages is saved once, when the application asks for the next question."""
    shorten(monkeypatch, AFTER_SEND=0.0)

    async def answer(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        await call.receive()
        for number in range(50):
            call.session["answer"] = number
            await call.send({"type": "websocket.send", "text": str(number)})
            await asyncio.sleep(0)
        assert "update" not in store.calls
        await call.receive()

    browser = await known(store := SpyStore(live=live), answer)
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await socket.send("question")
        while await socket.receive() != "49":
            pass
        await seen(browser, {"a": "1", "answer": 49})
    assert store.calls.count("update") == 1
    assert socket.answer.error is None


# --- what it costs ---


class CostlyCodec(JsonCodec):
    """JSON whose every encoding takes a while by a clock that otherwise stands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.seconds, self.now, self.encoded = seconds, 0.0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def encode(self, attribute: str, value: Any) -> bytes:
        self.encoded += 1
        self.now += self.seconds
        return super().encode(attribute, value)


@in_loop
async def test_a_costly_comparison_is_not_repeated_soon(monkeypatch: Any) -> None:
    """Beside a long history a comparison may take a while: after one that took t there is none for 10 t."""
    codec = CostlyCodec(monkeypatch, 1.0)
    browser = Browser(serve({"/act": chat}, store=SuspendingStore(), codec=codec))
    await browser.get("/set?a=1")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "append hello")
        await say(socket, "nothing")
        before, begun = codec.encoded, codec.now
        for _ in range(50):
            await say(socket, "append more")
        assert codec.encoded == before
        codec.now = begun + 9
        await say(socket, "nothing")
        assert codec.encoded == before
        codec.now = begun + 100
        await say(socket, "nothing")
        await socket.send("nothing")
        await until(lambda: codec.encoded > before)


@in_loop
async def test_what_a_comparison_was_too_costly_for_is_saved_a_little_later(monkeypatch: Any) -> None:
    """A turn that comes too soon is made up for, without a message more."""
    codec = CostlyCodec(monkeypatch, 1e-6)
    store = SuspendingStore()
    browser = Browser(serve({"/act": chat}, store=store, codec=codec))
    await browser.get("/set?a=1")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "append hello")
        await until(lambda: store.count("update") == 1)
        await say(socket, "append more")
        await socket.send("nothing")
        assert await socket.receive() is not None
        assert store.count("update") == 1
        codec.now += 1
        await until(lambda: store.count("update") == 2)


# --- a store that fails ---


@pytest.mark.parametrize("make", [BreakableStore, SuspendingStore])
@in_loop
async def test_a_failed_save_is_logged_and_tried_at_the_next_turn(make: Any, caplog: Any) -> None:
    """One try a turn, and one line in the log until a save succeeds; then nothing is left to be told at the close."""
    browser = await known(store := make())
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        store.fail("update", times=2)
        await say(socket, "set b")
        await until(lambda: len(events(caplog, "session.save_failed")) == 1)
        await say(socket, "set c")
        await until(lambda: not getattr(store, "failing", 0) and store.calls.count("update!") in (0, 2))
        await say(socket, "set d")
        await seen(browser, {"a": "1", "b": 1, "c": 1, "d": 1})
        assert len(events(caplog, "session.save_failed")) == 1
        store.fail("update")
        await say(socket, "set e")
        await until(lambda: len(events(caplog, "session.save_failed")) == 2)
        await say(socket, "set f")
        await seen(browser, {"a": "1", **dict.fromkeys("bcdef", 1)})
        await socket.send("close")
        answer = await socket.ended()
    assert (answer.messages[-1]["code"], answer.error) == (1000, None)
    records = events(caplog, "session.save_failed")
    assert [record.levelname for record in records] == ["ERROR"] * 2
    assert all("yet" in record.getMessage() for record in records)


@pytest.mark.parametrize("make", [BreakableStore, SuspendingStore])
@in_loop
async def test_what_still_fails_is_told_at_the_close(make: Any, monkeypatch: Any) -> None:
    """The close tries as a last chunk does; what it cannot save either is told: 1011, and an error of the call."""
    shorten(monkeypatch, FLUSH_PAUSES=(0,))
    browser = await known(store := make())
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        store.fail("update", times=999)
        await say(socket, "set b")
        await socket.send("close")
        answer = await socket.ended()
    assert answer.messages[-1]["code"] == 1011
    assert isinstance(answer.error, StoreError)


@in_loop
async def test_what_cannot_be_stored_is_logged_by_name_and_told_at_the_close(caplog: Any) -> None:
    """An attribute that the codec refuses disturbs no turn; the others are kept."""
    browser = await known(SuspendingStore())
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "odd thing")
        await say(socket, "set b")
        await seen(browser, {"a": "1", "b": 1})
        await socket.send("close")
        answer = await socket.ended()
    assert isinstance(answer.error, TypeError)
    assert answer.messages[-1]["code"] == 1011
    assert ["'thing'" in record.getMessage() for record in events(caplog, "session.save_failed")] == [True]


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_what_no_cookie_can_lead_to_is_told_at_the_close(make: Any) -> None:
    """A refusal that only a turn has met was heard by nobody."""
    browser = Browser(serve({"/act": chat}, store=make()))
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "around check")
        await say(socket, "look")
        await say(socket, "look")
        await socket.send("close")
        answer = await socket.ended()
    assert isinstance(answer.error, SessionNotEstablished)


@in_loop
async def test_a_socket_that_ends_in_a_save_waits_for_it() -> None:
    """The close leaves when the save that was at work, and its own, are done."""
    browser = await known(store := SuspendingStore())
    gate = store.hold("update")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "set b")
        await gate.reached.wait()
        await socket.send("close")
        for _ in range(20):
            await asyncio.sleep(0)
        assert socket.answer.messages[-1]["type"] == "websocket.send"
        gate.open.set()
        answer = await socket.ended()
    assert answer.messages[-1]["code"] == 1000
    assert await content(browser) == {"a": "1", "b": 1}


@in_loop
async def test_the_drain_waits_for_such_a_save() -> None:
    """At the shutdown a save beside the application is one in flight like others."""
    browser = await known(store := SuspendingStore())
    gate = store.hold("update")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await say(socket, "set b")
        await gate.reached.wait()
        draining = asyncio.ensure_future(browser.app._engine.runs.drain())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not draining.done()
        gate.open.set()
        await draining
        assert await content(tab(browser)) == {"a": "1", "b": 1}


@STORES
@in_loop
async def test_quart_which_reads_ahead_is_saved_too(make: Any, monkeypatch: Any) -> None:
    """Quart has a task that waits for the next message before the view has answered the last."""
    shorten(monkeypatch, AFTER_SEND=0.0)
    app = Quart(__name__)
    app.session_interface = FasterSessionInterface()

    @app.websocket("/act")
    async def act() -> None:
        await websocket.accept()
        while True:
            session["heard"] = await websocket.receive()
            await websocket.send("heard")

    @app.get("/set")
    async def begin() -> str:
        session["a"] = "1"
        return ""

    @app.get("/")
    async def show() -> dict[str, Any]:
        return {**session}

    secret = "a secret of the tests of open sockets, and of nothing else"
    app.asgi_app = FasterSessionMiddleware(app.asgi_app, secret_key=secret, secure=False, store=make())
    browser = Browser(app)
    await browser.get("/set")
    async with browser.websocket("/act") as socket:
        await socket.accepted()
        await socket.send("hello")
        assert await socket.receive() == "heard"
        await seen(browser, {"a": "1", "heard": "hello"})


@STORES
@in_loop
async def test_a_timer_that_outlasts_its_socket_saves_nothing(make: Any, monkeypatch: Any, caplog: Any) -> None:
    """What is written after the end is warned of and lost, on a WebSocket too, whatever was still to come there."""
    shorten(monkeypatch, AFTER_SEND=0.0)

    async def two_tasks(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        reading = asyncio.ensure_future(call.receive())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(late, call.session, asyncio.current_task())
        await call.send({"type": "websocket.send", "text": "said"})
        reading.cancel()

    def late(session: Any, task: Any) -> None:
        if task.done():
            session["b"] = 2
            written.set()
        else:
            asyncio.get_running_loop().call_soon(late, session, task)

    written = asyncio.Event()
    browser = await known(make(), two_tasks)
    async with browser.websocket("/act") as socket:
        await socket.ended()
    await written.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert await content(tab(browser)) == {"a": "1"}


def test_a_loop_that_ends_in_the_middle_of_a_save_says_nothing() -> None:
    """All tasks are cancelled then, the save too: that is no failure of its."""
    said: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        browser = await known(store := SuspendingStore())
        gate = store.hold("update")
        socket = await browser.websocket("/act").__aenter__()
        await say(socket, "set b")
        await gate.reached.wait()

    asyncio.run(main())
    assert said == []
