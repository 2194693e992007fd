"""One request regenerates, others run: their answers are kept, and only one cookie leaves. On every store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, Handler, content, events, record_id, serve, tab
from store_subject import EVERY, Factory, Subject, opened

from fastersession import MemoryStore
from fastersession.stores.base import Record
from fastersession.testing import FaultyStore

MANY = 20
LARGE = "x" * 3_000  # more than goes through a script in Redis
ON_EVERY_STORE = pytest.mark.parametrize("kind", EVERY)


@asynccontextmanager
async def tabs(
    factory: Factory, kind: str, handlers: dict[str, Handler]
) -> AsyncIterator[tuple[list[Browser], Subject]]:
    """Give tabs of one session, half of them served by another worker where the store is shared."""
    async with opened(factory) as subject, opened(factory, subject.clock) as second:
        stores = [subject.store, subject.store if kind == "memory" else second.store]
        apps = [serve(handlers, store=store) for store in stores]
        browser = Browser(apps[0])
        await browser.get("/set?a=1")
        everyone = [tab(browser) for _ in range(MANY + 1)]
        for number, one in enumerate(everyone):
            one.app = apps[number % 2]
        yield everyone, subject


class Answers:
    """Handlers whose answers go on while another request regenerates."""

    def __init__(self) -> None:
        self.begun, self.regenerated = asyncio.Barrier(MANY + 1), asyncio.Event()

    async def stream(self, call: Call) -> None:
        await call.start()
        await call.chunk()
        await self._wait()
        call.session[f"answer {call.query['me']}"] = LARGE if "large" in call.query else "x"
        await call.finish()

    async def append(self, call: Call) -> None:
        await call.start()
        await self._wait()
        async with call.session.exclusive() as session:
            session["turns"] = [*session.get("turns", ()), call.query["me"]]
        await call.finish()

    async def look(self, call: Call) -> None:
        """Write before the start, and see what the one that regenerated has written."""
        call.session[f"answer {call.query['me']}"] = "x"
        await self._wait()
        await call.session.reload()
        assert call.session["user"] == "me"
        await call.reply()

    async def _wait(self) -> None:
        await self.begun.wait()
        await self.regenerated.wait()


@ON_EVERY_STORE
@in_loop
async def test_l3_twenty_requests_around_a_regeneration(kind: str, factory: Factory, caplog: Any) -> None:
    """L3: one new cookie, no lost answer, in `exclusive()` and after `reload()` too; the old token opens nothing."""
    caplog.set_level("INFO", "fastersession")
    answers = Answers()
    handlers = {"/stream": answers.stream, "/append": answers.append, "/look": answers.look}
    paths = ["/stream?", "/append?", "/stream?large=1&", "/look?"] * (MANY // 4)
    async with tabs(factory, kind, handlers) as ((first, *others), subject):
        old = tab(first)
        calls = [one.get(f"{path}me={n}") for n, (one, path) in enumerate(zip(others, paths, strict=True))]
        running = [asyncio.ensure_future(call) for call in calls]
        await answers.begun.wait()
        login = await first.get("/login")
        answers.regenerated.set()
        replies = [login, *await asyncio.gather(*running)]
        assert {reply.status for reply in replies} == {200}
        subject.clock.advance(59)
        replies += [await old.get(path) for path in ("/", "/set?b=2", "/logout")]
        assert [len(reply.cookies) for reply in replies] == [1] + [0] * (len(replies) - 1)
        found = await content(first)
    wanted = {f"answer {n}": LARGE if "large" in path else "x" for n, path in enumerate(paths) if "append" not in path}
    assert sorted(found.pop("turns"), key=int) == [str(n) for n, path in enumerate(paths) if "append" in path]
    assert found == {"a": "1", "user": "me", **wanted}
    (dropped,) = events(caplog, "session.dropped")  # what the old token wrote, after it had opened nothing
    assert "'b'" in dropped.getMessage()


@ON_EVERY_STORE
@pytest.mark.parametrize("inside", [False, True], ids=["at once", "in exclusive()"])
@in_loop
async def test_l3_twenty_requests_regenerate_at_once(kind: str, inside: bool, factory: Factory, caplog: Any) -> None:
    """L3: one wins, and the changes of each of the others are saved too, before and after its start."""
    caplog.set_level("INFO", "fastersession")
    begun = asyncio.Barrier(MANY + 1)

    async def race(call: Call) -> None:
        await begun.wait()
        if inside and int(call.query["me"]) < 5:
            async with call.session.exclusive():
                await answer(call)
        else:
            await answer(call)
        await call.finish()

    async def answer(call: Call) -> None:
        call.session.regenerate_id()
        call.session[f"early {call.query['me']}"] = LARGE
        await call.start()
        call.session[f"late {call.query['me']}"] = "x"

    async with tabs(factory, kind, {"/race": race}) as (everyone, _):
        replies = await asyncio.gather(*(one.get(f"/race?me={n}") for n, one in enumerate(everyone)))
        (winner,) = [n for n, reply in enumerate(replies) if reply.cookies]
        wanted = {
            f"{when} {n}": LARGE if when == "early" else "x" for when in ("early", "late") for n in range(MANY + 1)
        }
        assert await content(everyone[winner]) == {"a": "1", **wanted}
        assert await content(everyone[winner - 1]) == {}
    assert events(caplog, "session.dropped") == []
    assert len(events(caplog, "session.not_regenerated")) == MANY


@ON_EVERY_STORE
@pytest.mark.parametrize("way", ["save", "reload", "exclusive", "regenerate_id"])
@in_loop
async def test_l3_two_generations_back_nothing_is_taken(kind: str, way: str, factory: Factory, caplog: Any) -> None:
    """L3: what such a request writes is dropped with a warning that names each attribute, and no value."""
    caplog.set_level("INFO", "fastersession")
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        session = call.session
        begun.set()
        await gone.wait()
        session["question"] = "hidden"
        if way == "regenerate_id":
            session.regenerate_id()
        await call.start()
        if way == "exclusive":
            async with session.exclusive():
                session["answer"] = "hidden"
        else:
            session["answer"] = "hidden"
            if way != "regenerate_id":
                await getattr(session, way)()
        session["end"] = "hidden"
        await call.finish()

    async with tabs(factory, kind, {"/slow": slow}) as ((first, other, *_), subject):
        running = asyncio.ensure_future(other.get("/slow"))
        await begun.wait()
        for _ in range(2):
            await first.get("/login")
        before = await subject.read(record_id(first))
        gone.set()
        assert (await running).cookies == []
        assert await content(first) == {"a": "1", "user": "me"}
        assert (await subject.read(record_id(first)))["version"] == before["version"]
    dropped = events(caplog, "session.dropped")
    assert {event.levelname for event in dropped} == {"WARNING"}
    told = " ".join(event.getMessage() for event in dropped)
    assert [told.count(repr(name)) for name in ("question", "answer", "end")] == [1, 1, 1]
    assert "hidden" not in told
    assert events(caplog, "session.not_regenerated") == []


@pytest.mark.parametrize("way", ["/login", "/logout"])
@pytest.mark.parametrize("make", [MemoryStore, FaultyStore])
@in_loop
async def test_what_is_dropped_is_told_once(make: Any, way: str, caplog: Any) -> None:
    """An attribute that is written again and again is named once; of an ended session one loss is told."""
    caplog.set_level("INFO", "fastersession")
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await gone.wait()
        await call.start()
        for name in ("x", "x", "y"):
            call.session[name] = [name]
            await call.session.save()
        await call.finish()

    browser = Browser(serve({"/slow": slow}, store=make()))
    await browser.get("/set?a=1")
    running = asyncio.ensure_future(tab(browser).get("/slow"))
    await begun.wait()
    for _ in range(2):
        await browser.get(way)
    gone.set()
    assert (await running).status == 200
    told = [event.getMessage().rpartition(": ")[2] for event in events(caplog, "session.dropped")]
    assert told == (["'x'", "'y'"] if way == "/login" else ["'x'"])


@in_loop
async def test_names_of_any_kind_are_told(caplog: Any) -> None:
    """A live store takes names that are no str; what is told of them needs no order between them."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        begun.set()
        await gone.wait()
        dict.update(call.session, {1: "hidden", "b": "hidden", None: "hidden"})
        await call.reply()
        assert call.session == {"a": "1", 1: "hidden", "b": "hidden", None: "hidden"}

    browser = Browser(serve({"/slow": slow}, store=MemoryStore()))
    await browser.get("/set?a=1")
    running = asyncio.ensure_future(tab(browser).get("/slow"))
    await begun.wait()
    for _ in range(2):
        await browser.get("/login")
    gone.set()
    assert (await running).status == 200
    (event,) = events(caplog, "session.dropped")
    assert event.getMessage().endswith("attributes: 'b', 1, None")


