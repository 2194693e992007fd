"""What the package tells: a small class for each event.

Rules of residence: names, levels, words and fields of events. No field holds a token, a secret, a key or a value of an
attribute. Who hears them is elsewhere: see ``log``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from logging import DEBUG, ERROR, INFO, WARNING
from typing import ClassVar, dataclass_transform

from .stores.base import AHEAD_TEXT


@dataclass_transform(frozen_default=True)
class _Told:
    """What makes each class below it a frozen dataclass. ``name`` and ``level`` are inherited where not given."""

    name: ClassVar[str] = ""
    level: ClassVar[int] = 0

    def __init_subclass__(cls, name: str = "", level: int = 0) -> None:
        cls.name, cls.level = name or cls.name, level or cls.level
        dataclass(frozen=True)(cls)


class Event(_Told):
    """Something that whoever runs the service may want to know. A text names the fields that it shows."""

    text: ClassVar[str]
    once: ClassVar[bool] = False  # one line is enough in the life of a middleware
    hostile: ClassVar[bool] = False  # anybody on the network can cause it: a few a minute are told

    record_id: bytes | None = None  # of the session, if there is one

    def said(self) -> str:
        """Return the text."""
        return self.text % asdict(self)


class _Once(Event, level=WARNING):
    once = True


class _Hostile(Event, level=DEBUG):
    hostile = True


# --- at the start ---


class TakenFromEnvironment(Event, name="config.environment", level=INFO):
    """An argument that was not given stood in the environment."""

    text = "%(argument)s was taken from the environment variable %(variable)s"
    argument: str = ""
    variable: str = ""


class LifespanUnknown(Event, name="lifespan.unknown", level=INFO):
    """The application refuses the lifespan protocol, so it is answered for it."""

    text = "the application knows no lifespan: %(refusal)s"
    refusal: str = ""


# --- cookies and origins ---


class CookieRejected(_Hostile, name="cookie.rejected"):
    """A cookie of the session's name is no token that a key of ours has signed."""

    text = "a session cookie is not one of ours, or among over 64 KiB of cookies: ignored"


class CookieAmbiguous(_Hostile, name="cookie.ambiguous"):
    """Several cookies of the session's name lead to live sessions."""

    text = "two session cookies are both alive: neither is used"


class SessionUnknown(_Hostile, name="session.unknown"):
    """A genuine cookie leads to no live session."""

    text = "a genuine session cookie leads to no live session"


class CsrfRejected(_Hostile, name="csrf.rejected"):
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


class CookieOfAnotherKey(_Once, name="cookie.other_key"):
    """A cookie has the form of a token, and no key here verifies it."""

    text = (
        "a cookie has the form of a session's token, and no secret_key here verifies it: every worker needs the same "
        "secret_key, and a key that was replaced stays behind the new one for one lifetime; two applications on one "
        "host, whatever their ports, need a session_cookie each. Anybody can send such a cookie, so this is said only "
        "once"
    )


class InsecureScheme(_Once, name="cookie.insecure_scheme"):
    """A Secure cookie leaves over plain http."""

    text = (
        "a Secure cookie is set on a plain http request: clients may not return it; give secure=False in development, "
        "ignore this behind a proxy that speaks TLS"
    )


class CookieUndeliverable(_Once, name="websocket.cookie_undeliverable"):
    """A session began on a WebSocket of a server that drops the headers of the accept."""

    text = (
        "this server drops the headers of websocket.accept: a session that begins on a WebSocket gets no cookie; begin "
        "it on an http request"
    )


class ForeignOrigin(_Once, name="websocket.foreign_origin"):
    """A WebSocket came from a page of another host."""

    text = (
        "a WebSocket from another origin got no session; behind a proxy, let it pass the Host header on, or name the "
        "origin in allowed_origins"
    )


# --- the store ---


class StoreNotShared(_Once, name="store.not_shared"):
    """A genuine cookie leads nowhere, and a MemoryStore is used as if it were shared."""

    text = (
        "a genuine session cookie leads to no session here, and this process is one of several, or another middleware "
        "of it has a MemoryStore of its own: a MemoryStore is not shared; use one worker, and give one store to all "
        "middlewares (a restart or an expired session shows the same way)"
    )


class RecordsUnreadable(_Once, name="store.unreadable"):
    """The first record that cannot be opened."""

    text = (
        "a session of the store cannot be opened: was it sealed under a secret_key or a codec that is not configured "
        "any more? Such sessions end; their records are kept"
    )


