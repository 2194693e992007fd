"""What applications, and authors of stores, test sessions with.

Rules of residence: for tests of applications, and needs no extra. ``testing.stores`` (the contract of a store) needs
pytest and hypothesis, ``testing.fuzz`` (strategies, ``check_app``) hypothesis: the extra ``testing``. Nothing else in
the package imports any of it.
"""

from .browser.answer import Answer, Message
from .browser.browser import Browser, lifespan
from .browser.connection import Exchange, Socket
from .browser.jar import Cookie, Headers, Jar
from .browser.sessions import session_of
from .clock import FakeClock
from .faults import FaultyStore, Gate, InjectedError

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
