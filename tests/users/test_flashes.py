"""`flash()` and `flashes()` on every store (U11): shown once, in order, beside the attributes."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import pytest
from accounts import USERS, said, site
from driver import Browser, in_loop
from routes import Call, content, events, record_id, secret_of, tab
from store_subject import Factory, opened

from fastersession import MemoryStore, SessionNotEstablished, StoreError
from fastersession.flashes import PREFIX, Flash
from fastersession.state import State
from fastersession.stores.users import MOST_ENTRIES

pytestmark = pytest.mark.parametrize("kind", USERS)


def status_of(call: Call) -> int:
    return int(call.query.get("status", 200))


async def flash(call: Call) -> None:
    """Flash each of m=a,b in this order."""
    for message in call.query["m"].split(","):
        call.session.flash(message, call.query.get("category", "message"))
    if "save" in call.query:
        await call.session.save()
    await call.reply(status=status_of(call))


async def show(call: Call) -> None:
    await call.reply(json.dumps(call.session.flashes()), status=status_of(call))


async def take(call: Call) -> None:
    await call.reply(json.dumps(await call.session.flashes()), status=status_of(call))


async def show_twice(call: Call) -> None:
    first = call.session.flashes()
    assert call.session.flashes() == first
    assert await call.session.flashes() == first
    await call.reply(json.dumps(first))


async def show_late(call: Call) -> None:
    """Show it in the body, as a template that streams does."""
    await call.start(status_of(call))
    await call.chunk(json.dumps(call.session.flashes()))
    await call.finish()


async def log_in(call: Call) -> None:
    call.session.flash("before")
    if "save" in call.query:
        await call.session.save()
    pending = call.session.login(call.query["user"])
    if "now" in call.query:
        await pending
    call.session.flash("after")
    await call.reply()


HANDLERS = {
    "/flash": flash, "/show": show, "/take": take, "/twice": show_twice, "/late": show_late, "/log-in": log_in,
}  # fmt: skip
WAYS = pytest.mark.parametrize("way", ["/show", "/take", "/twice", "/late"])


async def shown(browser: Browser, way: str = "/show") -> list[str]:
    return [message for message, _ in (await browser.get(way)).json()]


@WAYS
@pytest.mark.parametrize("save", ["", "&save=1"])
@in_loop
async def test_u11_shown_once_in_order(factory: Factory, way: str, save: str) -> None:
    """U11: those of several requests, and of one moment, the oldest first; then none; no attribute shows them."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        for number in range(3):
            await browser.get(f"/flash?m={number}a,{number}b,{number}c{save}")
            subject.clock.advance(0.001)
        await browser.get("/flash?m=last&category=error")
        assert await content(browser) == {"a": "1"}
        secret = secret_of(browser)
        found = (await browser.get(way)).json()
        assert [message for message, _ in found] == ["0a", "0b", "0c", "1a", "1b", "1c", "2a", "2b", "2c", "last"]
        assert {tuple(one) for one in found if one[1] != "message"} == {("last", "error")}
        assert await shown(browser, way) == []
        assert secret_of(browser) == secret
        assert await content(browser) == {"a": "1"}
        record = await subject.load(record_id(browser))
        assert record is not None
        assert not any(name.startswith(PREFIX) for name in record.attributes)
        assert record.extra.entries is None


