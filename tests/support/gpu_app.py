"""What several workers serve in front of a model that costs money: streams without an end, and when each has ended.

Rules of residence: raw ASGI, so that middleware and server alone are under test. Configured by environment: STORE is
the store's URL, PAUSE the seconds between two tokens, MODEL a file to which the model writes a line for each answer
that has ended: its name, how many tokens it had, and when the last was made (of the machine's monotonic clock, which
all processes share).

    /login?user=ada     a new session
    /stream?name=a1     tokens until the client goes away
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import anyio
from server_apps import SECRET, Request, leave, of_a_worker, ready

from fastersession import FasterSessionMiddleware
from fastersession.stores import from_url

PAUSE = float(os.environ.get("PAUSE", "0.2"))


async def model(name: str) -> AsyncIterator[bytes]:
    """Make tokens until nobody wants them any more, and write down when that was."""
    made, last = 0, 0.0
    try:
        while True:
            made, last = made + 1, time.monotonic()
            yield b"data: token\n\n"
            await anyio.sleep(PAUSE)
    finally:
        with open(os.environ["MODEL"], "a") as lines:
            lines.write(json.dumps({"name": name, "made": made, "last": last}) + "\n")


async def login(request: Request) -> None:
    request.session.login(request.query["user"])
    await request.json("in")


async def stream(request: Request) -> None:
    """Stream what the model says; it ends where the client leaves, as in every framework."""
    async with anyio.create_task_group() as group, aclosing(model(request.query["name"])) as tokens:
        group.start_soon(leave, request, group.cancel_scope)
        await request.start(b"text/event-stream")
        async for token in tokens:
            await request.body(token, more=True)


ROUTES = {"/ready": ready, "/login": login, "/stream": stream}

plain = of_a_worker(ROUTES)
app = FasterSessionMiddleware(
    plain, secret_key=SECRET, store=from_url(os.environ["STORE"]), secure=False, close_on_end=True
)
