"""What a save point decides, carried out against the store.

Rules of residence: one commit of one session; no protection from cancellation and no retries (the manager adds them),
no ASGI, no cookie. What is done is written once, as generators that yield calls of the store; two drivers run them,
one at once (a live store), one that awaits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, NamedTuple

from ..crypto.tokens import draw, same, verifier_of
from ..errors import (
    AttributeNotSerializable,
    ConfigError,
    FasterSessionError,
    LeaseLost,
    SessionNotEstablished,
    StoreError,
)
from ..events import EventLog
from ..session import FAILED, LEFT_WITHOUT_COOKIE, NOT_STARTED, Intents, Metadata, Session, Status
from ..stores.base import AHEAD, AHEAD_TEXT, Change, Record, Store
from .plan import Action, Point, Situation, plan
from .tasks import TimeLimit, on_asyncio
from .values import Values, Work

__all__ = ["TOUCH_FRACTION", "Foreseen", "Saver", "touch_due"]

STORE_SECONDS = 2.0  # bound on one store call, times the patience that was asked for
TOUCH_FRACTION = 0.1  # of the idle timeout: how coarsely the last access is recorded
OPEN_SECONDS = 10.0  # bound on opening and closing the store
CREATE_TRIES = 3  # a taken id is a broken random generator, not bad luck
WHY_SUPERSEDED = "its cookie was replaced a moment ago by another request"
WHY_GONE = "it was logged out elsewhere, or has expired"
WHY_REGENERATED = "another request has regenerated its secret, and not only once"

_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call
LIVE, NEW = Status.LIVE, Status.NEW
Steps = Generator[tuple[Callable[..., Any], tuple[Any, ...]], Any, None]


class Foreseen(NamedTuple):
    """What there was to store when a save was asked for, compared with what had been loaded or saved by then."""

    work: Work | None
    base: Mapping[str, Any]


class Loss:
    """Why the store takes nothing of a session any more, and the attributes that the log has named so far."""

    __slots__ = ("lives_on", "named", "why")

    def __init__(self, why: str, *, lives_on: bool = False) -> None:
        self.why, self.lives_on = why, lives_on
        self.named: set[str] = set()


class Saver:
    """Carries out save points.

    :param lifetime: seconds from creation to the absolute end of a session; infinity for none.
    :param max_age: seconds from the issue of a cookie to the absolute end; infinity for none.
    :param patience: what the bound on a store call is multiplied by.
    """

    def __init__(
        self, store: Store, values: Values, events: EventLog, lifetime: float, max_age: float, patience: float
    ) -> None:
        self._store = store
        self.clock = store.clock
        live = store.live
        verbs: Any = store if live is None else live
        self.live = live is not None
        self._verbs = verbs
        self._record_type = Record if live is None else live.record_type
        self.load_now: Callable[[bytes], Record | None] = verbs.load  # of a live store
        self._values = values
        self._events = events
        self._lifetime = lifetime
        self._max_age = max_age
        self._longest = min(lifetime, max_age)  # of a session whose cookie is issued only once
        self._opening: asyncio.Task[None] | None = None
        self._opened_in: asyncio.AbstractEventLoop | None = None  # of a live store: in none, for all are alike
        self._limit = TimeLimit(STORE_SECONDS * patience)

    # --- drivers: the steps of a commit, at once or awaited ---

    def start_now(self, session: Session) -> bool:
        """Save a changed session at the start the fastest way; ``False``, and nothing done, if that cannot be.

        For a live store, a session without intents and a start that discards nothing. ``plan`` then says CREATE
        for a new session with attributes and UPDATE for a live one, whatever else holds.
        """
        clock = self.clock
        content, now = session._snapshot(), clock()
        try:
            if session._status is LIVE:  # if nobody saved since this request loaded, there is nothing to merge with
                record = session._record  # None, if a thread has invalidated the session this moment
                if record is None or session._lease is not None:
                    return False
                saved: bool = self._verbs.swap(record, session._verifier, session._base, content, now)
            else:
                saved = session._status is NEW and bool(content) and self._create_now(session, content, now)
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error
        if saved:
            session._base = content
        return saved

    def _create_now(self, session: Session, content: dict[str, Any], now: float) -> bool:
        record_id, secret = session._ticket()
        record = self._record_type(secret, now, session._host.idle_timeout, now + self._longest, content)
        if not self._verbs.create(record_id, record):  # taken: the slow way mints another
            return False
        session._record, session._status, session._verifier, session._lease = record, LIVE, secret, None
        if session._record_id is not record_id:
            session._orphan(record_id)
        if session._request is not None:
            session._request.hold()
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
        finally:
            steps.close()

    def foresee(self, session: Session, point: Point, *, discard: bool) -> Foreseen | None:
        """Return what a commit would have to store now, ``None`` if it would do nothing: no task is made for that."""
        if session._intents is not None:
            return Foreseen(None, session._base)
        work, discard = self._work(session, None, discard or session._phase == FAILED)
        situation = _situation(session, None, point, work, discard, self.clock())
        if not work.faults and plan(situation) is Action.NOTHING:
            return None
        return Foreseen(work, session._base)

    async def commit(
        self, session: Session, point: Point, *, discard: bool = False, foreseen: Foreseen | None = None
    ) -> None:
        """Decide a save point and carry it out.

        :raises StoreError: the store failed.
        :raises SessionNotEstablished: attributes were written that no cookie can lead to any more.
        """
        await self._run(self._commit(session, point, discard, foreseen))

    async def touch(self, session: Session) -> None:
        """Keep the session alive. A store failure is logged only: nothing of the application's is at stake."""
        if session._status is not Status.LIVE:
            return
        try:
            await self._run(self._touch(session, self._values.nothing(session), None, self.clock()))
        except StoreError:
            self._events.emit(logging.WARNING, "store.touch_failed", session._record_id, "a session was not touched")

    async def reload(self, session: Session) -> None:
        """Take the store's state, and put the unsaved changes on top."""
        await self._run(self._reload(session))

    async def call(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """Call the store: at once if it is live, else bounded in time, after opening it if no lifespan did.

        :raises StoreError: it failed, or took too long.
        """
        try:
            if self.live:
                return self.call_now(verb, *arguments)
            with self._limit.bound():
                if self._opened_in is not asyncio.get_running_loop():
                    await self._open_shared()
                return await verb(*arguments)
        except FasterSessionError:
            raise
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    def call_now(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """Call a live store."""
        return verb(*arguments)

    def load(self, record_id: bytes) -> Coroutine[Any, Any, Record | None]:
        """Call the store's ``load``."""
        return self.call(self._verbs.load, record_id)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        """Call the store's ``lock``."""
        return await self.call(self._verbs.lock, record_id, verifier, owner, seconds)  # type: ignore[no-any-return]

    async def unlock(self, record_id: bytes, owner: bytes) -> None:
        """Call the store's ``unlock``."""
        await self.call(self._verbs.unlock, record_id, owner)

    def has_ended(self, record: Record) -> bool:
        """Tell if a record has expired by what it says of itself, whatever the store made of it.

        One from ahead, written by a clock that was set back since, ends late: to hold it to this clock would end none,
        for the store's own times decide; to end it would log out whoever was there meanwhile.
        """
        now = self.clock()
        if record.accessed_at - now > AHEAD:
            self._events.once("clock.ahead", AHEAD_TEXT)
        return now >= min(record.created_at + self._lifetime, record.accessed_at + record.idle_timeout)

    def check_loop(self) -> None:
        """Refuse what is no event loop of asyncio.

        :raises ConfigError: only a live store works there.
        """
        if not self.live and not on_asyncio():
            name = type(self._store).__name__
            raise ConfigError(f"store: {name} needs asyncio: run the server on it, not on trio, or take a MemoryStore")

    async def open(self) -> None:
        """Open the store, at startup.

        :raises ConfigError: see ``check_loop``.
        """
        self.check_loop()
        if self.live:
            await self._store.open()
        elif self._opened_in is not asyncio.get_running_loop():
            await self._open_shared()

    async def close(self) -> None:
        """Close the store; a save that comes later all the same opens it again."""
        self._opened_in = None
        try:
            await (self._store.close() if self.live else _bounded(self._store.close()))
        except Exception as error:
            self._events.emit(logging.WARNING, "store.close_failed", None, "the store was not closed: %s", error)

    async def _open_shared(self) -> None:
        """Open the store once for all who wait for it, also where no lifespan did, and in each event loop anew."""
        loop, opening = asyncio.get_running_loop(), self._opening
        if opening is None or opening.get_loop() is not loop:
            opening = self._opening = loop.create_task(self._open_once(loop))
            opening.add_done_callback(self._forget_opening)
        await asyncio.shield(opening)

    async def _open_once(self, loop: asyncio.AbstractEventLoop) -> None:
        await _bounded(self._store.open())  # or one that hangs would keep every later request waiting
        self._opened_in = loop

    def _forget_opening(self, opening: asyncio.Task[None]) -> None:
        if self._opening is opening:
            self._opening = None
        if not opening.cancelled():
            opening.exception()  # seen: those who waited for it may have gone before

    async def _run(self, steps: Steps) -> None:
        try:
            verb, arguments = next(steps)
            while True:
                verb, arguments = steps.send(await self.call(verb, *arguments))
        except StopIteration:
            return
        finally:
            steps.close()

    # --- the steps: each yields a verb of the store with its arguments, and gets the outcome ---

    def _commit(self, session: Session, point: Point, discard: bool, foreseen: Foreseen | None = None) -> Steps:
        """Take what is asked for and what there is to save; what comes while the store works is for the next commit."""
        intents, record_id = session._take_intents(), session._record_id
        carried_out = False
        try:
            if intents is not None:
                yield from self._first(session, intents)
            discard = discard or session._phase == FAILED
            if intents is None and foreseen is not None and foreseen.work and foreseen.base is session._base:
                work = foreseen.work  # encoded already; what was written since is for the next commit
            else:
                of, given = session._record_id, discard
                if intents is not None and record_id is not None and of is not record_id:
                    intents.saved = None  # invalidated while the store worked: that was of the session before
                work, discard = self._work(session, intents, given)
                if session._record_id is not of:  # invalidated by another thread: that was of the session before
                    if intents is not None:
                        intents.saved = None
                    work, discard = self._work(session, intents, given)
            now = self.clock()
            action = plan(_situation(session, intents, point, work, discard, now))
            if action is not Action.NOTHING:
                yield from _CARRY_OUT[action](self, session, work, intents, now)
            carried_out = True
            if work.faults:
                what = "; ".join(work.faults.values())
                raise AttributeNotSerializable(f"session attributes that cannot come back as they were: {what}")
        finally:
            if intents is not None:
                if not carried_out:
                    same_session = session._record_id is record_id
                    session._put_back(intents, same_session=same_session)
                elif session._record_id is record_id:
                    _keep_waiting(session, intents, action)

    def _first(self, session: Session, intents: Intents) -> Steps:
        """Carry out what comes before any comparison: reload, and the deletions of ``invalidate()``."""
        if intents.reload:
            yield from self._reload(session)
        while intents.doomed:
            yield self._verbs.delete, (intents.doomed[-1],)
            intents.doomed.pop()

    def _reload(self, session: Session) -> Steps:
        if session._status is not LIVE:
            return
        proof = session._proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        record_id, verifier = proof
        record = yield self._verbs.load, (record_id,)
        if session._record_id is not record_id:  # invalidated while the store worked
            return
        snapshot = session._snapshot()
        mine = self._values.work(session, snapshot)
        if record is None or not _proves(verifier, record):
            self._lose(session, record_id, verifier, mine, record)
            return
        fresh = dict(self._values.load(session, record_id, record))
        fresh.update({name: value for name, value in snapshot.items() if name in mine.sets or name not in mine.content})
        for name in mine.deletes:
            fresh.pop(name, None)
        dict.clear(session)
        dict.update(session, fresh)
        session._accessed, session._record = True, record
        if session._record_id is not record_id:
            session._disown(fresh)

    def _create(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        idle = session._idle_seconds() if intents is None or intents.idle_timeout is None else intents.idle_timeout
        for _ in range(CREATE_TRIES):
            record_id, secret = session._ticket()
            verifier, not_after = self.verifier(secret), self._not_after(now, now)
            attributes = self._values.to_create(record_id, work, (None, now, idle))
            record = self._record_type(verifier, now, idle, not_after, attributes)
            created = yield self._verbs.create, (record_id, record)
            if session._record_id is not record_id:  # invalidated while the store worked
                session._plans().doomed.append(record_id)
                return
            if created:
                session._record, session._status, session._verifier = record, LIVE, verifier
                session._lease = None
                self._values.settle(session, work)
                if session._record_id is not record_id:
                    session._orphan(record_id)
                if intents is not None:
                    intents.regenerate = False  # the secret is new anyway
                if session._request is not None:
                    session._request.hold()
                return
            session._record_id = None
        raise StoreError(f"{CREATE_TRIES} new record ids in a row were taken: the random generator is broken")

    def _update(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        proof = session._proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        record_id, verifier = proof
        change = self._change(session, record_id, work, intents, now)
        if (yield self._verbs.update, (record_id, verifier, change)):
            self._saved(session, record_id, work, change)
        else:
            yield from self._refused(session, record_id, verifier, work, change)

    def _regenerate(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        proof = session._proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        record_id, verifier = proof
        change = self._change(session, record_id, work, intents, now)
        _, secret = draw()
        new_verifier = self.verifier(secret)
        record = session._record
        created_at = now if record is None else record.created_at
        arguments = record_id, verifier, new_verifier, self._not_after(created_at, now), change
        won = yield self._verbs.regenerate, arguments
        if session._record_id is not record_id:  # invalidated while the store worked
            return
        if won:
            session._secret, session._verifier = secret, new_verifier
            self._saved(session, record_id, work, change)
            return
        yield from self._update(session, work, intents, now)  # another request was faster: what this one wrote is kept
        if session._status is LIVE and session._record_id is record_id:
            text = "regenerate_id() sends no cookie: another request has regenerated the session first"
            self._events.emit(logging.INFO, "session.not_regenerated", record_id, text)

    def _refused(self, session: Session, record_id: bytes, verifier: bytes, work: Work, change: Change) -> Steps:
        """Find out why the store refused a save: the lease is another's, or the record is not ours any more."""
        record = yield self._verbs.load, (record_id,)
        if change.lease is not None and record is not None and _proves(verifier, record):
            raise LeaseLost("the lease of session.exclusive() ended before this save: another request may hold it")
        self._lose(session, record_id, verifier, work, record)

    def _delete(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        session._start_anew()
        yield from self._first(session, session._plans())

    def _touch(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        proof = session._proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        record_id, verifier = proof
        touched, record = (yield self._verbs.touch, (record_id, verifier, now)), session._record
        if touched and record is not None:  # else a save will find out; there is nothing to drop yet
            record.accessed_at = max(now, record.accessed_at)

    def _drop(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        if session._status is Status.SUPERSEDED:
            session._loss = getattr(session, "_loss", None) or Loss(WHY_SUPERSEDED)
            if session._phase != NOT_STARTED:
                session._status = Status.GONE
        self._log_dropped(session, work)
        yield from ()

    def _refuse(self, session: Session, work: Work, intents: Intents | None, now: float) -> Steps:
        name, why = next(iter(work.content), None), session._why_refused() or LEFT_WITHOUT_COOKIE
        yield from ()
        raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {why}")

    # --- what became of it ---

    def verifier(self, secret: bytes) -> bytes:
        """Return what the store keeps for a secret."""
        return secret if self.live else verifier_of(secret)

    def _work(self, session: Session, intents: Intents | None, discard: bool) -> tuple[Work, bool]:
        """Return what to store, and if the rest is still discarded."""
        if not discard:
            return self._values.work(session, session), False
        if intents is None or intents.saved is None:
            return self._values.nothing(session), True
        return self._values.work(session, intents.saved), False

    def _change(self, session: Session, record_id: bytes, work: Work, intents: Intents | None, now: float) -> Change:
        idle_timeout = None if intents is None else intents.idle_timeout
        about, record = None, session._record
        if idle_timeout is not None and record is not None:
            about = (record.user, record.created_at, idle_timeout)
        sets, deletes = self._values.to_change(record_id, work, about)
        lease = session._lease
        return _new_tuple(Change, (now, sets, deletes, idle_timeout, None if lease is None else lease.owner))

    def _saved(self, session: Session, record_id: bytes, work: Work, change: Change) -> None:
        record = session._record
        if session._record_id is record_id and record is not None:  # not invalidated meanwhile
            self._values.settle(session, work)
            if session._record_id is not record_id:
                session._disown()
            if not self.live:
                record.accessed_at = max(change.accessed_at, record.accessed_at)
                record.idle_timeout = change.idle_timeout or record.idle_timeout
            if change.idle_timeout is not None and session._request is not None:
                session._request.hold()  # its keeper has another period now

    def _lose(self, session: Session, record_id: bytes, verifier: bytes, work: Work, record: Record | None) -> None:
        """Note that the store refused this proof, unless the request itself has got another one meanwhile."""
        if session._record_id is record_id and session._verifier is verifier:
            session._status, session._secret = Status.GONE, None
            session._loss = Loss(WHY_GONE) if record is None else Loss(WHY_REGENERATED, lives_on=True)
            self._log_dropped(session, work)

    def _log_dropped(self, session: Session, work: Work) -> None:
        """Forget changes that the store takes no more, and tell: once, but name each attribute in a warning.

        Of a session that was ended nobody misses anything; of one that lives on somebody may. Values are never told.
        """
        self._values.settle(session, work)
        loss: Loss = session._loss
        names = {*work.sets, *work.deletes} - loss.named
        if not names or (loss.named and not loss.lives_on):
            return
        loss.named |= names
        text = "changes of a request were dropped, its session is no longer its own: %s; attributes: %s"
        about = session._record_id, text, loss.why, ", ".join(sorted(map(repr, names)))
        if loss.lives_on:
            self._events.emit(logging.WARNING, "session.dropped", *about)
        else:
            self._events.emit(logging.INFO, "session.dropped", *about)

    def _not_after(self, created_at: float, issued_at: float) -> float:
        absolute, by_cookie = created_at + self._lifetime, issued_at + self._max_age
        return absolute if absolute < by_cookie else by_cookie


async def _bounded(call: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await call
    except FasterSessionError:
        raise  # a store's own clear words
    except Exception as error:
        raise StoreError(f"the store could not be opened or closed: {type(error).__name__}") from error


def _keep_waiting(session: Session, intents: Intents, action: Action) -> None:
    """Put back what a commit could not carry out, for its time is still to come."""
    if intents.regenerate and action is not Action.REGENERATE and session._status is LIVE:
        session._plans().regenerate = True  # only the start can send its cookie
    if intents.idle_timeout is not None and session._status is NEW and session._plans().idle_timeout is None:
        session._plans().idle_timeout = intents.idle_timeout  # there is no record yet to keep it


def _situation(
    session: Session, intents: Intents | None, point: Point, work: Work, discard: bool, now: float
) -> Situation:
    record, dirty = session._record, bool(work.sets or work.deletes)
    created = record is not None and session._is_new
    due = not dirty and record is not None and touch_due(record, now)
    wishes = (False, False, False)
    if intents is not None:
        dirty = dirty or intents.idle_timeout is not None
        wishes = intents.cleared, intents.establish, intents.regenerate
    started = session._phase != NOT_STARTED
    fields = (session._status, point, not work.content, dirty, started, discard, *wishes, due, created)
    return _new_tuple(Situation, fields)


def _proves(verifier: bytes, record: Record) -> bool:
    """Tell if a request that was loaded with this verifier may write to the record: see ``stores.base.Store``."""
    before = getattr(record, "verifier_before", None)  # a store's own class of records may have none
    return same(record.verifier, verifier) or (before is not None and same(before, verifier))


def touch_due(record: Metadata, now: float) -> bool:
    """Tell if the last access should be recorded again."""
    return now - record.accessed_at >= record.idle_timeout * TOUCH_FRACTION


_CARRY_OUT: dict[Action, Callable[[Saver, Session, Work, Intents | None, float], Steps]] = {
    Action.CREATE: Saver._create,
    Action.UPDATE: Saver._update,
    Action.TOUCH: Saver._touch,
    Action.DELETE: Saver._delete,
    Action.REGENERATE: Saver._regenerate,
    Action.DROP: Saver._drop,
    Action.REFUSE: Saver._refuse,
}