@pytest.mark.parametrize("save", ["", "&save=1"])
@in_loop
async def test_a_new_session_begins_for_it(factory: Factory, save: str) -> None:
    """You were logged out: the session is new, and empty but for that; a failed response keeps nothing."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        assert (await browser.get("/flash?m=a&status=500")).cookies == []
        assert len((await browser.get(f"/flash?m=a{save}")).cookies) == 1
        assert await content(browser) == {}
        assert await shown(browser) == ["a"]
        assert await shown(browser) == []

        async def leave(call: Call) -> None:
            call.session.flash("lost")
            call.session.invalidate()
            call.session.flash("bye")
            await call.reply()

        async def empty(call: Call) -> None:
            call.session.clear()
            call.session.flash("emptied")
            await call.reply()

    async with site(factory, {**HANDLERS, "/leave": leave, "/empty": empty}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        before = record_id(browser)
        await browser.get("/leave")
        assert record_id(browser) != before
        assert await shown(browser) == ["bye"]
        await browser.get("/set?a=1")
        before = record_id(browser)
        await browser.get("/empty")
        assert record_id(browser) == before
        assert await content(browser) == {}
        assert await shown(browser) == ["emptied"]


@in_loop
async def test_in_the_same_request(factory: Factory) -> None:
    """A page that is shown at once, as after a form with faults: it never reaches the store."""

    async def at_once(call: Call) -> None:
        call.session.flash("one")
        first = list(call.session.flashes())
        call.session.flash("two")
        await call.reply(json.dumps([first, call.session.flashes()]))

    async def saved(call: Call) -> None:
        call.session.flash("stored")
        await call.session.save()
        await call.reply(json.dumps(call.session.flashes()))

    async def unread(call: Call) -> None:
        call.session.flash("one")
        await call.reply(str(len(call.session.flashes())))

    async with site(factory, {**HANDLERS, "/at-once": at_once, "/saved": saved, "/unread": unread}) as (app, _):
        browser = Browser(app)
        assert (await browser.get("/unread")).cookies == []
        await browser.get("/set?a=1")
        assert (await browser.get("/at-once")).json() == [
            [["one", "message"]], [["one", "message"], ["two", "message"]]
        ]  # fmt: skip
        assert (await browser.get("/saved")).json() == [["stored", "message"]]
        assert await shown(browser) == []


@pytest.mark.parametrize("way", ["/show", "/late"])
@in_loop
async def test_a_failed_response_does_not_take(factory: Factory, way: str) -> None:
    """Of what was only called; what was awaited is taken."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        await browser.get("/flash?m=a")
        assert await shown(browser, f"{way}?status=500") == ["a"]
        assert await shown(browser, f"{way}?status=503") == ["a"]
        assert await shown(browser, way) == ["a"]
        assert await shown(browser, way) == []
        await browser.get("/flash?m=b")
        assert await shown(browser, "/take?status=500") == ["b"]
        assert await shown(browser) == []


@in_loop
async def test_nor_does_a_failed_regeneration(factory: Factory) -> None:
    """A response of 500 that regenerates has a save point, which must not take."""

    async def act(call: Call) -> None:
        call.session.regenerate_id()
        call.session.flash("dropped")
        await call.reply(json.dumps(call.session.flashes()), status=status_of(call))

    async def regenerate(call: Call) -> None:
        call.session.regenerate_id()
        call.session.flash("kept")
        await call.reply()

    async with site(factory, {**HANDLERS, "/act": act, "/regenerate": regenerate}) as (app, subject):
        browser = Browser(app)
        await browser.get("/flash?m=a")
        secret = secret_of(browser)
        subject.clock.advance(1)
        assert await shown(browser, "/act?status=500") == ["a", "dropped"]
        assert secret_of(browser) != secret
        assert await shown(browser, "/act") == ["a", "dropped"]
        assert await shown(browser) == []
        await browser.get("/regenerate")
        assert await shown(browser) == ["kept"]


@in_loop
async def test_u11_each_is_given_to_one_of_fifty(factory: Factory) -> None:
    """U11: fifty tabs that have all loaded the same take at once: each message is given to exactly one."""
    ready, go = asyncio.Barrier(51), asyncio.Event()

    async def at_once(call: Call) -> None:
        await ready.wait()
        await go.wait()
        taken = await call.session.flashes()
        assert list(call.session.flashes()) == taken
        await call.reply(json.dumps(taken))

    async with site(factory, {**HANDLERS, "/at-once": at_once}) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await browser.get("/flash?m=" + ",".join(map(str, range(20))))
        running = asyncio.gather(*(tab(browser).get("/at-once") for _ in range(50)))
        await ready.wait()
        go.set()
        taken = [message for answer in await running for message, _ in answer.json()]
        assert sorted(taken, key=int) == list(map(str, range(20)))
        assert await content(browser) == {"a": "1"}
        assert await shown(browser) == []


