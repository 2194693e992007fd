"""The methods of a session's dict, one by one, with nothing around them: answers, marks, questions and notes."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastersession.attributes import Attributes
from fastersession.facts import ENDED
from fastersession.noting import NotingSession
from fastersession.session import Session, give_state, state_of
from fastersession.state import State

Act = Callable[[Any], Any]

ACTS: dict[str, Act] = {
    "[]": lambda d: d["list"],
    "[] of none": lambda d: d["none"],
    "in": lambda d: ("list" in d, "none" in d),
    "len": len,
    "==": lambda d: (d == {}, d == {"n": 1, "list": [2]}, d != {}),
    "<": lambda d: (d.__lt__({}), d.__le__({}), d.__gt__({}), d.__ge__({})),
    "get": lambda d: (d.get("list"), d.get("none")),
    "get or": lambda d: (d.get("list", 7), d.get("none", [7])),
    "iter": list,
    "reversed": lambda d: list(reversed(d)),
    "keys": lambda d: list(d.keys()),
    "values": lambda d: list(d.values()),
    "items": lambda d: list(d.items()),
    "copy": lambda d: d.copy(),
    "|": lambda d: (d | {"n": 3}, {"n": 3} | d),
    "__or__": lambda d: (d.__or__({"n": 3}), d.__ror__({"n": 3}), d.__or__(1), d.__ror__(1)),
    "deepcopy": lambda d: copy.deepcopy([d, d]),
    "fromkeys": lambda d: d.fromkeys(["a"], 1) | d.fromkeys(["b"]),
    "[]=": lambda d: operator.setitem(d, "new", [3]),
    "[]= of no name": lambda d: operator.setitem(d, [], 3),
    "setdefault": lambda d: (d.setdefault("list"), d.setdefault("new", [3]), d.setdefault("none")),
    "setdefault of no name": lambda d: d.setdefault([], 3),
    "update": lambda d: d.update({"list": [3]}, new=4),
    "update by what is no dict": lambda d: d.update(1),
    "|=": lambda d: dict(operator.ior(d, {"new": 3})),
    "del": lambda d: operator.delitem(d, "list"),
    "del of none": lambda d: operator.delitem(d, "none"),
    "pop": lambda d: d.pop("list"),
    "pop of none": lambda d: d.pop("none"),
    "pop or": lambda d: (d.pop("none", [7]), d.pop("list", 7)),
    "popitem": lambda d: d.popitem(),
    "popitem of none": lambda d: [d.popitem() for _ in range(3)],
    "clear": lambda d: d.clear(),
}
UNMARKED = {"fromkeys", "[]= of no name"}  # touch no attribute


def made(kind: Any = Session, host: Any = None, base: Any = None) -> Any:
    """Return a new session of two attributes, whose state is an open one."""
    session = kind(base or {"n": 1, "list": [2]})
    state = State()
    state.opened(host)
    give_state(session, state)
    return session


def outcome(act: Act, of: Any) -> Any:
    try:
        return repr(act(of))
    except Exception as error:
        return repr(error)


class Asked(Attributes):
    """Notes what it is asked."""

    __slots__ = ("asked",)

    def _adding(self, names: Any) -> None:
        self.asked.append(("adding", list(names), dict(dict.items(self))))

    def _removed(self, names: Any) -> None:
        self.asked.append(("removed", list(names), dict(dict.items(self))))


class Refusing(Attributes):
    """Refuses all that is new."""

    def _adding(self, names: Any) -> None:
        raise LookupError(*names)


@pytest.mark.parametrize("kind", [Session, NotingSession, Asked])
@pytest.mark.parametrize("name", ACTS)
def test_a_method_does_what_dict_s_does_and_marks_the_access(name: str, kind: Any) -> None:
    """Also where it fails: then something may have been seen, or done."""
    session, plain = made(kind), {"n": 1, "list": [2]}
    if name != "clear" or kind is Asked:  # clear() is a wish of a session, too
        assert outcome(ACTS[name], session) == outcome(ACTS[name], plain)
    else:
        ACTS[name](session)
        assert state_of(session).wishes().cleared is True
        plain.clear()
    assert state_of(session).accessed is (name not in UNMARKED)
    assert dict(dict.items(session)) == plain


def test_a_deep_copy_copies_each_object_once() -> None:
    """What the session and something beside it have in common, their copies have in common, too."""
    session = made()
    held = session["list"]
    copied, beside, again = copy.deepcopy([session, held, session])
    assert type(copied) is dict
    assert copied["list"] is beside
    assert again is copied
    assert held is not beside


def test_a_write_marks_the_access_after_its_work() -> None:
    """A save point of another thread that comes in between does not take the change for seen."""

    class Name(str):
        """While it is looked for, another thread's save point closes the gate."""

        __slots__ = ()

        def __hash__(self) -> int:
            state.accessed = False
            return str.__hash__(self)

    for write in (
        lambda s: operator.setitem(s, Name("new"), 1),
        lambda s: s.setdefault(Name("new"), 1),
        lambda s: s.update({Name("new"): 1}),
        lambda s: operator.delitem(s, Name("list")),
        lambda s: s.pop(Name("list")),
    ):
        session = made(Asked)
        state = state_of(session)
        write(session)
        assert state.accessed is True


