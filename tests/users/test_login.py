"""Login and logout on every store (SECURITY L2, L3b, L3c, L3d): which record, which attributes, which cookie."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from accounts import ROUTES, USERS, said, site
from driver import Browser, in_loop
from routes import Call, events, record_id, secret_of, serve, tab
from store_subject import Factory

from fastersession import HeadersSent, LoginRefused

pytestmark = pytest.mark.parametrize("kind", USERS)
WAYS = pytest.mark.parametrize("way", ["/in", "/in/now"])


@WAYS
@in_loop
async def test_a_visitor_logs_in(factory: Factory, way: str) -> None:
    """A new session, his; what was written before the login goes, but for what is kept."""
    async with site(factory) as (app, subject):
        browser = Browser(app)
        answer = await browser.get(f"{way}?user=ada&label=phone")
        assert answer.status == 200
        assert len(answer.cookies) == 1
        found = await said(browser)
        assert (found["user"], found["label"], found["at"]) == ("ada", "phone", subject.clock())
        assert found["has"] == {"after": "ada"}
        await browser.get("/set?cart=1")
        other = Browser(app)
        assert (await said(other))["user"] is None


@WAYS
@in_loop
async def test_l2_a_guest_logs_in(factory: Factory, way: str) -> None:
    """L2: same id, new secret; of what the store has only what is kept stays; the old token is superseded."""
    async with site(factory) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?cart=1&draft=2&before=0")
        planted, guest, secret = tab(browser), record_id(browser), secret_of(browser)
        await planted.get("/set?added=3")
        subject.clock.advance(10)
        answer = await browser.get(f"{way}?user=ada&keep=cart,never")
        assert len(answer.cookies) == 1
        assert record_id(browser) == guest
        assert secret_of(browser) != secret
        found = await said(browser)
        assert (found["user"], found["has"], found["id"]) == ("ada", {"cart": "1", "after": "ada"}, guest.hex())
        old = await said(planted)
        assert (old["user"], old["has"]) == (None, {})
        assert (await planted.get("/set?late=1")).cookies == []
        assert (await said(browser))["has"] == {"cart": "1", "after": "ada"}


@WAYS
@in_loop
async def test_the_same_user_logs_in_again(factory: Factory, way: str) -> None:
    """All stays but the secret, and the time of the authentication moves."""
    async with site(factory) as (app, subject):
        browser = Browser(app)
        await browser.get("/in?user=ada&label=phone")
        await browser.get("/set?cart=1")
        first, secret = record_id(browser), secret_of(browser)
        subject.clock.advance(100)
        await browser.get(f"{way}?user=ada&label=tablet")
        assert record_id(browser) == first
        assert secret_of(browser) != secret
        found = await said(browser)
        assert found["has"] == {"cart": "1", "after": "ada", "before": 1}
        assert (found["label"], found["at"]) == ("tablet", subject.clock())


@WAYS
@in_loop
async def test_another_user_logs_in(factory: Factory, way: str) -> None:
    """A new record; the session of the user before opens nothing, and is superseded for a minute."""
    async with site(factory) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/set?cart=1&secret=2")
        before, first = tab(browser), record_id(browser)
        await browser.get(f"{way}?user=eve&keep=cart")
        assert record_id(browser) != first
        found = await said(browser)
        assert (found["user"], found["has"]) == ("eve", {"cart": "1", "after": "eve"})
        assert found["id"] != first.hex()
        old = await said(before)
        assert (old["user"], old["has"]) == (None, {})
        assert (await before.get("/set?late=1")).cookies == []
        assert (await said(browser))["has"] == {"cart": "1", "after": "eve"}


@pytest.mark.parametrize("streaming", [True, False])
@in_loop
async def test_l3b_what_an_earlier_request_writes_is_dropped(factory: Factory, streaming: bool, caplog: Any) -> None:
    """L3b, L3c: a request of before the login never becomes the user's; a warning names what it wrote."""
    begun, gone = asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def slow(call: Call) -> None:
        call.session["early"] = 1
        if streaming:
            await call.start()
            await call.chunk()
        begun.set()
        await gone.wait()
        seen.append((call.session.user, call.session.authenticated_at))
        await call.session.reload()
        seen.append((call.session.user, dict(call.session).get("after")))
        call.session["late"] = 1
        if not streaming:
            await call.start()
        await call.finish()

    async with site(factory, {"/slow": slow}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        attacker = tab(browser)
        running = asyncio.ensure_future(attacker.get("/slow"))
        await begun.wait()
        await browser.get("/in?user=ada")
        gone.set()
        assert (await running).cookies == []
        assert seen == [(None, None), (None, None)]
        assert (await said(browser))["has"] == {"after": "ada"}
        warned = [record for record in events(caplog, "session.dropped") if record.levelname == "WARNING"]
        assert any("'late'" in record.getMessage() for record in warned)


@in_loop
async def test_a_login_that_is_only_marked_is_dropped_with_an_error_status(factory: Factory) -> None:
    """The session is as before."""
    async with site(factory) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        secret = secret_of(browser)
        answer = await browser.get("/in?user=ada&status=500")
        assert (answer.status, answer.cookies) == (500, [])
        assert secret_of(browser) == secret
        found = await said(browser)
        assert (found["user"], found["has"]) == (None, {"cart": "1"})


@in_loop
async def test_a_login_that_was_awaited_stands(factory: Factory) -> None:
    """Whatever the status: its cookie leaves; what was written after it is discarded as ever."""
    async with site(factory) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        answer = await browser.get("/in/now?user=ada&keep=cart&status=500")
        assert len(answer.cookies) == 1
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "1"})


