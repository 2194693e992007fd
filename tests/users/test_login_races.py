"""Logins that overlap, are cancelled at each await, or meet a store that fails (SECURITY L3b, L3c, L3d)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from accounts import ROUTES, listed, said
from clocks import FakeClock
from driver import Browser, in_loop
from routes import Call, record_id, serve, tab

from fastersession import ExclusiveTimeout, LeaseLost, LoginRefused, MemoryStore, StoreError
from fastersession.testing import FaultyStore

WHO = pytest.mark.parametrize("who", ["visitor", "guest", "ada", "eve"])
WAYS = pytest.mark.parametrize("way", ["/in", "/in/now"])
VERBS = ("load", "login", "retire", "create", "update", "touch", "delete")


def world(handlers: Any = None, **options: Any) -> tuple[Any, FaultyStore]:
    """Return an application and its store, which suspends and fails as told."""
    store = FaultyStore(clock=FakeClock())
    return serve({**ROUTES, **(handlers or {})}, store=store, **options), store


async def prepared(app: Any, who: str) -> Browser:
    """Return a browser, of a guest who has a session, or a user."""
    browser = Browser(app)
    if who == "guest":
        await browser.get("/set?cart=1")
    elif who != "visitor":
        await browser.get(f"/in?user={who}")
    return browser


def owned(store: Any) -> Iterator[str]:
    """Return the ids of the live records that are a user's, listed or not."""
    table = getattr(store, "inner", store).live
    for of, record in table.page(None, 10**6)[0]:
        if record.extra.tag is not None:
            yield of.hex()


async def settled(app: Any, browser: Browser, store: FaultyStore) -> None:
    """Check what must be true after any login of ada, whatever has failed in it."""
    # A cookie that came opens ada's session, or none; what opens hers is listed; what is a user's is listed.
    found = await said(browser)
    ids = await listed(app, "ada")
    if found["user"] == "ada":
        assert found["id"] in ids
    assert sorted(owned(store)) == sorted([*ids, *await listed(app, "eve")])


# --- what comes while a save point is at work ---


@pytest.mark.parametrize("after", [True, False])
@in_loop
async def test_a_login_that_comes_while_the_start_is_saved(after: bool) -> None:
    """Another task asks for it before the headers have left: only this start can carry its cookie."""

    async def act(call: Call) -> None:
        gate = store.hold("update", after=after)
        call.session["b"] = 2
        starting = asyncio.ensure_future(call.start())
        await gate.reached.wait()
        call.session.login("ada", keep=("b",))
        gate.open.set()
        await starting
        assert call.session.user == "ada"
        await call.finish()

    app, store = world({"/act": act})
    browser = await prepared(app, "guest")
    assert len((await browser.get("/act")).cookies) == 1
    found = await said(browser)
    assert (found["user"], found["has"]) == ("ada", {"b": 2})


@pytest.mark.parametrize(("verb", "anew"), [("delete", True), ("login", True), ("login", False)])
@pytest.mark.parametrize("after", [True, False])
@in_loop
async def test_l3d_a_logout_that_comes_while_a_login_is_carried_out(verb: str, anew: bool, after: bool) -> None:
    """L3d: no later call undoes a logout, whatever of the login the store is at."""

    async def act(call: Call) -> None:
        if anew:
            call.session.logout()
        gate = store.hold(verb, after=after)
        logging_in = asyncio.ensure_future(asyncio.wait_for(call.session.login("ada"), None))
        await gate.reached.wait()
        call.session.logout()
        gate.open.set()
        await logging_in
        assert call.session.user is None
        await call.reply()

    app, store = world({"/act": act})
    browser = await prepared(app, "guest")
    answer = await browser.get("/act")
    assert (answer.status, [cookie.value for cookie in answer.cookies]) == (200, [""])
    assert len(store) == 0


@in_loop
async def test_l3d_a_logout_that_comes_while_a_turn_is_looked_at() -> None:
    """L3d: in an exclusive turn the login finds the record regenerated, and asks why: a logout meanwhile holds."""

    async def act(call: Call) -> None:
        async with call.session.exclusive():
            await other.get("/login")
            gate = store.hold("load")
            logging_in = asyncio.ensure_future(asyncio.wait_for(call.session.login("ada"), None))
            await gate.reached.wait()
            call.session.logout()
            gate.open.set()
            await logging_in
        await call.reply()

    app, store = world({"/act": act})
    browser = await prepared(app, "guest")
    other = tab(browser)
    await browser.get("/act")
    assert list(owned(store)) == []
    assert (await said(browser))["user"] is None


@in_loop
async def test_a_login_that_is_tried_again_after_a_lost_answer() -> None:
    """The id of the first try is taken, by itself: it gets another one."""

    async def act(call: Call) -> None:
        store.fail("login", "lose")
        with pytest.raises(StoreError):
            await call.session.login("ada")
        await call.session.login("ada")
        await call.reply()

    app, store = world({"/act": act})
    for who in ("visitor", "guest", "eve"):
        browser = await prepared(app, who)
        assert len((await browser.get("/act")).cookies) == 1
        assert (await said(browser))["user"] == "ada"
        await settled(app, browser, store)


