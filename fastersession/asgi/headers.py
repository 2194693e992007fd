"""The response headers that a session changes, and the origin of a WebSocket.

Rules of residence: pure functions over raw ASGI header lists. What the application gave is never changed in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

HeaderList = list[tuple[bytes, bytes]]
VARY = (b"vary", b"Cookie")
NO_STORE = (b"cache-control", b"no-store")
VARY_OR_CACHE_CONTROL = frozenset({len(b"vary"), len(b"cache-control")})
QUOTED = rb'"(?:[^"\\]|\\.)*'  # RFC 9110 section 5.6.4, but for the quote at its end
MEMBER = re.compile(rb'(?:[^,"]|' + QUOTED + rb'"?)+', re.DOTALL)  # of a list: a comma in a quoted string parts nothing
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
DIRECTIVE = re.compile(rb"(" + TOKEN + rb")(?:=(?:" + TOKEN + rb"|" + QUOTED + rb'"))?')  # RFC 9111 section 5.2
# What lets a cache store, and so contradicts no-store. A cache that knows must-understand ignores a no-store beside it
# (RFC 9111 section 5.2.2.3); immutable is RFC 8246, the stale-* are RFC 5861.
STORING = re.compile(rb"(?i)no-store|public|max-age|s-maxage|immutable|must-understand|stale-.*")
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")  # RFC 6454 section 6.1
DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
KEPT_ORIGINS = 64  # in their normal form: a site has few, and each costs as much as all else of a handshake


def has_content_length(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether the length is declared, so that the response is no stream. Names may be in mixed case (Django)."""
    for name, _ in headers:  # noqa: SIM110 - a generator costs three times the loop, on every response
        if len(name) == 14 and name.lower() == b"content-length":
            return True
    return False


def with_vary(headers: HeaderList) -> HeaderList:
    """Return the headers with ``Cookie`` in Vary (RFC 9110 section 12.5.5); ``*`` says more and stays."""
    for name, _ in headers:
        if len(name) == 4 and name.lower() == b"vary":
            return _merged_vary(headers)
    return [*headers, VARY]


def _merged_vary(headers: HeaderList) -> HeaderList:
    named = [value for name, value in headers if name.lower() == b"vary" and value.strip()]
    listed = [part.strip().lower() for value in named for part in value.split(b",")]
    if b"*" in listed or b"cookie" in listed:
        return headers
    others = [header for header in headers if header[0].lower() != b"vary"]
    return [*others, (b"vary", b", ".join([*named, b"Cookie"]))]


def has_member(headers: HeaderList, name: bytes, member: bytes) -> bool:
    """Return whether a list of a response's has a member, in any case."""
    listed = [part.strip().lower() for each, value in headers if each.lower() == name for part in value.split(b",")]
    return member.lower() in listed


def merged(headers: HeaderList, name: bytes, member: bytes) -> HeaderList:
    """Return the headers with a member in that list, which is one field then; ``*`` in Vary says more and stays."""
    if has_member(headers, name, member) or (name == b"vary" and has_member(headers, name, b"*")):
        return headers
    named = [value for each, value in headers if each.lower() == name and value.strip()]
    return [*(each for each in headers if each[0].lower() != name), (name, b", ".join([*named, member]))]


def with_token(headers: HeaderList, name: bytes, token: bytes, *, is_accept: bool) -> HeaderList:
    """Return the headers with our token in the header of that name, kept from every cache, and shown to scripts.

    A header of that name which the application has set is replaced: there is one token.
    """
    headers = [*(each for each in headers if each[0].lower() != name), (name, token)]
    if is_accept:
        return headers
    given = [value for each, value in headers if each.lower() == NO_STORE[0]]
    headers = [each for each in headers if each[0].lower() != NO_STORE[0]]
    headers = merged(with_vary([*headers, (NO_STORE[0], _unstored(given))]), b"vary", name)
    return merged(headers, b"access-control-expose-headers", name)  # Fetch, section 3.3.5


def with_cookie(headers: HeaderList, set_cookie: bytes) -> HeaderList:
    """Return the headers with our Set-Cookie and ``Cookie`` in Vary, kept from every cache (RFC 9111 section 7.3)."""
    for name, _ in headers:
        if len(name) in VARY_OR_CACHE_CONTROL:  # rare, and not worth another look at all the others
            given = [value for name, value in headers if name.lower() == b"cache-control"]
            headers = with_vary([header for header in headers if header[0].lower() != b"cache-control"])
            return [*headers, (NO_STORE[0], _unstored(given)), (b"set-cookie", set_cookie)]
    return [*headers, NO_STORE, (b"set-cookie", set_cookie), VARY]


def _unstored(given: Iterable[bytes]) -> bytes:
    """Return Cache-Control values as one: ``no-store``, and every directive that agrees with it, as it was.

    ``no-transform`` above all, without which proxies buffer a stream to compress it. What is no directive by
    RFC 9111 section 5.2 is dropped: nobody knows what a cache makes of it.
    """
    members = [member.strip(b" \t") for value in given for member in MEMBER.findall(value)]
    named = [(DIRECTIVE.fullmatch(member), member) for member in members]
    return b", ".join([NO_STORE[1], *(member for match, member in named if match and not STORING.fullmatch(match[1]))])


@lru_cache(KEPT_ORIGINS)
def normal_origin(text: str) -> tuple[str, str] | None:
    """Return (scheme, authority without its default port) of an Origin in lower case; ``None`` if it is not one."""
    match = ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host if port in (None, DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"


def foreign_origin(headers: HeaderList, allowed: frozenset[tuple[str, str]]) -> str | None:
    """Return the Origin of a WebSocket handshake if it is not this host's own (RFC 6455 section 10.2), else ``None``.

    No Origin means no browser. Host has no scheme, for TLS often ends at a proxy, so it is read with the Origin's;
    X-Forwarded-* is never read, for anybody can send it.
    """
    for name, _ in headers:
        if name == b"origin":
            return _foreign(headers, allowed)
    return None


def is_allowed_origin(headers: HeaderList, allowed: frozenset[tuple[str, str]]) -> bool:
    """Return whether the request has one Origin, which is among the allowed."""
    return _origin(headers)[1] in allowed


def _foreign(headers: HeaderList, allowed: frozenset[tuple[str, str]]) -> str | None:
    origin, normal = _origin(headers)
    hosts = [value for name, value in headers if name == b"host"]
    if normal is not None:
        if normal in allowed:
            return None
        if len(hosts) == 1 and normal == normal_origin(f"{normal[0]}://{hosts[0].decode('latin-1')}"):
            return None
    return origin


def _origin(headers: HeaderList) -> tuple[str, tuple[str, str] | None]:
    """Return the first Origin, and its normal form; no form if there are several, or none."""
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    return "".join(origins[:1]), normal_origin(origins[0]) if len(origins) == 1 else None
