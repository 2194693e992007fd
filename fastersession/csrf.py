"""The session's token for forms: proof that a page of this session made the request.

Rules of residence: which verifiers of a session count for such a token. How it is made is crypto's.
"""

from __future__ import annotations

from typing import Any

from .attributes import Attributes
from .crypto.tokens import same
from .facts import NOT_STARTED, Status
from .state import State
from .stores.base import Record


class CsrfTokens(Attributes):
    """What a session has for forms."""

    __slots__ = ()

    @property
    def csrf_token(self) -> str:
        """A token for the forms and scripts of this session's pages, 86 characters of base64url.

        Each reading gives another, and all are valid, from the following request on, until the session ends. After
        ``regenerate_id()`` those of before stay valid until it is called again, for forms that are open; not after
        the ``login()`` of a guest: read it behind that call. A new session is established by it, as by
        ``establish()``; so is one that ``clear()`` was called on, as a new one.

        In a session that cannot have one, it is a token that none accepts: where the cookie was replaced a moment ago
        by another request, and in a WebSocket from a foreign origin.

        :raises HeadersSent: the session is new and the headers have left.
        """
        state = self._state
        state.accessed = True
        if _is_cleared(self, state):  # it ends with this request, and so would the token
            self.invalidate()
        host = state.host
        if state.status is Status.NEW:
            self._before_headers("csrf_token, of a new session,")
            state.wishes().establish = True
            record_id, secret = state.ticket()
            return host.forms.make(record_id, host.verifier_of(secret))
        ticket = state.login_ticket()
        if ticket is not None:
            return host.forms.make(ticket[0], host.verifier_of(ticket[1]))
        proof = state.proof()
        return host.forms.nobodys() if proof is None else host.forms.make(*proof)

    def check_csrf(self, token: object) -> bool:
        """Return whether a request's token is this session's; ``False`` for anything else, of whatever type.

        In constant time. A session without a record has none: ask before ``invalidate()``.
        """
        state = self._state
        state.accessed = True
        proof, record = state.proof(), state.record
        if state.status is not Status.LIVE or proof is None or record is None:
            return False
        record_id, verifier = proof
        verifiers = [verifier, before] if (before := _before(record, verifier)) is not None else [verifier]
        return state.host.forms.is_of(token, record_id, verifiers)

    def invalidate(self) -> Any:
        """Log out: the session's."""
        raise NotImplementedError

    def _before_headers(self, verb: str) -> None:
        """Refuse what must send a cookie after the headers have left."""
        raise NotImplementedError


def _is_cleared(session: Attributes, state: State) -> bool:
    intents = state.intents
    return (
        intents is not None
        and intents.cleared
        and intents.login is None
        and state.status is Status.LIVE
        and state.phase == NOT_STARTED
        and not dict.__len__(session)
    )


def _before(record: Record, verifier: bytes) -> bytes | None:
    """Return the verifier that was replaced by this one, ``None`` if there is none."""
    if not same(record.verifier, verifier):  # this request has regenerated since it loaded the record
        return record.verifier
    before: bytes | None = getattr(record, "verifier_before", None)  # a store's own class of records may have none
    return before
