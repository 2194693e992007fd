"""What gets no session: scopes that are no request, and a request whose store is away.

Rules of residence: whole calls that end without a session. What is excluded is the gate's affair.
"""

from __future__ import annotations

from typing import Any

from ..engine.engine import Engine
from ..errors import StoreError
from ..events import RequestRefused
from .lifespan import Lifespan
from .messages import APPLIED, Send
from .overlap import Applied, refuse_overlap
from .refusal import refuse_service
from .replaced import vacated
from .terms import Terms


async def pass_by(app: Any, applied: Applied, engine: Engine, scope: Any, receive: Any, send: Send) -> None:
    """Run the application in what has no session: the lifespan, or a type of scope that is not known."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    refuse_overlap(applied, others := scope.get(APPLIED, ()))
    if engine.listening is not None:
        engine.listening.start()
    run = Lifespan(engine.calls, engine.runs, engine.events, receive, send).run
    await run(app, {**scope, APPLIED: (*others, *applied)})


async def unavailable(error: StoreError, terms: Terms, scope: Any, receive: Any, send: Send) -> None:
    """Answer a request whose session could not be loaded."""
    vacated(scope, terms.scope_key)
    terms.events.tell(RequestRefused(what="no session could be loaded", error=str(error)))
    await refuse_service(scope, receive, send)
