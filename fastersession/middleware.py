"""The ASGI middleware.

Rules of residence: the only file that knows ASGI messages. It finds the cookie, opens the session, puts it into the
scope, runs the save points at the right messages, and writes the headers that are ours. No state of one request is on
the middleware object but the set of running requests.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from asgiref.compatibility import guarantee_single_callable
from asgiref.typing import ASGIApplication

from .commit import Point
from .config import IDLE_TIMEOUT, LIFETIME, Faults, default_cookie_name
from .cookies import CookieFinder, CookiePolicy
from .errors import ConfigError, FasterSessionError, StoreError
from .events import EventLog
from .headers import foreign_origin, has_content_length, with_cookie, with_vary
from .manager import RequestManager, SessionManager
from .session import NOT_STARTED, Metadata, Session
from .stores.base import Store
from .stores.memory import MemoryStore
from .tasks import run_now
from .tokens import KeyRing

__all__ = ["FasterSessionMiddleware"]

Message = dict[str, Any]
ASGISend = Callable[[Message], Awaitable[None]]

STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
FINALS = frozenset({
    "http.response.body", "http.response.zerocopysend", "http.response.pathsend", "http.response.trailers",
    "websocket.http.response.body", "websocket.close",
})  # fmt: skip
ACCEPTED = 101  # the status that stands for websocket.accept
RETRY_AFTER = b"5"  # seconds: about what a store needs to come back
TRY_AGAIN_LATER = 1013  # the WebSocket close code registered for it
APPLIED = "fastersession.applied"  # scope key: (cookie name, scope key) of each of our middlewares further out


class FasterSessionMiddleware:
    """Server-side sessions for any ASGI application, saved even when the answer streams after the headers.

    It puts a :class:`Session` at ``scope["session"]`` and its manager at ``request.state.session``. See the README
    for what happens when. One instance serves one event loop.

    :param app: an ASGI 3 application, or an ASGI 2 one (adapted by asgiref).
    :param secret_key: ``str``, ``bytes``, or a sequence of up to four: the first signs, all verify.
    :param store: where sessions are kept; ``None`` makes a ``MemoryStore`` of this middleware's own.
    :param http_only: scripts cannot read the cookie.
    :param secure: clients send the cookie over https only, whatever the scheme of this request is.
    :param same_site: ``"lax"``, ``"strict"``, ``"none"`` in any case, or ``None`` to omit the attribute.
    :param max_age: seconds; 0 lets the cookie live while the browser is open. Above 0 the session ends that long
        after its cookie was issued, on the server too.
    :param session_cookie: the cookie's name; ``None`` takes ``__Host-sid`` where its rules allow, else ``sid``.
    :param path: the cookie's path.
    :param domain: the cookie's domain; ``None`` restricts it to the host.
    :param partitioned: the cookie belongs to the embedding site (CHIPS).
    :param scope_key: the key in ``scope`` under which the session stands.
    :param session_object: the attribute of ``request.state`` under which the manager stands.
    :param skip_session_header: a dict ``{"header_name": ..., "header_value": ...}`` or a list of them; a request
        that has one (value ``"*"``: any) gets no session.
    :param exclude: paths, or prefixes ending in ``*``, that get no session.
    :param idle_timeout: seconds or ``timedelta`` since the last request after which the session ends.
    :param lifetime: seconds or ``timedelta`` since creation after which the session ends; ``None`` for never.
    :param allowed_origins: further origins (``scheme://host[:port]``) whose WebSockets may carry the session.
    :param logger: gets the events, as records with ``event`` and ``session_id``.
    :raises ConfigError: arguments that cannot work, all named in one text.
    """

    def __init__(
        self,
        app: ASGIApplication,
        secret_key: str | bytes | Sequence[str | bytes],
        store: Store | None = None,
        http_only: bool = True,
        secure: bool = True,
        same_site: str | None = "lax",
        max_age: int = 0,
        session_cookie: str | None = None,
        session_object: str = "session",
        skip_session_header: dict[str, str] | Sequence[dict[str, str]] | None = None,
        logger: logging.Logger | None = None,
        *,
        path: str = "/",
        domain: str | None = None,
        partitioned: bool = False,
        scope_key: str = "session",
        exclude: Iterable[str] = (),
        idle_timeout: float | timedelta = IDLE_TIMEOUT,
        lifetime: float | timedelta | None = LIFETIME,
        allowed_origins: Iterable[str] = (),
    ) -> None:
        faults = Faults()
        keys = faults.secret_keys(secret_key)
        del secret_key  # no traceback from here on can show it
        policy = faults.cookie(
            CookiePolicy(
                name=default_cookie_name(session_cookie, secure=secure, path=path, domain=domain),
                path=path,
                domain=domain,
                secure=secure,
                http_only=http_only,
                same_site=same_site,
                max_age=max_age,
                partitioned=partitioned,
            )
        )
        idle, life = faults.durations(idle_timeout, lifetime, max_age)
        self._skip = faults.skip_headers(skip_session_header)
        self._exclude, self._exclude_prefixes = faults.exclude(exclude)
        self._origins = faults.origins(allowed_origins)
        events = EventLog(faults.logger(logger or logging.getLogger("fastersession")))
        faults.names(scope_key=scope_key, session_object=session_object)
        faults.application(app)
        faults.store(store)
        faults.settle()
        self.app: Any = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        self._scope_key, self._state_key = scope_key, session_object
        self._events = events
        self._secure = policy.secure
        self._name = policy.name
        self._find = CookieFinder(policy.name).find
        self._set_cookie, self._clear_cookie = policy.template(), policy.cleared()
        self._manager = SessionManager(
            store=MemoryStore() if store is None else store,
            keys=KeyRing(keys, policy.name),
            idle_timeout=idle,
            lifetime=life,
            max_age=max_age,
            events=events,
        )
        self._refuse_twin(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application with a session. ``send`` is forwarded by a plain function, without a task."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        if kind not in ("http", "websocket") or self._is_excluded(scope):
            await self.app(scope, receive, send)
            return
        try:
            session = await self._open(scope)
        except StoreError as error:
            self._events.emit(logging.ERROR, "store.unavailable", None, "no session could be loaded: %s", error)
            await _unavailable(scope, receive, send)
            return
        scope = dict(scope)
        exchange = Exchange(self, session, scope, send)
        if kind == "websocket":
            receive = exchange.watching(receive)

        def forward(message: Message) -> Awaitable[None]:
            if message.get("more_body"):  # a chunk: of no interest, whatever its type
                pass_on: ASGISend = exchange.send
                return pass_on(message)
            return exchange.on_message(message)

        try:
            await self.app(scope, receive, forward)
        except GeneratorExit:  # nothing can be awaited any more
            raise
        except BaseException as error:
            await exchange.close(raised=True)
            if error is not exchange.failure:
                raise
        else:
            await exchange.close(raised=False)
        finally:
            exchange.release()

    # --- before the application ---

    def _is_excluded(self, scope: Any) -> bool:
        if self._exclude or self._exclude_prefixes:
            path = scope["path"]
            if path in self._exclude or path.startswith(self._exclude_prefixes):
                return True
        if not self._skip:
            return False
        return any(
            header.lower() == name and (value is None or value == given)
            for header, given in scope["headers"]
            for name, value in self._skip
        )

    async def _open(self, scope: Any) -> Session:
        self._refuse_twin_in(scope)
        headers = scope["headers"]
        if scope["type"] == "websocket":
            origin = foreign_origin(headers, self._origins)
            if origin is not None:
                self._events.once(
                    "websocket.foreign_origin",
                    "a WebSocket from another origin got no session; behind a proxy, let it pass the Host header on, "
                    "or name the origin in allowed_origins",
                )
                return self._manager.foreign(origin)
        candidates = self._find(headers)
        if candidates is None:
            self._events.hostile("cookie.oversized", "over 64 KiB of cookies: ignored")
        return await self._manager.open(candidates) if candidates else self._manager.new()

    def _refuse_twin(self, app: Any) -> None:
        for _ in range(100):  # a chain of middlewares, each of which keeps the next as ``app``
            if isinstance(app, FasterSessionMiddleware):
                self._refuse_overlap(((app._name, app._scope_key),))
            app = getattr(app, "app", None)

    def _refuse_twin_in(self, scope: Any) -> None:
        if APPLIED in scope:
            self._refuse_overlap(scope[APPLIED])

    def _refuse_overlap(self, applied: Iterable[tuple[str, str]]) -> None:
        for name, key in applied:
            if name == self._name or key == self._scope_key:
                raise ConfigError(
                    "session_cookie, scope_key: FasterSessionMiddleware is applied twice; remove one, "
                    "or give the second a session_cookie and a scope_key of its own"
                )

    # --- lifespan ---

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on, opening the store before the startup and draining and closing it at the shutdown."""
        self._refuse_twin_in(scope)

        async def receiving() -> Any:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._manager.open_store()
            elif message["type"] == "lifespan.shutdown":
                await self._manager.drain()
            return message

        async def sending(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._manager.close_store()
            await send(message)

        await self.app({**scope, APPLIED: self._applied(scope)}, receiving, sending)

    def _applied(self, scope: Any) -> tuple[tuple[str, str], ...]:
        return (*scope.get(APPLIED, ()), (self._name, self._scope_key))


class Exchange(RequestManager):
    """One request or WebSocket on its way through the middleware; to the application, its session manager."""

    __slots__ = ("_held", "_keeper", "_manager", "_middleware", "_scope", "failure", "send")

    def __init__(self, middleware: FasterSessionMiddleware, session: Session, scope: Any, send: ASGISend) -> None:
        self._session = session
        self._middleware = middleware
        self._manager = middleware._manager
        self._scope = scope
        self.send: ASGISend = send
        self.failure: FasterSessionError | None = None
        self._held: Metadata | None = None
        self._hold()
        self._manager.running.add(self)
        self._keeper = None if self._manager.live else self._manager.keep_alive(session)
        scope[APPLIED] = middleware._applied(scope)
        scope[middleware._scope_key] = session
        self._stand_in_state(middleware._state_key)

    def release(self) -> None:
        """Let go of everything; needs no event loop."""
        self._manager.end(self._session)
        self._manager.running.discard(self)
        if self._held is not None:
            self._count(self._held, -1)
        if self._keeper is not None:
            self._keeper.cancel()
        state = self._scope.get("state")
        if state is not None and state.get(self._middleware._state_key) is self:
            del state[self._middleware._state_key]

    def _stand_in_state(self, key: str) -> None:
        state = self._scope.get("state")
        if state is None:
            self._scope["state"] = {key: self}
            return
        there = state.get(key)
        if there is None:
            state[key] = self
        elif isinstance(there, RequestManager):  # the server shares one dict between requests
            self._scope["state"] = {**state, key: self}

    def _hold(self) -> None:
        """Keep the record from being evicted while this request runs."""
        record = self._session._record
        if record is not self._held:
            if self._held is not None:
                self._count(self._held, -1)
            if record is not None:
                self._count(record, 1)
            self._held = record

    def _count(self, record: Metadata, by: int) -> None:
        if self._scope["type"] == "http":
            record.requests += by
        else:
            record.sockets += by

    # --- messages ---

    def on_message(self, message: Message) -> Awaitable[None]:
        """Forward a message that is no chunk, after the save point that it is."""
        kind = message["type"]
        if kind in STARTS:
            return self._on_start(message)
        if kind in FINALS and self._session._phase != NOT_STARTED and self._has_work():
            return self._on_final(message)
        if kind == "websocket.send" and self._manager.due(self._session):
            return self._on_traffic(message)
        return self.send(message)

    def watching(self, receive: Any) -> Any:
        """Return a ``receive`` whose WebSocket messages keep the session alive."""

        async def watched() -> Any:
            message = await receive()
            if message["type"] == "websocket.receive" and self._manager.due(self._session):
                await self._manager.touch(self._session)
            return message

        return watched

    async def _on_traffic(self, message: Message) -> None:
        await self._manager.touch(self._session)
        await self.send(message)

    def _has_work(self) -> bool:
        session = self._session
        value = self._scope.get(self._middleware._scope_key, session)
        if value is not session:
            self._manager.adopt(session, value)
        return session._accessed or session._intents is not None or self._manager.due(session)

    def _on_start(self, message: Message) -> Awaitable[None]:
        accessed = self._session._accessed
        if not self._has_work():
            return self.send(self._dressed(message, accessed))
        if not self._manager.live:
            return self._start_later(message, accessed)
        try:
            run_now(self._checkpoint(message))
        except StoreError as error:
            return self._give_up(error)
        return self.send(self._dressed(message, accessed))

    async def _start_later(self, message: Message, accessed: bool) -> None:
        try:
            await self._checkpoint(message)
        except StoreError as error:
            await self._give_up(error)
        await self.send(self._dressed(message, accessed))

    async def _checkpoint(self, message: Message) -> None:
        discard = message.get("status", ACCEPTED) >= 500
        await self._manager.checkpoint(self._session, Point.START, discard=discard)

    async def _give_up(self, error: StoreError) -> None:
        """Answer 503 in the application's place, and unwind the application with the error."""
        self.failure = error
        send, self.send = self.send, _swallow
        record_id = self._session._record_id
        self._middleware._events.emit(logging.ERROR, "store.unavailable", record_id, "no session was saved: %s", error)
        await _send_unavailable(self._scope, send)
        raise error

    def _on_final(self, message: Message) -> Awaitable[None]:
        if not self._manager.live:
            return self._final_later(message)
        try:
            run_now(self._manager.late(self._session, Point.LATER))
        except FasterSessionError as error:
            self.failure = self.failure or error
        return self.send(message)

    async def _final_later(self, message: Message) -> None:
        try:
            await self._manager.late(self._session, Point.LATER)
        except FasterSessionError as error:
            self.failure = self.failure or error
        await self.send(message)

    async def close(self, *, raised: bool) -> None:
        """Run the last save point. An error of ours is raised only if the application's own is not on its way."""
        session = self._session
        if session._phase == NOT_STARTED or self._has_work():
            try:
                if not isinstance(self.failure, StoreError) or self.send is _swallow:
                    await self._manager.close(session, raised=raised)
            except FasterSessionError as error:
                self.failure = self.failure or error
        if self.failure is not None and not raised and self.send is not _swallow:
            raise self.failure

    # --- headers ---

    def _dressed(self, message: Message, accessed: bool) -> Message:
        """Return the start message as it leaves: with our headers, or untouched if there are none."""
        session = self._session
        cookie = self._manager.cookie(session)
        status = message.get("status", ACCEPTED)
        self._manager.started(session, failed=status >= 500)
        self._hold()
        given = message.get("headers", ())
        headers = given if type(given) is list else list(given)
        if cookie is not None:
            headers = self._with_cookie(headers, cookie, accept=message["type"] == "websocket.accept")
        if status != ACCEPTED and (
            accessed or cookie is not None or not (status in (204, 304) or status < 200 or has_content_length(headers))
        ):
            headers = with_vary(headers)
        return message if headers is given else {**message, "headers": headers}

    def _with_cookie(self, headers: list[tuple[bytes, bytes]], token: bytes, *, accept: bool) -> list[Any]:
        middleware = self._middleware
        before, after = middleware._set_cookie
        line = before + token + after if token else middleware._clear_cookie
        if token and middleware._secure and self._scope.get("scheme") in ("http", "ws"):
            middleware._events.once(
                "cookie.insecure_scheme",
                "a Secure cookie is set on a plain http request: clients may not return it; give secure=False in "
                "development, ignore this behind a proxy that speaks TLS",
            )
        if not accept:
            return with_cookie(headers, line)
        if not _accept_carries_headers(self._scope):
            middleware._events.once(
                "websocket.cookie_undeliverable",
                "this server drops the headers of websocket.accept: a session that begins on a WebSocket gets no "
                "cookie; begin it on an http request",
            )
        return [*headers, (b"set-cookie", line)]


async def _swallow(message: Message) -> None:
    """Take the messages of an application whose response was replaced."""


async def _unavailable(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes first
    await _send_unavailable(scope, send)


async def _send_unavailable(scope: Any, send: Any) -> None:
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": ""})
            return
        kind = "websocket.http.response"
    body = b"Service Unavailable: sessions cannot be reached\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", RETRY_AFTER),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _accept_carries_headers(scope: Any) -> bool:
    """Tell if the server sends the headers of websocket.accept: spec 2.1, and neither granian nor daphne."""
    version = str(scope.get("asgi", {}).get("spec_version", "2.0"))
    return version >= "2.1" and not {"granian", "daphne.server"} & sys.modules.keys()
