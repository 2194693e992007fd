"""What is decided of a call before a session is opened for it, where anything is configured that decides.

Rules of residence: the order of those decisions. Each of them is a module of its own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .csrf import CrossSite, refuse_forgery
from .exchange import Exchange
from .passive import PassiveExchange, is_speculative
from .selection import Selection


class Gate(NamedTuple):
    """What stands between the server and a session: ``None`` for what is not configured."""

    exclusion: Selection | None
    cross_site: CrossSite | None
    passive: Selection | None  # speculative loads are passive, too, where this is not ``None``
    apart: Any = None  # a ``detach.Apart``

    async def admit(
        self, usual: type[Exchange], app: Any, scope: Any, receive: Any, send: Any
    ) -> type[Exchange] | None:
        """Return the class of exchange that a call gets, ``usual`` or another; ``None``: no session, and it is over."""
        if self.apart is not None and self.apart.covers(scope):
            await self.apart.run(scope, receive, send)
            return None
        if self.exclusion is not None and self.exclusion.covers(scope):
            await app(scope, receive, send)
            return None
        if self.cross_site is not None and scope["type"] == "http" and self.cross_site.refuses(scope):
            await refuse_forgery(send)
            return None
        if self.passive is not None and (is_speculative(scope["headers"]) or self.passive.covers(scope)):
            return PassiveExchange
        return usual

    def open(self) -> Gate | None:
        """Return this gate without the exclusion, ``None`` if nothing is left of it."""
        return gate_of(None, self.cross_site, self.passive)


def gate_of(exclusion: Selection | None, cross_site: CrossSite | None, passive: Selection | None) -> Gate | None:
    """Return a gate, ``None`` if it would let all pass."""
    gate = Gate(exclusion if exclusion is not None and any(exclusion) else None, cross_site, passive)
    return gate if any(part is not None for part in gate) else None
