"""One request on its way through the middleware: its messages, and the save points that they are.

Rules of residence: knows ASGI messages. Which save point a message is stands here; what a save does is the engine's,
how the start looks is ``dress``'s. Slotted and small, for one is made per request.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import nullcontext
from typing import Any

from ..engine.plan import TOUCH_FRACTION, Point, motion, unchanged
from ..engine.running import RequestManager
from ..errors import FasterSessionError, StoreError
from ..events import AnswerWithheld, RequestRefused
from ..facts import ENDED, FAILED, NOT_STARTED, STARTED, Status
from ..session import Session
from .dress import NO_STATUS
from .messages import FINALS, STARTS, Message, Send
from .refusal import ANSWERED, ANSWERS_GO_ON, INTERNAL_ERROR, ended, send_failure, swallow, withhold
from .replaced import is_taken_over
from .terms import Terms

CONTENT_LENGTH = b"content-length"
NOTHING: Any = None  # what an exchange has of a request that is over
NEW, length = Status.NEW, dict.__len__  # of a session, without marking it


class Exchange(RequestManager):
    """Sees every message but the chunks; to the application, the session manager of the request.

    Made, then given a session's state (``opened``, ``loaded``), then filled in by ``begin``.
    """

    __slots__ = ("out", "scope", "send", "shelf")

    host: Terms
    out: Send  # where messages go from the start on
    scope: dict[str, Any]
    send: Send | None  # where messages go; none before the start
    shelf: Any  # the ``scope["state"]`` that this stands in, as the session manager

    def begin(self, session: Session, scope: Any, send: Send) -> None:
        """Fill in what there is of a request. The scope is ours, and may be written to."""
        self.held = None
        self.out = send
        self.scope = scope
        self.send = None
        self.session = session
        key = self.host.state_key
        shelf = scope["state"] if "state" in scope else None
        if shelf is None:
            scope["state"] = shelf = {key: self}
        elif key not in shelf:
            shelf[key] = self
        else:
            other = shelf[key]  # another middleware's; or of another request, where the server shares a dict
            if isinstance(other, Exchange) and scope.get(other.host.scope_key) is not other.session:
                scope["state"] = shelf = {**shelf, key: self}
        self.shelf = shelf
        if self.record is not None:
            self.hold()

    def leave(self) -> bool:
        """Let go of everything if nothing is left to be saved after the application has returned; return if so."""
        session, record = self.session, self.held
        at_rest = self.scope.get(self.host.scope_key) is session and not self.accessed
        if self.phase == NOT_STARTED or (not at_rest and (self.rare.failure is not None or self.has_work())):
            return False
        if record is not None:
            now = self.host.now
            if record is not self.record or now() - record.accessed_at >= record.idle_timeout * TOUCH_FRACTION:
                return False
        elif length(session):
            return False
        self.release()
        return True

    def release(self) -> None:
        """Let go of everything, for the session may be kept, and keeps this; needs no event loop."""
        shelf, key = self.shelf, self.host.state_key
        self.phase = ENDED  # ``ended``, in place: a call is 1 % of it all
        self.guarded = True
        if self.rare.failure is not None:
            self.failed(None)  # its traceback holds frames that hold this exchange
        if self.held is not None:
            self.let_go(self.held)
            self.held = None
        manager = shelf.pop(key, self)
        if manager is not self:  # it has another's, which may be None
            shelf[key] = manager
        self.session = self.scope = self.shelf = NOTHING
        self.send = self.out = self.out if ANSWERS_GO_ON else ended  # a cycle, where it holds the scope

    async def close(self) -> None:
        """Run the last save point after the application has returned, and let go of everything."""
        try:
            await self.save_last(raised=False)
            self.watch_if_kept()
        finally:
            self.release()

    async def save_last(self, *, raised: bool) -> None:
        """Run the last save point. An error of ours is raised only if the application's own is not on its way."""
        saves, session, answered = self.host.saves, self.session, self.send is swallow
        discard = raised and self.phase == NOT_STARTED
        if self.phase == NOT_STARTED:
            self.unanswered()
        self.has_work()
        try:
            if answered or not isinstance(self.rare.failure, StoreError):
                await saves.flush(session, self, Point.END, discard=discard)
            else:  # the last chunk has used up the time for retries; if its error stays hidden, the log must tell
                with saves.told(self, Point.END) if raised else nullcontext():
                    await saves.save(session, self, Point.END, discard=discard)
        except FasterSessionError as error:
            self.failed(self.rare.failure or error)
        failure = self.rare.failure
        if self.host.at_once is None and (discard or failure is not None or self.phase == FAILED):
            self.ended_adrift()
        if failure is not None and not raised and not answered:
            try:
                raise failure
            finally:
                del failure  # the traceback holds this frame: together they would be a cycle

    def on_message(self, message: Message) -> Awaitable[None]:
        """Forward a message, after the save point that it is."""
        send = self.send  # self.send(…) looks for a method: dearer
        if send is None:
            return self.on_start(message) if message["type"] in STARTS else self.out(message)
        if message.get("more_body") or self.scope is None:  # a chunk, or after the end: of no interest
            return send(message)
        kind = message["type"]
        if kind in STARTS and send is not withhold:
            return self.on_start(message)
        if kind in FINALS:
            if self.scope.get(self.host.scope_key) is self.session and not self.accessed:
                return send(message)
            return self._on_final(message) if self.has_work() else send(message)
        return send(message)

    def on_start(self, message: Message) -> Awaitable[None]:
        """Run the save point of the start, and forward it with our headers."""
        session, send = self.session, self.out
        status = message["status"] if "status" in message else NO_STATUS
        if status < 200 and status != NO_STATUS:  # informational: the cookie is for the final response
            return send(message)
        if self.scope.get(self.host.scope_key) is not session:
            self.look()
        host = self.host
        at_once = host.at_once
        if at_once is None:
            return self._start_later(message, status)
        if self.accessed:
            self.accessed = False
            try:
                if self.intents is not None or (
                    not unchanged(session, self.base) and (status >= 500 or not host.start_now(session, self))
                ):
                    at_once.save_now(session, self, Point.START, discard=status >= 500)
                message = host.start_headers.dressed(message, status, self, self.scope, True)
            except ANSWERED as error:
                return self._give_up(error)
            except BaseException:
                self.used()  # a next start has a cookie to send, or the end a record to delete
                raise
        else:
            for name, _ in message["headers"] if type(message.get("headers")) is list else ():
                if name == CONTENT_LENGTH:  # a plain answer that the session has no part in
                    break
            else:
                message = host.start_headers.dressed(message, status, self, self.scope, False)
        self.send = send
        self.phase = STARTED if status < 500 else FAILED  # ``started``, in place: a call is 1 % of it all
        if self.status is NEW:
            self.guarded = True
        return send(message)

    async def _start_later(self, message: Message, status: int) -> None:
        if self.phase == ENDED:  # made a task of
            return
        saves, session = self.host.saves, self.session
        accessed, self.accessed = self.accessed, False
        moves = motion(session, self.base, self.rare.handed) if accessed else 0
        self.accessed = moves == 2  # what was handed out may change at any time
        work = moves > 0 or self.intents is not None or saves.is_busy(self) or saves.is_due(self)
        while work:
            try:
                await saves.save(session, self, Point.START, discard=status >= 500)
            except BaseException as error:
                self.used()  # it may be in the store: the end has a record to delete
                if isinstance(error, ANSWERED) and self.phase != ENDED:
                    await self._give_up(error)
                raise
            # What is asked for meanwhile, or is at work in another task: only this start can carry its cookie.
            intents = self.intents
            work = saves.is_busy(self) or (intents is not None and intents.need_a_start())
        if self.phase == ENDED:  # while a save was at work
            return
        message = self.host.start_headers.dressed(message, status, self, self.scope, accessed)
        self.send, self.phase = self.out, STARTED if status < 500 else FAILED
        if self.status is NEW:
            self.guarded = True
        await self.out(message)

    def has_work(self) -> bool:
        """Return whether a save point has anything to do but touch."""
        session = self.session
        if self.scope.get(self.host.scope_key) is not session:
            self.look()
        if not self.accessed:  # a late write that went around the session's methods is still refused
            return self.status is NEW and self.phase != NOT_STARTED and length(session) > 0
        if self.intents is not None:
            return True
        self.accessed = self.rare.failure is not None  # the next save point need not look unless something happens
        if self.host.at_once is not None:
            return not unchanged(session, self.base)
        if motion(session, self.base, self.rare.handed) or self.host.saves.is_busy(self):
            self.accessed = True  # a commit of another task, which is at work, has taken its intents
        return self.accessed

    def look(self) -> None:
        scope, session = self.scope, self.session
        if scope is NOTHING:
            return
        value = scope.get(self.host.scope_key, session)
        if value is session:  # where it was put, or nothing is there
            return
        if not is_taken_over(value, scope, self.rare.adopted, self.host.events):
            return
        self.rarely().adopted = True
        if type(value) is dict:
            dict.clear(session)
            dict.update(session, value)
            self.handed_out(None)  # the application holds the dict
        else:
            Session.clear(session)

    def _give_up(self, error: FasterSessionError) -> Awaitable[None]:
        """Answer 503, or 409, in the application's place, and unwind the application with the error."""
        self.failed(error)
        return self._unwind(error, self._replaced(error))

    async def _unwind(self, error: FasterSessionError, send: Send) -> None:
        await send_failure(self.scope, send, error)
        try:
            raise error
        finally:
            del error  # the traceback holds this frame: together they would be a cycle

    async def answered(self, error: BaseException) -> bool:
        """Return whether a failure was answered; do so if a verb's, which was awaited, has left no answer."""
        while isinstance(error, BaseExceptionGroup) and (len(error.exceptions) == 1 or not error.split(ANSWERED)[1]):
            error = error.exceptions[0]  # what a task group makes of it
        # Litestar makes one of its own, whose cause it is; Quart another in its place, for to it this is an OSError.
        if self.send is swallow and self.rare.failure in (error, error.__cause__ or error.__context__ or error):
            return True
        if self.phase != NOT_STARTED or not isinstance(error, ANSWERED):
            return False
        await send_failure(self.scope, self._replaced(error), error)
        return True

    def _replaced(self, error: FasterSessionError) -> Send:
        """Swallow from here on what the application sends; return the way to the client."""
        self.replaced()
        send = self.out
        self.out = self.send = swallow
        if isinstance(error, StoreError):
            self.host.events.tell(RequestRefused(self.record_id, "no session was saved", str(error)))
        return send

    async def _on_final(self, message: Message) -> None:
        """Save, then forward the end of an answer, or never: who has seen the end finds all of it in the session.

        Also where the client has all by then (HEAD, 204, 304, a body as long as its content-length said): the
        application must not go on as if it were saved.
        """
        if self.send is withhold:
            return
        error = await self.host.runs.flush_now(self)
        if error is None:
            if self.send not in (swallow, withhold) and isinstance(self.rare.failure, StoreError):
                self.failed(None)  # of the drain: what it could not save is saved
            await self.out(message)
            return
        try:
            await self._cut(message, error)
            raise error
        finally:
            del error  # the traceback holds this frame: together they would be a cycle

    async def _cut(self, message: Message, error: FasterSessionError) -> None:
        """Let nothing more of an answer leave; a WebSocket's peer is told in the close."""
        send = self.out
        self.out = self.send = withhold
        self.host.events.tell(AnswerWithheld(self.record_id, str(error)))
        if message["type"] == "websocket.close":
            await send({"type": "websocket.close", "code": INTERNAL_ERROR, "reason": ""})
