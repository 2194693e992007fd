"""WebSockets: H3 of SECURITY, and the rest: handshakes, save points, the idle clock, a failing store."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from apps import Clock, SpyStore, ask, said, talk, token_of, wrap
from driver import Browser, in_loop
from stores import shorten

from fastersession import SessionNotEstablished, StoreError
from fastersession.testing import Cookie

DENIAL = {"extensions": {"websocket.http.response": {}}}


# --- cookies ---


@in_loop
async def test_h3_the_cookie_goes_with_the_accept() -> None:
    """H3: a session begun before the accept has its cookie there, beside the app's headers, and on no other message."""
    browser = Browser(wrap(talk))
    async with browser.websocket("/write") as socket:
        answer = await socket.accepted()
        assert answer.headers[0] == (b"x-app", b"1")
        assert [c.name for c in answer.cookies] == ["sid"]
        assert answer.all("vary") == answer.all("cache-control") == []  # no response of a cache's
        await said(socket, "hello")
    assert [m for m in answer.messages if "headers" in m] == [answer.start]
    assert (await browser.get("/read")).json() == {"name": "alice", "said": "hello"}


@in_loop
async def test_h3_the_cookie_goes_with_a_denial() -> None:
    """H3: a denial response carries the cookie like any http response, with no-store and Vary."""
    browser = Browser(wrap(talk))
    async with browser.websocket("/deny", **DENIAL) as socket:
        answer = await socket.ended()
    assert (answer.status, answer.all("cache-control"), answer.all("vary")) == (401, [b"no-store"], [b"Cookie"])
    assert [c.name for c in answer.cookies] == ["sid"]
    assert (await browser.get("/read")).json() == {"denied": "yes"}


@in_loop
async def test_h3_a_close_before_the_accept_begins_nothing() -> None:
    """H3: there is no header to carry a cookie, so there is no record either."""
    store = SpyStore()
    async with Browser(wrap(talk, store=store)).websocket("/reject") as socket:
        answer = await socket.ended()
    assert (answer.messages, answer.error) == ([{"type": "websocket.close", "code": 1008}], None)
    assert len(store) == 0


@in_loop
async def test_h3_an_accept_without_headers_gets_ours() -> None:
    """H3: headers may be absent from the accept."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await send({"type": "websocket.accept"})

    assert len((await ask(wrap(app), type="websocket", scheme="ws")).cookies) == 1


@pytest.mark.parametrize(("version", "module"), [("2.0", None), ("2.3", "granian"), ("2.3", "daphne.server")])
@in_loop
async def test_h3_a_server_that_drops_the_cookie_is_warned_of_once(
    version: str, module: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H3: before spec 2.1, and on granian and daphne, accept headers do not arrive: one warning."""
    if module is not None:
        monkeypatch.setitem(sys.modules, module, sys)
    browser = Browser(wrap(talk), spec=version)
    for _ in range(2):
        browser.jar.clear()
        async with browser.websocket("/write") as socket:
            await socket.accepted()
    events = [record.event for record in caplog.records if record.levelno == logging.WARNING]  # type: ignore[attr-defined]
    assert events == ["websocket.cookie_undeliverable"]


@in_loop
async def test_other_messages_pass_untouched() -> None:
    """Everything but the accept leaves as the very object the app sent."""
    sent = [
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.unheard_of", "headers": ()},
        {"type": "websocket.close", "code": 1000},
    ]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await send({"type": "websocket.accept"})
        for message in sent:
            await send(message)

    answer = await ask(wrap(app), type="websocket", scheme="ws")
    assert all(left is right for left, right in zip(answer.messages[1:], sent, strict=True))


