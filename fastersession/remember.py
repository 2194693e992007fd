"""For how long a browser remembers a session.

Rules of residence: a part of ``Session``, ``max_age``. What follows of it for the record is ``engine.spans``', for the
cookie ``asgi.own_age``'s.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from .errors import ConfigError, SessionNotEstablished
from .facts import Status

LONGEST = 10**10  # seconds: three centuries, what a clock in any user agent can still add


def age_of(value: object) -> float:
    """Return the whole seconds of a ``max_age``; a fraction counts as one more, for 0 has a meaning of its own.

    :raises ValueError: it is none.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LONGEST:
        raise ValueError("max_age: must be seconds or a timedelta, 0 or more (0: as long as the browser is open)")
    return float(math.ceil(value))


class Remembered:
    """A part of ``Session``: how old its cookie may get."""

    __slots__ = ()

    @property
    def max_age(self: Any) -> timedelta:
        """How long the browser keeps this session's cookie, and the server the session, from the day it was issued.

        0: the cookie lives while the browser is open. Settable (seconds or ``timedelta``) before the headers leave: the
        cookie is issued again with the response, the same token with another Max-Age, and the end of the session moves.
        Saved with the start of the response, and not at all if its status is 500 or above. An ``idle_timeout`` and a
        ``lifetime`` that the middleware was not given are at least it, for this session; given ones win. User agents
        keep no cookie for more than 400 days (RFC 6265bis, section 5.5).

        :raises ValueError: neither seconds nor a ``timedelta``, or below 0.
        :raises HeadersSent: the headers have left.
        :raises SessionNotEstablished: a WebSocket from a foreign origin cannot have a session.
        :raises ConfigError: the store cannot move the end of a session: it keeps none by user.
        """
        state = self._state
        state.accessed = True
        intents, own = state.intents, state.identity()
        age = None if intents is None else intents.max_age
        if age is None and own is not None:
            age = own.max_age
        return timedelta(seconds=state.host.max_age if age is None else age)

    @max_age.setter
    def max_age(self: Any, value: float | timedelta) -> None:
        age, state = age_of(value), self._state
        if not state.host.knows_users:
            raise ConfigError("session.max_age: the store cannot move a session's end; it lacks the verbs of UserStore")
        if state.status is Status.FOREIGN:
            raise SessionNotEstablished(state.refusal_of_writes())
        self._before_headers("max_age")
        state.wishes().max_age = age
