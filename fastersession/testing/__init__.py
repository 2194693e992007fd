"""What applications, and authors of stores, test sessions with.

Rules of residence: for tests of applications, and needs no extra. ``testing.stores`` (the contract of a store) needs
pytest and hypothesis, ``testing.fuzz`` (strategies, ``check_app``) hypothesis: the extra ``testing``. Nothing else in
the package imports any of it.
"""

from .answer import Answer, Message
from .browser import Browser, lifespan
from .clock import FakeClock
from .exchange import Exchange, Socket
from .faults import FaultyStore, Gate, InjectedError
from .jar import Cookie, Headers, Jar
from .sessions import session_of

__all__ = [
    "Answer",
    "Browser",
    "Cookie",
    "Exchange",
    "FakeClock",
    "FaultyStore",
    "Gate",
    "Headers",
    "InjectedError",
    "Jar",
    "Message",
    "Socket",
    "lifespan",
    "session_of",
]
