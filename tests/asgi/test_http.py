"""What of an http response is ours: H1, H3 and H4 of SECURITY, and messages that pass untouched."""

from __future__ import annotations

import random
from typing import Any

import pytest
from apps import SECRET, SpyStore, ask, cookie, page, site, token_of, wrap
from driver import Browser, in_loop

from fastersession.crypto.tokens import KeyRing, Ticket
from fastersession.testing import Answer

LENGTH = [(b"content-length", b"2")]
UNTOUCHED = None
READS: Any = lambda s: s.get("name")  # noqa: E731 - one of a table of acts
WRITES: Any = lambda s: s.update(a=1)  # noqa: E731
UNKNOWN = KeyRing([SECRET.encode()], "sid").sign(Ticket(bytes(16), bytes(16)))


@in_loop
async def test_a_start_without_headers_of_ours_is_the_applications_own() -> None:
    """The very message, and its very list of headers."""
    own = {"type": "http.response.start", "status": 204, "headers": [(b"x", b"y")]}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(own)
        await send({"type": "http.response.body"})

    start = (await ask(wrap(app))).messages[0]
    assert start is own
    assert start["headers"] == [(b"x", b"y")]


@pytest.mark.parametrize(
    ("act", "status", "streams", "given", "vary"),
    [
        (UNTOUCHED, 200, False, [], []),
        (UNTOUCHED, 200, True, [], [b"Cookie"]),  # a stream may read the session later
        (UNTOUCHED, 304, True, [], []),
        (UNTOUCHED, 204, True, [], []),
        (UNTOUCHED, 103, True, [], []),
        (UNTOUCHED, 404, True, [], [b"Cookie"]),
        (UNTOUCHED, 200, False, [b"Accept"], [b"Accept"]),
        (READS, 200, False, [], [b"Cookie"]),
        (READS, 304, True, [], [b"Cookie"]),
        (READS, 500, False, [], [b"Cookie"]),
        (READS, 200, False, [b"Accept"], [b"Accept, Cookie"]),
        (READS, 200, False, [b"accept, cookie"], [b"accept, cookie"]),
        (READS, 200, False, [b"*"], [b"*"]),
        (READS, 200, True, [b"Accept", b"Origin"], [b"Accept, Origin, Cookie"]),
        (READS, 200, True, [b"Cookie", b"Origin"], [b"Cookie", b"Origin"]),
        (lambda s: len(s), 200, False, [], [b"Cookie"]),
        (lambda s: bool(s), 200, False, [], [b"Cookie"]),
        (lambda s: "a" in s, 200, False, [], [b"Cookie"]),
        (lambda s: list(s), 200, False, [], [b"Cookie"]),
        (lambda s: {**s}, 200, False, [], [b"Cookie"]),
        (lambda s: s == {}, 200, False, [], [b"Cookie"]),
        (lambda s: s | {}, 200, False, [], [b"Cookie"]),
        (lambda s: [s.invalidate(), 1][1], 200, False, [], [b"Cookie"]),
    ],
)
@pytest.mark.parametrize("known", [False, True])
@in_loop
async def test_h1_vary(
    act: Any, status: int, streams: bool, given: list[bytes], vary: list[bytes], known: bool
) -> None:
    """H1: Vary names Cookie if the session was accessed, if we set the cookie, and on streams; merged, `*` kept."""
    store = SpyStore()
    headers = cookie(await token_of(wrap(site, store=store))) if known else []
    own = [(b"vary", value) for value in given]
    app = wrap(page(act, status=status, headers=own, length=not streams), store=store)
    assert b", ".join((await ask(app, headers=headers)).all("vary")) == b", ".join(vary)


@pytest.mark.parametrize("name", ["id", "is_new", "created_at", "last_accessed_at", "idle_timeout"])
@in_loop
async def test_h1_metadata_is_personal_too(name: str) -> None:
    """H1: a page that shows whose session it is, or its age, differs by cookie like one that shows attributes."""
    store = SpyStore()
    headers = cookie(await token_of(wrap(site, store=store)))
    app = wrap(page(lambda s: getattr(s, name)), store=store)
    assert (await ask(app, headers=headers)).all("vary") == [b"Cookie"]
    assert (await ask(app)).all("vary") == [b"Cookie"]


