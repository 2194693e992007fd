"""One request or WebSocket on its way through the middleware: its messages, its save points, its headers.

Rules of residence: knows ASGI messages, as the middleware does, whose other half this is. Slotted and small, for one
is made per request.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..engine.manager import RequestManager, SessionManager
from ..engine.plan import Point, unchanged
from ..engine.save import TOUCH_FRACTION
from ..engine.tasks import Repeat
from ..errors import FasterSessionError, StoreError
from ..events import EventLog
from ..session import ENDED, FAILED, NOT_STARTED, STARTED, Metadata, Session, Status
from .between import Between
from .headers import has_content_length, with_cookie, with_vary

__all__ = ["APPLIED", "Exchange", "Message", "Send", "Terms", "refuse_service", "watching"]

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
FINALS = frozenset(
    {
        "http.response.body",
        "http.response.pathsend",
        "http.response.trailers",
        "http.response.zerocopysend",
        "websocket.close",
        "websocket.http.response.body",
    }
)
CONTENT_LENGTH = b"content-length"
NEW, LIVE = Status.NEW, Status.LIVE
length = dict.__len__  # of a session, without marking it
NO_STATUS = 0  # of websocket.accept, which has none
RETRY_AFTER = b"5"  # seconds: about what a store needs to come back
TRY_AGAIN_LATER = 1013  # the WebSocket close code registered for it
INTERNAL_ERROR = 1011  # the one of RFC 6455 (7.4.1) for a server that met an unexpected condition
APPLIED = "fastersession.applied"  # scope key: (cookie name, scope key) of each of our middlewares further out


@dataclass(slots=True, kw_only=True)
class Terms:
    """What all exchanges of one middleware share."""

    manager: SessionManager
    now: Callable[[], float]
    running: set[RequestManager]
    live: bool
    events: EventLog
    scope_key: str
    state_key: str
    before_token: bytes  # Set-Cookie up to the token, and from there on
    after_token: bytes
    cleared: bytes  # the whole Set-Cookie that removes the cookie
    secure: bool


class Exchange(RequestManager):
    """Sees every message but the chunks; to the application, the session manager of the request."""

    __slots__ = (
        *("_adopted", "_between", "_held", "_keeper", "_key", "_out", "_scope", "_state", "_terms", "_touch_at"),
        *("reading", "send"),
    )

    send: Send | None  # where messages go; none before the start
    reading: bool  # the application of a WebSocket has asked for a message; set when it first does
    _adopted: bool  # something in the session's place was taken over
    _between: Between  # made when it is first needed
    _terms: Terms
    _out: Send  # where they go from the start on
    _scope: dict[str, Any]
    _key: str  # where in it the session stands
    _held: Metadata | None  # the record that this exchange is counted on
    _state: Any  # the ``scope["state"]`` that it stands in
    _keeper: Repeat | None
    _touch_at: float  # when the traffic of a WebSocket is noted next

    def leave(self) -> bool:
        """Let go of everything if nothing is left to be saved after the application has returned; tell if so."""
        session, record = self.session, self._held
        at_rest = self._scope.get(self._key) is session and not session._accessed
        if session._phase == NOT_STARTED or (not at_rest and (self.failure is not None or self._has_work())):
            return False
        if record is not None:
            now = self._terms.now
            if record is not session._record or now() - record.accessed_at >= record.idle_timeout * TOUCH_FRACTION:
                return False
        elif length(session):
            return False
        self.release()
        return True

    def release(self) -> None:
        """Let go of everything; needs no event loop."""
        session, state, key = self.session, self._state, self._terms.state_key
        session._phase = ENDED
        session._guarded = True
        session._request = None
        self.failure = None  # its traceback holds frames that hold this exchange
        if self._held is not None:
            self._let_go(self._held)
        manager = state.pop(key, self)
        if manager is not self:  # it has another's, which may be None
            state[key] = manager

    def settle(self, state: Any) -> None:
        """Put the manager into a ``scope["state"]`` that is missing, or where something has its name."""
        key = self._terms.state_key
        if state is None:
            self._scope["state"] = state = {key: self}
        elif isinstance(state[key], Exchange) and not state[key].is_of(self._scope):  # the server shares one dict
            self._scope["state"] = state = {**state, key: self}
        self._state = state

    def hold(self) -> None:
        """Count the exchange on the session's record, which then is not evicted, and keep it alive; no more the last.

        Called anew when the session has another record, or another idle timeout.
        """
        if self._held is not None:
            self._let_go(self._held)
        self._held = record = self.session._record
        if record is None:
            return
        terms = self._terms
        terms.running.add(self)
        self._keeper = None
        if self._scope["type"] != "http":
            record.sockets += 1
            self._touch_at = 0.0
        else:
            record.requests += 1
            if not terms.live:
                self._keeper = terms.manager.keep_alive(self.session)

    def _let_go(self, record: Metadata) -> None:
        self._terms.running.discard(self)
        if self._scope["type"] == "http":
            record.requests -= 1
        else:
            record.sockets -= 1
        if self._keeper is not None:
            self._keeper.cancel()

    # --- messages ---

    def on_message(self, message: Message) -> Awaitable[None]:
        """Forward a message, after the save point that it is."""
        send = self.send  # self.send(…) looks for a method: dearer
        if send is None:
            return self.on_start(message) if message["type"] in STARTS else self._out(message)
        if message.get("more_body"):  # a chunk: of no interest, whatever its type
            return send(message)
        kind = message["type"]
        if kind in STARTS and send is not _withhold:
            return self.on_start(message)
        if kind in FINALS:
            session = self.session
            if self._scope.get(self._key) is session and not session._accessed:
                return send(message)
            return self._on_final(message) if self._has_work() else send(message)
        if kind == "websocket.send" and self._scope["type"] == "websocket":
            self._said()
        return send(message)

    def on_start(self, message: Message) -> Awaitable[None]:
        """Run the save point of the start, and forward it with our headers."""
        session, send = self.session, self._out
        status = message["status"] if "status" in message else NO_STATUS
        if status < 200 and status != NO_STATUS:  # informational: the cookie is for the final response
            return send(message)
        if self._scope.get(self._key) is not session:
            self.look()
        if not self._terms.live:
            return self._start_later(message, status)
        if session._accessed:
            session._accessed = False
            if session._intents is not None or not unchanged(session, session._base):
                manager = self._terms.manager
                try:
                    if status >= 500 or session._intents is not None or not manager.saver.start_now(session):
                        manager.checkpoint_now(session, Point.START, discard=status >= 500)
                    message = self._dressed(message, status, True)
                except StoreError as error:
                    return self._give_up(error)
                except BaseException:
                    session._accessed = True  # a next start has a cookie to send, or the end a record to delete
                    raise
                return send(message)
            return send(self._dressed(message, status, True))
        if "headers" in message and type(message["headers"]) is list:
            for name, _ in message["headers"]:
                if name == CONTENT_LENGTH:  # a plain answer that the session has no part in
                    self.send = send
                    session._phase = STARTED if status < 500 else FAILED
                    if session._status is NEW:
                        session._guarded = True
                    return send(message)
        return send(self._dressed(message, status, False))

    def note_traffic(self) -> None:
        """Touch the session if that is due, once however it ends: a failing store must not be asked per message."""
        record, now = self.session._record, self._terms.now()
        if record is not None and now >= self._touch_at and self._terms.manager.due(self.session):
            self._touch_at = now + record.idle_timeout * TOUCH_FRACTION
            self._terms.manager.touch_soon(self.session)

    # --- an open WebSocket ---

    def turn(self) -> None:
        """See ``session.Request``."""
        if self.session._phase == STARTED:
            self._beside().turn(self)

    def heard(self) -> None:
        """See ``session.Request``."""
        self.reading = False
        self.note_traffic()

    def _said(self) -> None:
        """Note that a message leaves: its session is touched, and saved soon if no turn may come."""
        self.note_traffic()
        if self._scope.get(self._key) is not self.session:
            self.session._accessed = True  # what stands in its place is compared at the next turn
        if self._held is not None and getattr(self, "reading", False):
            self._beside().sent(self)

    def _beside(self) -> Between:
        between: Between | None = getattr(self, "_between", None)
        if between is None:
            between = self._between = Between()
        return between

    def begin_save(self) -> asyncio.Task[None] | None:
        """See ``between.Socket``. Whether ``clear()`` was a logout is known at the close only."""
        session = self.session
        if not self._has_work():
            return None
        intents = session._intents
        if intents is not None and intents.cleared and session._status is LIVE and not length(session):
            return None
        session._accessed = True  # if it fails, the next save point has something to do
        return self._terms.manager.save_beside(session)

    def note_failure(self, error: BaseException) -> None:
        """See ``between.Socket``."""
        text = "the session of an open WebSocket could not be saved yet: %s; tried again at its next message"
        why = error if isinstance(error, FasterSessionError) else type(error).__name__
        self._terms.events.emit(logging.ERROR, "session.save_failed", self.session._record_id, text, why)

    def is_open(self) -> bool:
        """See ``between.Socket``."""
        return self.session._phase == STARTED and self.session._request is self

    def is_of(self, scope: dict[str, Any]) -> bool:
        """Tell if this is another middleware's exchange of the same request."""
        return scope.get(self._key) is self.session

    def look(self) -> None:
        """Take over what the application put in the session's place."""
        scope, session = self._scope, self.session
        value = scope.get(self._key, session)
        if value is session:  # where it was put, or nothing is there
            return
        kind = type(value)  # isinstance() would ask the object, and starsessions' has no attribute but errors
        if kind is not dict:
            if value is not None and not issubclass(kind, Enum):
                self._hidden(f"a {kind.__module__}.{kind.__qualname__}", "it is left alone")
                return
        elif not _is_set_by_litestar(scope):
            if not value and not getattr(self, "_adopted", False):  # other session middlewares begin with one
                self._hidden("an empty dict", "it is ignored (to empty the session, call session.clear())")
                return
            self._hidden("a dict", "it is taken as the new content")
        self._adopted = True
        self._terms.manager.adopt(session, value)

    def _hidden(self, what: str, outcome: str) -> None:
        self._terms.events.once(
            "session.replaced",
            "%s stands in the session's place: %s; if another session middleware, further in, has put it there, "
            "take one of the two away, or give one a scope_key of its own",
            what,
            outcome,
        )

    def _has_work(self) -> bool:
        """Tell if a save point has anything to do but touch."""
        session = self.session
        self.look()
        if not session._accessed:  # a late write that went around the session's methods is still refused
            return session._status is NEW and session._phase != NOT_STARTED and length(session) > 0
        if session._intents is not None:
            return True
        session._accessed = self.failure is not None  # the next save point need not look unless something happens
        if self._terms.live:
            return not unchanged(session, session._base)
        manager = self._terms.manager
        if manager.busy(session) or not manager.settled(session):  # another task's commit has taken its intents
            session._accessed = True
        return session._accessed

    async def _start_later(self, message: Message, status: int) -> None:
        manager, session = self._terms.manager, self.session
        accessed, session._accessed = session._accessed, False
        if accessed and not manager.settled(session):  # what was handed out may change at any time
            session._accessed = True
        work = session._accessed or session._intents is not None or manager.busy(session) or manager.due(session)
        while work:
            try:
                await manager.checkpoint(session, Point.START, discard=status >= 500)
            except StoreError as error:
                await self._give_up(error)
            except BaseException:
                session._accessed = True  # it may be in the store: the end has a record to delete
                raise
            # What is asked for meanwhile, or is at work in another task: only this start can carry its cookie.
            intents = session._intents
            work = manager.busy(session) or (
                intents is not None and (intents.regenerate or intents.establish or bool(intents.doomed))
            )
        await self._out(self._dressed(message, status, accessed))

    def _give_up(self, error: StoreError) -> Awaitable[None]:
        """Answer 503 in the application's place, and unwind the application with the error."""
        self.failure = error
        return self._unwind(error, self._replaced(error))

    async def _unwind(self, error: StoreError, send: Send) -> None:
        await _send_unavailable(self._scope, send)
        try:
            raise error
        finally:
            del error  # the traceback holds this frame: together they would be a cycle

    async def answered(self, error: BaseException) -> bool:
        """Tell if a failure was answered by 503; do so if a verb's, which was awaited, has left no answer."""
        while isinstance(error, BaseExceptionGroup) and error.split(StoreError)[1] is None:
            error = error.exceptions[0]  # what a task group makes of it
        if error is self.failure and self.send is _swallow:
            return True
        if self.session._phase != NOT_STARTED or not isinstance(error, StoreError):
            return False
        await _send_unavailable(self._scope, self._replaced(error))
        return True

    def _replaced(self, error: StoreError) -> Send:
        """Swallow from here on what the application sends; return the way to the client."""
        self.session._phase = FAILED
        send, self._out = self._out, _swallow
        self.send = _swallow
        record_id = self.session._record_id
        self._terms.events.emit(logging.ERROR, "store.unavailable", record_id, "no session was saved: %s", error)
        return send

    async def _on_final(self, message: Message) -> None:
        """Save, then forward the end of an answer, or never: who has seen the end finds all of it in the session.

        Also where the client has all by then (HEAD, 204, 304, a body as long as its content-length said): the
        application must not go on as if it were saved.
        """
        if self.send is _withhold:
            return
        error = await self._terms.manager.save_late(self)
        if error is None:
            if self.send not in (_swallow, _withhold) and isinstance(self.failure, StoreError):
                self.failure = None  # of the drain: what it could not save is saved
            await self._out(message)
            return
        try:
            await self._cut(message, error)
            raise error
        finally:
            del error  # the traceback holds this frame: together they would be a cycle

    async def _cut(self, message: Message, error: FasterSessionError) -> None:
        """Let nothing more of an answer leave; a WebSocket's peer is told in the close."""
        send, self.send = self._out, _withhold
        self._out = _withhold
        text = "the end of an answer was withheld, for its session could not be saved: %s"
        self._terms.events.emit(logging.ERROR, "answer.withheld", self.session._record_id, text, error)
        if message["type"] == "websocket.close":
            await send({"type": "websocket.close", "code": INTERNAL_ERROR, "reason": ""})

    async def close(self) -> None:
        """Run the last save point after the application has returned, and let go of everything."""
        try:
            await self.save_last(raised=False)
        finally:
            self.release()

    async def save_last(self, *, raised: bool) -> None:
        """Run the last save point. An error of ours is raised only if the application's own is not on its way."""
        manager, session, answered = self._terms.manager, self.session, self.send is _swallow
        discard = raised and session._phase == NOT_STARTED
        if session._phase == NOT_STARTED:
            session._unanswered = True
        self._has_work()
        try:
            if answered or not isinstance(self.failure, StoreError):
                await manager.late(session, Point.END, discard=discard)
            else:  # the final save has used up the time for retries; if its error stays hidden, the log must tell
                with manager.logged(session, Point.END) if raised else nullcontext():
                    await manager.checkpoint(session, Point.END, discard=discard)
        except FasterSessionError as error:
            self.failure = self.failure or error
        if self.failure is not None and not raised and not answered:
            raise self.failure

    # --- headers ---

    def _dressed(self, message: Message, status: int, accessed: bool) -> Message:
        """Return the start message as it leaves: with our headers, or untouched if there are none."""
        session = self.session
        cookie = None
        if session._secret is not None or session._intents is not None:
            cookie = self._terms.manager.cookie(session)
        given = message["headers"] if "headers" in message else None
        headers: Any = given if type(given) is list else list(given or ())
        if cookie is not None:
            headers = self._with_cookie(headers, cookie, accept=status == NO_STATUS)
            session._secret = None
            if session._intents is not None:
                session._intents.signed_out = False
        elif accessed:
            if status != NO_STATUS:
                headers = with_vary(headers)
        elif status >= 200 and status != 204 and status != 304 and not has_content_length(headers):
            headers = with_vary(headers)
        if headers is not given:
            message = message.copy()
            message["headers"] = headers
        self.send = self._out
        session._phase = STARTED if status < 500 else FAILED
        if session._status is NEW:
            session._guarded = True
        return message

    def _with_cookie(self, headers: list[tuple[bytes, bytes]], token: bytes, *, accept: bool) -> Any:
        terms = self._terms
        line = terms.before_token + token + terms.after_token if token else terms.cleared
        if token and terms.secure and self._scope.get("scheme") in ("http", "ws"):
            terms.events.once(
                "cookie.insecure_scheme",
                "a Secure cookie is set on a plain http request: clients may not return it; give secure=False in "
                "development, ignore this behind a proxy that speaks TLS",
            )
        if not accept:
            return with_cookie(headers, line)
        if not _accept_carries_headers(self._scope):
            terms.events.once(
                "websocket.cookie_undeliverable",
                "this server drops the headers of websocket.accept: a session that begins on a WebSocket gets no "
                "cookie; begin it on an http request",
            )
        return [*headers, (b"set-cookie", line)]


