"""What is told of cookies and origins.

Rules of residence: as for all events, see ``base``.
"""

from __future__ import annotations

from logging import WARNING

from .base import Event, Hostile, Once


class CookieRejected(Hostile, name="cookie.rejected"):
    """A cookie of the session's name is no token that a key of ours has signed."""

    text = "a session cookie is not one of ours, or among over 64 KiB of cookies: ignored"


class CookieAmbiguous(Hostile, name="cookie.ambiguous"):
    """Several cookies of the session's name lead to live sessions."""

    text = "two session cookies are both alive: neither is used"


class SessionUnknown(Hostile, name="session.unknown"):
    """A genuine cookie leads to no live session."""

    text = "a genuine session cookie leads to no live session"


class CsrfRejected(Hostile, name="csrf.rejected"):
    """A request that changes something was made by a page of another site, and was refused."""

    text = "a request of another site was refused: %(method)s %(path)s, %(why)s; allowed_origins may name its origin"
    method: str = ""
    path: str = ""
    why: str = ""


class CsrfReported(CsrfRejected, level=WARNING):
    """The same, but it was let pass, for ``csrf`` only reports: whoever asks for that wants to see it."""

    hostile = False  # ``EventLog.tell_seldom`` bounds it
    text = (
        "a request of another site would be refused: %(method)s %(path)s, %(why)s; allowed_origins may name its origin"
    )


class TokenReused(Event, name="token.reused", level=WARNING):
    """A token came that was replaced more than a minute ago: somebody has a copy."""

    hostile = True
    text = "a session's token was used that was replaced long ago: somebody has a copy of an old cookie"


class CookieOfAnotherKey(Once, name="cookie.other_key"):
    """A cookie has the form of a token, and no key here verifies it."""

    text = (
        "a cookie has the form of a session's token, and no secret_key here verifies it: every worker needs the same "
        "secret_key, and a key that was replaced stays behind the new one for one lifetime; two applications on one "
        "host, whatever their ports, need a session_cookie each. Anybody can send such a cookie, so this is said only "
        "once"
    )


class InsecureScheme(Once, name="cookie.insecure_scheme"):
    """A Secure cookie leaves over plain http."""

    text = (
        "a Secure cookie is set on a plain http request: clients may not return it; give secure=False in development, "
        "ignore this behind a proxy that speaks TLS"
    )


class CookieUndeliverable(Once, name="websocket.cookie_undeliverable"):
    """A session began on a WebSocket of a server that drops the headers of the accept."""

    text = (
        "this server drops the headers of websocket.accept: a session that begins on a WebSocket gets no cookie; begin "
        "it on an http request"
    )


class ForeignOrigin(Once, name="websocket.foreign_origin"):
    """A WebSocket came from a page of another host."""

    text = (
        "a WebSocket from another origin got no session; behind a proxy, let it pass the Host header on, or name the "
        "origin in allowed_origins"
    )
