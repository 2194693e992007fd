"""A token that was replaced long ago (LIFECYCLE: theft alarm): told, and, if so configured, the end of its session."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from accounts import USERS, said, site
from driver import Browser, in_loop
from routes import SECRET, content, events, record_id, serve, tab
from store_subject import Factory

from fastersession import ConfigError
from fastersession.crypto.tokens import KeyRing

pytestmark = pytest.mark.parametrize("kind", USERS)
GRACE = 60
REVOKE = {"on_reuse": "revoke"}


@pytest.mark.parametrize("options", [{}, REVOKE])
@in_loop
async def test_after_the_grace_it_is_told(factory: Factory, options: Any, caplog: Any) -> None:
    """Within it a late request is no thief; from then on each use is told, with the id, and opens nothing."""
    async with site(factory, **options) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        thief = tab(browser)
        await browser.get("/login")
        subject.clock.advance(GRACE - 1)
        assert await content(thief) == {}
        assert events(caplog, "token.reused") == []
        subject.clock.advance(1)
        assert await content(thief) == {}
        (told,) = events(caplog, "token.reused")
        assert (told.levelname, told.session_id) == ("WARNING", record_id(browser).hex())
        expected = {} if options else {"a": "1", "user": "me"}
        assert await content(browser) == expected
        assert (await thief.get("/plain")).cookies == []


@in_loop
async def test_two_generations_back_too(factory: Factory, caplog: Any) -> None:
    """Any token that was once this session's."""
    async with site(factory) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        thief = tab(browser)
        await browser.get("/login")
        subject.clock.advance(GRACE)
        await browser.get("/login")
        subject.clock.advance(GRACE)
        await content(thief)
        assert len(events(caplog, "token.reused")) == 1


@in_loop
async def test_a_token_of_before_the_login(factory: Factory, caplog: Any) -> None:
    """Of a planted session, or of the guest that the user was: it ends the user's session, and shows nothing."""
    async with site(factory, **REVOKE) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        planted = tab(browser)
        await browser.get("/in?user=ada")
        subject.clock.advance(GRACE)
        assert (await said(planted))["has"] == {}
        assert len(events(caplog, "token.reused")) == 1
        assert (await said(browser))["user"] is None
        assert await subject.load(record_id(browser)) is None


@in_loop
async def test_the_reason_is_told_to_the_store(factory: Factory) -> None:
    """It ends as revoked."""
    async with site(factory, **REVOKE) as (app, subject):
        reasons: list[str] = []
        verbs = subject.store.live or subject.store
        delete = verbs.delete

        def noting(record_id: bytes, reason: str = "invalidated") -> Any:
            reasons.append(reason)
            return delete(record_id, reason)

        verbs.delete = noting
        browser = Browser(app)
        await browser.get("/set?a=1")
        thief = tab(browser)
        await browser.get("/login")
        subject.clock.advance(GRACE)
        await content(thief)
        assert reasons == ["revoked"]


@in_loop
async def test_who_has_the_new_token_too_is_no_thief(factory: Factory, caplog: Any) -> None:
    """P4: an old cookie beside the new one (of another path, say) hides nothing, and ends nothing."""
    async with site(factory, **REVOKE) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        old = next(iter(browser.jar.values()))
        stale = f"{old.name}={old.value}"
        await browser.get("/login")
        subject.clock.advance(GRACE)
        new = next(iter(browser.jar.values()))
        fresh = f"{new.name}={new.value}"
        for pair in (f"{stale}; {fresh}", f"{fresh}; {stale}"):
            both = Browser(app)
            assert (await both.get("/", headers={"cookie": pair})).json() == {"a": "1", "user": "me"}
        assert events(caplog, "token.reused") == []
        other = Browser(app)
        await other.get("/set?b=1")
        mine = next(iter(other.jar.values()))
        found = await Browser(app).get("/", headers={"cookie": f"{stale}; {mine.name}={mine.value}"})
        assert found.json() == {"b": "1"}
        assert len(events(caplog, "token.reused")) == 1
        assert await content(browser) == {}


@in_loop
async def test_what_was_never_regenerated_is_not_reused(factory: Factory, caplog: Any) -> None:
    """A session that ended, another key, a forged token: none of that is a copy of an old cookie."""
    caplog.set_level(logging.DEBUG)
    async with site(factory, **REVOKE) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        ended = tab(browser)
        await browser.get("/out")
        subject.clock.advance(GRACE)
        await content(ended)
        forged = Browser(app)
        await forged.get("/", headers={"cookie": "sid=" + "A" * 88})
        other = Browser(serve(store=subject.store, secret_key="a secret of somebody else, not known here at all"))
        await other.get("/set?a=1")
        await content(tab(other))
        mine = Browser(app)
        await mine.get("/set?a=1")
        unknown = KeyRing([SECRET.encode()], "sid").sign((record_id(mine), b"s" * 16)).decode()
        subject.clock.advance(GRACE)
        await Browser(app).get("/", headers={"cookie": f"sid={unknown}"})
        assert await content(mine) == {"a": "1"}
        assert events(caplog, "token.reused") == []


@in_loop
async def test_anybody_with_an_old_cookie_can_cause_it_so_it_is_bounded(factory: Factory, caplog: Any) -> None:
    """Ten a minute, whatever else is told meanwhile."""
    caplog.set_level(logging.DEBUG)
    async with site(factory) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        thief = tab(browser)
        await browser.get("/login")
        subject.clock.advance(GRACE)
        for _ in range(15):
            await Browser(app).get("/plain", headers={"cookie": "sid=junk"})
        for _ in range(15):
            await thief.get("/plain")
        assert len(events(caplog, "cookie.rejected")) <= 20
        assert 10 <= len(events(caplog, "token.reused")) <= 20  # a minute may begin between


@in_loop
async def test_arguments_of_on_reuse(factory: Factory) -> None:
    """What it does not know is an error."""
    with pytest.raises(ConfigError, match="on_reuse"):
        serve(store=factory(lambda: 0.0), on_reuse="delete")
