"""The one application that every peer wraps.

Rules of residence: routes that use a session as any dict is used, and answer with what they found in it. No peer, no
case and no server is known here; an app without sessions finds a plain dict where the others find theirs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

CHUNKS = 1000
MEGABYTE = 1_000_000
HISTORY = [
    {"role": ("user", "assistant")[n % 2], "content": f"message {n:04d}: " + "x" * 52, "n": n} for n in range(1000)
]
"""1,000 chat messages, 101 KB as JSON."""

LETTERS = 4000
"""Chat messages that make 2 MB as JSON."""

Send = Callable[[dict[str, Any]], Awaitable[None]]


class BrokenPeerError(Exception):
    """A peer did not do the work it was timed for."""


class App:
    """Finds the session as the peer at hand offers it and answers by path."""

    def __init__(self, session_of: Callable[[dict[str, Any]], Any]) -> None:
        self.session_of = session_of
        self.serial = 0
        self.chunks_ns = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        try:
            await ROUTES[scope["path"]](self, self.session_of(scope), send)
        except KeyError as missing:
            raise BrokenPeerError(f"{scope['path']}: there is no {missing} any more") from missing


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(app: App, session: Any, send: Send) -> None:
    await answer(send, b"hello")


async def read(app: App, session: Any, send: Send) -> None:
    await answer(send, session["user"].encode())


async def peek(app: App, session: Any, send: Send) -> None:
    await answer(send, session.get("user", "nobody").encode())


async def number(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % session["n"])


async def write(app: App, session: Any, send: Send) -> None:
    session["n"] = n = session["n"] + 1
    await answer(send, b"%d" % n)


async def new(app: App, session: Any, send: Send) -> None:
    app.serial += 1
    session["user"] = user = f"u{app.serial}"
    session["n"] = 1
    await answer(send, user.encode())


async def fill(app: App, session: Any, send: Send) -> None:
    session["history"] = [dict(message) for message in HISTORY]
    await answer(send, b"%d" % len(session["history"]))


async def turns(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % len(session["history"]))


async def append(app: App, session: Any, send: Send) -> None:
    """Add a message and drop the oldest, in a new list: some peers do not see what happens inside the old one."""
    history = session["history"]
    n = history[-1]["n"] + 1
    session["history"] = [*history[1:], {**HISTORY[0], "n": n}]
    await answer(send, b"%d" % n)


async def last(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % session["history"][-1]["n"])


async def large(app: App, session: Any, send: Send) -> None:
    session["large"] = "x" * MEGABYTE
    await size(app, session, send)


async def size(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d" % len(session["large"]))


def piled() -> list[dict[str, Any]]:
    return [{**HISTORY[n % 2], "content": f"letter {n:04d}: " + "x" * 442, "n": n} for n in range(LETTERS)]


async def pile(app: App, session: Any, send: Send) -> None:
    session["messages"] = [
        {**HISTORY[n % 2], "content": f"letter {n:04d}: " + "x" * 442, "n": n} for n in range(LETTERS)
    ]
    await letters(app, session, send)


async def letters(app: App, session: Any, send: Send) -> None:
    await answer(send, b"%d of %s" % (len(session["messages"]), session["user"].encode()))


async def stream(app: App, session: Any, send: Send) -> None:
    """Read once, start, and clock the chunks alone: neither the start nor the end of the answer is counted."""
    token = session["user"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    begin = time.perf_counter_ns()
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": token, "more_body": True})
    app.chunks_ns = time.perf_counter_ns() - begin
    await send({"type": "http.response.body", "body": token, "more_body": False})


async def greet(app: App, session: Any, send: Send) -> None:
    """Accept a websocket, say who it is, close it."""
    user = session["user"].encode()
    await send({"type": "websocket.accept", "headers": []})
    await send({"type": "websocket.send", "bytes": user})
    await send({"type": "websocket.close", "code": 1000})


SMALL = hello, read, peek, number, write, new
ROUTES = {
    f"/{route.__name__}": route
    for route in (*SMALL, fill, turns, append, last, large, size, pile, letters, stream, greet)
}
