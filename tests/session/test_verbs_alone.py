"""Each verb and each property of a session alone: what it notes in the state, and what it asks of the middleware."""

from __future__ import annotations

import gc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from driver import in_loop

from fastersession import HeadersSent, Session, SessionNotEstablished
from fastersession.facts import ENDED, FAILED, NOT_STARTED, STARTED, Intents, Status
from fastersession.noting import NotingSession
from fastersession.session import LONGEST, Late, give_state, late_class_of, seconds, state_of
from fastersession.state import State
from fastersession.stores.base import Record

NEW, LIVE, SUPERSEDED, GONE, FOREIGN = Status
ID = b"\xab" * 16
Verb = Callable[[Any], Any]


class Host:
    """The middleware, which notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.idle_timeout = 600.0

    def now(self) -> float:
        return 5_000.0

    async def save(self, *arguments: Any) -> None:
        self.asked.append(("save", *arguments))

    async def reload(self, *arguments: Any) -> None:
        self.asked.append(("reload", *arguments))

    def save_soon(self, *arguments: Any) -> None:
        self.asked.append(("save_soon", *arguments))

    def exclusive(self, *arguments: Any) -> Any:
        self.asked.append(("exclusive", *arguments))
        return self

    def let_go(self, session: Any, state: State) -> None:
        self.asked.append(("let_go", type(session).__name__, list(state.take_late())))


def made(status: Status = NEW, phase: int = NOT_STARTED, kind: Any = Session, **attributes: Any) -> Any:
    session, state, host = kind(attributes), State(), Host()
    if status is LIVE:
        record = Record(b"v", 1_000.0, 60.0, 9_000.0, {})
        record.accessed_at = 2_000.0
        state.loaded(host, ID, record, attributes)  # type: ignore[arg-type]
    else:
        state.opened(host, status, ID if status in (SUPERSEDED, GONE) else None)  # type: ignore[arg-type]
    state.phase = phase
    give_state(session, state)
    return session


def asked_of(session: Any) -> Any:
    return state_of(session).host.asked  # type: ignore[attr-defined]


def wishes_of(session: Any) -> dict[str, Any]:
    """Return what is asked for, as far as it is something."""
    intents = state_of(session).intents or Intents()
    found = {name: getattr(intents, name) for name in Intents.__slots__}
    return {name: value for name, value in found.items() if value not in (False, None, [])}


@pytest.mark.parametrize(("value", "number"), [
    (1, 1.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), (LONGEST - 1, float(LONGEST - 1)), (True, None), (0, None),
    (-1, None), (LONGEST, None), (float("nan"), None), (float("inf"), None), ("1", None), (None, None),
    (timedelta(0), None), (timedelta(-1), None),
])  # fmt: skip
def test_seconds_are_a_positive_finite_number(value: Any, number: float | None) -> None:
    """Or a timedelta of as many; they come as a float."""
    assert repr(seconds(value)) == repr(number)
    session = made()
    if number is None:
        words = r"^idle_timeout: must be a positive number of seconds, or a positive timedelta$"
        with pytest.raises(ValueError, match=words):
            session.idle_timeout = value
        assert wishes_of(session) == {}
    else:
        session.idle_timeout = value
        assert wishes_of(session) == {"idle_timeout": number}
        assert session.idle_timeout == timedelta(seconds=number)


PROPERTIES: dict[str, tuple[Verb, Any, Any]] = {
    "is_new": (lambda s: s.is_new, True, False),
    "created_at": (lambda s: s.created_at, datetime.fromtimestamp(5_000, UTC), datetime.fromtimestamp(1_000, UTC)),
    "last_accessed_at": (
        lambda s: s.last_accessed_at, datetime.fromtimestamp(5_000, UTC), datetime.fromtimestamp(2_000, UTC),
    ),
    "idle_timeout": (lambda s: s.idle_timeout, timedelta(seconds=600), timedelta(seconds=60)),
    "repr": (repr, "<Session new keys=['a']>", "<Session live keys=['a']>"),
    "str": (str, "<Session new keys=['a']>", "<Session live keys=['a']>"),
    "mark_accessed": (lambda s: s.mark_accessed(), None, None),
}  # fmt: skip


@pytest.mark.parametrize(("read", "of_new", "of_live"), PROPERTIES.values(), ids=list(PROPERTIES))
def test_a_property_is_the_record_s_and_marks_the_access(read: Verb, of_new: Any, of_live: Any) -> None:
    """Of a session without one, it is what it would be now."""
    for status, expected in ((NEW, of_new), (LIVE, of_live)):
        session = made(status, a="the value")
        found = read(session)
        assert (type(found), found) == (type(expected), expected)
        assert state_of(session).accessed is True
        if isinstance(found, datetime):
            assert found.tzinfo is UTC


def test_an_id_is_drawn_at_the_first_use_and_stays() -> None:
    """32 lowercase hex digits."""
    session = made(LIVE)
    assert session.id == "ab" * 16
    assert state_of(session).accessed is True
    session = made()
    first = session.id
    assert (len(first), session.id, bytes.fromhex(first)) == (32, first, state_of(session).record_id)


# --- verbs ---


def test_establish_asks_for_a_record_where_there_is_none() -> None:
    """On a loaded session it takes a clear() back; on one that is gone it does nothing."""
    for status in (NEW, SUPERSEDED):
        session = made(status)
        session.establish()
        assert (wishes_of(session), state_of(session).status) == ({"establish": True}, NEW)
    for status in (LIVE, GONE):
        session = made(status, STARTED)
        session.establish()
        assert (wishes_of(session), state_of(session).status) == ({}, status)
        session.clear()
        assert wishes_of(session) == {"cleared": True}
        session.establish()
        assert wishes_of(session) == {}
    session = made(FOREIGN)
    state_of(session).on_socket("a foreign origin")
    with pytest.raises(SessionNotEstablished, match=r"^a foreign origin$"):
        session.establish()


@pytest.mark.parametrize("phase", [STARTED, FAILED, ENDED])
@pytest.mark.parametrize("verb", ["establish()", "regenerate_id()"])
def test_what_must_send_a_cookie_is_refused_once_the_headers_have_left(verb: str, phase: int) -> None:
    """In words of the protocol."""
    for status in (NEW, SUPERSEDED):
        for on_socket, end in ((False, "the response starts"), (True, r"accept\(\)")):
            session = made(status, phase)
            if on_socket:
                state_of(session).on_socket()
            name = verb.removesuffix("()")
            with pytest.raises(HeadersSent, match=rf"^session\.{name}\(\) must send a cookie: call it before {end}$"):
                getattr(session, name)()
            assert (wishes_of(session), state_of(session).status) == ({}, status)


def test_regenerate_id_asks_for_another_secret_where_there_is_one() -> None:
    """Of a superseded session it makes a new one."""
    for status, after, wishes in (
        (NEW, NEW, {}), (LIVE, LIVE, {"regenerate": True}), (SUPERSEDED, NEW, {}), (GONE, GONE, {}),
    ):  # fmt: skip
        session = made(status)
        session.regenerate_id()
        assert (wishes_of(session), state_of(session).status) == (wishes, after)


@pytest.mark.parametrize("status", list(Status))
def test_invalidate_empties_the_session_at_once(status: Status) -> None:
    """A record is doomed, with its cookie; what can never be saved stays as it is, under another id."""
    session = made(status, a=1)
    session.invalidate()
    assert dict(dict.items(session)) == {}
    state = state_of(session)
    doomed = {"doomed": [ID], "signed_out": True} if status is LIVE else {}
    assert (wishes_of(session), state.accessed, state.record_id) == (doomed, True, None)
    assert state.status is (status if status in (SUPERSEDED, FOREIGN) else NEW)
    assert asked_of(session) == []


def test_a_logout_empties_what_a_reload_of_another_thread_has_filled() -> None:
    """Between the two looks."""

    class Filled(State):
        """The other thread's turn comes while the state forgets the record."""

        def invalidated(self) -> None:
            super().invalidated()
            dict.__setitem__(session, "a", 1)

    session = made(LIVE, a=1)
    state = Filled()
    state.loaded(Host(), ID, Record(b"v", 0.0, 60.0, 9_000.0, {}), {})  # type: ignore[arg-type]
    give_state(session, state)
    session.invalidate()
    assert dict(dict.items(session)) == {}


