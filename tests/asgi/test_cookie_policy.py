"""The cookie policy by itself: W1, W2, W3 and W5 of SECURITY."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastersession.asgi.cookies import CookiePolicy
from fastersession.testing import Cookie

# --- writing ---

TOKEN = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")  # RFC 9110 5.6.2
OCTET = set(range(0x21, 0x7F)) - {ord(";")}  # RFC 6265bis 4.1.1, without white space
HOST = set(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-.")


def policy(**given: Any) -> CookiePolicy:
    return CookiePolicy(**{"name": "sid", **given})


@pytest.mark.parametrize(
    ("field", "form", "allowed"),
    [
        ("name", "s{}d", TOKEN),
        ("path", "/a{}b", OCTET),
        ("domain", "a{}b.org", HOST),
        ("same_site", "la{}", {ord("x")}),
    ],
)
def test_w1_each_byte_in_each_field(field: str, form: str, allowed: set[int]) -> None:
    """W1: each of 256 characters inside a text argument is accepted exactly when its grammar has it."""
    for code in range(256):
        faults = policy(**{field: form.format(chr(code))}).faults()
        upper = field == "same_site" and chr(code) in "xX"
        assert (faults == []) == (code in allowed or upper), (field, chr(code), faults)
        if faults:
            named = "session_cookie" if field == "name" else field
            assert all(fault.startswith(f"{named}: ") for fault in faults)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("name", ["", "s d", "sid\n", "\nsid", "sid=", "sid;", "\u017fid", "s" * 257, b"sid", None, 1]),
        ("path", ["", "a", "a/", "/ ", "/\n", "/;", "/é", "/" + "a" * 1024, b"/", None, 1]),
        ("domain", ["", ".", "..example.org", "example.org.", "a..b", "-a.org", "a-.org", "a_b.org", "a.org\n", "ä.org",
                    "a" * 64 + ".org", ".".join(["a" * 60] * 5), "example.org:80", b"a.org", 1]),
        ("same_site", ["", "Lax\n", " lax", "relaxed", "\u017ftrict", b"lax", True, 1]),
        ("max_age", [-1, 1.0, "1", True, False, None, 10**10, float("nan"), float("inf")]),
        ("secure", [None, 1, 0, "yes"]),
        ("http_only", [None, 1, 0, "yes"]),
        ("partitioned", [None, 1, 0, "yes"]),
    ],
)  # fmt: skip
def test_w1_what_breaks_the_grammar_is_a_named_fault(field: str, bad: list[Any]) -> None:
    """W1: wrong forms, lengths and types are each one fault that starts with the argument's name."""
    for value in bad:
        faults = policy(**{field: value}).faults()
        named = "session_cookie" if field == "name" else field
        assert [fault for fault in faults if fault.startswith(f"{named}: ")], (value, faults)


