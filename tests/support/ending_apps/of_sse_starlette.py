"""sse-starlette: an EventSourceResponse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer
from .of_starlette import show


async def chat(request: Request) -> EventSourceResponse:
    request.session["question"] = request.query_params["q"]

    async def events() -> AsyncIterator[dict[str, str]]:
        async for token in answer(request.session, request.query_params["how"]):
            yield {"data": token}

    return EventSourceResponse(events())


def make(store: Any) -> Any:
    ours = Middleware(FasterSessionMiddleware, store=store, **OPTIONS)
    return Starlette(routes=[Route("/chat", chat), Route("/session", show)], middleware=[ours])
