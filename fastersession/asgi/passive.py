"""Requests that are no sign of a user: polls, and what a browser loads on speculation.

Rules of residence: which requests these are by themselves, and what an exchange of theirs does otherwise. They read and
write as all others do.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Any, ClassVar

from ..facts import ENDED
from .exchange import Exchange
from .headers import HeaderList
from .messages import Message

# W3C Fetch, section 2.2.7: a structured item, with parameters such as prerender. No script can set it.
PREFETCH = re.compile(rb"[ \t]*prefetch[ \t]*(?:;|\Z)")


def is_speculative(headers: HeaderList) -> bool:
    """Return whether a browser loads a page that its user may never look at."""
    return any(name == b"sec-purpose" and PREFETCH.match(value) for name, value in headers)


class PassiveExchange(Exchange):
    """One passive request: it moves no last access, and keeps no session alive by running.

    Its record counts as a WebSocket's does: it is not evicted, but it idles out.
    """

    __slots__ = ()

    passive: ClassVar[bool] = True

    def hold(self) -> None:
        if self.held is not None:
            self.let_go(self.held)
        self.held = record = None if self.phase == ENDED else self.record
        if record is not None:
            self.host.runs.requests.add(self)
            record.sockets += 1

    def let_go(self, record: Any) -> None:
        self.host.runs.requests.discard(self)
        record.sockets -= 1

    def on_start(self, message: Message) -> Awaitable[None]:
        """Run the save point of the start. The fastest way there moves the last access, so it must not be taken."""
        if self.accessed and self.host.at_once is not None:
            self.wishes()  # for nothing; it goes the way of verbs
        return super().on_start(message)
