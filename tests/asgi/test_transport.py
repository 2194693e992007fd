"""The token in a header: U10 of SECURITY, and the rules of tokens and cookies (K, P) on the header."""

from __future__ import annotations

from typing import Any

import pytest
from apps import OTHER, SECRET, SpyStore, ask, cookie, page, site, talk, token_of, wrap
from driver import Browser, in_loop
from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.crypto.tokens import KeyRing, Ticket
from fastersession.testing import Answer, Headers

NAME = b"x-session-token"
BOTH, HEADER, TURNED = (
    ("cookie", "header:X-Session-Token"),
    ("header:x-session-token",),
    ("header:x-session-token", "cookie"),
)
EMPTY: Headers = [(NAME, b"")]


def bearing(*tokens: bytes | str) -> Headers:
    return [(NAME, token.encode() if isinstance(token, str) else token) for token in tokens]


def shown(answer: Answer) -> list[bytes]:
    """Return the tokens in the header of an answer."""
    return [value for name, value in answer.headers if name == NAME]


async def begun(app: Any, target: str = "/write?name=alice") -> bytes:
    """Begin a session by the header and return its token."""
    answer = await ask(app, target, EMPTY)
    assert answer.cookies == []
    (token,) = shown(answer)
    return token


def listed(answer: Answer, name: bytes) -> list[bytes]:
    return [part.strip().lower() for each, value in answer.headers if each == name for part in value.split(b",")]


@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_u10_the_life_of_a_session_by_header(live: bool) -> None:
    """U10: it begins, is read, gets another secret and ends, all by the header, and never by a cookie."""
    app = wrap(site, store=SpyStore(live=live), transport=BOTH)
    answer = await ask(app, "/write?name=alice", EMPTY)
    (token,) = shown(answer)
    assert len(token) == 88
    assert answer.cookies == []
    assert listed(answer, b"cache-control") == [b"no-store"]
    assert listed(answer, b"vary") == [b"cookie", NAME]
    assert listed(answer, b"access-control-expose-headers") == [NAME]
    answer = await ask(app, "/read", bearing(token))
    assert (answer.json(), shown(answer), answer.cookies) == ({"name": "alice"}, [], [])
    assert listed(answer, b"vary") == [b"cookie", NAME]
    answer = await ask(app, "/login?user=me", bearing(token))
    (second,) = shown(answer)
    assert second != token
    assert answer.cookies == []
    assert (await ask(app, "/read", bearing(token))).json() == {}
    assert (await ask(app, "/read", bearing(second))).json() == {"name": "alice", "user": "me"}
    answer = await ask(app, "/logout", bearing(second))
    assert (shown(answer), answer.cookies) == ([b""], [])
    assert (await ask(app, "/read", bearing(second))).json() == {}


@pytest.mark.parametrize("live", [True, False])
@in_loop
async def test_u10_another_max_age_gives_the_same_token_again_by_header(live: bool) -> None:
    """U10, W8: a token that came in the header is issued again there, whatever cookie stands beside it."""

    async def remember(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].max_age = 3600
        await page()(scope, receive, send)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (remember if scope["path"] == "/remember" else site)(scope, receive, send)

    wrapped = wrap(app, store=SpyStore(live=live), transport=BOTH)
    token = await begun(wrapped)
    answer = await ask(wrapped, "/remember", [*bearing(token), *cookie("junk")])
    assert (shown(answer), answer.cookies) == ([token], [])


@pytest.mark.parametrize(
    ("transport", "headers", "by_header"),
    [
        (BOTH, [], False), (BOTH, EMPTY, True), (TURNED, [], True), (TURNED, EMPTY, True), (HEADER, [], True),
        (BOTH, cookie("junk"), False), (BOTH, [*cookie("junk"), *EMPTY], False), (TURNED, cookie("junk"), False),
        (HEADER, cookie("junk"), True), (BOTH, bearing("junk"), True), (BOTH, bearing("A" * 88), True),
        (BOTH, [*cookie("junk"), *bearing("A" * 88)], False), (("cookie",), EMPTY, False),
    ],
)  # fmt: skip
@in_loop
async def test_u10_where_a_new_token_goes(transport: Any, headers: Headers, by_header: bool) -> None:
    """U10: the way that a token came; without one the first way, or the header if it is sent empty; once."""
    answer = await ask(wrap(site, transport=transport), "/write?a=1", headers)
    assert (len(shown(answer)), len(answer.cookies)) == ((1, 0) if by_header else (0, 1))


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("borne", [True, False])
@in_loop
async def test_u10_the_four_pairs(kept: bool, borne: bool, live: bool, caplog: Any) -> None:
    """U10: of cookie and header both alive, neither counts, and it is told; one that is dead hides nothing."""
    caplog.set_level("DEBUG", "fastersession")
    app = wrap(site, store=SpyStore(live=live), transport=BOTH)
    by_cookie = await token_of(app, "/write?by=cookie")
    by_header = await begun(app, "/write?by=header")
    if not kept:
        await ask(app, "/logout", cookie(by_cookie))
    if not borne:
        await ask(app, "/logout", bearing(by_header))
    caplog.clear()
    both = [*cookie(by_cookie), *bearing(by_header)]
    there = {(True, False): {"by": "cookie"}, (False, True): {"by": "header"}}.get((kept, borne), {})
    answer = await ask(app, "/read", both)
    assert (answer.json(), shown(answer), answer.cookies) == (there, [], [])
    told = [record.event for record in caplog.records]
    assert told == {(True, True): ["cookie.ambiguous"], (False, False): ["session.unknown"]}.get((kept, borne), [])
    answer = await ask(app, "/login?x=1", both)
    alone = kept != borne
    assert len(shown(answer)) == (alone and borne)
    assert len(answer.cookies) == (not (alone and borne))