@in_loop
async def test_l8_two_tabs_add_at_once(factory: Factory) -> None:
    """L8: neither loses the other's, nor an attribute."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        await asyncio.gather(
            *(tab(browser).get(f"/flash?m={n}") for n in range(10)), tab(browser).get("/set?b=2")
        )  # fmt: skip
        assert sorted(await shown(browser)) == list(map(str, range(10)))
        assert await content(browser) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("more", ["", "&now=1", "&save=1", "&now=1&save=1"])
@pytest.mark.parametrize("before", [None, "eve"])
@in_loop
async def test_u11_a_login_drops_what_was_flashed_before_it(factory: Factory, more: str, before: str | None) -> None:
    """U11: what a guest, or who planted the session, or the user before was told: all but this very request's own."""
    async with site(factory, HANDLERS) as (app, _):
        browser = Browser(app)
        if before is not None:
            await browser.get(f"/in?user={before}")
        await browser.get("/set?a=1")
        await browser.get("/flash?m=planted")
        old = tab(browser)
        await browser.get(f"/log-in?user=ada{more}")
        assert await shown(old) == []
        assert await shown(browser) == ["before", "after"]
        assert await shown(browser) == []


@in_loop
async def test_a_login_of_the_same_user_keeps_them(factory: Factory) -> None:
    """All stays."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/flash?m=a")
        subject.clock.advance(1)
        await browser.get("/log-in?user=ada&save=1")
        assert await shown(browser) == ["a", "before", "after"]
        assert await shown(browser) == []
        assert (await said(browser))["user"] == "ada"


@in_loop
async def test_u11_a_request_of_before_the_login_takes_nothing_of_the_users(factory: Factory) -> None:
    """U11: the attacker's request on a planted session asks after the victim's login."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await gone.wait()
        await call.reply(json.dumps(await call.session.flashes()))

    async with site(factory, {**HANDLERS, "/slow": slow}) as (app, _):
        browser = Browser(app)
        await browser.get("/flash?m=planted")
        running = asyncio.ensure_future(tab(browser).get("/slow"))
        await begun.wait()
        await browser.get("/log-in?user=ada")
        gone.set()
        assert (await running).json() == []
        assert await shown(browser) == ["before", "after"]


@in_loop
async def test_with_the_token_of_a_moment_ago(factory: Factory) -> None:
    """A request that another has overtaken by regenerate_id() may finish: it flashes, shows and takes."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await gone.wait()
        call.session.flash("mine")
        await call.reply(json.dumps(await call.session.flashes()))

    async with site(factory, {**HANDLERS, "/slow": slow}) as (app, subject):
        browser = Browser(app)
        await browser.get("/flash?m=a")
        subject.clock.advance(1)
        running = asyncio.ensure_future(tab(browser).get("/slow"))
        await begun.wait()
        await browser.get("/login")
        gone.set()
        assert [message for message, _ in (await running).json()] == ["a", "mine"]
        assert await shown(browser) == []


@in_loop
async def test_after_the_start(factory: Factory, caplog: Any) -> None:
    """On a live session it is saved with the stream; a new one cannot begin any more; after the end it is told."""
    kept: list[Any] = []

    async def late(call: Call) -> None:
        await call.start()
        await call.chunk()
        call.session.flash("late")
        kept.append(call.session)
        await call.finish()

    async with site(factory, {**HANDLERS, "/late": late}) as (app, _):
        stranger, browser = Browser(app), Browser(app)
        with pytest.raises(SessionNotEstablished, match="flash"):
            await stranger.get("/late")
        await browser.get("/set?a=1")
        await browser.get("/late")
        assert await shown(browser) == ["late"]
        kept[-1].flash("too late")
        kept.clear()
        assert any("flash()" in record.getMessage() for record in events(caplog, "session.unsaved"))


@in_loop
async def test_no_more_than_a_hundred(factory: Factory) -> None:
    """A session that never shows one does not grow for ever: the oldest go."""
    async with site(factory, HANDLERS) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        for number in range(0, MOST_ENTRIES + 10, 10):
            subject.clock.advance(1)
            await browser.get("/flash?m=" + ",".join(map(str, range(number, number + 10))))
        assert await shown(browser) == list(map(str, range(10, MOST_ENTRIES + 10)))


@in_loop
async def test_a_passive_request_shows_none(factory: Factory) -> None:
    """What a browser loads on speculation must not eat a message."""

    async def passive(call: Call) -> None:
        state = call.session._state

        class Passive(type(state)):  # type: ignore[misc]
            __slots__ = ()
            passive: ClassVar[bool] = True

        state.__class__ = Passive
        assert isinstance(state, State)
        assert await call.session.flashes() == []
        await call.reply(json.dumps(call.session.flashes()))

    async with site(factory, {**HANDLERS, "/passive": passive}) as (app, _):
        browser = Browser(app)
        await browser.get("/flash?m=a")
        assert await shown(browser, "/passive") == []
        assert await shown(browser) == ["a"]


@in_loop
async def test_what_is_no_text(factory: Factory) -> None:
    """A TypeError; a subclass is kept as plain text, so what was markup is escaped where it is shown."""

    class Markup(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "plain"

    async def act(call: Call) -> None:
        for wrong in [(1,), (None,), (b"a",), ("a", 1), ("a", None)]:
            with pytest.raises(TypeError, match="flash"):
                call.session.flash(*wrong)
        call.session.flash(Markup("<b>"), "\ud800\x00 é")
        await call.reply()

    async with site(factory, {**HANDLERS, "/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/act")
        assert (await browser.get("/take")).json() == [["plain", "\ud800\x00 é"]]


@in_loop
async def test_names_of_attributes_are_others(factory: Factory) -> None:
    """An attribute whose name begins as a flash's does is an attribute."""

    async def act(call: Call) -> None:
        call.session["~1"] = "mine"
        call.session.flash("a")
        await call.reply()

    async with site(factory, {**HANDLERS, "/act": act}) as (app, subject):
        browser = Browser(app)
        await browser.get("/act")
        for way in ("/take", "/show"):
            subject.clock.advance(1)
            await browser.get("/flash?m=b")
            assert (await shown(browser, way))[-1:] == ["b"]
        assert await content(browser) == {"~1": "mine"}


