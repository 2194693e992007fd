"""One request or WebSocket on its way through the middleware: its messages, its save points, its headers.

Rules of residence: knows ASGI messages, as the middleware does, whose other half this is. Slotted and small, for one
is made per request.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from .commit import Point
from .errors import FasterSessionError, StoreError
from .events import EventLog
from .headers import has_content_length, with_cookie, with_vary
from .manager import RequestManager, SessionManager
from .session import NOT_STARTED, Metadata, Session

__all__ = ["APPLIED", "Exchange", "Message", "Send", "Terms", "refuse_service"]

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
ACCEPTED = 101  # the status that stands for websocket.accept
RETRY_AFTER = b"5"  # seconds: about what a store needs to come back
TRY_AGAIN_LATER = 1013  # the WebSocket close code registered for it
APPLIED = "fastersession.applied"  # scope key: (cookie name, scope key) of each of our middlewares further out


class Terms(NamedTuple):
    """What all exchanges of one middleware share."""

    manager: SessionManager
    live: bool
    events: EventLog
    scope_key: str
    state_key: str
    applied: tuple[str, str]
    before_token: bytes  # Set-Cookie up to the token, and from there on
    after_token: bytes
    cleared: bytes  # the whole Set-Cookie that removes the cookie
    secure: bool


class Exchange(RequestManager):
    """Sees every message but the chunks; to the application, the session manager of the request."""

    __slots__ = ("_held", "_keeper", "_scope", "_terms", "failure", "send")

    def __init__(self, terms: Terms, session: Session, scope: dict[str, Any], send: Send) -> None:
        self.session = session
        self.send = send
        self.failure: FasterSessionError | None = None
        self._terms = terms
        self._scope = scope
        self._held: Metadata | None = None
        self._keeper = None if terms.live else terms.manager.keep_alive(session)
        terms.manager.running.add(self)
        scope[terms.scope_key] = session
        scope[APPLIED] = (*scope.get(APPLIED, ()), terms.applied)
        if session._record is not None:
            self._hold(session._record)
        state, key = scope.get("state"), terms.state_key
        if state is None:
            scope["state"] = {key: self}
        elif state.get(key) is None:
            state[key] = self
        elif isinstance(state[key], RequestManager):  # the server shares one dict between requests
            scope["state"] = {**state, key: self}

    def release(self) -> None:
        """Let go of everything; needs no event loop."""
        terms = self._terms
        terms.manager.end(self.session)
        terms.manager.running.discard(self)
        if self._held is not None:
            self._hold(None)
        if self._keeper is not None:
            self._keeper.cancel()
        state, key = self._scope["state"], terms.state_key
        if state.get(key) is self:
            del state[key]

    def _hold(self, record: Metadata | None) -> None:
        """Count the exchange on its record, which then is not evicted, and not on the one before."""
        http = self._scope["type"] == "http"
        for counted, by in ((self._held, -1), (record, 1)):
            if counted is not None and http:
                counted.requests += by
            elif counted is not None:
                counted.sockets += by
        self._held = record

    # --- messages ---

    def on_message(self, message: Message) -> Awaitable[None]:
        """Forward a message that is no chunk, after the save point that it is."""
        kind = message["type"]
        if kind in STARTS:
            return self._on_start(message)
        if kind in FINALS and self.session._phase != NOT_STARTED and self._has_work():
            return self._on_final(message)
        if kind == "websocket.send" and self._terms.manager.due(self.session):
            return self._on_traffic(message)
        return self.send(message)

    def watching(self, receive: Any) -> Any:
        """Return a ``receive`` whose WebSocket messages keep the session alive."""
        manager = self._terms.manager

        async def watched() -> Any:
            message = await receive()
            if message["type"] == "websocket.receive" and manager.due(self.session):
                await manager.touch(self.session)
            return message

        return watched

    async def _on_traffic(self, message: Message) -> None:
        await self._terms.manager.touch(self.session)
        await self.send(message)

    def _has_work(self) -> bool:
        """Tell if a save point has to look closer, after taking over what the application put in our place."""
        session = self.session
        value = self._scope.get(self._terms.scope_key, session)
        if value is not session:
            self._terms.manager.adopt(session, value)
        return session._accessed or session._intents is not None

    def _on_start(self, message: Message) -> Awaitable[None]:
        terms, session = self._terms, self.session
        work, accessed = self._has_work(), session._accessed
        if not terms.live:
            return self._start_later(message, accessed)
        if work:
            try:
                terms.manager.checkpoint_now(session, Point.START, discard=message.get("status", ACCEPTED) >= 500)
            except StoreError as error:
                return self._give_up(error)
        return self.send(self._dressed(message, accessed))

    async def _start_later(self, message: Message, accessed: bool) -> None:
        manager, session = self._terms.manager, self.session
        if session._accessed or session._intents is not None or manager.due(session):
            try:
                await manager.checkpoint(session, Point.START, discard=message.get("status", ACCEPTED) >= 500)
            except StoreError as error:
                await self._give_up(error)
        await self.send(self._dressed(message, accessed))

    async def _give_up(self, error: StoreError) -> None:
        """Answer 503 in the application's place, and unwind the application with the error."""
        self.failure = error
        send, self.send = self.send, _swallow
        record_id = self.session._record_id
        self._terms.events.emit(logging.ERROR, "store.unavailable", record_id, "no session was saved: %s", error)
        await _send_unavailable(self._scope, send)
        raise error

    async def _on_final(self, message: Message) -> None:
        await self._save_late()
        await self.send(message)

    async def _save_late(self) -> None:
        try:
            await self._terms.manager.late(self.session, Point.LATER)
        except FasterSessionError as error:
            self.failure = self.failure or error

    def is_unfinished(self) -> bool:
        """Tell if ``close`` has anything to do after the application has returned."""
        session = self.session
        unfinished = self._has_work() or self.failure is not None or session._phase == NOT_STARTED
        return unfinished or self._terms.manager.due(session)

    async def close(self, *, raised: bool) -> None:
        """Run the last save point. An error of ours is raised only if the application's own is not on its way."""
        answered = self.send is _swallow
        if answered or not isinstance(self.failure, StoreError):
            self._has_work()
            try:
                await self._terms.manager.close(self.session, raised=raised)
            except FasterSessionError as error:
                self.failure = self.failure or error
        if self.failure is not None and not raised and not answered:
            raise self.failure

    # --- headers ---

    def _dressed(self, message: Message, accessed: bool) -> Message:
        """Return the start message as it leaves: with our headers, or untouched if there are none."""
        terms, session = self._terms, self.session
        cookie = terms.manager.cookie(session)
        status = message.get("status", ACCEPTED)
        terms.manager.started(session, failed=status >= 500)
        if session._record is not self._held:
            self._hold(session._record)
        given = message.get("headers")
        headers = given if type(given) is list else list(given or ())
        if cookie is not None:
            headers = self._with_cookie(headers, cookie, accept=message["type"] == "websocket.accept")
        if status != ACCEPTED and (
            accessed or cookie is not None or not (status in (204, 304) or status < 200 or has_content_length(headers))
        ):
            headers = with_vary(headers)
        return message if headers is given else {**message, "headers": headers}

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


async def _swallow(message: Message) -> None:
    """Take the messages of an application whose response was replaced."""


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
