"""The Set-Cookie lines that leave, through the whole middleware: W3 to W8 of SECURITY."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from apps import OTHER, Clock, SpyStore, ask, cookie, page, site, token_of, wrap
from driver import Browser, in_loop

from fastersession.crypto.tokens import KeyRing, Ticket
from fastersession.testing import Answer

LAX = "; Path=/; Secure; HttpOnly; SameSite=Lax"
GONE = "; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"


def lines(answer: Answer) -> list[str]:
    """Return our Set-Cookie lines, tokens replaced."""
    found = [value.decode() for value in answer.all("set-cookie")]
    return [line.replace(c.value, "TOKEN") if c.value else line for line, c in zip(found, answer.cookies, strict=True)]


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    """Accept a WebSocket after doing what its path says."""
    session = scope["session"]
    {"/set": lambda: session.update(a=1), "/clear": session.invalidate, "/login": session.regenerate_id}[
        scope["path"]
    ]()
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


@in_loop
async def test_w3_default_cookie_lines() -> None:
    """W3: __Host-sid; Path=/; Secure; HttpOnly; SameSite=Lax for set and rotate; no Domain, no Max-Age; and cleared."""
    browser = Browser(wrap(site, secure=True), scheme="https")
    assert lines(await browser.get("/write?a=1")) == [f"__Host-sid=TOKEN{LAX}"]
    assert lines(await browser.get("/login")) == [f"__Host-sid=TOKEN{LAX}"]
    assert lines(await browser.get("/logout")) == [f"__Host-sid={GONE}{LAX}"]


@in_loop
async def test_w3_websocket_cookie_lines() -> None:
    """W3: the accept of a WebSocket carries the same lines."""
    browser = Browser(wrap(accepting, secure=True), scheme="https")
    for path, line in (
        ("/set", f"__Host-sid=TOKEN{LAX}"),
        ("/login", f"__Host-sid=TOKEN{LAX}"),
        ("/clear", f"__Host-sid={GONE}{LAX}"),
    ):
        async with browser.websocket(path) as socket:
            assert lines(await socket.accepted()) == [line]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "sid=TOKEN; Path=/; HttpOnly; SameSite=Lax"),
        ({"session_cookie": "chat"}, "chat=TOKEN; Path=/; HttpOnly; SameSite=Lax"),
        ({"secure": True, "path": "/app"}, "sid=TOKEN; Path=/app; Secure; HttpOnly; SameSite=Lax"),
        ({"secure": True, "domain": "a.org"}, "sid=TOKEN; Path=/; Domain=a.org; Secure; HttpOnly; SameSite=Lax"),
        ({"max_age": 60}, "sid=TOKEN; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"),
    ],
)
@in_loop
async def test_w3_the_name_follows_the_attributes(options: dict[str, Any], line: str) -> None:
    """W3: without a given name it is __Host-sid where its rules allow, else sid; a given name is used as given."""
    assert lines(await ask(wrap(site, **options), "/write?a=1", scheme="https")) == [line]


APPS_OWN = [(b"set-cookie", b"theme=dark; Path=/"), (b"Set-Cookie", b"lang=en; HttpOnly")]
ACTS: dict[str, Any] = {
    "write": lambda s: s.update(a=1),
    "rotate": lambda s: s.regenerate_id(),
    "rotate twice": lambda s: (s.regenerate_id(), s.regenerate_id()),
    "logout": lambda s: s.invalidate(),
    "logout twice": lambda s: (s.invalidate(), s.invalidate()),
    "logout, write": lambda s: (s.invalidate(), s.update(b=2)),
    "write, logout": lambda s: (s.update(b=2), s.invalidate()),
    "clear, rotate, write": lambda s: (s.clear(), s.regenerate_id(), s.update(b=2)),
    "rotate, logout": lambda s: (s.regenerate_id(), s.invalidate()),
    "logout, rotate": lambda s: (s.invalidate(), s.regenerate_id()),
    "logout, establish": lambda s: (s.invalidate(), s.establish()),
    "logout, write, logout": lambda s: (s.invalidate(), s.update(b=2), s.invalidate()),
    "clear": lambda s: s.clear(),
    "nothing": lambda s: None,
}
SILENT = {"nothing", "write"}  # in a live session
CLEARS = {
    "logout",
    "logout twice",
    "write, logout",
    "rotate, logout",
    "logout, rotate",
    "logout, write, logout",
    "clear",
}


@pytest.mark.parametrize("name", ACTS)
@in_loop
async def test_w4_one_set_cookie_of_ours_beside_the_applications(name: str) -> None:
    """W4: whatever a request does: at most one line of ours, and the application's own all stay, in order."""
    store = SpyStore()
    live = cookie(await token_of(wrap(site, store=store)))
    acting = wrap(page(lambda s: [ACTS[name](s), None][1], headers=APPS_OWN), store=store)
    answer = await ask(acting, headers=live)
    own, ours = answer.all("set-cookie")[:2], answer.cookies[2:]
    assert own == [value for _, value in APPS_OWN]
    assert [c.name for c in ours] == ["sid"] * (name not in SILENT)
    assert [c.value == "" for c in ours] == [name in CLEARS] * (name not in SILENT)


