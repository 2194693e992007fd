"""`session.max_age` on every store (L6, W8): the cookie's Max-Age, the end on the server, and who may set it."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest
from accounts import USERS, site
from driver import Browser, in_loop
from routes import Call, content, events, record_id, secret_of, tab
from store_subject import Factory

from fastersession import ConfigError, HeadersSent, SessionNotEstablished
from fastersession.config.kept import STORE_MEMBERS
from fastersession.remember import age_of

pytestmark = pytest.mark.parametrize("kind", USERS)
DAY, HOUR = 86400, 3600


async def remember(call: Call) -> None:
    """Set max_age, then whatever else is asked for."""
    call.session.max_age = float(call.query.get("age", 30 * DAY))
    if "idle" in call.query:
        call.session.idle_timeout = float(call.query["idle"])
    if "write" in call.query:
        call.session["b"] = call.query["write"]
    if "regenerate" in call.query:
        call.session.regenerate_id()
    if "save" in call.query:
        await call.session.save()
    await call.reply(status=int(call.query.get("status", 200)))


async def ages(call: Call) -> None:
    session = call.session
    await call.reply(f"{session.max_age.total_seconds():.0f} {session.idle_timeout.total_seconds():.0f}")


async def log_in(call: Call) -> None:
    age = call.query.get("age")
    if "before" in call.query:
        call.session.max_age = float(call.query["before"])
    call.session.login(call.query["user"], keep=("a",), max_age=None if age is None else float(age))
    if "after" in call.query:
        call.session.max_age = float(call.query["after"])
    await call.reply(f"{call.session.max_age.total_seconds():.0f}")


class Plain:
    """A store without what users need."""

    live = None

    def __init__(self, store: Any) -> None:
        for name in STORE_MEMBERS:
            if name != "live":
                setattr(self, name, getattr(store, name))


HANDLERS = {"/remember": remember, "/ages": ages, "/log-in": log_in}


def age_in(answer: Any) -> str | None:
    """Return the Max-Age of an answer's one cookie, ``None`` if it has none."""
    (cookie,) = answer.cookies
    found: str | None = cookie.attributes.get("max-age")
    return found


async def said(browser: Browser) -> tuple[int, int]:
    age, idle = (await browser.get("/ages")).text.split()
    return int(age), int(idle)


async def ends_after(browser: Browser, subject: Any, seconds: float) -> None:
    """Prove that a session is alive so many seconds from now, and not one more; a twin asks, for nothing may move."""
    subject.clock.advance(seconds - 1)
    record = await subject.load(record_id(browser))
    assert record is not None
    subject.clock.advance(1)
    assert await subject.load(record_id(browser)) is None


@pytest.mark.parametrize("more", ["", "&write=1", "&save=1", "&write=1&save=1"])
@in_loop
async def test_the_same_token_with_another_max_age(factory: Factory, more: str) -> None:
    """The cookie is issued again, nobody's token dies, and the session ends so long after, on the server too."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        other, before = tab(browser), secret_of(browser)
        subject.clock.advance(HOUR)
        answer = await browser.get(f"/remember?age={30 * DAY}{more}")
        assert age_in(answer) == str(30 * DAY)
        assert answer.header("cache-control") == b"no-store"
        assert secret_of(browser) == before
        assert await said(other) == (30 * DAY, 30 * DAY)
        assert (await browser.get("/plain")).cookies == []
        await ends_after(browser, subject, 30 * DAY - HOUR)  # of the lifetime, which counts from the creation


@in_loop
async def test_back_to_a_cookie_of_this_browser_session(factory: Factory) -> None:
    """0: no Max-Age, and the times of the middleware again."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await browser.get("/remember")
        answer = await browser.get("/remember?age=0")
        assert age_in(answer) is None
        assert await said(browser) == (0, 12 * HOUR)
        await ends_after(browser, subject, 12 * HOUR)