@in_loop
async def test_a_store_that_fails(factory: Factory) -> None:
    """Awaited, it raises, and nothing was shown: asked again, it is."""

    async def act(call: Call) -> None:
        host = call.session._state.host.flashing
        verbs = host._verbs

        class Broken:
            def take(self, *arguments: Any) -> Any:
                raise OSError

        host._verbs = Broken()
        try:
            with pytest.raises(StoreError):
                await call.session.flashes()
        finally:
            host._verbs = verbs
        await call.reply(json.dumps(await call.session.flashes()))

    async with site(factory, {**HANDLERS, "/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/flash?m=a")
        assert await shown(browser, "/act") == ["a"]
        assert await shown(browser) == []


@in_loop
async def test_who_uses_none_pays_nothing(factory: Factory) -> None:
    """No call of the store, no note in the request: asking alone makes neither."""

    async def ask(call: Call) -> None:
        state = call.session._state
        assert call.session.flashes() == []
        assert await call.session.flashes() == []
        assert (state.intents, state.rare.flashes) == (None, None)
        await call.reply()

    async with site(factory, {**HANDLERS, "/ask": ask}) as (app, subject):
        browser = Browser(app)
        await browser.get("/ask")
        await browser.get("/set?a=1")
        record = await subject.load(record_id(browser))
        assert record is not None
        version = record.version
        assert (await browser.get("/ask")).cookies == []
        record = await subject.load(record_id(browser))
        assert record is not None
        assert record.version == version


@in_loop
async def test_a_flash_has_two_names(factory: Factory) -> None:
    """By position and by name."""
    assert Flash("a", "b").message == "a"
    assert Flash("a", "b").category == "b"


@in_loop
async def test_what_a_live_store_keeps_beside(factory: Factory, kind: str) -> None:
    """Given and taken with the record's own verifier or the one before, by prefix, and nothing otherwise."""
    async with opened(lambda clock: MemoryStore(clock=clock)) as subject:
        live: Any = subject.store.live
        one = await subject.insert({"~a": b"attribute"})
        assert live.give(one, b"x" * 32, {"~a": 1}) is False
        assert live.give(bytes(16), b"v" * 32, {"~a": 1}) is False
        assert live.give(one, b"v" * 32, {"~a": 1, "~b": 2}) is True
        assert await subject.regenerate(one, b"v" * 32, b"w" * 32) is True
        assert live.give(one, b"v" * 32, {"~c": 3}) is True
        assert live.take(one, b"x" * 32, "~") == {}
        assert live.take(one, b"v" * 32, "~b") == {"~b": 2}
        assert live.take(one, b"w" * 32, "~") == {"~a": 1, "~c": 3}
        assert live.take(one, b"w" * 32, "~") == {}
        assert await subject.attributes(one) == {"~a": b"attribute"}
        assert live.give(one, b"w" * 32, {f"~{number:03}": number for number in range(MOST_ENTRIES + 5)}) is True
        assert sorted(live.take(one, b"w" * 32, "~").values()) == list(range(5, MOST_ENTRIES + 5))
