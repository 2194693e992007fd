"""What stands in the session's place in the scope: ours, the application's new content, or somebody else's session.

Rules of residence: what a value there means. What is found is taken over by the caller, but for what is left there.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..events import SessionReplaced
from ..facts import ENDED
from ..log import EventLog
from ..session import Session, state_of


def vacated(scope: Any, name: str) -> bool:
    """Take out of a scope that is used again what a call before has left there; return whether there was a session.

    It is one of ours, whose request has ended.
    """
    left = scope.get(name)
    if not issubclass(type(left), Session) or state_of(left).phase != ENDED or not isinstance(scope, dict):
        return False
    del scope[name]
    return True


def is_taken_over(value: object, scope: dict[str, Any], adopted: bool, events: EventLog) -> bool:
    """Return whether a value in the session's place is its new content (a plain dict) or clears it; tell what hides it.

    :param adopted: whether one was taken over before in this request.
    """
    kind = type(value)  # isinstance() would ask the object, and starsessions' has no attribute but errors
    if kind is not dict:
        if value is None or issubclass(kind, Enum):
            return True
        events.tell(SessionReplaced(None, f"a {kind.__module__}.{kind.__qualname__}", "it is left alone"))
        return False
    if not _is_set_by_litestar(scope):
        if not value and not adopted:  # other session middlewares begin with one
            outcome = "it is ignored (to empty the session, call session.clear())"
            events.tell(SessionReplaced(None, "an empty dict", outcome))
            return False
        events.tell(SessionReplaced(None, "a dict", "it is taken as the new content"))
    return True


def _is_set_by_litestar(scope: dict[str, Any]) -> bool:
    """Return whether a dict in the session's place is of Litestar's ``set_session``, not of its session middleware.

    That one alone notes a session id in Litestar's state of the connection, where an Enum member says that there is
    none.
    """
    if "litestar_app" not in scope:
        return False
    state: Any = (scope.get("state") or {}).get("_ls_connection_state")
    return not hasattr(state, "session_id") or issubclass(type(state.session_id), Enum)