@in_loop
async def test_u10_one_token_both_ways_is_nobodys(caplog: Any) -> None:
    """U10: who has a token in the cookie cannot have it for the header by our doing."""
    caplog.set_level("DEBUG", "fastersession")
    store = SpyStore()
    app = wrap(site, store=store, transport=BOTH)
    token = await token_of(app)
    store.calls.clear()
    answer = await ask(app, "/login?a=1", [*cookie(token), *bearing(token)])
    assert shown(answer) == []
    assert "cookie.rejected" in [record.event for record in caplog.records]
    assert (await ask(app, "/read", cookie(token))).json() == {"name": "alice"}


@in_loop
async def test_u10_only_where_it_is_configured() -> None:
    """U10: by default a header is nothing; of another name, nothing; where only the header is taken, a cookie is."""
    store = SpyStore()
    token = await begun(wrap(site, store=store, transport=BOTH))
    for transport, sent, taken in (
        (("cookie",), bearing(token), False),
        (("cookie", "header:x-other"), bearing(token), False),
        (HEADER, cookie(token), False),
        (HEADER, bearing(token), True),
        (("cookie",), cookie(token), True),
    ):
        answer = await ask(wrap(site, store=store, transport=transport), "/read", sent)
        assert answer.json() == ({"name": "alice"} if taken else {})


@in_loop
async def test_u10_a_browser_s_answers_never_show_its_token() -> None:
    """U10: who came by cookie gets no token in a header, whatever a script sends beside it."""
    for transport in (BOTH, TURNED):
        app = wrap(site, transport=transport)
        browser = Browser(app)
        await browser.get("/write?a=1", headers=cookie("junk"))
        for path in ("/login?a=2", "/write?a=3", "/login?a=4", "/logout", "/write?b=1"):
            for headers in ([], EMPTY, bearing("A" * 88), bearing("junk"), bearing("", "")):
                answer = await browser.get(path, headers=headers)
                assert not any(name == NAME for name, _ in answer.headers) or not browser.jar.values()
                tokens = [each.value for each in browser.jar.values()]
                whole = b"".join(name + value for name, value in answer.headers if name != b"set-cookie") + answer.body
                assert not any(token.encode() in whole for token in tokens)


TICKET = Ticket(bytes(range(16)), bytes(range(16, 32)))
TOKEN = KeyRing([SECRET.encode()], "sid").sign(TICKET)


@in_loop
async def test_u10_k3_k4_only_a_genuine_token_in_its_one_spelling_reaches_the_store() -> None:
    """U10: each edited character, each other length, key, cookie name, and doubled field: no session, no store call."""
    store = SpyStore()
    app = wrap(site, store=store, transport=BOTH)
    edits = [TOKEN[:place] + other + TOKEN[place + 1 :] for place in range(88) for other in (b"A", b"_", b"=", b"\xff")]
    spelt = [
        TOKEN[:-1],
        TOKEN + b"A",
        TOKEN + b"=",
        b" " + TOKEN,
        TOKEN + b" ",
        b'"' + TOKEN + b'"',
        TOKEN * 1000,
        b"\0",
    ]
    keys = [KeyRing([OTHER.encode()], "sid").sign(TICKET), KeyRing([SECRET.encode()], "__Host-sid").sign(TICKET)]
    for junk in (*(edit for edit in edits if edit != TOKEN), *spelt, *keys):
        answer = await ask(app, "/read", bearing(junk))
        assert (answer.status, answer.json(), shown(answer), answer.cookies) == (200, {}, [], [])
    for sent in (bearing(TOKEN, TOKEN), bearing(TOKEN, b""), bearing(TOKEN, b"x"), [(NAME, TOKEN + b", " + TOKEN)]):
        assert (await ask(app, "/read", sent)).json() == {}
    assert store.calls == []
    assert (await ask(app, "/read", bearing(TOKEN))).json() == {}
    assert set(store.calls) == {"load"}


