"""Stands between the session middleware and the application, and notes what passes there.

Rules of residence: knows the scope key of the session and ASGI messages; nothing of the middleware, so that any can be
watched. A request says in its scope who notes: see ``Call``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.compatibility import guarantee_single_callable

from ..browser.answer import Message

__all__ = ["KEY", "Call", "Observer", "plain"]

KEY = "fastersession.testing"  # scope key: the Call of a request
DEEPEST = 20
App = Callable[..., Awaitable[None]]


class Call:
    """One request as the application had it.

    ``before`` and ``after`` are the session's content in plain words (see ``plain``), ``None`` if there was no session,
    or the application put something else in its place.

    :param act: does something in the application's place, with the session and ``send``.
    """

    def __init__(self, act: Callable[[Any, App], Awaitable[None]] | None = None) -> None:
        self.act = act
        self.reached = False
        self.session: Any = None
        self.before: dict[str, Any] | None = None
        self.after: dict[str, Any] | None = None
        self.sent: list[Message] = []
        self.mutated = False  # headers of the application were changed in place
        self.error: BaseException | None = None

    def now(self) -> dict[str, Any] | None:
        """Return the content while the request runs, and as it was at the end from then on."""
        return self.after if self.session is None else content(self.session)

    def changed(self) -> set[str]:
        """Return the names whose values differ from what the request began with."""
        before, now = self.before or {}, self.now() or {}
        return {name for name in before.keys() | now.keys() if before.get(name, KEY) != now.get(name, KEY)}


class Observer:
    """The application, watched."""

    def __init__(self, app: Any, scope_key: str) -> None:
        self.app: Any = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        self.scope_key = scope_key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application; see ``Call``."""
        call: Call | None = scope.get(KEY)
        if call is None:
            return await self.app(scope, receive, send)  # type: ignore[no-any-return]

        async def noting(message: Message) -> None:
            if "headers" in message and not isinstance(message["headers"], list | tuple | None):
                message = {**message, "headers": list(message["headers"])}  # may be read but once
            copy = dict(message)
            if message.get("headers"):
                copy["headers"] = list(message["headers"])
            call.sent.append(copy)
            await send(message)
            call.mutated = call.mutated or list(message.get("headers") or ()) != list(copy.get("headers") or ())

        session = call.session = scope.get(self.scope_key)
        call.reached, call.before = True, content(session)
        try:
            if call.act is None:
                await self.app(scope, receive, noting)
            else:
                await call.act(session, noting)
        except BaseException as error:
            call.error = error
            raise
        finally:
            call.session, kept = None, scope.get(self.scope_key) is session
            call.after = content(session) if kept else None
        return None


def content(session: Any) -> dict[str, Any] | None:
    """Return what a session holds, in plain words, without its noticing that it was read."""
    if not isinstance(session, dict):
        return None
    return {str(name): plain(value) for name, value in list(dict.items(session))}


def plain(value: Any, depth: int = 0) -> Any:
    """Return a value as data that can be compared later: a copy, without identity, however odd the object is."""
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
