"""Listeners (SECURITY U6): what they are told, by whom, how often, and that no response waits for them."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from accounts import USERS, said, site
from clocks import FakeClock
from driver import Browser, in_loop, lifespan
from routes import Call, events, record_id, serve, tab
from store_subject import Factory, opened

from fastersession import ConfigError, DestroyedEvent, MemoryStore, SessionListener

kinds = pytest.mark.parametrize("kind", USERS)


class Ear(SessionListener):
    """Hears everything."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def created(self, event: Any) -> None:
        self.heard.append(("created", event))

    async def login(self, event: Any) -> None:
        self.heard.append(("login", event))

    def id_changed(self, event: Any) -> None:
        self.heard.append(("id_changed", event))

    async def destroyed(self, event: Any) -> None:
        await asyncio.sleep(0)
        self.heard.append(("destroyed", event))

    def suspicious(self, event: Any) -> None:
        self.heard.append(("suspicious", event))

    def names(self) -> list[str]:
        return [name for name, _ in self.heard]

    def ends(self) -> list[DestroyedEvent]:
        return [event for name, event in self.heard if name == "destroyed"]

    async def until(self, there: Callable[[], bool]) -> None:
        """Wait until something was heard."""
        async with asyncio.timeout(60):  # Redis looks at one of 16 shards a second
            while not there():
                await asyncio.sleep(0.01)


@kinds
@in_loop
async def test_what_is_told_of_one_session(factory: Factory) -> None:
    """Created once, the login of a guest with the same id, another user's with both ids, and each end."""
    ear = Ear()
    async with site(factory, listeners=[ear]) as (app, _), lifespan(app):
        browser = Browser(app)
        await browser.get("/set?a=1")
        guest = record_id(browser).hex()
        await ear.until(lambda: ear.names() == ["created"])
        await browser.get("/in?user=ada&label=phone")
        await ear.until(lambda: ear.names() == ["created", "login"])
        event = ear.heard[1][1]
        assert (event.id, event.user, event.label) == (guest, "ada", "phone")
        await browser.get("/in?user=eve")
        await ear.until(lambda: ear.names()[2:] == ["created", "login", "id_changed"])
        changed = ear.heard[-1][1]
        assert (changed.old_id, changed.id, changed.user) == (guest, record_id(browser).hex(), "eve")
        await browser.get("/set?kv=x")
        await browser.get("/out")
        await ear.until(lambda: changed.id in [end.id for end in ear.ends()])  # and what other tests have left
        (end,) = [end for end in ear.ends() if end.id == changed.id]
        assert (end.reason, end.redelivered) == ("invalidated", False)
        assert (end.user, dict(end.attributes)) == ("eve", {"after": "eve", "kv": "x"})


@kinds
@pytest.mark.parametrize("why", ["expired", "replaced", "revoked", "evicted"])
@in_loop
async def test_u6_every_end_is_told_once(factory: Factory, why: str) -> None:
    """U6: with its reason and what was in it, after it can no longer be opened."""
    opened_at_the_end: list[Any] = []

    class Looking(Ear):
        async def destroyed(self, event: Any) -> None:
            opened_at_the_end.append(await subject.load(bytes.fromhex(event.id)))
            await super().destroyed(event)

    ear = Looking()
    options = {"idle_timeout": 100.0, "listeners": [ear], "max_sessions_per_user": 1 if why == "evicted" else None}
    async with site(factory, **options) as (app, subject), lifespan(app):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/set?kv=x")
        session_id = record_id(browser).hex()
        if why == "expired":
            subject.clock.advance(101)
        elif why == "replaced":
            await browser.get("/in?user=eve")
            subject.clock.advance(61)
        elif why == "revoked":
            await Browser(app).get("/everyone")
        else:
            await Browser(app).get("/in?user=ada")
        await ear.until(lambda: session_id in [end.id for end in ear.ends()])
        end = next(end for end in ear.ends() if end.id == session_id)
        assert (end.reason, end.redelivered, end.user) == (why, False, "ada")
        assert dict(end.attributes) == {"after": "ada", "kv": "x"}
        assert (await said(tab(browser)))["user"] in (None, "eve")
        subject.clock.advance(120)
        await asyncio.sleep(0)
        await Browser(app).get("/who")
        assert [end.id for end in ear.ends()].count(session_id) == 1
    assert opened_at_the_end == [None] * len(opened_at_the_end)


