"""One streaming chat in every framework, each as the guide tells to write it, for servers to end in every way.

Rules of residence: applications only, a module for each framework, which has `make(store)`. Each serves

    /chat?q=&how=whole  a short answer; each token goes into the session, then to the client
                long      one that outlasts what a server grants at a shutdown
                broken    says a few tokens, keeps one more that it does not say, and raises
    /session             all that the session holds
    /socket              (raw ASGI) a WebSocket that changes the session and closes
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
from server_apps import SECRET

__all__ = ["FRAMEWORKS", "LAST_WORDS", "OPTIONS", "TOKENS", "BrokenError", "answer"]

FRAMEWORKS = {  # as the table calls them, and their modules
    "raw ASGI": "of_raw_asgi",
    "Starlette": "of_starlette",
    "FastAPI": "of_fastapi",
    "FastAPI, events": "of_fastapi_events",
    "Litestar": "of_litestar",
    "Quart": "of_quart",
    "Django": "of_django",
}
OPTIONS: dict[str, Any] = {"secret_key": SECRET, "secure": False}
TOKENS = {"whole": 20, "broken": 5, "long": 400}
PAUSE = 0.005  # seconds after each token
LAST_WORDS = "unsaid;"


class BrokenError(Exception):
    """The application's own failure."""


async def answer(session: Any, how: str) -> AsyncIterator[str]:
    """Say one token after the other; the session has each before the client has it."""
    session["answer"] = ""
    for number in range(TOKENS[how]):
        token = f"{number};"
        session["answer"] += token
        yield token
        await anyio.sleep(PAUSE)
    if how == "broken":
        session["answer"] += LAST_WORDS
        raise BrokenError
