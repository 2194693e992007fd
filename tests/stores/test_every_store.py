"""What the middleware guarantees on every store, over its real server: K2, L5, L8, L11, S9."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
from driver import App, Browser, in_loop
from routes import Call, Handler, content, events, record_id, serve, tab
from store_subject import EVERY, Factory, Subject, fields, opened
from stores import shorten

from fastersession import FasterSessionMiddleware
from fastersession.testing.contract.cancelled import CancelAt

pytestmark = pytest.mark.parametrize("kind", EVERY)
HOUR = 3600


@contextlib.asynccontextmanager
async def site(
    factory: Factory, path: str = "/act", do: Handler | None = None, **options: Any
) -> AsyncIterator[tuple[FasterSessionMiddleware, Subject]]:
    """Serve an application over a store."""
    async with opened(factory) as subject:
        yield serve({path: do} if do else {}, store=subject.store, **options), subject


@in_loop
async def test_k2_a_taken_id_is_drawn_anew(factory: Factory, monkeypatch: Any) -> None:
    """K2: whoever is given a taken id gets a fresh one; the victim's record stays as it is, to the byte."""
    async with site(factory) as (app, subject):
        victim, other = Browser(app), Browser(app)
        await victim.get("/set?name=alice")
        taken, before = record_id(victim), await subject.read(record_id(victim))
        draw, drawn = secrets.token_bytes, [taken + bytes(16)] * 2
        monkeypatch.setattr(secrets, "token_bytes", lambda size: drawn.pop() if size == 32 and drawn else draw(size))
        await other.get("/set?name=mallory")
        assert drawn == []
        assert record_id(other) != taken
        assert await subject.read(taken) == before
        assert [await content(victim), await content(other)] == [{"name": "alice"}, {"name": "mallory"}]


@pytest.mark.parametrize("lost", ["logout", "revoked", "expired", "regenerated twice"])
@pytest.mark.parametrize("streaming", [True, False])
@in_loop
async def test_l5_no_resurrection(lost: str, streaming: bool, factory: Factory, caplog: Any) -> None:
    """L5: a request that outlives its session brings nothing back and sends no cookie; an event tells, and of a
    session that lives on under a third secret a warning names each attribute.
    """
    caplog.set_level("DEBUG", "fastersession")
    gone, begun = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        call.session["before"] = 1
        if streaming:
            await call.start()
            await call.chunk()
        begun.set()
        await gone.wait()
        call.session["after"] = 1
        if not streaming:
            await call.start()
        call.session["end"] = 1
        await call.finish()

    async with site(factory, do=slow, lifetime=HOUR) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?a=1")
        other, old = tab(browser), record_id(browser)
        running = asyncio.ensure_future(browser.get("/act"))
        await begun.wait()
        if lost == "revoked":
            await subject.delete(old)
        elif lost == "expired":
            subject.clock.advance(HOUR)
        else:
            for way in ["/logout"] if lost == "logout" else ["/login"] * 2:
                await other.get(way)
        gone.set()
        assert (await running).cookies == []
        assert (await subject.load(old) is None) == (lost != "regenerated twice")
        assert "after" not in await content(other)
        assert await content(browser) == {}
    dropped = events(caplog, "session.dropped")
    if lost != "regenerated twice":
        assert [event.levelname for event in dropped] == ["INFO"]
        return
    assert {event.levelname for event in dropped} == {"WARNING"}
    text = " ".join(event.getMessage() for event in dropped)
    assert [text.count(repr(name)) for name in ("before", "after", "end")] == [not streaming, 1, 1]


@in_loop
async def test_l5_no_resurrection_after_logout_in_another_tab(factory: Factory) -> None:
    """L5: one tab's stream ends after the other tab has logged out and in again as somebody else."""
    logged_out = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.start()
        await call.chunk()
        await logged_out.wait()
        call.session["answer"] = "of the first user"
        await call.session.save()
        await call.finish()

    async with site(factory, do=slow) as (app, subject):
        browser = Browser(app)
        await browser.get("/set?user=first")
        first = record_id(browser)
        async with browser.open("/act") as held:
            await held.chunk()
            await browser.get("/logout")
            await browser.get("/set?user=second")
            logged_out.set()
            await held.ended()
        assert await content(browser) == {"user": "second"}
        assert await subject.load(first) is None


@in_loop
async def test_l8_concurrent_writes_of_different_attributes_all_survive(factory: Factory, monkeypatch: Any) -> None:
    """L8: fifty requests at once each set one attribute, delete another and set a late one: all of it happens."""
    shorten(monkeypatch, STORE_SECONDS=60.0)  # longer, for once: on a busy machine all fifty wait for each other
    meeting = asyncio.Barrier(50)

    async def hammer(call: Call) -> None:
        me = call.query["me"]
        await meeting.wait()
        call.session[f"new{me}"] = me
        del call.session[f"old{me}"]
        await call.start()
        await meeting.wait()
        call.session[f"late{me}"] = me
        await call.finish()

    async with site(factory, do=hammer) as (app, _):
        browser = Browser(app)
        await browser.get("/set?" + "&".join(f"old{n}=x" for n in range(50)))
        await asyncio.gather(*(tab(browser).get(f"/act?me={n}") for n in range(50)))
        assert await content(browser) == {f"{key}{n}": str(n) for key in ("new", "late") for n in range(50)}


@in_loop
async def test_l11_no_lock_is_held_over_the_handler(factory: Factory) -> None:
    """L11: while one stream of the session is open, a hundred other requests of it are answered and saved."""
    going_on = asyncio.Event()

    async def slow(call: Call) -> None:
        call.session["stream"] = "open"
        await call.start()
        await call.chunk()
        await going_on.wait()
        await call.finish()

    async with site(factory, do=slow) as (app, _):
        browser = Browser(app)
        await browser.get("/set?a=1")
        async with browser.open("/act") as held:
            await held.chunk()
            await asyncio.gather(*(browser.get(f"/set?n{n}=1") for n in range(100)))
            assert len(await content(browser)) == 102
            going_on.set()


@pytest.mark.parametrize("path", ["/", "/set", "/stream", "/login", "/logout", "/turn"])
@in_loop
async def test_s9_a_request_cancelled_at_any_await_spoils_nobody(path: str, factory: Factory) -> None:
    """S9: at each await of the middleware and the application: its save is whole or absent, others get their own."""

    async def turn(call: Call) -> None:
        async with call.session.exclusive():
            call.session.update(call.query)
        await call.reply()

    async with site(factory, "/turn", turn) as (app, subject):
        bob = Browser(app)
        await bob.get("/set?name=bob")
        for at in range(500):
            alice = Browser(app)
            await alice.get("/set?name=alice")
            mine = record_id(alice)
            alice.app = cancelling(app, at)
            both = alice.get(f"{path}?a={at}&b={at}", catch=True), tab(bob).get("/")
            answer, neighbour = await asyncio.gather(*both)
            assert neighbour.json() == {"name": "bob"}
            found = fields(await subject.load(mine))
            alice.app = app
            kept = await content(alice)
            assert set(kept.items()) <= {("name", "alice"), ("a", str(at)), ("b", str(at)), ("user", "me")}
            assert kept.get("a") == kept.get("b")
            assert found is not None or kept == {}
            if not isinstance(answer.error, asyncio.CancelledError):
                assert answer.status == 200
                break
        else:
            pytest.fail("it never ran through")


def cancelling(app: App, at: int) -> App:
    async def cancelled(scope: Any, receive: Any, send: Any) -> None:
        await CancelAt(app(scope, receive, send), at)

    return cancelled
