"""A dict that knows when it was used: every method marks the access, a writing one looks first if it may.

Rules of residence: the methods of ``dict``, and of the state only the two marks ``accessed`` and ``guarded``. What
changed is found elsewhere, by comparing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, Self

from .state import State


def snapshot(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes as they are now, without marking the access. Another thread may be writing."""
    return dict(dict.items(attributes))  # dict.copy would go through the methods of the session


class Attributes(dict[str, Any]):
    """Attributes by name. Copies (``copy``, ``|``, ``deepcopy``, ``pickle``) are plain dicts.

    A save point may compare while another thread is in one of these methods, so they mark the access after their work,
    and before it where they may fail.
    """

    __slots__ = ("_state",)

    _state: State

    def _adding(self, names: Iterable[object]) -> None:
        """Refuse attributes that are about to be set, or note them."""
        raise NotImplementedError

    def _removed(self, names: Iterable[object]) -> None:
        """Note attributes that have been removed."""
        raise NotImplementedError

    # --- reading ---

    def __getitem__(self, name: str) -> Any:
        self._state.accessed = True
        return dict.__getitem__(self, name)

    def __contains__(self, name: object) -> bool:
        self._state.accessed = True
        return dict.__contains__(self, name)

    def __len__(self) -> int:
        self._state.accessed = True
        return dict.__len__(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the attribute, or the default."""
        self._state.accessed = True
        return dict.get(self, name, default)

    def copy(self) -> dict[str, Any]:
        """Return the attributes as a plain dict."""
        self._state.accessed = True
        return snapshot(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return deepcopy(self.copy(), memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self.copy(),)

    def __or__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.copy().__or__(other)

    def __ror__(self, other: Any) -> dict[str, Any]:  # type: ignore[override]
        return self.copy().__ror__(other)

    @classmethod
    def fromkeys(cls, names: Any, value: Any = None) -> Any:
        """Return a plain dict: only the middleware makes sessions."""
        return dict.fromkeys(names, value)

    # --- writing ---

    def __setitem__(self, name: str, value: Any) -> None:
        if self._state.guarded:
            self._adding((name,))
        dict.__setitem__(self, name, value)
        self._state.accessed = True

    def setdefault(self, name: str, default: Any = None) -> Any:
        self._state.accessed = True
        if self._state.guarded and not dict.__contains__(self, name):
            self._adding((name,))
        value = dict.setdefault(self, name, default)
        self._state.accessed = True
        return value

    def update(self, *args: Any, **kwargs: Any) -> None:
        self._state.accessed = True
        new = dict(*args, **kwargs)
        if self._state.guarded:
            self._adding(new)
        dict.update(self, new)
        self._state.accessed = True

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    def __delitem__(self, name: str) -> None:
        self._state.accessed = True
        dict.__delitem__(self, name)
        self._changed_by_removal((name,))

    def pop(self, name: str, *default: Any) -> Any:
        self._state.accessed = True
        was_there = dict.__contains__(self, name)
        value = dict.pop(self, name, *default)
        if was_there:
            self._changed_by_removal((name,))
        return value

    def popitem(self) -> tuple[str, Any]:
        self._state.accessed = True
        item = dict.popitem(self)
        self._changed_by_removal(item[:1])
        return item

    def clear(self) -> None:
        names = list(dict.keys(self)) if self._state.guarded else ()
        dict.clear(self)
        self._changed_by_removal(names)

    def _changed_by_removal(self, names: Iterable[object]) -> None:
        self._state.accessed = True
        if self._state.guarded:
            self._removed(names)


def _marking(name: str) -> Callable[..., Any]:
    method = getattr(dict, name)

    def marked(self: Attributes, *args: Any) -> Any:
        self._state.accessed = True
        return method(self, *args)

    marked.__name__, marked.__qualname__, marked.__doc__ = name, f"Attributes.{name}", method.__doc__
    return marked


MARKED = (
    *("__eq__", "__ge__", "__gt__", "__iter__", "__le__", "__lt__", "__ne__", "__reversed__"),
    *("items", "keys", "values"),
)
for _name in MARKED:
    setattr(Attributes, _name, _marking(_name))
