"""A raw ASGI application for tests of the session: handlers by path, and what they say to the server in one word.

Rules of residence: knows ASGI messages and the middleware's constructor; what a test proves stands in the test.

    app = serve({"/login": login}, store=store)    # handlers: async def login(call: Call) -> None
    /          the session as JSON             /set?a=1      write, then answer
    /plain     an answer that never looks      /stream?a=1   start, then write, then two chunks
    /login     regenerate_id, then user=me     /logout       invalidate
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from driver import Browser

from fastersession import FasterSessionMiddleware, Session

SECRET = "a secret of the session tests, and of nothing else at all"


class Call:
    """One request as its handler sees it."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.session: Session = scope["session"]
        self.query = dict(parse_qsl(scope["query_string"].decode()))

    async def start(self, status: int = 200) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": []})

    async def chunk(self, text: str = "x") -> None:
        await self.send({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def finish(self) -> None:
        await self.send({"type": "http.response.body"})

    async def reply(self, text: str = "", status: int = 200) -> None:
        body = text.encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


Handler = Callable[[Call], Awaitable[None]]


async def _read(call: Call) -> None:
    await call.reply(json.dumps(call.session))


async def _set(call: Call) -> None:
    call.session.update(call.query)
    await call.reply()


async def _stream(call: Call) -> None:
    await call.start()
    await call.chunk()
    call.session.update(call.query)
    await call.chunk()
    await call.finish()


async def _plain(call: Call) -> None:
    await call.reply()


async def _login(call: Call) -> None:
    call.session.regenerate_id()
    call.session["user"] = "me"
    await call.reply()


async def _logout(call: Call) -> None:
    call.session.invalidate()
    await call.reply()


ROUTES: Mapping[str, Handler] = {
    "/": _read, "/set": _set, "/stream": _stream, "/plain": _plain, "/login": _login, "/logout": _logout,
}  # fmt: skip


def serve(handlers: Mapping[str, Handler] | None = None, **options: Any) -> FasterSessionMiddleware:
    """Return the middleware around an application of these handlers and the ones above."""
    routes = {**ROUTES, **(handlers or {})}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
        else:
            await routes[scope["path"]](Call(scope, receive, send))

    return FasterSessionMiddleware(app, **{"secret_key": SECRET, "secure": False, **options})


def tab(browser: Browser) -> Browser:
    """Return a second tab, or a thief: it holds the same cookies from now on."""
    twin = Browser(browser.app)
    twin.jar = browser.jar.copy()
    return twin


async def live(store: Any, do: Handler | None = None) -> Browser:
    """Return a browser with a session in the store; `do` handles /act."""
    browser = Browser(serve({"/act": do} if do else {}, store=store))
    await browser.get("/set?a=1")
    return browser


def record_id(browser: Browser) -> bytes:
    """The public id in the browser's only cookie."""
    return _raw(browser)[2:18]


def secret_of(browser: Browser) -> bytes:
    """The secret in the browser's only cookie."""
    return _raw(browser)[18:34]


def _raw(browser: Browser) -> bytes:
    (cookie,) = browser.jar.values()
    return base64.urlsafe_b64decode(cookie.value)


async def content(browser: Browser) -> Any:
    return (await browser.get("/")).json()


def events(caplog: Any, name: str | None = None) -> list[logging.LogRecord]:
    """Return the log records that are events, those of one name if it is given."""
    found = [record for record in caplog.records if hasattr(record, "event")]
    return [record for record in found if name in (None, record.event)]
