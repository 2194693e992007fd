"""A save point alone: what there is to do, who gets what was asked for, and what waits for the next one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from driver import in_loop
from save_parts import EXTRA, SPANS, Bench, Request, session_of, wished

from fastersession import AttributeNotSerializable, ConfigError, SessionNotEstablished, StoreError
from fastersession.engine.flashing import Flashing
from fastersession.engine.plan import Action, Point
from fastersession.engine.save import Saver, Tries
from fastersession.events import TouchFailed
from fastersession.facts import FAILED, STARTED, Intents, Lease, Status

START, NOW, END = Point.START, Point.NOW, Point.END


@pytest.fixture(params=["live", "bytes"])
def bench(request: Any) -> Bench:
    return Bench(request.param)


@pytest.fixture
def live() -> Bench:
    return Bench("live")


@pytest.fixture
def packed() -> Bench:
    return Bench("bytes")


def saver_of(bench: Bench) -> Saver:
    events: Any = SimpleNamespace(tell=bench.told.append)
    return Saver(bench.calls, bench.values, events, SPANS, None, EXTRA, bench.listening, Flashing(bench.calls, None))


def tries_of(bench: Bench, at: Point = NOW) -> Tries | None:
    return None if bench.is_live else Tries(at)


async def running(bench: Bench, **attributes: Any) -> Request:
    """Return the state of a request that runs, whose session was made by one before."""
    state = await bench.another(await bench.begun(**attributes))
    assert state.record is not None
    state.record.requests += 1
    return state


# --- the fastest way ---


@in_loop
async def test_a_start_makes_a_new_session_at_once(live: Bench) -> None:
    """If it has attributes, and its id is free; its end is that of its only cookie."""
    saver = saver_of(live)
    state = live.request()
    assert saver.start_now(session_of(state), state) is False
    assert len(live.inner) == 0
    assert saver.start_now(session := session_of(state, a=1), state) is True
    record = await live.store.load(state.record_id)
    assert record is state.record
    assert (record.verifier, record.created_at, record.idle_timeout, record.not_after) == (
        state.secret, 1_000.0, 60.0, 1_600.0,
    )  # fmt: skip
    assert (state.status, dict(state.base), record.attributes, state.holds) == (Status.LIVE, {"a": 1}, {"a": 1}, 1)
    assert state.base is not session
    assert (record.extra, live.made) == (EXTRA, [state.record_id])
    another = live.request()
    another.record_id, another.secret = state.record_id, b"s" * 16
    assert saver.start_now(session_of(another, a=2), another) is False
    assert (another.status, dict(another.base), another.holds) == (Status.NEW, {}, 0)
    assert await live.content(state) == {"a": 1}


@in_loop
async def test_a_start_swaps_in_what_a_running_request_has_changed(live: Bench) -> None:
    """If nobody else has saved meanwhile, it is in no turn, and another thread has not logged out."""
    saver = saver_of(live)
    state = await running(live, a=1)
    assert saver.start_now(session_of(state, a=2), state) is True
    assert (dict(state.base), await live.content(state)) == ({"a": 2}, {"a": 2})
    other = await live.another(state)
    await live.actions.update(other, live.work(other, a=2, b=1), None, 1_000.0)
    assert saver.start_now(session_of(state, a=3), state) is False
    assert (dict(state.base), await live.content(state)) == ({"a": 2}, {"a": 2, "b": 1})
    for hinder in (lambda s: s.leased(Lease()), lambda s: setattr(s, "record", None)):
        state = await running(live, a=1)
        hinder(state)
        assert saver.start_now(session_of(state, a=2), state) is False
        assert dict(state.base) == {"a": 1}


@pytest.mark.parametrize("status", [Status.SUPERSEDED, Status.GONE, Status.FOREIGN])
def test_a_start_saves_nothing_of_what_is_not_its_own(live: Bench, status: Status) -> None:
    """That is left to the usual way, which says why."""
    state = live.request()
    state.status = status
    assert saver_of(live).start_now(session_of(state, a=1), state) is False
    assert (len(live.inner), state.status, dict(state.base)) == (0, status, {})


@pytest.mark.parametrize("error", [OSError("the secret"), ConfigError("ours")])
@in_loop
async def test_what_a_live_store_raises_at_a_start_is_a_store_error(live: Bench, error: Exception) -> None:
    """By its class only; a clear word of ours stays itself."""

    def fail(*_: object) -> None:
        raise error

    saver, state = saver_of(live), live.request()
    live.calls.verbs.create = live.calls.verbs.swap = fail
    expected = (StoreError, r"^the store failed: OSError$") if isinstance(error, OSError) else (ConfigError, "^ours$")
    with pytest.raises(expected[0], match=expected[1]):
        saver.start_now(session_of(state, a=1), state)
    assert dict(state.base) == {}


# --- prepare ---


@in_loop
async def test_what_is_prepared_is_carried_out_as_it_was(packed: Bench) -> None:
    """It is encoded once; what was written since is for the next save point."""
    saver, state = saver_of(packed), await running(packed, a=[1], gone=1)
    session = session_of(state, a=[1], gone=1)
    assert saver.prepare(session, state, NOW, discard=False) is None
    session["a"] = [2]
    del session["gone"]
    tries = saver.prepare(session, state, NOW, discard=False)
    assert tries is not None
    assert tries.prepared is not None
    assert tries.prepared.action is Action.UPDATE
    assert await packed.content(state) == {"a": [1], "gone": 1}
    session["b"] = 1
    await saver.commit(session, state, NOW, tries=tries)
    assert await packed.content(state) == {"a": [2]}
    await saver.commit(session, state, NOW, tries=tries)  # what was prepared holds no more
    assert await packed.content(state) == {"a": [2], "b": 1}


@pytest.mark.parametrize("change", [
    lambda s: s.settled({"a": 0}, {"a": b"0"}), lambda s: setattr(s, "status", Status.GONE),
    lambda s: setattr(s, "phase", FAILED),
])  # fmt: skip
@in_loop
async def test_what_was_prepared_holds_while_nothing_else_has_changed(packed: Bench, change: Any) -> None:
    """Else it is decided anew."""
    saver, state = saver_of(packed), await running(packed, a=1)
    session = session_of(state, a=2)
    tries = saver.prepare(session, state, NOW, discard=False)
    assert tries is not None
    assert tries.prepared is not None
    assert tries.prepared.holds(state) is True
    change(state)
    assert tries.prepared.holds(state) is False
    dict.__setitem__(session, "a", 3)
    await saver.commit(session, state, NOW, tries=tries)
    assert await packed.content(state) == {"a": 3 if state.status is Status.LIVE and state.phase != FAILED else 1}


@in_loop
async def test_what_is_discarded_is_not_prepared(packed: Bench) -> None:
    """By the save point or after a failed start; a touch that is due is."""
    saver, state = saver_of(packed), await running(packed, a=1)
    session = session_of(state, a=2)
    assert saver.prepare(session, state, NOW, discard=True) is None
    state.phase = FAILED
    assert saver.prepare(session, state, NOW, discard=False) is None
    packed.clock.advance(6)
    tries = saver.prepare(session, state, NOW, discard=False)
    assert tries is not None
    assert tries.prepared is not None
    assert tries.prepared.action is Action.TOUCH
    await saver.commit(session, state, NOW, tries=tries)
    assert (await packed.store.load(state.record_id)).accessed_at == 1_006.0
    assert await packed.content(state) == {"a": 1}


@in_loop
async def test_what_cannot_be_kept_is_told_after_all_else_was_saved(packed: Bench) -> None:
    """Also if there is nothing else to do."""
    words = r"^session attributes that cannot come back as they were: 'bad' is of class object.*; 'worse' is of class"
    for attributes, kept in (({"a": 1}, {"a": 1}), ({"a": 2}, {"a": 2})):
        saver, state = saver_of(packed), await running(packed, a=1)
        session = session_of(state, **attributes, bad=object(), worse=object())
        for given in (saver.prepare(session, state, NOW, discard=False), Tries(NOW)):
            with pytest.raises(AttributeNotSerializable, match=words):
                await saver.commit(session, state, NOW, tries=given)
        assert await packed.content(state) == kept


def test_a_try_encodes_anew_what_another_save_has_stored(packed: Bench) -> None:
    """But not what it has loaded itself."""
    state, tries = packed.request(), Tries(END, discard=True)
    assert (tries.at, tries.discard, Tries(NOW).discard) == (END, True, False)
    once = tries.encoded(state)
    assert once == {}
    once["a"] = [1], b"[1]"
    assert tries.encoded(state) is once
    state.settled({"a": [1]}, {"a": b"[1]"})
    tries.reloaded(state)
    assert tries.encoded(state) is once
    state.settled({"a": [2]}, {"a": b"[2]"})
    assert tries.encoded(state) == {}


# --- commit ---


@pytest.mark.parametrize("phase", [0, FAILED])
@in_loop
async def test_a_failed_answer_keeps_what_save_has_covered_only(bench: Bench, phase: int) -> None:
    """And what invalidate() has doomed is deleted all the same."""
    saver, state = saver_of(bench), await running(bench, a=1)
    state.phase = phase
    session = session_of(state, a=2)
    await saver.commit(session, state, NOW, discard=phase == 0, tries=tries_of(bench))
    assert await bench.content(state) == {"a": 1}
    state.wishes().saved = {"a": 3}
    await saver.commit(session, state, NOW, discard=phase == 0, tries=tries_of(bench))
    assert (await bench.content(state), state.intents) == ({"a": 3}, None)
    other = await bench.begun(b=1)
    assert other.record_id is not None
    state.wishes().doomed.append(other.record_id)
    await saver.commit(session, state, NOW, discard=phase == 0, tries=tries_of(bench))
    assert (await bench.content(other), await bench.content(state)) == (None, {"a": 3})


@in_loop
async def test_a_reload_comes_first_and_is_carried_out_once(bench: Bench) -> None:
    """What was changed is put on top of it, and then saved."""
    saver, state = saver_of(bench), await running(bench, a=1, b=1)
    other = await bench.another(state)
    await bench.actions.update(other, bench.work(other, a=2, b=1), None, 1_000.0)
    session = session_of(state, a=1, b=3)
    state.wishes().reload = True
    tries = tries_of(bench)
    await saver.commit(session, state, NOW, tries=tries)
    assert dict(dict.items(session)) == await bench.content(state) == {"a": 2, "b": 3}
    assert state.intents is None
    if tries is not None:
        assert tries.encoded(state) is not None


@in_loop
async def test_a_regeneration_waits_for_the_start(bench: Bench) -> None:
    """Nothing else can send its cookie; the idle timeout of a session without a record waits for the record."""
    saver, state = saver_of(bench), await running(bench, a=1)
    verifier = state.verifier
    state.wishes().regenerate = True
    await saver.commit(session_of(state, a=2), state, NOW, tries=tries_of(bench))
    assert (state.verifier, state.intents is not None and state.intents.regenerate) == (verifier, True)
    assert await bench.content(state) == {"a": 2}
    await saver.commit(session_of(state, a=2), state, START, tries=tries_of(bench, START))
    assert (state.verifier != verifier, state.intents) == (True, None)
    state = bench.request()
    state.wishes().idle_timeout = 90.0
    await saver.commit(session_of(state), state, NOW, tries=tries_of(bench))
    assert state.idle_seconds() == 90.0
    await saver.commit(session_of(state, a=1), state, START, tries=tries_of(bench, START))
    assert (await bench.store.load(state.record_id)).idle_timeout == 90.0
    assert state.intents is None


@in_loop
async def test_what_a_failed_save_could_not_do_is_asked_for_again(packed: Bench) -> None:
    """All of it; once it was done, none of it."""
    saver, state = saver_of(packed), await running(packed, a=1)
    session = session_of(state, a=2)
    for verb in ("load", "update"):
        state.wishes().reload = state.wishes().regenerate = True
        state.wishes().idle_timeout = 90.0
        packed.store.fail(verb)
        with pytest.raises(StoreError):
            await saver.commit(session, state, NOW, tries=Tries(NOW))
        intents = state.intents
        assert intents is not None
        assert (intents.reload, intents.regenerate, intents.idle_timeout) == (True, True, 90.0)
    await saver.commit(session, state, NOW, tries=Tries(NOW))
    assert state.intents is not None
    assert (state.intents.reload, state.intents.regenerate, state.intents.idle_timeout) == (False, True, None)
    session["bad"] = object()
    state.wishes().idle_timeout = 120.0
    with pytest.raises(AttributeNotSerializable):
        await saver.commit(session, state, NOW, tries=Tries(NOW))
    assert state.intents is not None
    assert state.intents.idle_timeout is None


@pytest.mark.parametrize("verb", ["load", "delete"])
@in_loop
async def test_a_logout_while_a_save_waits_is_of_the_session_after(bench: Bench, verb: str) -> None:
    """What save() had covered was of the one before; what ends it stays asked for."""
    state = await running(bench, a=1)
    record_id = state.record_id
    bench.after(verb, lambda: state.invalidated() if state.record_id is record_id else None)
    saver = saver_of(bench)
    saver._actions = bench.actions
    wishes = state.wishes()
    wishes.saved, wishes.reload, wishes.doomed = {"a": 3}, verb == "load", [b"d" * 16]
    await saver.commit(session_of(state), state, NOW, discard=True, tries=tries_of(bench))
    assert (state.status, dict(state.base)) == (Status.NEW, {})
    assert state.intents is not None
    assert state.intents.doomed == [record_id]
    assert wishes.saved is None
    await saver.commit(session_of(state), state, NOW, tries=tries_of(bench))
    assert len(bench.inner) == 0


@in_loop
async def test_a_logout_while_attributes_are_compared_is_of_the_session_after(bench: Bench) -> None:
    """They are compared again, with nothing."""
    state = await running(bench, a=1)
    compare: Callable[..., Any] = bench.values.compare

    def comparing(*arguments: Any) -> Any:
        work = compare(*arguments)
        if state.status is Status.LIVE:
            state.invalidated()
        return work

    bench.values.compare = comparing
    saver = saver_of(bench)
    await saver.commit(session_of(state, a=2), state, START, tries=tries_of(bench, START))
    assert dict(state.base) == {"a": 2}
    assert state.record_id is not None
    assert await bench.content(state) == {"a": 2}


@in_loop
async def test_what_no_cookie_can_lead_to_is_refused(bench: Bench) -> None:
    """With intents and without."""
    saver = saver_of(bench)
    for intents in (None, wished(idle_timeout=90.0)):
        state = bench.request()
        state.phase, state.intents = STARTED, intents
        with pytest.raises(SessionNotEstablished, match="'a'"):
            await saver.commit(session_of(state, a=1), state, NOW, tries=tries_of(bench))
        assert state.intents is None or isinstance(state.intents, Intents)
    assert len(bench.inner) == 0


# --- the rest ---


@in_loop
async def test_a_session_is_kept_alive_and_a_failure_of_it_is_told_only(packed: Bench) -> None:
    """What has no record of its own is not."""
    saver, state = saver_of(packed), await running(packed, a=1)
    packed.clock.advance(5)
    await saver.touch(state)
    assert (await packed.store.load(state.record_id)).accessed_at == 1_005.0
    packed.store.fail("touch")
    await saver.touch(state)
    assert [(type(event), event.record_id) for event in packed.told] == [(TouchFailed, state.record_id)]
    packed.clock.advance(5)
    state.status = Status.GONE
    await saver.touch(state)
    assert (await packed.store.load(state.record_id)).accessed_at == 1_005.0
    assert len(packed.told) == 1


@in_loop
async def test_changes_can_be_forgotten(bench: Bench) -> None:
    """They are taken for saved, and the store has what it had."""
    saver, state = saver_of(bench), await running(bench, a=1)
    tries = tries_of(bench)
    saver.forget_changes(session_of(state, a=2), state, tries)
    assert dict(state.base) == {"a": 2}
    await saver.commit(session_of(state, a=2), state, NOW, tries=tries_of(bench))
    assert await bench.content(state) == {"a": 1}
    if tries is not None:
        state = await running(bench, a=[1])
        state.handed_out(None)
        session = session_of(state, **state.base)
        state.base["a"].append(2)
        assert saver.changed_inside(session, state, 3) == ["a"]
        assert saver.changed_inside(session, state, 2) == []
