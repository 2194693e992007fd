"""What applications are told of their sessions: a listener, and what it is given.

Rules of residence: classes only; who calls a listener, and when, is in ``engine.listening``. The names are those of
``HttpSessionListener`` and ``HttpSessionIdListener`` of Jakarta Servlet 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class SessionEvent:
    """Something has happened to a session. ``id`` is ``session.id``; ``user`` is ``None`` for a guest."""

    id: str | None
    user: str | None = None


@dataclass(frozen=True)
class LoginEvent(SessionEvent):
    """A user has logged in."""

    label: str | None = None


@dataclass(frozen=True)
class IdChangedEvent(SessionEvent):
    """The browser goes on with another session: another user has logged in. The old one ends as ``replaced``."""

    old_id: str = ""


@dataclass(frozen=True)
class SuspiciousEvent(SessionEvent):
    """Something that an attacker may have caused. ``name`` is that of the log's event, ``text`` says what it was."""

    name: str = ""
    text: str = ""


@dataclass(frozen=True, eq=False)
class DestroyedEvent:
    """A session has ended, and nothing opens it any more.

    ``reason`` is ``invalidated``, ``expired``, ``evicted``, ``revoked`` or ``replaced``. ``redelivered``: a worker was
    told of it before, and has died meanwhile.
    """

    id: str
    reason: str
    redelivered: bool
    _read: Callable[[], tuple[str | None, Mapping[str, Any]]] = field(repr=False)

    @cached_property
    def _content(self) -> tuple[str | None, Mapping[str, Any]]:
        return self._read()

    @property
    def user(self) -> str | None:
        """Who was logged in."""
        return self._content[0]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What was in the session at its end, decoded when it is first asked for. Empty, if that cannot be read."""
        return self._content[1]


class SessionListener:
    """Is told of sessions. Subclass it, and give an instance to the middleware: ``listeners=[MyListener()]``.

    Every method may be a plain function or a coroutine function, and has 30 s. They run behind the responses, never on
    their way; what they raise is logged. ``destroyed`` is told by one worker for each session that was created or
    logged in under such a listener, whoever ends it; again only if that worker has died in it. All others are told in
    this process, and are lost with it, or where more than a thousand wait.
    """

    def created(self, event: SessionEvent) -> Any:
        """Take note of a session that has a record from here on."""

    def login(self, event: LoginEvent) -> Any:
        """Take note of a login."""

    def id_changed(self, event: IdChangedEvent) -> Any:
        """Take note of a login of another user: the browser goes on with another session."""

    def destroyed(self, event: DestroyedEvent) -> Any:
        """Take note of the end of a session."""

    def suspicious(self, event: SuspiciousEvent) -> Any:
        """Take note of what an attack may look like: an old or forged token, a record that is not ours."""


def hears(listeners: tuple[SessionListener, ...], method: str) -> bool:
    """Return whether one of them has a method of its own."""
    base = getattr(SessionListener, method)
    return any(getattr(type(listener), method) is not base for listener in listeners)
