"""The session of a Starlette request or WebSocket, with its type.

Rules of residence: finds the session, nothing else. The middleware opens and saves it.

    session = get_session(request)  # request.session is the same object, typed dict[str, Any]
"""

from __future__ import annotations

from typing import Any

from starlette.requests import HTTPConnection

from .. import Session
from ._scope import session_in


def get_session(connection: HTTPConnection[Any], scope_key: str = "session") -> Session:
    """Return the session of a ``Request`` or a ``WebSocket``.

    :param scope_key: the middleware's ``scope_key``.
    :raises ConfigError: there is none, or it is another middleware's.
    """
    return session_in(connection.scope, scope_key)
