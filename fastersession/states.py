"""The classes that a session takes on when it can no longer be saved by itself.

Rules of residence: subclasses of ``Session`` with no slots of their own, taken on by setting ``__class__``, so that
the usual session pays nothing for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from .errors import SessionNotEstablished
from .session import Session

__all__ = ["EndedSession", "LateSession", "UnestablishedSession"]


class UnestablishedSession(Session):
    """A session whose cookie can reach nobody: what would be lost is refused. Taken on by ``__class__``."""

    __slots__ = ()

    def _reject(self, name: object) -> NoReturn:
        raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {self._refusal}")

    def __setitem__(self, name: str, value: Any) -> None:
        self._reject(name)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the attribute if there is one; refuse to add it."""
        if name not in self:
            self._reject(name)
        return self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Refuse any attribute."""
        for name in dict(*args, **kwargs):
            self._reject(name)

    def __ior__(self, other: Any) -> UnestablishedSession:  # type: ignore[override]
        self.update(other)
        return self


class EndedSession(Session):
    """A session whose request is over: nothing saves it any more but ``save()``. Taken on by ``__class__``."""

    __slots__ = ()

    def _note(self, names: Iterable[str]) -> None:
        self._late = {**getattr(self, "_late", {}), **dict.fromkeys(map(str, names))}
        self.__class__ = self._late_as  # type: ignore[assignment]

    def __setitem__(self, name: str, value: Any) -> None:
        self._note([name])
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._note([name])

    def setdefault(self, name: str, default: Any = None) -> Any:
        """See ``dict.setdefault``."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """See ``dict.pop``."""
        if name in self:
            self._note([name])
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        """See ``dict.popitem``."""
        name, value = super().popitem()
        self._note([name])
        return name, value

    def update(self, *args: Any, **kwargs: Any) -> None:
        """See ``dict.update``."""
        new = dict(*args, **kwargs)
        self._note(new)
        super().update(new)

    def __ior__(self, other: Any) -> EndedSession:  # type: ignore[override]
        self.update(other)
        return self

    def clear(self) -> None:
        """See ``Session.clear``."""
        self._note(list(self))
        super().clear()


class LateSession(EndedSession):
    """An ended session that was written to. A class of its own, for a finaliser costs every session that has one."""

    __slots__ = ()

    def __del__(self) -> None:
        late = getattr(self, "_late", None)
        if late:
            self._host.unsaved(self, late)


Session._refused_as = UnestablishedSession
Session._ended_as = EndedSession
Session._late_as = LateSession
