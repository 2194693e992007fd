"""A browser in process: it sends requests to an ASGI application, keeps cookies, and can leave in every way.

Rules of residence: server and browser in one, so it may know ASGI and cookies. It opens no socket, and never sleeps.
Every wait has a deadline. It ends every application call that it has begun.

    browser = Browser(app)
    answer = await browser.get("/chat")                    # reads to the end; raises what the app raised
    answer = await browser.get("/chat", catch=True)        # ... or keeps it in answer.error
    answer = await browser.post("/login", data={"name": "ada"}, headers={"origin": "https://testserver"})
    answer = await browser.leave("/chat", after=2)         # http.disconnect after two chunks
    answer = await browser.half_close("/chat", after=2)    # ... and read on to the end
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
from collections.abc import AsyncIterator, Iterable, Mapping
from json import dumps
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from .answer import Answer
from .connection import DEADLINE, App, Connection, Socket
from .jar import Headers, Jar

Text = str | bytes
Given = Mapping[Text, Text] | Iterable[tuple[Text, Text]]  # headers as a caller may give them
Form = Mapping[str, Any] | Iterable[tuple[str, Any]]
FORM, JSON = b"application/x-www-form-urlencoded", b"application/json"


class Browser:
    """A cookie jar in front of an application, for one user.

    Two browsers share nothing. Two tabs are two connections of one browser.
    Use it in the event loop of the test. Its methods may run concurrently, as tabs do.

    :param scheme: ``"https"`` returns Secure cookies, ``"http"`` does not.
    :param state: each scope gets a shallow copy of it, as from a server whose lifespan has filled it.
    :param extra: is merged into each scope.
    :param spec: the version of the ASGI spec that the server claims.
    """

    def __init__(
        self,
        app: App,
        *,
        scheme: str = "https",
        host: str = "testserver",
        state: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
        spec: str = "2.3",
    ) -> None:
        self.app, self.scheme, self.host, self.spec = app, scheme, host, spec
        self.state, self.extra = state, extra or {}
        self.jar = Jar(f"{scheme}://{host}/")

    def tab(self) -> Browser:
        """Return another browser with a copy of the cookies: an old tab, or a thief."""
        twin = Browser(self.app, scheme=self.scheme, host=self.host, state=self.state, extra=self.extra, spec=self.spec)
        twin.jar = self.jar.copy()
        return twin

    def url(self, path: str) -> str:
        """Return the address of an unquoted path."""
        return f"{self.scheme}://{self.host}{quote(path)}"

    def scope(self, method: str, target: str, headers: Given = ()) -> dict[str, Any]:
        """Return the scope of a request as uvicorn makes it, with the jar's cookies."""
        url = urlsplit(target)
        path = unquote(url.path)
        own: Headers = [(b"host", self.host.encode()), *self.jar.header(self.url(path))]
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
            "headers": own + _raw(headers),
            "client": ("127.0.0.1", 50000),
            "server": (self.host, 443 if self.scheme == "https" else 80),
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
        data: Form | None = None,
        json: Any = None,
        headers: Given = (),
        paced: bool = False,
        closing: type[OSError] | None = None,
    ) -> Connection:
        """Return a connection to hold open: ``async with browser.open("/stream") as held``.

        A form and JSON bring their content type, unless ``headers`` have one.

        :param body: bytes, sent as they are.
        :param data: a form, as a mapping or pairs; a list as a value is a field with several values.
        :param json: a value, sent as JSON.
        :param headers: a mapping or pairs, of ``str`` or ``bytes``. A name that is a ``str`` is lowered.
        :param paced: each chunk waits until it is asked for.
        :param closing: the exception that ``send`` raises in the application once the client is gone.
        :raises TypeError: more than one of body, data and json is given.
        """
        scope = self.scope(method, target, headers)
        body, declared = _content(body, data, json)
        names = {name for name, _ in scope["headers"]}
        scope["headers"] += [header for header in declared if header[0] not in names]
        connection = Connection(self.app, scope, self.jar, self.url(scope["path"]), paced=paced, closing=closing)
        connection.feed({"type": "http.request", "body": body, "more_body": False})
        return connection

    async def request(self, method: str, target: str, *, catch: bool = False, **options: Any) -> Answer:
        """Send a request as ``open`` does, and read the answer to its end; ``catch`` keeps an error in the answer."""
        async with self.open(target, method=method, **options) as connection:
            answer = await connection.ended()
        if answer.error is not None and not catch:
            raise answer.error
        return answer

    async def get(self, target: str, **options: Any) -> Answer:
        return await self.request("GET", target, **options)

    async def post(self, target: str, **options: Any) -> Answer:
        """Send a POST, as ``request`` does; with ``data=``, ``json=`` or ``body=``."""
        return await self.request("POST", target, **options)

    async def leave(self, target: str, *, after: int = 1, half: bool = False, **options: Any) -> Answer:
        """Read ``after`` chunks, leave, and wait for the application's end. Its error is in the answer."""
        async with self.open(target, **options) as connection:
            connection.leave_after, connection.half = after, half
            return await connection.ended()

    async def half_close(self, target: str, *, after: int = 1, **options: Any) -> Answer:
        """Read ``after`` chunks, close only the client's own side, and read the rest."""
        return await self.leave(target, after=after, half=True, **options)

    async def cancel(self, target: str, *, after: int = 1, times: int = 1, **options: Any) -> Answer:
        """Read ``after`` chunks, then cancel the application's task ``times`` in a row, as a server's shutdown does."""
        async with self.open(target, paced=True, **options) as connection:
            for _ in range(after):
                await connection.chunk()
            return await connection.cancel(times)

    def websocket(self, target: str, *, headers: Given = (), **extra: Any) -> Socket:
        """Return a WebSocket to hold open; ``extra`` goes into the scope (say ``extensions``)."""
        scope = self.scope("GET", target, headers) | {"type": "websocket", "subprotocols": []} | extra
        scope["scheme"] = "wss" if self.scheme == "https" else "ws"
        del scope["method"]
        return Socket(self.app, scope, self.jar, self.url(scope["path"]))


