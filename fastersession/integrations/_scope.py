"""The session in a scope, with its type, for frameworks whose ``request.session`` has the type ``dict``.

Rules of residence: reads a scope; imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import ConfigError, Session


def session_in(scope: Mapping[str, Any], scope_key: str = "session") -> Session:
    """Return the session in a scope.

    :param scope_key: the middleware's ``scope_key``.
    :raises ConfigError: there is none, or what stands there is not of ``FasterSessionMiddleware``.
    """
    session = scope.get(scope_key)
    if isinstance(session, Session):
        return session
    if session is None:
        raise ConfigError(
            f"there is no session at scope[{scope_key!r}]: put FasterSessionMiddleware around the application, and "
            "take this path out of its exclude and skip_session_header"
        )
    raise ConfigError(
        f"what stands at scope[{scope_key!r}] is a {type(session).__module__}.{type(session).__qualname__} and not of "
        "FasterSessionMiddleware: give one of two session middlewares a scope_key of its own"
    )
