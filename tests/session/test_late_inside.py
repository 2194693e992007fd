"""Changes inside a value after the end of the request: warned of, as assignments are, where they can be seen."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from counting import CountingCodec
from driver import Browser, in_loop, lifespan
from routes import Call, content, events, serve
from stores import SuspendingStore

from fastersession import JsonCodec, MemoryStore, MsgspecCodec, PickleCodec, Session

KB = 1024


class Kept:
    """A browser at an application whose /keep gives its session away."""

    def __init__(self, *, store: Any = None, take: Callable[[Session], Any] = lambda s: None, **options: Any) -> None:
        self.sessions: list[Session] = []
        self.held: list[Any] = []
        self.take, self.codec = take, CountingCodec()
        self.store = SuspendingStore() if store is None else store
        routes = {"/begin": self._begin, "/keep": self._keep, "/plain": self._plain}
        self.app = serve(routes, store=self.store, **{"codec": self.codec, **options})
        self.browser = Browser(self.app)

    async def begun(self, **attributes: Any) -> Kept:
        self.attributes = attributes
        await self.browser.get("/begin")
        return self

    async def _begin(self, call: Call) -> None:
        call.session.update(self.attributes)
        await call.reply()

    async def _keep(self, call: Call) -> None:
        self.held.append(self.take(call.session))
        self.sessions.append(call.session)
        await call.reply()

    async def _plain(self, call: Call) -> None:
        self.held.append(self.take(call.session))
        await call.reply()

    async def session(self) -> Session:
        """Return the session of a request that has ended."""
        await self.browser.get("/keep")
        return self.sessions.pop()

    def watched(self) -> int:
        return len(self.app._engine.runs._watched)


def warned(caplog: Any) -> list[str]:
    """Return the texts of the warnings since the last call."""
    gc.collect()
    texts = [record.getMessage() for record in events(caplog, "session.unsaved")]
    caplog.clear()
    return texts


CHANGES: dict[str, Callable[[Session], Any]] = {
    "[]": lambda s: s["list"].append(1),
    "get": lambda s: s.get("list").clear(),  # type: ignore[union-attr]
    "setdefault": lambda s: s.setdefault("list").append(1),
    "values": lambda s: [value.append(1) for value in s.values() if type(value) is list],
    "items": lambda s: dict(s.items())["list"].append(1),
    "copy": lambda s: s.copy()["list"].append(1),
    "**": lambda s: {**s}["list"].append(1),
    "iteration": lambda s: [s[name].append(1) for name in s if name == "list"],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
@in_loop
async def test_a_change_inside_is_warned_of_when_the_session_is_let_go(change: Any, caplog: Any) -> None:
    """Taken after the end, by whichever way: one warning names the attribute, and shows no value."""
    kept = await Kept().begun(list=["secret"], other={"x": [1]}, n=1)
    session = await kept.session()
    change(session)
    assert warned(caplog) == []
    del session
    (text,) = warned(caplog)
    assert "'list'" in text
    assert "'other'" not in text
    assert "secret" not in text
    assert kept.watched() == 0
    assert (await content(kept.browser))["list"] == ["secret"]


@pytest.mark.parametrize("codec", [JsonCodec(), MsgspecCodec(), PickleCodec()], ids=lambda codec: codec.name)
@in_loop
async def test_what_was_taken_before_the_end_is_looked_at_if_the_session_is_kept(codec: Any, caplog: Any) -> None:
    """A task that has the session and a value of it: no method of the session is called after the end."""
    kept = await Kept(take=lambda s: s["list"], codec=codec).begun(list=[], other=[1])
    session = await kept.session()
    assert kept.watched() == 1
    kept.held[0].append("late")
    del session
    (text,) = warned(caplog)
    assert "'list'" in text


@pytest.mark.parametrize(
    "take", [lambda s: s["list"], lambda s: s.setdefault("list", []), dict, lambda s: s.update(list=[])]
)
@in_loop
async def test_what_did_not_change_after_the_end_is_not_warned_of(take: Any, caplog: Any) -> None:
    """The session is kept, read after the end, and let go: nothing is told, whatever the request itself has changed."""
    kept = await Kept(take=lambda s: (take(s), s["list"].append(1))).begun(list=[], other=[1])
    session = await kept.session()
    assert kept.watched() == 1
    assert len(session["list"]) == 1
    assert {**session}["other"] == [1]
    del session
    assert warned(caplog) == []
    assert kept.watched() == 0


@in_loop
async def test_what_is_saved_after_the_end_is_not_warned_of(caplog: Any) -> None:
    """``await session.save()`` covers changes inside; what comes after it is told, together with what was assigned."""
    kept = await Kept().begun(list=[], other=[])
    session = await kept.session()
    session["list"].append("saved")
    await session.save()
    assert await content(kept.browser) == {"list": ["saved"], "other": []}
    session["other"].append("lost")
    session["new"] = ["lost"]
    del session
    (text,) = warned(caplog)
    assert "'other'" in text
    assert "'new'" in text
    assert "'list'" not in text


@in_loop
async def test_a_task_that_outlives_its_request_is_warned_of(caplog: Any) -> None:
    """The usual case: ``asyncio.create_task`` with the session, or with the request, whose scope has it."""
    tasks: list[asyncio.Task[None]] = []
    go = asyncio.Event()

    async def by_session(session: Session) -> None:
        await go.wait()
        session["list"].append(1)

    async def by_scope(scope: Any) -> None:
        await go.wait()
        scope["session"]["list"].append(1)

    async def by_both(session: Session, held: list[Any]) -> None:
        await go.wait()
        held.append(len(dict.keys(session)))

    async def spawn(call: Call) -> None:
        works = {
            "session": lambda: by_session(call.session),
            "scope": lambda: by_scope(call.scope),
            "both": lambda: by_both(call.session, call.session["list"]),
        }
        tasks.append(asyncio.ensure_future(works[call.query["how"]]()))
        await call.reply()

    browser = Browser(serve({"/spawn": spawn, "/begin": _begin}, store=SuspendingStore()))
    await browser.get("/begin")
    for how in ("session", "scope", "both"):
        go.clear()
        await browser.get(f"/spawn?how={how}")
        go.set()
        await tasks.pop()
        (text,) = warned(caplog)
        assert "'list'" in text


async def _begin(call: Call) -> None:
    call.session.update(list=[], other=[1])
    await call.reply()


@in_loop
async def test_the_shutdown_warns_of_what_is_still_kept_and_only_once(caplog: Any) -> None:
    """Nobody lets go of it before the process ends: the drain tells."""
    kept = await Kept().begun(list=[], other=[])
    async with lifespan(kept.app):
        session = await kept.session()
        session["list"].append(1)
        session["new"] = 1
        quiet = await kept.session()
        quiet["list"].append(1)
        del quiet
        assert len(warned(caplog)) == 1
    (text,) = warned(caplog)
    assert "'list'" in text
    assert "'new'" in text
    del session
    assert warned(caplog) == []


@pytest.mark.parametrize(("size", "told"), [(64 * KB - 4, True), (64 * KB + 1, False)])
@in_loop
async def test_only_small_values_are_encoded(size: int, told: bool, caplog: Any) -> None:
    """It may be in the middle of a garbage collection: what had more than 64 KB in the store is left alone."""
    kept = await Kept().begun(list=["x" * size], small=[])
    session = await kept.session()
    session["list"].append(1)
    session["small"].append(1)
    kept.codec.take()
    del session
    (text,) = warned(caplog)
    assert ("'list'" in text) == told
    assert "'small'" in text
    assert kept.codec.take() == (["list", "small"] if told else ["small"])


@in_loop
async def test_a_value_that_cannot_be_encoded_any_more_is_named(caplog: Any) -> None:
    """It has changed; nothing is raised where nobody could catch it."""
    kept = await Kept().begun(list=[])
    session = await kept.session()
    session["list"].append(object())
    del session
    (text,) = warned(caplog)
    assert "'list'" in text


@in_loop
async def test_usual_requests_are_not_watched_and_encode_nothing_more(caplog: Any) -> None:
    """Nobody holds the session: the request's own three save points look at what it took, and that is all."""
    kept = await Kept(take=lambda s: s["list"].append(1)).begun(list=[], other=[])
    kept.codec.take()
    for _ in range(3):
        await kept.browser.get("/plain")
        assert kept.codec.take() == ["list"] * 3
        assert kept.watched() == 0
    assert warned(caplog) == []


