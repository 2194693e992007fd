"""Litestar: a Stream."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, get
from litestar.response import Stream

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer


@get("/chat")
async def chat(request: Request, q: str, how: str) -> Stream:
    request.session["question"] = q
    return Stream(answer(request.session, how))


@get("/session")
async def show(request: Request) -> dict[str, Any]:
    return request.session


def make(store: Any) -> Any:
    return FasterSessionMiddleware(Litestar([chat, show], openapi_config=None), store=store, **OPTIONS)
