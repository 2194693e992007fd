"""Who takes part in a story, and what is known of each request: the facts that the rules judge.

Rules of residence: bookkeeping of cookies, canaries and requests; no step is played here and nothing is judged.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..browser.answer import Answer
from ..browser.browser import Browser
from ..browser.connection import Exchange
from ..browser.jar import Cookie
from .observer import Call

__all__ = ["Person", "Request", "session_key"]

TOKEN_CHARS, RECORD_ID = 88, slice(2, 18)


def session_key(value: str, otherwise: object) -> object:
    """Return what the cookies of one session have in common: the record id of a token of ours, or ``otherwise``."""
    try:
        raw = base64.urlsafe_b64decode(value) if len(value) == TOKEN_CHARS else b""
    except binascii.Error:
        raw = b""
    return raw[RECORD_ID] or otherwise


@dataclass
class Request:
    """One request of a person, from its start to its end."""

    person: Person
    call: Call
    exchange: Exchange
    words: str
    carried: str | None  # the value of the session cookie, if it carried just one
    was_dead: bool  # ... which belonged to a session that had ended when it was sent
    genuine: bool = True  # the cookies are the browser's own, or once were
    unsure: bool = False  # something else may have ended the session meanwhile
    left: bool = False  # the client left, wholly or half, or the call was cancelled
    rivals: set[str] = field(default_factory=set)  # names that requests at the same time changed
    number: int = 0  # of its tab, if it has one
    talks: bool = False  # a WebSocket on which something was said

    @property
    def answer(self) -> Answer:
        """What arrived."""
        return self.exchange.answer

    def lines(self, name: str) -> list[Cookie]:
        """Return the Set-Cookie lines of the session cookie."""
        try:
            return [cookie for cookie in self.answer.cookies if cookie.name == name]
        except LookupError:
            return []

    @property
    def status(self) -> int | None:
        """The status that was sent; 200 for an accepted WebSocket, ``None`` if nothing was."""
        try:
            return int(self.answer.start.get("status", 200))
        except LookupError:
            return None


@dataclass
class Person:
    """A browser, the word that only it knows, and all values that its session cookie ever had."""

    name: str
    browser: Browser
    canary: str
    tabs: list[Request] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    keys: dict[str, object] = field(default_factory=dict)  # the session of each value
    dead_keys: set[object] = field(default_factory=set)
    dead_values: set[str] = field(default_factory=set)

    def value(self, cookie: str) -> str | None:
        """Return the session cookie that the browser has now."""
        kept: Any = self.browser.jar.get(cookie)
        return None if kept is None else kept.value

    def is_dead(self, value: str) -> bool:
        """Tell if a cookie leads to nothing any more."""
        return value in self.dead_values or self.keys.get(value) in self.dead_keys

    def note(self, value: str, before: str | None) -> None:
        """Note a value that the cookie was given in place of the one before.

        Of ours, other values of the same session are dead from now on, and the session before, if it is another.
        """
        old = None if before is None or self.is_dead(before) else self.keys.get(before)
        key = session_key(value, old or value)
        if isinstance(key, bytes):
            self.dead_values |= {other for other in self.values if self.keys[other] == key}
        if old is not None and old != key:
            self.dead_keys.add(old)
        self.keys[value] = key
        self.values.append(value)

    def end(self, value: str | None) -> None:
        """Note that the session of a value has ended."""
        if value is not None and value in self.keys:
            self.dead_keys.add(self.keys[value])

    def secrets(self) -> Iterable[str]:
        """Return what nobody else may get to see."""
        yield self.canary
        yield from self.values
