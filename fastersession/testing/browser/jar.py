"""A browser's cookies: a Set-Cookie line in its parts, and a jar that keeps and returns cookies.

Rules of residence: the client's side of cookies, on the standard library's jar; nothing of the code under test. So a
cookie that only we would accept is refused.
"""

from __future__ import annotations

import copy
import email.message
import email.utils
import http.cookiejar
import time
import urllib.request
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

Headers = list[tuple[bytes, bytes]]


@dataclass
class Cookie:
    """One Set-Cookie line in its parts. Names of attributes are lowered; a flag has the value ``""``."""

    name: str
    value: str
    attributes: dict[str, str]

    @classmethod
    def parse(cls, line: bytes) -> Cookie:
        """Return the parts of a line, which may be any bytes."""
        pair, *rest = line.decode("latin-1").split(";")
        name, _, value = pair.strip().partition("=")
        split = (part.strip().partition("=") for part in rest)
        return cls(name, value, {key.lower(): given for key, _, given in split})

    @property
    def expired(self) -> bool:
        """Whether the line removes the cookie. Max-Age decides; without one, Expires (RFC 6265 section 5.3, step 3)."""
        if "max-age" in self.attributes:
            return int(self.attributes["max-age"]) <= 0
        if "expires" in self.attributes:
            return email.utils.parsedate_to_datetime(self.attributes["expires"]).timestamp() <= time.time()
        return False

    @property
    def acceptable(self) -> bool:
        """Whether a browser takes it: its prefix may forbid that (RFC 6265bis section 4.1.3)."""
        secure, path, domain = (self.attributes.get(key) for key in ("secure", "path", "domain"))
        if self.name.startswith("__Host-"):
            return secure is not None and path == "/" and domain is None
        return secure is not None or not self.name.startswith("__Secure-")

    def line(self) -> str:
        """Return the Set-Cookie line again."""
        parts = (f"{name}={value}" if value else name for name, value in self.attributes.items())
        return "; ".join([f"{self.name}={self.value}", *parts])


class Jar(MutableMapping[str, Cookie]):
    """The cookies of one browser, by name: ``http.cookiejar``, with the further rules of browsers.

    Secure cookies go to https and wss only, host-only cookies to their host only, and each to its path. Max-Age and
    Expires count in real time, not by a test's clock.

    :param url: the origin for ``take`` and ``header`` without an address.
    """

    def __init__(self, url: str = "https://testserver/") -> None:
        self.url = url
        self._kept = http.cookiejar.CookieJar(_Policy(strict_ns_domain=http.cookiejar.DefaultCookiePolicy.DomainStrict))

    def take(self, headers: Iterable[tuple[bytes, bytes]], url: str | None = None) -> None:
        """Keep and remove cookies as the headers of an answer from ``url`` say."""
        lines = email.message.Message()
        for name, value in headers:
            if name.lower() == b"set-cookie":
                lines["Set-Cookie"] = value.decode("latin-1")
        if lines:
            response: Any = SimpleNamespace(info=lambda: lines)
            self._kept.extract_cookies(response, _request(url or self.url))

    def header(self, url: str | None = None) -> Headers:
        """Return the Cookie header of a request to ``url``: a list of one pair, or an empty one."""
        request = _request(url or self.url)
        self._kept.add_cookie_header(request)
        sent = request.get_header("Cookie")
        return [] if sent is None else [(b"cookie", sent.encode("latin-1"))]

    def copy(self) -> Jar:
        """Return another jar with the same cookies."""
        twin = Jar(self.url)
        for cookie in self._kept:
            twin._kept.set_cookie(copy.copy(cookie))
        return twin

    def __getitem__(self, name: str) -> Cookie:
        return _shown(self._find(name))

    def __setitem__(self, name: str, cookie: Cookie) -> None:
        self.pop(name, None)
        self.take([(b"set-cookie", cookie.line().encode("latin-1"))])

    def __delitem__(self, name: str) -> None:
        kept = self._find(name)
        self._kept.clear(kept.domain, kept.path, kept.name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(cookie.name for cookie in self._kept))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _find(self, name: str) -> http.cookiejar.Cookie:
        for cookie in self._kept:
            if cookie.name == name:
                return cookie
        raise KeyError(name)


class _Policy(http.cookiejar.DefaultCookiePolicy):
    def set_ok(self, cookie: http.cookiejar.Cookie, request: urllib.request.Request) -> bool:
        """Return whether a browser keeps the cookie."""
        return _shown(cookie).acceptable and super().set_ok(cookie, request)


def _request(url: str) -> urllib.request.Request:
    scheme, _, rest = url.partition("://")
    return urllib.request.Request(f"{ {'ws': 'http', 'wss': 'https'}.get(scheme, scheme) }://{rest}")  # noqa: S310 - opens nothing


def _shown(kept: http.cookiejar.Cookie) -> Cookie:
    attributes = {"path": kept.path} | ({"domain": kept.domain} if kept.domain_specified else {})
    flags = {"secure": ""} if kept.secure else {}
    rest: dict[str, str | None] = vars(kept)["_rest"]
    return Cookie(kept.name, kept.value or "", attributes | flags | {k.lower(): v or "" for k, v in rest.items()})
