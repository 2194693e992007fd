"""Each transition of the state alone: which facts it changes, and to what; all others stay as they were."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastersession.errors import StoreError
from fastersession.facts import (
    ACCEPTED_WITHOUT_COOKIE,
    EMPTY,
    ENDED,
    FAILED,
    LEFT_WITHOUT_COOKIE,
    NOT_STARTED,
    STARTED,
    USUAL,
    USUAL_SOCKET,
    Intents,
    Lease,
    Loss,
    Rare,
    Status,
)
from fastersession.state import State
from fastersession.stores.base import Record

NEW, LIVE, SUPERSEDED, GONE, FOREIGN = Status
FACTS = (
    "accessed", "base", "guarded", "host", "intents", "is_new", "phase", "record", "record_id", "secret", "status",
    "verifier",
)  # fmt: skip
RARE = (
    "adopted", "adrift", "commits", "encoded", "failure", "handed", "is_socket", "late", "lease", "logged_in", "looks",
    "loss", "refusal",
)  # fmt: skip
HOST: Any = SimpleNamespace(idle_timeout=600.0, look_of=lambda value: b"look of " + bytes(value))
RECORD = Record(b"verifier", 0.0, 60.0, 3600.0, {})
ANOTHER = Record(b"another's", 0.0, 90.0, 3600.0, {})
ID, SECRET, BASE = b"i" * 16, b"s" * 16, {"list": [1], "n": 1}
Step = Callable[[State], Any]


def facts_of(state: State) -> dict[str, Any]:
    rare = {f"rare.{name}": getattr(state.rare, name) for name in RARE}
    return {name: getattr(state, name) for name in FACTS} | rare


def alike(one: Any, other: Any) -> bool:
    """Return whether nothing tells two facts apart: False is not None, and a copied record another one."""
    if isinstance(one, Intents) and isinstance(other, Intents):
        return all(alike(getattr(one, name), getattr(other, name)) for name in Intents.__slots__)
    if isinstance(one, Record | Loss | Lease) or one is None or other is None:
        return one is other
    return type(one) is type(other) and bool(one == other)


def changed(state: State, step: Step) -> dict[str, Any]:
    """Take a step; return the facts that are others then."""
    before = facts_of(state)
    before["rare.late"] = dict(before["rare.late"])
    before["rare.handed"] = None if state.rare.handed is None else set(state.rare.handed)
    step(state)
    return {name: value for name, value in facts_of(state).items() if not alike(value, before[name])}


def new(phase: int = NOT_STARTED, status: Status = NEW) -> State:
    state = State()
    state.opened(HOST, status)
    state.phase = phase
    return state


def live(phase: int = NOT_STARTED, rare: Rare = USUAL) -> State:
    state = State()
    state.loaded(HOST, ID, RECORD, BASE, rare)
    state.phase = phase
    return state


def created(phase: int = NOT_STARTED) -> State:
    """Return the state of a request that has made its session itself."""
    state = new(phase)
    state.record_id, state.secret = ID, SECRET
    state.created(ID, RECORD)
    return state


def wished(**wishes: Any) -> Intents:
    intents = Intents()
    for name, value in wishes.items():
        setattr(intents, name, value)
    return intents


def expect(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, value in found.items() if not alike(value, expected[name])] == []


FORGOTTEN = {"record_id": None, "verifier": None, "record": None, "status": NEW, "base": EMPTY, "is_new": True}


def test_a_session_begins_without_a_record_or_with_one() -> None:
    """What stands in a state before is of no matter: every fact is set."""
    usual = {f"rare.{name}": getattr(USUAL, name) for name in RARE}
    begun = {"accessed": False, "guarded": False, "host": HOST, "intents": None, "phase": NOT_STARTED, "secret": None}
    opened = begun | {"base": EMPTY, "is_new": True, "record": None, "verifier": None}
    state = State()
    state.opened(HOST)
    expect(facts_of(state), usual | opened | {"record_id": None, "status": NEW})
    state.opened(HOST, SUPERSEDED, ID)
    expect(facts_of(state), usual | opened | {"record_id": ID, "status": SUPERSEDED})
    state = State()
    state.loaded(HOST, ID, RECORD, BASE)
    loaded = {"base": BASE, "is_new": False, "record": RECORD, "verifier": b"verifier", "record_id": ID, "status": LIVE}
    expect(facts_of(state), usual | begun | loaded)
    state.loaded(HOST, ID, RECORD, BASE, rare := Rare())
    assert state.rare is rare
    assert state.base is BASE


def test_a_ticket_is_drawn_once_and_again_if_its_id_was_taken() -> None:
    """Id and secret, of 16 bytes each; of another id the secret is another, too."""
    state = new()
    ticket = state.ticket()
    assert list(map(len, ticket)) == [16, 16]
    assert (state.record_id, state.secret) == ticket == state.ticket()
    state.taken()
    assert not set(ticket) & set(again := state.ticket())
    assert again == (state.record_id, state.secret)
    state.secret = None
    assert not set(again) & set(state.ticket())


def test_a_save_is_proven_by_both_or_not_at_all() -> None:
    """Another thread takes one after the other away."""
    state = live()
    assert state.proof() == (ID, b"verifier")
    state.verifier = None
    assert state.proof() is None
    state.record_id, state.verifier = None, b"verifier"
    assert state.proof() is None


LOSS, LEASE, FAILURE = Loss("why"), Lease(), StoreError()

# What each does to a state: the state, the step, and the facts that are others then.
STEPS: dict[str, tuple[State, Step, dict[str, Any]]] = {
    "created": (
        created(), lambda s: s.created(ID, ANOTHER), {"record": ANOTHER, "verifier": b"another's"},
    ),
    "created from new": (new(), lambda s: (setattr(s, "record_id", ID), s.created(ID, RECORD)),
        {"record_id": ID, "record": RECORD, "verifier": b"verifier", "status": LIVE}),
    "created, but invalidated": (new(), lambda s: s.created(ID, RECORD),
        {"intents": wished(doomed=[ID]), "accessed": True}),
    "settled": (live(), lambda s: s.settled({"n": 2}, EMPTY), {"base": {"n": 2}}),
    "settled in bytes": (live(), lambda s: s.settled({"n": 2}, {"n": b"2"}),
        {"base": {"n": 2}, "rare.encoded": {"n": b"2"}}),
    "settled to nothing": (live(rare=Rare({"n": b"2"})), lambda s: s.settled(EMPTY, EMPTY),
        {"base": EMPTY, "rare.encoded": {}}),
    "reloaded": (live(), lambda s: s.reloaded(ANOTHER), {"accessed": True, "record": ANOTHER}),
    "disowned": (live(rare=Rare({"n": b"2"})), lambda s: s.disowned(),
        {"base": EMPTY, "rare.encoded": {}, "record": None}),
    "regenerated": (live(), lambda s: s.regenerated(SECRET, b"new"), {"secret": SECRET, "verifier": b"new"}),
    "lost": (created(), lambda s: s.lost(LOSS), {"status": GONE, "secret": None, "rare.loss": LOSS}),
    "gave up": (new(status=SUPERSEDED), lambda s: s.gave_up(LOSS), {"rare.loss": LOSS}),
    "gave up after the start": (new(STARTED, SUPERSEDED), lambda s: (s.gave_up(LOSS), s.gave_up(Loss("again"))),
        {"rare.loss": LOSS, "status": GONE}),
    "renewed": (new(status=SUPERSEDED), lambda s: s.renewed(), {"status": NEW}),
    "renewed, but live": (live(), lambda s: s.renewed(), {}),
    "forgotten": (live(rare=Rare({"n": b"2"})), lambda s: (s.leased(LEASE), s.forgotten()),
        FORGOTTEN | {"rare.encoded": {}}),
    "forgotten before its cookie": (created(), lambda s: s.forgotten(),
        {"record_id": None, "secret": None, "verifier": None, "record": None, "status": NEW}),
    "invalidated": (live(), lambda s: (s.wishes().doomed.append(b"1"), s.invalidated()),
        FORGOTTEN | {"intents": wished(doomed=[b"1", ID], signed_out=True), "accessed": True}),
    "invalidated in the request that made it": (created(), lambda s: s.invalidated(),
        {"record_id": None, "secret": None, "verifier": None, "record": None, "status": NEW,
         "intents": wished(doomed=[ID]), "accessed": True}),
    "invalidated after the start": (live(STARTED), lambda s: s.invalidated(),
        FORGOTTEN | {"intents": wished(doomed=[ID], signed_out=True), "accessed": True, "guarded": True}),
    "invalidated without a record": (new(), lambda s: (setattr(s, "record_id", ID), s.invalidated()),
        {"intents": wished(), "accessed": True}),
    "leased": (live(), lambda s: s.leased(LEASE), {"rare.lease": LEASE}),
    "committing": (live(), lambda s: s.committing(1, 2), {"rare.commits": (1, 2)}),
    "handed out": (live(), lambda s: (s.handed_out(["a"]), s.handed_out(["b"])),
        {"rare.handed": {"a", "b"}, "accessed": True}),
    "all handed out": (live(), lambda s: (s.handed_out(["a"]), s.handed_out(None), s.handed_out(["b"])),
        {"rare.handed": None, "accessed": True}),
    "put back": (live(), lambda s: (s.wishes().doomed.append(b"2"), s.put_back(wished(doomed=[b"1"], reload=True),
        same_session=False)), {"intents": wished(doomed=[b"1", b"2"]), "accessed": True}),
    "put back of the same": (live(), lambda s: s.put_back(wished(reload=True), same_session=True),
        {"intents": wished(reload=True), "accessed": True}),
    "used": (live(), lambda s: s.used(), {"accessed": True}),
    "on a socket": (live(), lambda s: s.on_socket(),
        {"rare.is_socket": True, "rare.refusal": ACCEPTED_WITHOUT_COOKIE}),
    "on a socket, in bytes": (live(rare=Rare({"n": b"2"})), lambda s: s.on_socket(),
        {"rare.is_socket": True, "rare.refusal": ACCEPTED_WITHOUT_COOKIE}),
    "on a foreign socket": (new(status=FOREIGN), lambda s: s.on_socket("foreign"),
        {"rare.is_socket": True, "rare.refusal": "foreign", "guarded": True}),
    "the cookie has left": (created(), lambda s: s.cookie_left(), {"secret": None}),
    "the cookie is cleared": (live(), lambda s: (setattr(s.wishes(), "signed_out", True), s.cookie_left()),
        {"intents": wished(), "accessed": True}),
    "replaced": (live(), lambda s: s.replaced(), {"phase": FAILED}),
    "unanswered": (live(), lambda s: s.unanswered(), {"rare.refusal": None}),
    "unanswered, foreign": (new(status=FOREIGN), lambda s: s.unanswered(), {}),
    "failed": (live(), lambda s: s.failed(FAILURE), {"rare.failure": FAILURE}),
    "failed, and then not": (live(), lambda s: (s.failed(FAILURE), s.failed(None)), {}),
    "never failed": (live(), lambda s: s.failed(None), {}),
    "ended adrift": (live(), lambda s: s.ended_adrift(), {"rare.adrift": True}),
    "wrote late": (live(), lambda s: (s.wrote_late(["a", 1]), s.wrote_late(["b", "a"])),
        {"rare.late": {"a": None, "1": None, "b": None}}),
    "nothing happens": (live(), lambda s: (s.look(), s.hold()), {}),
}  # fmt: skip


@pytest.mark.parametrize(("state", "step", "expected"), STEPS.values(), ids=list(STEPS))
def test_a_transition_changes_these_facts_and_no_other(state: State, step: Step, expected: dict[str, Any]) -> None:
    """What many requests share is never written to."""
    shared = {name: getattr(USUAL, name) for name in Rare.__slots__}
    expect(changed(state, step), expected)
    assert {name: getattr(USUAL, name) for name in Rare.__slots__} == shared
    assert USUAL.handed == set()


def test_who_knows_nothing_rare_goes_on_sharing() -> None:
    """What is nothing rare makes no object of the request's own."""
    state = live()
    for step in (
        lambda: state.settled({"n": 2}, EMPTY), lambda: state.failed(None), lambda: state.forgotten(),
        lambda: state.invalidated(), lambda: state.saw("n", 1),
    ):  # fmt: skip
        step()
        assert state.rare is USUAL
    state.on_socket()
    assert state.rare is USUAL_SOCKET
    own = state.rarely()
    assert own is state.rarely()
    assert (own.is_shared, own.is_socket) == (False, True)
    state.settled({"n": 2}, {"n": b"2"})
    state.committing(1, 2)
    assert state.rare is own