@pytest.mark.parametrize(("known", "act"), [(False, lambda s: s.establish()), (True, lambda s: s.regenerate_id())])
@in_loop
async def test_h1_a_cookie_without_an_access_varies_too(known: bool, act: Any) -> None:
    """H1: our Set-Cookie alone brings Vary and no-store."""
    store = SpyStore()
    headers = cookie(await token_of(wrap(site, store=store))) if known else []
    answer = await ask(wrap(page(act), store=store), headers=headers)
    assert (len(answer.cookies), answer.all("vary"), answer.all("cache-control")) == (1, [b"Cookie"], [b"no-store"])


@pytest.mark.parametrize(
    ("given", "dressed"),
    [
        ([], b"no-store"),
        ([b"public, max-age=60"], b"no-store"),
        ([b"private"], b"no-store, private"),
        ([b"no-cache", b"max-age=9"], b"no-store, no-cache"),
    ],
)
@pytest.mark.parametrize("act", [UNTOUCHED, READS, WRITES, lambda s: s.invalidate()])
@in_loop
async def test_h1_cache_control(act: Any, given: list[bytes], dressed: bytes) -> None:
    """H1: with our Set-Cookie Cache-Control says no-store, and what agrees with it; without, it is the app's."""
    store = SpyStore()
    headers = cookie(await token_of(wrap(site, store=store)))
    for name in (b"cache-control", b"Cache-Control"):
        app = wrap(page(act, headers=[(name, value) for value in given]), store=store)
        for request in ([], headers):
            answer = await ask(app, headers=request)
            assert answer.all("cache-control") == ([dressed] if answer.cookies else given)


