"""`session.csrf_token` and `session.check_csrf()`: how long a form's token lives, on every store. U9b of SECURITY."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, Handler, content, serve, tab
from store_subject import EVERY, Factory, opened
from stores import SpyStore, SuspendingStore

from fastersession import FasterSessionMiddleware, HeadersSent, MemoryStore

ON_EVERY_STORE = pytest.mark.parametrize("kind", EVERY)


async def form(call: Call) -> None:
    await call.reply(call.session.csrf_token)


async def check(call: Call) -> None:
    await call.reply(str(call.session.check_csrf(call.query.get("token"))))


async def regenerate_then_form(call: Call) -> None:
    call.session.regenerate_id()
    await call.reply(call.session.csrf_token)


async def form_then_regenerate(call: Call) -> None:
    token = call.session.csrf_token
    call.session.regenerate_id()
    await call.reply(token)


async def awaited_then_form(call: Call) -> None:
    await call.session.regenerate_id()
    await call.reply(call.session.csrf_token)


async def regenerate_then_stream_form(call: Call) -> None:
    """Read it when the cookie has left, and look whether those of before count in this very request."""
    before = call.session.csrf_token
    call.session.regenerate_id()
    await call.start()
    assert call.session.check_csrf(before)
    after = call.session.csrf_token
    assert call.session.check_csrf(after)
    await call.chunk(after)
    await call.finish()


async def regenerate(call: Call) -> None:
    call.session.regenerate_id()
    await call.reply()


async def invalidate_then_form(call: Call) -> None:
    call.session.invalidate()
    await call.reply(call.session.csrf_token)


async def clear_then_form(call: Call) -> None:
    call.session.clear()
    await call.reply(call.session.csrf_token)


HANDLERS: dict[str, Handler] = {
    "/form": form, "/check": check, "/regenerate": regenerate, "/regenerate-form": regenerate_then_form,
    "/form-regenerate": form_then_regenerate, "/awaited-form": awaited_then_form,
    "/stream-form": regenerate_then_stream_form, "/invalidate-form": invalidate_then_form,
    "/clear-form": clear_then_form,
}  # fmt: skip


async def token(browser: Browser, path: str = "/form") -> str:
    answer = await browser.get(path)
    assert answer.status == 200
    return answer.text


async def valid(browser: Browser, given: str) -> bool:
    return (await browser.get(f"/check?token={given}")).text == "True"


@ON_EVERY_STORE
@in_loop
async def test_u9b_the_life_of_a_token(kind: str, factory: Factory) -> None:
    """U9b: valid from the next request on, in each worker; it survives one regeneration, not two, and no logout."""
    async with opened(factory) as subject, opened(factory, subject.clock) as second:
        stores = [subject.store, subject.store if kind == "memory" else second.store]
        browser, elsewhere = (Browser(serve(HANDLERS, store=store)) for store in stores)
        stranger = Browser(browser.app)
        elsewhere.jar = browser.jar
        first = await token(browser)  # of a new session, which nothing was written to
        assert await valid(elsewhere, first)
        assert await token(browser) != first
        await token(stranger)
        assert not await valid(stranger, first)
        await elsewhere.get("/regenerate")
        assert await valid(browser, first)
        second_one = await token(elsewhere)
        assert await valid(browser, second_one)
        await browser.get("/regenerate")
        assert not await valid(elsewhere, first)
        assert await valid(elsewhere, second_one)
        before_logout = tab(browser)
        await browser.get("/logout")
        assert not await valid(before_logout, second_one)
        assert not await valid(browser, second_one)


@ON_EVERY_STORE
@pytest.mark.parametrize(
    "path",
    ["/regenerate-form", "/form-regenerate", "/awaited-form", "/stream-form", "/invalidate-form", "/clear-form"],
)
@in_loop
async def test_u9b_a_token_of_an_answer_with_another_secret(path: str, kind: str, factory: Factory) -> None:
    """U9b: what an answer shows is valid under the cookie that it brings, and after the next regeneration's, or that's.

    One that belongs to the secret before is valid once, for that is one generation; one of the new secret outlives it.
    """
    async with opened(factory) as subject:
        browser = Browser(serve(HANDLERS, store=subject.store))
        for begin in ("/set?a=1", "/set?b=2"):
            await browser.get(begin)
            cookie = browser.jar.header(browser.url("/"))
            shown = await token(browser, path)
            assert browser.jar.header(browser.url("/")) != cookie
            assert await valid(browser, shown)
            assert await valid(browser, shown)
        if path not in ("/invalidate-form", "/clear-form"):
            assert await content(browser) == {"a": "1", "b": "2"}
        else:
            assert await content(browser) == {}


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_u9b_two_that_regenerate_at_once(make: Any) -> None:
    """U9b: the loser's answer shows a token of the secret before: valid under the winner's cookie."""
    both = asyncio.Barrier(2)

    async def race(call: Call) -> None:
        call.session.regenerate_id()
        shown = call.session.csrf_token
        await both.wait()
        await call.reply(shown)

    browser = Browser(serve({**HANDLERS, "/race": race}, store=make()))
    await browser.get("/set?a=1")
    one, other = tab(browser), tab(browser)
    answers = await asyncio.gather(one.get("/race"), other.get("/race"))
    (winner,) = [each for each, answer in zip((one, other), answers, strict=True) if answer.cookies]
    for answer in answers:
        assert await valid(winner, answer.text)


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_u9b_reading_establishes_a_new_session(make: Any) -> None:
    """U9b: a token needs a session that it is of, so a new one is made; checking makes none; no store call in it."""
    store = make()
    browser = Browser(serve(HANDLERS, store=store))
    assert not await valid(browser, "x")
    assert not browser.jar.values()
    answer = await browser.get("/form")
    assert len(answer.cookies) == 1
    assert (b"vary", b"Cookie") in answer.headers
    assert await valid(browser, answer.text)


@pytest.mark.parametrize("status", [200, 404, 500])
@in_loop
async def test_u9b_whatever_the_status(status: int) -> None:
    """U9b: an error page with a form establishes the session, too."""

    async def failing(call: Call) -> None:
        call.session["lost"] = True
        await call.reply(call.session.csrf_token, status)

    browser = Browser(serve({**HANDLERS, "/failing": failing}, store=MemoryStore()))
    shown = (await browser.get("/failing")).text
    assert await valid(browser, shown)
    assert await content(browser) == ({} if status == 500 else {"lost": True})


@in_loop
async def test_u9b_after_the_start_a_new_session_has_none() -> None:
    """U9b: no cookie can leave any more: HeadersSent, as by establish(); a session that is there has its token."""
    raised: list[str] = []

    async def late(call: Call) -> None:
        await call.start()
        try:
            await call.chunk(call.session.csrf_token)
        except HeadersSent as error:
            raised.append(str(error))
        await call.finish()

    browser = Browser(serve({**HANDLERS, "/late": late}))
    assert (await browser.get("/late")).text == ""
    assert len(raised) == 1
    assert "csrf_token" in raised[0]
    await browser.get("/set?a=1")
    assert await valid(browser, (await browser.get("/late")).text)


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_u9b_where_the_cookie_was_replaced_a_moment_ago(make: Any) -> None:
    """U9b: a page of before gets a token that nobody takes, and no cookie; its own tokens open nothing there."""
    store = make()
    browser = Browser(serve(HANDLERS, store=store))
    await browser.get("/set?a=1")
    old, shown = tab(browser), await token(browser)
    await browser.get("/regenerate")
    answer = await old.get("/form")
    assert (answer.cookies, len(answer.text)) == ([], 86)
    assert not await valid(old, answer.text)
    assert not await valid(browser, answer.text)
    assert not await valid(old, shown)
    assert await valid(browser, shown)


@in_loop
async def test_u9b_a_foreign_websocket_has_none() -> None:
    """U9b: from another origin the token is nobody's, and none is taken; from the own origin they are the session's."""
    seen: list[tuple[str, bool]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await form(Call(scope, receive, send))
            return
        await receive()
        session = scope["session"]
        seen.append((session.csrf_token, session.check_csrf(shown)))
        await send({"type": "websocket.accept"})

    browser = Browser(FasterSessionMiddleware(app, "a secret of the session tests, and of nothing else", secure=False))
    shown = (await browser.get("/")).text
    for origin in (b"http://testserver", b"http://evil.example"):
        async with browser.websocket("/", headers=[(b"origin", origin)]) as socket:
            await socket.ended()
    assert [taken for _, taken in seen] == [True, False]
    assert [len(each) for each, _ in seen] == [86, 86]


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_u9b_a_session_that_ended_under_its_request_takes_none(make: Any) -> None:
    """U9b: once a save has found out that the session was ended elsewhere, its tokens are nobody's."""
    store = make()

    async def ending(call: Call) -> None:
        shown = call.session.csrf_token
        assert call.session.check_csrf(shown)
        await store.delete(bytes.fromhex(call.session.id))
        call.session["late"] = True
        await call.session.save()
        assert not call.session.check_csrf(shown)
        assert not call.session.check_csrf(call.session.csrf_token)
        await call.reply()

    browser = Browser(serve({"/ending": ending}, store=store))
    await browser.get("/set?a=1")
    answer = await browser.get("/ending")
    assert answer.cookies == []


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_u9b_a_superseded_stream_may_read_it(make: Any) -> None:
    """U9b: where no token can be, reading raises nothing, after the headers neither."""

    async def late(call: Call) -> None:
        await call.start()
        await call.chunk(call.session.csrf_token)
        await call.finish()

    browser = Browser(serve({**HANDLERS, "/late": late}, store=make()))
    await browser.get("/set?a=1")
    old = tab(browser)
    await browser.get("/regenerate")
    assert len((await old.get("/late")).text) == 86


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_u9b_clear_is_a_logout_only_if_nothing_follows(make: Any) -> None:
    """U9b: what was written after `clear()` is the same session still; after the headers nothing can begin anew."""

    async def filled(call: Call) -> None:
        call.session.clear()
        call.session["b"] = 2
        await call.reply(call.session.csrf_token)

    async def late(call: Call) -> None:
        await call.start()
        call.session.clear()
        await call.chunk(call.session.csrf_token)
        await call.finish()

    browser = Browser(serve({**HANDLERS, "/filled": filled, "/late": late}, store=make()))
    await browser.get("/set?a=1")
    answer = await browser.get("/filled")
    assert answer.cookies == []
    assert await valid(browser, answer.text)
    assert await content(browser) == {"b": 2}
    assert len((await browser.get("/late")).text) == 86
    assert await content(browser) == {}


@pytest.mark.parametrize("make", [SpyStore, SuspendingStore])
@in_loop
async def test_u9b_stateless(make: Any) -> None:
    """U9b: reading and checking write nothing and ask nothing more."""
    store = make()
    browser = Browser(serve(HANDLERS, store=store))
    await browser.get("/set?a=1")
    store.calls.clear()
    shown = await token(browser)
    assert await valid(browser, shown)
    assert [call for call in store.calls if call != "load"] == []


@pytest.mark.parametrize("act", [lambda s: s.csrf_token, lambda s: s.check_csrf(None)])
@in_loop
async def test_u9b_neither_is_an_attribute(act: Callable[[Any], Any]) -> None:
    """U9b: the dict stays as it was."""

    async def look(call: Call) -> None:
        act(call.session)
        await call.reply()

    browser = Browser(serve({"/look": look}))
    await browser.get("/set?a=1")
    await browser.get("/look")
    assert await content(browser) == {"a": "1"}
