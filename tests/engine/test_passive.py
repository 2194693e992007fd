"""Passive requests: they use the session, and are no access to it. On every store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, Handler, content, events, serve, tab
from store_subject import EVERY, Factory, opened
from stores import SpyStore, SuspendingStore

from fastersession import MemoryStore

IDLE = 100.0
SILENT = {"header_name": "X-Silent", "header_value": "yes"}
ANY = {"header_name": "x-poll", "header_value": "*"}
PASSIVE = ["/poll", "/poll/*", SILENT, ANY]
ON_EVERY_STORE = pytest.mark.parametrize("kind", EVERY)
ON_TWO_STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore])


async def look(call: Call) -> None:
    await call.reply(str(call.session.last_accessed_at.timestamp() if call.session else None))


async def write(call: Call) -> None:
    call.session.update(call.query)
    await call.reply()


async def write_later(call: Call) -> None:
    """Save at each kind of save point: the start, an awaited save, a turn, and the last chunk."""
    call.session["start"] = 1
    await call.start()
    call.session["awaited"] = 1
    await call.session.save()
    async with call.session.exclusive():
        call.session["turn"] = 1
    await call.chunk()
    call.session["last"] = 1
    await call.finish()


async def shorten_idle(call: Call) -> None:
    call.session.idle_timeout = IDLE / 2
    await call.reply()


async def regenerate(call: Call) -> None:
    call.session.regenerate_id()
    await call.reply()


HANDLERS: dict[str, Handler] = {
    "/look": look, "/poll": look, "/poll/write": write, "/poll/later": write_later, "/poll/idle": shorten_idle,
    "/poll/regenerate": regenerate,
}  # fmt: skip


def application(store: Any, handlers: dict[str, Handler] | None = None, **options: Any) -> Any:
    return serve({**HANDLERS, **(handlers or {})}, store=store, **{"idle_timeout": IDLE, "passive": PASSIVE, **options})


async def accessed(browser: Browser) -> float | None:
    """Return when the session was accessed last, by a passive request; ``None`` if there is none any more."""
    said = (await browser.get("/poll")).text
    return None if said == "None" else float(said)


@ON_EVERY_STORE
@in_loop
async def test_polls_keep_no_session_alive(kind: str, factory: Factory) -> None:
    """However often a page polls, its session idles out; a request that is not passive is an access, as ever."""
    async with opened(factory) as subject:
        browser = Browser(application(subject.store))
        await browser.get("/set?a=1")
        begun = subject.clock()
        for _ in range(3):
            subject.clock.advance(30)
            assert await accessed(browser) == begun
        assert float((await browser.get("/look")).text) == begun
        for _ in range(3):
            subject.clock.advance(30)
            assert await accessed(browser) == begun + 90
        subject.clock.advance(11)
        assert await accessed(browser) is None
        assert await content(browser) == {}


@ON_EVERY_STORE
@pytest.mark.parametrize("path", ["/poll/write?b=2", "/poll/later"])
@in_loop
async def test_a_poll_may_write(path: str, kind: str, factory: Factory) -> None:
    """What it writes is saved, at each save point; the session idles out when it would have without it."""
    async with opened(factory) as subject:
        browser = Browser(application(subject.store))
        await browser.get("/set?a=1")
        begun = subject.clock()
        for _ in range(3):
            subject.clock.advance(30)
            await browser.get(path)
            assert await accessed(browser) == begun
        written = {"b": "2"} if "write" in path else dict.fromkeys(("start", "awaited", "turn", "last"), 1)
        assert await content(browser) == {"a": "1", **written}
        subject.clock.advance(IDLE + 1)
        await browser.get(path)
        assert await content(tab(browser)) == written


@ON_EVERY_STORE
@in_loop
async def test_what_else_a_poll_may_do(kind: str, factory: Factory) -> None:
    """Its idle timeout is saved and counts from the last access; a new secret is the user's doing, and is an access."""
    async with opened(factory) as subject:
        browser = Browser(application(subject.store))
        await browser.get("/set?a=1")
        begun = subject.clock()
        subject.clock.advance(30)
        await browser.get("/poll/idle")
        assert await accessed(browser) == begun
        await browser.get("/poll/regenerate")
        assert await accessed(browser) == begun + 30
        subject.clock.advance(IDLE / 2 + 1)
        assert await accessed(browser) is None


async def held_open(call: Call) -> None:
    """Stand at the second chunk until it is asked for, and write then."""
    await call.start()
    await call.chunk()
    await call.chunk()
    call.session["late"] = 1
    await call.finish()