class SharedCache:
    """A proxy that keeps and reuses all that RFC 9111 allows a shared cache, for ever."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.kept: dict[str, list[tuple[dict[str, str], Answer]]] = {}
        self.hits = 0

    @staticmethod
    def _nominated(answer: Answer, headers: list[tuple[bytes, bytes]]) -> dict[str, str] | None:
        """Return the request fields that Vary nominates, with their values; None for `*` (section 4.1)."""
        names = {part.strip().lower() for value in answer.all("vary") for part in value.decode().split(",")}
        if "*" in names:
            return None
        return {n: repr([v for key, v in headers if key.decode() == n]) for n in sorted(names - {""})}

    async def ask(self, target: str, headers: list[tuple[bytes, bytes]]) -> Answer:
        for variant, answer in self.kept.get(target, ()):
            if self._nominated(answer, headers) == variant:
                self.hits += 1
                return answer
        answer = await ask(self.app, target, headers)
        directives = b",".join(answer.all("cache-control")).decode()
        nominated = self._nominated(answer, headers)
        storable = not any(word in directives for word in ("no-store", "private", "no-cache"))  # section 3
        if storable and nominated is not None and answer.status == 200:  # heuristically fresh: section 4.2.2
            self.kept.setdefault(target, []).append((nominated, answer))
        return answer


async def publishing(scope: Any, receive: Any, send: Any) -> None:
    """Declare everything public: a profile, a stream that looks at the session late, a login, and a static file."""
    session, path = scope["session"], scope["path"]
    headers = [(b"cache-control", b"public, max-age=3600")]
    body = b"the same for all"
    if path == "/login":
        session["name"] = scope["query_string"].decode()
    if path != "/static":
        body = session.get("name", "nobody").encode() if path != "/stream" else b""
    if path != "/stream":
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/stream":
        body = session.get("name", "nobody").encode()
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("seed", range(4))
@in_loop
async def test_h1_a_shared_cache_serves_nobody_anothers_response(seed: int) -> None:
    """H1: forty users behind one cache, all responses declared public: each sees itself; the static file is shared."""
    chance = random.Random(seed)
    proxy = SharedCache(wrap(publishing))
    jars: dict[str, list[tuple[bytes, bytes]]] = {f"user{number}": [] for number in range(40)}
    statics = 0
    for _ in range(2000):
        name = chance.choice(list(jars))
        path = chance.choice(["/profile", "/stream", "/static", f"/login?{name}"])
        answer = await proxy.ask(path, jars[name])
        expected = "the same for all" if path == "/static" else name if jars[name] or "?" in path else "nobody"
        assert answer.text == expected
        if answer.cookies:
            assert path.endswith(name)
            jars[name] = cookie(answer.cookies[0].value)
        statics += path == "/static"
    assert len(proxy.kept["/static"]) == 1
    assert proxy.hits > statics - 1


# --- messages ---

BEFORE = [
    {"type": "http.response.debug", "info": {"template": "x"}},
    {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]},
    {"type": "http.response.push", "path": "/a.css", "headers": []},
    {"type": "http.response.unheard_of", "headers": ()},
]
AFTER = [
    {"type": "http.response.body", "body": b"1", "more_body": True},
    {"type": "http.response.push", "path": "/b.css", "headers": [(b"x", b"y")]},
    {"type": "http.response.zerocopysend", "file": 1, "more_body": True},
    {"type": "http.response.body", "more_body": True},
    {"type": "http.response.body"},
    {"type": "http.response.trailers", "headers": [(b"x", b"y")], "more_trailers": False},
    {"type": "unheard.of"},
]


@pytest.mark.parametrize("act", [UNTOUCHED, WRITES])
@in_loop
async def test_h3_only_the_start_is_dressed(act: Any) -> None:
    """H3: every other message passes as the same object; no cookie on early hints, push, trailers or unknown ones."""
    start = {"type": "http.response.start", "status": 200, "headers": LENGTH, "trailers": True, "extra": object()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if act is not None:
            act(scope["session"])
        for message in [*BEFORE, start, *AFTER]:
            await send(message)

    answer = await ask(wrap(app))
    assert len(answer.messages) == len(BEFORE) + 1 + len(AFTER)
    for sent, left in zip([*BEFORE, start, *AFTER], answer.messages, strict=True):
        if sent is start and act is not None:
            assert {**left, "headers": LENGTH} == start
            assert any(name == b"set-cookie" for name, _ in left["headers"])
        else:
            assert left is sent


@in_loop
async def test_h3_an_interim_start_carries_nothing() -> None:
    """H3: a server that takes 1xx as a start message sends no cookie with it; the final start has it."""
    interim = {"type": "http.response.start", "status": 103, "headers": [(b"link", b"</a.css>; rel=preload")]}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["a"] = 1
        await send(interim)
        scope["session"]["b"] = 2
        await send({"type": "http.response.start", "status": 200, "headers": LENGTH})
        await send({"type": "http.response.body", "body": b"ok"})

    answer = await ask(wrap(app))
    assert answer.messages[0] == interim
    assert [name for name, _ in answer.messages[1]["headers"]].count(b"set-cookie") == 1


@pytest.mark.parametrize("last", ["body", "bare", "pathsend", "zerocopysend", "trailers"])
@in_loop
async def test_the_final_message_finds_the_session_saved(last: str) -> None:
    """Who has seen the end of the answer finds what the stream wrote: committed before forwarding, for every form."""
    store = SpyStore()
    token = await token_of(wrap(site, store=store))
    finals: dict[str, dict[str, Any]] = {
        "body": {"type": "http.response.body", "body": b"", "more_body": False},
        "bare": {"type": "http.response.body"},
        "pathsend": {"type": "http.response.pathsend", "path": "/tmp/x"},
        "zerocopysend": {"type": "http.response.zerocopysend", "file": 1},
        "trailers": {"type": "http.response.trailers", "headers": []},
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": last == "trailers"})
        scope["session"]["answer"] = "late"
        store.calls.clear()
        await send(finals[last])
        assert store.calls == ["update"]

    await ask(wrap(app, store=store), headers=cookie(token))
    assert store.calls == ["update"]
    assert (await ask(wrap(site, store=store), headers=cookie(token))).json() == {"name": "alice", "answer": "late"}


@in_loop
async def test_h4_a_token_anywhere_but_in_the_cookie_is_ignored() -> None:
    """H4: not in the query, the path, a fragment of it, another header, or the body."""
    store = SpyStore()
    app = wrap(site, store=store)
    token = await token_of(app)
    store.calls.clear()
    for target in (f"/read?sid={token}", f"/read?session={token}", f"/read;sid={token}", f"/read/{token}"):
        assert (await ask(app, target)).json() == {}
    for name in (b"authorization", b"x-session-id", b"sid", b"set-cookie", b"cookie2", b"x-cookie", b"session"):
        for value in (token, f"sid={token}", f"Bearer {token}"):
            assert (await ask(app, headers=[(name, value.encode())])).json() == {}
    assert (await Browser(app).post("/read", body=f"sid={token}".encode())).json() == {}
    assert store.calls == []


@in_loop
async def test_h4_no_token_leaves_but_in_the_cookie() -> None:
    """H4: redirects and bodies are the application's own; no header but Set-Cookie holds the token or the secret."""
    app = wrap(page(WRITES, status=303, headers=[(b"location", b"/next?a=b")]))
    answer = await ask(app)
    token = answer.cookies[0].value
    others = [header for header in answer.headers if header[0] != b"set-cookie"]
    assert answer.header("location") == b"/next?a=b"
    assert token not in repr((others, answer.body))
