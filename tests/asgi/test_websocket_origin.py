"""WebSockets from foreign origins: H2 of SECURITY."""

from __future__ import annotations

from typing import Any

import pytest
from apps import SpyStore, ask, cookie, said, site, talk, token_of, wrap
from driver import Browser, in_loop

from fastersession import SessionNotEstablished

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
        assert (dict(session), session.is_new) == ({}, True)
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