class RecordUnreadable(Event, name="session.unreadable", level=WARNING):
    """A record that cannot be opened."""

    text = "a record cannot be opened: %(why)s"
    why: str = ""


class ClockAhead(_Once, name="clock.ahead"):
    """A record was used in the future."""

    text = AHEAD_TEXT


class RequestRefused(Event, name="store.unavailable", level=ERROR):
    """A request got a 503, for the store failed before its answer began."""

    text = "%(what)s: %(error)s"
    what: str = ""
    error: str = ""


class TouchFailed(Event, name="store.touch_failed", level=WARNING):
    """The last access could not be recorded."""

    text = "a session was not touched"


class StoreNotClosed(Event, name="store.close_failed", level=WARNING):
    """Closing the store failed."""

    text = "the store was not closed: %(error)s"
    error: str = ""


class WatchFailed(Event, name="watch.failed", level=ERROR):
    """For a while nobody could say which sessions have ended; told once until the store answers again."""

    text = "for %(seconds)s s the store could not be asked which sessions have ended: %(outcome)s; %(error)s"
    seconds: int = 0
    outcome: str = ""
    error: str = ""


# --- saves ---


class SaveFailed(Event, name="session.save_failed", level=ERROR):
    """A save after the headers failed, so no answer can tell of it."""

    text = "%(what)s"
    what: str = ""


class AnswerWithheld(Event, name="answer.withheld", level=ERROR):
    """An answer was cut short, for its last save failed."""

    text = "the end of an answer was withheld, for its session could not be saved: %(error)s"
    error: str = ""


class SessionDropped(Event, name="session.dropped", level=INFO):
    """Changes were dropped, for the session was ended meanwhile, so nobody misses them."""

    text = "changes of a request were dropped, its session is no longer its own: %(why)s; attributes: %(attributes)s"
    why: str = ""
    attributes: str = ""


class SessionLost(SessionDropped, level=WARNING):
    """Changes were dropped, and the session lives on without them."""


class TurnLost(Event, name="session.dropped", level=INFO):
    """What was changed in an exclusive turn came too late."""

    text = "changes of a turn were dropped: its lease had ended before they were saved"


class NotRegenerated(Event, name="session.not_regenerated", level=INFO):
    """Another request has regenerated the session first."""

    text = "regenerate_id() sends no cookie: another request has regenerated the session first"


class NotRenewed(Event, name="session.not_renewed", level=INFO):
    """Another request has regenerated the session first, so this one's token is an old one."""

    text = "session.max_age is not set: another request has regenerated the session first"


class MaxAgeCut(_Once, name="session.max_age_cut"):
    """A session's own max_age is longer than what the middleware was given."""

    text = (
        "a session's max_age is longer than its idle_timeout or the lifetime, which were given: it ends before its "
        "cookie does"
    )


class MaxAgeClamped(_Once, name="session.max_age_clamped"):
    """A session's own max_age is longer than browsers keep a cookie."""

    text = "a session's max_age is above 400 days: browsers keep no cookie for longer (RFC 6265bis, section 5.5)"


class SessionUnsaved(Event, name="session.unsaved", level=WARNING):
    """Attributes were written, or changed inside, after the end of the request and never saved."""

    text = "written after the request had ended, and lost: %(attributes)s; await session.save() after such a write"
    attributes: str = ""


class VerbUnheard(Event, name="session.unsaved", level=WARNING):
    """A verb was called after the end of the request where nothing can carry it out."""

    text = "a verb called after the end of the request, in a thread without an event loop, does nothing"


class SessionReplaced(_Once, name="session.replaced"):
    """Something stands in the session's place."""

    text = (
        "%(what)s stands in the session's place: %(outcome)s; if another session middleware, further in, has put it "
        "there, take one of the two away, or give one a scope_key of its own"
    )
    what: str = ""
    outcome: str = ""


# --- listeners ---


class ListenerFailed(Event, name="listener.failed", level=ERROR):
    """A listener has raised, or did not finish in time."""

    text = "%(listener)s.%(method)s has failed: %(error)s"
    listener: str = ""
    method: str = ""
    error: str = ""


class ListenersOverrun(_Once, name="listener.overrun", level=ERROR):
    """Listeners are slower than what they are told of."""

    text = "more than a thousand events wait for the listeners: what happens meanwhile is not told to them"


class SweepFailed(Event, name="listener.sweep_failed", level=WARNING):
    """The store could not be asked for ended sessions."""

    text = "listeners are not told of ended sessions until the store can be asked again: %(error)s"
    error: str = ""
