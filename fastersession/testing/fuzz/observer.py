"""Stands between the session middleware and the application, and records what passes there.

Rules of residence: knows the scope key of the session and ASGI messages; nothing of the middleware, so that any can be
observed. A request names in its scope the ``Call`` that records it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.compatibility import guarantee_single_callable

from ..browser.answer import Message

KEY = "fastersession.testing"  # scope key: the Call of a request
DEEPEST = 20
View = Callable[[Any, Any], Awaitable[None]]  # of the session and ``send``


class Call:
    """One request as the application sees it.

    ``before`` and ``after`` are the session's content as ``plain`` values. They are ``None`` if there was no session,
    or if the application put something else in its place.

    :param view: runs in the application's place.
    """

    def __init__(self, view: View | None = None) -> None:
        self.view = view
        self.reached = False
        self.session: Any = None
        self.user: str | None = None  # who is logged in, at the request's begin
        self.before: dict[str, Any] | None = None
        self.after: dict[str, Any] | None = None
        self.sent: list[Message] = []
        self.mutated = False  # headers of the application were changed in place
        self.error: BaseException | None = None

    def now(self) -> dict[str, Any] | None:
        """Return the content of the session: the present one while the request runs, then that of its end."""
        return self.after if self.session is None else content(self.session)

    def changed(self) -> set[str]:
        """Return the names whose values differ from those at the request's begin."""
        before, now = self.before or {}, self.now() or {}
        return {name for name in before.keys() | now.keys() if before.get(name, KEY) != now.get(name, KEY)}


class Observer:
    """The application, observed."""

    def __init__(self, app: Any, scope_key: str) -> None:
        self.app: Any = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        self.scope_key = scope_key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application, or the view of the call, and record it."""
        call: Call | None = scope.get(KEY)
        if call is None:
            return await self.app(scope, receive, send)  # type: ignore[no-any-return]

        async def recording(message: Message) -> None:
            if "headers" in message and not isinstance(message["headers"], list | tuple | None):
                message = {**message, "headers": list(message["headers"])}  # it may allow one reading only
            copy = dict(message)
            if message.get("headers"):
                copy["headers"] = list(message["headers"])
            call.sent.append(copy)
            await send(message)
            call.mutated = call.mutated or list(message.get("headers") or ()) != list(copy.get("headers") or ())

        session = call.session = scope.get(self.scope_key)
        call.reached, call.before = True, content(session)
        call.user = getattr(session, "user", None)
        try:
            if call.view is None:
                await self.app(scope, receive, recording)
            else:
                await call.view(session, recording)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.session, kept = None, scope.get(self.scope_key) is session
            call.after = content(session) if kept else None
        return None


def content(session: Any) -> dict[str, Any] | None:
    """Return what a session holds as plain values. The session does not notice that it is read."""
    if not isinstance(session, dict):
        return None
    return {str(name): plain(value) for name, value in list(dict.items(session))}


def plain(value: Any, depth: int = 0) -> Any:
    """Return a copy of any value, as data without identity that can be compared later."""
    if value is None or isinstance(value, str | int | bytes):
        return value
    if depth > DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): plain(inner, depth + 1) for key, inner in list(value.items())}
    if isinstance(value, list | tuple):
        return [plain(inner, depth + 1) for inner in list(value)]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    shown: Any = type(value).__repr__
    if shown is not object.__repr__:  # floats too: one is not equal to itself
        return repr(value)
    inside = getattr(value, "__dict__", {})
    return {"": type(value).__qualname__} | {name: plain(inner, depth + 1) for name, inner in inside.items()}