@in_loop
async def test_a_listener_that_fails_or_hangs_delays_nobody(caplog: Any) -> None:
    """U6: what it raises is logged, and the others hear all the same; a response waits for none."""
    ear, gone = Ear(), asyncio.Event()

    class Broken(SessionListener):
        def created(self, event: Any) -> None:
            raise ValueError("a secret")

        async def login(self, event: Any) -> None:
            await gone.wait()

    app = serve(store=MemoryStore(), listeners=[Broken(), ear])
    browser = Browser(app)
    assert (await browser.get("/set?a=1")).status == 200
    await ear.until(lambda: ear.names() == ["created"])
    (failed,) = events(caplog, "listener.failed")
    assert "Broken.created has failed: ValueError" in failed.getMessage()
    assert "a secret" not in failed.getMessage()
    gone.set()


@kinds
@in_loop
async def test_u6_slow_listeners_take_no_longer_than_one(factory: Factory) -> None:
    """U6: all are told at once, so none outlasts the claim on what has ended, after which another worker tells it."""
    told, gone = asyncio.Barrier(3), asyncio.Event()

    class Slow(SessionListener):
        async def destroyed(self, event: Any) -> None:
            await told.wait()
            await gone.wait()

    async with site(factory, listeners=[Slow(), Slow()]) as (app, _), lifespan(app):
        browser = Browser(app)
        await browser.get("/set?kv=x")
        await browser.get("/out")
        async with asyncio.timeout(60):  # Redis looks at one of 16 shards a second
            await told.wait()
        gone.set()


@in_loop
async def test_more_than_a_thousand_are_not_kept(caplog: Any) -> None:
    """One line says that some are lost; the queue stays bounded."""
    gone, count = asyncio.Event(), 0

    class Slow(SessionListener):
        async def created(self, event: Any) -> None:
            nonlocal count
            count += 1
            await gone.wait()

    app = serve(store=MemoryStore(), listeners=[Slow()])
    for _ in range(1030):
        await Browser(app).get("/set?a=1")
    assert count == 10
    assert len(events(caplog, "listener.overrun")) == 1
    gone.set()
    while count < 1010:
        await asyncio.sleep(0)
    assert count == 1010


@in_loop
async def test_suspicious() -> None:
    """What the log may keep for itself is told to listeners, within the same limit of a few a minute."""
    ear = Ear()
    app = serve(store=MemoryStore(), listeners=[ear])
    for _ in range(30):
        await Browser(app).get("/", headers=[(b"cookie", b"sid=" + b"x" * 88)])
    await ear.until(lambda: len(ear.heard) == 10)
    for _ in range(3):
        await asyncio.sleep(0)
    assert {(name, event.name) for name, event in ear.heard} == {("suspicious", "cookie.rejected")}
    assert "not one of ours" in ear.heard[0][1].text


@in_loop
async def test_memory_lets_go_of_what_has_ended() -> None:
    """Its listener is told at once, so nothing of a session is kept for its end to be told."""

    class Cache: ...

    async def fill(call: Call) -> None:
        call.session["kv"] = cache = Cache()
        kept.append(weakref.ref(cache))
        await call.reply()

    kept: list[Any] = []
    ear, store = Ear(), MemoryStore()
    browser = Browser(serve({"/fill": fill}, store=store, listeners=[ear]))
    await browser.get("/fill")
    await browser.get("/logout")
    await ear.until(lambda: len(ear.ends()) == 1)
    ear.heard.clear()
    assert await store.due() == []
    for _ in range(5):  # turns, in which the task that told it ends
        await asyncio.sleep(0)
    gc.collect()
    assert kept[0]() is None


