"""Requests that another site has made a browser send: U9 of SECURITY."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from apps import SpyStore, ask, cookie, page, site, talk, token_of, wrap
from driver import Browser, in_loop
from hypothesis import example, given
from hypothesis import strategies as st
from stores import shorten

from fastersession.asgi.csrf import SHOWN, foreign_site
from fastersession.asgi.headers import normal_origin
from fastersession.log import HOSTILE_A_MINUTE
from fastersession.testing import Answer, Headers

HOST = b"chat.example.org:8443"
OWN, FRIEND, EVIL = b"https://chat.example.org:8443", b"https://friend.example.net", b"https://evil.example"
ALLOWED = ["https://friend.example.net"]

# (Sec-Fetch-Site, each that is sent; Origin, likewise; whether the request is foreign)
TABLE: list[tuple[list[bytes], list[bytes], bool]] = [
    ([b"same-origin"], [OWN], False),
    ([b"same-origin"], [], False),
    ([b"same-origin"], [EVIL], False),  # no browser says so: what says most decides
    ([b"none"], [], False),
    ([b"none"], [b"null"], False),
    ([b"same-site"], [b"https://evil.chat.example.org:8443"], True),
    ([b"same-site"], [OWN], True),
    ([b"same-site"], [], True),
    ([b"cross-site"], [EVIL], True),
    ([b"cross-site"], [], True),
    ([b"cross-site"], [b"null"], True),
    ([b"cross-site"], [OWN], True),  # the same host over plain http
    ([b"cross-site"], [FRIEND], False),
    ([b"same-site"], [FRIEND], False),
    ([b"cross-site"], [FRIEND, FRIEND], True),
    ([b"cross-site"], [FRIEND + b":8443"], True),
    ([b"same-origin", b"same-origin"], [], True),
    ([b"same-origin", b"cross-site"], [OWN], True),
    ([b"same-origin, same-origin"], [], True),
    ([b"same-origin;x"], [], True),
    ([b"Same-Origin"], [], True),
    ([b'"same-origin"'], [], True),
    ([b""], [], True),
    ([b"same-originally"], [], True),
    ([b"nonesuch"], [], True),
    ([b"\xff"], [], True),
    ([], [], False),
    ([], [OWN], False),
    ([], [OWN.upper()], False),
    ([], [b"http://chat.example.org:8443"], False),  # TLS may end at a proxy, so Host has no scheme
    ([], [b"https://chat.example.org"], True),
    ([], [b"https://evil.chat.example.org:8443"], True),
    ([], [EVIL], True),
    ([], [b"null"], True),
    ([], [b""], True),
    ([], [FRIEND], False),
    ([], [OWN, OWN], True),
    ([], [OWN, EVIL], True),
    ([], [OWN + b" " + EVIL], True),
]


def headers(sites: list[bytes], origins: list[bytes], *hosts: bytes) -> Headers:
    named = ((b"sec-fetch-site", sites), (b"origin", origins), (b"host", hosts or [HOST]))
    return [(name, value) for name, values in named for value in values]


def refusal(answer: Answer) -> bool:
    """Return whether an answer is the refusal, which is always the same one."""
    if answer.status != 403:
        return False
    names = dict(answer.headers)
    assert names[b"cache-control"] == b"no-store"
    assert names[b"content-type"] == b"text/plain; charset=utf-8"
    assert names[b"content-length"] == str(len(answer.body)).encode()
    assert b"another site" in answer.body
    assert (answer.cookies, b"vary" in names) == ([], False)
    return True


@pytest.mark.parametrize(("sites", "origins", "foreign"), TABLE)
@pytest.mark.parametrize("csrf", ["fetch-metadata", "all", "report"])
@in_loop
async def test_u9_the_table(
    csrf: str,
    sites: list[bytes],
    origins: list[bytes],
    foreign: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """U9: what is foreign is refused before application and store, where it changes something and a cookie came."""
    caplog.set_level("DEBUG", "fastersession")
    shorten(monkeypatch, HOSTILE_A_MINUTE=100)  # all that happens here is told
    ran: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ran.append(scope["method"])
        await site(scope, receive, send)

    store = SpyStore()
    token = await token_of(wrap(site, store=store))
    ours = wrap(app, store=store, csrf=csrf, allowed_origins=ALLOWED)
    for sent, comes in ((cookie(token), True), (cookie(b"junk"), True), (cookie(token, name=b"other"), False)):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "get", "FROB"):
            store.calls.clear(), ran.clear(), caplog.clear()
            answer = await ask(ours, "/read", [*headers(sites, origins), *sent], method=method)
            judged = foreign and method not in ("GET", "HEAD", "OPTIONS") and (comes or csrf == "all")
            refused = judged and csrf != "report"
            assert refusal(answer) == refused
            assert ran == [method] * (not refused)
            assert store.calls == ["load"] * (not refused and sent == cookie(token))
            told = [(each.levelname, each.event) for each in caplog.records]  # type: ignore[attr-defined]
            level = "WARNING" if csrf == "report" else "DEBUG"
            assert ((level, "csrf.rejected") in told) == judged


@in_loop
async def test_u9_a_request_of_this_origin_passes_on_every_host() -> None:
    """U9: a host that is missing, doubled or another's makes the Origin foreign, where it has to decide."""
    ours = wrap(page(), csrf="all")
    for hosts, foreign in (([HOST], False), ([HOST, HOST], True), ([b"evil.example"], True)):
        answer = await ask(ours, "/", headers([], [OWN], *hosts), method="POST")
        assert refusal(answer) == foreign
    assert refusal(await ask(ours, "/", [(b"origin", OWN)], method="POST"))


