"""plan() against the table of save points, written out and over every situation; what feeds it by property."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.engine.plan import Action, Point, Situation, diff, motion, plan, situation, touch_due, unchanged
from fastersession.facts import FAILED, NOT_STARTED, STARTED, Intents, Rare, Status
from fastersession.state import State
from fastersession.stores.base import Record

NEW, LIVE, SUPERSEDED, GONE, FOREIGN = Status.NEW, Status.LIVE, Status.SUPERSEDED, Status.GONE, Status.FOREIGN
START, LATER, END = Point.START, Point.NOW, Point.END
LOST = (SUPERSEDED, GONE, FOREIGN)


def at(status: Status, point: Point, **flags: bool) -> Situation:
    """Give a situation by what is true in it; written attributes are `written=True`."""
    written = flags.pop("written", False)
    defaults = {"empty": not written, "dirty": written, "started": point is not START}
    return Situation(status, point, **{**defaults, **flags})


TABLE = [
    ("nobody, nothing written", at(NEW, START), Action.NOTHING),
    ("nobody, nothing written, at the end", at(NEW, END), Action.NOTHING),
    ("first attribute in time", at(NEW, START, written=True), Action.CREATE),
    ("first attribute and an explicit save() in time", at(NEW, LATER, written=True, started=False), Action.CREATE),
    ("established empty", at(NEW, START, establish=True), Action.CREATE),
    ("established empty in a failed response", at(NEW, START, establish=True, discard=True), Action.CREATE),
    ("first attribute in a failed response", at(NEW, START, written=True, discard=True), Action.NOTHING),
    ("first attribute after the headers", at(NEW, LATER, written=True), Action.REFUSE),
    ("first attribute after the headers, at the end", at(NEW, END, written=True), Action.REFUSE),
    ("first attribute, no start ever", at(NEW, END, written=True, started=False), Action.NOTHING),
    ("cleared, never saved", at(NEW, START, cleared=True), Action.NOTHING),
    ("untouched", at(LIVE, START, empty=False), Action.NOTHING),
    ("untouched, a tenth of the idle timeout later", at(LIVE, START, empty=False, due=True), Action.TOUCH),
    ("untouched at the end, due", at(LIVE, END, empty=False, due=True), Action.TOUCH),
    ("changed", at(LIVE, START, written=True), Action.UPDATE),
    ("changed while streaming", at(LIVE, LATER, written=True), Action.UPDATE),
    ("changed before the stream broke", at(LIVE, END, written=True), Action.UPDATE),
    ("changed, no start, returned", at(LIVE, END, written=True, started=False), Action.UPDATE),
    ("changed in a failed response", at(LIVE, START, written=True, discard=True), Action.NOTHING),
    ("changed in a failed response, due", at(LIVE, START, written=True, discard=True, due=True), Action.TOUCH),
    ("emptied by pop", at(LIVE, START, dirty=True), Action.UPDATE),
    ("emptied by clear()", at(LIVE, START, dirty=True, cleared=True), Action.DELETE),
    ("clear() of an empty live session", at(LIVE, START, cleared=True), Action.DELETE),
    ("clear() while streaming", at(LIVE, LATER, dirty=True, cleared=True), Action.DELETE),
    ("clear(), then written", at(LIVE, START, written=True, cleared=True), Action.UPDATE),
    ("clear() in a failed response", at(LIVE, START, dirty=True, cleared=True, discard=True), Action.NOTHING),
    ("regenerate_id()", at(LIVE, START, empty=False, regenerate=True), Action.REGENERATE),
    ("regenerate_id() and changed", at(LIVE, START, written=True, regenerate=True), Action.REGENERATE),
    ("regenerate_id() in a failed response", at(LIVE, START, empty=False, regenerate=True, discard=True),
     Action.REGENERATE),
    ("regenerate_id(), no start ever", at(LIVE, END, empty=False, regenerate=True, started=False), Action.NOTHING),
    ("regenerate_id() and an early save()", at(LIVE, LATER, written=True, regenerate=True, started=False),
     Action.UPDATE),
    ("clear() and regenerate_id(), nothing written", at(LIVE, START, dirty=True, cleared=True, regenerate=True),
     Action.DELETE),
    ("login(), at the start", at(LIVE, START, written=True, login=True), Action.LOGIN),
    ("login(), awaited, in a new session", at(NEW, LATER, login=True, started=False), Action.LOGIN),
    ("login() in a failed response", at(LIVE, START, written=True, login=True, discard=True), Action.NOTHING),
    ("login(), no start ever", at(NEW, END, login=True, started=False), Action.NOTHING),
    ("max_age set, or rolling", at(LIVE, START, empty=False, renew=True), Action.RENEW),
    ("max_age set, and changed", at(LIVE, START, written=True, renew=True), Action.RENEW),
    ("max_age set, due", at(LIVE, START, empty=False, renew=True, due=True), Action.RENEW),
    ("max_age set, and an early save()", at(LIVE, LATER, written=True, renew=True, started=False), Action.UPDATE),
    ("max_age set, awaited", at(LIVE, LATER, empty=False, renew=True, started=False), Action.NOTHING),
    ("max_age set in a failed response", at(LIVE, START, written=True, renew=True, discard=True), Action.NOTHING),
    ("max_age set and regenerate_id()", at(LIVE, START, empty=False, renew=True, regenerate=True), Action.REGENERATE),
    ("max_age set and clear()", at(LIVE, START, dirty=True, renew=True, cleared=True), Action.DELETE),
    ("max_age set and login()", at(LIVE, START, empty=False, renew=True, login=True), Action.LOGIN),
    ("max_age set in a new session, nothing written", at(NEW, START, renew=True), Action.NOTHING),
    ("max_age set in a new session, written", at(NEW, START, written=True, renew=True), Action.CREATE),
    ("logged out elsewhere, max_age set", at(GONE, START, empty=False, renew=True), Action.NOTHING),
    ("superseded, max_age set", at(SUPERSEDED, START, renew=True), Action.NOTHING),
    ("logged out elsewhere, nothing written", at(GONE, END, empty=False), Action.NOTHING),
    ("logged out elsewhere, written", at(GONE, END, written=True), Action.DROP),
    ("superseded, nothing written", at(SUPERSEDED, START), Action.NOTHING),
    ("superseded, written", at(SUPERSEDED, START, written=True), Action.DROP),
    ("foreign origin, nothing written", at(FOREIGN, START), Action.NOTHING),
    ("foreign origin, emptied past the guard", at(FOREIGN, START, dirty=True), Action.NOTHING),
    ("foreign origin, written past the guard", at(FOREIGN, START, written=True), Action.REFUSE),
]  # fmt: skip


def situations(*, login: bool) -> Iterator[Situation]:
    """Every situation there is, with a login or without; START means that the headers are still here."""
    for status, point in itertools.product(Status, Point):
        for *flags, renew in itertools.product((False, True), repeat=10):
            situation = Situation(status, point, *flags, login=login, renew=renew)
            if not (point is START and situation.started):
                yield situation


EVERY = list(situations(login=False))


def unsent(s: Situation) -> bool:
    """The record was created for a start that never came: nobody has its cookie."""
    return s.created and s.point is END and not s.started


@pytest.mark.parametrize(("situation", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table_of_save_points(situation: Situation, action: Action) -> None:
    """Each row of the table is decided as it is written."""
    assert plan(situation) is action


def test_only_a_new_session_is_created_and_only_while_its_cookie_can_leave() -> None:
    """CREATE needs the status NEW, headers still here, and content or establish(): nothing revives a lost record."""
    # Invariant: over all situations, CREATE implies NEW, not started, not END, and something to keep.
    created = [s for s in EVERY if plan(s) is Action.CREATE]
    assert created
    for s in created:
        assert s.status is NEW
        assert not s.started
        assert s.point is not END
        assert s.establish or (s.dirty and not s.empty and not s.discard)


def test_nothing_of_a_failed_request_is_kept() -> None:
    """With discard no attribute is stored, deleted or reported."""
    # Invariant: over all situations, discard implies no UPDATE, RENEW, DELETE or DROP, unless no cookie ever left.
    kept = {plan(s) for s in EVERY if s.discard and not unsent(s)}
    assert kept.isdisjoint({Action.UPDATE, Action.RENEW, Action.DELETE, Action.DROP})


def test_only_a_live_record_is_touched_updated_deleted_or_regenerated() -> None:
    """A record that this request does not hold is left alone."""
    # Invariant: over all situations, a store verb other than create implies LIVE.
    verbs = {Action.UPDATE, Action.TOUCH, Action.DELETE, Action.REGENERATE, Action.RENEW}
    assert {s.status for s in EVERY if plan(s) in verbs} == {LIVE}


def test_a_regeneration_happens_with_the_start_only() -> None:
    """The new secret is made in the step whose message carries its cookie, and then always if asked for."""
    # Invariant: REGENERATE implies LIVE, START and asked for; that implies REGENERATE or DELETE.
    for s in EVERY:
        wanted = s.status is LIVE and s.point is START and s.regenerate
        assert (plan(s) in (Action.REGENERATE, Action.DELETE)) >= wanted
        assert wanted or plan(s) is not Action.REGENERATE


def test_the_end_is_moved_with_the_start_only() -> None:
    """The cookie that is issued again leaves with the step that moved the end, and only if the request succeeds."""
    # Invariant: RENEW is exactly LIVE, START, asked for and not discarded, where no deletion or new secret comes first.
    for s in EVERY:
        asked = s.status is LIVE and s.point is START and s.renew and not s.discard
        assert (plan(s) is Action.RENEW) == (asked and not (s.cleared and s.empty) and not s.regenerate)


def test_a_login_comes_first_while_its_cookie_can_leave() -> None:
    """And where it cannot, all is as if it had not been asked for."""
    # Invariant: LOGIN is exactly before the headers, at START or NOW, and not discarded; else it changes nothing.
    for s in situations(login=True):
        possible = not s.started and not s.discard and s.point in (START, LATER)
        assert plan(s) is (Action.LOGIN if possible else plan(s._replace(login=False)))


def test_a_session_is_deleted_by_clear_only() -> None:
    """What is emptied without clear() is saved as an empty live record."""
    # Invariant: DELETE is exactly LIVE, and either cleared, empty and not discarded, or created and never started.
    for s in EVERY:
        by_clear = s.cleared and s.empty and not s.discard
        assert (plan(s) is Action.DELETE) == (s.status is LIVE and (by_clear or unsent(s)))


def test_no_change_vanishes_silently() -> None:
    """A kept change is stored, refused or dropped with an event; only a start that never came may forget it."""
    # Invariant: dirty and not discarded implies an action that is neither NOTHING nor TOUCH, but for a NEW session
    # that is empty or saw no start, one of a foreign origin that is empty, and one whose cookie never left.
    for s in EVERY:
        if (
            s.dirty
            and not s.discard
            and not (
                (s.status is NEW and (s.empty or (s.point is END and not s.started)))
                or (s.status is Status.FOREIGN and s.empty)
            )
        ):
            assert plan(s) not in (Action.NOTHING, Action.TOUCH), s


def test_with_nothing_to_do_nothing_is_done() -> None:
    """A session that was only read costs no store call but the touch that is due."""
    # Invariant: not dirty and no intent implies NOTHING, or TOUCH when due and LIVE, unless the cookie never left.
    for s in EVERY:
        if not (s.dirty or s.cleared or s.establish or s.regenerate or s.renew or unsent(s)):
            expected = Action.TOUCH if s.due and s.status is LIVE else Action.NOTHING
            assert plan(s) is expected, s


def test_lost_sessions_drop_or_refuse_and_nothing_else() -> None:
    """Superseded and gone sessions drop what was written, foreign ones refuse it."""
    # Invariant: over all situations of lost sessions, the action is NOTHING, DROP, or REFUSE if foreign.
    for s in EVERY:
        if s.status in LOST:
            allowed = {Action.NOTHING, Action.REFUSE if s.status is FOREIGN else Action.DROP}
            assert plan(s) in allowed


OBJECTS = [[], [], {}, 1, "one", None, object()]  # two lists: equal, and yet not the same
contents = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(OBJECTS), max_size=6)


def merged(base: dict[str, Any], sets: dict[str, Any], deletes: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in (base | sets).items() if name not in deletes}


def identities(content: dict[str, Any]) -> dict[str, int]:
    return {name: id(value) for name, value in content.items()}


@given(contents, contents)
def test_a_diff_turns_the_base_into_the_content(now: dict[str, Any], base: dict[str, Any]) -> None:
    """What diff() tells to set and delete is all that is needed, and not more than that."""
    # Invariant: merging the diff into the base gives the same objects under the same names; no name is superfluous.
    sets, deletes = diff(now, base)
    assert identities(merged(base, sets, deletes)) == identities(now)
    assert all(name in base and name not in now for name in deletes)
    assert all(name not in base or base[name] is not value for name, value in sets.items())


@given(contents, contents, contents)
def test_diffs_of_two_tabs_merge_by_attribute(base: dict[str, Any], one: dict[str, Any], two: dict[str, Any]) -> None:
    """Two tabs that changed different attributes both win, whatever the order."""
    # Invariant: each attribute that only one tab changed ends as that tab left it.
    left, right = diff(one, base), diff(two, base)
    result = merged(merged(base, *left), *right)
    for name in {*base, *one, *two}:
        if name not in right[0] and name not in right[1]:
            assert identities(result).get(name) == identities(one).get(name)


@given(contents, contents)
@example({"a": None}, {"b": None})
@example({"a": None}, {})
def test_unchanged_means_an_empty_diff(now: dict[str, Any], base: dict[str, Any]) -> None:
    """unchanged() says yes exactly where diff() finds nothing: for a copy, above all."""
    # Invariant: unchanged is an empty diff.
    for content in (now, dict(base)):
        assert unchanged(content, base) == (diff(content, base) == ({}, ()))
    assert unchanged(dict(base), base)
    assert diff(base, base) == ({}, ())


@given(contents, contents, st.none() | st.sets(st.sampled_from([*"abcdef", "elsewhere"])))
@example({"a": [1]}, {"a": [1]}, None)
@example({"a": [1]}, {"a": [1]}, {"a"})
@example({}, {"a": 1}, {"a"})
def test_motion_tells_what_may_change_unseen(
    now: dict[str, Any], base: dict[str, Any], handed: set[object] | None
) -> None:
    """Only what was handed out and is no scalar can change inside; else it moves if it is another object."""
    # Invariant: 2 exactly if a value of `now` that was handed out is no scalar; else 0 exactly if `unchanged`.
    held = [value for name, value in now.items() if handed is None or name in handed]
    scalar = all(type(value) in (str, int, float, bool, bytes, type(None)) for value in held)
    assert motion(now, base, handed) == (2 if not scalar else 0 if unchanged(now, base) else 1)
    assert motion(now, now, handed) == (0 if scalar else 2)


@pytest.mark.parametrize("handed", [None, {"a"}, set()])
@pytest.mark.parametrize("value", ["", 0, 0.0, False, b"", None])
def test_a_scalar_moves_only_if_it_is_replaced(value: object, handed: set[object] | None) -> None:
    """Each class of scalar, kept, replaced, added and removed, handed out or not."""
    assert motion({"a": value}, {"a": value}, handed) == 0
    assert motion({"a": value}, {"a": "another"}, handed) == 1
    assert motion({"a": value}, {}, handed) == 1
    assert motion({}, {"a": value}, handed) == 1
    assert motion({"b": value}, {"a": value}, handed) == 1


def record(idle_timeout: float = 100.0) -> Record:
    return Record(b"verifier", 1000.0, idle_timeout, 5000.0, {})


def test_a_touch_is_due_after_a_tenth_of_the_idle_timeout() -> None:
    """Not before, and from then on."""
    assert not touch_due(record(), 1009.9)
    assert touch_due(record(), 1010.0)
    assert touch_due(record(), 1011.0)
    assert not touch_due(record(1000.0), 1011.0)


def known(**facts: Any) -> State:
    state = State()
    state.opened(None)  # type: ignore[arg-type]
    for name, fact in facts.items():
        setattr(state, name, fact)
    return state


def found(state: State, intents: Intents | None = None, *, now: float = 1000.0, **given: Any) -> Situation:
    return situation(
        state, intents, START, given.pop("discard", False), now, **{"empty": False, "dirty": False, **given}
    )


def test_a_situation_is_what_the_state_and_the_wishes_say() -> None:
    """Each field of it from the fact that it names, and from no other."""
    assert found(known()) == at(NEW, START, empty=False, dirty=False, started=False)
    assert found(known(), empty=True).empty
    assert found(known(), dirty=True).dirty
    assert found(known(), discard=True).discard
    assert [found(known(phase=phase)).started for phase in (NOT_STARTED, STARTED, FAILED)] == [False, True, True]
    assert found(known(status=GONE)).status is GONE
    wished = Intents()
    assert found(known(), wished) == found(known())
    for wish in ("cleared", "establish", "regenerate"):
        wished = Intents()
        setattr(wished, wish, True)
        assert [name for name in Situation._fields if getattr(found(known(), wished), name) is True] == [wish]
    wished = Intents()
    wished.idle_timeout = 60.0
    assert found(known(), wished).dirty


def test_a_situation_is_due_only_if_nothing_else_is_written() -> None:
    """An update moves the last access as well; without a record there is none."""
    live = {"status": LIVE, "record": record(), "is_new": False}
    assert found(known(**live), now=1010.0).due
    assert not found(known(**live), now=1009.0).due
    assert not found(known(**live), now=1010.0, dirty=True).due
    assert not found(known(), now=9999.0).due


def test_a_situation_knows_who_created_the_record() -> None:
    """This request has, if it is new and there is one."""
    assert found(known(status=LIVE, record=record(), is_new=True)).created
    assert not found(known(status=LIVE, record=record(), is_new=False)).created
    assert not found(known(is_new=True)).created


@pytest.mark.parametrize(("secret", "logged_in"), [(b"s", False), (None, True), (b"s", True)])
def test_a_login_has_made_the_record_as_long_as_its_secret_is_to_be_sent(secret: Any, logged_in: bool) -> None:
    """A regeneration has a secret, too, but the browser has a cookie that still fits."""
    rare = Rare()
    rare.logged_in = logged_in
    state = known(status=LIVE, record=record(), is_new=False, secret=secret, rare=rare)
    assert found(state).created is (secret is not None and logged_in)