@contextlib.asynccontextmanager
async def lifespan(app: App, state: dict[str, Any] | None = None) -> AsyncIterator[dict[str, Any]]:
    """Start the application up, give its state, and shut it down, as a server does.

    :raises AssertionError: the application reports a failure, or ends without an answer.
    """
    shared = {} if state is None else state
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": shared}
    connection = Connection(app, scope, Jar(), "")
    task = connection.task
    try:
        for event in ("startup", "shutdown"):
            connection.feed({"type": f"lifespan.{event}"})
            await connection.until(functools.partial(_answered, connection.answer, event))
            assert connection.answer.messages, f"the app ended before {event}: {connection.answer.error!r}"
            assert connection.answer.messages[-1]["type"] == f"lifespan.{event}.complete", connection.answer.messages
            if event == "startup":
                yield shared
        await asyncio.wait([task], timeout=DEADLINE)
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=1)
    if connection.answer.error is not None:
        raise connection.answer.error


def _answered(answer: Answer, event: str) -> bool:
    return any(event in message["type"] for message in answer.messages)


def _raw(headers: Given) -> Headers:
    pairs: Iterable[tuple[Text, Text]] = headers.items() if isinstance(headers, Mapping) else headers
    return [
        (
            name if isinstance(name, bytes) else name.lower().encode("latin-1"),
            value if isinstance(value, bytes) else value.encode("latin-1"),
        )
        for name, value in pairs
    ]


def _content(body: bytes, data: Form | None, json: Any) -> tuple[bytes, Headers]:
    """Return the body, and the headers that a form or JSON comes with."""
    if bool(body) + (data is not None) + (json is not None) > 1:
        raise TypeError("give one of body, data and json: a request has one body")
    if data is not None:
        body, kind = urlencode(data if isinstance(data, Mapping) else list(data), doseq=True).encode(), FORM
    elif json is not None:
        body, kind = dumps(json).encode(), JSON
    else:
        return body, []
    return body, [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
