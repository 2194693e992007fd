"""Each action of a save point alone, on a live store and on one of bytes: what it stores, notes and tells."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from driver import in_loop
from save_parts import EXTRA, Bench, Request, session_of, wished

from fastersession import LeaseLost, SessionNotEstablished, StoreError
from fastersession.crypto.tokens import verifier_of
from fastersession.engine.packing import ABOUT
from fastersession.engine.values import Work
from fastersession.events import NotRegenerated, SessionDropped, SessionLost
from fastersession.facts import STARTED, Identity, Lease, Loss, Status
from fastersession.stores.base import Change

NOTHING = Work({})


@pytest.fixture(params=["live", "bytes"])
def bench(request: Any) -> Bench:
    return Bench(request.param)


def said(told: list[Any]) -> list[Any]:
    """Return the events, by class, with what they say."""
    names = ("record_id", "why", "attributes")
    return [(type(event), *(getattr(event, name, "") for name in names)) for event in told]


# --- create ---


@pytest.mark.parametrize("asked", [None, 90.0])
@in_loop
async def test_a_record_is_made_of_what_there_is(bench: Bench, asked: float | None) -> None:
    """A live store keeps the secret itself, another one what is made of it; the cookie's end is the nearer one."""
    state, intents = bench.request(), wished(idle_timeout=asked, regenerate=True)
    ticket = state.ticket()
    await bench.actions.create(state, bench.work(state, a=[1]), intents if asked else None, 1_000.0)
    record = await bench.store.load(ticket[0])
    assert record.verifier == (ticket[1] if bench.is_live else verifier_of(ticket[1]))
    assert (record.created_at, record.accessed_at, record.not_after) == (1_000.0, 1_000.0, 1_600.0)
    assert record.idle_timeout == (asked or 60.0)
    assert (record.extra.retention, bench.made) == (EXTRA.retention, [ticket[0]])
    assert (state.status, state.record_id, state.secret, state.verifier) == (Status.LIVE, *ticket, record.verifier)
    assert (dict(state.base), state.holds) == ({"a": [1]}, 1)
    assert intents.regenerate is (asked is None)
    assert await bench.content(state) == {"a": [1]}
    if not bench.is_live:
        assert record.attributes[ABOUT].endswith(b"[null, 1000.0, 90.0]" if asked else b"[null, 1000.0, 60.0]")
        assert state.rare.encoded == {"a": b"[1]"}


