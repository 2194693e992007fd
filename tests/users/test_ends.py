"""The end of a session that others bring about (SECURITY U7, U8): ``session.ended``, ``end_reason``, and the watch."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from accounts import USERS, site
from driver import Browser, in_loop, lifespan
from ending import CountingStore, Streams, moved, two_workers, until, waiting
from routes import Call, events, record_id, serve, tab
from store_subject import Factory
from stores import shorten

from fastersession import ConfigError, FasterSessionMiddleware, MemoryStore
from fastersession.session import state_of

kinds = pytest.mark.parametrize("kind", USERS)
HANDLERS = {"/waiting": waiting}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the store fifty times a second."""
    shorten(monkeypatch, PERIOD=0.02, OLD_ENOUGH=0.01)


def watching(app: Any) -> bool:
    """Return whether anything of a watch exists: a timer or a task."""
    found = app._engine.runs.watch
    return found._timer is not None or found._looking is not None


async def asked_of(app: Any) -> None:
    """Wait until somebody awaits an end."""
    await until(lambda: app._engine.runs.watch._waiters)


# --- who ends it, and why ---


async def log_out(browser: Browser, subject: Any) -> str:
    await tab(browser).get("/out")
    return "invalidated"


async def revoke(browser: Browser, subject: Any) -> str:
    await Browser(browser.app).get("/everyone")
    return "revoked"


async def another_user(browser: Browser, subject: Any) -> str:
    await tab(browser).get("/in?user=eve")
    return "replaced"


async def too_many(browser: Browser, subject: Any) -> str:
    await Browser(browser.app).get("/in?user=ada")
    return "evicted"


async def expire(browser: Browser, subject: Any) -> str:
    subject.clock.advance(8 * 86400)
    return "expired"


ENDS = [log_out, revoke, another_user, too_many, expire]


@kinds
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@in_loop
async def test_u7_the_reason_of_an_end(factory: Factory, end: Any) -> None:
    """U7: where the session was ended here the reason is exact, and an awaited ``ended`` returns it."""
    async with site(factory, HANDLERS, max_sessions_per_user=1) as (app, subject):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        running = asyncio.ensure_future(tab(browser).get("/waiting"))
        await asked_of(app)
        reason = await end(browser, subject)
        assert (await running).text == reason


@kinds
@pytest.mark.parametrize("end", ENDS[:4], ids=lambda end: end.__name__)
@in_loop
async def test_an_end_is_known_at_once_where_it_was_made(factory: Factory, end: Any) -> None:
    """Without any watch, and without ``close_on_end``: who has the session reads why it has ended, and runs on."""
    streams = Streams()
    async with site(factory, {"/stream": streams.endless}, max_sessions_per_user=1) as (app, subject):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser))
        assert streams.sessions[0].end_reason is None
        reason = await end(browser, subject)
        assert streams.sessions[0].end_reason == reason
        assert (streams.running, watching(app)) == (1, False)
        await streams.finish(running)


@kinds
@in_loop
async def test_what_does_not_end_a_session(factory: Factory) -> None:
    """A guest's login, a re-login, another session's end, a kept one: whoever waits goes on waiting."""
    async with site(factory, HANDLERS) as (app, _):
        browser, other = Browser(app), Browser(app)
        await browser.get("/set?a=1")
        await other.get("/in?user=ada")
        running = asyncio.ensure_future(tab(browser).get("/waiting"))
        await asked_of(app)
        for path in ("/in?user=ada", "/login", "/in/now?user=ada", "/everyone"):
            await browser.get(path)
        assert not running.done()
        await browser.get("/out")
        assert (await running).text == "invalidated"


@kinds
@in_loop
async def test_a_session_may_begin_while_somebody_waits(factory: Factory) -> None:
    """Awaited before there is a record, it speaks of the one that comes; where none comes, of the request."""
    waits: list[asyncio.Task[str]] = []

    async def act(call: Call) -> None:
        waits.append(asyncio.create_task(call.session.ended))
        await asyncio.sleep(0)
        call.session.update(call.query)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        await Browser(app).get("/act")
        assert await waits[0] == "ended"
        browser = Browser(app)
        await browser.get("/act?a=1")
        await browser.get("/act")
        await browser.get("/out")
        assert await asyncio.gather(*waits[1:]) == ["invalidated", "invalidated"]
        assert not app._engine.runs.watch._waiters


@kinds
@in_loop
async def test_awaited_after_the_end_it_returns_at_once(factory: Factory) -> None:
    """The first reason counts, and the store is not asked."""
    streams = Streams()
    async with site(factory, {"/stream": streams.endless}, close_on_end=True) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser))
        await browser.get("/out")
        await running
        assert await streams.sessions[0].ended == "invalidated"
        app._engine.runs.watch.ended(record_id(browser) if browser.jar else bytes(16), "revoked")
        assert streams.sessions[0].end_reason == "invalidated"


