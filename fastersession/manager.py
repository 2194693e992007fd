"""Open, commit and close sessions: composes tokens, plan and store.

Rules of residence: no ASGI message, no header bytes. One ``SessionManager`` serves a middleware; the state of one
request is in its ``Session``. Everything here is written once, as coroutines: on a live store they never suspend, so
``run_now`` can drive them from plain functions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from enum import Enum
from typing import Any

from .commit import Action, Point, Situation, diff, plan, unchanged
from .errors import FasterSessionError, SessionNotEstablished, StoreError
from .events import EventLog
from .session import (
    EMPTY,
    ENDED,
    FAILED,
    LEFT_WITHOUT_COOKIE,
    NOT_STARTED,
    STARTED,
    EndedSession,
    Metadata,
    Session,
    Status,
    UnestablishedSession,
)
from .stores.base import Change, Record, Store
from .tasks import Repeat, run_now, shielded
from .tokens import KeyRing, Ticket, draw, same, verifier_of

__all__ = ["RequestManager", "SessionManager"]

SUPERSEDED_SECONDS = 60  # how long requests sent before a regeneration may still arrive with the old cookie
TOUCH_FRACTION = 0.1  # of the idle timeout: how coarsely the last access is recorded
STORE_SECONDS = 2.0  # bound on one store call
LATE_SECONDS = 5.0  # bound on a save after the headers, retries included
LATE_PAUSES = (0.05, 0.2, 0.8)  # seconds between the tries of a late save
DRAIN_SECONDS = 10.0  # bound on the drain at shutdown
CREATE_TRIES = 3  # a taken id is a broken random generator, not bad luck


class RequestManager:
    """What stands at ``request.state.session``: the interface of the ancestor's session manager. Always truthy."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_session(self) -> Session:
        """Return the session of this request."""
        return self._session

    def get_session_id(self) -> str:
        """Return the session's public id, 32 hex digits."""
        return self._session.id

    def save_session(self) -> None:
        """See :meth:`Session.save`."""
        self._session.save()

    def clear_session(self) -> None:
        """Remove all attributes; with nothing written afterwards, the session ends."""
        self._session.clear()


