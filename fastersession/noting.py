"""The session of a store of bytes: a dict that notes which values it has handed out, for only those can have changed.

Rules of residence: the methods of ``dict`` that give or take values. What a note means is the state's. A live store's
sessions are none of these: what changes inside an object of theirs is seen by all anyway.

What is handed out through none of these methods is not noted: ``dict``'s own (``dict.get(session, …)``), and encoders
in C that walk a dict without asking it (orjson, msgspec, pydantic's ``dump_python``, before 2.12 its validation, too).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .attributes import Attributes
from .facts import ENDED, SCALARS
from .session import Session, late_class_of, state_of


class NotingSession(Session):
    """A session that notes the name of each value that the application has been given, or has put there.

    A scalar cannot change inside, so it needs no note. Another thread may be at a save point: a value is given after
    its name is noted, never before.
    """

    __slots__ = ("__weakref__",)  # to be found at the shutdown, if somebody keeps it

    def _noted(self, name: object, value: Any) -> Any:
        if type(value) not in SCALARS:
            self._state.saw(name, value)
            self._note_given((name,))
        return value

    def _note_all(self) -> None:
        for name, value in dict(dict.items(self)).items():
            if type(value) not in SCALARS:
                self._state.saw(name, value)
        self._note_given(None)

    def _note_given(self, names: Iterable[object] | None) -> None:
        state = self._state
        state.handed_out(names)
        if state.phase == ENDED:
            keep_watch(self)

    # --- one value ---

    def __getitem__(self, name: str) -> Any:  # as ``Attributes`` does it: a call of that would be a third of it all
        self._state.accessed = True
        value = dict.__getitem__(self, name)
        return value if type(value) in SCALARS else self._noted(name, value)

    def get(self, name: str, default: Any = None) -> Any:
        self._state.accessed = True
        value = dict.get(self, name, default)
        return value if type(value) in SCALARS else self._noted(name, value)

    def setdefault(self, name: str, default: Any = None) -> Any:
        return self._noted(name, Attributes.setdefault(self, name, default))

    def pop(self, name: str, *default: Any) -> Any:
        return self._noted(name, Attributes.pop(self, name, *default))

    def popitem(self) -> tuple[str, Any]:
        item = Attributes.popitem(self)
        self._noted(*item)
        return item

    def __setitem__(self, name: str, value: Any) -> None:
        Attributes.__setitem__(self, name, value)
        if type(value) not in SCALARS:
            self._note_given((name,))

    # --- several, or all that there are ---

    def update(self, *args: Any, **kwargs: Any) -> None:
        self._state.accessed = True
        new = dict(*args, **kwargs)
        Attributes.update(self, new)
        self._note_given(new)

    def copy(self) -> dict[str, Any]:
        """Return the attributes as a plain dict."""
        self._note_all()
        return Attributes.copy(self)

    __copy__ = copy


def keep_watch(session: Session) -> None:
    """Have what was handed out compared when the session is let go: its request has ended, and somebody still has it.

    A task that has a value only, and not the session, is not seen.
    """
    session.__class__ = late_class_of(session)
    state_of(session).host.runs.keep_watch(session)


def _giving_all(name: str) -> Callable[..., Any]:
    method, note_all = getattr(Attributes, name), NotingSession.__dict__["_note_all"]

    def giving(self: NotingSession) -> Any:
        note_all(self)
        return method(self)

    giving.__name__, giving.__qualname__, giving.__doc__ = name, f"NotingSession.{name}", method.__doc__
    return giving


# Who iterates over the names may take the values by any way that he likes. ``keys`` gives none: ``[]`` follows it.
for _name in ("__iter__", "__reversed__", "items", "values"):
    setattr(NotingSession, _name, _giving_all(_name))
