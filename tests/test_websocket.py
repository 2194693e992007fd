"""WebSockets: H2 and H3 of SECURITY, and DESIGN section 6: handshakes, origins, save points, the idle clock."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest
from answer import Cookie
from apps import Clock, SpyStore, ask, cookie, site, token_of, wrap
from driver import Browser, Socket, in_loop
from stores import shorten

from fastersession import SessionNotEstablished, StoreError

DENIAL = {"extensions": {"websocket.http.response": {}}}


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Do what the path says before the accept; then store each text, and answer with the session's."""
    if scope["type"] == "http":
        return await site(scope, receive, send)
    session, path = scope["session"], scope["path"]
    await receive()
    if path == "/write":
        session["name"] = "alice"
    if path == "/deny":
        session["denied"] = "yes"
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x", b"y")]})
        return await send({"type": "websocket.http.response.body", "body": b"no"})
    if path == "/reject":
        session["denied"] = "yes"
        return await send({"type": "websocket.close", "code": 1008})
    await send({"type": "websocket.accept", "subprotocol": None, "headers": ((b"x-app", b"1"),)})
    while (message := await receive())["type"] == "websocket.receive":
        text = message["text"]
        if text == "save":
            await session.save()
        elif text == "close":
            return await send({"type": "websocket.close", "code": 1000})
        elif text == "break":
            raise ZeroDivisionError
        elif text != "ping":
            session["said"] = text
        await send({"type": "websocket.send", "text": str(session.get("said"))})
    return None


async def said(socket: Socket, text: str) -> Any:
    await socket.send(text)
    return await socket.receive()


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


# --- origins ---

HOST = "chat.example.org:8443"
ORIGINS = {
    "null": True,
    "": True,
    "https://chat.example.org": True,
    "https://chat.example.org:443": True,
    "https://chat.example.org:84431": True,
    "https://chat.example.org:8444": True,
    "https://chat.example.org.evil.net:8443": True,
    "https://evilchat.example.org:8443": True,
    "https://evil.chat.example.org:8443": True,
    "https://chat-example.org:8443": True,
    "https://chatxexample.org:8443": True,
    "https://example.org:8443": True,
    "https://org:8443": True,
    "https://evil.net/chat.example.org:8443": True,
    "https://evil.net?chat.example.org:8443": True,
    "https://evil.net#chat.example.org:8443": True,
    "https://chat.example.org:8443@evil.net": True,
    "https://user@chat.example.org:8443": True,
    "https://chat.example.org:8443/": True,
    "https://chat.example.org.:8443": True,
    "https://chat.example.org:8443 ": True,
    "https://chat.example.org:8443 https://evil.net": True,
    "https://chat.example.org:8443,https://evil.net": True,
    "https://evil.net,https://chat.example.org:8443": True,
    "chat.example.org:8443": True,
    "//chat.example.org:8443": True,
    "https:chat.example.org:8443": True,
    "https://chat.example.org:8443\0": True,
    "https://chat.example.org\\:8443": True,
    "https://ch%61t.example.org:8443": True,
    "https://[chat.example.org]:8443": True,
    "file://": True,
    "chrome-extension://abcdefghijklmnop": True,
    "https://chat.example.org:8443": False,
    "HTTPS://CHAT.Example.ORG:8443": False,
    "http://chat.example.org:8443": False,
    "https://friend.example.net": False,
    "https://friend.example.net:443": False,
    "http://friend.example.net": True,
    "https://friend.example.net:8443": True,
}


