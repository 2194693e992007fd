"""The cookie of a session that has a ``max_age`` of its own, and the cookie that is issued again.

Rules of residence: what stands before and behind a token in a Set-Cookie that is not the usual one, and where a token
is found that is sent a second time. No store keeps secrets, so that is the request's own header.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..crypto.tokens import KeyRing, same
from ..engine.spans import Spans
from ..events import MaxAgeClamped, MaxAgeCut
from ..log import EventLog
from .cookies import LONGEST_KEPT, CookiePolicy


@dataclass(slots=True, kw_only=True)
class OwnAge:
    """What the starts of one middleware need for such cookies."""

    policy: CookiePolicy
    spans: Spans
    keys: KeyRing
    find: Callable[[Any], Sequence[bytes] | None]  # the values of our cookie in a request's headers
    verifier_of: Callable[[bytes], bytes]  # what the store has of a secret
    events: EventLog

    def after_token(self, record: Any, usual: bytes) -> bytes:
        """Return what stands behind the token in the cookie of a record that says something of itself."""
        own = record.extra.identity
        if own.max_age is None:
            return usual
        if own.max_age > LONGEST_KEPT:
            self.events.tell(MaxAgeClamped(None))
        if self.spans.cuts(record.idle_timeout, own):
            self.events.tell(MaxAgeCut(None))
        return self.policy.after_token(int(own.max_age))

    def token_again(self, scope: Any, record_id: bytes, verifier: bytes | None) -> bytes | None:
        """Return the token that a request has brought for this record, signed anew; ``None`` if it has brought none."""
        for candidate in self.find(scope["headers"]) or ():
            pair = self.keys.unsign_pair(candidate)
            if pair is not None and pair[0] == record_id and same(self.verifier_of(pair[1]), verifier or b""):
                return self.keys.sign(pair)
        return None
