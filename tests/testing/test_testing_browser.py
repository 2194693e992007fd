"""The kit's browser is one: its jar keeps to the rules, streams come chunk by chunk, and every way to leave is one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import in_loop

from fastersession.testing import Browser, Cookie, Jar, lifespan

SENT: list[str] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Stream four chunks, noting each and how the call ends; a WebSocket echoes."""
    if scope["type"] == "websocket":
        return await echo(receive, send)
    SENT.clear()
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"a=1")]})
        for number in range(4):
            SENT.append(str(number))
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})
        await receive()
        SENT.append((await receive())["type"])
    except BaseException as error:
        SENT.append(type(error).__name__)
        raise
    return None


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [(b"set-cookie", b"ws=1")]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"].upper()})
    SENT[:] = [str(message["code"])]


@in_loop
async def test_a_stream_is_seen_chunk_by_chunk() -> None:
    """Paced, nothing leaves before it is asked for; an empty chunk is none."""
    async with Browser(app).open("/", paced=True) as held:
        assert (await held.started()).status == 200
        for number in range(4):
            assert [str(n) for n in range(number + 1)][: number + 1] == SENT
            assert await held.chunk() == b"%d" % number
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert await held.chunk() == b""
        assert (await held.ended()).error is None


@in_loop
async def test_leaving_is_told_to_the_application_and_what_it_sends_is_lost() -> None:
    """After n chunks the client is gone: nothing arrives any more, with and without an error at the send."""
    answer = await Browser(app).leave("/", after=2)
    assert (answer.chunks, SENT) == ([b"0", b"1"], ["0", "1", "2", "3", "http.disconnect"])
    answer = await Browser(app).leave("/", after=2, closing=BrokenPipeError)
    assert (answer.chunks, type(answer.error), SENT[-1]) == ([b"0", b"1"], BrokenPipeError, "BrokenPipeError")


@in_loop
async def test_a_half_close_still_reads() -> None:
    """Only the client's own side is closed: the application is told, and the whole answer arrives."""
    answer = await Browser(app).half_close("/", after=2)
    assert (answer.text, SENT[-1]) == ("0123", "http.disconnect")


@in_loop
async def test_a_cancelled_call_ends_where_it_stands() -> None:
    """Cancelled after n chunks, as at a server's shutdown."""
    answer = await Browser(app).cancel("/", after=2)
    assert (answer.chunks, type(answer.error), SENT[-1]) == ([b"0", b"1"], asyncio.CancelledError, "CancelledError")


@pytest.mark.parametrize("last", ["websocket.close", "websocket.http.response.body"])
@in_loop
async def test_an_application_that_closes_a_websocket_is_told_that_it_is_closed(last: str) -> None:
    """A disconnect, once (ASGI, "Disconnect": also when the server's side closes); who waits for it comes to an end."""
    told: list[Any] = []

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": last.replace("body", "start"), "status": 403, "headers": [], "code": 4000})
        if last.endswith("body"):
            await send({"type": last, "body": b"n", "more_body": True})
            await send({"type": last, "body": b"o"})
        told.append(await receive())

    async with Browser(closing).websocket("/ws") as socket:
        await socket.ended()
    assert told == [{"type": "websocket.disconnect", "code": 1006 if last.endswith("body") else 4000, "reason": ""}]


@in_loop
async def test_a_websocket() -> None:
    """Messages go both ways, the cookie of the accept is kept, and leaving tells the close code."""
    browser = Browser(app)
    async with browser.websocket("/ws") as socket:
        await socket.accepted()
        await socket.send("hello")
        assert await socket.receive() == "HELLO"
    assert (SENT, browser.jar["ws"].value) == (["1001"], "1")
    assert socket.scope["scheme"] == "wss"


