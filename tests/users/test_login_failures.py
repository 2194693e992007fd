"""Logins that fail, are refused or cancelled (SECURITY L3d): nothing is left that anybody could open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from accounts import ROUTES, said
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, record_id, secret_of, serve, tab

from fastersession import LeaseLost, LoginRefused, Sessions, StoreError, TooManySessions
from fastersession.stores.users import LoginOutcome, NotConfirmed, Outcome
from fastersession.testing import FaultyStore

SECRET = "a secret of the session tests, and of nothing else at all"
GUEST = pytest.mark.parametrize("guest", [True, False])


def world(handlers: Any = None, **options: Any) -> tuple[Any, FaultyStore]:
    """Return an application and its store, which suspends and fails as told."""
    store = FaultyStore(clock=FakeClock())
    return serve({**ROUTES, **(handlers or {})}, store=store, **options), store


def directory(store: FaultyStore) -> Sessions:
    """Return what lists the sessions."""
    return Sessions(store, SECRET, session_cookie="sid")


async def prepared(app: Any, *, guest: bool) -> Browser:
    """Return a browser, of a guest who has a session."""
    browser = Browser(app)
    if guest:
        await browser.get("/set?cart=1")
    return browser


@GUEST
@pytest.mark.parametrize("fault", ["raise", "hang", "lose"])
@in_loop
async def test_l3d_the_store_fails_in_a_marked_login(guest: bool, fault: str) -> None:
    """L3d: 503, no cookie; no later request of the browser is the user's."""
    app, store = world(store_timeout=0.1)
    browser = await prepared(app, guest=guest)
    store.fail("login", fault)
    answer = await browser.get("/in?user=ada&keep=cart")
    assert (answer.status, answer.cookies) == (503, [])
    found = await said(browser)
    assert found["user"] is None
    assert found["has"] == ({"cart": "1"} if guest and fault != "lose" else {})
    assert (await browser.get("/in?user=ada&keep=cart")).status == 200
    assert (await said(browser))["user"] == "ada"


@GUEST
@in_loop
async def test_l3d_an_awaited_login_that_fails_leaves_the_session_as_it_was(guest: bool) -> None:
    """L3d: no later save point carries it out, and what is written then is kept."""

    async def act(call: Call) -> None:
        call.session["before"] = 1
        with pytest.raises(StoreError):
            await call.session.login("ada", keep=("cart",))
        assert call.session.user is None
        assert dict(call.session) == ({"cart": "1", "before": 1} if guest else {"before": 1})
        call.session["after"] = 1
        await call.reply()

    app, store = world({"/act": act})
    browser = await prepared(app, guest=guest)
    store.fail("login")
    assert (await browser.get("/act")).status == 200
    found = await said(browser)
    assert (found["user"], found["has"]) == (None, {**({"cart": "1"} if guest else {}), "before": 1, "after": 1})
    assert store.count("login") == 0
    assert await directory(store).of("ada") == []


@GUEST
@in_loop
async def test_l3d_a_login_that_nobody_could_confirm_is_undone_at_the_end(guest: bool, monkeypatch: Any) -> None:
    """L3d: the record is bound to a secret that nobody has: it goes."""
    app, store = world()
    browser = await prepared(app, guest=guest)
    bind = store.inner.login

    async def unconfirmed(*arguments: Any) -> Any:
        await bind(*arguments)
        raise StoreError("the index cannot be reached") from NotConfirmed()

    monkeypatch.setattr(store.inner, "login", unconfirmed)
    assert (await browser.get("/in?user=ada")).status == 503
    assert len(store) == 0
    assert (await said(browser))["user"] is None


@GUEST
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("times", [1, 2, 5])
@in_loop
async def test_l3d_a_request_that_is_cancelled_in_its_login(guest: bool, after: bool, times: int) -> None:
    """L3d: nobody has the cookie, so no record of the user stays, whatever the store was at."""
    app, store = world()
    browser = await prepared(app, guest=guest)
    gate = store.hold("login", after=after)
    async with browser.open("/in/now?user=ada") as held:
        await gate.reached.wait()
        for _ in range(times):
            held.task.cancel()
            await asyncio.sleep(0)
        gate.open.set()
        answer = await held.ended()
    assert isinstance(answer.error, asyncio.CancelledError)
    assert answer.messages == []
    assert await directory(store).of("ada") == []
    assert (await said(browser))["user"] is None


