"""The rarer cases of login() (SECURITY L3c, L3d, U1): beside other verbs, on a WebSocket, too late, refused."""

from __future__ import annotations

import asyncio
import enum
from typing import Any

import pytest
from accounts import USERS, listed, said, site
from driver import Browser, in_loop
from routes import Call, record_id, secret_of, tab
from store_subject import Factory

from fastersession import HeadersSent, LoginRefused, SessionListener, SessionNotEstablished

pytestmark = pytest.mark.parametrize("kind", USERS)
WAYS = pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "marked"])
DENIAL = {"extensions": {"websocket.http.response": {}}}


def sessions_of(call: Call) -> Any:
    """Return what lists and ends sessions."""
    return call.scope["state"]["session"].sessions


async def logged_in(call: Call, *arguments: Any, awaited: bool, **options: Any) -> None:
    """Log in, marked or awaited."""
    pending = call.session.login(*arguments, **options)
    if awaited:
        await pending


# --- which record ---


@WAYS
@in_loop
async def test_the_record_is_gone(factory: Factory, awaited: bool) -> None:
    """A new record, with what is kept as this request sees it; the old id stays dead."""

    async def act(call: Call) -> None:
        call.session["draft"] = 1
        await subject.store.delete(bytes.fromhex(call.session.id))
        await logged_in(call, "ada", keep=("cart",), awaited=awaited)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        guest = record_id(browser)
        assert len((await browser.get("/act")).cookies) == 1
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "1"})
        assert record_id(browser) != guest
        assert await subject.load(guest) is None


@WAYS
@in_loop
async def test_the_request_has_found_out_that_its_session_is_gone(factory: Factory, awaited: bool) -> None:
    """A save that was refused makes the login no less of one."""

    async def act(call: Call) -> None:
        await subject.store.delete(bytes.fromhex(call.session.id))
        call.session["late"] = 1
        await call.session.save()
        gone = call.session.id
        pending = call.session.login("ada", keep=("cart",))
        assert call.session.id != gone
        if awaited:
            await pending
        await call.reply(gone)

    async with site(factory, {"/act": act}) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        answer = await browser.get("/act")
        assert len(answer.cookies) == 1
        assert record_id(browser).hex() != answer.text
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "1"})


@WAYS
@in_loop
async def test_a_superseded_session_logs_in(factory: Factory, awaited: bool) -> None:
    """A new record: of the one whose cookie was replaced nothing is shown, or changed."""

    async def act(call: Call) -> None:
        assert dict(call.session) == {}
        pending = call.session.login("eve", keep=("cart",))
        shown = call.session.id
        if awaited:
            await pending
        assert call.session.id == shown
        await call.reply(shown)

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        old = tab(browser)
        await browser.get("/in?user=ada&keep=cart")
        answer = await old.get("/act")
        assert len(answer.cookies) == 1
        assert record_id(old).hex() == answer.text
        assert record_id(old) != record_id(browser)
        assert ((await said(old))["user"], (await said(old))["has"]) == ("eve", {})
        assert ((await said(browser))["user"], (await said(browser))["has"]["cart"]) == ("ada", "1")


@WAYS
@in_loop
async def test_what_only_the_store_has_is_kept_by_its_name(factory: Factory, awaited: bool) -> None:
    """``keep`` is about what the store has at the login, which the request may not have seen."""
    loaded, go = asyncio.Event(), asyncio.Event()

    async def act(call: Call) -> None:
        call.session.get("a")
        loaded.set()
        await go.wait()
        await logged_in(call, "ada", keep=("added", "cart"), awaited=awaited)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        acting = asyncio.ensure_future(browser.get("/act"))
        await loaded.wait()
        await tab(browser).get("/set?added=3&cart=4&other=5")
        go.set()
        await acting
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "4", "added": "3"})


@WAYS
@in_loop
async def test_what_goes_may_be_written_again(factory: Factory, awaited: bool) -> None:
    """With the very value that it had: it is the user's."""

    async def act(call: Call) -> None:
        value = call.session["a"]
        pending = call.session.login("ada")
        call.session["a"] = value
        if awaited:
            await pending
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1&b=2")
        await browser.get("/act")
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"a": "1"})


# --- several verbs in one request ---