class StrictRecord:
    """A store's own class of records, without a verifier before."""

    def __init__(self, record: Record) -> None:
        for name in Record.__slots__:
            if name != "verifier_before":
                setattr(self, name, getattr(record, name))


class StrictStore(FaultyStore):
    """A store that knows no verifier before: nothing but the record's own is a proof."""

    async def load(self, record_id: bytes) -> Any:
        record = await super().load(record_id)
        return None if record is None else StrictRecord(record)

    async def update(self, record_id: bytes, verifier: bytes, *more: Any) -> bool:
        return await self._owns(record_id, verifier) and await super().update(record_id, verifier, *more)

    async def lock(self, record_id: bytes, verifier: bytes, *more: Any) -> bool:
        return await self._owns(record_id, verifier) and await super().lock(record_id, verifier, *more)

    async def _owns(self, record_id: bytes, verifier: bytes) -> bool:
        record = await self.inner.load(record_id)
        return record is not None and record.verifier == verifier


@pytest.mark.parametrize("way", ["save", "reload", "exclusive"])
@in_loop
async def test_a_store_without_a_verifier_before_works_too(way: str, caplog: Any) -> None:
    """It works; what a request writes that a regeneration overtakes is dropped there, with the warning."""
    caplog.set_level("INFO", "fastersession")
    begun, gone = asyncio.Event(), asyncio.Event()

    async def slow(call: Call) -> None:
        await call.start()
        begun.set()
        await gone.wait()
        if way == "exclusive":
            async with call.session.exclusive():
                call.session["answer"] = 1
        else:
            call.session["answer"] = 1
            await getattr(call.session, way)()
        await call.finish()

    browser = Browser(serve({"/slow": slow}, store=StrictStore(MemoryStore())))
    await browser.get("/set?a=1")
    running = asyncio.ensure_future(tab(browser).get("/slow"))
    await begun.wait()
    await browser.get("/login")
    gone.set()
    assert (await running).cookies == []
    assert await content(browser) == {"a": "1", "user": "me"}
    assert [event.levelname for event in events(caplog, "session.dropped")] == ["WARNING"]


@pytest.mark.parametrize("make", [MemoryStore, FaultyStore])
@in_loop
async def test_a_request_that_has_regenerated_proves_its_saves_with_the_new_secret(make: Any) -> None:
    """Another request may regenerate after it, and what it writes then is kept all the same."""
    regenerated = asyncio.Event()

    async def act(call: Call) -> None:
        call.session.regenerate_id()
        await call.start()
        await regenerated.wait()
        call.session["late"] = 1
        await call.finish()

    browser = Browser(serve({"/act": act}, store=make()))
    await browser.get("/set?a=1")
    async with browser.open("/act") as answer:
        await answer.started()
        await browser.get("/login")
        regenerated.set()
        await answer.ended()
    assert await content(browser) == {"a": "1", "user": "me", "late": 1}
