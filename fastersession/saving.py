"""What a save point decides, carried out against the store.

Rules of residence: one commit of one session; no protection from cancellation and no retries (the manager adds them),
no ASGI, no cookie. What is done is written once, as generators that yield calls of the store; two drivers run them,
one at once (a live store), one that awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from typing import Any

from .commit import Action, Point, Situation, diff, plan, unchanged
from .errors import FasterSessionError, SessionNotEstablished, StoreError
from .events import EventLog
from .session import FAILED, LEFT_WITHOUT_COOKIE, NOT_STARTED, Metadata, Session, Status
from .stores.base import Change, Record, Store
from .tasks import run_now
from .tokens import draw, same, verifier_of

__all__ = ["TOUCH_FRACTION", "Saver", "touch_due"]

STORE_SECONDS = 2.0  # bound on one store call
TOUCH_FRACTION = 0.1  # of the idle timeout: how coarsely the last access is recorded
CREATE_TRIES = 3  # a taken id is a broken random generator, not bad luck
LOST = "the record is gone (logged out, expired or regenerated elsewhere)"

_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call
LIVE = Status.LIVE
Steps = Generator[tuple[Callable[..., Any], tuple[Any, ...]], Any, None]


class Saver:
    """Carries out save points.

    :param lifetime: seconds from creation to the absolute end of a session; infinity for none.
    :param max_age: seconds from the issue of a cookie to the absolute end; infinity for none.
    """

    def __init__(self, store: Store, events: EventLog, lifetime: float, max_age: float) -> None:
        self.live = store.live
        self.clock = store.clock
        direct = getattr(store, "direct", None) if store.live else None
        self._verbs: Any = direct or store  # a live store's verbs, as plain functions where it has them
        self._is_direct = direct is not None
        self.load_now: Callable[[bytes], Record | None] = direct.load if direct else self._load_now
        self._events = events
        self._lifetime = lifetime
        self._max_age = max_age

    # --- drivers: the steps of a commit, at once or awaited ---

    def swap_now(self, session: Session) -> bool:
        """Save a changed session the fastest way; ``False``, and nothing done, if that cannot be.

        For a direct store, a session without intents and a save that is not to be discarded. ``plan`` says UPDATE
        then, whatever else holds, and if nobody saved since this request loaded, there is nothing to merge with.
        """
        if not self._is_direct or session._status is not LIVE:
            return False
        content, (record_id, verifier) = session._snapshot(), session._proof()
        if not self._verbs.swap(record_id, verifier, session._base, content, self.clock()):
            return False
        session._base = content
        return True

    def commit_now(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Do what ``commit`` does, on a live store."""
        steps = self._commit(session, point, discard)
        try:
            verb, arguments = next(steps)
            while True:
                verb, arguments = steps.send(self.call_now(verb, *arguments))
        except StopIteration:
            return
        except FasterSessionError:
            raise
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    async def commit(self, session: Session, point: Point, *, discard: bool = False) -> None:
        """Decide a save point and carry it out.

        :raises StoreError: the store failed.
        :raises SessionNotEstablished: attributes were written that no cookie can lead to any more.
        """
        await self._run(self._commit(session, point, discard))

    async def touch(self, session: Session) -> None:
        """Keep the session alive. A store failure is logged only: nothing of the application's is at stake."""
        if session._status is not Status.LIVE:
            return
        try:
            await self._run(self._touch(session, session._base, self.clock()))
        except StoreError:
            self._events.emit(logging.WARNING, "store.touch_failed", session._record_id, "a session was not touched")

    async def reload(self, session: Session) -> None:
        """Take the store's state, and put the unsaved changes on top."""
        await self._run(self._reload(session))

    async def call(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """Call the store: at once if it is live, else bounded in time.

        :raises StoreError: it failed, or took too long.
        """
        try:
            if self.live:
                return self.call_now(verb, *arguments)
            async with asyncio.timeout(STORE_SECONDS):
                return await verb(*arguments)
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    def call_now(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """Call a live store."""
        return verb(*arguments) if self._is_direct else run_now(verb(*arguments))

    def _load_now(self, record_id: bytes) -> Record | None:
        record: Record | None = run_now(self._verbs.load(record_id))
        return record

    async def load(self, record_id: bytes) -> Record | None:
        """Call the store's ``load``."""
        return await self.call(self._verbs.load, record_id)  # type: ignore[no-any-return]

    async def delete(self, record_id: bytes) -> None:
        """Call the store's ``delete``."""
        await self.call(self._verbs.delete, record_id)

    async def _run(self, steps: Steps) -> None:
        try:
            verb, arguments = next(steps)
            while True:
                verb, arguments = steps.send(await self.call(verb, *arguments))
        except StopIteration:
            return

    # --- the steps: each yields a verb of the store with its arguments, and gets the outcome ---

    def _commit(self, session: Session, point: Point, discard: bool) -> Steps:
        intents = session._intents
        if intents is not None:
            yield from self._first(session)
        content, discard = _content(session, discard or session._phase == FAILED)
        now = self.clock()
        action = plan(_situation(session, point, content, discard, now))
        if action is Action.UPDATE:  # the usual one, without another generator
            record_id, verifier = session._proof()
            change = _change(session, content, now)
            self._updated(
                session, record_id, content, change, (yield self._verbs.update, (record_id, verifier, change))
            )
        elif action is not Action.NOTHING:
            yield from _CARRY_OUT[action](self, session, content, now)
        if intents is not None:
            intents.saved = None

    def _first(self, session: Session) -> Steps:
        """Carry out what comes before any comparison: reload, and the deletions of ``invalidate()``."""
        intents = session._intents
        if intents is not None and intents.reload:
            yield from self._reload(session)
        while intents is not None and intents.doomed:
            yield self._verbs.delete, (intents.doomed[-1],)
            intents.doomed.pop()

    def _reload(self, session: Session) -> Steps:
        session._plans().reload = False
        if session._status is not Status.LIVE:
            return
        record_id, verifier = session._proof()
        record = yield self._verbs.load, (record_id,)
        if record is None or not same(record.verifier, verifier):
            self._lose(session, record_id, LOST)
            return
        sets, deletes = diff(session._snapshot(), session._base)
        fresh = {**record.attributes, **sets}
        for name in deletes:
            fresh.pop(name, None)
        dict.clear(session)
        dict.update(session, fresh)
        session._accessed = True
        session._record, session._base = record, record.attributes

    def _create(self, session: Session, content: Mapping[str, Any], now: float) -> Steps:
        for _ in range(CREATE_TRIES):
            ticket = session._ticket()
            verifier, idle, not_after = self.verifier(ticket.secret), session._idle_seconds(), self._not_after(now, now)
            record = yield self._verbs.create, (ticket.record_id, verifier, now, idle, not_after, content)
            if session._record_id is not ticket.record_id:  # invalidated while the store worked
                session._plans().doomed.append(ticket.record_id)
                return
            if record is not None:
                session._record, session._status, session._verifier = record, Status.LIVE, record.verifier
                session._settle(content, regenerated=True)
                return
            session._record_id = None
        raise StoreError(f"{CREATE_TRIES} new record ids in a row were taken: the random generator is broken")

    def _regenerate(self, session: Session, content: Mapping[str, Any], now: float) -> Steps:
        change = _change(session, content, now)
        record_id, verifier = session._proof()
        secret = draw().secret
        new_verifier = self.verifier(secret)
        created_at = now if session._record is None else session._record.created_at
        arguments = record_id, verifier, new_verifier, self._not_after(created_at, now), change
        if not (yield self._verbs.regenerate, arguments):
            self._lose(session, record_id, "another request regenerated or ended the session first")
        elif session._record_id is record_id:
            session._secret, session._verifier = secret, new_verifier
            session._plans().regenerate = False
            self._updated(session, record_id, content, change, True)

    def _delete(self, session: Session, content: Mapping[str, Any], now: float) -> Steps:
        session._start_anew()
        yield from self._first(session)

    def _touch(self, session: Session, content: Mapping[str, Any], now: float) -> Steps:
        record_id, verifier = session._proof()
        if not (yield self._verbs.touch, (record_id, verifier, now)):
            self._lose(session, record_id, LOST)
        elif session._record is not None:
            session._record.accessed_at = max(now, session._record.accessed_at)

    def _drop(self, session: Session, content: Mapping[str, Any], now: float) -> Steps:
        if session._status is Status.SUPERSEDED:
            self._log_dropped(session._record_id, "its cookie was replaced a moment ago by another request")
            if session._phase != NOT_STARTED:
                session._status = Status.GONE  # one event is enough
        session._base = content
        yield from ()

    def _refuse(self, session: Session, content: Mapping[str, Any], now: float) -> Steps:
        session._base = content  # say it once
        name, why = next(iter(content), None), getattr(session, "_refusal", LEFT_WITHOUT_COOKIE)
        yield from ()
        raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {why}")

    # --- what became of it ---

    def verifier(self, secret: bytes) -> bytes:
        """Return what the store keeps for a secret."""
        return secret if self.live else verifier_of(secret)

    def _updated(
        self, session: Session, record_id: bytes, content: Mapping[str, Any], change: Change, done: bool
    ) -> None:
        if not done:
            self._lose(session, record_id, LOST)
        elif session._record_id is record_id and session._record is not None:  # not invalidated meanwhile
            session._settle(content)
            if not self.live:
                session._record.accessed_at = max(change.accessed_at, session._record.accessed_at)
                session._record.idle_timeout = change.idle_timeout or session._record.idle_timeout

    def _lose(self, session: Session, record_id: bytes, why: str) -> None:
        if session._record_id is record_id:
            session._status, session._secret = Status.GONE, None
            self._log_dropped(record_id, why)

    def _log_dropped(self, record_id: bytes | None, why: str) -> None:
        text = "changes of a request were dropped, its session is no longer its own: %s"
        self._events.emit(logging.INFO, "session.dropped", record_id, text, why)

    def _not_after(self, created_at: float, issued_at: float) -> float:
        return min(created_at + self._lifetime, issued_at + self._max_age)


def _content(session: Session, discard: bool) -> tuple[Mapping[str, Any], bool]:
    """Return what to store (the very ``_base`` if nothing changed), and if the rest is still discarded."""
    if not discard:
        return (session._base if unchanged(session, session._base) else session._snapshot()), False
    saved = None if session._intents is None else session._intents.saved
    if saved is None:
        return session._base, True
    return (session._base if unchanged(saved, session._base) else saved), False


def _situation(session: Session, point: Point, content: Mapping[str, Any], discard: bool, now: float) -> Situation:
    intents, record, dirty = session._intents, session._record, content is not session._base
    started = session._phase != NOT_STARTED
    due = not dirty and record is not None and touch_due(record, now)
    if intents is None:
        fields = (session._status, point, not content, dirty, started, discard, False, False, False, due)
    else:
        dirty = dirty or intents.idle_timeout is not None
        wishes = intents.cleared, intents.establish, intents.regenerate
        fields = (session._status, point, not content, dirty, started, discard, *wishes, due)
    return _new_tuple(Situation, fields)


def _change(session: Session, content: Mapping[str, Any], now: float) -> Change:
    sets, deletes = diff(content, session._base)
    idle_timeout = None if session._intents is None else session._intents.idle_timeout
    return _new_tuple(Change, (now, sets, deletes, idle_timeout))


def touch_due(record: Metadata, now: float) -> bool:
    """Tell if the last access should be recorded again."""
    return now - record.accessed_at >= record.idle_timeout * TOUCH_FRACTION


_CARRY_OUT: dict[Action, Callable[[Saver, Session, Mapping[str, Any], float], Steps]] = {
    Action.CREATE: Saver._create,
    Action.TOUCH: Saver._touch,
    Action.DELETE: Saver._delete,
    Action.REGENERATE: Saver._regenerate,
    Action.DROP: Saver._drop,
    Action.REFUSE: Saver._refuse,
}