@in_loop
async def test_a_session_of_before_is_not_told_of() -> None:
    """U6 is promised to those that were created or logged in under such a listener."""
    store, clock = MemoryStore(), FakeClock()
    store = MemoryStore(clock=clock)
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    ear = Ear()
    app = serve(store=store, listeners=[ear])
    other = Browser(app)
    other.jar = browser.jar
    await other.get("/logout")
    await Browser(app).get("/set?a=1")
    await ear.until(lambda: "created" in ear.names())
    assert ear.ends() == []


@pytest.mark.parametrize("given", [[object()], [Ear], "listener", [None], Ear])
def test_what_is_no_listener_is_refused(given: Any) -> None:
    """At construction, by name."""
    with pytest.raises(ConfigError, match="listeners: must be a list of instances"):
        serve(listeners=given)


@pytest.mark.parametrize(
    "options",
    [
        {"max_sessions_per_user": 0}, {"max_sessions_per_user": True}, {"max_sessions_per_user": 2.0},
        {"on_max_sessions": "refuse"}, {"retention": 0}, {"retention": "a day"},
    ],
)  # fmt: skip
def test_arguments_that_cannot_work(options: dict[str, Any]) -> None:
    """Each error names its argument."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        serve(**options)


@kinds
@pytest.mark.parametrize("policy", ["evict", "deny"])
@in_loop
async def test_u4_the_limit_of_sessions(factory: Factory, policy: str) -> None:
    """U4: beyond it the least recently used ends, or the login is refused with 409."""
    async with site(factory, max_sessions_per_user=2, on_max_sessions=policy) as (app, subject):
        browsers = []
        for _ in range(2):
            browsers.append(Browser(app))
            await browsers[-1].get("/in?user=ada")
            subject.clock.advance(10)
        third = Browser(app)
        answer = await third.get("/in?user=ada")
        assert answer.status == (200 if policy == "evict" else 409)
        assert len(answer.cookies) == (policy == "evict")
        logged_in = [(await said(browser))["user"] for browser in (*browsers, third)]
        assert logged_in == ([None, "ada", "ada"] if policy == "evict" else ["ada", "ada", None])
        await Browser(app).get("/in?user=eve")
        await browsers[1].get("/in?user=ada")
        assert [(await said(browser))["user"] for browser in (*browsers, third)] == logged_in


@in_loop
async def test_listeners_work_without_a_lifespan() -> None:
    """The first request begins the look for what has ended."""
    ear, clock = Ear(), FakeClock()
    async with opened(lambda clock: MemoryStore(clock=clock), clock) as subject:
        app = serve(store=subject.store, listeners=[ear], idle_timeout=10.0)
        await Browser(app).get("/set?a=1")
        clock.advance(11)
        await ear.until(lambda: len(ear.ends()) == 1)
        assert ear.ends()[0].reason == "expired"


@in_loop
async def test_a_call_of_the_kit_is_all_there_is_to_it() -> None:
    """A handler may use the session's id as the event's."""
    ear = Ear()

    async def act(call: Call) -> None:
        call.session["a"] = 1
        await call.session.save()
        await call.reply(call.session.id)

    app = serve({"/act": act}, store=MemoryStore(), listeners=[ear])
    answer = await Browser(app).get("/act")
    await ear.until(lambda: ear.names() == ["created"])
    assert ear.heard[0][1].id == answer.text


@kinds
@in_loop
async def test_u6_many_that_end_at_once_are_told_in_a_moment(factory: Factory) -> None:
    """U6: each of thirty logouts of one moment is asked for where it is; none waits for a look at all shards."""
    ear = Ear()
    async with site(factory, listeners=[ear]) as (app, _), lifespan(app):
        browsers = [Browser(app) for _ in range(30)]
        for browser in browsers:
            await browser.get("/in?user=ada")
        ids = {record_id(browser).hex() for browser in browsers}
        await asyncio.gather(*(browser.get("/out") for browser in browsers))
        await ear.until(lambda: {end.id for end in ear.ends()} >= ids)
    assert sorted(end.id for end in ear.ends() if end.id in ids) == sorted(ids)
