"""Vary, Cache-Control, Set-Cookie and origins as pure functions: H1, H2 and W6 of SECURITY."""

from __future__ import annotations

import copy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.asgi.headers import (
    foreign_origin,
    has_content_length,
    has_member,
    merged,
    normal_origin,
    with_cookie,
    with_vary,
)

NAMES = st.sampled_from([b"vary", b"Vary", b"cache-control", b"Cache-Control", b"set-cookie", b"x", b"content-length"])
VALUES = st.one_of(
    st.sampled_from([b"Cookie", b"cookie", b"*", b"Accept, Cookie", b"Accept", b"", b" , ", b"public"]),
    st.binary(max_size=6),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def members(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Every member of a list header, in lower case."""
    joined = b",".join(value for key, value in headers if key.lower() == name)
    return [part.strip().lower() for part in joined.split(b",") if part.strip()]


@given(HEADERS)
@example([(b"vary", b"*"), (b"vary", b"Accept")])
@example([(b"vary", b"")])
def test_h1_vary_is_merged(headers: list[tuple[bytes, bytes]]) -> None:
    """H1: Cookie is named in Vary exactly once more than needed, `*` is kept, all else stays as it was."""
    # Invariant: afterwards Vary has cookie or *; nothing is lost, nothing is added twice; the input is untouched.
    before = copy.copy(headers)
    varied = with_vary(headers)
    assert headers == before
    had, has = members(headers, b"vary"), members(varied, b"vary")
    assert has == (had if {b"*", b"cookie"} & set(had) else [*had, b"cookie"])
    assert [h for h in varied if h[0].lower() != b"vary"] == [h for h in headers if h[0].lower() != b"vary"]
    assert with_vary(varied) == varied


@pytest.mark.parametrize(
    ("given", "expected"),
    [(b"Accept", b"Accept, Cookie"), (b"Accept,Origin", b"Accept,Origin, Cookie"), (b"Accept,Cookie", None)],
)
def test_h1_one_vary_leaves(given: bytes, expected: bytes | None) -> None:
    """H1: under a name that HTTP/2 takes; one that has Cookie already leaves as it came."""
    headers = [(b"Vary", given)]
    assert with_vary(headers) == (headers if expected is None else [(b"vary", expected)])


@pytest.mark.parametrize("listed", [b"X-One,X-Two", b"x-one , x-two"])
def test_h1_a_member_is_found_among_several_in_any_case(listed: bytes) -> None:
    """H1: a list that has it leaves as it came."""
    headers = [(b"Access-Control-Expose-Headers", listed)]
    name = b"access-control-expose-headers"
    assert has_member(headers, name, b"X-Two")
    assert not has_member(headers, name, b"X-Three")
    assert merged(headers, name, b"X-Two") is headers


@given(HEADERS)
def test_h1_a_set_cookie_is_kept_from_every_cache(headers: list[tuple[bytes, bytes]]) -> None:
    """H1: with our Set-Cookie there is one Cache-Control that says no-store; the other headers stay in order."""
    # Invariant: one cache-control, with no-store and without public; one Set-Cookie more; Cookie in Vary; the rest is
    # the input.
    before = copy.copy(headers)
    dressed = with_cookie(headers, b"sid=x")
    assert headers == before
    ours = (b"cache-control", b"vary")
    rest = [header for header in headers if header[0].lower() not in ours]
    assert [header for header in dressed if header[0].lower() not in ours] == [*rest, (b"set-cookie", b"sid=x")]
    assert with_vary(dressed) == dressed  # says already that the answer varies
    assert len([name for name, _ in dressed if name.lower() == b"cache-control"]) == 1
    directives = members(dressed, b"cache-control")
    assert directives[0] == b"no-store"
    assert b"public" not in directives


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"content-length", True), (b"Content-Length", True), (b"CONTENT-LENGTH", True), (b"content-lengths", False),
        (b"content-digest", False),
    ],
)  # fmt: skip
def test_h1_a_declared_length_is_seen_in_any_case(name: bytes, expected: bool) -> None:
    """H1: Django sends mixed-case names; what has no content-length is taken for a stream."""
    assert has_content_length(iter([(b"x", b"y"), (name, b"1")])) is expected


# --- origins ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://example.org", ("https", "example.org")),
        ("HTTPS://EXAMPLE.org:443", ("https", "example.org")),
        ("http://example.org:80", ("http", "example.org")),
        ("wss://example.org:443", ("wss", "example.org")),
        ("http://example.org:443", ("http", "example.org:443")),
        ("http://localhost:8000", ("http", "localhost:8000")),
        ("http://[::1]:8000", ("http", "[::1]:8000")),
        ("app+x://bundle", ("app+x", "bundle")),
        *((bad, None) for bad in (
            "", "null", "example.org", "//example.org", "https:example.org", "https://", "https:///", "https://a/",
            "https://a/b", "https://a?b", "https://a#b", "https://u@a", "https://u:p@a", "https://a:", "https://a:x",
            "https://a:123456", " https://a", "https://a ", "https://a\n", "https://a https://b", "https://a,b",
            "https://ä", "https://a\0", "https://a\\b", "https://%61", "https://[::1", "https://*", "://a", "1://a",
        )),
    ],
)  # fmt: skip
def test_h2_the_grammar_of_an_origin(text: str, expected: tuple[str, str] | None) -> None:
    """H2: scheme, host, optional port (RFC 6454 section 6.1), in lower case without the default port; else nothing."""
    assert normal_origin(text) == expected


@given(st.one_of(st.text(), st.from_regex(r"(?i)[a-z+]{1,5}://[a-z0-9.\[\]:@/-]{0,12}(:[0-9]{0,6})?", fullmatch=True)))
@example("https://example.org:0443")
def test_h2_normalising_an_origin_twice_changes_nothing(text: str) -> None:
    """H2: whatever the text: no exception, and what comes out is canonical and visible ASCII."""
    # Invariant: normal(join(normal(x))) == normal(x), and x in another case gives the same.
    normal = normal_origin(text)
    if normal is None:
        return
    assert normal_origin("://".join(normal)) == normal
    assert normal_origin(text.upper()) == normal_origin(text.lower()) == normal
    assert all(33 <= ord(char) < 127 for char in "".join(normal))


def foreign(origin: str, host: str = "example.org", *allowed: str) -> bool:
    listed = frozenset(filter(None, map(normal_origin, allowed)))
    headers = [(b"origin", origin.encode("latin-1")), (b"host", host.encode("latin-1"))]
    return foreign_origin(headers, listed) is not None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://example.org", "example.org"), ("http://example.org", "example.org"),
        ("https://example.org:443", "example.org"), ("https://example.org", "example.org:443"),
        ("http://example.org", "example.org:80"), ("HTTPS://Example.ORG", "eXample.org"),
        ("http://localhost:8000", "localhost:8000"), ("http://[::1]:8000", "[::1]:8000"), ("http://[::1]", "[::1]"),
        ("https://127.0.0.1:8443", "127.0.0.1:8443"),
        ("https://xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("https://example.org:80", "example.org:80"), ("http://example.org:443", "example.org:443"),
    ],
)  # fmt: skip
def test_h2_the_own_origin_is_recognised(origin: str, host: str) -> None:
    """H2: host and port equal, default ports dropped, scheme ignored: what a browser sends on its own site."""
    assert not foreign(origin, host)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"origin", b"https://a.org")],
        [(b"origin", b"https://a.org"), (b"host", b"a.org"), (b"host", b"a.org")],
        [(b"origin", b"https://a.org"), (b"host", b"a.org"), (b"host", b"b.org")],
        [(b"origin", b"https://a.org"), (b"origin", b"https://a.org"), (b"host", b"a.org")],
        [(b"origin", b"https://b.org"), (b"x-forwarded-host", b"b.org"), (b"forwarded", b"host=b.org"),
         (b"host", b"a")],
        [(b"origin", b""), (b"host", b"")],
        [(b"origin", b"https://"), (b"host", b"")],
        [(b"origin", b"null"), (b"host", b"null")],
    ],
)  # fmt: skip
def test_h2_what_is_missing_or_doubled_is_foreign(headers: list[tuple[bytes, bytes]]) -> None:
    """H2: only one Origin and one Host can agree; no Origin at all is no browser; X-Forwarded-* is never read."""
    assert (foreign_origin(headers, frozenset()) is None) == (headers == [])


def test_h2_of_two_origins_the_first_is_told() -> None:
    """H2: both are refused, whichever is allowed."""
    assert foreign_origin([(b"origin", b"https://a"), (b"origin", b"https://b")], frozenset()) == "https://a"


def test_h2_allowed_origins_are_exact() -> None:
    """H2: a listed origin is allowed with its scheme and port, nothing near it."""
    allowed = "https://app.example.net:8443"
    assert not foreign(allowed, "example.org", allowed)
    assert not foreign(allowed.upper(), "example.org", allowed)
    for near in ("http://app.example.net:8443", "https://app.example.net", "https://x.app.example.net:8443"):
        assert foreign(near, "example.org", allowed)


@given(st.binary(max_size=30), st.binary(max_size=30))
@example(b"https://a", b"a")
def test_h2_arbitrary_origins_and_hosts(origin: bytes, host: bytes) -> None:
    """H2: any bytes in both headers: no exception; own only if the host stands literally in the origin."""
    # Invariant: not foreign implies that origin ends with the host, up to case and default ports.
    if foreign_origin([(b"origin", origin), (b"host", host)], frozenset()) is None:
        name = host.lower().removesuffix(b":80").removesuffix(b":443")
        assert origin.lower().removesuffix(b":80").removesuffix(b":443").endswith(b"://" + name)
