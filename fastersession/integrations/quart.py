"""Our session as Quart's own ``session``.

Rules of residence: Quart's session interface, nothing else. The middleware opens and saves the session.

    app.session_interface = FasterSessionInterface()
    app.asgi_app = FasterSessionMiddleware(app.asgi_app, secret_key=...)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quart import Quart
from quart.sessions import SessionInterface
from quart.wrappers import BaseRequestWebsocket

from .. import Session


class QuartFlags:
    """The flags that code written for Flask and Quart reads and sets; none of them is needed here."""

    __slots__ = ()

    is_new: bool  # this and the next are the session's
    mark_accessed: Callable[[], None]

    @property
    def new(self) -> bool:
        """``True`` until the client has come back with this session's cookie."""
        return self.is_new

    @property
    def accessed(self) -> bool:
        """Settable without effect: Quart 0.23 sets it at every request, used or not."""
        return False

    @accessed.setter
    def accessed(self, value: bool) -> None:
        pass

    @property
    def modified(self) -> bool:
        """Settable without effect: the middleware compares."""
        return False

    @modified.setter
    def modified(self, value: bool) -> None:
        self.mark_accessed()

    @property
    def permanent(self) -> bool:
        """Settable without effect: the cookie lives as long as the middleware's ``max_age`` says."""
        return False

    @permanent.setter
    def permanent(self, value: bool) -> None:
        self.mark_accessed()


class FasterSessionInterface(SessionInterface):
    """Makes ``quart.session`` the session of ``FasterSessionMiddleware``, on http requests and WebSockets.

    :param scope_key: the middleware's ``scope_key``.
    """

    def __init__(self, scope_key: str = "session") -> None:
        self.scope_key = scope_key

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> Any:
        """Return the session in the scope; ``None`` (Quart's null session) where the middleware put none."""
        session = request.scope.get(self.scope_key)
        if not isinstance(session, Session):
            return None
        if not isinstance(session, QuartFlags):
            session.__class__ = _with_flags(type(session))
        return session

    async def save_session(self, app: Quart, session: Any, response: Any) -> None:
        """Do nothing. The middleware saves, also what a stream writes after this call."""


@cache
def _with_flags(kind: type[Session]) -> type[Session]:
    """Return a class of sessions with the flags: there is one for each kind of store."""
    return type(f"Quart{kind.__name__}", (QuartFlags, kind), {"__slots__": ()})