@pytest.mark.parametrize("way", ["/in", "/in/now"])
@in_loop
async def test_a_login_over_another_user_stands_if_his_session_cannot_be_retired(way: str) -> None:
    """The session of before is deleted instead, at the end of the request."""
    app, store = world()
    browser = Browser(app)
    await browser.get("/in?user=ada")
    before, old = tab(browser), record_id(browser)
    store.fail("retire")
    answer = await browser.get(f"{way}?user=eve")
    assert (answer.status, len(answer.cookies)) == (200, 1)
    assert (await said(browser))["user"] == "eve"
    assert (await said(before))["user"] is None
    assert await store.inner.load(old) is None


@in_loop
async def test_a_refused_login_that_is_caught_leaves_the_session_as_it_was() -> None:
    """Awaited: it raises in the handler, which may answer as it likes; both refusals are of one class."""

    async def act(call: Call) -> None:
        call.session["x"] = 1
        with pytest.raises(TooManySessions) as caught:
            await call.session.login("ada")
        assert isinstance(caught.value, LoginRefused)
        await call.reply(dict(call.session).__repr__(), 403)

    app, _ = world({"/act": act}, max_sessions_per_user=1, on_max_sessions="deny")
    await Browser(app).get("/in?user=ada")
    browser = await prepared(app, guest=True)
    secret = secret_of(browser)
    answer = await browser.get("/act")
    assert (answer.status, answer.text, answer.cookies) == (403, "{'cart': '1', 'x': 1}", [])
    assert secret_of(browser) == secret
    assert (await said(browser))["has"] == {"cart": "1", "x": 1}


@in_loop
async def test_a_login_on_a_websocket() -> None:
    """Its cookie goes with the accept."""

    async def act(call: Call) -> None:
        call.session.login("ada")
        await call.receive()
        await call.send({"type": "websocket.accept"})
        await call.send({"type": "websocket.close"})

    app, store = world({"/ws": act})
    browser = await prepared(app, guest=True)
    async with browser.websocket("/ws") as socket:
        assert len((await socket.accepted()).cookies) == 1
    assert (await said(browser))["user"] == "ada"
    sessions = directory(store)
    assert len(await sessions.of("ada")) == 1
    assert await sessions.revoke_user("ada") == 1
    assert (await said(browser))["user"] is None


@in_loop
async def test_a_login_needs_a_store_of_users() -> None:
    """One without the verbs works as before; the error names them at the call."""

    class Plain:
        live = None

        def __init__(self) -> None:
            self.inner = FaultyStore(clock=FakeClock())
            self.clock = self.inner.clock
            for verb in ("open", "close", "load", "create", "update", "touch", "delete", "regenerate", "purge"):
                setattr(self, verb, getattr(self.inner, verb))
            self.lock, self.unlock = self.inner.lock, self.inner.unlock

    app = serve(ROUTES, store=Plain())
    browser = Browser(app)
    await browser.get("/set?a=1")
    with pytest.raises(ValueError, match="lacks the verbs of UserStore"):
        await browser.get("/in?user=ada")
    assert (await said(browser))["has"] == {"a": "1"}


@in_loop
async def test_a_login_that_failed_changes_nothing_of_what_is_known_of_the_store() -> None:
    """What the request has not changed is not written, so another tab's newer value stays; what it removes goes."""

    async def act(call: Call) -> None:
        store.fail("login")
        with pytest.raises(StoreError):
            await call.session.login("ada", keep=("cart",))
        await other.get("/set?cart=9&a=9")
        del call.session["b"]
        await call.reply()

    app, store = world({"/act": act})
    browser = await prepared(app, guest=True)
    await browser.get("/set?a=1&b=2")
    other = tab(browser)
    assert (await browser.get("/act")).status == 200
    assert (await said(browser))["has"] == {"cart": "9", "a": "9"}


@in_loop
async def test_label_and_max_age_stay_at_a_login_of_who_is_logged_in() -> None:
    """Unless others are given; another user has none of them."""
    app, store = world()
    browser = Browser(app)
    await browser.get("/in?user=ada&label=phone&age=1000")
    for query, label in (("", "phone"), ("&label=tablet", "tablet"), ("", "tablet")):
        await browser.get(f"/in?user=ada{query}")
        assert (await said(browser))["label"] == label
    (shown,) = await directory(store).of("ada")
    assert (shown.expires_at - shown.last_accessed_at).total_seconds() == 1000
    await browser.get("/in?user=eve")
    assert (await said(browser))["label"] is None
    (shown,) = await directory(store).of("eve")
    assert (shown.expires_at - shown.last_accessed_at).total_seconds() == 12 * 3600


