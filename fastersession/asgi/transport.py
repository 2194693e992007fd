"""The session's token in a header, for clients that keep no cookies.

Rules of residence: which way a token came, and how it leaves in a header. What a token is, and the cookie, are others'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..crypto.tokens import TOKEN_CHARS, KeyRing
from ..state import State
from .dress import NO_STATUS, StartHeaders
from .headers import HeaderList, has_member, merged, with_token
from .messages import Message


@dataclass(frozen=True, slots=True)
class Transport:
    """The ways of one middleware, of which one is a header.

    A browser that has a cookie of ours never gets its token in a header, or ``HttpOnly`` would be for nothing.
    """

    name: bytes  # of the header, in lower case
    takes_cookies: bool
    begins: bool  # what brings no token gets one in the header
    find_cookies: Callable[[HeaderList], Sequence[bytes] | None]

    def find(self, headers: HeaderList) -> Sequence[bytes] | None:
        """Return what may be tokens, as ``CookieFinder.find`` does.

        One that comes both ways was taken out of a browser, or put into one: neither counts.
        """
        cookies, sent = self._cookies(headers), self._sent(headers)
        if not sent or sent == [b""]:
            return cookies
        if len(sent) != 1 or len(sent[0]) != TOKEN_CHARS:
            return () if cookies is None else cookies
        if cookies is None:
            return sent
        return () if sent[0] in cookies else (*cookies, sent[0])

    def is_by_header(self, headers: HeaderList, state: State, keys: KeyRing) -> bool:
        """Return whether the answer's token goes in the header."""
        sent = self._sent(headers)
        if self._cookies(headers) is None:
            return bool(sent) or self.begins
        ticket = keys.unsign(sent[0]) if len(sent) == 1 else None  # beside a cookie that leads nowhere
        return ticket is not None and ticket.record_id == state.record_id

    def _cookies(self, headers: HeaderList) -> Sequence[bytes] | None:
        return self.find_cookies(headers) if self.takes_cookies else None

    def _sent(self, headers: HeaderList) -> list[bytes]:
        return [value for name, value in headers if name == self.name]


def transport_of(
    takes_cookies: bool, name: str | None, begins: bool, find: Callable[[HeaderList], Sequence[bytes] | None]
) -> Transport | None:
    """Return the ways of a middleware; ``None`` if the cookie is the only one."""
    return None if name is None else Transport(name.encode(), takes_cookies, begins, find)


@dataclass(slots=True, kw_only=True)
class TransportHeaders(StartHeaders):
    """What all starts of a middleware have in common whose tokens may go in a header."""

    transport: Transport
    keys: KeyRing

    def dressed(self, message: Message, status: int, state: State, scope: Any, accessed: bool) -> Message:
        name = self.transport.name
        token = self.token_of(state, scope)
        if token is not None and self.transport.is_by_header(scope["headers"], state, self.keys):
            headers = with_token(list(message.get("headers") or ()), name, token, is_accept=status == NO_STATUS)
            state.cookie_left()
            return {**message, "headers": headers}
        message = StartHeaders.dressed(self, message, status, state, scope, accessed)
        headers = list(message.get("headers") or ())
        if not has_member(headers, b"vary", b"cookie"):
            return message
        return {**message, "headers": merged(headers, b"vary", name)}
