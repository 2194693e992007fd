"""Read one cookie from raw request headers; validate and render ours.

Rules of residence: bytes in, bytes out. No http.cookies (linear time is promised here, and one odd foreign cookie
must not hide ours), no crypto, no request byte ever written to a response.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

MAX_CANDIDATES = 4
"""Cookies of our name that are looked at: browsers send at most a few (one per path and domain), an attacker more."""

MAX_COOKIE_BYTES = 64 * 1024
"""Total of all Cookie headers. h11 stops at 64 KiB for a whole request head; no browser comes near."""

TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2, the grammar of a cookie name
PATH = re.compile(r"/[\x21-\x3a\x3c-\x7e]*")  # RFC 6265bis section 4.1.1: av-octets; a space would be trimmed away
LABEL = r"[0-9A-Za-z](?:[0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
DOMAIN = re.compile(rf"\.?{LABEL}(?:\.{LABEL})*")  # RFC 1034 section 3.5, and the dot of RFC 2109, which says nothing
MAX_ATTRIBUTE = 1024  # RFC 6265bis section 5.6: user agents ignore a longer attribute value
MAX_NAME = 256  # with an 88-byte value far below the 4096 bytes that user agents keep (RFC 6265bis section 5.7)
LONGEST_KEPT = 400 * 86400  # seconds: user agents keep no cookie for longer (RFC 6265bis section 5.5)
MAX_AGE_LIMIT = 10**10  # seconds: three centuries, what a clock in any user agent can still add

SAME_SITE = {"lax": "Lax", "strict": "Strict", "none": "None"}
PREFIXES = ("__Host-", "__Secure-", "__Http-", "__Host-Http-")  # RFC 6265bis section 4.1.3 and its successors


class CookieFinder:
    """Finds the values of one cookie name in raw ASGI headers, in linear time and without copying the rest.

    A name counts at the start of a Cookie field, or after ``;``, as exact bytes: no decoding, no case folding, no
    quotes (RFC 6265bis section 5.8.3 is what user agents send). Optional white space (RFC 9110 section 5.6.3) around
    the pair is no part of it, as proxies and hand-written clients put it there; around ``=`` it is. ``usual`` is the
    length of the value in a field that holds our cookie alone, which is found without a search.
    """

    __slots__ = ("_alone", "_prefix", "_search", "_skip")

    def __init__(self, name: str, usual: int = 0) -> None:
        self._prefix = name.encode("ascii") + b"="
        self._skip = len(self._prefix)
        self._alone = self._skip + usual
        self._search = re.compile(rb"(?:\A|;)[ \t]*" + re.escape(self._prefix) + rb"([^;]*)").finditer

    def find(self, headers: Iterable[tuple[bytes, bytes]]) -> Sequence[bytes] | None:
        """Return up to ``MAX_CANDIDATES`` values in the order sent.

        ``None`` if the cookie was not sent; an empty sequence if it is not looked for in so many bytes.
        """
        field = None
        for name, value in headers:
            if name == b"cookie":
                if field is not None:
                    return self._find_in_all(headers)
                field = value
        if field is None:
            return None
        if len(field) == self._alone and field.startswith(self._prefix):
            return (field[self._skip :],)
        return self._values(field) or None if len(field) <= MAX_COOKIE_BYTES else ()

    def _find_in_all(self, headers: Iterable[tuple[bytes, bytes]]) -> Sequence[bytes] | None:
        fields = [value for name, value in headers if name == b"cookie"]
        if sum(map(len, fields)) > MAX_COOKIE_BYTES:
            return ()
        found = [value for field in fields for value in self._values(field)]
        return found[:MAX_CANDIDATES] or None

    def _values(self, field: bytes) -> Sequence[bytes]:
        at = field.find(self._prefix)
        if at < 0:
            return ()
        value = at + self._skip
        if field.find(self._prefix, value) >= 0:  # else it is there once, as usual: C speed without a search
            return [match[1].rstrip(b" \t") for match in islice(self._search(field), MAX_CANDIDATES)]
        if field[field.rfind(b";", 0, at) + 1 : at].strip(b" \t"):
            return ()
        end = field.find(b";", value)
        return ((field[value:] if end < 0 else field[value:end]).rstrip(b" \t"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CookiePolicy:
    """The attributes of the session cookie as a user gave them; render only when there are no ``faults()``."""

    name: Any
    path: Any = "/"
    domain: Any = None
    secure: Any = True
    http_only: Any = True
    same_site: Any = "lax"
    max_age: Any = 0
    partitioned: Any = False

    def faults(self) -> list[str]:
        """Name each argument that breaks the grammar of RFC 6265bis, or a rule of its prefix, with the remedy."""
        return [*self._grammar_faults(), *self._prefix_faults(), *self._type_faults()]

    def _grammar_faults(self) -> Iterable[str]:
        if not (isinstance(self.name, str) and TOKEN.fullmatch(self.name) and len(self.name) <= MAX_NAME):
            yield f"session_cookie: must be an RFC 9110 token (letters, digits, - and _), at most {MAX_NAME} long"
        if not (isinstance(self.path, str) and PATH.fullmatch(self.path) and len(self.path) <= MAX_ATTRIBUTE):
            yield "path: must start with '/' and hold visible ASCII without ';', for instance '/'"
        if self.domain is not None and not (
            isinstance(self.domain, str) and DOMAIN.fullmatch(self.domain) and len(self.domain.removeprefix(".")) <= 253
        ):
            yield "domain: must be a host name, for instance 'example.org', or None"
        if self.same_site is not None and (
            not isinstance(self.same_site, str) or self.same_site.lower() not in SAME_SITE
        ):
            yield "same_site: must be 'lax', 'strict', 'none' or None"

    def _prefix_faults(self) -> Iterable[str]:
        if not isinstance(self.name, str):
            return
        lowered = self.name.lower()
        for prefix in PREFIXES:
            if lowered.startswith(prefix.lower()) and not self.name.startswith(prefix):
                yield f"session_cookie: the prefix is spelt {prefix!r}, exactly so"
                return
        if self.name.startswith("__Host-") and (self.path != "/" or self.domain is not None):
            yield "session_cookie: the prefix '__Host-' needs path='/' and domain=None"
        if self.name.startswith(PREFIXES) and not self.secure:
            yield "session_cookie: a name with a '__…-' prefix needs secure=True; without it take a name like 'sid'"
        if self.name.startswith(("__Http-", "__Host-Http-")) and not self.http_only:
            yield "session_cookie: the prefixes '__Http-' and '__Host-Http-' need http_only=True"

    def _type_faults(self) -> Iterable[str]:
        for name in ("secure", "http_only", "partitioned"):
            if not isinstance(getattr(self, name), bool):
                yield f"{name}: must be True or False"
        if isinstance(self.max_age, bool) or not isinstance(self.max_age, int) or not 0 <= self.max_age < MAX_AGE_LIMIT:
            yield "max_age: must be a whole number of seconds, 0 or more (0: as long as the browser is open)"
        if self.partitioned is True and self.secure is False:
            yield "partitioned: user agents accept it only with secure=True"

    def template(self) -> tuple[bytes, bytes]:
        """Return what stands before and after the value in our Set-Cookie header."""
        return f"{self.name}=".encode(), self.after_token(self.max_age)

    def after_token(self, max_age: int) -> bytes:
        """Return what stands after the value of a cookie with this Max-Age; 0 is none."""
        age = f"; Max-Age={max_age}" if max_age else ""
        return f"{age}{self._attributes()}".encode()

    def cleared(self) -> bytes:
        """Return the Set-Cookie value that removes the cookie: all attributes again (RFC 6265bis section 5.7)."""
        return f"{self.name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT{self._attributes()}".encode()

    def _attributes(self) -> str:
        parts = [f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain.removeprefix('.')}")  # RFC 6265bis section 5.6.3
        parts += ["Secure"] * self.secure + ["HttpOnly"] * self.http_only
        if self.same_site is not None:
            parts.append(f"SameSite={SAME_SITE[self.same_site.lower()]}")
        parts += ["Partitioned"] * self.partitioned
        return "".join(f"; {part}" for part in parts)
