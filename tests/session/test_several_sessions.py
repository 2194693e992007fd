"""Several sessions of one browser, step by step: logins, logouts, second tabs, and two cookies at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, content, events, serve, tab
from stores import SpyStore, SuspendingStore

from fastersession import Session

STORES = pytest.mark.parametrize("make", [SpyStore, SuspendingStore])


async def once(act: Any, store: Any, *, streaming: bool = False) -> tuple[Browser, Any]:
    """Run one act in a session that holds a=1; return the browser and its answer."""

    async def do(call: Call) -> None:
        if streaming:
            await call.start()
            await call.chunk()
        pending = act(call.session)
        if pending is not None:
            await pending
        await (call.finish() if streaming else call.reply())

    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    return browser, await browser.get("/act")


@STORES
@in_loop
async def test_clear_and_regenerate_and_writes_are_one_live_session_of_the_writes(make: Any) -> None:
    """clear() + regenerate_id() + writes in one request end as one live session that holds only the writes."""

    def act(session: Session) -> None:
        session.clear()
        session.regenerate_id()
        session["b"] = 2

    store = make()
    browser, answer = await once(act, store)
    assert len(answer.cookies) == 1
    assert await content(browser) == {"b": 2}
    assert len(store) == 1


@STORES
@in_loop
async def test_regenerate_and_clear_and_nothing_written_is_a_logout(make: Any) -> None:
    """regenerate_id() does not keep alive what clear() ends; the one cookie sent is the one that clears."""

    def act(session: Session) -> None:
        session.regenerate_id()
        session.clear()

    store = make()
    browser, answer = await once(act, store)
    assert [cookie.value for cookie in answer.cookies] == [""]
    assert not browser.jar
    assert len(store) == 0


@STORES
@in_loop
async def test_invalidate_and_writes_start_a_new_session_in_the_same_response(make: Any) -> None:
    """invalidate() + writes: the old record is gone, a new id and cookie leave with this response."""
    ids: list[str] = []

    def act(session: Session) -> None:
        ids.append(session.id)
        session.invalidate()
        session["b"] = 2
        ids.append(session.id)

    store = make()
    browser, answer = await once(act, store)
    assert len(answer.cookies) == 1
    assert answer.cookies[0].value
    assert ids[0] != ids[1]
    assert await content(browser) == {"b": 2}
    assert (len(store), store.count("create"), store.count("delete")) == (1, 2, 1)


@STORES
@in_loop
async def test_no_later_call_undoes_invalidate(make: Any) -> None:
    """Whatever verb follows, the record is gone, and what lives afterwards is another, empty session."""

    async def act(session: Session) -> None:
        session.invalidate()
        await session.reload()
        session.regenerate_id()
        await session.save()
        session.establish()
        await session.reload()

    ids: list[str] = []
    store = make()
    browser, answer = await once(lambda session: ids.append(session.id) or act(session), store)
    assert len(answer.cookies) == 1
    assert await content(browser) == {}
    assert (len(store), store.count("delete")) == (1, 1)
    assert store.arguments[[call[0] for call in store.arguments].index("delete")][1].hex() == ids[0]


@STORES
@in_loop
async def test_invalidate_twice_with_a_saved_session_between_leaves_nothing(make: Any) -> None:
    """Each session that began and ended within one request is deleted, and the cookie is cleared once."""

    async def act(session: Session) -> None:
        for _ in range(3):
            session.invalidate()
            session["b"] = 2
            await session.save()
        session.invalidate()

    store = make()
    browser, answer = await once(act, store)
    assert [cookie.value for cookie in answer.cookies] == [""]
    assert (len(store), dict(browser.jar)) == (0, {})


@STORES
@in_loop
async def test_a_logout_in_the_stream_deletes_and_refuses_what_follows(make: Any) -> None:
    """After the headers invalidate() still deletes; a write then is refused, for no cookie can leave."""

    def act(session: Session) -> None:
        session.invalidate()
        with pytest.raises(Exception, match="'b'"):
            session["b"] = 2

    store = make()
    browser, answer = await once(act, store, streaming=True)
    assert (len(store), answer.cookies) == (0, [])
    assert await content(browser) == {}


@STORES
@pytest.mark.parametrize("seconds", [0, 59, 60, 3600])
@in_loop
async def test_a_second_tab_with_the_old_cookie_is_superseded_for_a_minute(
    make: Any, seconds: int, caplog: Any
) -> None:
    """It sees nothing, writes nothing and gets no cookie; after a minute it is as unknown as any dead cookie."""
    caplog.set_level("DEBUG", "fastersession")
    clock = FakeClock()
    store = make(clock=clock)
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    second = tab(browser)
    await browser.get("/login")
    clock.advance(seconds)
    assert await content(second) == {}
    assert (await second.get("/logout")).cookies == []
    answer = await second.get("/set?b=2")
    superseded = seconds < 60
    assert bool(answer.cookies) != superseded
    assert len(events(caplog, "session.dropped")) == superseded
    assert len(store) == (1 if superseded else 2)
    assert await content(browser) == {"a": "1", "user": "me"}


@STORES
@pytest.mark.parametrize("verb", ["establish", "regenerate_id"])
@pytest.mark.parametrize("tries", [True, False], ids=["after a save that was dropped", "at once"])
@in_loop
async def test_a_superseded_tab_may_begin_a_session_of_its_own_accord(make: Any, tries: bool, verb: str) -> None:
    """Only this request's own establish() or regenerate_id() gives it a new session, apart from the other."""
    ids: list[str] = []

    async def own(call: Call) -> None:
        if tries:
            call.session["dropped"] = 1
            await call.session.save()
            del call.session["dropped"]
        call.session["b"] = 2
        getattr(call.session, verb)()
        ids.append(call.session.id)
        await call.reply(call.session.id)

    browser = Browser(serve({"/own": own}, store=make()))
    await browser.get("/set?a=1")
    second = tab(browser)
    await browser.get("/login")
    assert len((await second.get("/own")).cookies) == 1
    assert await content(second) == {"b": 2}
    assert await content(browser) == {"a": "1", "user": "me"}


@STORES
@in_loop
async def test_w8_the_delayed_answer_to_an_old_cookie_does_not_log_out(make: Any) -> None:
    """W8: login in one request, the slow answer to the old cookie arrives last, and the jar holds the new cookie."""
    logged_in = asyncio.Event()

    async def slow(call: Call) -> None:
        call.session["slow"] = 1
        await logged_in.wait()
        await call.reply()

    browser = Browser(serve({"/slow": slow}, store=make()))
    await browser.get("/set?a=1")
    running = asyncio.ensure_future(browser.get("/slow"))
    await asyncio.sleep(0)
    await browser.get("/login")
    logged_in.set()
    assert (await running).cookies == []
    assert await content(browser) == {"a": "1", "user": "me", "slow": 1}