@in_loop
async def test_an_application_of_asgi_2_and_context_variables() -> None:
    """The double callable is adapted, as servers do; a call sees no context of the test."""

    class Double:
        def __init__(self, scope: Any) -> None:
            self.scope = scope

        async def __call__(self, receive: Any, send: Any) -> None:
            await app(self.scope, receive, send)

    assert (await Browser(Double).get("/")).text == "0123"


@in_loop
async def test_lifespan_starts_and_stops_even_if_the_test_fails() -> None:
    """The block runs between the two; an application that fails or does not answer is an error; no task is left."""
    seen = []

    async def living(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["db"] = "open"
        for _ in range(2):
            event = (await receive())["type"]
            seen.append(event)
            await send({"type": f"{event}.complete"})

    async with lifespan(living) as state:
        assert (state, seen) == ({"db": "open"}, ["lifespan.startup"])
    assert seen == ["lifespan.startup", "lifespan.shutdown"]
    with pytest.raises(ZeroDivisionError):
        async with lifespan(living):
            raise ZeroDivisionError

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no lifespan here")

    with pytest.raises(AssertionError, match="before startup: ValueError"):
        async with lifespan(silent):
            pass
    assert len(asyncio.all_tasks()) == 1


def sent(jar: Jar, url: str) -> set[str]:
    return {part for _, value in jar.header(url) for part in value.decode().split("; ")}


@pytest.mark.parametrize(
    ("line", "url", "returned"),
    [
        (b"a=1", "https://testserver/x", True),
        (b"a=1", "https://sub.testserver/x", False),
        (b"a=1", "https://other/x", False),
        (b"a=1; Secure", "http://testserver/", False),
        (b"a=1; Secure", "wss://testserver/", True),
        (b"a=1; Path=/x", "https://testserver/x/y", True),
        (b"a=1; Path=/x", "https://testserver/xy", False),
        (b"a=1; Max-Age=0", "https://testserver/", False),
        (b"a=1; Max-Age=60; HttpOnly; SameSite=Lax; Partitioned", "https://testserver/", True),
        (b"__Host-a=1; Path=/; Secure", "https://testserver/", True),
        (b"__Host-a=1; Path=/", "https://testserver/", False),
        (b"__Host-a=1; Path=/x; Secure", "https://testserver/x", False),
        (b"__Host-a=1; Path=/; Secure; Domain=testserver", "https://testserver/", False),
        (b"__Secure-a=1", "https://testserver/", False),
        (b"__Secure-a=1; Secure", "https://testserver/", True),
    ],
)
def test_the_jar_returns_what_a_browser_would(line: bytes, url: str, returned: bool) -> None:
    """Scheme, host, path, age and prefix decide."""
    jar = Jar()
    jar.take([(b"Set-Cookie", line)])
    name = line.partition(b";")[0].decode()
    assert sent(jar, url) == ({name} if returned else set())


def test_a_domain_cookie_goes_to_subdomains() -> None:
    """With Domain it does, without it does not."""
    jar = Jar("https://example.org/")
    jar.take([(b"set-cookie", b"wide=1; Domain=example.org"), (b"set-cookie", b"own=1")])
    assert sent(jar, "https://sub.example.org/") == {"wide=1"}
    assert sent(jar, "https://example.org/") == {"wide=1", "own=1"}


def test_the_jar_is_a_mapping() -> None:
    """Cookies are read, planted, removed and copied by name; a removal by the server removes."""
    jar = Jar()
    jar.take([(b"set-cookie", b"a=1; HttpOnly"), (b"set-cookie", b"b=2")])
    twin = jar.copy()
    assert (list(jar), jar["a"].value, jar["a"].attributes) == (["a", "b"], "1", {"path": "/", "httponly": ""})
    jar["a"] = Cookie("a", "planted", {})
    del jar["b"]
    assert sent(jar, jar.url) == {"a=planted"}
    assert sent(twin, jar.url) == {"a=1", "b=2"}
    jar.take([(b"set-cookie", b"a=; Max-Age=0; Path=/")])
    assert not jar
    with pytest.raises(KeyError):
        jar["a"]
