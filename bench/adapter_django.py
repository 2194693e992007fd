"""How an ASGI application becomes a Django view, with Django's sessions and without.

Rules of residence: all that Django's settings, views, responses and databases ask of an adapter. Sessions are in its
cache, in this process's memory, the nearest that Django has to a memory store; or in a database, one for all adapters
of one time. One set of settings serves the whole process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

LACKS = frozenset({"websocket", "stream", "tokens", "scale"})
"""No websockets; a stream goes through the adapter's own queue, which would be timed; its memory cache is bounded."""

BACKENDS = "django.contrib.sessions.backends."
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
CACHE = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "bench"}
MOST_SESSIONS = 2_000_000
USERS: list[Any] = []
"""Applications whose sessions are in the database of this time."""


def bare(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    return handled(app, []), ()


def cached(app: Any, clock: Any = None) -> tuple[Any, Sized]:
    made = handled(app, [SESSIONS])
    from django.core.cache import cache
    from django.core.cache.backends import locmem

    cache.clear()
    return made, locmem._caches["bench"]


def stored(
    engine: str, untouched: str, connections: int, patient: float
) -> Callable[[Any, str], tuple[Any, Callable[[], Awaitable[None]]]]:
    """Make the adapter of sessions in a database; `untouched` is the path where none is loaded."""

    def wrap(app: Any, url: str) -> tuple[Any, Callable[[], Awaitable[None]]]:
        async def loading(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["path"] != untouched:
                await scope["session"].aget("user")
            await app(scope, receive, send)

        async def left() -> None:
            USERS.remove(app)
            if not USERS:
                await asyncio.to_thread(leave)

        configure()
        with ThreadPoolExecutor(1) as thread:  # Django refuses it where an event loop runs
            thread.submit(database, url, connections, patient).result()
        from django.core.cache import cache

        cache.clear()  # what is asked next is answered by the database
        USERS.append(app)
        return handled(loading, [SESSIONS], engine), left

    return wrap


def database(url: str, connections: int, patient: float) -> None:
    """Take this database from now on, with the options that Django's documentation has for many requests at once."""
    from django.core.management import call_command
    from django.db import connections as known

    at = urlsplit(url)
    if at.scheme == "sqlite":
        pragmas = "pragma journal_mode=wal; pragma synchronous=normal"
        options = {"init_command": pragmas, "transaction_mode": "IMMEDIATE", "timeout": patient}
        wanted = {"ENGINE": "django.db.backends.sqlite3", "NAME": at.path[1:], "OPTIONS": options}
    else:
        pool = {"min_size": connections, "max_size": connections, "timeout": patient}
        wanted = {"ENGINE": "django.db.backends.postgresql", "NAME": at.path[1:], "OPTIONS": {"pool": pool}}
        wanted |= {"HOST": at.hostname, "PORT": str(at.port), "USER": at.username}
    if {key: known.databases["default"].get(key) for key in wanted} != wanted:
        leave()
        known.databases["default"] = known.configure_settings({"default": wanted})["default"]
        call_command("migrate", "sessions", verbosity=0)
        known.close_all()


def leave() -> None:
    """Close what is open to the database."""
    from django.db import connections as known

    if pool := getattr(known["default"], "close_pool", None):
        pool()
    del known["default"]


def logout(scope: dict[str, Any]) -> None:
    scope["session"].flush()


def handled(app: Any, middleware: list[str], engine: str = "cache") -> Any:
    """Make Django's ASGI handler with one view, which answers with `app`."""
    configure()
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler

    settings.MIDDLEWARE, settings.SESSION_ENGINE = middleware, BACKENDS + engine
    handler = ASGIHandler()

    async def entered(scope: dict[str, Any], receive: Any, send: Any) -> None:
        scope["bench.app"] = app
        await handler(scope, receive, send)

    return entered


def configure() -> None:
    import django
    from django.conf import settings
    from django.urls import re_path

    if not settings.configured:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            CACHES={"default": CACHE | {"OPTIONS": {"MAX_ENTRIES": MOST_SESSIONS}}},
            INSTALLED_APPS=["django.contrib.sessions"],
            LOGGING_CONFIG=None,
            ROOT_URLCONF=(re_path("", view),),
            SECRET_KEY="of the benchmark, and of nothing else",
        )
        django.setup(set_prefix=False)


async def view(request: Any) -> Any:
    """Answer with what the application sends: at once if that is all, as a stream otherwise."""
    from django.http import HttpResponse, StreamingHttpResponse

    talk = Talk(request)
    start, first, more = await talk.begin()
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    if not more:
        return HttpResponse(first, status=start["status"], headers=headers)
    return StreamingHttpResponse(talk.rest(first), status=start["status"], headers=headers)


class Talk:
    """The application running beside Django's response, message by message."""

    def __init__(self, request: Any) -> None:
        self.scope = dict(request.scope)
        if hasattr(request, "session"):
            self.scope["session"] = request.session
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.taken = asyncio.Event()
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def begin(self) -> tuple[dict[str, Any], bytes, bool]:
        """Return the start, the first part of the body and whether there is more; a short answer needs no task."""
        self.task = asyncio.create_task(self.run())
        start = await self.messages.get()
        body = await self.messages.get() if start else None
        if start is None or body is None:
            await self.task
            raise RuntimeError("the application did not answer")
        if not body.get("more_body"):
            await self.task
        return start, body.get("body", b""), body.get("more_body", False)

    async def run(self) -> None:
        try:
            await self.scope["bench.app"](self.scope, self.receive, self.send)
        finally:
            await self.messages.put(None)

    async def send(self, message: dict[str, Any]) -> None:
        """Hold a streaming application where a generator would be held: until its chunk has been sent."""
        await self.messages.put(message)
        if message.get("more_body"):
            await self.taken.wait()
            self.taken.clear()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def rest(self, first: bytes) -> AsyncIterator[bytes]:
        try:
            yield first
            self.taken.set()
            while (message := await self.messages.get()) is not None:
                yield message.get("body", b"")
                self.taken.set()
        finally:
            self.gone.set()
            self.taken.set()
            await self.task