@kinds
@in_loop
async def test_who_gives_up_waiting_is_not_remembered(factory: Factory) -> None:
    """Cancelled, or over time: nobody waits any more, and nothing is asked."""

    async def act(call: Call) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call.session.ended, 0.001)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/act")
        assert app._engine.runs.watch._waiters == set()
        await until(lambda: not watching(app))


# --- the request that ends its own session ---


async def revoke_myself(call: Call) -> None:
    """Revoke the session of this very request; say what is left."""
    call.session["unsaved"] = 1
    sessions = call.scope["state"]["session"].sessions
    assert [info.id for info in await sessions.of("ada")] == [call.session.id]
    if call.query["how"] == "one":
        assert await sessions.revoke(call.session.id, "ada") is True
    else:
        assert await sessions.revoke_user("ada") == 1
    assert (call.session, call.session.end_reason, call.session.user) == ({}, None, None)
    await call.reply("farewell")


@kinds
@pytest.mark.parametrize("how", ["one", "all"])
@pytest.mark.parametrize("closes", [True, False])
@in_loop
async def test_u7_who_ends_his_own_session_gets_his_answer(factory: Factory, how: str, closes: bool) -> None:
    """U7: and it clears the cookie, as a logout's does."""
    async with site(factory, {"/act": revoke_myself}, close_on_end=closes) as (app, subject):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        old = record_id(browser)
        answer = await browser.get(f"/act?how={how}")
        assert (answer.status, answer.text, browser.jar) == (200, "farewell", {})
        assert await subject.load(old) is None


@kinds
@pytest.mark.parametrize("path", ["/out", "/in?user=eve", "/in/now?user=eve"])
@in_loop
async def test_u7_a_logout_and_a_login_are_answered(factory: Factory, path: str) -> None:
    """U7: what ends the session of the request itself does not cut it off, also where it is watched."""
    async with site(factory, close_on_end=True) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        assert (await browser.get(path)).status == 200


@in_loop
async def test_a_request_is_spared_while_it_revokes_all() -> None:
    """The batch of the watch finds its session gone before the revocation has returned, and lets it go on."""
    store, streams, gate = CountingStore(), Streams(), asyncio.Event()

    class Slow(CountingStore):
        async def revoke(self, *arguments: Any) -> Any:
            ended = await super().revoke(*arguments)
            await gate.wait()
            return ended

    store = Slow()
    app = serve({"/stream": streams.endless, "/act": revoke_myself, "/in": _login}, store=store, close_on_end=True)
    browser, other = Browser(app), Browser(app)
    await browser.get("/in?user=ada")
    await other.get("/in?user=eve")
    running = await streams.begin(other)
    asking = asyncio.ensure_future(browser.get("/act?how=all"))
    await until(lambda: len(store) == 1)
    count = len(store.asked)
    await until(lambda: len(store.asked) > count + 3)
    gate.set()
    assert (await asking).text == "farewell"
    await other.get("/logout")
    await running


async def _login(call: Call) -> None:
    call.session.login(call.query["user"])
    await call.reply()


# --- across workers ---


@in_loop
async def test_u7_what_another_worker_has_ended() -> None:
    """U7: the watch finds it; the reason is not known here, but for that of a session that has expired."""
    store = CountingStore()
    async with two_workers(store, HANDLERS) as (here, there):
        browser = Browser(here)
        await browser.get("/in?user=ada")
        running = [asyncio.ensure_future(tab(browser).get("/waiting")) for _ in range(3)]
        await until(lambda: store.asked)
        assert store.asked[0] == [record_id(browser)]  # three wait for one session
        await Browser(there).get("/everyone")
        assert [(await one).text for one in running] == ["ended"] * 3
        await until(lambda: not watching(here))
        assert not watching(there)


@in_loop
async def test_another_workers_login_as_somebody_else() -> None:
    """The record lives on for a minute, superseded: the store tells all the same."""
    store = CountingStore()
    async with two_workers(store, HANDLERS) as (here, there):
        browser = Browser(here)
        await browser.get("/in?user=ada")
        running = asyncio.ensure_future(tab(browser).get("/waiting"))
        await until(lambda: store.asked)
        await moved(browser, there).get("/in?user=eve")
        assert (await running).text == "replaced"