@in_loop
async def test_a_taken_id_is_drawn_anew_three_times(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record that has it stays as it is; a generator that repeats itself ends in an error."""
    first = await bench.begun(a=1)
    state = bench.request()
    state.record_id, state.secret = first.record_id, b"s" * 16
    await bench.actions.create(state, bench.work(state, b=1), None, 1_000.0)
    assert state.record_id != first.record_id
    assert (await bench.content(first), await bench.content(state)) == ({"a": 1}, {"b": 1})
    drawn: list[int] = []
    monkeypatch.setattr("fastersession.state.draw", lambda: drawn.append(1) or (first.record_id, b"s" * 16))
    with pytest.raises(StoreError, match=r"^3 new record ids in a row were taken: the random generator is broken$"):
        await bench.actions.create(bench.request(), NOTHING, None, 1_000.0)
    assert len(drawn) == 3


@in_loop
async def test_a_session_that_is_invalidated_while_its_record_is_made_leaves_none(bench: Bench) -> None:
    """The record is doomed, and the state is that of a new session."""
    state = bench.request()
    record_id, _ = state.ticket()
    bench.after("create", state.invalidated)
    await bench.actions.create(state, bench.work(state, a=1), None, 1_000.0)
    assert state.wishes().doomed == [record_id]
    assert (state.status, state.record, dict(state.base), state.holds) == (Status.NEW, None, {}, 0)
    await bench.actions.delete_doomed(intents := state.wishes())
    assert intents.doomed == []
    assert len(bench.inner) == 0


# --- update ---


@in_loop
async def test_an_update_stores_what_differs(bench: Bench) -> None:
    """Merged into what another request has saved meanwhile; the time of the access never moves back."""
    state = await bench.begun(a=1, b=1, gone=1)
    other = await bench.another(state)
    await bench.actions.update(other, bench.work(other, a=1, b=2, gone=1), None, 1_020.0)
    await bench.actions.update(state, bench.work(state, a=2, b=1), None, 1_010.0)
    assert await bench.content(state) == {"a": 2, "b": 2}
    assert dict(state.base) == {"a": 2, "b": 1}
    record = await bench.store.load(state.record_id)
    assert record.accessed_at == 1_020.0
    assert state.record is not None
    assert state.record.accessed_at == (1_020.0 if bench.is_live else 1_010.0)
    assert (state.holds, bench.told) == (0, [])
    await bench.actions.update(other, bench.work(other, a=1, b=3, gone=1), None, 1_005.0)
    assert other.record is not None
    assert other.record.accessed_at == 1_020.0


@in_loop
async def test_an_update_stores_another_idle_timeout(bench: Bench) -> None:
    """With what the record says of itself, and so that it is kept alive in time; without one the old one stays."""
    state = await bench.begun(a=1)
    await bench.actions.update(state, bench.work(state, a=1), wished(idle_timeout=90.0), 1_010.0)
    await bench.actions.update(state, bench.work(state, a=2), wished(), 1_020.0)
    record = await bench.store.load(state.record_id)
    assert state.record is not None
    assert (record.idle_timeout, state.record.idle_timeout, state.holds) == (90.0, 90.0, 1)
    if not bench.is_live:
        assert record.attributes[ABOUT].endswith(b"[null, 1000.0, 90.0]")


@in_loop
async def test_nothing_is_asked_for_without_a_proof(bench: Bench) -> None:
    """Another thread has taken it away; so the record stays as it was, and is deleted by the next save point."""
    for act in (bench.actions.update, bench.actions.regenerate, bench.actions.touch):
        for fact in ("record_id", "verifier"):
            state = await bench.begun(a=1)
            record_id = state.record_id
            work = bench.work(state, a=2)
            setattr(state, fact, None)
            await act(state, work, None, 1_050.0)
            record = await bench.store.load(record_id)
            assert (record.accessed_at, dict(state.base)) == (1_000.0, {"a": 1})
            state.record_id = record_id
            assert await bench.content(state) == {"a": 1}


@in_loop
async def test_what_a_session_that_was_ended_elsewhere_writes_is_dropped_and_told_once(bench: Bench) -> None:
    """Of one that is gone nobody misses anything."""
    state = await bench.begun(a=1, gone=1)
    record_id = state.record_id
    await bench.store.delete(record_id)
    await bench.actions.update(state, bench.work(state, b=1, a=1), None, 1_010.0)
    why = "it was logged out elsewhere, or has expired"
    assert said(bench.told) == [(SessionDropped, record_id, why, "'b', 'gone'")]
    assert (state.status, state.secret, dict(state.base)) == (Status.GONE, None, {"b": 1, "a": 1})
    assert await bench.content(state) is None
    bench.told.clear()
    await bench.actions.drop(state, bench.work(state, c=1), None, 1_010.0)
    await bench.actions.drop(state, bench.work(state, c=1), None, 1_010.0)
    assert bench.told == []
    assert dict(state.base) == {"c": 1}


@in_loop
async def test_what_a_session_that_was_regenerated_twice_writes_is_dropped_and_told_by_name(bench: Bench) -> None:
    """It lives on, so each attribute that is lost is named, once; regenerated once, it is kept."""
    first = await bench.begun(a=1)
    state, other = await bench.another(first), await bench.another(first)
    await bench.actions.regenerate(other, bench.work(other, a=1), None, 1_010.0)
    await bench.actions.update(state, bench.work(state, a=2), None, 1_010.0)
    assert (bench.told, await bench.content(state)) == ([], {"a": 2})
    other = await bench.another(first)
    await bench.actions.regenerate(other, bench.work(other, a=2), None, 1_010.0)
    for name in ("b", "b", "c"):
        await bench.actions.update(state, bench.work(state, a=2, **{name: 1}), None, 1_010.0)
    why = "another request has regenerated its secret, and not only once"
    assert said(bench.told[:1]) == [(SessionLost, state.record_id, why, "'b'")]
    bench.told.clear()
    for attributes in ({"d": 1}, {"e": 1}, {"d": 2}):
        await bench.actions.drop(state, bench.work(state, a=2, **attributes), None, 1_010.0)
    assert said(bench.told) == [(SessionLost, state.record_id, why, name) for name in ("'d'", "'e'")]
    assert state.status is Status.GONE
    assert await bench.content(state) == {"a": 2}


@in_loop
async def test_a_save_under_a_lease_is_its_owner_s(bench: Bench) -> None:
    """Once it has ended, or is another's, the save is refused and can be tried again; the session stays its own."""
    state = await bench.begun(a=1)
    lease = Lease()
    lease.owner = b"me"
    state.leased(lease)
    assert await bench.store.lock(state.record_id, state.verifier, b"me", 10.0)
    await bench.actions.update(state, bench.work(state, a=2), None, 1_010.0)
    bench.clock.advance(10)
    words = r"^the lease of session\.exclusive\(\) ended before this save: another request may hold it$"
    with pytest.raises(LeaseLost, match=words):
        await bench.actions.update(state, bench.work(state, a=3), None, 1_010.0)
    assert (state.status, dict(state.base), await bench.content(state)) == (Status.LIVE, {"a": 2}, {"a": 2})
    lease.owner = None
    await bench.actions.update(state, bench.work(state, a=4), None, 1_010.0)
    assert await bench.content(state) == {"a": 4}
    lease.owner = b"me"
    await bench.store.delete(state.record_id)
    await bench.actions.update(state, bench.work(state, a=5), None, 1_010.0)
    assert state.status is Status.GONE


@pytest.mark.parametrize("verb", ["update", "regenerate"])
@in_loop
async def test_a_logout_while_the_store_saves_is_not_undone(bench: Bench, verb: str) -> None:
    """The state stays that of a new session, and the record is doomed."""
    state = await bench.begun(a=1)
    record_id = state.record_id
    bench.after(verb, state.invalidated)
    act = bench.actions.update if verb == "update" else bench.actions.regenerate
    await act(state, bench.work(state, a=2), wished(idle_timeout=90.0), 1_010.0)
    assert (state.status, state.record, state.verifier, state.secret) == (Status.NEW, None, None, None)
    assert (dict(state.base), state.holds, bench.told) == ({}, 0, [])
    assert state.wishes().doomed == [record_id]


@in_loop
async def test_a_logout_while_a_refusal_is_looked_into_is_not_undone(bench: Bench) -> None:
    """Nothing is told of the session of before."""
    state = await bench.begun(a=1)
    await bench.store.delete(state.record_id)
    bench.after("load", state.invalidated)
    await bench.actions.update(state, bench.work(state, a=2), None, 1_010.0)
    assert (state.status, state.rare.loss, bench.told) == (Status.NEW, None, [])


@in_loop
async def test_who_gets_another_proof_while_a_refusal_is_looked_into_is_not_lost(bench: Bench) -> None:
    """The request itself has regenerated meanwhile."""
    state = await bench.begun(a=1)
    await bench.store.delete(state.record_id)
    bench.after("load", lambda: setattr(state, "verifier", b"new"))
    await bench.actions.update(state, bench.work(state, a=2), None, 1_010.0)
    assert (state.status, bench.told) == (Status.LIVE, [])


@in_loop
async def test_a_record_of_a_store_s_own_class_may_know_no_verifier_before(bench: Bench) -> None:
    """Then only its own verifier proves anything."""
    state = await bench.begun(a=1)
    record = SimpleNamespace(verifier=b"another's", attributes={})

    async def load(record_id: bytes) -> Any:
        return record

    bench.calls.verbs = SimpleNamespace(load=(lambda record_id: record) if bench.is_live else load)
    bench.after("load", lambda: None)
    await bench.actions.reload(session_of(state, a=2), state)
    assert state.status is Status.GONE


@in_loop
async def test_what_was_never_a_session_of_ours_is_dropped_without_a_word(bench: Bench) -> None:
    """A foreign WebSocket's."""
    state = bench.request()
    state.opened(bench.host, Status.FOREIGN)
    await bench.actions.drop(state, bench.work(state, a=1), None, 1_010.0)
    assert (dict(state.base), bench.told, state.rare.loss) == ({"a": 1}, [], None)


# --- regenerate, touch, delete, drop, refuse ---


@in_loop
async def test_a_regeneration_changes_the_secret_and_saves_in_one_step(bench: Bench) -> None:
    """The absolute end is counted from the creation and from the new cookie; the verifier before stays a proof."""
    first = await bench.begun(a=1)
    state = await bench.another(first)
    await bench.actions.regenerate(state, bench.work(state, a=2), wished(idle_timeout=90.0), 1_020.0)
    record = await bench.store.load(state.record_id)
    assert state.secret is not None
    assert record.verifier == state.verifier == (state.secret if bench.is_live else verifier_of(state.secret))
    assert (record.verifier_before, record.regenerated_at, record.not_after) == (first.verifier, 1_020.0, 1_620.0)
    assert (record.idle_timeout, state.holds, dict(state.base)) == (90.0, 1, {"a": 2})
    assert await bench.content(state) == {"a": 2}
    bench.clock.advance(50)
    state = await bench.another(state)
    await bench.actions.regenerate(state, bench.work(state, a=2), None, 4_500.0)
    assert (await bench.store.load(state.record_id)).not_after == 4_600.0
    assert bench.told == []


@in_loop
async def test_a_cookie_s_own_age_counts_where_it_has_one(bench: Bench) -> None:
    """It is the identity's, which the record has."""
    state = await bench.begun(a=1)
    assert state.record is not None
    state.record.extra = state.record.extra._replace(identity=Identity(max_age=50.0))
    await bench.actions.regenerate(state, bench.work(state, a=1), None, 1_020.0)
    assert (await bench.store.load(state.record_id)).not_after == 1_070.0


@in_loop
async def test_who_loses_a_regeneration_saves_all_the_same(bench: Bench) -> None:
    """It is told, and keeps the secret that it had; if the session is gone, only that is told."""
    first = await bench.begun(a=1)
    state, other = await bench.another(first), await bench.another(first)
    await bench.actions.regenerate(other, NOTHING, None, 1_010.0)
    await bench.actions.regenerate(state, bench.work(state, a=2), None, 1_010.0)
    assert said(bench.told) == [(NotRegenerated, state.record_id, "", "")]
    assert (state.secret, state.verifier, state.status) == (None, first.verifier, Status.LIVE)
    assert await bench.content(other) == {"a": 2}
    await bench.actions.regenerate(state, bench.work(state, a=2), wished(idle_timeout=90.0), 1_010.0)
    assert (await bench.store.load(state.record_id)).idle_timeout == 90.0
    await bench.store.delete(state.record_id)
    bench.told.clear()
    await bench.actions.regenerate(state, bench.work(state, a=3), None, 1_010.0)
    assert [type(event) for event in bench.told] == [SessionDropped]


@in_loop
async def test_a_touch_moves_the_access_and_never_back(bench: Bench) -> None:
    """If the record is gone, a save will find out."""
    state = await bench.begun(a=1)
    record = state.record
    assert record is not None
    for now, accessed_at in ((1_010.0, 1_010.0), (1_005.0, 1_010.0)):
        await bench.actions.touch(state, NOTHING, None, now)
        assert record.accessed_at == (await bench.store.load(state.record_id)).accessed_at == accessed_at
    await bench.store.delete(state.record_id)
    await bench.actions.touch(state, NOTHING, None, 1_020.0)
    assert (record.accessed_at, state.status, bench.told) == (1_010.0, Status.LIVE, [])


@in_loop
async def test_a_deletion_ends_the_session_and_all_that_were_doomed(bench: Bench) -> None:
    """One that fails stays doomed."""
    state, another = await bench.begun(a=1), await bench.begun(b=1)
    assert another.record_id is not None
    state.wishes().doomed.append(another.record_id)
    record_id = state.record_id
    await bench.actions.delete(state, NOTHING, None, 1_010.0)
    assert (state.status, state.wishes().doomed, len(bench.inner)) == (Status.NEW, [], 0)
    assert bench.ends == [(record_id, "invalidated"), (another.record_id, "invalidated")]
    if not bench.is_live:
        bench.store.fail("delete")
        intents = wished(doomed=[b"1" * 16, b"2" * 16])
        with pytest.raises(StoreError):
            await bench.actions.delete_doomed(intents)
        assert intents.doomed == [b"1" * 16, b"2" * 16]


@in_loop
async def test_what_a_superseded_session_writes_is_dropped_and_told(bench: Bench) -> None:
    """It is not gone before its headers have left: a verb may make it a new one."""
    for phase, status in ((0, Status.SUPERSEDED), (STARTED, Status.GONE)):
        state = bench.request()
        state.opened(bench.host, Status.SUPERSEDED, b"i" * 16)
        state.phase = phase
        await bench.actions.drop(state, bench.work(state, a=1), None, 1_010.0)
        why = "its cookie was replaced a moment ago by another request"
        assert said(bench.told) == [(SessionDropped, b"i" * 16, why, "'a'")]
        assert (state.status, dict(state.base)) == (status, {"a": 1})
        bench.told.clear()
    state.rare.loss = loss = Loss("another reason")
    await bench.actions.drop(state, bench.work(state, b=1), None, 1_010.0)
    assert (state.rare.loss, loss.told) == (loss, {"a", "b"})


@in_loop
async def test_what_can_never_be_read_is_refused_by_name(bench: Bench) -> None:
    """With the reason that the state has, or the usual one."""
    state = bench.request()
    with pytest.raises(SessionNotEstablished, match=r"^session attribute 'a' cannot be kept: the response headers"):
        await bench.actions.refuse(state, Work({"a": 1, "b": 1}), None, 1_010.0)
    state.on_socket("a foreign origin")
    state.phase = STARTED
    with pytest.raises(SessionNotEstablished, match=r"^session attribute None cannot be kept: a foreign origin$"):
        await bench.actions.refuse(state, NOTHING, None, 1_010.0)


# --- reload ---


@in_loop
async def test_a_reload_puts_unsaved_changes_on_top(bench: Bench) -> None:
    """What the request has set, added or removed stays so; all else is what the store has by now."""
    first = await bench.begun(a=1, b=1, c=1, gone=1)
    state, other = await bench.another(first), await bench.another(first)
    await bench.actions.update(other, bench.work(other, a=2, b=2, c=2, new=2, gone=1), None, 1_010.0)
    session = session_of(state, a=3, c=1, gone=1, mine=3)  # b is removed
    state.accessed = False
    await bench.actions.reload(session, state)
    assert dict(dict.items(session)) == {"a": 3, "c": 2, "new": 2, "gone": 1, "mine": 3}
    assert dict(state.base) == {"a": 2, "b": 2, "c": 2, "new": 2, "gone": 1}
    assert state.accessed is True
    assert state.record is not None
    assert state.record.version == 2
    work = bench.work(state, **session)
    assert (sorted(work.sets), list(work.deletes)) == (["a", "mine"], ["b"])


@in_loop
async def test_a_reload_says_what_it_has_encoded_and_what_it_lies_beside(bench: Bench) -> None:
    """So a try encodes nothing again, and a login that is asked for goes on with what is there."""
    state = await bench.begun(a=1)
    once: dict[str, Any] = {}
    await bench.actions.reload(session := session_of(state, a=[2]), state, once)
    assert list(once) == ([] if bench.is_live else ["a"])
    assert state.beside == [(session, None)]
    wishes = state.wishes()
    await bench.actions.reload(session, state)
    assert state.beside[1:] == [(session, wishes)]


@in_loop
async def test_what_two_requests_remove_is_removed(bench: Bench) -> None:
    """By a reload of the second, too."""
    first = await bench.begun(a=1, gone=None)
    state, other = await bench.another(first), await bench.another(first)
    await bench.actions.update(other, bench.work(other, a=1), None, 1_010.0)
    await bench.actions.reload(session := session_of(state, a=1), state)
    assert dict(dict.items(session)) == dict(state.base) == {"a": 1}


@in_loop
async def test_a_logout_while_a_reload_is_taken_over_leaves_nothing_of_it(bench: Bench) -> None:
    """But what the other thread has written since is of the new session."""
    state = await bench.begun(a=[1], b=None, c=[3])
    session = session_of(state, **state.base)
    reloaded = Request.reloaded

    def between(self: Request, record: Any) -> None:
        reloaded(self, record)
        self.invalidated()
        dict.__setitem__(session, "a", "written since")
        dict.__delitem__(session, "b")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Request, "reloaded", between)
        await bench.actions.reload(session, state)
    assert dict(dict.items(session)) == {"a": "written since"}
    assert (state.status, state.record, dict(state.base), dict(state.rare.encoded)) == (Status.NEW, None, {}, {})