def test_a_look_is_kept_of_what_is_handed_out_first_and_was_loaded() -> None:
    """Once it was handed out, or is another object, its look says nothing of what the store has."""
    state = live(rare=Rare({"list": b"[1]"}))
    value = BASE["list"]
    state.saw("list", [1])
    state.saw("none", [1])
    assert state.rare.looks == {}
    state.saw("list", value)
    assert state.rare.looks == {"list": (value, b"look of \1")}
    state.rare.looks["list"] = None, None
    state.saw("list", value)
    assert state.rare.looks == {"list": (None, None)}
    for names in (["list"], None):
        state = live(rare=Rare({"list": b"[1]"}))
        state.handed_out(names)
        state.saw("list", value)
        assert state.rare.looks == {}


def test_wishes_are_taken_at_once_and_a_cookie_to_clear_stays_one() -> None:
    """What is asked for meanwhile is for the next; the browser's cookie is cleared by the headers only."""
    state = live()
    assert state.taken_intents() is None
    wishes = state.wishes()
    assert state.wishes() is wishes
    wishes.reload = True
    assert state.taken_intents() is wishes
    assert state.intents is None
    assert state.taken_intents() is None
    state.accessed = False
    state.wishes().signed_out = True
    assert state.accessed is True
    taken = state.taken_intents()
    assert taken is not None
    expect({"left": state.intents}, {"left": wished(signed_out=True)})


