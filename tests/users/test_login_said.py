"""What a session says of itself in the very request that logs in: whether it is new, and its token for forms."""

from __future__ import annotations

import json

import pytest
from accounts import USERS, site
from driver import Browser, in_loop
from routes import Call
from store_subject import Factory

pytestmark = pytest.mark.parametrize("kind", USERS)


@in_loop
async def test_a_guest_s_session_is_no_newer_by_a_login(factory: Factory) -> None:
    """One that this request has begun is new, one that it has loaded is not."""

    async def act(call: Call) -> None:
        before = call.session.is_new
        await call.session.login("ada")
        await call.reply(json.dumps([before, call.session.is_new]))

    async with site(factory, {"/act": act}) as (app, _):
        assert (await Browser(app).get("/act")).json() == [True, True]
        guest = Browser(app)
        await guest.get("/set?a=1")
        assert (await guest.get("/act")).json() == [False, False]


@pytest.mark.parametrize("before", ["nobody", "guest", "ada", "eve"])
@in_loop
async def test_a_form_of_the_answer_that_logs_in_is_good(factory: Factory, before: str) -> None:
    """The secret is drawn at the call, of a new record too, so the next request takes the token of this one."""

    async def act(call: Call) -> None:
        call.session.login("ada")
        await call.reply(call.session.csrf_token)

    async def check(call: Call) -> None:
        await call.reply(str(call.session.check_csrf(call.query["token"])))

    async with site(factory, {"/act": act, "/check": check}) as (app, _):
        browser = Browser(app)
        if before == "guest":
            await browser.get("/set?a=1")
        elif before != "nobody":
            await browser.get(f"/in?user={before}")
        token = (await browser.get("/act")).text
        assert (await browser.get(f"/check?token={token}")).text == "True"
        assert (await browser.get("/who")).json()["user"] == "ada"
