"""The ASGI middleware: what it accepts, which session a request gets, lifespan.

Rules of residence: with ``exchange`` the only module that knows ASGI messages. No state of one request is on the
middleware object but the set of running requests.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from asgiref.compatibility import guarantee_single_callable

from .asgi.cookies import CookieFinder, CookiePolicy
from .asgi.exchange import APPLIED, Exchange, Message, Terms, refuse_service, watching
from .asgi.headers import foreign_origin
from .codecs import Codec, JsonCodec
from .config import IDLE_TIMEOUT, LIFETIME, STORE_TIMEOUT, Faults, Hidden, default_cookie_name, path_below
from .crypto.tokens import TOKEN_CHARS, KeyRing, Sealer
from .engine.manager import SessionManager, new_session
from .engine.packing import Packer
from .engine.values import LiveValues, PackedValues
from .errors import ConfigError, FasterSessionError, StoreError
from .events import EventLog
from .session import ACCEPTED_WITHOUT_COOKIE, ENDED, Session
from .stores.base import Store
from .stores.memory import MemoryStore

__all__ = ["FasterSessionMiddleware"]

Applied = tuple[tuple[str, str], ...]  # (cookie name, scope key) of each of our middlewares


class FasterSessionMiddleware:
    """Server-side sessions for any ASGI application, saved even when the answer streams after the headers.

    It puts a :class:`Session` at ``scope["session"]`` and its manager at ``request.state.session``. See the README
    for what happens when. One instance serves one event loop at a time.

    :param app: an ASGI 3 application, or an ASGI 2 one (adapted by asgiref).
    :param secret_key: ``str``, ``bytes``, what hides one (Starlette's ``Secret``, pydantic's ``SecretStr``), or a
        sequence of up to four: the first signs, all verify. ``None`` takes the environment variable
        ``FASTERSESSION_SECRET``, whose whole value is one key.
    :param store: where sessions are kept, a store or a URL as ``from_url`` takes it. ``None`` takes the URL in
        ``FASTERSESSION_STORE``; without it, it makes a ``MemoryStore`` of this middleware's own.
    :param http_only: scripts cannot read the cookie.
    :param secure: clients send the cookie over https only, whatever the scheme of this request is.
    :param same_site: ``"lax"``, ``"strict"``, ``"none"`` in any case, or ``None`` to omit the attribute.
    :param max_age: seconds; 0 lets the cookie live while the browser is open. Above 0 the session ends that long
        after its cookie was issued, on the server too.
    :param session_cookie: the cookie's name; ``None`` takes ``__Host-sid`` where its rules allow, else ``sid``.
    :param path: the cookie's path.
    :param domain: the cookie's domain, a leading dot is dropped; ``None`` restricts it to the host.
    :param partitioned: the cookie belongs to the embedding site (CHIPS); it needs ``same_site="none"``.
    :param scope_key: the key in ``scope`` under which the session stands.
    :param session_object: the attribute of ``request.state`` under which the manager stands.
    :param skip_session_header: a dict ``{"header_name": ..., "header_value": ...}`` or a list of them; a request
        that has one (value ``"*"``: any) gets no session.
    :param exclude: paths below the ``root_path``, or prefixes ending in ``*``, that get no session.
    :param idle_timeout: seconds or ``timedelta`` since the last request after which the session ends.
    :param lifetime: seconds or ``timedelta`` since creation after which the session ends; ``None`` for never.
    :param allowed_origins: further origins (``scheme://host[:port]``) whose WebSockets may carry the session.
    :param codec: turns attributes into bytes, for stores outside the process; ``None`` takes ``JsonCodec()``.
    :param seal: encrypt and authenticate what such a store gets.
    :param store_timeout: seconds or ``timedelta`` that one call of a store outside the process may take; a save after
        the headers may take 2.5 times that, retries included.
    :param logger: gets the events, as records with ``event`` and ``session_id``.
    :raises ConfigError: arguments that cannot work, all named in one text.

    ``scope_key``, ``session_cookie`` (the name, also where none was given) and ``path`` are attributes, too.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        secret_key: str | bytes | Hidden | Sequence[str | bytes | Hidden] | None = None,
        store: Store | str | None = None,
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
        codec: Codec | None = None,
        seal: bool = True,
        store_timeout: float | timedelta = STORE_TIMEOUT,
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
        given = faults.store(store)
        del store  # it may be a URL with a password
        faults.codec(codec, seal)
        timeout = faults.store_timeout(store_timeout)
        faults.settle()
        for argument, variable in faults.taken:
            text = "%s was taken from the environment variable %s"
            events.emit(logging.INFO, "config.environment", None, text, argument, variable)
        self.app: Any = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        self._events = events
        kept = MemoryStore() if given is None else given
        live = kept.live is not None
        sealer = Sealer(keys, policy.name) if seal and not live else None
        self._manager = SessionManager(
            store=kept,
            values=LiveValues() if live else PackedValues(Packer(codec or JsonCodec(), sealer)),
            keys=KeyRing(keys, policy.name),
            idle_timeout=idle,
            lifetime=life,
            max_age=max_age,
            patience=timeout / STORE_TIMEOUT,
            events=events,
        )
        self._find = CookieFinder(policy.name, TOKEN_CHARS).find
        self._selective = bool(self._skip or self._exclude or self._exclude_prefixes)
        self._plain = live and not self._selective
        self._terms = _terms(self._manager, policy, scope_key, session_object)
        self._applied: Applied = ((policy.name, scope_key),)
        self.scope_key, self.session_cookie, self.path = scope_key, policy.name, path
        self._refuse_twin(app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application with a session. Messages are forwarded by a plain function, without a task.

        The hot path. It stays in one function, and what it calls in locals, because that is what was measured to pay:
        an attribute that is called is looked for as a method first.
        """
        session: Session | None
        if (
            self._plain
            and type(scope) is dict
            and scope["type"] == "http"
            and type(scope["headers"]) is list
            and APPLIED not in scope
        ):
            applied, find = self._applied, self._find
            cookies = find(scope["headers"])
            try:
                session = new_session(self._manager) if cookies is None else self._manager.open_now(cookies)
            except StoreError as error:
                await self._unavailable(error, scope, receive, send)
                return
            finally:
                del cookies  # no traceback shall show them
        else:
            session, scope, receive, applied = await self._open(scope, receive, send)
            if session is None:
                return
        terms = self._terms
        name = terms.scope_key
        if name in scope and not self._vacated(scope):
            scope = scope.copy()
            scope[name] = session
        else:
            scope[name] = session  # for error pages and middlewares further out
            scope = scope.copy()
        scope[APPLIED] = applied
        session._request = exchange = Exchange()
        exchange.session = session
        exchange._out = send
        exchange.send = None
        exchange.failure = None
        exchange._terms = terms
        exchange._scope = scope
        exchange._key = name
        exchange._held = None
        key = terms.state_key
        state = scope["state"] if "state" in scope else None
        if state is not None and key not in state:
            state[key] = exchange
            exchange._state = state
        else:
            exchange.settle(state)
        if session._record is not None:
            exchange.hold()
        try:
            app = self.app
            await app(scope, receive, exchange.on_message)
            if exchange.leave():
                return
        except BaseException as error:
            if await self._failed(exchange, error):
                raise
            return
        await exchange.close()

    async def _failed(self, exchange: Exchange, error: BaseException) -> bool:
        """End an exchange whose application raised; tell if the error goes on to the server."""
        try:
            if isinstance(error, GeneratorExit):  # nothing can be awaited any more
                return True
            await exchange.save_last(raised=True)
            await self._manager.drain_unasked(error)
            return not await exchange.answered(error)
        finally:
            exchange.release()

    def around(self, app: Any) -> FasterSessionMiddleware:
        """Return a middleware with the same sessions around another application, say a test; nothing is excluded."""
        other = copy.copy(self)
        other.app = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        other._selective = False
        return other

    # --- before the application ---

    def _is_excluded(self, scope: Any) -> bool:
        if self._exclude or self._exclude_prefixes:
            path = path_below(scope["path"], scope.get("root_path"))
            if path in self._exclude or path.startswith(self._exclude_prefixes):
                return True
        if not self._skip:
            return False
        return any(
            header.lower() == name and (value is None or value == given)
            for header, given in scope["headers"]
            for name, value in self._skip
        )

    def _vacated(self, scope: Any) -> bool:
        """Take out of a scope that is used again the session that a call before has left there; tell if it had one."""
        name = self._terms.scope_key
        left = scope.get(name)
        if not issubclass(type(left), Session) or left._phase != ENDED or not isinstance(scope, dict):
            return False
        del scope[name]
        return True

    async def _open(self, scope: Any, receive: Any, send: Any) -> tuple[Session | None, Any, Any, Applied]:
        """Return a call's session, scope, receive and what is applied to it by now; no session: the call is over.

        The scope that comes back may be written to.
        """
        kind, name, show = scope["type"], self._terms.scope_key, None
        if kind != "http" and kind != "websocket":
            await (self._lifespan if kind == "lifespan" else self.app)(scope, receive, send)
            return None, scope, receive, ()
        if name in scope:
            self._vacated(scope)
        if type(scope) is not dict or type(scope["headers"]) is not list:  # any iterable, and may be read but once
            show = scope.setdefault if isinstance(scope, dict) else None  # no second scope for a traceback to show
            scope = {**scope, "headers": list(scope["headers"])}
        if self._selective and self._is_excluded(scope):
            await self.app(scope, receive, send)
            return None, scope, receive, ()
        applied = scope.get(APPLIED, ())
        self._refuse_overlap(applied)
        try:
            session = self._foreign(scope) if kind == "websocket" else None
            if session is None:
                session = await self._manager.open(self._find(scope["headers"]))
                if kind == "websocket":
                    session._refusal = ACCEPTED_WITHOUT_COOKIE
        except StoreError as error:
            await self._unavailable(error, scope, receive, send)
            return None, scope, receive, ()
        if show is not None:
            show(name, session)
        receive = watching(receive, session) if kind == "websocket" else receive
        return session, scope, receive, (*applied, *self._applied)

    def _foreign(self, scope: Any) -> Session | None:
        """Return the session of a WebSocket from a foreign origin."""
        origin = foreign_origin(scope["headers"], self._origins)
        if origin is None:
            return None
        self._events.once(
            "websocket.foreign_origin",
            "a WebSocket from another origin got no session; behind a proxy, let it pass the Host header on, "
            "or name the origin in allowed_origins",
        )
        return self._manager.foreign(origin)

    async def _unavailable(self, error: StoreError, scope: Any, receive: Any, send: Any) -> None:
        self._vacated(scope)
        self._events.emit(logging.ERROR, "store.unavailable", None, "no session could be loaded: %s", error)
        await refuse_service(scope, receive, send)

    def _refuse_twin(self, app: Any) -> None:
        """Refuse, at construction, an application that has a middleware like this one directly inside."""
        for _ in range(100):  # a chain of middlewares, each of which keeps the next as ``app``
            if isinstance(app, FasterSessionMiddleware):
                self._refuse_overlap(app._applied)
            app = getattr(app, "app", None)

    def _refuse_overlap(self, applied: Iterable[tuple[str, str]]) -> None:
        ((name, key),) = self._applied
        if any(name == other_name or key == other_key for other_name, other_key in applied):
            raise ConfigError(
                "session_cookie, scope_key: FasterSessionMiddleware is applied twice; remove one, "
                "or give the second a session_cookie and a scope_key of its own"
            )

    # --- lifespan ---

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on, opening the store before the startup and draining and closing it at the shutdown.

        A store that cannot be opened is told in the protocol's own words: servers take a mere exception for an
        application that knows no lifespan, and serve on without it. What such an application leaves undone is done
        for it: a server that sees it refuse, as Django does, does not tell of its shutdown, and what streams hold then
        would be lost.
        """
        applied = scope.get(APPLIED, ())
        self._refuse_overlap(applied)
        self._manager.told_of_shutdown = True
        known = failed = False

        async def receiving() -> Any:
            nonlocal known, failed
            known = True
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._manager.open_store()
                except FasterSessionError as error:
                    failed = True
                    await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                    raise
            elif message["type"] == "lifespan.shutdown":
                await self._manager.drain()
            return message

        async def sending(message: Message) -> None:
            nonlocal known
            known = True
            if failed:  # all has been said
                return
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await self._manager.close_store()
            await send(message)

        refusal = "it returned"
        try:
            await self.app({**scope, APPLIED: (*applied, *self._applied)}, receiving, sending)
        except Exception as error:
            if known:
                raise
            refusal = type(error).__name__
        if not known:
            self._events.emit(logging.INFO, "lifespan.unknown", None, "the application knows no lifespan: %s", refusal)
            for _ in range(2):  # startup and shutdown
                await sending({"type": f"{(await receiving())['type']}.complete"})


def _terms(manager: SessionManager, policy: CookiePolicy, scope_key: str, state_key: str) -> Terms:
    before_token, after_token = policy.template()
    return Terms(
        manager=manager,
        now=manager.now,
        running=manager.running,
        live=manager.live,
        events=manager.events,
        scope_key=scope_key,
        state_key=state_key,
        before_token=before_token,
        after_token=after_token,
        cleared=policy.cleared(),
        secure=policy.secure,
    )