@pytest.mark.parametrize("first", [True, False])
@WAYS
@in_loop
async def test_establish_and_regenerate_are_included(factory: Factory, awaited: bool, first: bool) -> None:
    """Before the login or after it: one cookie, one record, and the old secret is dead."""

    async def act(call: Call) -> None:
        verbs = [call.session.establish, call.session.regenerate_id]
        for verb in verbs if first else ():
            verb()
        await logged_in(call, "ada", keep=("cart",), awaited=awaited)
        for verb in verbs if not first else ():
            verb()
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser, visitor = Browser(app), Browser(app)
        await browser.get("/set?cart=1&a=2")
        guest, old = record_id(browser), tab(browser)
        for one, has in ((browser, {"cart": "1"}), (visitor, {})):
            assert len((await one.get("/act")).cookies) == 1
            found = await said(one)
            assert (found["user"], found["has"]) == ("ada", has)
        assert record_id(browser) == guest
        assert (await said(old))["user"] is None


@in_loop
async def test_the_last_of_two_logins_is_that_of_the_user_who_was_there(factory: Factory) -> None:
    """All stays, for him nothing has changed: also what the request has written before."""

    async def act(call: Call) -> None:
        call.session["mine"] = 1
        call.session.login("eve")
        call.session.login("ada")
        assert dict(call.session) == {"after": "ada", "cart": "1", "mine": 1}
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/set?cart=1")
        first = record_id(browser)
        await browser.get("/act")
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"after": "ada", "cart": "1", "mine": 1})
        assert record_id(browser) == first


@in_loop
async def test_two_logins_that_are_awaited(factory: Factory) -> None:
    """The second one finds the user of the first: a new record, one cookie, and the first is in no list."""

    async def act(call: Call) -> None:
        await call.session.login("ada", keep=("cart",))
        call.session["secret"] = 1
        await call.session.login("eve", keep=("cart",))
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        guest, old = record_id(browser), tab(browser)
        assert len((await browser.get("/act")).cookies) == 1
        found = await said(browser)
        assert (found["user"], found["has"]) == ("eve", {"cart": "1"})
        assert record_id(browser) != guest
        assert (await listed(app, "ada"), await listed(app, "eve")) == ([], [record_id(browser).hex()])
        assert (await old.get("/set?late=1")).cookies == []


@in_loop
async def test_a_value_that_goes_and_comes_back_is_in_the_other_user_s_record(factory: Factory) -> None:
    """What the record of before has is nothing that the new one had."""

    async def act(call: Call) -> None:
        value = call.session.pop("cart")
        await call.session.login("eve", keep=("cart",))
        call.session["cart"] = value
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/set?cart=1")
        await browser.get("/act")
        assert (await said(browser))["has"] == {"cart": "1"}


@in_loop
async def test_in_an_exclusive_turn_of_another_user(factory: Factory) -> None:
    """With the new record the turn is over; the next of each session comes."""

    async def act(call: Call) -> None:
        async with call.session.exclusive():
            await call.session.login("eve", keep=("cart",))
            call.session["b"] = 2
        async with call.session.exclusive(timeout=5):
            call.session["c"] = 3
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/set?cart=1")
        assert (await browser.get("/act")).status == 200
        found = await said(browser)
        assert (found["user"], found["has"]) == ("eve", {"cart": "1", "b": 2, "c": 3})


@in_loop
async def test_another_user_comes_while_a_tab_regenerates(factory: Factory) -> None:
    """Whatever secret the session of the user before has by now: it is over."""
    loaded, go = asyncio.Event(), asyncio.Event()

    async def act(call: Call) -> None:
        loaded.set()
        await go.wait()
        call.session.login("eve")
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        other = tab(browser)
        acting = asyncio.ensure_future(browser.get("/act"))
        await loaded.wait()
        await other.get("/login")
        go.set()
        await acting
        assert (await said(browser))["user"] == "eve"
        assert (await said(other))["user"] is None
        assert await listed(app, "ada") == []


# --- too late, too early ---