@in_loop
async def test_one_question_for_all_and_none_for_the_young() -> None:
    """One batch a period, of all that have run for half of it; of those that are over none is asked for."""
    store, streams = CountingStore(), Streams()
    async with two_workers(store, {"/stream": streams.endless, "/waiting": waiting}, close_on_end=True) as (here, _):
        browsers = [Browser(here) for _ in range(5)]
        for browser in browsers:
            await browser.get("/in?user=ada")
        assert store.asked == []  # plain answers are not watched
        running = [await streams.begin(tab(browser)) for browser in browsers]
        await until(lambda: store.asked and len(store.asked[-1]) == 5)
        assert sorted(store.asked[-1]) == sorted(map(record_id, browsers))
        gone = record_id(browsers[0])
        await browsers[0].get("/out")
        await running[0]
        count = len(store.asked)
        await until(lambda: len(store.asked) > count + 1)
        assert gone not in store.asked[-1]
        for browser in browsers[1:]:
            await browser.get("/out")
        await asyncio.wait(running)
        await until(lambda: not watching(here))


@in_loop
async def test_of_the_young_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not there half a period before a batch is not in it, and is in the next."""
    store, streams = CountingStore(), Streams()
    shorten(monkeypatch, OLD_ENOUGH=3600.0)
    app = serve({"/stream": streams.endless, "/in": _login}, store=store, close_on_end=True)
    first, second = Browser(app), Browser(app)
    await first.get("/in?user=ada")
    await second.get("/in?user=ada")
    running = [await streams.begin(tab(first))]
    found = app._engine.runs.watch
    running.append(await streams.begin(tab(second)))
    found._timer.cancel()
    loop = asyncio.get_running_loop()
    found._begin(loop)  # the half period is over
    await until(lambda: store.asked)
    assert store.asked == [[record_id(first)]]
    found._timer.cancel()
    found._note(loop)
    found._timer.cancel()
    found._begin(loop)
    await until(lambda: len(store.asked) == 2)
    assert sorted(store.asked[1]) == sorted([record_id(first), record_id(second)])
    await first.get("/logout")
    await second.get("/logout")
    await asyncio.wait(running)


@in_loop
async def test_requests_without_a_stream_are_found_where_one_is_watched() -> None:
    """All requests of before half a period are in the batch: one that works for long before its start is, too."""
    store, streams = CountingStore(), Streams()
    working, done = asyncio.Event(), asyncio.Event()

    async def work(call: Call) -> None:
        working.set()
        assert (await call.receive())["type"] == "http.request"
        assert (await call.receive())["type"] == "http.disconnect"
        done.set()
        await call.reply()

    handlers = {"/stream": streams.endless, "/work": work}
    async with two_workers(store, handlers, close_on_end=True) as (here, there):
        browser, other = Browser(here), Browser(here)
        await browser.get("/in?user=ada")
        await other.get("/in?user=eve")
        running = await streams.begin(other)
        asking = asyncio.ensure_future(tab(browser).get("/work"))
        await working.wait()
        await Browser(there).get("/everyone")
        await done.wait()
        assert (await asking).status == 401
        await other.get("/out")
        await running


# --- outages ---


@in_loop
async def test_u8_a_failing_store_ends_nothing(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """U8: it is told once until the store is back; then what has ended meanwhile ends."""
    shorten(monkeypatch, OUTAGE_SECONDS=0.05)
    store, streams = CountingStore(), Streams()
    async with two_workers(store, {"/stream": streams.endless}, close_on_end=True) as (here, there):
        browser = Browser(here)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser))
        for number in (1, 2):
            store.is_down = True
            await until(lambda number=number: len(events(caplog, "watch.failed")) == number)
            count = len(store.asked)
            await until(lambda count=count: len(store.asked) > count + 5)
            assert len(events(caplog, "watch.failed")) == number
            store.is_down = False
            count = len(store.asked)
            await until(lambda count=count: len(store.asked) > count + 1)
        (event, _) = events(caplog, "watch.failed")
        assert "goes on" in event.getMessage()
        assert event.levelname == "ERROR"
        assert (streams.running, running.done()) == (1, False)
        store.is_down = True
        await Browser(there).get("/everyone")
        store.is_down = False
        assert "session of this request has ended: ended" in str((await running).error)


@in_loop
async def test_an_outage_that_is_short_is_not_told(caplog: Any) -> None:
    """Less than ten seconds are a restart."""
    store, streams = CountingStore(), Streams()
    async with two_workers(store, {"/stream": streams.endless}, close_on_end=True, end_on_outage=True) as (here, _):
        browser = Browser(here)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser))
        store.is_down = True
        count = len(store.asked)
        await until(lambda: len(store.asked) > count + 5)
        assert (events(caplog, "watch.failed"), running.done()) == ([], False)
        store.is_down = False
        await browser.get("/out")
        await running


@in_loop
async def test_u8_the_strict_end_what_cannot_be_checked(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """U8: with ``end_on_outage`` an outage that lasts ends streams, sockets, and whoever waits."""
    shorten(monkeypatch, OUTAGE_SECONDS=0.05)
    store, streams = CountingStore(), Streams()
    handlers = {"/stream": streams.endless, **HANDLERS}
    async with two_workers(store, handlers, close_on_end=True, end_on_outage=True) as (here, _):
        browser = Browser(here)
        await browser.get("/in?user=ada")
        running = await streams.begin(tab(browser))
        waits = asyncio.create_task(streams.sessions[0].ended)
        await until(lambda: store.asked)
        store.is_down = True
        assert "outage" in str((await running).error)
        assert await waits == "outage"
        (event,) = events(caplog, "watch.failed")
        assert "is ended" in event.getMessage()


# --- what there is, and when ---


@kinds
@pytest.mark.parametrize("closes", [True, False])
@in_loop
async def test_nothing_is_watched_that_need_not_be(factory: Factory, closes: bool) -> None:
    """Neither plain answers, nor streams of a middleware that does not close, nor what has no session."""
    found: list[bool] = []

    async def stream(call: Call) -> None:
        await call.start()
        found.append(watching(app))
        await call.finish()

    async with site(factory, {"/act": stream}, close_on_end=closes) as (app, _):
        browser = Browser(app)
        await browser.get("/act")
        await browser.get("/set?a=1")
        assert not watching(app)
        await browser.get("/act")
        assert (found, watching(app)) == ([False, closes], False)


@kinds
@in_loop
async def test_a_shutdown_ends_the_watch(factory: Factory) -> None:
    """Nothing is asked of a store that is closed."""
    streams = Streams()
    async with site(factory, {"/stream": streams.endless}, close_on_end=True) as (app, _):
        browser = Browser(app)
        async with lifespan(app):
            await browser.get("/in?user=ada")
            running = await streams.begin(tab(browser))
            assert watching(app)
        assert not watching(app)
        await streams.finish(running)


@in_loop
async def test_a_shutdown_ends_a_batch_that_is_under_way() -> None:
    """It begins no other."""
    gate = asyncio.Event()

    class Hanging(CountingStore):
        async def ended(self, record_ids: Any) -> Any:
            self.asked.append(list(record_ids))
            return await gate.wait()

    store, streams = Hanging(), Streams()
    app = serve({"/stream": streams.endless}, store=store, close_on_end=True)
    browser = Browser(app)
    async with lifespan(app):
        await browser.get("/set?a=1")
        running = await streams.begin(tab(browser))
        await until(lambda: store.asked)
        looking = app._engine.runs.watch._looking
    await asyncio.wait([looking])
    assert looking.cancelled()
    assert not watching(app)
    await streams.finish(running)


def test_a_second_loop_has_its_own_watch() -> None:
    """What the first has left behind hinders nobody."""
    store, streams = CountingStore(), Streams()
    app = serve({"/stream": streams.endless, "/in": _login}, store=store, close_on_end=True)

    async def left_behind() -> None:
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await streams.begin(browser)
        assert watching(app)

    asyncio.run(left_behind())

    async def found() -> None:
        browser = Browser(app)
        await browser.get("/in?user=ada")
        running, count = await streams.begin(tab(browser)), len(store.asked)
        await until(lambda: len(store.asked) > count)
        await browser.get("/logout")
        await running

    asyncio.run(found())


class Older(CountingStore):
    """A store that knows no users."""

    ended = None  # type: ignore[assignment]
    login = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        if name in ("ended", "login"):
            raise AttributeError(name)
        return super().__getattribute__(name)


@in_loop
async def test_a_store_that_cannot_be_asked() -> None:
    """``close_on_end`` is an error of the configuration, an awaited ``ended`` one at the await."""

    async def act(call: Call) -> None:
        with pytest.raises(ConfigError, match="cannot tell"):
            await call.session.ended
        await call.reply()

    with pytest.raises(ConfigError, match="close_on_end: Older cannot tell"):
        serve(store=Older(), close_on_end=True)
    browser = Browser(serve({"/act": act}, store=Older()))
    await browser.get("/set?a=1")
    assert (await browser.get("/act")).status == 200


@pytest.mark.parametrize("name", ["close_on_end", "end_on_outage"])
def test_the_arguments_are_booleans(name: str) -> None:
    """Anything else is a mistake."""
    with pytest.raises(ConfigError, match=f"{name}: must be True or False"):
        FasterSessionMiddleware(lambda *_: None, secret_key="k" * 40, store=MemoryStore(), **{name: 1})


@kinds
@in_loop
async def test_a_session_kept_after_its_request_is_told(factory: Factory) -> None:
    """A background task may wait for the end for as long as it likes."""
    kept: list[Any] = []

    async def act(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    async with site(factory, {"/act": act}) as (app, _):
        browser = Browser(app)
        await browser.get("/in?user=ada")
        await browser.get("/act")
        waits = asyncio.create_task(kept[0].ended)
        await until(lambda: app._engine.runs.watch._waiters)
        await browser.get("/out")
        assert await waits == "invalidated"
        assert kept[0].end_reason == state_of(kept[0]).end_reason() == "invalidated"
