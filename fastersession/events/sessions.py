"""What is told of sessions and saves.

Rules of residence: as for all events, see ``base``.
"""

from __future__ import annotations

from logging import ERROR, INFO, WARNING

from .base import Event, Once


class SaveFailed(Event, name="session.save_failed", level=ERROR):
    """A save after the headers failed, so no answer can tell of it."""

    text = "%(what)s"
    what: str = ""


class AnswerNotKept(Event, name="answer.not_kept", level=WARNING):
    """An answer was to be detached, and is compressed: nobody could read it from the middle on."""

    text = "answer not kept: it has a content-encoding; compress outside of the session middleware"


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


class MaxAgeCut(Once, name="session.max_age_cut"):
    """A session's own max_age is longer than what the middleware was given."""

    text = (
        "a session's max_age is longer than its idle_timeout or the lifetime, which were given: it ends before its "
        "cookie does"
    )


class MaxAgeClamped(Once, name="session.max_age_clamped"):
    """A session's own max_age is longer than browsers keep a cookie."""

    text = "a session's max_age is above 400 days: browsers keep no cookie for longer (RFC 6265bis, section 5.5)"


class SessionUnsaved(Event, name="session.unsaved", level=WARNING):
    """Attributes were written, or changed inside, after the end of the request and never saved."""

    text = "written after the request had ended, and lost: %(attributes)s; await session.save() after such a write"
    attributes: str = ""


class VerbUnheard(Event, name="session.unsaved", level=WARNING):
    """A verb was called after the end of the request where nothing can carry it out."""

    text = "a verb called after the end of the request, in a thread without an event loop, does nothing"


class SessionReplaced(Once, name="session.replaced"):
    """Something stands in the session's place."""

    text = (
        "%(what)s stands in the session's place: %(outcome)s; if another session middleware, further in, has put it "
        "there, take one of the two away, or give one a scope_key of its own"
    )
    what: str = ""
    outcome: str = ""