@pytest.mark.parametrize(
    ("field", "longest", "longer"),
    [
        ("name", "s" * 256, "s" * 257),
        ("path", "/" + "a" * 1023, "/" + "a" * 1024),
        ("domain", ".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 62])),
        ("domain", "." + ".".join(["a" * 63] * 3 + ["a" * 61]), "." + ".".join(["a" * 63] * 3 + ["a" * 62])),
        ("domain", "a" * 63, "a" * 64),
        ("max_age", 10**10 - 1, 10**10),
    ],
)
def test_w1_each_limit_is_reached_and_not_passed(field: str, longest: Any, longer: Any) -> None:
    """W1: what is as long as its limit is accepted, what is one longer is not."""
    assert policy(**{field: longest}).faults() == []
    assert len(policy(**{field: longer}).faults()) == 1


TEXTS = [
    ({"name": "s d"}, "session_cookie: must be an RFC 9110 token (letters, digits, - and _), at most 256 long"),
    ({"path": "app"}, "path: must start with '/' and hold visible ASCII without ';', for instance '/'"),
    ({"domain": "..a"}, "domain: must be a host name, for instance 'example.org', or None"),
    ({"same_site": "no"}, "same_site: must be 'lax', 'strict', 'none' or None"),
    ({"name": "__host-sid"}, "session_cookie: the prefix is spelt '__Host-', exactly so"),
    ({"name": "__Host-sid", "path": "/app"}, "session_cookie: the prefix '__Host-' needs path='/' and domain=None"),
    ({"name": "__Secure-sid", "secure": False},
     "session_cookie: a name with a '__…-' prefix needs secure=True; without it take a name like 'sid'"),
    ({"name": "__Http-sid", "http_only": False},
     "session_cookie: the prefixes '__Http-' and '__Host-Http-' need http_only=True"),
    ({"secure": 1}, "secure: must be True or False"),
    ({"max_age": -1}, "max_age: must be a whole number of seconds, 0 or more (0: as long as the browser is open)"),
    ({"partitioned": True, "secure": False}, "partitioned: user agents accept it only with secure=True"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_w1_each_fault_tells_its_remedy(given: dict[str, Any], text: str) -> None:
    """W1: the argument as its user gives it, what is wrong, and what to do."""
    assert policy(**given).faults() == [text]


VALID: dict[str, list[Any]] = {
    "name": ["sid", "__Host-sid", "__Secure-x", "a!#$%&*"],
    "path": ["/", "/app", "/a,b=c\"d"], "domain": [None, "a.org"],
    "same_site": [None, "lax", "NONE", "Strict"], "max_age": [0, 1, 10**9], "secure": [True, True, False],
    "http_only": [True, False], "partitioned": [True, False],
}  # fmt: skip
JUNK = st.one_of(st.text(max_size=6), st.none(), st.booleans(), st.integers(), st.binary(max_size=3))
MIXED = {name: st.one_of(*[st.sampled_from(good)] * 9, JUNK) for name, good in VALID.items()}


@given(st.fixed_dictionaries(MIXED))
def test_w1_a_policy_without_faults_renders_safely(given: dict[str, Any]) -> None:
    """W1: whatever is given: faults, or header bytes that hold no byte that could end the line or an attribute."""
    # Invariant: faults() never raises; without faults, the line splits at "; " into known attributes only.
    chosen = CookiePolicy(**given)
    if chosen.faults():
        return
    before, after = chosen.template()
    for line in (before + b"v" + after, chosen.cleared()):
        assert set(line) <= set(range(0x20, 0x7F))
        assert {part.partition(b"=")[0] for part in line.split(b"; ")[1:]} <= {
            *(b"Max-Age", b"Expires", b"Path", b"Domain", b"Secure", b"HttpOnly", b"SameSite", b"Partitioned")
        }


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("path", ["/", "/app"])
@pytest.mark.parametrize("domain", [None, "example.org"])
def test_w2_prefixes_need_what_they_promise(secure: bool, path: str, domain: str | None) -> None:
    """W2: __Host- needs Secure, Path=/ and no Domain; __Secure- needs Secure; a plain name needs nothing."""
    attributes = {"secure": secure, "path": path, "domain": domain}
    assert (policy(name="__Host-sid", **attributes).faults() == []) == (secure and path == "/" and domain is None)
    assert (policy(name="__Secure-sid", **attributes).faults() == []) == secure
    assert policy(name="sid", **attributes).faults() == []


@pytest.mark.parametrize("http_only", [True, False])
@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("path", ["/", "/app"])
def test_w2_the_http_prefixes_need_http_only_too(http_only: bool, secure: bool, path: str) -> None:
    """W2: __Http- needs Secure and HttpOnly, __Host-Http- what __Host- needs as well; other names need no HttpOnly."""
    attributes = {"http_only": http_only, "secure": secure, "path": path}
    assert (policy(name="__Http-sid", **attributes).faults() == []) == (http_only and secure)
    assert (policy(name="__Host-Http-sid", **attributes).faults() == []) == (http_only and secure and path == "/")
    assert (policy(name="__Host-sid", **attributes).faults() == []) == (secure and path == "/")


@pytest.mark.parametrize("name", ["__host-sid", "__HOST-sid", "__secure-sid", "__SECURE-sid", "__sECURE-sid"])
def test_w2_misspelt_prefixes_are_errors(name: str) -> None:
    """W2: browsers may honour a prefix in any case (RFC 6265bis 5.4), so a misspelt one helps nobody."""
    assert policy(name=name).faults()


SNAPSHOTS = [
    ({"name": "__Host-sid"}, b"; Path=/; Secure; HttpOnly; SameSite=Lax"),
    ({"secure": False}, b"; Path=/; HttpOnly; SameSite=Lax"),
    ({"http_only": False, "same_site": "STRICT"}, b"; Path=/; Secure; SameSite=Strict"),
    ({"same_site": None}, b"; Path=/; Secure; HttpOnly"),
    ({"same_site": "none", "partitioned": True}, b"; Path=/; Secure; HttpOnly; SameSite=None; Partitioned"),
    ({"max_age": 60, "path": "/app"}, b"; Max-Age=60; Path=/app; Secure; HttpOnly; SameSite=Lax"),
    ({"domain": "example.org"}, b"; Path=/; Domain=example.org; Secure; HttpOnly; SameSite=Lax"),
    ({"domain": ".example.org"}, b"; Path=/; Domain=example.org; Secure; HttpOnly; SameSite=Lax"),
]


@pytest.mark.parametrize(("given", "rendered"), SNAPSHOTS)
def test_w3_the_set_cookie_line(given: dict[str, Any], rendered: bytes) -> None:
    """W3: the attributes, their spelling and their order; Max-Age is never the last."""
    chosen = policy(**given)
    assert chosen.faults() == []
    assert chosen.template() == (chosen.name.encode() + b"=", rendered)
    assert not rendered.rsplit(b";", 1)[-1].startswith(b" Max-Age")


@pytest.mark.parametrize("given", [given for given, _ in SNAPSHOTS])
def test_w5_clearing_repeats_all_attributes(given: dict[str, Any]) -> None:
    """W5: the same attributes as setting, an empty value, Max-Age=0 and a past Expires."""
    chosen = policy(**given)
    before, after = chosen.template()
    issued, cleared = Cookie.parse(before + b"v" + after), Cookie.parse(chosen.cleared())
    assert (cleared.name, cleared.value, cleared.attributes.pop("max-age")) == (chosen.name, "", "0")
    assert parsedate_to_datetime(cleared.attributes.pop("expires")).timestamp() <= 0
    issued.attributes.pop("max-age", None)
    assert cleared.attributes == issued.attributes