class SessionManager:
    """Opens, commits and closes the sessions of one middleware. Implements ``session.Host``."""

    def __init__(
        self,
        *,
        store: Store,
        keys: KeyRing,
        idle_timeout: float,
        lifetime: float | None,
        max_age: int,
        events: EventLog,
    ) -> None:
        self.store = store
        self.live = store.live
        self.now = store.clock
        self.draw = draw
        self.idle_timeout = idle_timeout
        self.events = events
        self.running: set[RequestManager] = set()
        self._keys = keys
        self._lifetime = float("inf") if lifetime is None else lifetime
        self._max_age = float("inf") if max_age == 0 else max_age
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = store.live

    # --- open ---

    async def open(self, candidates: Iterable[bytes]) -> Session:
        """Return the session that the cookie values lead to; a new one if none does.

        :raises StoreError: the store failed: better no answer than an answer without the session.
        """
        tickets = dict.fromkeys(filter(None, map(self._keys.unsign, candidates)))
        if not tickets:
            self.events.hostile("cookie.rejected", "a session cookie is not one of ours: ignored")
            return self.new()
        if not self._opened:
            await self.open_store()
        found, superseded = await self._load(tickets)
        if len(found) == 1:
            return self._bind(*found[0])
        if found:
            self.events.hostile("cookie.ambiguous", "two session cookies are both alive: neither is used")
        elif superseded is not None:
            return self.new(Status.SUPERSEDED, superseded)
        else:
            self._unknown()
        return self.new()

    def new(self, status: Status = Status.NEW, record_id: bytes | None = None) -> Session:
        """Return an empty session without a record."""
        session = Session()
        session._host = self
        session._accessed = False
        session._base = EMPTY
        session._intents = session._record = session._secret = session._verifier = None
        session._is_new = True
        session._phase = NOT_STARTED
        session._record_id = record_id
        session._status = status
        return session

    def foreign(self, origin: str) -> Session:
        """Return the session of a WebSocket from a foreign origin: empty, and refusing every write."""
        session = self.new(Status.FOREIGN)
        session._refuse(f"the WebSocket comes from a foreign origin, {origin!r}; allowed_origins may name it")
        return session

    async def _load(self, tickets: Iterable[Ticket]) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        found, superseded = [], None
        for record_id, secret in tickets:
            record = await self._ask(self.store.load(record_id))
            if record is None:
                continue
            if same(record.verifier, secret if self.live else verifier_of(secret)):
                found.append((record_id, record))
            elif record.regenerated_at is not None and self.now() - record.regenerated_at < SUPERSEDED_SECONDS:
                superseded = record_id
        return found, superseded

    def _bind(self, record_id: bytes, record: Record) -> Session:
        session = Session(record.attributes)
        session._host = self
        session._accessed = False
        session._base = record.attributes
        session._intents = session._secret = None
        session._is_new = False
        session._phase = NOT_STARTED
        session._record = record
        session._record_id = record_id
        session._status = Status.LIVE
        session._verifier = record.verifier
        return session

    def _unknown(self) -> None:
        self.events.hostile("session.unknown", "a genuine session cookie leads to no live session")
        if self.live and _several_processes():
            self.events.once(
                "store.not_shared",
                "a genuine session cookie leads to no session in this process, and this process is one of several: "
                "a MemoryStore is not shared between workers; use one worker or a store that all share "
                "(a restart or an expired session shows the same way)",
            )

    # --- save points ---

    async def save(self, session: Session) -> None:
        """Carry out ``await session.save()``."""
        await self.checkpoint(session, Point.LATER)
        if session._phase == ENDED:
            session._late = []

    def save_now(self, session: Session) -> None:
        """Carry out a verb that sync code called after the end of the request, on a live store."""
        run_now(self.save(session))

    async def checkpoint(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Carry out a save point, once, protected from cancellation.

        :raises StoreError: the store failed.
        :raises SessionNotEstablished: attributes were written that no cookie can lead to any more.
        """
        if self.live:
            await self._commit(session, point, discard)
        else:
            await shielded(self._in_turn(session, point, discard), self._tasks)

    async def late(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Carry out a save point after the headers: like ``checkpoint``, tried again within ``LATE_SECONDS``."""
        try:
            if self.live:
                await self._commit(session, point, discard)
            else:
                await shielded(self._with_retries(session, point, discard), self._tasks)
        except StoreError:
            text = "a session could not be saved: changes of this request are lost"
            self.events.emit(logging.ERROR, "session.save_failed", session._record_id, text)
            raise

    def started(self, session: Session, *, failed: bool) -> None:
        """Note that the headers leave now, so no cookie can be sent any more."""
        session._phase = FAILED if failed else STARTED
        session._secret = None
        if session._status is Status.NEW:
            session._refuse(LEFT_WITHOUT_COOKIE)

    async def close(self, session: Session, *, raised: bool) -> None:
        """Carry out the last save point; from then on only ``save()`` reaches the store."""
        unsent = session._phase == NOT_STARTED
        await self.late(session, Point.END, discard=raised and unsent)
        if unsent and session._is_new and session._status is Status.LIVE and session._record_id is not None:
            await self._ask(self.store.delete(session._record_id))  # its cookie never left
            session._status = Status.GONE

    def end(self, session: Session) -> None:
        """Note that the request is over."""
        session._phase = ENDED
        if not isinstance(session, UnestablishedSession):
            session.__class__ = EndedSession

    def cookie(self, session: Session) -> bytes | None:
        """Return the token that the start must carry, ``b""`` if it must clear the cookie, else ``None``."""
        if session._status is Status.LIVE and session._secret is not None and session._record_id is not None:
            return self._keys.sign(Ticket(session._record_id, session._secret))
        signed_out = session._intents is not None and session._intents.signed_out
        return b"" if signed_out and session._status is Status.NEW else None

    async def _with_retries(self, session: Session, point: Point, discard: bool) -> None:
        try:
            async with asyncio.timeout(LATE_SECONDS):
                for pause in LATE_PAUSES:
                    try:
                        return await self._in_turn(session, point, discard)
                    except StoreError:
                        await asyncio.sleep(pause)
                return await self._in_turn(session, point, discard)
        except TimeoutError as error:
            raise StoreError(f"the session could not be saved within {LATE_SECONDS:g} s") from error

    async def _in_turn(self, session: Session, point: Point, discard: bool) -> None:
        """Commit when the commit before is done: what changes meanwhile is for the next one."""
        turn: asyncio.Lock | None = getattr(session, "_turn", None)
        if turn is None:
            turn = session._turn = asyncio.Lock()
        async with turn:
            await self._commit(session, point, discard)

    async def _commit(self, session: Session, point: Point, discard: bool) -> None:
        """Decide a save point and carry it out. On a live store this never suspends."""
        try:
            intents = session._intents
            if intents is not None:
                await self._first(session)
            content, discard = self._content(session, discard or session._phase == FAILED)
            if self.live and (point is Point.START or session._phase != NOT_STARTED):
                session._accessed = False  # the next save point need not compare unless something happens
            now = self.now()
            action = plan(self._situation(session, point, content, discard, now))
            if action is not Action.NOTHING:
                await _CARRY_OUT[action](self, session, content, now)
            if intents is not None:
                intents.saved = None
        except FasterSessionError:
            raise
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    async def _first(self, session: Session) -> None:
        """Carry out what comes before any comparison: reload, and the deletions of ``invalidate()``."""
        intents = session._intents
        if intents is not None and intents.reload:
            await self.reload(session)
        while intents is not None and intents.doomed:
            await self._ask(self.store.delete(intents.doomed[-1]))
            intents.doomed.pop()

    def _content(self, session: Session, discard: bool) -> tuple[Mapping[str, Any], bool]:
        """Return what to store (the very ``_base`` if nothing changed), and if the rest is still discarded."""
        if not discard:
            return (session._base if unchanged(session, session._base) else session._snapshot()), False
        saved = None if session._intents is None else session._intents.saved
        if saved is None:
            return session._base, True
        return (session._base if unchanged(saved, session._base) else saved), False

    def _situation(
        self, session: Session, point: Point, content: Mapping[str, Any], discard: bool, now: float
    ) -> Situation:
        intents, record = session._intents, session._record
        return Situation(
            status=session._status,
            point=point,
            empty=not content,
            dirty=content is not session._base or (intents is not None and intents.idle_timeout is not None),
            started=session._phase != NOT_STARTED,
            discard=discard,
            cleared=intents is not None and intents.cleared,
            establish=intents is not None and intents.establish,
            regenerate=intents is not None and intents.regenerate,
            due=record is not None and _touch_due(record, now),
        )

    async def _create(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        for _ in range(CREATE_TRIES):
            ticket = session._ticket()
            record = await self._ask(
                self.store.create(
                    ticket.record_id,
                    verifier=self._verifier(ticket.secret),
                    created_at=now,
                    idle_timeout=session.idle_timeout.total_seconds(),
                    not_after=self._not_after(now, now),
                    attributes=content,
                )
            )
            if session._record_id is not ticket.record_id:  # invalidated while the store worked
                session._plans().doomed.append(ticket.record_id)
                return
            if record is not None:
                session._record, session._status, session._verifier = record, Status.LIVE, record.verifier
                if session._intents is not None:
                    session._intents.regenerate = False  # the secret is new anyway
                session._settle(content)
                return
            session._record_id = None
        raise StoreError(f"{CREATE_TRIES} new record ids in a row were taken: the random generator is broken")

    async def _update(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        change = self._change(session, content, now)
        record_id, verifier = session._proof()
        if await self._ask(self.store.update(record_id, verifier, change)):
            self._saved(session, record_id, content, change)
        else:
            self._lost(session, record_id, "the record is gone (logged out, expired or regenerated elsewhere)")

    async def _regenerate(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        change = self._change(session, content, now)
        record_id, verifier = session._proof()
        secret = draw().secret
        new_verifier = self._verifier(secret)
        created_at = now if session._record is None else session._record.created_at
        not_after = self._not_after(created_at, now)
        if not await self._ask(self.store.regenerate(record_id, verifier, new_verifier, not_after, change)):
            self._lost(session, record_id, "another request regenerated or ended the session first")
        elif session._record_id is record_id:
            session._secret, session._verifier = secret, new_verifier
            session._plans().regenerate = False
            self._saved(session, record_id, content, change)

    async def _delete(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        session._start_anew()
        await self._first(session)

    async def _touch(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        record_id, verifier = session._proof()
        if not await self._ask(self.store.touch(record_id, verifier, now)):
            self._lost(session, record_id, "the record is gone (logged out, expired or regenerated elsewhere)")
        elif session._record is not None:
            session._record.accessed_at = max(now, session._record.accessed_at)

    async def _drop(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        if session._status is Status.SUPERSEDED:
            self._event_dropped(session._record_id, "its cookie was replaced a moment ago by another request")
            if session._phase != NOT_STARTED:
                session._status = Status.GONE  # one event is enough
        session._base = content

    async def _refuse(self, session: Session, content: Mapping[str, Any], now: float) -> None:
        session._base = content  # say it once
        name = next(iter(content), None)
        why = getattr(session, "_refusal", LEFT_WITHOUT_COOKIE)
        raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {why}")

    def _change(self, session: Session, content: Mapping[str, Any], now: float) -> Change:
        sets, deletes = diff(content, session._base)
        return Change(now, sets, deletes, None if session._intents is None else session._intents.idle_timeout)

    def _saved(self, session: Session, record_id: bytes, content: Mapping[str, Any], change: Change) -> None:
        if session._record_id is not record_id or session._record is None:
            return  # invalidated while the store worked
        session._settle(content)
        if not self.live:
            session._record.accessed_at = max(change.accessed_at, session._record.accessed_at)
            session._record.idle_timeout = change.idle_timeout or session._record.idle_timeout

    def _lost(self, session: Session, record_id: bytes, why: str) -> None:
        if session._record_id is record_id:
            session._status, session._secret = Status.GONE, None
            self._event_dropped(record_id, why)

    def _event_dropped(self, record_id: bytes | None, why: str) -> None:
        text = "changes of a request were dropped, its session is no longer its own: %s"
        self.events.emit(logging.INFO, "session.dropped", record_id, text, why)

    def _verifier(self, secret: bytes) -> bytes:
        return secret if self.live else verifier_of(secret)

    def _not_after(self, created_at: float, issued_at: float) -> float:
        return min(created_at + self._lifetime, issued_at + self._max_age)

    def adopt(self, session: Session, value: object) -> None:
        """Take over what the application put in the session's place in the scope.

        A plain dict is the new content; ``None`` or an ``Enum`` member (Litestar's ``Empty``) clears; anything else
        is somebody else's session and is left alone.
        """
        if type(value) is dict:
            dict.clear(session)
            dict.update(session, value)
            session._accessed = True
        elif value is None or isinstance(value, Enum):
            Session.clear(session)

    # --- touch, reload ---

    def due(self, session: Session) -> bool:
        """Tell if the session's last access should be recorded again."""
        return session._record is not None and _touch_due(session._record, self.now())

    async def touch(self, session: Session) -> None:
        """Keep the session alive. A store failure is logged only: nothing of the application's is at stake."""
        if session._status is not Status.LIVE:
            return
        try:
            await self._touch(session, session._base, self.now())
        except StoreError:
            self.events.emit(logging.WARNING, "store.touch_failed", session._record_id, "a session was not touched")

    def keep_alive(self, session: Session) -> Repeat | None:
        """Touch the session of a long request from time to time. A live store needs no such help."""
        if self.live:
            return None
        period = session.idle_timeout.total_seconds() * TOUCH_FRACTION
        return Repeat(period, lambda: self.touch(session), self._tasks)

    async def reload(self, session: Session) -> None:
        """Carry out ``await session.reload()``."""
        session._plans().reload = False
        if session._status is not Status.LIVE:
            return
        record_id, verifier = session._proof()
        record = await self._ask(self.store.load(record_id))
        if record is None or not same(record.verifier, verifier):
            self._lost(session, record_id, "the record is gone (logged out, expired or regenerated elsewhere)")
            return
        sets, deletes = diff(session._snapshot(), session._base)
        fresh = {**record.attributes, **sets}
        for name in deletes:
            fresh.pop(name, None)
        dict.clear(session)
        dict.update(session, fresh)
        session._accessed = True
        session._record, session._base = record, record.attributes

    # --- the store ---

    async def open_store(self) -> None:
        """Open the store, unless that was done."""
        await self._ask(self.store.open())
        self._opened = True

    async def close_store(self) -> None:
        """Close the store, after ``drain``."""
        self._opened = self.live
        try:
            await self._ask(self.store.close())
        except StoreError as error:
            self.events.emit(logging.WARNING, "store.close_failed", None, "the store was not closed: %s", error)

    async def drain(self) -> None:
        """Save what streams still hold, and wait for the saves in flight, for at most ``DRAIN_SECONDS``."""
        streaming = [request._session for request in self.running if request._session._phase in (STARTED, FAILED)]
        if self.live:
            for session in streaming:
                await self._drain_one(session)
            return
        work = {asyncio.ensure_future(self._drain_one(session)) for session in streaming} | self._tasks
        if work:
            await asyncio.wait(work, timeout=DRAIN_SECONDS)

    async def _drain_one(self, session: Session) -> None:
        try:
            await self.late(session, Point.LATER)
        except FasterSessionError:
            return  # logged; its own request raises it

    def unsaved(self, session: Session, names: list[str]) -> None:
        """Warn of attributes that were written after the end of the request and never saved."""
        text = "written after the request had ended, and lost: %s; await session.save() after such a write"
        self.events.emit(logging.WARNING, "session.unsaved", session._record_id, text, ", ".join(map(repr, names)))

    def _ask(self, call: Awaitable[Any]) -> Awaitable[Any]:
        return call if self.live else self._bounded(call)

    async def _bounded(self, call: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return await call
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error


def _touch_due(record: Metadata, now: float) -> bool:
    return now - record.accessed_at >= record.idle_timeout * TOUCH_FRACTION


def _several_processes() -> bool:
    """Tell if this looks like one of several workers (multiprocessing children, WEB_CONCURRENCY of many servers)."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return True
    workers = os.environ.get("WEB_CONCURRENCY", "")
    return workers.isdigit() and int(workers) > 1


_CARRY_OUT: dict[Action, Callable[[SessionManager, Session, Mapping[str, Any], float], Coroutine[Any, Any, None]]] = {
    Action.CREATE: SessionManager._create,
    Action.UPDATE: SessionManager._update,
    Action.TOUCH: SessionManager._touch,
    Action.DELETE: SessionManager._delete,
    Action.REGENERATE: SessionManager._regenerate,
    Action.DROP: SessionManager._drop,
    Action.REFUSE: SessionManager._refuse,
}
