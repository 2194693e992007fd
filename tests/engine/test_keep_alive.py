"""What keeps the session of a long request or a busy WebSocket alive on a store across a network, and what does not."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SpyStore, SuspendingStore

IDLE = 1.0  # seconds of the leaping loop: below the driver's deadline, and no time at all in truth
LONG = 5.0


class LeapingLoop(asyncio.SelectorEventLoop):
    """Waits for no timer: whenever nothing else is to do, its clock leaps to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def leap(timeout: float | None = None) -> Any:
            self.passed += timeout or 0
            return select(0 if timeout else timeout)

        self._selector.select = leap  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.passed


def in_leaps(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in a loop of its own whose time is the store's, and passes at once."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=LeapingLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def make(kind: type[SpyStore] = SuspendingStore) -> Any:
    return kind(clock=asyncio.get_running_loop().time)


async def silent(call: Call) -> None:
    """Start, say nothing for longer than a session may idle, and write the answer."""
    call.session["question"] = "q"
    await call.start()
    await asyncio.sleep(LONG)
    call.session["answer"] = "a"
    await call.finish()


@pytest.mark.parametrize("new", [True, False], ids=["created in this request", "loaded"])
@in_leaps
async def test_a_long_silent_stream_keeps_its_session(new: bool) -> None:
    """Whether it was created in this request or loaded: touched every tenth of the idle timeout, from its record on."""
    store = make()
    browser = Browser(serve({"/silent": silent}, store=store, idle_timeout=IDLE))
    if not new:
        await browser.get("/set?question=")
    await browser.get("/silent")
    assert 45 <= store.count("touch") <= 51
    assert await content(browser) == {"question": "q", "answer": "a"}


@in_leaps
async def test_a_session_saved_before_a_long_silence_is_kept() -> None:
    """From an early save() on there is a record, and it does not idle out before the start has sent its cookie."""

    async def do(call: Call) -> None:
        call.session["question"] = "q"
        await call.session.save()
        await asyncio.sleep(LONG)
        await call.reply()

    browser = Browser(serve({"/act": do}, store=make(), idle_timeout=IDLE))
    await browser.get("/act")
    assert await content(browser) == {"question": "q"}


@pytest.mark.parametrize("when", ["before the start", "in the stream", "with a regeneration"])
@in_leaps
async def test_a_shortened_idle_timeout_sets_the_keeper_anew(when: str) -> None:
    """The touches keep pace with the idle timeout that the request itself has set."""

    async def do(call: Call) -> None:
        if when != "in the stream":
            call.session.idle_timeout = IDLE
        if when == "with a regeneration":
            call.session.regenerate_id()
        await call.start()
        if when == "in the stream":
            call.session.idle_timeout = IDLE
            await call.session.save()
        await asyncio.sleep(LONG)
        call.session["answer"] = "a"
        await call.finish()

    browser = Browser(serve({"/act": do}, store=make(), idle_timeout=1000 * IDLE))
    await browser.get("/set?question=q")
    await browser.get("/act")
    assert await content(browser) == {"question": "q", "answer": "a"}


@pytest.mark.parametrize("new", [True, False], ids=["created in this request", "loaded"])
@in_leaps
async def test_a_silent_websocket_is_not_touched(new: bool) -> None:
    """An open socket is no access: without traffic its session idles out, whoever created it."""

    async def chat(call: Call) -> None:
        call.session.setdefault("a", 1)
        call.session.idle_timeout = IDLE
        await call.send({"type": "websocket.accept"})
        await asyncio.sleep(LONG)
        seen.append((store.count("touch"), await store.inner.load(bytes.fromhex(call.session.id))))

    store, seen = make(), []
    browser = Browser(serve({"/chat": chat}, store=store, idle_timeout=IDLE))
    if not new:
        await browser.get("/set?a=1")
    async with browser.websocket("/chat") as socket:
        await socket.ended()
    assert seen == [(0, None)]
    assert await content(browser) == {}


@pytest.mark.parametrize("kind", [SpyStore, SuspendingStore])
@in_leaps
async def test_nothing_is_touched_after_the_end(kind: type[SpyStore]) -> None:
    """With its request the keeper ends too, of whichever record it was."""

    async def do(call: Call) -> None:
        call.session["a"] = 1
        await call.session.save()
        call.session.invalidate()
        call.session["b"] = 1
        await call.session.save()
        call.session.idle_timeout = IDLE / 2
        await call.reply()

    store = make(kind)
    browser = Browser(serve({"/act": do}, store=store, idle_timeout=IDLE))
    await browser.get("/act")
    before = store.count("touch")
    await asyncio.sleep(LONG)
    assert (before, store.count("touch")) == (0, 0)
    assert await content(browser) == {}


# --- the traffic of a WebSocket ---

HOUR = 3600.0


class BreakableStore(SpyStore):
    """A store in this process whose next touch fails when told."""

    failing = False

    def fail(self, verb: str, fault: str) -> None:
        self.failing = True

    def note(self, verb: str, *arguments: Any) -> None:
        if self.failing and verb == "touch":
            self.failing = False
            self.calls.append("touch!")
            raise OSError("no")
        super().note(verb, *arguments)


async def echo(call: Call) -> None:
    await call.send({"type": "websocket.accept"})
    await call.receive()
    while (await call.receive())["type"] == "websocket.receive":
        await call.send({"type": "websocket.send", "text": "echo"})


@pytest.mark.parametrize("fault", ["raise", "hang", "live"])
@pytest.mark.parametrize("direction", ["in", "out"])
@in_loop
async def test_a_failing_touch_is_attempted_once_per_tenth_and_delays_nothing(direction: str, fault: str) -> None:
    """Messages that pass while the store fails or hangs are one attempt together, and none of them waits for it."""
    orders: asyncio.Queue[bool] = asyncio.Queue()

    async def push(call: Call) -> None:
        await call.send({"type": "websocket.accept"})
        while await orders.get():
            await call.send({"type": "websocket.send", "text": "pushed"})

    clock = FakeClock()
    store: Any = (BreakableStore if fault == "live" else SuspendingStore)(clock=clock)
    browser = Browser(serve({"/in": echo, "/out": push}, store=store, idle_timeout=10 * HOUR))
    await browser.get("/set?a=1")
    async with browser.websocket(f"/{direction}") as socket:
        await socket.accepted()
        for tenth in range(1, 4):
            clock.advance(HOUR)
            store.fail("touch", fault)
            for _ in range(10):
                await (socket.send("x") if direction == "in" else orders.put(True))
                assert await socket.receive() in ("echo", "pushed")
            while store.count("touch!") < tenth:  # in a task of its own, which no message waits for
                await asyncio.sleep(0)
            assert (store.count("touch!"), store.count("touch")) == (tenth, 0)
            if fault == "hang":
                assert store.running["touch"] == tenth  # all have passed, and it hangs still
        await orders.put(False)
    assert socket.answer.error is None
    assert store.count("touch") == 1  # by the last save point
    assert await content(browser) == {"a": "1"}


@in_loop
async def test_traffic_is_noted_again_when_the_next_tenth_has_come() -> None:
    """A socket that has failed to touch once tries again a tenth later, and its session lives on."""
    clock = FakeClock()
    store = SuspendingStore(clock=clock)
    browser = Browser(serve({"/echo": echo}, store=store, idle_timeout=10 * HOUR))
    await browser.get("/set?a=1")
    async with browser.websocket("/echo") as socket:
        await socket.accepted()
        store.fail("touch")
        for attempts in range(1, 13):
            clock.advance(HOUR)
            for _ in range(3):
                await socket.send("x")
                assert await socket.receive() == "echo"
            while store.count("touch!") + store.count("touch") < attempts or store.running["touch"]:
                await asyncio.sleep(0)
            assert (store.count("touch!"), store.count("touch")) == (1, attempts - 1)
    assert await content(browser) == {"a": "1"}


@in_leaps
async def test_long_requests_with_different_idle_timeouts_are_each_touched_in_their_time() -> None:
    """One timer serves them all, the hasty and the slow, and goes on when one of them has ended."""

    async def wait(call: Call) -> None:
        call.session.idle_timeout = 4 * IDLE if "slow" in call.session else IDLE
        await call.session.save()
        await call.start()
        await asyncio.sleep(LONG if "slow" in call.session else LONG / 2)
        await call.finish()

    store = make()
    app = serve({"/wait": wait}, store=store, idle_timeout=1000 * IDLE)
    hasty, slow = Browser(app), Browser(app)
    await hasty.get("/set?hasty=1")
    await slow.get("/set?slow=1")
    await asyncio.gather(hasty.get("/wait"), slow.get("/wait"))
    assert 22 + 11 <= store.count("touch") <= 26 + 13
    assert await content(slow) == {"slow": "1"}
    assert await content(hasty) == {}