NEW = {"n": 1, "list": [2]}
GUARDED: dict[str, tuple[Act, list[Any]]] = {
    "[]=": (lambda s: operator.setitem(s, "new", 3), [("adding", ["new"], NEW)]),
    "setdefault": (lambda s: (s.setdefault("list", 3), s.setdefault("new", 3)), [("adding", ["new"], NEW)]),
    "update": (lambda s: s.update({"new": 3}, n=2), [("adding", ["new", "n"], NEW)]),
    "|=": (lambda s: operator.ior(s, {"new": 3}), [("adding", ["new"], NEW)]),
    "del": (lambda s: operator.delitem(s, "list"), [("removed", ["list"], {"n": 1})]),
    "pop": (lambda s: (s.pop("list"), s.pop("none", 3)), [("removed", ["list"], {"n": 1})]),
    "popitem": (lambda s: s.popitem(), [("removed", ["list"], {"n": 1})]),
    "clear": (lambda s: s.clear(), [("removed", ["n", "list"], {})]),
    "a read": (lambda s: (s["n"], list(s), s.copy(), len(s), s.get("n")), []),
}


@pytest.mark.parametrize(("act", "asked"), GUARDED.values(), ids=list(GUARDED))
def test_a_guarded_write_asks_first_and_a_removal_tells(act: Act, asked: list[Any]) -> None:
    """Once, with the names; where nothing is guarded nobody is asked."""
    for guarded, expected in ((True, asked), (False, [])):
        session = made(Asked)
        session.asked, state_of(session).guarded = [], guarded
        act(session)
        assert session.asked == expected


@pytest.mark.parametrize("name", ["[]=", "setdefault", "update", "|="])
def test_a_write_that_is_refused_changes_nothing(name: str) -> None:
    """What the guard raises comes out, and the attributes are what they were."""
    session = made(Refusing)
    state_of(session).guarded = True
    with pytest.raises(LookupError, match="new"):
        GUARDED[name][0](session)
    assert dict(dict.items(session)) == NEW


def test_what_is_no_session_s_class_cannot_be_written_under_guard() -> None:
    """A class without an answer refuses, rather than letting through what nobody has looked at."""
    session = made(Attributes)
    state_of(session).guarded = True
    for act in (lambda: operator.setitem(session, "new", 1), lambda: session.pop("n")):
        with pytest.raises(NotImplementedError):
            act()


# --- what is noted ---

ALL = None
NOTED: dict[str, tuple[Act, Any]] = {
    "[]": (lambda s: (s["list"], s["n"]), {"list"}),
    "get": (lambda s: (s.get("list"), s.get("n"), s.get("none"), s.get("other", [])), {"list", "other"}),
    "setdefault": (lambda s: (s.setdefault("list"), s.setdefault("m", 1), s.setdefault("new", [])), {"list", "new"}),
    "pop": (lambda s: (s.pop("list"), s.pop("n")), {"list"}),
    "popitem": (lambda s: (s.popitem(), s.popitem()), {"list"}),
    "[]=": (lambda s: (operator.setitem(s, "new", []), operator.setitem(s, "m", 1)), {"new"}),
    "update": (lambda s: s.update({"new": []}, n=2), {"new", "n"}),
    "copy": (lambda s: s.copy(), ALL),
    "iter": (iter, ALL),
    "reversed": (reversed, ALL),
    "items": (lambda s: s.items(), ALL),
    "values": (lambda s: s.values(), ALL),
    "keys": (lambda s: (s.keys(), len(s), "list" in s), set()),
}


@pytest.mark.parametrize(("act", "names"), NOTED.values(), ids=list(NOTED))
def test_what_can_change_inside_is_noted_when_it_is_handed_out(act: Act, names: Any) -> None:
    """By its name, scalars not; how what was loaded looks is kept; after the end the session is watched."""
    watched: list[Any] = []
    host = SimpleNamespace(look_of=lambda value: b"look", runs=SimpleNamespace(keep_watch=watched.append))
    base = {"n": 1, "list": [2]}
    session = made(NotingSession, host, base)
    state = state_of(session)
    state.base, state.accessed = base, False
    state.rarely()
    act(session)
    assert state.rare.handed == names
    gave = names is ALL or "list" in names
    assert state.rare.looks == ({"list": ([2], b"look")} if gave else {})
    assert state.accessed is True
    assert watched == []
    state.phase = ENDED
    again = made(NotingSession, host, base)
    give_state(again, state)
    act(again)
    assert all(each is again for each in watched)
    assert bool(watched) is (names != set())
    assert type(again).__name__ == ("NotingSession" if names == set() else "LateNotingSession")
    again.__class__ = NotingSession  # or its finaliser tells of late writes