@in_loop
async def test_u9_by_default_nothing_is_judged() -> None:
    """U9: without the argument nothing changes: CSRF is SameSite's, as ever."""
    browser = Browser(wrap(site))
    await browser.get("/write?a=1")
    answer = await browser.post("/read", headers=headers([b"cross-site"], [EVIL]))
    assert answer.json() == {"a": "1"}


@in_loop
async def test_u9_cookies_that_are_too_many_to_look_at_are_a_cookie() -> None:
    """U9: over 64 KiB of cookies nobody looks, so the request may have one: it is judged."""
    sent = [(b"cookie", b"a=" + b"x" * 70_000), *headers([b"cross-site"], [EVIL])]
    assert refusal(await ask(wrap(site, csrf="fetch-metadata"), "/read", sent, method="POST"))


@in_loop
async def test_u9_what_is_excluded_is_not_judged() -> None:
    """U9: a webhook's path, and a request that `skip_session_header` names, have no session to be abused."""
    hook = {"header_name": "x-hook", "header_value": "*"}
    seen: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append("session" in scope)
        await page()(scope, receive, send)

    ours = wrap(app, csrf="all", exclude=["/hook"], skip_session_header=hook)
    foreign = headers([b"cross-site"], [EVIL])
    assert refusal(await ask(ours, "/", foreign, method="POST"))
    assert (await ask(ours, "/hook", foreign, method="POST")).status == 200
    assert (await ask(ours, "/", [*foreign, (b"x-hook", b"1")], method="POST")).status == 200
    assert seen == [False, False]


@in_loop
async def test_u9_a_websocket_has_its_own_check() -> None:
    """U9: a handshake is judged by its Origin, as ever, never by 403; `Sec-Fetch-Site` says nothing."""
    browser = Browser(wrap(talk, csrf="all", allowed_origins=ALLOWED), host=HOST.decode())
    await browser.get("/write?said=secret")
    for origin, answer in ((OWN, "secret"), (FRIEND, "secret"), (EVIL, "None")):
        sent = [(b"origin", origin), (b"sec-fetch-site", b"cross-site")]
        async with browser.websocket("/", headers=sent) as socket:
            await socket.accepted()
            await socket.send("ping")
            assert await socket.receive() == answer