@in_loop
async def test_a_regeneration_whose_record_another_thread_has_taken_away_is_made_all_the_same(bench: Bench) -> None:
    """The absolute end is counted from now, then."""
    state = await bench.begun(a=1)
    state.record = None
    await bench.actions.regenerate(state, bench.work(state, a=2), None, 1_020.0)
    assert (await bench.store.load(state.record_id)).not_after == 1_620.0
    assert dict(state.base) == {"a": 1}


@in_loop
async def test_a_reload_keeps_what_cannot_be_stored() -> None:
    """It is the application's affair."""
    bench = Bench("bytes")
    state = await bench.begun(a=1)
    session = session_of(state, a=1, bad=(bad := object()))
    await bench.actions.reload(session, state)
    assert dict(dict.items(session)) == {"a": 1, "bad": bad}


@in_loop
async def test_a_reload_finds_out_that_the_session_is_gone_or_not_its_own(bench: Bench) -> None:
    """What was written is dropped and told; the attributes stay as they are."""
    state = await bench.begun(a=1)
    await bench.store.delete(state.record_id)
    session = session_of(state, a=2)
    await bench.actions.reload(session, state)
    assert (state.status, dict(dict.items(session))) == (Status.GONE, {"a": 2})
    assert [type(event) for event in bench.told] == [SessionDropped]
    first = await bench.begun(a=1)
    for _ in range(2):
        state = await bench.another(first)
        await bench.actions.regenerate(state, NOTHING, None, 1_010.0)
    await bench.actions.reload(session_of(first, a=2), first)
    assert first.status is Status.GONE
    assert [type(event) for event in bench.told[1:]] == [SessionLost]