@pytest.mark.parametrize("guest", [True, False])
@in_loop
async def test_l3d_a_login_whose_cookie_cannot_leave_is_undone(factory: Factory, guest: bool) -> None:
    """L3d: awaited, then the application raises: no record is left that anybody could open, or list."""

    async def broken(call: Call) -> None:
        await call.session.login("ada")
        raise RuntimeError("before the start")

    async with site(factory, {"/broken": broken}) as (app, subject):
        browser = Browser(app)
        if guest:
            await browser.get("/set?a=1")
        with pytest.raises(RuntimeError):
            await browser.get("/broken")
        assert (await said(browser))["user"] is None
        assert (await said(browser))["has"] == {}
        if guest:
            assert await subject.load(record_id(browser)) is None


@WAYS
@in_loop
async def test_a_login_and_a_logout_in_one_request(factory: Factory, way: str) -> None:
    """The last word counts: nothing of the login stays."""

    async def both(call: Call) -> None:
        pending = call.session.login("ada")
        if way == "/in/now":
            await pending
        call.session.logout()
        await call.reply()

    async def anew(call: Call) -> None:
        call.session.logout()
        call.session.login("eve")
        await call.reply()

    async with site(factory, {"/both": both, "/anew": anew}) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        first, old = record_id(browser), tab(browser)
        await browser.get("/both")
        assert await subject.load(first) is None
        assert (await said(browser))["user"] is None
        assert (await said(old))["has"] == {}
        await old.get("/set?b=1")
        second = record_id(old)
        await old.get("/anew")
        assert record_id(old) != second
        assert await subject.load(second) is None
        found = await said(old)
        assert (found["user"], found["has"]) == ("eve", {})


@in_loop
async def test_twice_in_one_request(factory: Factory) -> None:
    """The last login counts, and what it keeps of what was there."""

    async def twice(call: Call) -> None:
        call.session.login("ada")
        call.session["between"] = 1
        call.session.login("eve", keep=("cart",))
        assert call.session.user == "eve"
        await call.reply()

    async with site(factory, {"/twice": twice}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        answer = await browser.get("/twice")
        assert len(answer.cookies) == 1
        found = await said(browser)
        assert (found["user"], found["has"]) == ("eve", {"cart": "1"})


@in_loop
async def test_two_logins_at_once(factory: Factory) -> None:
    """A double click: each of the two cookies works, whichever arrives last."""
    ready, go = asyncio.Barrier(3), asyncio.Event()

    async def act(call: Call) -> None:
        call.session.get("cart")
        await ready.wait()
        await go.wait()
        call.session.login("ada", keep=("cart",))
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        first, second = tab(browser), tab(browser)
        both = asyncio.gather(first.get("/act"), second.get("/act"))
        await ready.wait()
        go.set()
        for answer in await both:
            assert len(answer.cookies) == 1
        for one in (first, second):
            found = await said(one)
            assert (found["user"], found["has"]) == ("ada", {"cart": "1"})


@in_loop
async def test_regenerating_and_reloading_beside_a_login(factory: Factory) -> None:
    """One cookie; a reload brings back only what is kept."""

    async def act(call: Call) -> None:
        call.session.regenerate_id()
        call.session.login("ada", keep=("cart",))
        await call.session.reload()
        assert dict(call.session) == {"cart": "1"}
        call.session.establish()
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        answer = await browser.get("/act")
        assert len(answer.cookies) == 1
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "1"})


@in_loop
async def test_in_an_exclusive_turn(factory: Factory, kind: str) -> None:
    """The turn goes on after the login of a guest."""

    async def act(call: Call) -> None:
        async with call.session.exclusive():
            call.session["a"] = 1
            await call.session.login("ada", keep=("cart",))
            call.session["b"] = 2
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        assert (await browser.get("/act")).status == 200
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "1", "b": 2})
        assert (await browser.get("/act")).status == 200


