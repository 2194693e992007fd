"""Open and close sessions, and protect their save points: composes tokens, saver and store.

Rules of residence: no ASGI message, no header bytes. One ``SessionManager`` serves a middleware; the state of one
request is in its ``Session``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from weakref import WeakValueDictionary

from ..crypto.tokens import ID_BYTES, KeyRing, Ticket, draw, has_form, same
from ..errors import FasterSessionError, SessionNotEstablished, StoreError
from ..events import EventLog
from ..session import EMPTY, ENDED, FAILED, NOT_STARTED, STARTED, Session, Status
from ..stores.base import Record, Store
from .exclusive import Exclusive, Queue
from .packing import SCALARS, Unreadable
from .plan import Point, unchanged
from .save import TOUCH_FRACTION, Foreseen, Saver, touch_due
from .tasks import Repeat, Repeats, run_now, shielded
from .values import Values

__all__ = ["RequestManager", "SessionManager", "new_session"]

LIVE, NEW = Status.LIVE, Status.NEW
_PLAIN = nullcontext()
SUPERSEDED_SECONDS = 60  # how long requests sent before a regeneration may still arrive with the old cookie
LATE_SECONDS = 5.0  # bound on a save after the headers, retries included; times the patience, as the pauses
LATE_PAUSES = (0.05, 0.2, 0.8, 1.0, 1.0, 1.0)  # seconds between its tries: a server that restarts refuses at once
DRAIN_SECONDS = 10.0  # bound on the drain at shutdown


class RequestManager:
    """What stands at ``request.state.session``: the interface of the ancestor's session manager. Always truthy."""

    __slots__ = ("failure", "session")

    session: Session
    failure: FasterSessionError | None  # what a save of this request raised, to be raised at its end

    def get_session(self) -> Session:
        """Return the session of this request."""
        return self.session

    def get_session_id(self) -> str:
        """Return the session's public id, 32 hex digits."""
        return self.session.id

    def save_session(self) -> None:
        """See :meth:`Session.save`."""
        self.session.save()

    def clear_session(self) -> None:
        """Remove all attributes; with nothing written afterwards, the session ends."""
        self.session.clear()

    def look(self) -> None:
        """See ``session.Request``."""


