"""Users: who is told of sessions, and how many one user may have.

Rules of residence: checks of the arguments, one by one. That the store can do it is checked by the middleware.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from ..listeners import SessionListener, hears
from ..session import seconds
from ..stores.users import END_VERBS, USER_VERBS
from .faults import Collector

RETENTION = timedelta(hours=24)
POLICIES = ("evict", "deny")


class Users(Collector):
    """Checks what is said of users."""

    def listeners(self, given: Iterable[Any]) -> tuple[SessionListener, ...]:
        """Accept instances of ``SessionListener``."""
        found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else (given,)
        if not all(isinstance(listener, SessionListener) for listener in found):
            self.add("listeners: must be a list of instances of SessionListener's subclasses, say [MyListener()]")
            return ()
        return found

    def limit(self, given: object, policy: object) -> tuple[int | None, bool]:
        """Accept the greatest number of sessions of a user and what happens there; return it, and whether to evict."""
        if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            self.add("max_sessions_per_user: must be a whole number of at least 1, or None for no limit")
            given = None
        if policy not in POLICIES:
            self.add("on_max_sessions: must be 'evict' (the least recently used session ends) or 'deny'")
        return given, policy != "deny"

    def retention(self, given: object, listeners: tuple[SessionListener, ...]) -> float | None:
        """Accept seconds or ``timedelta``, return seconds; ``None`` if nobody hears of ended sessions."""
        kept = seconds(given)
        if kept is None:
            self.add("retention: must be a positive number of seconds or a positive timedelta")
        return kept if hears(listeners, "destroyed") else None

    def on_reuse(self, given: object) -> bool:
        """Return whether a token that comes again long after it was replaced ends its session."""
        if given not in (None, "revoke"):
            self.add("on_reuse: must be 'revoke', or None to be told only")
        return given == "revoke"

    def conversations(self, given: object) -> None:
        """Accept ``ConversationOptions``, which have checked themselves."""
        if given is not None and not (hasattr(given, "bounds") and hasattr(given, "fold")):
            self.add("conversations: must be ConversationOptions(...), or None for its defaults")

    def can(
        self, store: Any, listeners: tuple[SessionListener, ...], limit: int | None, *, rolling: bool = False
    ) -> None:
        """Check that the store can do what is asked for."""
        live = getattr(store, "live", None)
        verbs = live or store
        needed: list[tuple[str, tuple[str, ...]]] = []
        if limit is not None:
            needed.append(("max_sessions_per_user", USER_VERBS))
        if rolling:
            needed.append(("rolling", USER_VERBS))
        if hears(listeners, "destroyed"):
            needed.append(("listeners (destroyed)", ("watch",) if live else END_VERBS))
        for argument, names in needed:
            missing = [name for name in names if verbs is not None and not hasattr(verbs, name)]
            if missing:
                self.add(f"{argument}: {type(store).__name__} lacks what it takes: {', '.join(missing)}")