@in_loop
async def test_after_the_end(factory: Factory) -> None:
    """No cookie can leave any more."""
    kept: list[Any] = []

    async def act(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await browser.get("/act")
        with pytest.raises(HeadersSent):
            kept[0].login("ada")
        assert (await said(browser))["user"] is None


@in_loop
async def test_on_a_websocket(factory: Factory) -> None:
    """Before the accept it works; after it, and from a foreign origin, it raises at the call."""
    seen: list[Any] = []

    async def act(call: Call) -> None:
        await call.receive()
        if b"origin" in dict(call.scope["headers"]):
            with pytest.raises(SessionNotEstablished, match="evil"):
                call.session.login("ada")
            seen.append(call.session.user)
            await call.send({"type": "websocket.close"})
            return
        call.session.login("ada", keep=("cart",))
        await call.send({"type": "websocket.accept"})
        with pytest.raises(HeadersSent):
            call.session.login("eve")
        seen.append(call.session.user)
        await call.send({"type": "websocket.close"})

    async with site(factory, {"/ws": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        async with browser.websocket("/ws", headers=[(b"origin", b"https://evil.example")]) as foreign:
            assert (await foreign.ended()).error is None
        assert (await said(browser))["user"] is None
        async with browser.websocket("/ws") as socket:
            assert len((await socket.accepted()).cookies) == 1
            assert (await socket.ended()).error is None
        found = await said(browser)
        assert (found["user"], found["has"]) == ("ada", {"cart": "1"})
        assert seen == [None, "ada"]


@pytest.mark.parametrize("denial", [True, False])
@WAYS
@in_loop
async def test_l3d_a_login_on_a_websocket_is_refused(factory: Factory, awaited: bool, denial: bool) -> None:
    """L3d: a denial with 409, else a close with 1008; no cookie, and nothing is carried out."""

    async def act(call: Call) -> None:
        await call.receive()
        at = call.session.created_at
        await logged_in(call, "ada", authenticated_at=at, awaited=awaited)
        await call.send({"type": "websocket.accept"})

    async with site(factory, {"/ws": act}) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        subject.clock.advance(1)
        await Browser(app).get("/everyone")
        async with browser.websocket("/ws", **(DENIAL if denial else {})) as socket:
            answer = await socket.ended()
        if denial:
            assert (answer.status, answer.cookies, answer.all("cache-control")) == (409, [], [b"no-store"])
        else:
            assert answer.messages == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        assert (await said(browser))["user"] is None
        assert await listed(app, "ada") == []


@pytest.mark.parametrize("end", ["return", "raise", "close"])
@in_loop
async def test_l3d_marked_and_no_start_comes(factory: Factory, end: str) -> None:
    """L3d: it is dropped, and what was written for the user with it; the session is as it was before."""

    async def act(call: Call) -> None:
        call.session["before"] = 1
        call.session.login("ada", keep=("cart",))
        call.session["token"] = "the user's"
        call.session["cart"] = "the user's"
        call.session.save()
        if end == "raise":
            raise RuntimeError("before the start")
        if end == "close":
            await call.receive()
            await call.send({"type": "websocket.close"})

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1&a=2")
        secret = secret_of(browser)
        if end == "close":
            async with browser.websocket("/act") as socket:
                await socket.ended()
        else:
            await browser.get("/act", catch=True)
        found = await said(browser)
        assert found["user"] is None
        assert found["has"] == {"cart": "1", "a": "2", **({} if end == "raise" else {"before": 1})}
        assert secret_of(browser) == secret
        assert await listed(app, "ada") == []


@pytest.mark.parametrize("saved", ["before", "after", "both"])
@in_loop
async def test_l3d_a_save_keeps_nothing_of_a_login_that_is_dropped(factory: Factory, saved: str) -> None:
    """L3d: status 500: what save() covers is kept, but what was written for the user is not the guest's."""

    async def act(call: Call) -> None:
        call.session["mine"] = 1
        if saved != "after":
            call.session.save()
        call.session.login("ada")
        call.session["token"] = "the user's"
        if saved != "before":
            call.session.save()
        await call.reply(status=500)

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        assert (await browser.get("/act")).cookies == []
        found = await said(browser)
        assert (found["user"], found["has"]) == (None, {"cart": "1", **({"mine": 1} if saved != "after" else {})})


# --- refusals, and who is found ---


@pytest.mark.parametrize("who", ["visitor", "guest", "ada", "eve"])
@pytest.mark.parametrize("kept", [True, False])
@in_loop
async def test_u1_a_login_that_was_only_marked_before_a_revocation(factory: Factory, who: str, kept: bool) -> None:
    """U1: he has authenticated when login() was called: the revocation ends it, but for the kept one."""

    async def act(call: Call) -> None:
        call.session.login("ada")
        subject.clock.advance(1)
        await sessions_of(call).revoke_user("ada", keep=call.session.id if kept else None)
        subject.clock.advance(1)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, subject):
        browser = Browser(app)
        if who == "guest":
            await browser.get("/set?cart=1")
        elif who != "visitor":
            await browser.get(f"/in?user={who}")
        answer = await browser.get("/act")
        if kept:
            assert (answer.status, len(answer.cookies)) == (200, 1)
            assert (await said(browser))["user"] == "ada"
            assert await listed(app, "ada") == [record_id(browser).hex()]
        elif who == "ada":  # it has ended this request's own session, which is a logout
            assert (answer.status, [cookie.value for cookie in answer.cookies]) == (200, [""])
            assert (await said(browser))["user"] is None
            assert await listed(app, "ada") == []
        else:
            assert (answer.status, answer.cookies) == (409, [])
            assert (await said(browser))["user"] == (None if who != "eve" else "eve")
            assert await listed(app, "ada") == []


@in_loop
async def test_the_id_is_that_of_the_login_from_the_call_on(factory: Factory) -> None:
    """What the request logs, or keeps in a revocation, is the id that the browser goes on with."""

    async def act(call: Call) -> None:
        ids = [call.session.id]
        pending = call.session.login(call.query["user"])
        ids.append(call.session.id)
        await pending
        ids.append(call.session.id)
        await call.reply(" ".join(ids))

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        for user, changes in (("ada", False), ("ada", False), ("eve", True)):
            before, called, after = (await browser.get(f"/act?user={user}")).text.split()
            assert called == after == record_id(browser).hex()
            assert (before != after) is changes


@in_loop
async def test_u1_a_name_of_the_application_s_own_class(factory: Factory) -> None:
    """U1: a member of an Enum of strings is its value, in the index, too."""

    class Who(str, enum.Enum):  # noqa: UP042 - whose str() is not its value
        ADA = "ada"

    async def act(call: Call) -> None:
        call.session.login(Who.ADA, keep=(Who.ADA,), label=Who.ADA)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?ada=1")
        await browser.get("/act")
        found = await said(browser)
        assert (found["user"], found["label"], found["has"]) == ("ada", "ada", {"ada": "1"})
        assert await listed(app, "ada") == [record_id(browser).hex()]
        await Browser(app).get("/everyone?user=ada")
        assert (await said(browser))["user"] is None


@in_loop
async def test_what_is_to_come_counts_as_now(factory: Factory) -> None:
    """At the call, too: no time is shown that has not come, or that no date can hold."""

    async def act(call: Call) -> None:
        at = call.session.created_at.timestamp()
        pending = call.session.login("ada", authenticated_at=9e11)
        assert call.session.authenticated_at is not None
        assert call.session.authenticated_at.timestamp() == at
        assert call.session.is_fresh(0)
        await pending
        assert call.session.authenticated_at.timestamp() == at
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        assert (await Browser(app).get("/act")).status == 200


@in_loop
async def test_the_id_changes_with_another_user_only(factory: Factory) -> None:
    """A double click gives two sessions: neither goes on in the other's place, and no listener is told so."""
    heard: list[tuple[str, str]] = []
    ready, go = asyncio.Barrier(3), asyncio.Event()

    class Ear(SessionListener):
        def id_changed(self, event: Any) -> None:
            heard.append((event.old_id, event.id))

    async def act(call: Call) -> None:
        call.session.get("cart")
        await ready.wait()
        await go.wait()
        call.session.login("ada")
        await call.reply()

    async with site(factory, {"/act": act}, listeners=[Ear()]) as (app, _):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        first, second = tab(browser), tab(browser)
        both = asyncio.gather(first.get("/act"), second.get("/act"))
        await ready.wait()
        go.set()
        await both
        assert record_id(first) != record_id(second)
        await first.get("/in?user=eve")
        while not heard:
            await asyncio.sleep(0)
        assert len(heard) == 1
        assert heard[0][1] == record_id(first).hex()


@in_loop
async def test_l3c_a_login_in_a_thread_while_the_loop_saves(factory: Factory) -> None:
    """L3c: it is carried out as a whole by one of the save points that come, and nothing that goes is kept."""

    async def act(call: Call) -> None:
        call.session["draft"] = 1

        def work() -> None:
            call.session.login("ada", keep=("cart",))
            call.session["after"] = 1

        working = asyncio.ensure_future(asyncio.to_thread(work))
        while not working.done():
            await call.session.save()
            await asyncio.sleep(0)
        await working
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        for _ in range(5):
            browser = Browser(app)
            await browser.get("/set?cart=1&a=2")
            assert len((await browser.get("/act")).cookies) == 1
            found = await said(browser)
            assert (found["user"], found["has"]) == ("ada", {"cart": "1", "after": 1})


@in_loop
async def test_two_middlewares_with_two_cookies(factory: Factory) -> None:
    """Over one store: who logs in, and is logged out everywhere, in one of them is not in the other."""

    async def act(call: Call) -> None:
        call.scope["staff"].login("ada")
        call.session["cart"] = 1
        await call.reply()

    async def everyone(call: Call) -> None:
        await call.reply(str(await call.scope["state"]["staff"].sessions.revoke_user("ada")))

    async def both(call: Call) -> None:
        call.session.login("ada")
        await call.session.login("ada")
        await call.reply(f"{call.scope['staff'].user} {call.session.user}")

    async with site(factory, {"/act": act, "/staff": everyone, "/both": both}) as (app, subject):
        names = {"scope_key": "staff", "session_cookie": "staff", "session_object": "staff"}
        stack = type(app)(
            app,
            secret_key="a secret of the staff of these tests, and of nobody else",
            store=subject.store,
            secure=False,
            **names,
        )
        browser = Browser(stack)
        assert sorted(cookie.name for cookie in (await browser.get("/act")).cookies) == ["sid", "staff"]
        answer = await browser.get("/both")
        assert answer.text == "ada ada"
        assert [cookie.name for cookie in answer.cookies] == ["sid"]
        assert (await browser.get("/staff")).text == "1"
        assert (await browser.get("/both")).text == "None ada"
        assert len(await listed(app, "ada")) == 1


@in_loop
async def test_u3_an_id_of_somebody_else_ends_nothing(factory: Factory) -> None:
    """U3: with ``user=`` only his own; no guest's, and none that has been replaced or has ended."""

    async def act(call: Call) -> None:
        revoke = sessions_of(call).revoke
        assert [await revoke(call.query["id"], user=user) for user in ("eve", "", "adA")] == [False] * 3
        assert await revoke(call.query["guest"], user="ada") is False
        assert await revoke(call.query["old"], user="ada") is False
        shown = await sessions_of(call).get(call.query["id"])
        assert shown.user == "ada"
        assert not any(isinstance(value, bytes) for value in vars(shown).values())
        assert secret_of(mine).hex() not in repr(shown)
        assert await revoke(call.query["id"], user="ada") is True
        assert await revoke(call.query["id"], user="ada") is False
        assert await sessions_of(call).get(call.query["id"]) is None
        await call.reply()

    async with site(factory, {"/act": act}) as (app, subject):
        mine, guest, old = Browser(app), Browser(app), Browser(app)
        await mine.get("/in?user=ada")
        await guest.get("/set?a=1")
        await old.get("/in?user=ada")
        await subject.delete(record_id(old))
        ids = {name: record_id(one).hex() for name, one in (("id", mine), ("guest", guest), ("old", old))}
        answer = await Browser(app).get("/act?" + "&".join(f"{name}={one}" for name, one in ids.items()))
        assert answer.status == 200
        assert (await said(mine))["user"] is None
        assert (await said(guest))["has"] == {"a": "1"}


@in_loop
async def test_u3_ids_that_are_none(factory: Factory) -> None:
    """U3: ids come from clients: what is none ends nothing, and asks no store."""

    async def act(call: Call) -> None:
        for session_id in ("", " " * 32, "ab " * 10 + "ab", "g" * 32, "a" * 31, "é" * 32, "a" * 33, 5):
            assert await sessions_of(call).revoke(session_id) is False
            assert await sessions_of(call).revoke(session_id, user="ada") is False
            assert await sessions_of(call).get(session_id) is None
            assert await sessions_of(call).attributes(session_id) is None
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        assert (await Browser(app).get("/act")).status == 200


@in_loop
async def test_a_caught_refusal(factory: Factory) -> None:
    """The handler goes on with the session as it was, or where the refusal has cost the record, with an empty one."""

    async def act(call: Call) -> None:
        call.session["before"] = 1
        with pytest.raises(LoginRefused):
            await call.session.login("ada", keep=("cart",), authenticated_at=call.session.created_at)
        assert call.session.user is None
        await call.reply(" ".join(sorted(call.session)), 403)

    async with site(factory, {"/act": act}) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?cart=1")
        subject.clock.advance(1)
        await Browser(app).get("/everyone")
        answer = await browser.get("/act")
        assert answer.cookies == []
        assert answer.text in ("before cart", "")
        assert (await said(browser))["user"] is None
        assert await listed(app, "ada") == []