@in_loop
async def test_an_idle_timeout_of_its_own_stays(factory: Factory) -> None:
    """What the application has set for this session is neither lengthened nor forgotten."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await browser.get(f"/remember?idle={HOUR}")
        assert await said(browser) == (30 * DAY, HOUR)
        await browser.get("/remember?age=0")
        assert await said(browser) == (0, HOUR)
        await browser.get(f"/remember?age={DAY}")
        assert await said(browser) == (DAY, HOUR)
        await ends_after(browser, subject, HOUR)


@in_loop
async def test_given_timeouts_win_and_it_is_said_once(factory: Factory, caplog: Any) -> None:
    """L6: given and shorter: the session ends before its cookie."""
    async with site(factory, HANDLERS, idle_timeout=2 * DAY, lifetime=3 * DAY) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        for _ in range(2):
            assert age_in(await browser.get("/remember")) == str(30 * DAY)
        assert len(events(caplog, "session.max_age_cut")) == 1
        assert await said(browser) == (30 * DAY, 2 * DAY)
        subject.clock.advance(2 * DAY - 1)
        assert await content(browser) == {"a": "1"}
        await ends_after(browser, subject, DAY + 1)


@in_loop
async def test_a_lifetime_that_was_not_given_is_no_limit(factory: Factory, caplog: Any) -> None:
    """The default of seven days is at least max_age for this session, and for no other."""
    async with site(factory, HANDLERS) as (app, subject):
        browser, other = Browser(app), Browser(app)
        await browser.get("/set?a=1")
        await other.get("/set?a=1")
        await browser.get("/remember")
        assert events(caplog, "session.max_age_cut") == []
        for _ in range(14):
            await other.get("/plain")
            subject.clock.advance(DAY / 2)
        assert await content(other) == {}
        assert await content(browser) == {"a": "1"}
        subject.clock.advance(22 * DAY)
        assert await content(browser) == {"a": "1"}


@in_loop
async def test_before_it_is_set_it_is_the_middleware_s(factory: Factory) -> None:
    """What the middleware was given is what the session says, and what its cookie has."""
    async with site(factory, HANDLERS, max_age=HOUR) as (app, _):
        browser = Browser(app)
        assert age_in(await browser.get("/set?a=1")) == str(HOUR)
        assert (await said(browser))[0] == HOUR


@pytest.mark.parametrize("days", [400, 401])
@in_loop
async def test_above_what_browsers_keep(factory: Factory, caplog: Any, days: int) -> None:
    """400 days are kept, more is said once."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        for _ in range(2):
            await browser.get(f"/remember?age={days * DAY}")
        assert len(events(caplog, "session.max_age_clamped")) == (days == 401)


@pytest.mark.parametrize("save", ["", "&save=1"])
@in_loop
async def test_a_new_session(factory: Factory, save: str) -> None:
    """Its first cookie has the Max-Age; alone it makes no session."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        assert (await browser.get(f"/remember?nothing=1{save}")).cookies == []
        assert age_in(await browser.get(f"/remember?age={2 * DAY}&write=1{save}")) == str(2 * DAY)
        assert await said(browser) == (2 * DAY, 2 * DAY)
        assert await content(browser) == {"b": "1"}
        await ends_after(browser, subject, 2 * DAY)


@in_loop
async def test_beside_regenerate_id(factory: Factory) -> None:
    """One cookie, of a new secret, with the Max-Age; a later regeneration keeps it."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        before, old = secret_of(browser), tab(browser)
        assert age_in(await browser.get("/remember?regenerate=1&write=1")) == str(30 * DAY)
        assert secret_of(browser) != before
        assert await content(browser) == {"a": "1", "b": "1"}
        assert await content(old) == {}
        subject.clock.advance(DAY)
        assert age_in(await browser.get("/login")) == str(30 * DAY)
        await ends_after(browser, subject, 29 * DAY)  # of the lifetime, which counts from the creation