@in_loop
async def test_a_verb_is_done_now_if_it_is_awaited() -> None:
    """By the middleware, with the session and its state; save() covers what there is at the call."""
    for verb, act, wishes in (
        (lambda s: s.establish(), "save", {"establish": True}), (lambda s: s.reload(), "reload", {"reload": True}),
        (lambda s: s.save(), "save", {"saved": {"a": 1}}), (lambda s: s.invalidate(), "save", {}),
        (lambda s: s.regenerate_id(), None, {}),
    ):  # fmt: skip
        session = made(a=1)
        pending = verb(session)
        assert wishes_of(session) == wishes
        assert asked_of(session) == []
        session.update(a=2)
        assert wishes_of(session) == wishes
        await pending
        assert asked_of(session) == ([] if act is None else [(act, session, state_of(session))])


def test_a_verb_of_sync_code_after_the_end_is_done_soon() -> None:
    """No save point comes any more; before the end it waits for one."""
    for phase, soon in ((STARTED, False), (FAILED, False), (ENDED, True)):
        for verb in (lambda s: s.save(), lambda s: s.invalidate()):
            session = made(LIVE, phase)
            verb(session)
            assert asked_of(session) == ([("save_soon", session, state_of(session))] if soon else [])


def test_a_turn_is_the_middleware_s() -> None:
    """With half a minute to wait for it."""
    session = made(LIVE)
    host = state_of(session).host
    assert session.exclusive() is session.exclusive(timeout=1.5) is host
    assert asked_of(session) == [("exclusive", session, state_of(session), seconds) for seconds in (30.0, 1.5)]


