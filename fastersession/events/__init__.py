"""What the package tells: a small class for each event.

Rules of residence: names, levels, words and fields of events. No field holds a token, a secret, a key or a value of an
attribute. Who hears them is elsewhere: see ``log``.
"""

from .base import Event
from .conversations import EntryUnreadable
from .cookies import (
    CookieAmbiguous,
    CookieOfAnotherKey,
    CookieRejected,
    CookieUndeliverable,
    CsrfRejected,
    CsrfReported,
    ForeignOrigin,
    InsecureScheme,
    SessionUnknown,
    TokenReused,
)
from .listeners import ListenerFailed, ListenersOverrun, SweepFailed
from .runs import FoldFailed, RunFailed, RunStuck, RunUnlogged, RunUnreadable
from .sessions import (
    AnswerNotKept,
    AnswerWithheld,
    MaxAgeClamped,
    MaxAgeCut,
    NotRegenerated,
    NotRenewed,
    SaveFailed,
    SessionDropped,
    SessionLost,
    SessionReplaced,
    SessionUnsaved,
    TurnLost,
    VerbUnheard,
)
from .start import LifespanUnknown, TakenFromEnvironment
from .stores import (
    ClockAhead,
    RecordsUnreadable,
    RecordUnreadable,
    RequestRefused,
    StoreNotClosed,
    StoreNotShared,
    TouchFailed,
    WatchFailed,
)

__all__ = [
    "AnswerNotKept", "AnswerWithheld", "ClockAhead", "CookieAmbiguous", "CookieOfAnotherKey", "CookieRejected",
    "CookieUndeliverable", "CsrfRejected", "CsrfReported", "EntryUnreadable", "Event", "FoldFailed",
    "ForeignOrigin", "InsecureScheme", "LifespanUnknown", "ListenerFailed", "ListenersOverrun", "MaxAgeClamped",
    "MaxAgeCut", "NotRegenerated", "NotRenewed", "RecordUnreadable", "RecordsUnreadable", "RequestRefused",
    "RunFailed", "RunStuck", "RunUnlogged", "RunUnreadable", "SaveFailed", "SessionDropped", "SessionLost",
    "SessionReplaced", "SessionUnknown", "SessionUnsaved", "StoreNotClosed", "StoreNotShared", "SweepFailed",
    "TakenFromEnvironment", "TokenReused", "TouchFailed", "TurnLost", "VerbUnheard", "WatchFailed",
]  # fmt: skip
