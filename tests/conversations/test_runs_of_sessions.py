"""Runs of conversations that die with their session, and the session that they hold meanwhile."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import pytest
from clocks import FakeClock
from driver import in_loop
from producers import Producer, Reader, until
from routes import Call, content, live
from run_parts import Worker
from small_keeper import Chat
from stores import SuspendingStore

from fastersession import MemoryStore
from fastersession.conversations import leases
from fastersession.conversations.holding import Holding
from fastersession.errors import Gone
from fastersession.session import state_of
from fastersession.stores.base import Extra, Record
from fastersession.stores.logs import Place
from fastersession.stores.users import Login

VERIFIER, OTHER = b"v" * 32, b"w" * 32


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.02)


async def session_of(store: MemoryStore) -> bytes:
    """Make a session, and return its id."""
    record_id, now = secrets.token_bytes(16), store.clock()
    assert await store.create(record_id, Record(VERIFIER, now, 600.0, now + 3000.0, {}, Extra(b"ada")))
    return record_id


def chat_of(worker: Worker, record_id: bytes, **options: Any) -> Chat:
    """Return a conversation of a session."""
    chat = worker.chat(**options)
    handle = chat._handle
    handle.place = Place(b"c" * 16, record_id, VERIFIER)
    handle.places = [handle.place]
    return chat


@in_loop
async def test_a_logout_ends_the_run() -> None:
    """The log is gone: the producer is closed, the reader is told, and no answer comes back."""
    store = MemoryStore()
    worker, record_id = Worker(store), await session_of(store)
    chat = chat_of(worker, record_id, fold="".join)
    producer = Producer("a")
    reader = Reader(await chat.start(producer.generate()))
    await reader.until(1)
    await store.delete(record_id)
    await producer.closed.wait()
    with pytest.raises(Gone):
        await reader.task
    assert await chat_of(worker, record_id).look() == ([], None)
    assert not store.logs.shelf.all()


@in_loop
async def test_an_end_in_this_process_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of this session ends without a renewal; one of another goes on."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 1000)
    store = MemoryStore()
    worker, record_id = Worker(store), await session_of(store)
    producer, other = Producer("a"), Producer("b")
    reader = Reader(await chat_of(worker, record_id).start(producer.generate()))
    staying = Reader(await worker.chat().start(other.generate()))
    await reader.until(1)
    await staying.until(1)
    worker.chat()._handle.keeper.runs.session_ended(record_id)
    await producer.closed.wait()
    with pytest.raises(Gone):
        await reader.task
    other.end()
    await staying.task


@in_loop
async def test_a_login_ends_the_run_without_an_answer() -> None:
    """What was asked as a guest, or as another user, is not answered to whoever has logged in."""
    store = MemoryStore()
    worker, record_id = Worker(store), await session_of(store)
    chat = chat_of(worker, record_id, fold="".join)
    producer = Producer("a")
    run = await chat.start(producer.generate(), entry="q")
    reader = Reader(run)
    await reader.until(1)
    now = store.clock()
    record = Record(OTHER, now, 600.0, now + 3000.0, {}, Extra(b"bob"))
    await store.login(record_id, VERIFIER, Login(record, (b"bob",), now, until=now + 3000.0))
    producer.say("b")
    await producer.closed.wait()
    await reader.task
    assert (reader.data, run.status) == (["a"], "interrupted")
    entries, _ = await chat.look()
    assert [entry.value for entry in entries] == ["q"]


@in_loop
async def test_a_reader_ends_with_the_session_that_reads() -> None:
    """Of a conversation that outlives it the run goes on."""
    worker = Worker(MemoryStore())
    chat = worker.chat()
    ended = asyncio.Event()
    chat._handle.guard = ended.wait
    producer = Producer("a")
    run = await chat.start(producer.generate())
    reader = Reader(run)
    await reader.until(1)
    ended.set()
    with pytest.raises(Gone):
        await reader.task
    assert run.status == "running"
    producer.end()
    await until(lambda: run.status == "completed")


@in_loop
async def test_a_run_holds_its_session() -> None:
    """The idle timeout does not end it while the run runs, though no request does."""
    clock = FakeClock()
    held: list[Holding] = []

    async def hold(call: Call) -> None:
        held.append(Holding(state_of(call.session)))
        await call.reply()

    browser = await live(MemoryStore(clock=clock), hold)
    await browser.get("/act")
    idle = 24 * 3600
    clock.advance(idle)
    assert await content(browser) == {"a": "1"}
    held[0].let_go()
    held[0].let_go()
    clock.advance(idle)
    assert await content(browser) == {}


@in_loop
async def test_a_run_keeps_its_session_alive_on_a_store_of_bytes() -> None:
    """It touches it as a long request does, and no more after its end."""
    clock = FakeClock()
    store = SuspendingStore(clock=clock)
    held: list[Holding] = []

    async def hold(call: Call) -> None:
        held.append(Holding(state_of(call.session)))
        await call.reply()

    browser = await live(store, hold)
    await browser.get("/act")
    repeats = held[0]._runs.repeats
    assert held[0] in repeats._all
    touches = store.count("touch")
    clock.advance(held[0].pause())
    await held[0].again()
    assert store.count("touch") == touches + 1
    held[0].let_go()
    assert held[0] not in repeats._all
