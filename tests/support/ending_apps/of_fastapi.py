"""FastAPI: a StreamingResponse."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer


async def chat(request: Request, q: str, how: str) -> StreamingResponse:
    request.session["question"] = q
    return StreamingResponse(answer(request.session, how))


async def show(request: Request) -> dict[str, Any]:
    return request.session


def make(store: Any) -> Any:
    app = FastAPI()
    app.get("/chat")(chat)
    app.get("/session")(show)
    app.add_middleware(FasterSessionMiddleware, store=store, **OPTIONS)
    return app
