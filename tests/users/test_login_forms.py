"""The token for forms around a login: U9b of SECURITY, on the stores that keep users."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import USERS, said, site
from driver import Browser, in_loop
from routes import Call
from store_subject import Factory

STORES = pytest.mark.parametrize("kind", USERS)


async def form(call: Call) -> None:
    await call.reply(call.session.csrf_token)


async def check(call: Call) -> None:
    await call.reply(str(call.session.check_csrf(call.query.get("token"))))


async def login_form(call: Call) -> None:
    call.session.login(call.query["user"])
    shown = call.session.csrf_token
    assert call.session.csrf_token != shown
    await call.reply(shown, int(call.query.get("status", 200)))


async def login_now_form(call: Call) -> None:
    await call.session.login(call.query["user"])
    await call.reply(call.session.csrf_token)


async def form_login_now(call: Call) -> None:
    """Read it between the call and its awaiting."""
    pending = call.session.login(call.query["user"])
    shown = call.session.csrf_token
    await pending
    assert call.session.check_csrf(shown)
    await call.reply(shown)


async def clear_login_form(call: Call) -> None:
    call.session.clear()
    call.session.login(call.query["user"])
    await call.reply(call.session.csrf_token)


async def gone_login_form(call: Call) -> None:
    """Log in where the record was ended meanwhile, and so gets a new one."""
    await call.scope["state"]["session"].sessions.revoke(call.session.id)
    await login_form(call)


HANDLERS: dict[str, Any] = {
    "/form": form, "/check": check, "/login-form": login_form, "/login-now-form": login_now_form,
    "/form-login-now": form_login_now, "/clear-login-form": clear_login_form, "/gone-login-form": gone_login_form,
}  # fmt: skip


async def valid(browser: Browser, token: str) -> bool:
    return (await browser.get(f"/check?token={token}")).text == "True"


@STORES
@pytest.mark.parametrize("path", ["/login-form", "/login-now-form", "/form-login-now", "/clear-login-form"])
@pytest.mark.parametrize("before", [None, "guest", "ada", "bob"])
@in_loop
async def test_u9b_the_answer_of_a_login_shows_the_new_session_s_token(
    before: str | None, path: str, kind: str, factory: Factory
) -> None:
    """U9b: valid under the login's cookie, whoever was there before; of before only the same user's are."""
    async with site(factory, HANDLERS) as (app, _):
        browser, shown = Browser(app), ""
        if before is not None:
            await browser.get(f"/in?user={before}" if before != "guest" else "/form")
            shown = (await browser.get("/form")).text
            assert await valid(browser, shown)
        answer = await browser.get(f"{path}?user=ada")
        assert len(answer.cookies) == 1
        assert (await said(browser))["user"] == "ada"
        assert await valid(browser, answer.text)
        assert await valid(browser, answer.text)
        assert await valid(browser, shown) == (before == "ada")


@STORES
@in_loop
async def test_u9b_a_login_that_is_not_carried_out(kind: str, factory: Factory) -> None:
    """U9b: at a 500 the session stays as it was; the token of the login is nobody's, those of before are good."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        before = (await browser.get("/form")).text
        shown = (await browser.get("/login-form?user=ada&status=500")).text
        assert (await said(browser))["user"] is None
        assert await valid(browser, before)
        assert not await valid(browser, shown)


@STORES
@in_loop
async def test_u9b_where_the_record_was_lost_meanwhile_no_id_is_used_twice(kind: str, factory: Factory) -> None:
    """U9b: the login gets a record of its own, under another id than the one that was ended, and works."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        await browser.get("/form")
        record_id = (await said(browser))["id"]
        await browser.get("/gone-login-form?user=ada")
        now = await said(browser)
        assert (now["user"], now["id"] == record_id) == ("ada", False)
