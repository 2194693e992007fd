"""Starlette: a StreamingResponse."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer


async def chat(request: Request) -> StreamingResponse:
    request.session["question"] = request.query_params["q"]
    return StreamingResponse(answer(request.session, request.query_params["how"]))


async def show(request: Request) -> JSONResponse:
    return JSONResponse(request.session)


def make(store: Any) -> Any:
    ours = Middleware(FasterSessionMiddleware, store=store, **OPTIONS)
    return Starlette(routes=[Route("/chat", chat), Route("/session", show)], middleware=[ours])
