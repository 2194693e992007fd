"""FastAPI: an endpoint that yields server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer
from .of_fastapi import show


async def ask(request: Request, q: str) -> None:
    """Begin the session before the headers leave: the endpoint's own body may run after that."""
    request.session["question"] = q


async def chat(request: Request, how: str) -> AsyncIterator[ServerSentEvent]:
    async for token in answer(request.session, how):
        yield ServerSentEvent(data=token)


def make(store: Any) -> Any:
    app = FastAPI()
    app.get("/chat", response_class=EventSourceResponse, dependencies=[Depends(ask)])(chat)
    app.get("/session")(show)
    app.add_middleware(FasterSessionMiddleware, store=store, **OPTIONS)
    return app