def _is_set_by_litestar(scope: dict[str, Any]) -> bool:
    """Tell if a dict in the session's place is of Litestar's ``set_session``, and not of its session middleware.

    That one alone notes a session id in Litestar's state of the connection, where an Enum member says that there is
    none.
    """
    if "litestar_app" not in scope:
        return False
    state: Any = (scope.get("state") or {}).get("_ls_connection_state")
    return not hasattr(state, "session_id") or issubclass(type(state.session_id), Enum)


def watching(receive: Any, session: Session) -> Any:
    """Return a ``receive`` of a WebSocket: each call is a save point, each message keeps the session alive."""

    async def watched() -> Any:
        request = session._request
        if request is not None:  # else the application has returned
            if session._accessed:
                request.turn()
            request.reading = True
        message = await receive()
        if message["type"] == "websocket.receive" and session._request is not None:
            session._request.heard()
        return message

    return watched


async def _swallow(message: Message) -> None:
    """Take the messages of an application whose response was replaced."""


async def _withhold(message: Message) -> None:
    """Take what an application sends after the end of its answer was withheld."""


async def refuse_service(scope: Any, receive: Any, send: Send) -> None:
    """Answer a request whose session cannot be loaded: 503 and Retry-After, or a WebSocket's nearest to it."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect comes first
    await _send_unavailable(scope, send)


async def _send_unavailable(scope: Any, send: Send) -> None:
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