@pytest.mark.parametrize(("origin", "foreign"), ORIGINS.items())
@in_loop
async def test_h2_a_foreign_origin_gets_no_session(
    origin: str, foreign: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """H2: look-alikes, prefixes, suffixes, ports, case, null: an empty session, no store call, no cookie."""
    store = SpyStore()
    app = wrap(talk, store=store, allowed_origins=["https://friend.example.net"])
    browser = Browser(app, host=HOST)
    await browser.get("/write?said=secret")
    store.calls.clear()
    for _ in range(2):
        async with browser.websocket("/", headers=[(b"origin", origin.encode())]) as socket:
            answer = await socket.accepted()
            assert await said(socket, "ping") == ("None" if foreign else "secret")
        assert (answer.error, answer.cookies) == (None, [])
    assert (store.calls == []) == foreign
    events = [record.event for record in caplog.records]  # type: ignore[attr-defined]
    assert events == ["websocket.foreign_origin"] * foreign
    assert (await browser.get("/read")).json() == {"said": "secret"}


@in_loop
async def test_h2_no_origin_is_no_browser() -> None:
    """H2: a client that sends no Origin is allowed: only browsers can be made to send another's cookie."""
    browser = Browser(wrap(talk))
    await browser.get("/write?said=secret")
    async with browser.websocket("/") as socket:
        assert await said(socket, "ping") == "secret"


@in_loop
async def test_h2_a_foreign_write_raises_naming_the_origin() -> None:
    """H2: the first write raises SessionNotEstablished with the origin and the remedy; nothing is stored."""
    store = SpyStore()
    browser = Browser(wrap(talk, store=store))
    async with browser.websocket("/", headers=[(b"origin", b"https://evil.example")]) as socket:
        await socket.accepted()
        await socket.send("hello")
        answer = await socket.ended()
    assert isinstance(answer.error, SessionNotEstablished)
    assert "https://evil.example" in str(answer.error)
    assert "allowed_origins" in str(answer.error)
    assert (len(store), answer.cookies) == (0, [])


@in_loop
async def test_h2_verbs_on_a_foreign_session_reach_nothing() -> None:
    """H2: save, invalidate, regenerate_id, reload and reading are harmless; establish() raises."""
    store = SpyStore()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        session.invalidate()
        session.regenerate_id()
        with pytest.raises(SessionNotEstablished):
            session.establish()
        with pytest.raises(SessionNotEstablished):
            session["a"] = 1
        await session.save()
        await session.reload()
        assert (dict(session), session.is_new, session.user) == ({}, True, None)
        await send({"type": "websocket.accept"})
        await session.save()
        with pytest.raises(SessionNotEstablished):
            session.update(a=1)

    token = await token_of(wrap(talk, store=store))
    store.calls.clear()
    headers = [(b"origin", b"https://evil.example"), (b"host", b"testserver"), *cookie(token)]
    answer = await ask(wrap(app, store=store), headers=headers, type="websocket", scheme="ws")
    assert (store.calls, answer.cookies) == ([], [])


@in_loop
async def test_h2_http_requests_are_not_judged_by_origin() -> None:
    """H2: CORS and CSRF of http requests are not this library's; SameSite is."""
    browser = Browser(wrap(site))
    await browser.get("/write?a=1")
    assert (await browser.get("/read", headers=[(b"origin", b"https://evil.example")])).json() == {"a": "1"}


# --- save points ---


@in_loop
async def test_saved_at_save_and_before_the_close_leaves() -> None:
    """What is written is saved by save(), and before websocket.close is forwarded."""
    store = SpyStore()
    browser = Browser(wrap(talk, store=store))
    await browser.get("/write?a=1")
    store.calls.clear()
    async with browser.websocket("/") as socket:
        await socket.accepted()
        await said(socket, "one")
        assert "update" not in store.calls
        await said(socket, "save")
        assert store.calls.count("update") == 1
        await said(socket, "two")
        await socket.send("close")
        assert await socket.receive() is None
        assert store.calls.count("update") == 2
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
    """S10: the close leaves all the same; then the error is raised, and logged with the record id."""
    shorten(monkeypatch, LATE_PAUSES=(0.0,))
    store = SpyStore(live=live)
    browser = Browser(wrap(talk, store=store))
    await browser.get("/write?a=1")
    store.broken = {"update"}
    async with browser.websocket("/") as socket:
        await socket.accepted()
        await said(socket, "lost")
        await socket.send("close")
        answer = await socket.ended()
    assert answer.messages[-1]["type"] == "websocket.close"
    assert isinstance(answer.error, StoreError)
    failed = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failed[0].session_id) == 32  # type: ignore[attr-defined]