class SessionManager:
    """Opens, commits and closes the sessions of one middleware. Implements ``session.Host``."""

    def __init__(
        self,
        *,
        store: Store,
        keys: KeyRing,
        values: Values,
        idle_timeout: float,
        lifetime: float | None,
        max_age: int,
        patience: float,
        events: EventLog,
    ) -> None:
        unbounded = float("inf")
        self.store = store
        self.now = store.clock
        self.draw = draw
        self.idle_timeout = idle_timeout
        self.events = events
        self.running: set[RequestManager] = set()
        self.saver = Saver(
            store,
            values,
            events,
            unbounded if lifetime is None else lifetime,
            unbounded if max_age == 0 else max_age,
            patience,
        )
        self.live = self.saver.live
        self._load_now = self.saver.load_now
        self._keys = keys
        self.values = values
        self.queue = Queue()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.repeats = Repeats(self.tasks)
        self.told_of_shutdown = False  # by the lifespan, which not every server runs
        self._draining: asyncio.Task[None] | None = None
        self.touch, self.lock, self.unlock = self.saver.touch, self.saver.lock, self.saver.unlock
        self.open_store = self.saver.open
        self.close_store = self.saver.close
        self._trusting = True  # until a cookie of our form has come that no key verifies
        self._patience = patience
        if self.live:
            _IN_MEMORY[id(self)] = self

    # --- open ---

    def open_now(self, candidates: Sequence[bytes]) -> Session:
        """Do what ``open`` does, on a live store, faster for the usual single cookie."""
        if len(candidates) != 1:
            return run_now(self.open(candidates))
        pair = self._keys.unsign_pair(candidates[0])
        if pair is None:
            self._reject(self._trusting and has_form(candidates[0]))
            return new_session(self)
        try:
            load = self._load_now
            record = load(pair[0])
            if record is not None and same(record.verifier, pair[1]):
                return self._bind(pair[0], record, record.attributes)
        except Exception as error:
            del pair, candidates  # no traceback shall show them
            raise StoreError(f"the store failed: {type(error).__name__}") from error
        return run_now(self._open([Ticket(*pair)]))

    async def open(self, candidates: Sequence[bytes] | None) -> Session:
        """Return the session that the cookie values lead to; a new one if none does.

        ``None`` stands for no cookie, an empty sequence for cookies that were not looked at.

        :raises StoreError: the store failed: better no answer than an answer without the session.
        :raises ConfigError: the store needs asyncio, and something else runs.
        """
        if not self.live:
            self.saver.check_loop()
        if candidates is None:
            return new_session(self)
        tickets = [ticket for ticket in map(self._keys.unsign, candidates) if ticket is not None]
        of_form = not tickets and self._trusting and any(map(has_form, candidates))
        del candidates  # no traceback from here on shall show them
        if tickets:
            return await self._open(tickets)
        self._reject(of_form)
        return new_session(self)

    async def _open(self, tickets: list[Ticket]) -> Session:
        found, superseded = await self._load(dict.fromkeys(tickets))
        if len(found) == 1:
            return found[0]
        if found:
            self.events.hostile("cookie.ambiguous", "two session cookies are both alive: neither is used")
        elif superseded is not None:
            return new_session(self, Status.SUPERSEDED, superseded)
        else:
            self._unknown()
        return new_session(self)

    def foreign(self, origin: str) -> Session:
        """Return the session of a WebSocket from a foreign origin: empty, and refusing every write."""
        session = new_session(self, Status.FOREIGN)
        session._guarded = True
        session._refusal = f"the WebSocket comes from a foreign origin, {origin!r}; allowed_origins may name it"
        return session

    async def _load(self, tickets: Iterable[Ticket]) -> tuple[list[Session], bytes | None]:
        found: list[Session] = []
        superseded = None
        for ticket in tickets:
            record = await self.saver.load(ticket.record_id)
            if record is None:
                continue
            try:
                genuine = same(record.verifier, self.saver.verifier(ticket.secret))
            except (AttributeError, TypeError) as error:
                raise StoreError("the store gave something that is no record") from error
            if genuine:
                session = self._bound(ticket.record_id, record)
                if session is not None:
                    found.append(session)
            elif record.regenerated_at is not None and self.now() - record.regenerated_at < SUPERSEDED_SECONDS:
                superseded = ticket.record_id
        return found, superseded

    def _bind(self, record_id: bytes, record: Record, attributes: Mapping[str, Any]) -> Session:
        session = Session(attributes)
        session._accessed = False
        session._guarded = False
        session._base = attributes
        session._host = self
        session._intents = None
        session._lease = None
        session._secret = None
        session._is_new = False
        session._phase = NOT_STARTED
        session._record = record
        session._record_id = record_id
        session._status = LIVE
        session._verifier = record.verifier
        return session

    def _bound(self, record_id: bytes, record: Record) -> Session | None:
        """Return the session of a record; ``None`` if its bytes cannot be read or say that it has expired."""
        if self.live:
            return self._bind(record_id, record, record.attributes)
        session = self._bind(record_id, record, EMPTY)
        try:
            dict.update(session, self.values.load(session, record_id, record))
        except Unreadable as error:
            self.events.emit(logging.WARNING, "session.unreadable", record_id, "a record cannot be opened: %s", error)
            self.events.once(
                "store.unreadable",
                "a session of the store cannot be opened: was it sealed under a secret_key or a codec that is not "
                "configured any more? Such sessions end; their records are kept",
            )
            return None
        return None if self.saver.has_ended(record) else session

    def _reject(self, of_form: bool) -> None:
        if of_form:
            self._trusting = False
            self.events.once(
                "cookie.other_key",
                "a cookie has the form of a session's token, and no secret_key here verifies it: every worker needs "
                "the same secret_key, and a key that was replaced stays behind the new one for one lifetime; two "
                "applications on one host, whatever their ports, need a session_cookie each. Anybody can send such a "
                "cookie, so this is said only once",
            )
            return
        text = "a session cookie is not one of ours, or among over 64 KiB of cookies: ignored"
        self.events.hostile("cookie.rejected", text)

    def _unknown(self) -> None:
        self.events.hostile("session.unknown", "a genuine session cookie leads to no live session")
        if self.live and (_several_processes() or self._has_twin()):
            self.events.once(
                "store.not_shared",
                "a genuine session cookie leads to no session here, and this process is one of several, or another "
                "middleware of it has a MemoryStore of its own: a MemoryStore is not shared; use one worker, and give "
                "one store to all middlewares (a restart or an expired session shows the same way)",
            )

    def _has_twin(self) -> bool:
        """Tell if a middleware of this process keeps sessions elsewhere in memory, whose cookies are genuine here."""
        others = (reference() for reference in _IN_MEMORY.valuerefs())
        return any(
            other is not None and other.store is not self.store and self._keys.unsign(other.sign_anything()) is not None
            for other in others
        )

    def sign_anything(self) -> bytes:
        """Return a token that leads nowhere, signed as any other."""
        return self._keys.sign((bytes(ID_BYTES), bytes(ID_BYTES)))

    # --- save points ---

    async def save(self, session: Session) -> None:
        """Carry out ``await session.save()``."""
        if session._request is not None:
            session._request.look()
        await self.checkpoint(session, Point.LATER)

    def save_soon(self, session: Session) -> None:
        """Carry out a verb that sync code called after the end of the request: at once, or in a task."""
        if self.live:
            self.checkpoint_now(session, Point.LATER)
            return
        try:
            task = asyncio.get_running_loop().create_task(self._save_quietly(session))
        except RuntimeError:
            text = "a verb called after the end of the request, in a thread without an event loop, does nothing"
            self.events.emit(logging.WARNING, "session.unsaved", session._record_id, text)
        else:
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _save_quietly(self, session: Session) -> None:
        with suppress(FasterSessionError):  # logged
            await self.late(session, Point.END)

    async def reload(self, session: Session) -> None:
        """Carry out ``await session.reload()``."""
        if session._intents is not None:
            session._intents.reload = False  # this is it
        if self.live:
            await self.saver.reload(session)
            return
        async with self._turn(session):
            await self.saver.reload(session)

    async def checkpoint(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Carry out a save point, once, protected from cancellation. Errors: see ``Saver.commit``."""
        if self.live:
            self.checkpoint_now(session, point, discard=discard)
            return
        foreseen = self.saver.foresee(session, point, discard=discard)
        if foreseen is not None or self.busy(session):
            await self._heard(session, self._in_turn(session, point, discard, foreseen))

    def checkpoint_now(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Do what ``checkpoint`` does, on a live store, from a plain function."""
        try:
            with _noted(session) if session._phase == ENDED else _PLAIN:
                self.saver.commit_now(session, point, discard=discard)
        except SessionNotEstablished:
            self._note_refused(session)
            raise

    async def late(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Carry out a save point after the headers: like ``checkpoint``, tried again within ``LATE_SECONDS``."""
        if self.live:
            try:
                self.saver.commit_now(session, point, discard=discard)
            except StoreError:
                self._log_failed(session, point)
                raise
            except SessionNotEstablished:
                self._note_refused(session)
                raise
            return
        foreseen = self.saver.foresee(session, point, discard=discard)
        if foreseen is not None or self.busy(session):
            await self._heard(session, self._with_retries(session, point, discard, foreseen))

    async def _heard(self, session: Session, work: Coroutine[Any, Any, None]) -> None:
        """Run a save protected from cancellation. A refusal counts as said if the caller is still there to hear it."""
        try:
            await shielded(work, self.tasks)
        except SessionNotEstablished:
            self._note_refused(session)
            raise

    def _note_refused(self, session: Session) -> None:
        """Take what no cookie can lead to for said, so that the next save point does not say it again."""
        self.values.settle(session, self.values.work(session, session))

    @contextmanager
    def logged(self, session: Session, point: Point) -> Iterator[None]:
        """Log a ``StoreError`` of a save after the headers: it is too late for an answer that tells of it."""
        try:
            yield
        except StoreError:
            self._log_failed(session, point)
            raise

    def _log_failed(self, session: Session, point: Point) -> None:
        text = "a session could not be saved: changes of this request are lost"
        if point is not Point.END:
            text = "a session could not be saved yet: its changes are tried again when the request ends"
        self.events.emit(logging.ERROR, "session.save_failed", session._record_id, text)

    def settled(self, session: Session) -> bool:
        """Tell if a store of bytes has all there is, and nothing in it can change unseen: no mutable value."""
        return unchanged(session, session._base) and SCALARS.issuperset(map(type, list(dict.values(session))))

    def busy(self, session: Session) -> bool:
        """Tell if a commit of another task is at work."""
        turn: asyncio.Lock | None = getattr(session, "_turn", None)
        return turn is not None and turn.locked()

    def touch_soon(self, session: Session) -> None:
        """Touch the session: at once on a live store, else in a task, for no message shall wait for it."""
        if self.live:
            run_now(self.touch(session))
        else:
            self._begin(self.touch(session))

    def save_beside(self, session: Session) -> asyncio.Task[None] | None:
        """Begin a save of what has changed by now, one try, in a task; ``None`` if it is done or there is nothing.

        Errors, of the call or the task: see ``Saver.commit``.
        """
        if self.live:
            self.saver.commit_now(session, Point.LATER)
            return None
        foreseen = self.saver.foresee(session, Point.LATER, discard=False)
        return None if foreseen is None else self._begin(self._in_turn(session, Point.LATER, False, foreseen))

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task that stands in ``tasks`` while it runs."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def due(self, session: Session) -> bool:
        """Tell if the session's last access should be recorded again."""
        record = session._record
        return record is not None and touch_due(record, self.now())

    def cookie(self, session: Session) -> bytes | None:
        """Return the token that the start must carry, ``b""`` if it must clear the cookie, else ``None``."""
        record_id, secret, intents = session._record_id, session._secret, session._intents
        if session._status is LIVE and secret is not None and record_id is not None:
            return self._keys.sign((record_id, secret))
        return b"" if intents is not None and intents.signed_out and session._status is NEW else None

    def adopt(self, session: Session, value: object) -> None:
        """Take over a plain dict, which is the new content; anything else (None, Litestar's ``Empty``) clears."""
        if type(value) is dict:
            dict.clear(session)
            dict.update(session, value)
            session._accessed = True
        else:
            Session.clear(session)

    async def _with_retries(self, session: Session, point: Point, discard: bool, foreseen: Foreseen | None) -> None:
        bound = LATE_SECONDS * self._patience
        with self.logged(session, point):
            try:
                async with asyncio.timeout(bound):
                    for pause in LATE_PAUSES:
                        try:
                            return await self._in_turn(session, point, discard, foreseen)
                        except StoreError:
                            await asyncio.sleep(pause * self._patience)
                    return await self._in_turn(session, point, discard, foreseen)
            except TimeoutError as error:
                raise StoreError(f"the session could not be saved within {bound:g} s") from error

    async def _in_turn(self, session: Session, point: Point, discard: bool, foreseen: Foreseen | None) -> None:
        """Commit when the commit before is done: what changes meanwhile is for the next one."""
        async with self._turn(session):
            with _noted(session) if session._phase == ENDED else _PLAIN:  # a generator's context costs three times that
                await self.saver.commit(session, point, discard=discard, foreseen=foreseen)

    @staticmethod
    def _turn(session: Session) -> _Turn:
        turn: _Turn | None = getattr(session, "_turn", None)
        if turn is None or (turn.locked() and turn.loop is not asyncio.get_running_loop()):
            turn = session._turn = _Turn()  # who has one of another loop has ended with it
        return turn

    # --- exclusive turns ---

    def exclusive(self, session: Session, timeout: float) -> Exclusive:
        """Return the context manager of ``session.exclusive()``."""
        return Exclusive(self, session, timeout)

    # --- the store ---

    def keep_alive(self, session: Session) -> Repeat | None:
        """Touch the session of a long request from time to time. A live store needs no such help."""
        if self.live:
            return None
        return self.repeats.add(lambda: session._idle_seconds() * TOUCH_FRACTION, lambda: self.touch(session))

    async def drain(self) -> None:
        """Save what streams still hold, and wait for the saves in flight, for at most ``DRAIN_SECONDS``."""
        streaming = [request for request in self.running if request.session._phase in (STARTED, FAILED)]
        if self.live:
            for request in streaming:
                await self.save_late(request)
            return
        loop = asyncio.get_running_loop()
        work = {loop.create_task(self.save_late(request)) for request in streaming}
        work.update(task for task in self.tasks if task.get_loop() is loop)  # no other can end
        if work:
            await asyncio.wait(work, timeout=DRAIN_SECONDS)

    async def drain_unasked(self, error: BaseException) -> None:
        """Drain if it is a cancellation that a request ends with, and the server runs no lifespan to ask for it.

        daphne cancels all requests when it stops, and ends with the first of them. They share one drain.
        """
        if self.live or self.told_of_shutdown or not isinstance(error, asyncio.CancelledError):
            return
        loop, draining = asyncio.get_running_loop(), self._draining
        if draining is None or draining.done() or draining.get_loop() is not loop:
            draining = self._draining = loop.create_task(self.drain())
        await shielded(_ended(draining), set())

    async def save_late(self, request: RequestManager) -> FasterSessionError | None:
        """Run a late save of a running request, and return its error, which the request's end raises, too."""
        request.look()
        try:
            await self.late(request.session, Point.LATER)
        except FasterSessionError as error:
            request.failure = request.failure or error
            request.session._accessed = True  # so that the end raises the failure, if it has nothing to save
            return error
        return None

    def unsaved(self, session: Session, names: Iterable[str]) -> None:
        """Warn of attributes that were written after the end of the request and never saved."""
        text = "written after the request had ended, and lost: %s; await session.save() after such a write"
        self.events.emit(logging.WARNING, "session.unsaved", session._record_id, text, ", ".join(map(repr, names)))


# The managers of live stores in this process, by id.
_IN_MEMORY: WeakValueDictionary[int, SessionManager] = WeakValueDictionary()


class _Turn(asyncio.Lock):
    """What makes the commits of one session take turns."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()


def new_session(manager: SessionManager, status: Status = Status.NEW, record_id: bytes | None = None) -> Session:
    """Return an empty session without a record."""
    session = Session()
    session._accessed = False  # one by one: chained, an assignment costs a fifth more
    session._guarded = False
    session._base = EMPTY
    session._host = manager
    session._intents = None
    session._record = None
    session._secret = None
    session._is_new = True
    session._phase = NOT_STARTED
    session._record_id = record_id
    session._status = status
    return session


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait((task,))


@contextmanager
def _noted(session: Session) -> Iterator[None]:
    """Take the names written after the end of the request as saved, but for those that come while this save runs."""
    covered, session._late = getattr(session, "_late", {}), {}
    try:
        yield
    except BaseException:
        session._late = {**covered, **session._late}
        raise


def _several_processes() -> bool:
    """Tell if this looks like one of several workers (multiprocessing children, WEB_CONCURRENCY of many servers)."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return True
    workers = os.environ.get("WEB_CONCURRENCY", "")
    return workers.isdigit() and int(workers) > 1