@in_loop
async def test_a_login_after_the_start_is_refused(factory: Factory) -> None:
    """No cookie can leave any more."""

    async def late(call: Call) -> None:
        await call.start()
        with pytest.raises(HeadersSent):
            call.session.login("ada")
        await call.finish()

    async with site(factory, {"/late": late}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        assert (await browser.get("/late")).status == 200
        assert (await said(browser))["user"] is None


@pytest.mark.parametrize("guest", [True, False])
@WAYS
@in_loop
async def test_u2_a_login_that_was_authenticated_before_a_revocation(factory: Factory, way: str, guest: bool) -> None:
    """U2: refused: no cookie, 409, and the session is as it was; what was authenticated since works at once."""
    async with site(factory) as (app, subject):
        browser, alone = Browser(app), Browser(app)
        if guest:
            await browser.get("/set?a=1")
        at = subject.clock()
        subject.clock.advance(5)
        await alone.get("/everyone")
        secret = secret_of(browser) if guest else None
        answer = await browser.get(f"{way}?user=ada&at={at}")
        assert (answer.status, answer.cookies) == (409, [])
        assert (b"cache-control", b"no-store") in answer.headers
        found = await said(browser)
        assert (found["user"], found["has"]) == (None, {"a": "1"} if guest and secret_of(browser) == secret else {})
        answer = await browser.get(f"{way}?user=ada")
        assert answer.status == 200
        assert (await said(browser))["user"] == "ada"


@WAYS
@in_loop
async def test_u2_in_the_moment_of_a_revocation_only_a_given_time_is_before_it(factory: Factory, way: str) -> None:
    """U2: a password change revokes and logs in within one tick; a password that was checked in it may be the old."""
    async with site(factory) as (app, subject):
        browser, alone = Browser(app), Browser(app)
        await alone.get("/everyone")
        answer = await browser.get(f"{way}?user=ada&at={subject.clock()}")
        assert (answer.status, answer.cookies) == (409, [])
        assert (await browser.get(f"{way}?user=ada")).status == 200
        assert (await said(browser))["user"] == "ada"


@pytest.mark.parametrize("awaited", [True, False])
@in_loop
async def test_u2_a_login_is_authenticated_when_it_is_called(factory: Factory, awaited: bool) -> None:
    """U2: not when the store is asked: refused is one that was called before a revocation, and none called after it."""

    async def late(call: Call) -> None:
        """Log in, and have all sessions revoked before the login is carried out."""
        if "after" in call.query:
            await everyone()
        asked = call.session.login("ada")
        subject.clock.advance(1)
        if "after" not in call.query:
            await everyone()
        assert call.session.authenticated_at is not None
        assert call.session.authenticated_at.timestamp() == subject.clock() - 1
        if awaited:
            await asked
        await call.reply()

    async with site(factory, {"/late": late}) as (app, subject):
        other, browser = Browser(app), Browser(app)

        async def everyone() -> None:
            assert (await other.get("/everyone")).status == 200

        answer = await browser.get("/late")
        assert (answer.status, answer.cookies) == (409, [])
        assert (await said(browser))["user"] is None
        assert (await browser.get("/late?after=1")).status == 200
        found = await said(browser)
        assert (found["user"], found["at"]) == ("ada", subject.clock() - 1)


@in_loop
async def test_an_authentication_of_long_ago_is_refused(factory: Factory) -> None:
    """Marks are kept for 31 days, so what is older than 30 cannot be compared with one."""

    async def old(call: Call) -> None:
        with pytest.raises(LoginRefused):
            call.session.login("ada", authenticated_at=call.session.created_at.timestamp() - 30 * 86400 - 1)
        assert call.session.user is None
        await call.reply()

    async with site(factory, {"/old": old}) as (app, _):
        assert (await Browser(app).get("/old")).status == 200


@in_loop
async def test_a_regeneration_brings_a_session_under_the_first_key(factory: Factory) -> None:
    """While keys are swapped: once the old key is dropped, a list and a revocation still find the session.

    Unsealed, for what is sealed under a key goes with it.
    """
    seal = False
    old, new = (f"the key {which}, and of this test alone: {secrets.token_hex(8)}" for which in ("before", "after"))

    async def again(call: Call) -> None:
        call.session["b"] = 2
        call.session.regenerate_id()
        await call.reply()

    async with site(factory, secret_key=old, seal=seal) as (app, subject):
        browser = Browser(app)
        await browser.get("/in?user=ada&label=phone")
        first = record_id(browser)
        browser.app = serve({**ROUTES, "/again": again}, store=subject.store, secret_key=[new, old], seal=seal)
        at = (await said(browser))["at"]
        subject.clock.advance(5)
        assert len((await browser.get("/again")).cookies) == 1
        assert record_id(browser) == first
        browser.app = serve(ROUTES, store=subject.store, secret_key=new, seal=seal)
        found = await said(browser)
        assert (found["user"], found["label"], found["at"]) == ("ada", "phone", at)
        assert found["has"] == {"after": "ada", "b": 2}
        await Browser(browser.app).get("/everyone")
        assert (await said(browser))["user"] is None