# --- late writes ---


def test_a_write_that_nobody_can_read_is_refused_by_name() -> None:
    """A removal is not: there is nothing that could be lost."""
    session = made(NEW, STARTED)
    state_of(session).guarded = True
    with pytest.raises(SessionNotEstablished, match=r"^session attribute 'a' cannot be kept: the response headers"):
        session["a"] = 1
    with pytest.raises(SessionNotEstablished, match=r"^session attribute 'b' cannot be kept: the response headers"):
        session.update(b=1, a=1)
    assert dict(dict.items(session)) == {}
    dict.__setitem__(session, "a", 1)
    del session["a"]
    session.update({})
    assert (type(session), state_of(session).rare.late) == (Session, {})


@pytest.mark.parametrize("kind", [Session, NotingSession])
def test_what_is_written_late_is_told_when_the_session_is_let_go(kind: Any) -> None:
    """By its name, once, whether it was set or removed."""
    session = made(LIVE, ENDED, kind, a=1, b=1)
    state_of(session).host.runs = SimpleNamespace(keep_watch=lambda session: None)
    host: Any = state_of(session).host
    state_of(session).guarded = True
    session["c"] = 1
    del session["a"]
    assert type(session) is late_class_of(kind(a=1)) is kind._late_as
    assert issubclass(type(session), Late)
    del session
    gc.collect()
    assert host.asked == [("let_go", f"Late{kind.__name__}", ["c", "a"])]


def test_each_class_of_sessions_has_a_late_one() -> None:
    """A subclass of its own gets it when it is made; the late one has none."""

    class Own(Session):
        """Somebody's."""

        __slots__ = ()

    late = Own._late_as
    assert (late.__name__, late.__bases__) == ("LateOwn", (Late, Own))
    assert not hasattr(late, "__dict__") or "__dict__" not in vars(late)

    class Later(late):  # type: ignore[misc, valid-type]
        """Of a late one."""

        __slots__ = ()

    assert Later._late_as is late
