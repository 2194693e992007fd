"""A chat whose answers outlive their connection, for tests with real servers and more than one process.

Rules of residence: routes; the store is that of the environment. What a test proves stands in the test.

    POST /ask?q=…&key=…   start, and stream      GET /resume    go on (Last-Event-ID), or 204
    POST /stop            stop                   GET /look      the history, and what runs
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fastersession import ConversationOptions, FasterSessionMiddleware

SECRET = "a secret of the tests of runs, and of nothing else"
WORDS = 40
PAUSE = 0.05  # seconds between two words: an answer of two seconds


def fold(frames: list[str]) -> dict[str, str]:
    """Make the answer."""
    return {"role": "assistant", "content": "".join(frames)}


async def words(question: str) -> AsyncIterator[str]:
    """Answer slowly."""
    for number in range(WORDS):
        yield f"{question}-{number} "
        await asyncio.sleep(PAUSE)


def chat(request: Request) -> Any:
    """Return the conversation of a user, who says who he is."""
    return request.scope["session"].conversations_of(request.query_params["user"])["main"]


def stream(run: Any) -> Response:
    """Stream a run."""
    return StreamingResponse(run.sse(), media_type="text/event-stream", headers=run.headers)


async def ask(request: Request) -> Response:
    """Start a run."""
    question, key = request.query_params["q"], request.query_params.get("key")
    return stream(await chat(request).start(words(question), entry=question, key=key))


async def resume(request: Request) -> Response:
    """Go on with a run."""
    run = await chat(request).run(request.headers.get("last-event-id"))
    return Response(status_code=204) if run is None else stream(run)


async def stop(request: Request) -> Response:
    """Stop what runs."""
    return JSONResponse(await chat(request).stop())


async def look(request: Request) -> Response:
    """Tell what a page would draw."""
    entries, run = await chat(request).look(50)
    return JSONResponse({"entries": [entry.value for entry in entries], "status": run and run.status})


app = Starlette(
    routes=[
        Route("/ask", ask, methods=["POST"]), Route("/resume", resume), Route("/stop", stop, methods=["POST"]),
        Route("/look", look),
    ],
    middleware=[
        Middleware(
            FasterSessionMiddleware, secret_key=SECRET, store=os.environ.get("STORE", "memory://"), secure=False,
            conversations=ConversationOptions(fold=fold),
        )
    ],
)  # fmt: skip
