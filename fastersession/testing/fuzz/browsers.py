"""The browsers of a scenario and their requests, with all that the checks need to know of them.

Rules of residence: bookkeeping of cookies, canaries and requests; no step is done here and nothing is checked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..browser.answer import Answer
from ..browser.browser import Browser
from ..browser.connection import Connection
from ..browser.jar import Cookie
from .observer import Call

TOKEN_CHARS, RECORD_ID = 88, slice(2, 18)


def session_key(value: str, otherwise: object) -> object:
    """Return what all cookies of one session share: the record id in a token of ours, else ``otherwise``."""
    try:
        raw = base64.urlsafe_b64decode(value) if len(value) == TOKEN_CHARS else b""
    except binascii.Error:
        raw = b""
    return raw[RECORD_ID] or otherwise


@dataclass
class ClientRequest:
    """One request of a client, from its begin to its end."""

    client: Client
    call: Call
    connection: Connection
    words: str
    carried: str | None  # the value of the session cookie that it was sent with
    had_ended: bool  # the session of that value had ended when the request was sent
    genuine: bool = True  # the cookies are the browser's own, or once were
    unsure: bool = False  # something else may have ended the session meanwhile
    left: bool = False  # the client left or half-closed, or the call was cancelled
    contested: set[str] = field(default_factory=set)  # names that concurrent requests changed, too
    number: int = 0  # of its tab; 0 without a tab
    talks: bool = False  # a WebSocket that the client sends a message to

    @property
    def answer(self) -> Answer:
        """What arrived."""
        return self.connection.answer

    def lines(self, name: str) -> list[Cookie]:
        """Return the Set-Cookie lines of the session cookie."""
        try:
            return [cookie for cookie in self.answer.cookies if cookie.name == name]
        except LookupError:
            return []

    @property
    def status(self) -> int | None:
        """The status that arrived; 200 for an accepted WebSocket, ``None`` without an answer."""
        try:
            return int(self.answer.start.get("status", 200))
        except LookupError:
            return None


@dataclass
class Client:
    """A browser, its canary (a word that only it knows), and every value that its session cookie has had."""

    name: str
    browser: Browser
    canary: str
    tabs: list[ClientRequest] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    keys: dict[str, object] = field(default_factory=dict)  # the session of each value
    ended_keys: set[object] = field(default_factory=set)
    ended_values: set[str] = field(default_factory=set)

    def value(self, cookie: str) -> str | None:
        """Return the value of the browser's session cookie."""
        kept: Any = self.browser.jar.get(cookie)
        return None if kept is None else kept.value

    def has_ended(self, value: str) -> bool:
        """Return whether the session of a value has ended, or has another value by now."""
        return value in self.ended_values or self.keys.get(value) in self.ended_keys

    def note(self, value: str, before: str | None) -> None:
        """Note a new value of the cookie, and the value that it replaces.

        A token of ours ends the other values of its session. A new session ends the one before.
        """
        old = None if before is None or self.has_ended(before) else self.keys.get(before)
        key = session_key(value, old or value)
        if isinstance(key, bytes):
            self.ended_values |= {other for other in self.values if self.keys[other] == key}
        if old is not None and old != key:
            self.ended_keys.add(old)
        self.keys[value] = key
        self.values.append(value)

    def end(self, value: str | None) -> None:
        """Note that the session of a value has ended."""
        if value is not None and value in self.keys:
            self.ended_keys.add(self.keys[value])

    def secrets(self) -> Iterable[str]:
        """Return what no other client may see."""
        yield self.canary
        yield from self.values
