"""One middleware for a whole Litestar application, and its session as a dependency with its type.

Rules of residence: makes the middleware, puts it around every route, and gives it the lifespan of the application.
Litestar makes what stands in ``middleware=[...]`` for every route anew, and gives it no lifespan.

    @post("/chat")
    async def chat(session: SessionDep) -> Stream: ...

    app = Litestar([chat], plugins=[FasterSessionPlugin(secret_key=...)])
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.plugins import InitPlugin
from litestar.types import ASGIApp, Receive, Scope, Send

from .. import FasterSessionMiddleware, Session
from ._scope import session_in

NEXT = "fastersession.next"  # scope key: the application within the middleware on this route
LIFE = "fastersession.life"  # scope key: the ``_Life`` of a lifespan

SessionDep = NamedDependency[Session]


def get_session(connection: ASGIConnection[Any, Any, Any, Any], scope_key: str = "session") -> Session:
    """Return the session of a ``Request`` or a ``WebSocket``.

    :param scope_key: the middleware's ``scope_key``.
    :raises ConfigError: there is none, or it is another middleware's.
    """
    return session_in(connection.scope, scope_key)


class FasterSessionPlugin(InitPlugin):
    """Puts one ``FasterSessionMiddleware`` around every route, outside of all other middlewares.

    A handler with a parameter ``session: SessionDep`` gets the session, unless the application has a dependency
    ``session`` of its own. Answers that no route makes (404, 405) have no session. A plugin serves one application.

    :param arguments: those of ``FasterSessionMiddleware``.
    :raises ConfigError: arguments that cannot work.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._middleware = FasterSessionMiddleware(_inside, *arguments, **named)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the middleware, the dependency and the lifespan to the application."""
        life = _Life(self._middleware)
        app_config.middleware.insert(0, self._around)
        app_config.dependencies.setdefault("session", Provide(self._session))
        app_config.lifespan = [life.open, *app_config.lifespan, life.drained]
        return app_config

    def _around(self, app: ASGIApp) -> ASGIApp:
        middleware = self._middleware

        async def bound(scope: Any, receive: Receive, send: Send) -> None:
            scope[NEXT] = app
            await middleware(scope, receive, send)

        return bound

    async def _session(self, scope: Scope) -> Session:
        return session_in(scope, self._middleware.scope_key)


async def _inside(scope: Any, receive: Any, send: Any) -> None:
    """Call the application within the middleware, on a route or in the lifespan."""
    if scope["type"] == "lifespan":
        await scope[LIFE].hold(receive, send)
    else:
        await scope[NEXT](scope, receive, send)


class _Life:
    """The lifespan of the middleware, in ASGI messages, within Litestar's.

    The store opens before all else starts. The drain comes before all else stops. The store closes when the other
    lifespans have ended, before the ``on_shutdown`` hooks run.
    """

    def __init__(self, middleware: FasterSessionMiddleware) -> None:
        self._middleware = middleware
        self._error: Exception | None = None

    @asynccontextmanager
    async def open(self, app: Litestar) -> AsyncIterator[None]:
        """Open the store for the block, and close it however the block ends."""
        self._started, self._stopping, self._drained, self._ending = (anyio.Event() for _ in range(4))
        self._asked, self._error = False, None
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._run)
                await self._started.wait()
                if self._error is None:
                    try:
                        yield
                    finally:
                        self._stopping.set()
                        self._ending.set()
        except BaseExceptionGroup as errors:  # of one error: the group runs one task
            raise errors.exceptions[0] from None
        if self._error is not None:
            raise self._error

    @asynccontextmanager
    async def drained(self, app: Litestar) -> AsyncIterator[None]:
        """Save at the exit what running requests hold."""
        yield
        self._stopping.set()
        await self._drained.wait()

    async def hold(self, receive: Receive, send: Any) -> None:
        """Take part in the middleware's lifespan as its application."""
        await receive()
        await send({"type": "lifespan.startup.complete"})
        self._started.set()
        await receive()
        self._drained.set()
        await self._ending.wait()
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}, LIFE: self}
        try:
            await self._middleware(scope, self._receive, _ignore)
        except Exception as error:
            self._error = error
        finally:
            self._started.set()
            self._drained.set()

    async def _receive(self) -> dict[str, str]:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}


async def _ignore(message: Any) -> None:
    """Drop the middleware's answer: it raises its errors, too."""
