"""A browser without sockets: drives an ASGI callable in process, with a cookie jar and every way to leave.

Rules of residence: plays server and browser at once, so it may know ASGI and cookies; it never imports the package
under test, never opens a socket and never sleeps. Every wait has a deadline, every app task is ended by the driver.

    browser = Browser(app)
    answer = await browser.get("/chat")                    # whole exchange; raises what the app raised
    answer = await browser.get("/chat", catch=True)        # ... or keeps it in answer.error
    answer = await browser.leave("/chat", after=2)         # http.disconnect after two chunks
    answer = await browser.cancel("/chat", after=2, times=2)
    async with browser.open("/chat", paced=True) as held:  # each chunk is sent only when asked for
        first = await held.chunk()
    async with browser.websocket("/ws") as ws:
        await ws.accepted()
        await ws.send("hello")
        assert await ws.receive() == "hello"
    async with lifespan(app):                              # startup, then the drain at shutdown
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from answer import Answer, Cookie, Headers, Jar, Message
from exchange import DEADLINE, App, Exchange, Socket

__all__ = ["Answer", "App", "Browser", "Cookie", "Exchange", "Jar", "Message", "Socket", "in_loop", "lifespan"]


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own: `@in_loop` above `async def test_...`, fixtures as usual."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Browser:
    """One user: a cookie jar in front of an app. Two browsers share nothing.

    `scheme` https returns Secure cookies, http does not. `state` is given to every scope as a shallow copy, as
    servers do. `extra` is merged into each scope. `spec` is the declared version of the ASGI spec.
    """

    def __init__(
        self,
        app: App,
        *,
        scheme: str = "http",
        host: str = "testserver",
        state: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
        spec: str = "2.3",
    ) -> None:
        self.app, self.scheme, self.host, self.spec = app, scheme, host, spec
        self.state, self.extra = state, extra or {}
        self.jar = Jar()

    def scope(self, method: str, target: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
        """Make the scope of a request as uvicorn would make it, the jar's cookies included."""
        url = urlsplit(target)
        path, encrypted = unquote(url.path), self.scheme == "https"
        own: Headers = [(b"host", self.host.encode()), *self.jar.header(path, encrypted)]
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self.spec},
            "http_version": "1.1",
            "method": method,
            "scheme": self.scheme,
            "path": path,
            "raw_path": url.path.encode(),
            "query_string": url.query.encode(),
            "root_path": "",
            "headers": own + list(headers),
            "client": ("127.0.0.1", 50000),
            "server": (self.host, 443 if encrypted else 80),
        }
        if self.state is not None:
            scope["state"] = dict(self.state)
        return scope | self.extra

    def open(
        self,
        target: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: Iterable[tuple[bytes, bytes]] = (),
        paced: bool = False,
        closing: type[OSError] | None = None,
    ) -> Exchange:
        """Make an exchange to be held open: `async with browser.open("/stream") as held`."""
        scope = self.scope(method, target, headers)
        exchange = Exchange(self.app, scope, self.jar, paced=paced, closing=closing)
        exchange.feed({"type": "http.request", "body": body, "more_body": False})
        return exchange

    async def request(self, method: str, target: str, *, catch: bool = False, **options: Any) -> Answer:
        """Do a whole exchange: read to the end, raise what the app raised unless `catch`."""
        async with self.open(target, method=method, **options) as exchange:
            answer = await exchange.ended()
        if answer.error is not None and not catch:
            raise answer.error
        return answer

    async def get(self, target: str, **options: Any) -> Answer:
        return await self.request("GET", target, **options)

    async def post(self, target: str, *, json_body: Any = None, **options: Any) -> Answer:
        """POST; `json_body` is encoded and declared, else give `body` and `headers`."""
        if json_body is not None:
            options["body"] = json.dumps(json_body).encode()
            options["headers"] = [*options.get("headers", ()), (b"content-type", b"application/json")]
        return await self.request("POST", target, **options)

    async def leave(self, target: str, *, after: int = 1, **options: Any) -> Answer:
        """Read `after` chunks, close the connection, wait for the app's end; its error is in the answer."""
        async with self.open(target, **options) as exchange:
            exchange.leave_after = after
            return await exchange.ended()

    async def cancel(self, target: str, *, after: int = 1, times: int = 1, **options: Any) -> Answer:
        """Read `after` chunks, then cancel the app task `times` in a row (a server's shutdown)."""
        async with self.open(target, paced=True, **options) as exchange:
            for _ in range(after):
                await exchange.chunk()
            return await exchange.cancel(times)

    def websocket(self, target: str, *, headers: Iterable[tuple[bytes, bytes]] = (), **extra: Any) -> Socket:
        """Make a websocket to be held open; `extra` goes into the scope (say `extensions`)."""
        scope = self.scope("GET", target, headers) | {"type": "websocket", "subprotocols": []} | extra
        scope["scheme"] = "wss" if self.scheme == "https" else "ws"
        del scope["method"]
        return Socket(self.app, scope, self.jar, paced=False, closing=None)


@contextlib.asynccontextmanager
async def lifespan(app: App, state: dict[str, Any] | None = None) -> AsyncIterator[dict[str, Any]]:
    """Startup, then shutdown as a server does them; yields the state dict. A failure message is an error."""
    shared = {} if state is None else state
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": shared}
    exchange = Exchange(app, scope, Jar(), paced=False, closing=None)
    task = exchange.task = asyncio.create_task(exchange._run())
    for event in ("startup", "shutdown"):
        exchange.feed({"type": f"lifespan.{event}"})
        await exchange.until(lambda event=event: any(event in m["type"] for m in exchange.answer.messages))
        assert exchange.answer.messages, f"the app ended before {event}: {exchange.answer.error!r}"
        assert exchange.answer.messages[-1]["type"] == f"lifespan.{event}.complete", exchange.answer.messages
        if event == "startup":
            yield shared
    await asyncio.wait_for(task, DEADLINE)
    if exchange.answer.error is not None:
        raise exchange.answer.error
