"""Starlette, with a BaseHTTPMiddleware between the sessions and the endpoint."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route

from fastersession import FasterSessionMiddleware

from . import OPTIONS
from .of_starlette import chat, show


async def passing(request: Any, call_next: Any) -> Any:
    return await call_next(request)


def make(store: Any) -> Any:
    around = [
        Middleware(FasterSessionMiddleware, store=store, **OPTIONS),
        Middleware(BaseHTTPMiddleware, dispatch=passing),
    ]
    return Starlette(routes=[Route("/chat", chat), Route("/session", show)], middleware=around)
