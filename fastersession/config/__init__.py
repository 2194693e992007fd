"""Validation of the middleware's arguments, all faults at once.

Rules of residence: composition only. From what the user gave to what the middleware uses: a module for each kind of
argument.
"""

from __future__ import annotations

from .cookie import IDLE_TIMEOUT, LIFETIME, Cookie, default_cookie_name
from .kept import STORE_TIMEOUT, Kept
from .keys import Hidden, Keys
from .requests import Requests
from .users import RETENTION, Users

__all__ = ["IDLE_TIMEOUT", "LIFETIME", "RETENTION", "STORE_TIMEOUT", "Faults", "Hidden", "default_cookie_name"]


class Faults(Keys, Cookie, Requests, Kept, Users):
    """Collects what is wrong with the arguments; each check returns the usable value, or a harmless one."""
