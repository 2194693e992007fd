"""The kit that tests applications and stores.

Rules of residence: what tests of applications need, without an extra. ``testing.stores`` (the contract of a store) and
``testing.fuzz`` (strategies, ``check_app``) need the extra ``testing``. Nothing else in the package imports the kit.
"""

from .browser.answer import Answer, Message
from .browser.browser import Browser, lifespan
from .browser.connection import Connection, Socket
from .browser.jar import Cookie, Headers, Jar
from .browser.sessions import session_of
from .clock import FakeClock
from .faults import FaultyStore, Gate, InjectedError

__all__ = [
    "Answer", "Browser", "Connection", "Cookie", "FakeClock", "FaultyStore", "Gate", "Headers", "InjectedError", "Jar",
    "Message", "Socket", "lifespan", "session_of",
]  # fmt: skip
