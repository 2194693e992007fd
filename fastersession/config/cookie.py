"""The cookie, and how long sessions live.

Rules of residence: what browsers make of the cookie's attributes, and spans of time. The cookie's grammar is asgi's.
"""

from __future__ import annotations

from datetime import timedelta

from ..asgi.cookies import LONGEST_KEPT, CookiePolicy
from ..engine.spans import FOREVER, Spans
from ..errors import InsecureCookieWarning, LifetimeWarning
from ..session import seconds
from .faults import Collector

IDLE_TIMEOUT = timedelta(hours=12)  # recognised by identity: only what was not given may follow max_age
LIFETIME = timedelta(days=7)


class Cookie(Collector):
    """Checks the cookie and the spans."""

    def cookie(self, policy: CookiePolicy) -> CookiePolicy:
        """Check a cookie policy."""
        self.add(*policy.faults())
        if policy.http_only is False:
            text = "http_only=False: any script on the page can read the session's token"
            self.warn(InsecureCookieWarning(text))
        cross_site = isinstance(policy.same_site, str) and policy.same_site.lower() == "none"
        if cross_site and policy.secure is False:
            text = "same_site='none' without secure=True: browsers refuse the cookie"
            self.warn(InsecureCookieWarning(text))
        if policy.partitioned is True and not cross_site:
            text = "partitioned=True without same_site='none': no browser sends the cookie in a frame of another site"
            self.warn(InsecureCookieWarning(text))
        return policy

    def rolling(self, given: object, spans: Spans) -> bool:
        """Accept a bool; warn where it can move nothing."""
        if not isinstance(given, bool):
            self.add("rolling: must be True or False")
        if given is True and FOREVER > spans.max_age >= spans.lifetime:
            text = "rolling=True moves the end of a session up to its lifetime: give one above max_age, or None"
            self.warn(LifetimeWarning(text))
        return given is True

    def durations(self, idle_timeout: object, lifetime: object, max_age: object) -> Spans:
        """Accept seconds or ``timedelta``; a default, which is recognised by identity, is at least ``max_age``."""
        age = max_age if isinstance(max_age, int) else 0
        idle, life = seconds(idle_timeout), seconds(lifetime)
        if idle is None:
            self.add("idle_timeout: must be a positive number of seconds or a positive timedelta")
            idle = 1.0
        if life is None and lifetime is not None:
            self.add("lifetime: must be a positive number of seconds, a positive timedelta, or None for unbounded")
        idle = max(idle, age) if idle_timeout is IDLE_TIMEOUT else idle
        life = max(life, age) if life is not None and lifetime is LIFETIME else life
        if age > LONGEST_KEPT:
            text = f"max_age={age} is above 400 days: browsers keep no cookie for longer (RFC 6265bis, section 5.5)"
            self.warn(LifetimeWarning(text))
        short = [name for name, value in (("idle_timeout", idle), ("lifetime", life)) if value and value < age]
        if short:
            text = f"{' and '.join(short)}: shorter than max_age={age}, so sessions end before their cookie does"
            self.warn(LifetimeWarning(text))
        given = idle_timeout is not IDLE_TIMEOUT, lifetime is not LIFETIME
        return Spans(idle, FOREVER if life is None else life, age or FOREVER, *given)


def default_cookie_name(given: str | None, *, secure: bool, path: str, domain: str | None) -> str:
    """Return the given name, or the one with the strongest prefix that the other attributes allow."""
    if given is not None:
        return given
    return "__Host-sid" if secure and path == "/" and domain is None else "sid"