@in_loop
async def test_w4_an_applications_cookie_of_our_name_is_its_own_affair() -> None:
    """W4: a Set-Cookie that the application made itself is neither counted nor removed."""
    answer = await ask(wrap(page(lambda s: s.update(a=1), headers=[(b"set-cookie", b"sid=mine")])))
    assert [c.value == "mine" for c in answer.cookies] == [True, False]


CONFIGURATIONS = [
    {"secure": secure, "path": path, "domain": domain, "same_site": same_site, "max_age": max_age, "partitioned": part}
    for secure, path, domain, same_site, max_age, part in itertools.product(
        (True, False), ("/", "/app"), (None, "a.org"), ("lax", "strict", None), (0, 3600), (True, False)
    )
    if secure or not part
]


class StrictJar:
    """A cookie store keyed as RFC 6265bis section 5.7 says: by name, domain and path, and by partition."""

    def __init__(self) -> None:
        self.kept: dict[Any, str] = {}

    def take(self, answer: Answer) -> None:
        for c in answer.cookies:
            key = c.name, c.attributes.get("domain"), c.attributes.get("path"), "partitioned" in c.attributes
            self.kept.pop(key, None)
            if not c.expired:
                assert c.acceptable
                self.kept[key] = c.value

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [header for (name, *_), value in self.kept.items() for header in cookie(value, name=name.encode())]


@pytest.mark.filterwarnings("ignore:partitioned=True without same_site='none'")
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
@in_loop
async def test_w5_the_cookie_is_gone_after_logout(options: dict[str, Any]) -> None:
    """W5: set, rotate and clear address the same cookie in every configuration: none is left behind."""
    app, jar = wrap(site, **options), StrictJar()
    for target, kept, seen in (
        ("/write?a=1", 1, {"a": "1"}),
        ("/read", 1, {"a": "1"}),
        ("/login", 1, {"a": "1"}),
        ("/logout", 0, {}),
        ("/read", 0, {}),
    ):
        answer = await ask(app, target, jar.headers(), scheme="https")
        jar.take(answer)
        assert (answer.json(), len(jar.kept)) == (seen, kept)


CONSTANT = ((b"content-length", b"4"), (b"cache-control", b"public"), (b"vary", b"Accept"))


@pytest.mark.parametrize("form", [list, tuple, iter, lambda given: (h for h in given), lambda given: map(tuple, given)])
@in_loop
async def test_w6_headers_of_any_kind_are_copied(form: Any) -> None:
    """W6: a list, a tuple, an iterator, a generator or a map: all headers leave, in a list."""
    answer = await ask(wrap(page(lambda s: s.update(a=1), headers=form(CONSTANT), length=False)))
    assert type(answer.start["headers"]) is list
    assert answer.headers[0] == CONSTANT[0]
    assert (answer.all("cache-control"), answer.all("vary")) == ([b"no-store"], [b"Accept, Cookie"])
    assert len(answer.cookies) == 1


