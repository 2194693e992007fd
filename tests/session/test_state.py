"""Transitions of the state that another thread's logout, or a failure, may come between."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from driver import Browser, in_loop
from routes import Call, content, events, live, serve
from stores import SpyStore, SuspendingStore

from fastersession import FasterSessionMiddleware, MemoryStore, Session, StoreError
from fastersession.facts import STARTED, USUAL, USUAL_SOCKET, Intents, Loss, Rare, Status
from fastersession.session import state_of
from fastersession.state import State
from fastersession.stores.base import Record

pytestmark = pytest.mark.usefixtures("quick")
RECORD = Record(b"verifier", 0.0, 60.0, 3600.0, {})
HOST: Any = None


def new_state() -> State:
    state = State()
    state.opened(HOST)
    return state


def test_a_record_made_for_a_session_that_was_invalidated_meanwhile_is_doomed() -> None:
    """The session stays new, and the next save point deletes what the store has made."""
    state = new_state()
    record_id, _ = state.ticket()
    state.invalidated()
    state.created(record_id, RECORD)
    assert (state.status, state.record, state.record_id) == (Status.NEW, None, None)
    assert state.wishes().doomed == [record_id]


def test_what_is_put_back_is_looked_for() -> None:
    """A failed save leaves its wishes, and the next save point has to look."""
    state = new_state()
    state.put_back(Intents(), same_session=True)
    assert state.accessed
    assert state.intents is not None


def test_what_few_requests_know_never_reaches_another_request() -> None:
    """Every transition that writes to it makes the request's own first, which knows if it is a WebSocket's."""
    for shared in (USUAL, USUAL_SOCKET):
        untouched = {name: getattr(shared, name, None) for name in Rare.__slots__}
        for change in (
            lambda state: state.settled({}, {"a": b"1"}),
            lambda state: state.leased(None),
            lambda state: state.committing(None, None),
            lambda state: state.failed(StoreError()),
            lambda state: state.wrote_late(["a"]),
            lambda state: state.take_late(),
            lambda state: state.unanswered(),
            lambda state: state.lost(None),
            lambda state: state.gave_up(None),
            lambda state: state.on_socket("why"),
            lambda state: state.has_ended("expired"),
        ):
            state = new_state()
            state.rare = shared
            change(state)
            assert not state.rare.is_shared
            assert state.rare.is_socket or shared is USUAL
            assert {name: getattr(shared, name, None) for name in Rare.__slots__} == untouched


def test_a_superseded_session_that_wrote_is_gone_once_its_headers_have_left() -> None:
    """Before, a verb may still make it a new one."""
    state = new_state()
    state.status = Status.SUPERSEDED
    state.gave_up(first := Loss("why"))
    assert (state.status, state.rare.loss) == (Status.SUPERSEDED, first)
    state.phase = STARTED
    state.gave_up(Loss("another"))
    assert (state.status, state.rare.loss) == (Status.GONE, first)


@in_loop
async def test_a_logout_while_a_new_session_is_noted_as_saved_loses_no_later_write() -> None:
    """What was saved belongs to the record that is doomed: the next session starts from nothing."""
    value = object()

    async def do(call: Call) -> None:
        engine, session = app._engine, call.session
        settle = engine.values.settle

        def after_a_logout(*arguments: Any) -> None:
            engine.values.settle = settle
            session.invalidate()  # as another thread may
            settle(*arguments)

        engine.values.settle = after_a_logout
        session["b"] = value
        await session.save()
        session["b"] = value
        await call.reply()
        seen.append(state_of(session).base.get("b"))

    seen: list[Any] = []
    app: FasterSessionMiddleware = serve({"/act": do}, store=SpyStore())
    await Browser(app).get("/act")
    assert seen == [value]
    assert len(app._engine.calls.store.inner) == 1


@in_loop
async def test_a_save_after_the_end_that_fails_leaves_its_writes_to_be_told(caplog: Any) -> None:
    """A write after the end is told as lost if the save of it failed, and so is one that came meanwhile."""
    store, kept = SuspendingStore(), []

    async def keep(call: Call) -> None:
        kept.append(call.session)
        await call.reply()

    browser: Any = await live(store, keep)
    await browser.get("/act")
    session: Session = kept.pop()
    session["first"] = 1
    gate = store.hold("update")
    store.fail("update", times=99)
    saving = asyncio.ensure_future(session.save())
    await gate.reached.wait()
    session["second"] = 1
    gate.open.set()
    with pytest.raises(StoreError):
        await saving
    while browser.app._engine.saves.tasks:  # save() itself has begun another one
        await asyncio.sleep(0)
    del session, saving
    gc.collect()
    (record,) = events(caplog, "session.unsaved")
    assert "'first', 'second'" in record.getMessage()


@pytest.mark.parametrize("make", [MemoryStore, SuspendingStore])
@in_loop
async def test_a_list_that_was_handed_out_before_the_start_may_grow_after_it(make: Any) -> None:
    """The session is not touched again, and yet its end saves what stands in it."""

    async def do(call: Call) -> None:
        words = call.session["words"]
        await call.start()
        words.append("late")
        await call.finish()

    async def begin(call: Call) -> None:
        call.session["words"] = []
        await call.reply()

    browser = Browser(serve({"/act": do, "/begin": begin}, store=make()))
    await browser.get("/begin")
    await browser.get("/act")
    assert await content(browser) == {"words": ["late"]}