@ON_EVERY_STORE
@pytest.mark.parametrize("beside", [False, True])
@in_loop
async def test_a_passive_stream_idles_out(beside: bool, kind: str, factory: Factory) -> None:
    """It keeps nothing alive by running; with a request beside it that is no poll, the session lives on."""
    async with opened(factory) as subject:
        app = application(subject.store, {"/poll/stream": held_open, "/stream": held_open})
        browser = Browser(app)
        await browser.get("/set?a=1")
        async with browser.open("/poll/stream", paced=True) as held:
            await held.chunk()
            for _ in range(3):
                subject.clock.advance(IDLE / 2)
                if beside:
                    await browser.get("/look")
            assert await content(tab(browser)) == ({"a": "1"} if beside else {})
        answer = await held.ended()
        assert answer.error is None
        assert await content(tab(browser)) == ({"a": "1", "late": 1} if beside else {})


@ON_TWO_STORES
@in_loop
async def test_a_poll_that_reads_writes_nothing(make: Any) -> None:
    """Where the last access would be recorded again, a poll asks the store to load and nothing else."""
    clock = FakeClock()
    store = make(clock=clock)
    browser = Browser(application(store))
    await browser.get("/set?a=1")
    clock.advance(IDLE / 2)
    store.calls.clear()
    await browser.get("/poll")
    await browser.get("/poll", headers=[(b"x-poll", b"")])
    assert store.calls == ["load", "load"]
    await browser.get("/look")
    assert store.calls == ["load", "load", "load", "touch"]


REQUESTS: list[tuple[str, list[tuple[bytes, bytes]], bool]] = [
    ("/look", [], False),
    ("/poll", [], True),
    ("/poll/idle", [], True),
    ("/look", [(b"x-silent", b"yes")], True),
    ("/look", [(b"x-silent", b"no")], False),
    ("/look", [(b"x-poll", b"")], True),
    ("/look", [(b"sec-purpose", b"prefetch")], True),
    ("/look", [(b"sec-purpose", b"prefetch;prerender")], True),
    ("/look", [(b"sec-purpose", b"prefetch; prerender;anonymous-client-ip")], True),
    ("/look", [(b"sec-purpose", b" prefetch ")], True),
    ("/look", [(b"sec-purpose", b"Prefetch")], False),
    ("/look", [(b"sec-purpose", b"prefetched")], False),
    ("/look", [(b"sec-purpose", b"prerender")], False),
    ("/look", [(b"sec-purpose", b"")], False),
    ("/look", [(b"purpose", b"prefetch")], False),
]


@pytest.mark.parametrize(("path", "headers", "passive"), REQUESTS)
@pytest.mark.parametrize("configured", [PASSIVE, (), None])
@in_loop
async def test_which_requests_are_passive(
    configured: Any, path: str, headers: list[tuple[bytes, bytes]], passive: bool
) -> None:
    """What the argument names, and speculative loads where it is given, even empty; without it nothing is looked at."""
    clock = FakeClock()
    browser = Browser(application(MemoryStore(clock=clock), passive=configured, exclude=["/elsewhere"]))
    await browser.get("/set?a=1")
    clock.advance(IDLE / 2)
    await browser.get(path, headers=headers)
    by_itself = any(name == b"sec-purpose" for name, _ in headers)
    expected = passive and (bool(configured) or (configured is not None and by_itself))
    clock.advance(IDLE / 2 if path != "/poll/idle" else 0)
    there = await content(browser)
    assert there == ({} if expected else {"a": "1"})


async def echo(call: Call) -> None:
    await call.receive()
    await call.send({"type": "websocket.accept"})
    while (message := await call.receive())["type"] == "websocket.receive":
        call.session["said"] = message["text"]
        await call.session.save()
        await call.send({"type": "websocket.send", "text": message["text"]})


@ON_TWO_STORES
@pytest.mark.parametrize("path", ["/poll/socket", "/socket"])
@in_loop
async def test_the_traffic_of_a_passive_websocket_is_no_access(path: str, make: Any) -> None:
    """Each message is saved, and moves nothing; that of another WebSocket keeps its session alive, as ever."""
    clock = FakeClock()
    store = make(clock=clock)
    app = application(store, {path: echo})
    browser = Browser(app)
    await browser.get("/set?a=1")
    begun = clock()
    async with browser.websocket(path) as socket:
        await socket.accepted()
        for number in range(3):
            clock.advance(20)  # a touch is due, and more than that
            await socket.send(str(number))
            assert await socket.receive() == str(number)
        assert (await accessed(browser) == begun) == path.startswith("/poll")
        assert ("touch" in store.calls) == (path == "/socket")
    assert (await content(browser))["said"] == "2"


