"""The session as a dependency of FastAPI, with its type, for HTTP routes and WebSockets.

Rules of residence: looks the session up, nothing else. Opening and saving are the middleware's.

    @app.post("/chat")
    async def chat(session: SessionDep, q: str) -> StreamingResponse: ...
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from .. import Session
from ._scope import session_in

__all__ = ["SessionDep"]


async def _session(connection: HTTPConnection) -> Session:
    """Return the session. A coroutine, for FastAPI runs a plain function in a worker thread."""
    return session_in(connection.scope)


SessionDep = Annotated[Session, Depends(_session)]
