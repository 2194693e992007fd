"""The session as a dependency of FastAPI, with its type, for HTTP routes and WebSockets.

Rules of residence: finds the session, nothing else. The middleware opens and saves it.

    @app.post("/chat")
    async def chat(session: SessionDep, q: str) -> StreamingResponse: ...
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection

from .. import Session
from ._scope import session_in


async def _session(connection: HTTPConnection) -> Session:
    """Return the session. It is a coroutine, for FastAPI runs a plain function in a worker thread."""
    return session_in(connection.scope)


SessionDep = Annotated[Session, Depends(_session)]