@in_loop
async def test_not_with_an_error_status(factory: Factory) -> None:
    """With 500 nothing of it happens, awaited save() or not: no cookie, the end stays."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        for save in ("", "&save=1"):
            answer = await browser.get(f"/remember?status=500{save}")
            assert (answer.status, answer.cookies) == (500, [])
        assert await said(browser) == (0, 12 * HOUR)
        await ends_after(browser, subject, 12 * HOUR)


@in_loop
async def test_not_after_the_start(factory: Factory) -> None:
    """No cookie can leave any more; reading is free."""

    async def late(call: Call) -> None:
        await call.start()
        assert call.session.max_age == timedelta(0)
        with pytest.raises(HeadersSent, match="max_age"):
            call.session.max_age = DAY
        await call.finish()

    async with site(factory, {**HANDLERS, "/late": late}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        assert (await browser.get("/late")).status == 200
        assert await said(browser) == (0, 12 * HOUR)


@pytest.mark.parametrize("wrong", [None, True, -1, float("nan"), float("inf"), 10**10, "30 days", timedelta(-1)])
@in_loop
async def test_what_is_no_age(factory: Factory, wrong: Any) -> None:
    """An error at once, and nothing is asked for."""

    async def act(call: Call) -> None:
        with pytest.raises(ValueError, match="max_age"):
            call.session.max_age = wrong
        await call.reply()

    async with site(factory, {**HANDLERS, "/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        assert (await browser.get("/act")).cookies == []


@in_loop
async def test_a_fraction_of_a_second_is_a_whole_one(factory: Factory) -> None:
    """0 means something else, so half a second must not become it."""
    assert (age_of(0), age_of(0.5), age_of(timedelta(milliseconds=1500))) == (0.0, 1.0, 2.0)


@in_loop
async def test_w8_never_in_a_request_whose_token_was_replaced(factory: Factory, caplog: Any) -> None:
    """W8: another request regenerates meanwhile: what this one writes is kept, its old token is not sent again."""
    caplog.set_level(logging.INFO)
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        call.session.max_age = 30 * DAY
        call.session["late"] = 1
        begun.set()
        await gone.wait()
        await call.reply()

    async with site(factory, {**HANDLERS, "/slow": slow}) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        running = asyncio.ensure_future(tab(browser).get("/slow"))
        await begun.wait()
        await browser.get("/login")
        gone.set()
        assert (await running).cookies == []
        assert await content(browser) == {"a": "1", "user": "me", "late": 1}
        assert len(events(caplog, "session.not_renewed")) == 1
        assert await said(browser) == (0, 12 * HOUR)
        await ends_after(browser, subject, 12 * HOUR)


@in_loop
async def test_w8_nor_in_one_that_is_superseded_or_gone(factory: Factory) -> None:
    """W8: with the cookie of a moment ago, and where the session was ended meanwhile."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        call.session.max_age = 30 * DAY
        begun.set()
        await gone.wait()
        await call.reply()

    async with site(factory, {**HANDLERS, "/slow": slow}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        old = tab(browser)
        await browser.get("/login")
        assert (await old.get("/remember")).cookies == []
        running = asyncio.ensure_future(tab(browser).get("/slow"))
        await begun.wait()
        await browser.get("/logout")
        gone.set()
        assert (await running).cookies == []


@pytest.mark.parametrize("way", ["", "/now"])
@in_loop
async def test_login_with_max_age(factory: Factory, way: str) -> None:
    """The cookie has it, the end counts from the login, the middleware's is back with the next login of another."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(HOUR)
        assert age_in(await browser.get(f"/in{way}?user=ada&age={30 * DAY}")) == str(30 * DAY)
        assert await said(browser) == (30 * DAY, 30 * DAY)
        assert age_in(await browser.get(f"/in{way}?user=ada")) == str(30 * DAY)
        assert await said(browser) == (30 * DAY, 30 * DAY)
        other = tab(browser)
        assert age_in(await browser.get(f"/in{way}?user=eve")) is None
        assert await said(browser) == (0, 12 * HOUR)
        other = Browser(app)
        await other.get(f"/in{way}?user=ada&age={30 * DAY}")
        await ends_after(other, subject, 30 * DAY)


@pytest.mark.parametrize(
    ("query", "age"),
    [
        (f"before={DAY}", DAY),
        (f"after={DAY}", DAY),
        (f"age={2 * DAY}&before={DAY}", 2 * DAY),
        (f"age={2 * DAY}&after={DAY}", DAY),
        ("age=0", 0),
        ("", 0),
    ],
)
@in_loop
async def test_the_last_word_counts(factory: Factory, query: str, age: int) -> None:
    """Set before or after login(), or given to it; a guest's age before this request is forgotten at his login."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await browser.get(f"/remember?age={5 * DAY}")
        answer = await browser.get(f"/log-in?user=ada&{query}")
        assert answer.text == str(age)
        assert age_in(answer) == (str(age) if age else None)
        assert await said(browser) == (age, max(age, 12 * HOUR))


@in_loop
async def test_a_save_meanwhile_is_not_overwritten(factory: Factory) -> None:
    """L8: two tabs, one sets an attribute, the other max_age: both are kept."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await asyncio.gather(tab(browser).get("/remember"), tab(browser).get("/set?c=3"))
        assert await content(browser) == {"a": "1", "c": "3"}
        assert (await said(browser))[0] == 30 * DAY


@in_loop
async def test_on_a_websocket(factory: Factory) -> None:
    """The cookie leaves with its accept; from a foreign origin there is no session to keep."""

    async def socket(call: Call) -> None:
        await call.receive()
        try:
            call.session.max_age = DAY
        except SessionNotEstablished:
            await call.send({"type": "websocket.close", "code": 4000, "reason": ""})
            return
        await call.send({"type": "websocket.accept"})
        await call.send({"type": "websocket.close", "code": 1000, "reason": ""})

    async with site(factory, {**HANDLERS, "/socket": socket}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        async with browser.websocket("/socket", headers={"origin": "https://evil.example"}) as socket_:
            assert (await socket_.accepted()).messages[0]["code"] == 4000
        assert (await said(browser))[0] == 0
        async with browser.websocket("/socket") as socket_:
            assert age_in(await socket_.accepted()) == str(DAY)
        assert (await said(browser))[0] == DAY


@in_loop
async def test_a_store_that_cannot_move_an_end(factory: Factory) -> None:
    """An error at the call, with the reason."""

    async def act(call: Call) -> None:
        with pytest.raises(ConfigError, match="UserStore"):
            call.session.max_age = DAY
        await call.reply()

    async with site(lambda clock: Plain(factory(clock)), {**HANDLERS, "/act": act}) as (app, _):
        assert (await Browser(app).get("/act")).status == 200