@in_loop
async def test_u9_each_middleware_asks_for_its_own_cookie() -> None:
    """U9: of two middlewares each judges where its own cookie came."""
    inner = wrap(page(), session_cookie="inner", scope_key="inner", session_object="inner", csrf="fetch-metadata")
    both = wrap(inner, session_cookie="outer")
    foreign = headers([b"cross-site"], [EVIL])
    for name, refused in ((b"outer", False), (b"inner", True)):
        answer = await ask(both, "/", [*foreign, *cookie(b"x", name=name)], method="POST")
        assert refusal(answer) == refused


@in_loop
async def test_u9_around_judges_too() -> None:
    """U9: a middleware around another application refuses what the first does; nothing is excluded there."""
    ours = wrap(page(), csrf="all", exclude=["/hook"]).around(page())
    foreign = headers([b"cross-site"], [EVIL])
    assert refusal(await ask(ours, "/hook", foreign, method="POST"))
    assert wrap(page(), exclude=["/hook"]).around(page()).gate is None


@in_loop
async def test_u9_the_event_tells_what_is_needed_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """U9: method, path and reason, cut and quoted; no cookie, no query; a few a minute, whatever the level."""
    caplog.set_level("DEBUG", "fastersession")
    sent = [*headers([b"cross-site\x1b[31m"], [EVIL]), *cookie(b"a-secret-token")]
    for csrf, level in (("fetch-metadata", logging.DEBUG), ("report", logging.WARNING)):
        caplog.clear()
        ours = wrap(page(), csrf=csrf)
        for _ in range(3 * HOSTILE_A_MINUTE):
            await ask(ours, "/transfer" + "é\n" * 2_000 + "?code=secret", sent, method="POST")
        told = [each for each in caplog.records if each.event == "csrf.rejected"]  # type: ignore[attr-defined]
        assert [each.levelno for each in told] == [level] * min(len(told), HOSTILE_A_MINUTE)
        assert 0 < len(told) <= HOSTILE_A_MINUTE
        text = told[0].getMessage()
        assert "'POST' '/transfer" in text
        assert "'Sec-Fetch-Site: cross-site\\x1b[31m'" in text
        assert ("would be refused" in text) == (csrf == "report")
        assert "secret" not in text
        assert text.isprintable()
        assert len(text) < 6 * SHOWN


VALUES = st.sampled_from([b"same-origin", b"same-site", b"cross-site", b"none", b"", OWN, FRIEND, EVIL, b"null", HOST])
NAMES = st.sampled_from([b"sec-fetch-site", b"origin", b"host", b"referer"])


@given(st.lists(st.tuples(NAMES, VALUES | st.binary(max_size=20)), max_size=6))
@example([(b"sec-fetch-site", b"cross-site"), (b"origin", FRIEND)])
@example([(b"origin", OWN), (b"host", HOST)])
def test_u9_only_three_things_make_a_request_this_sites_own(sent: Headers) -> None:
    """U9: an own Sec-Fetch-Site; or none, and no Origin or the host's; or an allowed Origin. Bytes of any kind."""
    # Invariant: whatever was sent, nothing is raised, and what passes has exactly one of these reasons.
    by: dict[bytes, list[bytes]] = {name: [v for n, v in sent if n == name] for name in (b"sec-fetch-site", b"origin")}
    sites, origins, hosts = by[b"sec-fetch-site"], by[b"origin"], [v for n, v in sent if n == b"host"]
    friend = len(origins) == 1 and origins[0].lower() == FRIEND
    if sites:
        own = sites in ([b"same-origin"], [b"none"])
    elif len(origins) == len(hosts) == 1:
        scheme, _, authority = origins[0].lower().partition(b"://")
        written = scheme + b"://" + hosts[0].lower()
        own = bool(authority) and normal_origin(written.decode("latin-1")) is not None and (
            normal_origin(origins[0].decode("latin-1")) == normal_origin(written.decode("latin-1"))
        )  # fmt: skip
    else:
        own = not origins
    assert (foreign_site(sent, frozenset({("https", "friend.example.net")})) is None) == (own or friend)
