"""MemoryStore's bound (SECURITY L10) and its ids (K2): who is evicted and who never, and no id is used twice."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from clocks import FakeClock
from driver import Browser, in_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import Call, content, events, serve
from test_memory_store import add, find

from fastersession import MemoryStore
from fastersession.stores.base import Record

BOUND = 5

steps = st.lists(
    st.tuples(st.sampled_from(["create", "create as user", "come back", "begin", "end"]), st.integers(0, 9)),
    max_size=60,
)


def test_a_session_that_comes_back_again_is_not_the_least_recently_used() -> None:
    """Each load counts, not only the first."""
    store = MemoryStore(max_sessions=2, clock=FakeClock())
    for record_id in (b"a", b"b"):
        add(store, record_id)
    for record_id in (b"a", b"b", b"a"):
        assert find(store, record_id) is not None
    add(store, b"c")
    assert [find(store, record_id) is not None for record_id in (b"a", b"b", b"c")] == [True, False, True]


def test_who_has_a_user_goes_after_who_has_none_and_before_both_who_never_came_back() -> None:
    """Whoever was there last."""
    store = MemoryStore(max_sessions=2, clock=FakeClock())
    add(store, b"user", tag=b"me")
    add(store, b"nobody")
    for record_id in (b"user", b"nobody"):
        assert find(store, record_id) is not None
    add(store, b"new")
    add(store, b"newer")
    known = (b"user", b"nobody", b"new", b"newer")
    assert [find(store, record_id) is not None for record_id in known] == [True, False, False, True]


@settings(max_examples=150, deadline=None)
@given(steps)
def test_l10_the_order_of_eviction(program: list[tuple[str, int]]) -> None:
    """L10: first who never came back, then who has no user, then the rest; by last use; never one that is in use."""
    # Invariant: after every step the store holds exactly the sessions that the model of three queues holds.
    store = MemoryStore(max_sessions=BOUND, clock=FakeClock())
    queues: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
    records: dict[bytes, tuple[Record, bytes | None]] = {}
    for number, (verb, choice) in enumerate(program):
        known = [record_id for queue in queues for record_id in queue]
        if verb.startswith("create"):
            for _ in range(2):
                if len(known) >= BOUND:
                    evict(queues, records)
                    known = [record_id for queue in queues for record_id in queue]
            record_id, tag = number.to_bytes(16, "big")[::-1], b"me" if verb.endswith("user") else None
            record = add(store, record_id, tag=tag)
            assert record is not None
            records[record_id] = record, tag
            queues[0].append(record_id)
        elif known:
            record_id = known[choice % len(known)]
            record, tag = records[record_id]
            if verb == "end":
                record.requests = max(0, record.requests - 1)
                continue
            assert find(store, record_id) is record
            next(queue for queue in queues if record_id in queue).remove(record_id)
            queues[1 if tag is None else 2].append(record_id)
            record.requests += verb == "begin"
        assert len(store) == sum(map(len, queues))
    kept = {record_id for queue in queues for record_id in queue}
    assert {record_id for record_id in records if find(store, record_id)} == kept
    assert len(store) == len(kept)


def evict(queues: tuple[list[bytes], ...], records: dict[bytes, tuple[Record, bytes | None]]) -> None:
    for queue in queues:
        for record_id in list(queue):
            queue.remove(record_id)
            if not records[record_id][0].requests:
                del records[record_id]
                return
            queue.append(record_id)  # in use is used now


async def flood(app: Any, number: int) -> None:
    for _ in range(number):
        await Browser(app).get("/set?flood=1")


@in_loop
async def test_l10_a_session_in_use_is_never_evicted(caplog: Any) -> None:
    """L10: a running stream, new or old, on http or a WebSocket, finds its session at its end, whatever the flood."""

    async def slow(call: Call) -> None:
        call.session["question"] = "q"
        if call.scope["type"] == "websocket":
            await call.send({"type": "websocket.accept"})
            await call.receive()
            await call.receive()
        else:
            await call.start()
            await call.chunk()
            await going_on.wait()
            call.session["answer"] = "a"
            await call.finish()

    store, going_on = MemoryStore(max_sessions=4), asyncio.Event()
    app = serve({"/slow": slow}, store=store)
    new, old, socket = Browser(app), Browser(app), Browser(app)
    await old.get("/set?a=1")
    async with new.open("/slow") as first, old.open("/slow") as second, socket.websocket("/slow") as third:
        await asyncio.gather(first.chunk(), second.chunk(), third.accepted())
        await flood(app, 20)
        going_on.set()
        await asyncio.gather(first.ended(), second.ended())
    assert await content(new) == {"question": "q", "answer": "a"}
    assert await content(old) == {"a": "1", "question": "q", "answer": "a"}
    assert await content(socket) == {"question": "q"}
    assert len(store) <= 4
    assert events(caplog, "store.full") == []


@in_loop
async def test_l10_a_session_saved_before_its_start_is_in_use() -> None:
    """L10: a record that save() made early belongs to a running request: no flood and no idle time takes it."""

    async def slow(call: Call) -> None:
        call.session["question"] = "q"
        await call.session.save()
        clock.advance(120)  # the model thinks before its first token
        await flood(call.scope["app"], 10)
        await call.reply()

    clock = FakeClock()
    app = serve({"/slow": slow}, store=MemoryStore(max_sessions=2, clock=clock), idle_timeout=60)
    browser = Browser(app, extra={"app": app})
    await browser.get("/slow")
    assert await content(browser) == {"question": "q"}


@in_loop
async def test_l10_with_all_in_use_the_bound_is_exceeded_and_said_once(caplog: Any) -> None:
    """L10: if every session is in use, new ones are still made, one warning tells, and the bound is reached again."""

    async def slow(call: Call) -> None:
        call.session["a"] = 1
        await call.start()
        await call.chunk()
        await going_on.wait()
        await call.finish()

    store, going_on = MemoryStore(max_sessions=3), asyncio.Event()
    app = serve({"/slow": slow}, store=store)
    streams = [asyncio.ensure_future(Browser(app).get("/slow")) for _ in range(10)]
    while len(store) < 10:
        await asyncio.sleep(0)
    going_on.set()
    await asyncio.gather(*streams)
    await flood(app, 10)
    assert len(store) == 3
    (record,) = events(caplog, "store.full")
    assert record.levelname == "WARNING"
    assert "max_sessions" in record.getMessage()


@in_loop
async def test_l10_one_client_that_never_returns_its_cookie_evicts_nobody_else() -> None:
    """L10: a flood without cookies pushes out its own sessions, not those of browsers that came back."""
    app = serve(store=MemoryStore(max_sessions=20))
    browsers = [Browser(app) for _ in range(10)]
    for browser in browsers:
        await browser.get("/set?a=1")
        await browser.get("/")
    await flood(app, 200)
    assert [await content(browser) for browser in browsers] == [{"a": "1"}] * 10


@in_loop
async def test_k2_a_taken_id_is_drawn_anew_and_the_victim_stays_as_it_was(monkeypatch: Any) -> None:
    """K2: create only inserts: on a repeated id the victim's record is untouched and a fresh id is issued."""
    first, second = b"\1" * 32, b"\2" * 32
    store = MemoryStore()
    victim, other = (Browser(serve(store=store)) for _ in range(2))
    monkeypatch.setattr(secrets, "token_bytes", lambda size: first)
    await victim.get("/set?a=1")
    record = find(store, first[:16])
    assert record is not None
    before = (record.verifier, record.version, record.accessed_at, record.attributes)
    draws = iter([first[:16] + b"\3" * 16, second])
    monkeypatch.setattr(secrets, "token_bytes", lambda size: next(draws))
    await other.get("/set?b=2")
    assert find(store, first[:16]) is record
    assert (record.verifier, record.version, record.accessed_at, record.attributes) == before
    assert await content(victim) == {"a": "1"}
    assert await content(other) == {"b": "2"}


@in_loop
async def test_k2_a_broken_generator_is_a_503_and_no_record_is_shared(monkeypatch: Any) -> None:
    """K2: after three taken ids the request fails cleanly."""
    store = MemoryStore()
    victim, other = (Browser(serve(store=store)) for _ in range(2))
    monkeypatch.setattr(secrets, "token_bytes", lambda size: b"\1" * size)
    await victim.get("/set?a=1")
    answer = await other.get("/set?b=2")
    assert (answer.status, answer.cookies) == (503, [])
    assert await content(victim) == {"a": "1"}