@in_loop
async def test_saved_at_save_and_before_the_close_leaves() -> None:
    """What is written is in the store when save() returns, and when websocket.close is forwarded."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await talk(scope, receive, send)
        await send({"type": "websocket.accept"})
        scope["session"]["said"] = "one"
        assert "update" not in store.calls
        await scope["session"].save()
        assert store.calls.count("update") == 1
        scope["session"]["said"] = "two"
        await send({"type": "websocket.close"})
        assert store.calls.count("update") == 2
        return None

    store = SpyStore()
    browser = Browser(wrap(app, store=store))
    await browser.get("/write?a=1")
    async with browser.websocket("/") as socket:
        await socket.ended()
    assert socket.answer.error is None
    assert (await browser.get("/read")).json() == {"a": "1", "said": "two"}


@pytest.mark.parametrize("how", ["disconnect", "break", "cancel"])
@in_loop
async def test_saved_however_the_socket_ends(how: str) -> None:
    """A browser that leaves, an application that raises and a server that cancels keep what was said."""
    browser = Browser(wrap(talk))
    await browser.get("/write?a=1")
    async with browser.websocket("/") as socket:
        await socket.accepted()
        await said(socket, "kept")
        if how == "break":
            await socket.send("break")
        elif how == "cancel":
            await socket.cancel(2)
    errors = {"break": ZeroDivisionError, "cancel": asyncio.CancelledError, "disconnect": type(None)}
    assert type(socket.answer.error) is errors[how]
    assert (await browser.get("/read")).json() == {"a": "1", "said": "kept"}


@in_loop
async def test_a_first_write_after_the_accept_raises() -> None:
    """No cookie can leave any more: SessionNotEstablished at the write."""
    browser = Browser(wrap(talk))
    async with browser.websocket("/") as socket:
        await socket.accepted()
        await socket.send("hello")
        assert isinstance((await socket.ended()).error, SessionNotEstablished)


# --- the idle clock ---


@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_traffic_keeps_the_idle_clock_going(live: bool) -> None:
    """Each message, either way, is an access: a socket that talks keeps its session, however long."""
    clock = Clock()
    store = SpyStore(clock=clock, live=live)
    browser = Browser(wrap(talk, store=store, idle_timeout=60))
    await browser.get("/write?said=hello")
    async with browser.websocket("/") as socket:
        await socket.accepted()
        for _ in range(10):
            clock.now += 45
            assert await said(socket, "ping") == "hello"
        store.calls.clear()
        for _ in range(100):
            await said(socket, "ping")
        assert store.calls == []  # at most once per tenth of the idle timeout
    clock.now += 45
    assert (await browser.get("/read")).json() == {"said": "hello"}


@in_loop
async def test_messages_of_the_server_are_traffic_too() -> None:
    """A socket that only pushes keeps its session as well."""
    clock = Clock()
    browser = Browser(wrap(push := Pushing(talk, clock), store=SpyStore(clock=clock), idle_timeout=60))
    await browser.get("/write?a=1")
    async with browser.websocket("/push") as socket:
        await socket.accepted()
        await socket.ended()
    assert push.pushed == 10
    assert (await browser.get("/read")).json() == {"a": "1"}


class Pushing:
    """Sends ten messages, 45 seconds apart."""

    def __init__(self, app: Any, clock: Clock) -> None:
        self.app, self.clock, self.pushed = app, clock, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            return await self.app(scope, receive, send)
        await send({"type": "websocket.accept"})
        for _ in range(10):
            self.clock.now += 45
            await send({"type": "websocket.send", "text": "tick"})
            self.pushed += 1
        return None


@in_loop
async def test_a_silent_socket_idles_out() -> None:
    """An open socket alone is no access: without traffic the session ends, and nothing revives it."""
    clock = Clock()
    store = SpyStore(clock=clock)
    browser = Browser(wrap(talk, store=store, idle_timeout=60))
    await browser.get("/write?a=1")
    async with browser.websocket("/") as socket:
        await socket.accepted()
        clock.now += 61
        assert (await browser.get("/read")).json() == {}
        await said(socket, "too late")
    assert (await browser.get("/read")).json() == {}
    assert len(store) == 0


# --- a store that fails ---


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("verb", ["load", "create"])
@in_loop
async def test_s10_a_store_failure_denies_the_handshake(verb: str, live: bool) -> None:
    """S10: at load or create: a 503 denial with Retry-After where the server offers it, else close 1013, no cookie."""
    store = SpyStore(live=live)
    app = wrap(talk, store=store)
    token = await token_of(app)
    store.broken = {verb}
    for extra in (DENIAL, {}, {"extensions": None}, {"extensions": {"tls": {}}}):
        browser = Browser(app)
        if verb == "load":
            browser.jar["sid"] = Cookie("sid", token, {})
        async with browser.websocket("/write", **extra) as socket:
            answer = await socket.ended()
        assert browser.jar.get("sid", Cookie("sid", token, {})).value == token
        if extra is DENIAL:
            kinds = [message["type"] for message in answer.messages]
            assert kinds == ["websocket.http.response.start", "websocket.http.response.body"]
            assert (answer.status, answer.cookies) == (503, [])
            assert int(answer.header("retry-after") or 0) > 0
        else:
            assert [(m["type"], m["code"]) for m in answer.messages] == [("websocket.close", 1013)]


@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_s10_a_failing_save_at_the_close_is_raised(
    live: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S10: the close tells of it (1011), the error is raised, and logged with the record id."""
    shorten(monkeypatch, FLUSH_PAUSES=(0.0,))
    store = SpyStore(live=live)
    browser = Browser(wrap(talk, store=store))
    await browser.get("/write?a=1")
    store.broken = {"update"}
    async with browser.websocket("/") as socket:
        await socket.accepted()
        await said(socket, "lost")
        await socket.send("close")
        answer = await socket.ended()
    assert (answer.messages[-1]["type"], answer.messages[-1]["code"]) == ("websocket.close", 1011)
    assert isinstance(answer.error, StoreError)
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failed[0].session_id) == 32  # type: ignore[attr-defined]
