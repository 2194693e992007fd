"""What the facts about a session begin with, and what becomes of wishes that a save could not carry out."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.facts import (
    ACCEPTED_WITHOUT_COOKIE,
    LEFT_WITHOUT_COOKIE,
    USUAL,
    USUAL_SOCKET,
    Identity,
    Intents,
    Loss,
    Rare,
    Wanted,
    identity_of,
)  # fmt: skip

NOTHING: dict[str, Any] = {
    "cleared": False, "doomed": [], "establish": False, "flashing": False, "idle_timeout": None, "login": None,
    "max_age": None, "regenerate": False, "reissued": False, "reload": False, "rolling": False, "saved": None,
    "signed_out": False,
}  # fmt: skip
USUALLY: dict[str, Any] = {
    "adopted": False, "adrift": False, "commits": None, "encoded": {}, "end_reason": None, "failure": None,
    "flashes": None, "handed": set(), "is_shared": False, "is_socket": False, "late": {}, "lease": None,
    "logged_in": False, "looks": {}, "loss": None, "refusal": LEFT_WITHOUT_COOKIE,
}  # fmt: skip


WANTED = Wanted(Identity("me"), None, {}, {}, {})


def facts_of(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in type(thing).__slots__}


def wished(facts: dict[str, Any]) -> Intents:
    intents = Intents()
    for name, value in facts.items():
        setattr(intents, name, value)
    return intents


wishes = st.fixed_dictionaries({
    **dict.fromkeys(
        ("cleared", "establish", "flashing", "regenerate", "reissued", "reload", "rolling", "signed_out"), st.booleans()
    ),
    "max_age": st.none() | st.just(0.0) | st.just(9.0),
    "doomed": st.lists(st.binary(min_size=1, max_size=1), max_size=2),
    "idle_timeout": st.none() | st.just(60.0) | st.just(90.0),
    "login": st.none() | st.just(WANTED) | st.just(WANTED._replace(keep=frozenset())),
    "saved": st.none() | st.just({}) | st.just({"a": 1}),
})  # fmt: skip


def test_nothing_is_known_at_the_beginning() -> None:
    """No wish, and nothing rare; what many requests share says so, and for a WebSocket in its own words."""
    assert repr(sorted(facts_of(Intents()).items())) == repr(sorted(NOTHING.items()))
    assert repr(sorted(facts_of(Rare()).items())) == repr(sorted(USUALLY.items()))
    assert facts_of(USUAL) == USUALLY | {"is_shared": True}
    of_sockets = {"is_shared": True, "is_socket": True, "refusal": ACCEPTED_WITHOUT_COOKIE}
    assert facts_of(USUAL_SOCKET) == USUALLY | of_sockets
    assert facts_of(Rare(is_socket=True)) == USUALLY | of_sockets | {"is_shared": False}
    assert facts_of(Rare({"a": b"1"})) == USUALLY | {"encoded": {"a": b"1"}}


def test_a_session_that_is_lost_does_not_live_on_unless_it_is_said() -> None:
    """So of one that was ended elsewhere nobody is warned twice."""
    assert facts_of(Loss("why")) == {"why": "why", "lives_on": False, "told": set()}
    assert facts_of(Loss("why", lives_on=True)) == {"why": "why", "lives_on": True, "told": set()}


@example(NOTHING | {"saved": {"a": 1}, "idle_timeout": 60.0, "login": WANTED}, NOTHING, True)
@example(NOTHING | {"max_age": 9.0}, NOTHING, True)
@example(NOTHING, NOTHING | {"saved": {"a": 1}, "idle_timeout": 60.0, "login": WANTED}, True)
@given(wishes, st.none() | wishes, st.booleans())
def test_what_a_save_could_not_do_is_asked_for_again(
    failed: dict[str, Any], later: dict[str, Any] | None, same_session: bool
) -> None:
    """With what was asked for since; of a session that has ended meanwhile only what ends it."""
    # Invariant: all deletions, in their order; each wish that either has; a later timeout or content before an earlier.
    kept = failed if same_session else NOTHING | {name: failed[name] for name in ("doomed", "signed_out")}
    expected = dict(kept)
    if later is not None:
        for name, value in later.items():
            if name == "doomed":
                expected[name] = failed[name] + value
            elif value is not None:
                expected[name] = value or (kept[name] if value is False else value)
    put_back = wished(failed).put_back(None if later is None else wished(later), same_session=same_session)
    assert facts_of(put_back) == expected


@given(st.none() | wishes, st.none() | st.just(b"id"), st.booleans())
def test_a_logout_asks_for_nothing_but_deletions(before: dict[str, Any] | None, record_id: Any, known: bool) -> None:
    """What was doomed before stays so; the browser's cookie is cleared if it has one of a record that is deleted."""
    # Invariant: no other wish is left, and the wishes of before are not changed.
    intents = None if before is None else wished(before)
    found = facts_of(Intents.of_logout(intents, record_id, known=known))
    doomed = [] if before is None else list(before["doomed"])
    signed_out = (before is not None and before["signed_out"]) or (record_id is not None and known)
    assert found == NOTHING | {"doomed": doomed + [record_id] * (record_id is not None), "signed_out": signed_out}
    assert intents is None or facts_of(intents) == before


@pytest.mark.parametrize("said", [(1, 2, 3, None), (math.inf, 2, None, None), (1, 2, None, math.nan)])
def test_what_is_no_identity_is_refused(said: Any) -> None:
    """A label is a text, and a time is a moment."""
    with pytest.raises(ValueError, match=r"^no identity$"):
        identity_of("me", *said)


@pytest.mark.parametrize("name", ["signed_out", "reissued"])
@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (False, False)])
def test_what_headers_have_to_tell_is_handed_on(name: str, before: bool, after: bool) -> None:
    """Whichever of both was asked for."""
    later = wished({name: after})
    wished({name: before}).hand_on(later)
    assert getattr(later, name) is (before or after)


@pytest.mark.parametrize("facts", [{"regenerate": True}, {"establish": True}, {"login": WANTED}, {"doomed": [b"id"]}])
def test_what_changes_the_cookie_needs_a_start(facts: dict[str, Any]) -> None:
    """Each by itself; other wishes need none."""
    assert wished(facts).need_a_start()
    assert not wished({"cleared": True, "flashing": True, "max_age": 9.0}).need_a_start()
