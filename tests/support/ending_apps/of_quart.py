"""Quart: a streamed response, and its own `session` made ours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, request, session, stream_with_context

from fastersession import FasterSessionMiddleware
from fastersession.integrations.quart import FasterSessionInterface

from . import OPTIONS, answer


async def chat() -> AsyncIterator[str]:
    session["question"] = request.args["q"]

    @stream_with_context
    async def say(how: str) -> AsyncIterator[str]:
        async for token in answer(session, how):
            yield token

    return say(request.args["how"])


async def show() -> dict[str, Any]:
    return {**session}


def make(store: Any) -> Any:
    app = Quart(__name__)
    app.add_url_rule("/chat", view_func=chat)
    app.add_url_rule("/session", view_func=show)
    app.session_interface = FasterSessionInterface()
    app.asgi_app = FasterSessionMiddleware(app.asgi_app, store=store, **OPTIONS)
    return app
