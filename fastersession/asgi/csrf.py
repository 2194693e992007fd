"""Requests that a page of another site has made a browser send.

Rules of residence: a decision on the scope alone, by headers that no script can set, and the answer to what is refused.
Nothing of a session: neither it nor its store is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..events import CsrfRejected, CsrfReported
from ..log import EventLog
from .headers import HeaderList, foreign_origin, is_allowed_origin
from .messages import Send

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1; no browser sends TRACE
OWN = frozenset({b"same-origin", b"none"})  # none: the user's own doing, as a bookmark is. A sibling's is same-site
SHOWN = 200  # characters of what strangers wrote, in an event
TEXT = b"Forbidden: this request was made by a page of another site\n"


class CrossSite(NamedTuple):
    """Decides which requests are refused.

    One without a cookie of the session's name, genuine or not, can do nothing in a user's name.
    """

    find: Callable[[HeaderList], Sequence[bytes] | None]  # the cookies of that name, ``None`` if none was sent
    allowed: frozenset[tuple[str, str]]
    always: bool  # also where no such cookie came: a login form that somebody else has filled in
    only_report: bool
    events: EventLog

    def refuses(self, scope: Any) -> bool:
        """Return whether a request is refused, and tell of it."""
        if scope["method"] in SAFE:
            return False
        why = foreign_site(scope["headers"], self.allowed)
        if why is None or not (self.always or self.find(scope["headers"]) is not None):
            return False
        told = None, _shown(scope["method"]), _shown(scope["path"]), _shown(why)
        if self.only_report:
            self.events.tell_seldom(CsrfReported(*told))
            return False
        self.events.tell(CsrfRejected(*told))
        return True


def cross_site_of(
    csrf: str | None, find: Callable[[HeaderList], Sequence[bytes] | None], allowed: frozenset[tuple[str, str]],
    events: EventLog,
) -> CrossSite | None:  # fmt: skip
    """Return what the middleware's argument asks for."""
    return None if csrf is None else CrossSite(find, allowed, csrf == "all", csrf == "report", events)


def foreign_site(headers: HeaderList, allowed: frozenset[tuple[str, str]]) -> str | None:
    """Return why a request that changes something is another site's, ``None`` if it is not.

    The algorithm is that of ``http.CrossOriginProtection`` in Go 1.25. ``Sec-Fetch-Site`` (W3C Fetch Metadata, section
    2.3) decides. Browsers send none over plain http, and old ones nowhere: then the Origin has to be the host's own,
    and a client without one is no browser. What is there twice, or is no value of the specification, is foreign.
    """
    sites = [value for name, value in headers if name == b"sec-fetch-site"]
    if not sites:
        origin = foreign_origin(headers, allowed)
        return None if origin is None else f"Origin: {origin}"
    if (len(sites) == 1 and sites[0] in OWN) or is_allowed_origin(headers, allowed):
        return None
    return f"Sec-Fetch-Site: {b', '.join(sites).decode('latin-1')}"


async def refuse_forgery(send: Send) -> None:
    """Answer 403 in the application's place."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(TEXT)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": TEXT})


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
