"""`rolling=True` on every store (L6, W8): the same token again, once a tenth of its age, only under the current one."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from accounts import USERS, site
from driver import Browser, in_loop
from routes import SECRET, Call, content, record_id, secret_of, serve, tab
from store_subject import Factory

from fastersession import ConfigError, FasterSessionMiddleware
from fastersession.config.kept import STORE_MEMBERS
from fastersession.crypto.tokens import KeyRing
from fastersession.errors import LifetimeWarning

pytestmark = pytest.mark.parametrize("kind", USERS)
AGE, DAY = 1000, 86400
ROLLING = {"rolling": True, "max_age": AGE, "lifetime": 5 * AGE}


async def reply(call: Call) -> None:
    status = int(call.query["status"])
    if "write" in call.query:
        call.session["b"] = call.query["write"]
    await call.reply(status=status)


HANDLERS = {"/reply": reply}


def aged(answer: Any) -> list[str | None]:
    """Return the Max-Age of each cookie of an answer."""
    return [cookie.attributes.get("max-age") for cookie in answer.cookies]


@pytest.mark.parametrize("path", ["/plain", "/", "/set?b=2", "/stream?b=2"])
@in_loop
async def test_once_a_tenth_of_its_age(factory: Factory, path: str) -> None:
    """The same token with a whole Max-Age, whether the request looks, writes, streams or neither."""
    async with site(factory, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        secret = secret_of(browser)
        for _ in range(3):
            subject.clock.advance(AGE / 10 - 1)
            assert (await browser.get(path)).cookies == []
            subject.clock.advance(1)
            answer = await browser.get(path)
            assert aged(answer) == [str(AGE)]
            assert answer.header("cache-control") == b"no-store"
            assert secret_of(browser) == secret
            assert (await browser.get(path)).cookies == []
        subject.clock.advance(AGE - 1)
        assert (await content(browser))["a"] == "1"


@in_loop
async def test_l6_never_beyond_the_lifetime(factory: Factory) -> None:
    """L6: a session that is used all the time ends with its lifetime, and rolls no more when nothing moves."""
    async with site(factory, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        rolled = 0
        for second in range(0, 5 * AGE, 50):
            assert await subject.load(record_id(browser)) is not None, second
            rolled += len((await browser.get("/plain")).cookies)
            subject.clock.advance(50)
        assert rolled == 40  # by the hundredth second, until 4 * AGE
        assert await content(browser) == {}


@in_loop
async def test_an_unused_session_ends_with_its_cookie(factory: Factory) -> None:
    """Only a visit moves the end."""
    async with site(factory, **ROLLING, idle_timeout=10 * AGE) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(AGE / 2)
        await browser.get("/plain")
        subject.clock.advance(AGE - 1)
        assert await subject.load(record_id(browser)) is not None
        subject.clock.advance(1)
        assert await content(browser) == {}


@pytest.mark.parametrize(("status", "rolls"), [(200, True), (204, True), (304, True), (404, True), (500, False)])
@pytest.mark.parametrize("write", ["", "&write=1"])
@in_loop
async def test_with_which_answers(factory: Factory, status: int, rolls: bool, write: str) -> None:
    """With all but those that failed."""
    async with site(factory, HANDLERS, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(AGE / 2)
        assert aged(await browser.get(f"/reply?status={status}{write}")) == [str(AGE)] * rolls
        assert aged(await browser.get("/plain")) == [] if rolls else [str(AGE)]


@in_loop
async def test_w8_only_under_the_current_verifier(factory: Factory) -> None:
    """W8: of a request that another has overtaken by regenerate_id(), what it writes is kept, and no cookie leaves."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        call.session["late"] = 1
        begun.set()
        await gone.wait()
        await call.reply()

    async with site(factory, {"/slow": slow}, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(AGE / 2)
        overtaken, old = tab(browser), tab(browser)
        running = asyncio.ensure_future(overtaken.get("/slow"))
        await begun.wait()
        await browser.get("/login")
        record = await subject.load(record_id(browser))
        assert record is not None
        before = record.not_after
        subject.clock.advance(AGE / 2)
        gone.set()
        assert (await running).cookies == []
        record = await subject.load(record_id(browser))
        assert record is not None
        assert record.not_after == before
        assert (await old.get("/plain")).cookies == []
        assert await content(browser) == {"a": "1", "user": "me", "late": 1}
        subject.clock.advance(AGE / 10)
        assert aged(await browser.get("/plain")) == [str(AGE)]


@in_loop
async def test_w8_the_superseded_and_the_unknown_roll_nothing(factory: Factory) -> None:
    """W8: nor does a request whose session has ended while it ran, or that logs out, in or regenerates."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await gone.wait()
        await call.reply()

    async with site(factory, {"/slow": slow}, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        old = tab(browser)
        await browser.get("/login")
        subject.clock.advance(59)
        assert (await old.get("/plain")).cookies == []
        subject.clock.advance(AGE / 2)
        assert aged(await browser.get("/login")) == [str(AGE)]
        subject.clock.advance(AGE / 2)
        assert aged(await browser.get("/in?user=ada")) == [str(AGE)]
        subject.clock.advance(AGE / 2)
        running = asyncio.ensure_future(tab(browser).get("/slow"))
        await begun.wait()
        assert [cookie.value for cookie in (await browser.get("/out")).cookies] == [""]
        gone.set()
        assert (await running).cookies == []


@in_loop
async def test_sessions_of_their_own_age(factory: Factory) -> None:
    """Each by its own: one that lasts while the browser is open does not roll, one with another age by that."""

    async def remember(call: Call) -> None:
        call.session.max_age = float(call.query["age"])
        await call.reply()

    async with site(factory, {"/remember": remember}, rolling=True, lifetime=None) as (app, subject):
        plain, remembered = Browser(app), Browser(app)
        await plain.get("/set?a=1")
        for _ in range(40):
            subject.clock.advance(DAY / 3)
            assert (await plain.get("/plain")).cookies == []
        await remembered.get("/set?a=1")
        await remembered.get(f"/remember?age={10 * DAY}")
        rolled = [aged(await remembered.get("/plain")) for _ in range(40) if subject.clock.advance(DAY / 2) is None]
        assert [ages for ages in rolled if ages] == [[str(10 * DAY)]] * 20


@in_loop
async def test_beside_a_save_elsewhere(factory: Factory) -> None:
    """L8: rolling moves the end, and nothing that another tab has changed meanwhile."""

    async def idle(call: Call) -> None:
        call.session.idle_timeout = 77.0
        call.session.max_age = 500
        await call.reply()

    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await gone.wait()
        await call.reply()

    async def ages(call: Call) -> None:
        await call.reply(f"{call.session.idle_timeout.total_seconds()} {call.session.max_age.total_seconds()}")

    async with site(factory, {"/idle": idle, "/slow": slow, "/ages": ages}, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(AGE / 2)
        running = asyncio.ensure_future(tab(browser).get("/slow"))
        await begun.wait()
        await browser.get("/idle")
        gone.set()
        await running
        assert (await browser.get("/ages")).text == "77.0 500.0"


@in_loop
async def test_a_websocket_does_not_roll(factory: Factory) -> None:
    """Some servers drop the headers of its accept, so its end would move without its cookie."""

    async def socket(call: Call) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        await call.send({"type": "websocket.close", "code": 1000, "reason": ""})

    async with site(factory, {"/socket": socket}, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(AGE / 2)
        async with browser.websocket("/socket") as opened:
            assert (await opened.accepted()).cookies == []
        assert aged(await browser.get("/plain")) == [str(AGE)]


@in_loop
async def test_a_key_that_is_replaced_is_left_behind(factory: Factory) -> None:
    """The token is signed anew, by the first key: a session that rolls outlives the key that it began with."""
    async with site(factory, secret_key=SECRET, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        second = "another secret of the session tests, newer, and of nothing else"
        browser.app = serve(store=subject.store, secret_key=[second, SECRET], **ROLLING)
        subject.clock.advance(AGE / 2)
        assert aged(await browser.get("/plain")) == [str(AGE)]
        (cookie,) = browser.jar.values()
        assert KeyRing([second.encode()], cookie.name).unsign(cookie.value.encode()) is not None
        assert await content(browser) == {"a": "1"}


@in_loop
async def test_w8_of_two_cookies_the_current_one_is_sent_again(factory: Factory) -> None:
    """W8: an old twin of the cookie, of another path say, comes first in the header: its token is not issued again."""
    async with site(factory, **ROLLING) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        (old,) = browser.jar.values()
        await browser.get("/login")
        (new,) = browser.jar.values()
        subject.clock.advance(AGE / 2)
        pairs = f"{old.name}={old.value}; {new.name}={new.value}"
        (again,) = (await Browser(app).get("/plain", headers={"cookie": pairs})).cookies
        assert (again.value, again.attributes["max-age"]) == (new.value, str(AGE))


@in_loop
async def test_without_rolling_nothing_moves(factory: Factory) -> None:
    """The default: one cookie, one end."""
    async with site(factory, max_age=AGE, lifetime=5 * AGE) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        subject.clock.advance(AGE - 1)
        assert (await browser.get("/plain")).cookies == []
        subject.clock.advance(1)
        assert await content(browser) == {}


@in_loop
async def test_arguments_of_rolling(factory: Factory, kind: str) -> None:
    """What cannot work is an error, what moves nothing a warning."""

    class Plain:
        live = None

    store = factory(lambda: 0.0)
    for name in STORE_MEMBERS:
        setattr(Plain, name, getattr(Plain, name, getattr(store, name)))
    with pytest.raises(ConfigError, match="rolling: Plain lacks"):
        FasterSessionMiddleware(serve, SECRET, Plain(), rolling=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rolling: must"):
        FasterSessionMiddleware(serve, SECRET, store, rolling=1)  # type: ignore[arg-type]
    with pytest.warns(LifetimeWarning, match="rolling=True"):
        FasterSessionMiddleware(serve, SECRET, store, rolling=True, max_age=30 * DAY)
    with pytest.warns(LifetimeWarning, match="400 days"):
        FasterSessionMiddleware(serve, SECRET, store, max_age=400 * DAY + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for more in ({"max_age": AGE}, {"max_age": 400 * DAY, "lifetime": None}, {}):
            FasterSessionMiddleware(serve, SECRET, store, rolling=True, **more)  # type: ignore[arg-type]
