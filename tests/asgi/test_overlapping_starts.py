"""Starts that leave while another task of the same request commits: what needs a cookie goes with the start."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, serve
from stores import SuspendingStore

from fastersession import HeadersSent, MemoryStore, SessionNotEstablished

TURNS = range(14)  # of the loop: more than any of these starts takes
VERBS = (
    *("set", "set", "set", "delete", "save", "await save", "reload", "await reload"),
    *("regenerate", "invalidate", "await invalidate"),
)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("looked", [True, False], ids=["looked at", "never looked at"])
@pytest.mark.parametrize("number", TURNS)
@in_loop
async def test_a_start_waits_for_the_record_that_another_task_is_creating(number: int, looked: bool) -> None:
    """A record that `await save()` of a background task creates while the start leaves has its cookie on that start."""

    async def do(call: Call) -> None:
        async def background() -> None:
            call.session["a"] = 1
            await call.session.save()

        gate = store.hold("create", after=True)
        saving = asyncio.ensure_future(background())
        await gate.reached.wait()
        if looked:
            call.session.get("a")
        starting = asyncio.ensure_future(call.start())
        await turns(number)
        gate.open.set()
        await asyncio.gather(starting, saving)
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    answer = await browser.get("/act")
    assert [bool(cookie.value) for cookie in answer.cookies] == [True]
    assert await content(browser) == {"a": 1}


@pytest.mark.parametrize("number", TURNS)
@in_loop
async def test_a_regeneration_that_another_task_asked_for_goes_with_the_start(number: int) -> None:
    """Between two tasks regenerate_id() is done by the start, or refused at the call; it is never forgotten."""
    done: list[bool] = []

    async def do(call: Call) -> None:
        async def background() -> None:
            call.session["b"] = 2
            await call.session.save()

        gate = store.hold("update")
        saving = asyncio.ensure_future(background())
        await gate.reached.wait()
        starting = asyncio.ensure_future(call.start())
        gate.open.set()
        await turns(number)
        try:
            call.session.regenerate_id()
        except HeadersSent:
            done.append(False)
        else:
            done.append(True)
        await asyncio.gather(starting, saving)
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    answer = await browser.get("/act")
    assert [len(answer.cookies), store.count("regenerate")] == [done[0]] * 2
    assert await content(browser) == {"a": "1", "b": 2}


@pytest.mark.parametrize("number", TURNS)
@in_loop
async def test_a_logout_and_login_in_another_task_go_with_the_start_or_are_refused(number: int) -> None:
    """What is written after `await invalidate()` elsewhere gets its cookie, or raises: never a session without one."""
    outcome: list[str] = []

    async def do(call: Call) -> None:
        async def background() -> None:
            await gate.reached.wait()
            leaving = asyncio.ensure_future(call.session.invalidate())
            await asyncio.sleep(0)
            gate.open.set()
            await turns(number)
            try:
                call.session["user"] = "bob"
                await leaving
                await call.session.save()
                outcome.append("saved")
            except SessionNotEstablished:
                outcome.append("refused")

        call.session.regenerate_id()
        gate = store.hold("regenerate")
        other = asyncio.ensure_future(background())
        await call.start()
        await other
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    answer = await browser.get("/act", catch=True)
    saved = outcome == ["saved"]
    assert [bool(cookie.value) for cookie in answer.cookies] == [saved]  # the other is the one that clears
    assert len(store) == saved
    assert await content(browser) == ({"user": "bob"} if saved else {})


@pytest.mark.parametrize("number", TURNS)
@in_loop
async def test_a_session_begun_after_a_logout_in_another_task_goes_with_the_start(number: int) -> None:
    """A start that has met another task's `await invalidate()` waits for the new session that this one creates."""

    async def do(call: Call) -> None:
        call.session.regenerate_id()
        gate, creating = store.hold("regenerate"), store.hold("create")
        starting = asyncio.ensure_future(call.start())
        await gate.reached.wait()
        leaving = asyncio.ensure_future(call.session.invalidate())
        await asyncio.sleep(0)
        call.session["user"] = "bob"
        gate.open.set()
        while not (creating.reached.is_set() or leaving.done()):
            await asyncio.sleep(0)
        await turns(number)
        creating.open.set()
        await asyncio.gather(starting, leaving)
        await call.finish()

    store = SuspendingStore()
    browser = Browser(serve({"/act": do}, store=store))
    await browser.get("/set?a=1")
    answer = await browser.get("/act")
    assert [bool(cookie.value) for cookie in answer.cookies] == [True]
    assert len(store) == 1
    assert await content(browser) == {"user": "bob"}


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@pytest.mark.parametrize("ends", [True, False], ids=["with invalidate()", "without"])
@pytest.mark.parametrize("batch", range(5))
@in_loop
async def test_tasks_that_do_anything_at_any_time_lose_nothing(batch: int, ends: bool, make: Any) -> None:
    """Three tasks against one start: the next request sees what this one saw last, unless it was told otherwise."""
    for seed in range(batch * 40, batch * 40 + 40):
        await any_order(random.Random(seed), make(), VERBS if ends else VERBS[:-2])


async def any_order(rnd: random.Random, store: Any, verbs: tuple[str, ...]) -> None:
    said: list[object] = []  # the program, for the message of a failure
    last: list[dict[str, Any]] = []

    async def act(session: Any, verb: str) -> None:
        if verb == "set":
            session[rnd.choice("abc")] = rnd.random()
        elif verb == "delete":
            session.pop(rnd.choice("abc"), None)
        else:
            pending = getattr(session, {"regenerate": "regenerate_id"}.get(verb, verb.rpartition(" ")[2]))()
            if verb.startswith("await"):
                await pending

    async def do(call: Call) -> None:
        async def work(name: int) -> None:
            for _ in range(rnd.randint(1, 8)):
                await turns(rnd.randint(0, 6))
                verb = rnd.choice(verbs)
                said.append((name, verb))
                try:
                    await act(call.session, verb)
                except (HeadersSent, SessionNotEstablished) as error:
                    said.append((name, type(error)))

        async def start() -> None:
            await turns(rnd.randint(0, 20))
            await call.start()
            said.append("started")

        await asyncio.gather(start(), *map(work, range(3)))
        await call.finish()
        last.append(dict(dict.items(call.session)))

    app = serve({"/act": do}, store=store)
    browser = Browser(app)
    await browser.get("/set?a=0&b=0")
    answer = await browser.get("/act", catch=True)
    told = isinstance(answer.error, SessionNotEstablished) or SessionNotEstablished in [x[1] for x in said if x[1:]]
    assert answer.error is None or told, said
    assert told or await content(browser) == last[0], said
    assert len(store) <= 1, said
    assert not app._engine.runs.requests, said
    assert not app._engine.saves.tasks, said
