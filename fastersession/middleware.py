"""The ASGI middleware: what it accepts, what it is made of, and the way of a request through it.

Rules of residence: arguments, composition, and which session a call gets. No state of one request is on the middleware
object but the set of running requests.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from asgiref.compatibility import guarantee_single_callable

from .asgi.closing import CLOSING, Incoming
from .asgi.cookies import CookieFinder, CookiePolicy
from .asgi.csrf import cross_site_of
from .asgi.exchange import Exchange
from .asgi.gate import gate_of
from .asgi.headers import foreign_origin
from .asgi.messages import APPLIED
from .asgi.outside import pass_by, unavailable
from .asgi.overlap import Applied, refuse_overlap, refuse_twin
from .asgi.replaced import vacated
from .asgi.rolling import RollingExchange
from .asgi.selection import Selection
from .asgi.socket import OpenSocket
from .asgi.talking import Talking
from .asgi.terms import terms_of
from .asgi.transport import transport_of
from .codecs import Codec
from .config import IDLE_TIMEOUT, LIFETIME, RETENTION, STORE_TIMEOUT, Faults, Hidden, default_cookie_name
from .crypto.tags import UserTags
from .crypto.tokens import TOKEN_CHARS, KeyRing
from .engine.engine import Engine, packer_of
from .engine.logins import Policy
from .engine.watch import OnEnd
from .errors import StoreError
from .events import ForeignOrigin
from .listeners import SessionListener
from .log import EventLog
from .session import Session, give_state
from .stores.base import Store
from .stores.memory import MemoryStore

if TYPE_CHECKING:
    from .conversations.options import ConversationOptions

Opened = tuple[Exchange, Session, Any, Applied]  # with the scope that the application gets


class FasterSessionMiddleware:
    """Server-side sessions for any ASGI application, saved even when the answer streams after the headers.

    It puts a :class:`Session` at ``scope["session"]`` and its manager at ``request.state.session``. The GUIDE says
    what happens when. One instance serves one event loop at a time.

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
    :param allowed_origins: further origins (``scheme://host[:port]``) of WebSockets, and of what ``csrf`` lets pass.
    :param csrf: refuses, by 403, what a page of another origin makes a browser send with the session's cookie, but for
        GET, HEAD and OPTIONS: ``"fetch-metadata"``; ``"all"`` also without the cookie; ``"report"`` logs only.
    :param passive: what ``exclude`` and ``skip_session_header`` take, in one sequence: such requests, and, where it is
        given at all, what a browser loads on speculation, use the session, but are no access to it.
    :param transport: ``"cookie"``, ``"header:x-session-token"``, or both: the ways in which a token comes and goes.
    :param codec: turns attributes into bytes, for stores outside the process; ``None`` takes ``JsonCodec()``.
    :param seal: encrypt and authenticate what such a store gets.
    :param store_timeout: seconds or ``timedelta`` that one call of a store outside the process may take; a save after
        the headers may take 2.5 times that, retries included.
    :param listeners: are told of sessions: instances of :class:`SessionListener`. Needs asyncio.
    :param max_sessions_per_user: how many sessions a user may be logged in with; ``None`` for any number.
    :param on_max_sessions: what happens at a login beyond that: ``"evict"`` ends his least recently used session,
        ``"deny"`` refuses the login (``TooManySessions``).
    :param retention: seconds or ``timedelta`` for which an ended session is kept until ``destroyed`` was told.
    :param rolling: issue the cookie again while the session is used, at most once a tenth of ``max_age``, each time for
        the whole of it, but never beyond ``lifetime``.
    :param on_reuse: what becomes of a session whose replaced token is used more than a minute later: ``"revoke"`` ends
        it; ``None`` only tells.
    :param close_on_end: what runs on a session ends with it, within two seconds, wherever it was ended.
    :param end_on_outage: so it does where the store cannot be asked for ten seconds.
    :param conversations: bounds on conversations and runs, and how an answer enters a history; ``None``: the defaults.
    :param detachable: what ``exclude`` takes: the answers of such requests outlive their connections; where it is given
        at all, also empty, handlers may call ``session.detach()``.
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
        csrf: str | None = None,
        passive: Iterable[str | dict[str, str]] | None = None,
        transport: Sequence[str] = ("cookie",),
        codec: Codec | None = None,
        seal: bool = True,
        store_timeout: float | timedelta = STORE_TIMEOUT,
        listeners: Iterable[SessionListener] = (),
        max_sessions_per_user: int | None = None,
        on_max_sessions: str = "evict",
        retention: float | timedelta = RETENTION,
        rolling: bool = False,
        on_reuse: str | None = None,
        close_on_end: bool = False,
        end_on_outage: bool = False,
        conversations: ConversationOptions | None = None,
        detachable: Iterable[str] | None = None,
    ) -> None:
        faults = Faults()
        keys = faults.secret_keys(secret_key)
        del secret_key  # no traceback from here on can show it
        policy = faults.cookie(
            CookiePolicy(
                name=default_cookie_name(session_cookie, secure=secure, path=path, domain=domain),
                path=path, domain=domain, secure=secure, http_only=http_only, same_site=same_site, max_age=max_age,
                partitioned=partitioned,
            )
        )  # fmt: skip
        spans = faults.durations(idle_timeout, lifetime, max_age)
        is_rolling, revokes = faults.rolling(rolling, spans), faults.on_reuse(on_reuse)
        exclusion = Selection(*faults.exclude(exclude), faults.skip_headers(skip_session_header))
        self._origins = faults.origins(allowed_origins)
        faults.csrf(csrf)
        ways = faults.transport(transport)
        passives = None if passive is None else Selection(*faults.passive(passive))
        events = EventLog(faults.logger(logger or logging.getLogger("fastersession")))
        faults.names(scope_key=scope_key, session_object=session_object)
        faults.application(app)
        given = faults.store(store)
        del store  # it may be a URL with a password
        faults.codec(codec, seal)
        patience = faults.store_timeout(store_timeout) / STORE_TIMEOUT
        told = faults.listeners(listeners)
        allowed = Policy(*faults.limit(max_sessions_per_user, on_max_sessions), faults.retention(retention, told))
        faults.can(given, told, allowed.limit, rolling=is_rolling)
        faults.conversations(conversations)
        detached = None if detachable is None else Selection(*faults.exclude(detachable, "detachable"), ())
        faults.add(*(on_end := OnEnd(close_on_end, end_on_outage)).faults(given))
        faults.settle()
        faults.tell_taken(events)
        self.app: Any = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        kept = MemoryStore() if given is None else given
        packer = packer_of(kept, codec, keys, policy.name, seal=seal)
        tags, ring = UserTags(keys, policy.name), KeyRing(keys, policy.name)
        self._engine = engine = Engine(kept, packer, spans, patience, events, tags, allowed, told, on_end)
        find = CookieFinder(policy.name, TOKEN_CHARS).find
        way = transport_of(*ways, find)
        talking = Talking(engine.calls, keys, codec, events, conversations, seal=seal)
        engine.runs.first_drained.append(talking.drain)
        engine.directory.on_revoked.append(talking.stop_all)
        self._terms = terms_of(engine, keys, ring, policy, way, talking, scope_key, session_object)
        self._loader = engine.loader(ring, self._terms, revokes_reused=revokes)
        self._open_now = self._loader.open_now
        self._find = find if way is None else way.find
        self.scope_key, self.session_cookie, self.path = scope_key, policy.name, path
        self.gate = gate_of(exclusion, cross_site_of(csrf, find, self._origins, events), passives)
        self._exchange: type[Exchange] = RollingExchange if is_rolling else Exchange
        self._closes = close_on_end
        self._plain = kept.live is not None and not (
            self.gate or engine.listening or is_rolling or close_on_end or (detached and any(detached))
        )
        self.applied: Applied = ((policy.name, scope_key),)
        refuse_twin(self, app)
        self._detached = detached
        _enclose(self, detached)

    def around(self, app: Any) -> FasterSessionMiddleware:
        """Return a middleware with the same sessions around another application, say a test; nothing is excluded."""
        other = copy.copy(self)
        other.app = guarantee_single_callable(app)  # type: ignore[no-untyped-call]
        other.gate = None if self.gate is None else self.gate.open()
        _enclose(other, self._detached)
        return other

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application with a session. Messages are forwarded by a plain function, without a task.

        The hot path. That it is one function, and what it calls stands in locals, was measured to pay: an attribute
        that is called is looked for as a method first.
        """
        if (
            self._plain
            and type(scope) is dict
            and scope["type"] == "http"
            and type(headers := scope["headers"]) is list
            and APPLIED not in scope
        ):
            applied, find = self.applied, self._find
            cookies = find(headers)
            del headers
            try:
                exchange = Exchange()
                if cookies is None:
                    exchange.opened(self._terms)
                    session = Session()
                    give_state(session, exchange)
                else:
                    session = self._open_now(exchange, cookies)
                is_socket = False
            except StoreError as error:
                await unavailable(error, self._terms, scope, receive, send)
                return
            finally:
                del cookies  # no traceback shall show them
        else:
            opened = await self._open(scope, receive, send)
            if opened is None:
                return
            exchange, session, scope, applied = opened
            del opened  # no second name of the scope for a traceback to show
            is_socket = exchange.rare.is_socket
            if self._closes:
                receive = Incoming(exchange, receive).receive
        name = self.scope_key
        if name in scope and not vacated(scope, name):
            scope = scope.copy()
            scope[name] = session
        else:
            scope[name] = session  # for error pages and middlewares further out
            scope = scope.copy()
        scope[APPLIED] = applied
        exchange.begin(session, scope, send)
        send = exchange.on_message
        if is_socket:
            socket = OpenSocket(exchange, receive)
            receive, send = socket.receive, socket.send
        try:
            app = self.app
            await app(scope, receive, send)
            if exchange.leave():
                return
        except BaseException as error:
            if await self._failed(exchange, error):
                raise
            return
        await exchange.close()

    async def _failed(self, exchange: Exchange, error: BaseException) -> bool:
        """End an exchange whose application raised; return whether the error goes on to the server."""
        try:
            if isinstance(error, GeneratorExit):  # nothing can be awaited any more
                exchange.ended_adrift()
                return True
            await exchange.save_last(raised=True)
            await self._engine.runs.drain_unasked(error)
            return not await exchange.answered(error)
        finally:
            exchange.release()

    async def _open(self, scope: Any, receive: Any, send: Any) -> Opened | None:
        """Return what a call begins with, its scope to be written to; ``None``: the call is over."""
        kind = scope["type"]
        if kind != "websocket" and kind != "http":
            await pass_by(self.app, self.applied, self._engine, scope, receive, send)
            return None
        if self._engine.listening is not None:
            self._engine.listening.start()
        show, name = None, self.scope_key
        if name in scope:
            vacated(scope, name)
        if type(scope) is not dict or type(scope["headers"]) is not list:  # any iterable, and may be read but once
            show = scope.setdefault if isinstance(scope, dict) else None  # no second scope for a traceback to show
            scope = {**scope, "headers": list(scope["headers"])}
        made: Any = self._exchange
        if self.gate is not None:
            made = await self.gate.admit(made, self.app, scope, receive, send)
            if made is None:
                return None
        made = CLOSING[made] if self._closes else made
        applied = self.applied
        if APPLIED in scope:
            refuse_overlap(applied, scope[APPLIED])
            applied = *scope[APPLIED], *applied
        exchange, cookies = made(), self._find(scope["headers"])
        try:
            if kind == "websocket" and (origin := foreign_origin(scope["headers"], self._origins)) is not None:
                self._terms.events.tell(ForeignOrigin())
                session = self._loader.open_foreign(exchange, origin)
            elif cookies is None or self._terms.at_once is None:
                session = await self._loader.open(exchange, cookies)
            else:
                session = self._open_now(exchange, cookies)
        except StoreError as error:
            await unavailable(error, self._terms, scope, receive, send)
            return None
        finally:
            del cookies  # no traceback shall show them
        if kind == "websocket" and not exchange.rare.is_socket:
            exchange.on_socket()
        if show is not None:
            show(name, session)
        return exchange, session, scope, applied


def _enclose(middleware: FasterSessionMiddleware, detached: Selection | None) -> None:
    """Have answers outlive their connections, where any may."""
    if detached is not None:
        from .asgi.detach import Detachable, gate_apart

        middleware.app = Detachable(middleware.app, detached)
        middleware.gate = gate_apart(middleware, detached)
