"""What the package tells: a small class for each event.

Rules of residence: names, levels, words and fields of events. No field holds a token, a secret, a key or a value of an
attribute. Who hears them is elsewhere: see ``log``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from .stores.base import AHEAD_TEXT


@dataclass(frozen=True)
class Event:
    """Something that whoever runs the service may want to know.

    ``name``, ``level`` and ``text`` belong to the class; a text names the fields that it shows.
    """

    name: ClassVar[str]
    level: ClassVar[int]
    text: ClassVar[str]
    once: ClassVar[bool] = False  # one line is enough in the life of a middleware
    hostile: ClassVar[bool] = False  # anybody on the network can cause it: a few a minute are told

    record_id: bytes | None = None  # of the session, if there is one


class _Once(Event):
    level = logging.WARNING
    once = True


class _Hostile(Event):
    level = logging.DEBUG
    hostile = True


# --- at the start ---


@dataclass(frozen=True)
class TakenFromEnvironment(Event):
    """An argument that was not given stood in the environment."""

    name = "config.environment"
    level = logging.INFO
    text = "%(argument)s was taken from the environment variable %(variable)s"
    argument: str = ""
    variable: str = ""


@dataclass(frozen=True)
class LifespanUnknown(Event):
    """The application refuses the lifespan protocol, so it is answered for it."""

    name = "lifespan.unknown"
    level = logging.INFO
    text = "the application knows no lifespan: %(refusal)s"
    refusal: str = ""


# --- cookies and origins ---


class CookieRejected(_Hostile):
    """A cookie of the session's name is no token that a key of ours has signed."""

    name = "cookie.rejected"
    text = "a session cookie is not one of ours, or among over 64 KiB of cookies: ignored"


class CookieAmbiguous(_Hostile):
    """Several cookies of the session's name lead to live sessions."""

    name = "cookie.ambiguous"
    text = "two session cookies are both alive: neither is used"


class SessionUnknown(_Hostile):
    """A genuine cookie leads to no live session."""

    name = "session.unknown"
    text = "a genuine session cookie leads to no live session"


class CookieOfAnotherKey(_Once):
    """A cookie has the form of a token, and no key here verifies it."""

    name = "cookie.other_key"
    text = (
        "a cookie has the form of a session's token, and no secret_key here verifies it: every worker needs the same "
        "secret_key, and a key that was replaced stays behind the new one for one lifetime; two applications on one "
        "host, whatever their ports, need a session_cookie each. Anybody can send such a cookie, so this is said only "
        "once"
    )


class InsecureScheme(_Once):
    """A Secure cookie leaves over plain http."""

    name = "cookie.insecure_scheme"
    text = (
        "a Secure cookie is set on a plain http request: clients may not return it; give secure=False in development, "
        "ignore this behind a proxy that speaks TLS"
    )


class CookieUndeliverable(_Once):
    """A session began on a WebSocket of a server that drops the headers of the accept."""

    name = "websocket.cookie_undeliverable"
    text = (
        "this server drops the headers of websocket.accept: a session that begins on a WebSocket gets no cookie; begin "
        "it on an http request"
    )


class ForeignOrigin(_Once):
    """A WebSocket came from a page of another host."""

    name = "websocket.foreign_origin"
    text = (
        "a WebSocket from another origin got no session; behind a proxy, let it pass the Host header on, or name the "
        "origin in allowed_origins"
    )


# --- the store ---


class StoreNotShared(_Once):
    """A genuine cookie leads nowhere, and a MemoryStore is used as if it were shared."""

    name = "store.not_shared"
    text = (
        "a genuine session cookie leads to no session here, and this process is one of several, or another middleware "
        "of it has a MemoryStore of its own: a MemoryStore is not shared; use one worker, and give one store to all "
        "middlewares (a restart or an expired session shows the same way)"
    )


class RecordsUnreadable(_Once):
    """The first record that cannot be opened."""

    name = "store.unreadable"
    text = (
        "a session of the store cannot be opened: was it sealed under a secret_key or a codec that is not configured "
        "any more? Such sessions end; their records are kept"
    )


@dataclass(frozen=True)
class RecordUnreadable(Event):
    """A record that cannot be opened."""

    name = "session.unreadable"
    level = logging.WARNING
    text = "a record cannot be opened: %(why)s"
    why: str = ""


class ClockAhead(_Once):
    """A record was used in the future."""

    name = "clock.ahead"
    text = AHEAD_TEXT


@dataclass(frozen=True)
class RequestRefused(Event):
    """A request got a 503, for the store failed before its answer began."""

    name = "store.unavailable"
    level = logging.ERROR
    text = "%(what)s: %(error)s"
    what: str = ""
    error: str = ""


class TouchFailed(Event):
    """The last access could not be recorded."""

    name = "store.touch_failed"
    level = logging.WARNING
    text = "a session was not touched"


@dataclass(frozen=True)
class StoreNotClosed(Event):
    """Closing the store failed."""

    name = "store.close_failed"
    level = logging.WARNING
    text = "the store was not closed: %(error)s"
    error: str = ""


# --- saves ---


@dataclass(frozen=True)
class SaveFailed(Event):
    """A save after the headers failed, so no answer can tell of it."""

    name = "session.save_failed"
    level = logging.ERROR
    text = "%(what)s"
    what: str = ""


@dataclass(frozen=True)
class AnswerWithheld(Event):
    """An answer was cut short, for its last save failed."""

    name = "answer.withheld"
    level = logging.ERROR
    text = "the end of an answer was withheld, for its session could not be saved: %(error)s"
    error: str = ""


@dataclass(frozen=True)
class SessionDropped(Event):
    """Changes were dropped, for the session was ended meanwhile, so nobody misses them."""

    name = "session.dropped"
    level = logging.INFO
    text = "changes of a request were dropped, its session is no longer its own: %(why)s; attributes: %(attributes)s"
    why: str = ""
    attributes: str = ""


class SessionLost(SessionDropped):
    """Changes were dropped, and the session lives on without them."""

    level = logging.WARNING


class TurnLost(Event):
    """What was changed in an exclusive turn came too late."""

    name = "session.dropped"
    level = logging.INFO
    text = "changes of a turn were dropped: its lease had ended before they were saved"


class NotRegenerated(Event):
    """Another request has regenerated the session first."""

    name = "session.not_regenerated"
    level = logging.INFO
    text = "regenerate_id() sends no cookie: another request has regenerated the session first"


@dataclass(frozen=True)
class SessionUnsaved(Event):
    """Attributes were written after the end of the request and never saved."""

    name = "session.unsaved"
    level = logging.WARNING
    text = "written after the request had ended, and lost: %(attributes)s; await session.save() after such a write"
    attributes: str = ""


class VerbUnheard(Event):
    """A verb was called after the end of the request where nothing can carry it out."""

    name = "session.unsaved"
    level = logging.WARNING
    text = "a verb called after the end of the request, in a thread without an event loop, does nothing"


@dataclass(frozen=True)
class SessionReplaced(_Once):
    """Something stands in the session's place."""

    name = "session.replaced"
    text = (
        "%(what)s stands in the session's place: %(outcome)s; if another session middleware, further in, has put it "
        "there, take one of the two away, or give one a scope_key of its own"
    )
    what: str = ""
    outcome: str = ""