@in_loop
async def test_who_keeps_a_value_only_is_not_seen(caplog: Any) -> None:
    """As GUIDE says: nothing tells of a change to a value whose session nobody has any more."""
    kept = await Kept(take=lambda s: s["list"]).begun(list=[])
    await kept.browser.get("/plain")
    kept.held[0].append(1)
    assert warned(caplog) == []


@pytest.mark.parametrize("how", ["answers 500", "raises before the start", "raises in the stream", "cannot be kept"])
@in_loop
async def test_what_a_failed_request_has_changed_is_no_late_change(how: str, caplog: Any) -> None:
    """Discarded, or told otherwise: it was written before the end, and is not said to be late."""
    kept: list[Session] = []

    async def fail(call: Call) -> None:
        kept.append(call.session)
        call.session["list"].append(1)
        if how == "answers 500":
            await call.reply(status=500)
        elif how == "raises before the start":
            raise ZeroDivisionError
        elif how == "raises in the stream":
            await call.start()
            raise ZeroDivisionError
        else:
            await call.start()
            call.session["list"].append(object())
            await call.finish()

    browser = Browser(serve({"/begin": _begin, "/fail": fail}, store=SuspendingStore()))
    await browser.get("/begin")
    with suppress(ZeroDivisionError):
        await browser.get("/fail", catch=how != "answers 500")
    session = kept.pop()
    session["other"]
    del session
    assert warned(caplog) == []