@in_loop
async def test_a_reload_asks_nothing_without_a_session_of_its_own(bench: Bench) -> None:
    """What is not live has none; of what another thread invalidates nothing is taken over."""
    for status in Status:
        state = await bench.begun(a=1)
        session = session_of(state, a=2)
        if status is not Status.LIVE:
            state.status = status
        else:
            state.verifier = None
        await bench.actions.reload(session, state)
        assert dict(state.base) == {"a": 1}
        assert state.accessed is False
    state = await bench.begun(a=1)
    bench.after("load", state.invalidated)
    session = session_of(state, a=2)
    await bench.actions.reload(session, state)
    assert (dict(dict.items(session)), dict(state.base), state.record) == ({"a": 2}, {}, None)


@in_loop
async def test_who_was_loaded_with_the_verifier_before_may_reload(bench: Bench) -> None:
    """Until a second regeneration; a record of a store's own class may know of no verifier before."""
    first = await bench.begun(a=1)
    state = await bench.another(first)
    await bench.store.regenerate(state.record_id, state.verifier, b"n" * 32, 1_600.0, Change(1_010.0))
    await bench.actions.reload(session := session_of(state, a=1), state)
    assert (state.status, dict(dict.items(session)), bench.told) == (Status.LIVE, {"a": 1}, [])