@ON_TWO_STORES
@in_loop
async def test_no_keeper_runs_for_a_passive_stream(make: Any) -> None:
    """A store of bytes is not asked to keep alive what only a passive stream uses; nothing of it is left at the end."""
    store = make()
    app = application(store, {"/poll/stream": held_open, "/stream": held_open})
    browser = Browser(app)
    await browser.get("/set?a=1")
    runs = app._terms.runs
    for path, kept in (("/poll/stream", 0), ("/stream", 0 if make is SpyStore else 1)):
        async with browser.open(path, paced=True) as held:
            await held.chunk()
            assert len(runs.requests) == 1
            assert len(runs.repeats._all) == kept
        await held.ended()
        assert len(runs.requests) == len(runs.repeats._all) == 0


async def came_back(app: Any) -> Browser:
    """Return a browser whose session is worth as much as any guest's: its cookie has come back."""
    browser = Browser(app)
    await browser.get("/set?b=2")
    await browser.get("/look")
    return browser


@in_loop
async def test_memory_evicts_no_session_that_a_passive_request_uses() -> None:
    """The least recently used goes, but not while a passive stream uses it; when that has ended, it goes."""
    app = application(MemoryStore(max_sessions=2), {"/poll/stream": held_open})
    browser = await came_back(app)
    async with browser.open("/poll/stream", paced=True) as held:
        await held.chunk()
        others = [await came_back(app) for _ in range(2)]
        assert await content(others[0]) == {}
        assert await content(others[1]) == {"b": "2"}
    await held.ended()
    assert await content(tab(browser)) == {"b": "2", "late": 1}
    others = [await came_back(app) for _ in range(2)]
    assert await content(browser) == {}


@in_loop
async def test_two_streams_of_one_session_count_each_for_themselves() -> None:
    """In memory one passive and one usual stream: the latter holds the session, whichever ends first."""
    clock = FakeClock()
    app = application(MemoryStore(clock=clock), {"/poll/stream": held_open, "/stream": held_open})
    for first, second in (("/poll/stream", "/stream"), ("/stream", "/poll/stream")):
        browser = Browser(app)
        await browser.get("/set?a=1")
        async with browser.open(first, paced=True) as one:
            await one.chunk()
            async with browser.open(second, paced=True) as other:
                await other.chunk()
                clock.advance(IDLE + 1)
                assert await content(tab(browser)) == {"a": "1"}
            await other.ended()
        await one.ended()


@pytest.mark.parametrize("path", ["/poll/write?b=2", "/poll/later"])
@in_loop
async def test_a_write_beside_a_usual_stream_moves_nothing(path: str) -> None:
    """In memory, where the start of a usual request has the fastest way to save, a poll does not take it."""
    clock = FakeClock()
    browser = Browser(application(MemoryStore(clock=clock), {"/stream": held_open}))
    await browser.get("/set?a=1")
    async with browser.open("/stream", paced=True) as held:
        await held.chunk()
        begun = clock()
        clock.advance(30)
        await browser.get(path)
        assert await accessed(browser) == begun
        await browser.get("/set?c=3")
        assert await accessed(browser) == begun + 30
    await held.ended()


@ON_TWO_STORES
@in_loop
async def test_a_dropped_write_of_a_poll_is_told(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A session that ended under a passive stream takes nothing more: it is dropped and told, never made anew."""
    caplog.set_level("INFO", "fastersession")
    clock = FakeClock()
    store = make(clock=clock)
    browser = Browser(application(store, {"/poll/stream": held_open}))
    await browser.get("/set?a=1")
    async with browser.open("/poll/stream", paced=True) as held:
        await held.chunk()
        clock.advance(IDLE + 1)
    await held.ended()
    assert [record.event for record in events(caplog)] == ["session.dropped"]
    assert await content(tab(browser)) == {}


@ON_TWO_STORES
@in_loop
async def test_twenty_polls_at_once_lose_nothing(make: Any) -> None:
    """Each writes an attribute of its own, beside requests that are no polls."""
    browser = Browser(application(make()))
    await browser.get("/set?a=1")
    paths: list[Callable[[int], str]] = ["/poll/write?p{}=1".format, "/set?s{}=1".format]
    await asyncio.gather(*(browser.get(paths[n % 2](n)) for n in range(20)))
    assert await content(browser) == {"a": "1", **{f"{'ps'[n % 2]}{n}": "1" for n in range(20)}}