@in_loop
async def test_in_memory_nothing_is_watched(caplog: Any) -> None:
    """There a change inside is made in the store itself."""
    kept = await Kept(store=MemoryStore(), codec=None, take=lambda s: s["list"]).begun(list=[])
    session = await kept.session()
    session["list"].append(1)
    assert kept.watched() == 0
    del session
    assert warned(caplog) == []
    assert await content(kept.browser) == {"list": [1]}


@in_loop
async def test_a_dict_in_the_session_s_place_breaks_no_end_in_memory(caplog: Any) -> None:
    """Everything of it is handed out, and a live store's session is not watched all the same."""
    kept: list[Session] = []

    async def replace(call: Call) -> None:
        kept.extend([call.session] * 2)
        call.scope["session"] = {"list": [2]}
        await call.reply()
        call.scope["session"]["late"] = [3]  # so that the end has something to save

    for make in (MemoryStore, SuspendingStore):
        browser = Browser(serve({"/begin": _begin, "/replace": replace}, store=make()))
        await browser.get("/begin")
        assert (await browser.get("/replace")).error is None
        kept.clear()
        caplog.clear()
        assert warned(caplog) == []
        assert await content(browser) == {"list": [2], "late": [3]}


@in_loop
async def test_a_request_that_was_thrown_away_is_not_blamed_for_late_changes(caplog: Any) -> None:
    """A coroutine that is closed saves nothing: what it has changed before is not taken for late."""
    kept: list[Session] = []
    reached = asyncio.Event()

    async def hang(call: Call) -> None:
        kept.append(call.session)
        call.session["list"].append(1)
        reached.set()
        await asyncio.get_running_loop().create_future()

    browser = Browser(app := serve({"/begin": _begin, "/hang": hang}, store=SuspendingStore()))
    await browser.get("/begin")
    task = asyncio.ensure_future(app(browser.scope("GET", "/hang"), None, None))
    await reached.wait()
    task.get_coro().close()  # type: ignore[union-attr]
    session = kept.pop()
    session["other"]
    del session
    assert warned(caplog) == []
    task.cancel()
    with suppress(RuntimeError, asyncio.CancelledError):
        await task


@in_loop
async def test_a_usual_websocket_is_not_watched(caplog: Any) -> None:
    """Its saves beside the application hold nothing when it ends."""

    async def chat(call: Call) -> None:
        turns = call.session["list"]
        await call.receive()
        await call.send({"type": "websocket.accept"})
        while (message := await call.receive())["type"] == "websocket.receive":
            turns.append(message["text"])
            await call.send({"type": "websocket.send", "text": "taken"})

    app = serve({"/begin": _begin, "/chat": chat}, store=SuspendingStore())
    browser = Browser(app)
    await browser.get("/begin")
    async with browser.websocket("/chat") as socket:
        await socket.accepted()
        for _ in range(3):
            await socket.send("one")
            assert await socket.receive() == "taken"
    assert app._engine.runs._watched == {}
    assert await content(browser) == {"list": ["one"] * 3, "other": [1]}
    assert warned(caplog) == []
