"""How long sessions live.

Rules of residence: arithmetic of seconds. No clock.
"""

from __future__ import annotations

from typing import NamedTuple

from ..facts import Identity
from ..stores.base import Record

FOREVER = float("inf")
ROLL_FRACTION = 0.1  # of a cookie's age: how far its end must move to be worth another cookie


class Spans(NamedTuple):
    """How long the sessions of one middleware live, in seconds; infinity for no end.

    A session may have a ``max_age`` of its own (``Identity.max_age``; 0: as long as the browser is open). It lengthens
    the other two where nobody has given them, as the middleware's does at construction.
    """

    idle: float  # since the last request
    lifetime: float  # since creation, or the last login
    max_age: float  # since the cookie was issued
    idle_is_given: bool = True
    lifetime_is_given: bool = True

    def cookie_age(self, own: Identity | None) -> float:
        """Return for how long a cookie is valid."""
        if own is None or own.max_age is None:
            return self.max_age
        return own.max_age or FOREVER

    def longest(self, own: Identity | None) -> float:
        """Return the lifetime of a session."""
        if own is None or not own.max_age or self.lifetime_is_given:
            return self.lifetime
        return max(self.lifetime, own.max_age)

    def idle_of(self, idle: float, own: Identity | None) -> float:
        """Return the idle timeout of a session, which has this one if it has no ``max_age`` of its own."""
        if own is None or not own.max_age or self.idle_is_given or idle != self.idle:
            return idle
        return max(idle, own.max_age)

    def idle_after(self, idle: float, before: Identity | None, own: Identity | None) -> float:
        """Return the idle timeout of a session that had this one under another identity: its own stays."""
        return self.idle_of(self.idle if idle == self.idle_of(self.idle, before) else idle, own)

    def end_of(self, created_at: float, own: Identity | None) -> float:
        """Return the last moment to which a session can live, however it is renewed."""
        logged_in_at = None if own is None else own.logged_in_at
        return (created_at if logged_in_at is None else logged_in_at) + self.longest(own)

    def not_after(self, created_at: float, issued_at: float, own: Identity | None = None) -> float:
        """Return the absolute end of a session whose cookie is issued now."""
        if own is None:
            absolute, by_cookie = created_at + self.lifetime, issued_at + self.max_age
        else:
            absolute, by_cookie = self.end_of(created_at, own), issued_at + self.cookie_age(own)
        return absolute if absolute < by_cookie else by_cookie

    def rolls(self, record: Record, now: float) -> bool:
        """Return whether a cookie that is issued again now moves the end by a tenth of its age at least."""
        own: Identity | None = record.extra.identity
        age = self.cookie_age(own)
        return age < FOREVER and self.not_after(record.created_at, now, own) - record.not_after >= age * ROLL_FRACTION

    def cuts(self, idle: float, own: Identity) -> bool:
        """Return whether a session ends before its own ``max_age``, however it is used."""
        return own.max_age is not None and own.max_age > min(idle, self.longest(own))
