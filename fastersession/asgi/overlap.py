"""Two middlewares of ours on one way: each needs a cookie and a scope key of its own.

Rules of residence: which names are taken, and by whom. Nothing of a request but its mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import ConfigError

Applied = tuple[tuple[str, str], ...]  # (cookie name, scope key) of each of our middlewares


def refuse_overlap(own: Applied, others: Iterable[tuple[str, str]]) -> None:
    """Refuse a second middleware with the cookie or the scope key of another.

    :raises ConfigError: one of the others has it.
    """
    ((name, key),) = own
    if any(name == other_name or key == other_key for other_name, other_key in others):
        raise ConfigError(
            "session_cookie, scope_key: FasterSessionMiddleware is applied twice; remove one, "
            "or give the second a session_cookie and a scope_key of its own"
        )


def refuse_twin(middleware: Any, app: Any) -> None:
    """Refuse, at construction, an application that has a middleware like this one directly inside."""
    for _ in range(100):  # a chain of middlewares, each of which keeps the next as ``app``
        if isinstance(app, type(middleware)):
            refuse_overlap(middleware.applied, app.applied)
        app = getattr(app, "app", None)