@in_loop
async def test_w6_headers_may_be_absent() -> None:
    """W6: a start without headers gets ours; granian needs the key even where there are none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/write":
            scope["session"]["a"] = 1
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    assert len((await ask(wrap(app), "/write")).cookies) == 1
    assert list((await ask(wrap(app), "/read")).start.get("headers", [])) == []


@pytest.mark.parametrize("kind", [list, tuple])
@in_loop
async def test_w6_a_constant_response_is_shared_by_two_users(kind: Any) -> None:
    """W6: the message and its headers are a module constant: unchanged, and the second user gets no cookie."""
    message = {"type": "http.response.start", "status": 200, "headers": kind(CONSTANT)}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/write":
            scope["session"]["a"] = 1
        await send(message)
        await send({"type": "http.response.body", "body": b"same"})

    wrapped = wrap(app)
    for _ in range(2):
        assert len((await ask(wrapped, "/write")).cookies) == 1
        second = await ask(wrapped, "/plain")
        assert (second.cookies, second.all("cache-control"), second.all("vary")) == ([], [b"public"], [b"Accept"])
    assert message == {"type": "http.response.start", "status": 200, "headers": kind(CONSTANT)}


@pytest.mark.parametrize("path", ["/", "/app", "/elsewhere"])
@in_loop
async def test_w7_the_path_is_as_configured_under_mounts(path: str) -> None:
    """W7: neither root_path nor the mounted path gets into the cookie."""
    inner = wrap(site, path=path)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        """Mount both ways: the path shortened (old Starlette), or kept beside a longer root_path (ASGI 2.5)."""
        short = {**scope, "root_path": "/mounted", "path": scope["path"].removeprefix("/mounted")}
        await inner(short, receive, send)

    mounted = await ask(outer, "/mounted/write?a=1")
    rooted = await ask(inner, "/write?a=1", root_path="/proxy/prefix")
    assert [c.attributes["path"] for answer in (mounted, rooted) for c in answer.cookies] == [path, path]


def dead_token() -> bytes:
    return KeyRing([b"a secret of the security tests, and of nothing else"], "sid").sign(Ticket(bytes(16), bytes(16)))


@in_loop
async def test_w8_unknown_expired_and_ambiguous_cookies_emit_nothing() -> None:
    """W8: a cookie that opens nothing is left in the browser: only who logs out may clear one."""
    clock = Clock()
    app = wrap(site, store=SpyStore(clock=clock), idle_timeout=60)
    expired = (await token_of(app)).encode()
    clock.now += 61
    live = [(await token_of(app)).encode() for _ in range(2)]
    foreign = await token_of(wrap(site, secret_key=OTHER))
    for values in ([dead_token()], [expired], live, [foreign.encode()], [b"junk"], [dead_token(), expired]):
        for route in ("/read", "/plain", "/logout", "/login"):
            assert (await ask(app, route, cookie(*values))).cookies == []


@in_loop
async def test_w8_a_delayed_answer_to_the_old_cookie_logs_nobody_out() -> None:
    """W8: login regenerates; the answer to a request sent before arrives last; the jar holds the new cookie."""
    arrived, released = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            assert scope["session"]["a"] == "1"
            scope["session"]["slow"] = "kept"
            arrived.set()
            await released.wait()
        await site({**scope, "path": "/read"} if scope["path"] == "/slow" else scope, receive, send)

    browser = Browser(wrap(app))
    await browser.get("/write?a=1")
    async with browser.open("/slow") as slow:
        await arrived.wait()
        await browser.get("/login?user=alice")
        kept = browser.jar["sid"].value
        released.set()
        assert (await slow.ended()).cookies == []
    assert browser.jar["sid"].value == kept
    assert (await browser.get("/read")).json() == {"a": "1", "user": "alice", "slow": "kept"}


@in_loop
async def test_w8_a_request_sent_with_the_old_cookie_gets_none_for_a_minute() -> None:
    """W8: superseded requests read and write nothing, and no Set-Cookie of theirs replaces the new cookie."""
    clock = Clock()
    app = wrap(site, store=SpyStore(clock=clock))
    old = await token_of(app)
    new = (await ask(app, "/login", cookie(old))).cookies[0].value
    for seconds in (0, 30, 29.5):
        clock.now += seconds
        for route in ("/read", "/write?b=2", "/plain", "/logout"):
            answer = await ask(app, route, cookie(old))
            assert answer.cookies == []
            assert "alice" not in answer.text
    assert (await ask(app, headers=cookie(new))).json() == {"name": "alice"}
    clock.now += 1
    answer = await ask(app, "/write?b=2", cookie(old))  # a minute later: an unknown cookie like any other
    assert (answer.json(), len(answer.cookies)) == ({"b": "2"}, 1)
