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
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from answer import Answer, Cookie, Headers, Jar, Message

__all__ = ["Answer", "Browser", "Cookie", "Exchange", "Jar", "Message", "Socket", "in_loop", "lifespan"]

DEADLINE = 10  # seconds any single wait may take; generous, because it is only reached by a failing test

App = Callable[..., Awaitable[None]]


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own: `@in_loop` above `async def test_...`, fixtures as usual."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Exchange:
    """One app call in a task of its own. `paced`: a body leaves only when `chunk()` asks for it.

    `closing`: what `send` raises once the client is gone; None swallows, as servers below spec 2.4 do.
    """

    def __init__(
        self, app: App, scope: dict[str, Any], jar: Jar, *, paced: bool, closing: type[OSError] | None
    ) -> None:
        self.app, self.scope, self.jar, self.closing = app, scope, jar, closing
        self.answer = Answer()
        self.gone = self.over = False
        self.leave_after: int | None = None
        self._credit = asyncio.Semaphore(0) if paced else None
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._read = 0
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Exchange:
        self.task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Leaving the block is leaving the page: the app is told, then awaited; one that ignores it is cancelled."""
        self.disconnect()
        try:
            await self.ended()
        finally:
            assert self.task is not None
            while not self.task.done():
                self.task.cancel()
                await asyncio.wait([self.task], timeout=1)

    async def _run(self) -> None:
        try:
            await self.app(self.scope, self._receive, self._send)
        except BaseException as error:
            self.answer.error = error
        self.over = True
        async with self._changed:
            self._changed.notify_all()

    async def _receive(self) -> Message:
        return await self._incoming.get()

    async def _send(self, message: Message) -> None:
        is_body = message["type"] == "http.response.body"
        if is_body and self._credit is not None and not self.gone:
            await self._credit.acquire()
        if self.gone:
            if self.closing is not None:
                raise self.closing("the client is gone")
            return
        self.answer.messages.append(message)
        if "headers" in message:
            self.jar.take(message["headers"])
        if self._final():
            self.feed({"type": "http.disconnect"})
        if self.leave_after is not None and len(self.answer.chunks) >= self.leave_after:
            self.disconnect()
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until the condition holds or the app call has ended; the deadline is an error."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: condition() or self.over)

    def feed(self, *messages: Message) -> None:
        """Put messages into what the app receives."""
        for message in messages:
            self._incoming.put_nowait(message)

    async def started(self) -> Answer:
        """Wait for the start message (or the accept)."""
        await self.until(lambda: any(m["type"].endswith((".start", ".accept", ".close")) for m in self.answer.messages))
        return self.answer

    async def chunk(self) -> bytes:
        """Give the next body that is not empty, b'' once the app has no more; with `paced` this lets the app go on."""
        chunks = self.answer.chunks
        if self._credit is not None and len(chunks) <= self._read:
            self._credit.release()
        await self.until(lambda: len(self.answer.chunks) > self._read or self._final())
        if len(self.answer.chunks) <= self._read:
            return b""
        self._read += 1
        return self.answer.chunks[self._read - 1]

    def _final(self) -> bool:
        last = self.answer.messages[-1:]
        return bool(last) and last[0]["type"] == "http.response.body" and not last[0].get("more_body")

    def resume(self) -> None:
        """End the pacing: from here on every body leaves at once."""
        if self._credit is not None:
            credit, self._credit = self._credit, None
            for _ in range(1_000):
                credit.release()

    def disconnect(self) -> None:
        """Leave: the app receives http.disconnect, what it sends from now on reaches nobody."""
        if not self.gone:
            self.gone = True
            self.feed({"type": "http.disconnect"})
            self.resume()

    async def cancel(self, times: int = 1) -> Answer:
        """Cancel the app task, `times` in a row with one turn of the loop between, and wait for its end."""
        assert self.task is not None
        for _ in range(times):
            self.task.cancel()
            await asyncio.sleep(0)
        return await self.ended()

    async def ended(self) -> Answer:
        """Wait until the app call is over."""
        assert self.task is not None
        self.resume()
        _, pending = await asyncio.wait([self.task], timeout=DEADLINE)
        assert not pending, "the app did not end"
        return self.answer


class Socket(Exchange):
    """A websocket: `accepted`, `send`, `receive`, `close`. Leaving the block sends websocket.disconnect."""

    async def __aenter__(self) -> Socket:
        self.feed({"type": "websocket.connect"})
        await super().__aenter__()
        return self

    async def accepted(self) -> Answer:
        """Wait for the answer to the handshake: accept, denial or close."""
        return await self.started()

    async def send(self, data: str | bytes) -> None:
        key = "text" if isinstance(data, str) else "bytes"
        self.feed({"type": "websocket.receive", key: data})

    async def receive(self) -> str | bytes | None:
        """Give the next message of the app, None once it closed or ended."""
        await self.until(lambda: len(self._sent()) > self._read)
        if len(self._sent()) <= self._read:
            return None
        self._read += 1
        message = self._sent()[self._read - 1]
        return message.get("text") if message.get("text") is not None else message.get("bytes")

    def _sent(self) -> list[Message]:
        return [message for message in self.answer.messages if message["type"] in ("websocket.send", "websocket.close")]

    def disconnect(self, code: int = 1001) -> None:
        """Leave with a close code."""
        if not self.gone:
            self.gone = True
            self.feed({"type": "websocket.disconnect", "code": code, "reason": ""})


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