def test_what_two_threads_ask_for_at_once_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the lock adds to what the other one has asked for meanwhile, and takes no object of the other's."""
    state, theirs = live(), wished(reload=True)

    class Turn:
        """The other thread's, before this one has the lock."""

        def __enter__(self) -> None:
            state.intents = theirs
            state.rare = own

        def __exit__(self, *_: object) -> None:
            pass

    own = Rare()
    monkeypatch.setattr("fastersession.state.ASKING", Turn())
    assert state.wishes() is theirs
    assert state.rarely() is own
    state.intents = Intents()
    assert state.taken_intents() is theirs


def test_the_idle_timeout_is_what_was_asked_for_or_the_record_s_or_the_middleware_s() -> None:
    """In this order."""
    assert new().idle_seconds() == 600.0
    state = live()
    assert state.idle_seconds() == 60.0
    state.wishes().reload = True
    assert state.idle_seconds() == 60.0
    state.wishes().idle_timeout = 5.0
    assert state.idle_seconds() == 5.0


REFUSED = {NEW: (None, LEFT_WITHOUT_COOKIE), FOREIGN: (LEFT_WITHOUT_COOKIE,) * 2}


@pytest.mark.parametrize("phase", [NOT_STARTED, STARTED, FAILED, ENDED])
@pytest.mark.parametrize("status", list(Status))
def test_what_is_new_when_the_headers_have_left_can_never_be_read(status: Status, phase: int) -> None:
    """So nothing may be written to it; and to a foreign one never."""
    before, after = REFUSED.get(status, (None, None))
    assert new(phase, status).refusal_of_writes() == (before if phase == NOT_STARTED else after)


def test_late_writes_are_taken_once() -> None:
    """Those that come from then on are for the next save."""
    state = live()
    state.wrote_late(["a"])
    assert state.take_late() == {"a": None}
    assert state.take_late() == {}
    state.wrote_late(["b"])
    assert state.rare.late == {"b": None}