@given(st.lists(st.binary(max_size=120) | st.sampled_from([b"", TOKEN, TOKEN[:87]]), max_size=4), st.booleans())
@example([b"\xff" * 88], True)
def test_u10_p7_any_bytes(values: list[bytes], with_cookie: bool) -> None:
    """U10: whatever stands in the header, nothing is raised, and a store is asked for one genuine token only."""
    # Invariant: 200, and a load if and only if the header is there once, genuine, and no other way brings the same.
    store = SpyStore()
    app = wrap(site, store=store, transport=BOTH)

    @in_loop
    async def once() -> None:
        answer = await ask(app, "/read", [*bearing(*values), *(cookie("junk") if with_cookie else [])])
        assert (answer.status, shown(answer), answer.cookies) == (200, [], [])

    once()
    assert set(store.calls) == ({"load"} if values == [TOKEN] else set())


@in_loop
async def test_u10_the_application_s_headers_are_merged() -> None:
    """U10: its Vary and its exposed headers stay, `*` of Vary too, and a header of the token's name is ours."""
    given = [
        (b"Vary", b"Accept"), (b"Access-Control-Expose-Headers", b"ETag"), (b"X-Session-Token", b"theirs"),
        (b"Cache-Control", b"public, no-transform"),
    ]  # fmt: skip

    def write(session: Any) -> None:
        session["a"] = 1

    answer = await ask(wrap(page(write, headers=given), transport=BOTH), "/", EMPTY)
    names = {name.lower(): value for name, value in answer.headers}
    assert len(names) == len(answer.headers)
    assert names[b"vary"] == b"Accept, Cookie, x-session-token"
    assert names[b"access-control-expose-headers"] == b"ETag, x-session-token"
    assert names[b"cache-control"] == b"no-store, no-transform"
    assert len(names[NAME]) == 88
    answer = await ask(wrap(page(write, headers=[(b"vary", b"*")]), transport=BOTH), "/", EMPTY)
    assert listed(answer, b"vary") == [b"*"]
    shared = ((b"x", b"y"),)
    await ask(wrap(page(write, headers=shared), transport=BOTH), "/", EMPTY)
    assert shared == ((b"x", b"y"),)


@in_loop
async def test_u10_a_plain_answer_stays_as_it_is() -> None:
    """U10: what never touched the session gets no header of ours, as ever."""
    app = wrap(site, transport=BOTH)
    token = await begun(app)
    for sent in ([], EMPTY, bearing(token)):
        answer = await ask(app, "/plain", sent)
        assert {name for name, _ in answer.headers} == {b"content-type", b"content-length"}


@in_loop
async def test_u10_a_websocket_takes_it_too() -> None:
    """U10: a client that is no browser brings it with the handshake, and gets one with the accept."""
    app = wrap(talk, transport=BOTH)
    async with Browser(app).websocket("/write", headers=EMPTY) as socket:
        answer = await socket.accepted()
        await socket.send("hello")
        await socket.receive()
        await socket.send("save")
        await socket.receive()
    (token,) = shown(answer)
    assert answer.cookies == []
    assert (await ask(app, "/read", bearing(token))).json() == {"name": "alice", "said": "hello"}


@pytest.mark.parametrize("both", [False, True])
@in_loop
async def test_u9_csrf_asks_for_the_cookie_alone(both: bool) -> None:
    """U9: no page can make a browser send the header, so a request by it passes; beside a cookie it is judged."""
    app = wrap(site, transport=BOTH, csrf="fetch-metadata")
    sent = [*bearing(await begun(app)), (b"sec-fetch-site", b"cross-site"), *(cookie("junk") if both else [])]
    answer = await ask(app, "/read", sent, method="POST")
    assert answer.status == (403 if both else 200)


@in_loop
async def test_h4_no_token_in_a_url_or_a_protocol() -> None:
    """H4: neither a query string nor `Sec-WebSocket-Protocol` brings a token."""
    app = wrap(site, transport=BOTH)
    token = (await begun(app)).decode()
    assert (await ask(app, f"/read?x-session-token={token}&sid={token}")).json() == {}
    assert (await ask(app, "/read", [(b"sec-websocket-protocol", token.encode())])).json() == {}
