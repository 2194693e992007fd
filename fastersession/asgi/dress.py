"""The headers of the start: our cookie, what caches may do, and where it cannot leave.

Rules of residence: from a start message and the state to the message that leaves. Nothing is sent or saved here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..events import CookieUndeliverable, InsecureScheme
from ..facts import Status
from ..log import EventLog
from ..state import State
from .headers import has_content_length, with_cookie, with_vary
from .messages import Message
from .own_age import OwnAge

NO_STATUS = 0  # of websocket.accept, which has none
NEW, LIVE = Status.NEW, Status.LIVE


@dataclass(slots=True, kw_only=True)
class StartHeaders:
    """What all starts of one middleware have in common."""

    sign: Callable[[tuple[bytes, bytes]], bytes]  # from a record id and a secret to a token
    before_token: bytes  # Set-Cookie up to the token, and from there on
    after_token: bytes
    cleared: bytes  # the whole Set-Cookie that removes the cookie
    own_age: OwnAge
    secure: bool
    events: EventLog

    def dressed(self, message: Message, status: int, state: State, scope: Any, accessed: bool) -> Message:
        """Return the start message as it leaves: with our headers, or untouched if there are none."""
        token = None
        if state.secret is not None or state.intents is not None:
            token = self.token_of(state, scope)
        elif not status:  # an accept
            return message
        given = message["headers"] if "headers" in message else None
        headers: Any = given if type(given) is list else list(given or ())
        if token is not None:
            headers = self._with_cookie(headers, token, state, scope, accept=status == NO_STATUS)
            state.cookie_left()
        elif accessed:
            if status != NO_STATUS:
                headers = with_vary(headers)
        elif status >= 200 and status != 204 and status != 304 and not has_content_length(headers):
            headers = with_vary(headers)
        if headers is not given:
            message = message.copy()
            message["headers"] = headers
        return message

    def token_of(self, state: State, scope: Any) -> bytes | None:
        """Return the token that the start must carry, ``b""`` if it must clear the cookie, else ``None``."""
        record_id, secret, intents = state.record_id, state.secret, state.intents
        if state.status is LIVE and record_id is not None:
            if secret is not None:
                return self.sign((record_id, secret))
            if intents is not None and intents.reissued:
                return self.own_age.token_again(scope, record_id, state.verifier)
        return b"" if intents is not None and intents.signed_out and state.status is NEW else None

    def _with_cookie(
        self, headers: list[tuple[bytes, bytes]], token: bytes, state: State, scope: Any, *, accept: bool
    ) -> Any:
        after, record = self.after_token, state.record
        if record is not None and record.extra.identity is not None:
            after = self.own_age.after_token(record, after)
        line = self.before_token + token + after if token else self.cleared
        if token and self.secure and scope.get("scheme") in ("http", "ws"):
            self.events.tell(InsecureScheme())
        if not accept:
            return with_cookie(headers, line)
        if not _accept_carries_headers(scope):
            self.events.tell(CookieUndeliverable())
        return [*headers, (b"set-cookie", line)]


def _accept_carries_headers(scope: Any) -> bool:
    """Return whether the server sends the headers of websocket.accept: spec 2.1, and neither granian nor daphne."""
    version = str(scope.get("asgi", {}).get("spec_version", "2.0"))
    return version >= "2.1" and not {"granian", "daphne.server"} & sys.modules.keys()