@pytest.mark.parametrize("who", ["visitor", "guest", "ada", "eve"])
@in_loop
async def test_a_running_request_holds_the_session_that_it_has_logged_in_to(who: str) -> None:
    """In memory it does not idle out while the request runs."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)

    async def act(call: Call) -> None:
        await call.session.login("ada")
        clock.advance(101)
        await Browser(app).get("/who")
        call.session["late"] = 1
        await call.reply()
        clock.advance(99)

    app = serve({**ROUTES, "/act": act}, store=store, idle_timeout=100.0)
    browser = await prepared(app, who)
    assert len((await browser.get("/act")).cookies) == 1
    assert (await said(browser))["user"] == "ada"
    clock.advance(101)
    assert (await said(browser))["user"] is None


# --- a store that fails, and callers that give up ---


@WHO
@WAYS
@pytest.mark.parametrize("fault", ["raise", "lose", "hang"])
@pytest.mark.parametrize("verb", VERBS)
@in_loop
async def test_l3d_the_store_fails_at_any_call(who: str, way: str, fault: str, verb: str) -> None:
    """L3d: a cookie leaves with a login that stands, and with no other; what is the user's is listed."""
    app, store = world(store_timeout=0.1 if fault == "hang" else 2.0)
    browser = await prepared(app, who)
    store.fail(verb, fault)
    answer = await browser.get(f"{way}?user=ada&keep=cart")
    assert answer.status in (200, 503)
    assert len(answer.cookies) == (answer.status == 200)
    store._faults.clear()  # what no call has met
    if answer.status == 200 or who == "ada":
        assert (await said(browser))["user"] in ("ada", None)
    else:
        assert (await said(browser))["user"] in (None, who)
    if answer.status == 200:
        assert (await said(browser))["user"] == "ada"
    await settled(app, browser, store)
    assert (await browser.get(f"{way}?user=ada&keep=cart")).status == 200
    assert (await said(browser))["user"] == "ada"


@WHO
@WAYS
@in_loop
async def test_l3d_cancelled_at_each_await(who: str, way: str) -> None:
    """L3d: either the answer has left with its cookie, or nobody's session is the user's."""
    app, store = world()
    left = not_left = 0
    for turns in range(40):
        browser = await prepared(app, who)
        before = await listed(app, "ada")
        async with browser.open(f"{way}?user=ada&keep=cart") as held:
            for _ in range(turns):
                await asyncio.sleep(0)
            held.task.cancel()
            answer = await held.ended()
        if answer.messages:
            left += 1
            assert len(answer.cookies) == 1
            assert (await said(browser))["user"] == "ada"
        else:
            not_left += 1
            assert (await said(browser))["user"] in (None, who)
            assert set(await listed(app, "ada")) <= set(before)
        await settled(app, browser, store)
        await Browser(app).get("/everyone")
    assert left > 0
    assert not_left > 0


# --- many requests of one browser, and of whoever has planted its cookie ---


class Round:
    """The requests of a round: each waits a few turns before each step."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.users: list[Any] = []  # that the attacker's requests have seen

    async def pause(self) -> None:
        for _ in range(self.random.randrange(12)):
            await asyncio.sleep(0)

    async def evil(self, call: Call) -> None:
        """Write from a session that was planted: by every way of saving."""
        call.session["evil"] = 1
        await self.pause()
        self.users.append(call.session.user)
        way = self.random.randrange(5)
        if way == 0:
            await call.session.save()
        elif way == 1:
            await call.session.reload()
        elif way == 2:
            call.session.regenerate_id()
        elif way == 3:
            try:
                async with call.session.exclusive(timeout=5):
                    call.session["evil turn"] = 1
                    await self.pause()
            except (ExclusiveTimeout, LeaseLost):
                pass
        await self.pause()
        self.users.append(call.session.user)
        await call.start()
        call.session["evil stream"] = 1
        await self.pause()
        await call.chunk()
        self.users.append(call.session.user)
        await call.finish()

    async def victim(self, call: Call) -> None:
        """Log in, or do what a user does."""
        await self.pause()
        session = call.session
        way = self.random.randrange(4)
        if way == 0:
            session.regenerate_id()
        elif way == 1:
            await session.reload()
        elif way == 2:
            session["mine"] = 1
            await session.save()
        await self.pause()
        try:
            pending = session.login("ada")
            session["secret"] = 1
            if self.random.random() < 0.5:
                await pending
            await self.pause()
            if self.random.random() < 0.2:
                await call.scope["state"]["session"].sessions.revoke_user("ada", keep=session.id)
        except LoginRefused:
            pass
        await self.pause()
        if self.random.random() < 0.2:
            session.logout()
        await call.reply()


@pytest.mark.parametrize("live", [True, False], ids=["live", "suspending"])
@in_loop
async def test_l3b_l3c_rounds_of_a_planted_session(live: bool) -> None:
    """L3b, L3c: whatever meets whatever, nothing of the attacker's is in the user's sessions, nor the user in his."""
    # After each round: what opens is the user's, or empty; it has nothing that a planted request wrote; the attacker
    # has never seen a user; what is a user's is listed; there are no more sessions than logins.
    alive = 0
    for seed in range(100):
        store: Any = MemoryStore(clock=FakeClock()) if live else FaultyStore(clock=FakeClock())
        this = Round(seed)
        app = serve({**ROUTES, "/evil": this.evil, "/victim": this.victim}, store=store)
        attacker = Browser(app)
        await attacker.get("/set?planted=1")
        victims, evils = [tab(attacker) for _ in range(3)], [tab(attacker) for _ in range(3)]
        everybody = [one.get("/victim") for one in victims] + [one.get("/evil") for one in evils]
        this.random.shuffle(everybody)
        answers = await asyncio.gather(*everybody)
        assert {answer.status for answer in answers} <= {200, 409}, seed
        assert set(this.users) == {None}, seed
        ids = await listed(app, "ada")
        assert sorted(owned(store)) == sorted(ids), seed
        opened = []
        for one in victims:
            found = await said(one)
            if found["user"] is not None:
                opened.append(record_id(one).hex())
                assert found["user"] == "ada", seed
                assert set(found["has"]) == {"secret"}, seed
        assert sorted(set(opened)) == sorted(ids), seed
        alive += len(ids)
        for one in (attacker, *evils):
            assert (await said(one))["user"] is None, seed
    assert alive > 50
