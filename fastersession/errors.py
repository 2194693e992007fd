"""Every exception and warning of the package.

Rules of residence: classes only. A text never carries a token, a secret, a key or an attribute's value.
"""

from __future__ import annotations


class FasterSessionError(Exception):
    """The root of all errors raised by this package."""


class ConfigError(FasterSessionError, ValueError):
    """Arguments cannot work; raised at construction, naming all faults at once, each on a line of its own."""


class SessionNotEstablished(FasterSessionError, RuntimeError):  # noqa: N818 - the name is part of the public interface
    """An attribute was written when no cookie can reach the client any more, so nothing could ever read it."""


class HeadersSent(FasterSessionError, RuntimeError):  # noqa: N818 - the name is part of the public interface
    """The call needs to send a cookie, but the response headers have left."""


class StoreError(FasterSessionError):
    """The store failed or did not answer in time. The driver's exception is its ``__cause__``."""


class AttributeNotSerializable(FasterSessionError, TypeError):  # noqa: N818 - part of the public interface
    """An attribute cannot be kept by a store outside the process; the others are saved all the same.

    The text says where in it, which class, and what to do; it never quotes the value.
    """


class CodecError(FasterSessionError, ValueError):
    """A codec does not keep a value, or cannot read bytes. Its text is logged: it never quotes the value."""


class ExclusiveTimeout(FasterSessionError, TimeoutError):  # noqa: N818 - part of the public interface
    """``session.exclusive()`` could not be entered in time: other requests of the session hold it."""


class LeaseLost(FasterSessionError):  # noqa: N818 - part of the public interface
    """A save inside ``session.exclusive()`` came after the lease had ended: another request holds it now."""


class LoginRefused(FasterSessionError, PermissionError):  # noqa: N818 - part of the public interface
    """``session.login()`` was refused: all sessions of the user were revoked since he has authenticated."""


class TooManySessions(LoginRefused):
    """``session.login()`` was refused: the user has as many sessions as ``max_sessions_per_user`` allows."""


class SessionEnded(FasterSessionError, ConnectionError):  # noqa: N818 - part of the public interface
    """A message was sent although the session has ended, and ``close_on_end`` ends what runs on it.

    A ``ConnectionError``, for it is as if the client had gone away. ``reason`` is what ``Session.ended`` says.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the session of this request has ended: {reason}")
        self.reason = reason

    def __reduce__(self) -> tuple[type[SessionEnded], tuple[str]]:
        return SessionEnded, (self.reason,)


class Busy(FasterSessionError, RuntimeError):  # noqa: N818 - part of the public interface
    """A conversation has a run already, or there are as many of something as there may be.

    Unhandled before the start, it replaces the answer. ``status`` is the HTTP status: 409, or 503 where this process
    takes no more runs.
    """

    def __init__(self, text: str = "", status: int = 409) -> None:
        super().__init__(text)
        self.status = status

    def __reduce__(self) -> tuple[type[Busy], tuple[str, int]]:
        return Busy, (str(self), self.status)


class Gone(FasterSessionError, LookupError):  # noqa: N818 - part of the public interface
    """A conversation was deleted, or its session has ended. Unhandled before the start: a 410."""

    status = 410


class KeyReused(FasterSessionError, ValueError):  # noqa: N818 - part of the public interface
    """A key of an append or a start has come before with another value. Unhandled before the start: a 409."""

    status = 409


class FasterSessionWarning(UserWarning):
    """The root of all warnings of this package."""


class InsecureSecretKeyWarning(FasterSessionWarning):
    """A secret key is short or a known placeholder: whoever guesses it can mint tokens."""


class InsecureCookieWarning(FasterSessionWarning):
    """A cookie attribute weakens the session, or makes browsers refuse the cookie or never send it."""


class LifetimeWarning(FasterSessionWarning):
    """``idle_timeout`` or ``lifetime`` ends the session before ``max_age`` ends its cookie."""
