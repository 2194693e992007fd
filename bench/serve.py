"""`python -m bench.serve PEER PORT`: a peer behind uvicorn (uvloop, httptools), as the sockets part starts it.

Rules of residence: the server's process and the routes that only a server has. Nothing is measured here.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from typing import Any

from bench.app import App, answer
from bench.peers import PEERS

TOKENS = 200
PAUSE = 0.02
"""Seconds between tokens: fifty a second, as a model of middling size answers."""

TOKEN = b"data: token\n\n"


class Served(App):
    """Counts what it answers, and streams as slowly as a model does."""

    def __init__(self, session_of: Any) -> None:
        super().__init__(session_of)
        self.answered: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        path = scope["path"]
        self.answered[path] += 1
        if path == "/tokens":
            await tokens(self.session_of(scope), send)
        elif path == "/answered":
            await answer(send, repr(dict(self.answered)).encode())
        else:
            await super().__call__(scope, receive, send)


async def tokens(session: Any, send: Any) -> None:
    """Write before the start, where every peer keeps it, then stream."""
    session["n"] += 1
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(TOKENS):
        await asyncio.sleep(PAUSE)
        await send({"type": "http.response.body", "body": TOKEN, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def main(key: str, port: str) -> None:
    import uvicorn

    logging.disable(logging.WARNING)  # such as: a Secure cookie over plain http
    peer, own = PEERS[key], {"user": "u0", "n": 1}
    app = Served((lambda scope: own) if peer.bare else peer.session_of)
    middleware, _ = peer.wrap(app)
    fast = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
    # Said, not guessed: a peer whose `__call__` is a plain function would be taken for ASGI 2.
    uvicorn.run(middleware, host="127.0.0.1", port=int(port), interface="asgi3", **fast)


if __name__ == "__main__":
    main(*sys.argv[1:])