@in_loop
async def test_a_refusal_that_has_cost_the_record_leaves_an_empty_session(monkeypatch: Any) -> None:
    """Where a store binds before it looks: the session is a new one, and its old cookie is not sent anew."""

    async def act(call: Call) -> None:
        with pytest.raises(LoginRefused):
            await call.session.login("ada", keep=("cart",))
        assert dict(call.session) == {}
        assert call.session.is_new
        assert call.session.id != guest
        if "write" in call.query:
            call.session["x"] = 1
        await call.reply()

    async def refusing(record_id: bytes, *_: Any) -> LoginOutcome:
        await store.inner.delete(record_id)
        return LoginOutcome(Outcome.REVOKED, record_is_gone=True)

    app, store = world({"/act": act})
    monkeypatch.setattr(store.inner, "login", refusing)
    for query, has in (("", {}), ("?write=1", {"x": 1})):
        browser = await prepared(app, guest=True)
        guest = record_id(browser).hex()
        assert len((await browser.get(f"/act{query}")).cookies) == len(has)
        assert (await said(browser))["has"] == has


@in_loop
async def test_a_login_in_a_turn_whose_lease_was_lost() -> None:
    """It is no login of its own beside the other turn, but an error."""

    async def act(call: Call) -> None:
        async with call.session.exclusive():
            store.clock.advance(11)
            record = await store.inner.load(guest)
            assert await store.inner.lock(guest, record.verifier, b"another's", 10.0)
            with pytest.raises(LeaseLost):
                await call.session.login("ada")
            assert call.session.user is None
        await call.reply()

    app, store = world({"/act": act})
    browser = await prepared(app, guest=True)
    guest = record_id(browser)
    assert (await browser.get("/act")).status == 200
    assert (await said(browser))["user"] is None


@GUEST
@in_loop
async def test_what_a_store_is_asked_for(guest: bool) -> None:
    """One call carries out all that was asked for, and says until when the session may live at most."""

    async def act(call: Call) -> None:
        call.session.regenerate_id()
        call.session.establish()
        await call.session.login("ada")
        await call.reply()

    app, store = world({"/act": act}, lifetime=5000.0)
    browser = await prepared(app, guest=guest)
    store.clock.advance(7)
    store.calls.clear()
    assert len((await browser.get("/act")).cookies) == 1
    assert [verb for verb in store.calls if verb not in ("open", "load")] == ["login"]
    (asked,) = [call[3] for call in store.arguments if call[0] == "login"]
    assert asked.until == asked.record.not_after == store.clock() + 5000
    assert asked.authenticated_at == asked.record.accessed_at == store.clock()


@pytest.mark.parametrize("way", ["/in", "/in/now"])
@in_loop
async def test_u2_in_the_very_moment_of_a_revocation(way: str) -> None:
    """U2: on a clock that stands still a login after it works; but not one that says when he has authenticated."""
    app, store = world()
    await Browser(app).get("/everyone")
    given, usual = Browser(app), Browser(app)
    assert (await given.get(f"{way}?user=ada&at={store.clock()}")).status == 409
    assert (await usual.get(f"{way}?user=ada")).status == 200
    assert (await said(usual))["user"] == "ada"


@in_loop
async def test_a_guest_s_session_is_as_old_as_it_was() -> None:
    """Its creation stays at the login, in the request that logs in, too; the lifetime begins anew."""
    seen: list[float] = []

    async def act(call: Call) -> None:
        seen.append(call.session.created_at.timestamp())
        await call.session.login("ada")
        seen.append(call.session.created_at.timestamp())
        await call.reply()

    async def age(call: Call) -> None:
        seen.append(call.session.created_at.timestamp())
        await call.reply()

    app, store = world({"/act": act, "/age": age}, lifetime=100.0)
    created = store.clock()
    browser = await prepared(app, guest=True)
    store.clock.advance(90)
    await browser.get("/act")
    store.clock.advance(90)
    await browser.get("/age")
    assert seen == [created] * 3
    store.clock.advance(10)
    assert (await said(browser))["user"] is None
