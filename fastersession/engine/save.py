"""One save point of one session: what is there to do, and then it is done.

Rules of residence: comparing, deciding, and who gets what was asked for. No protection from cancellation and no retry
(``patience`` adds them), no ASGI, no cookie.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

from ..errors import AttributeNotSerializable, FasterSessionError, LoginRefused, StoreError
from ..events import TouchFailed
from ..facts import FAILED, NOT_STARTED, Intents, Status
from ..log import EventLog
from ..session import Session
from ..state import State
from ..stores.base import Extra
from .calls import Calls
from .carry_out import CARRY_OUT, Actions
from .flashing import Flashing
from .listening import Listening
from .logins import Logins
from .plan import Action, Point, is_time_to_log_in, plan, situation
from .spans import Spans
from .values import Encoded, Values, Work

LIVE, NEW = Status.LIVE, Status.NEW
_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call


class Prepared(NamedTuple):
    """What there was to do when a save was asked for. It holds while base, status and phase are what they were."""

    action: Action
    work: Work
    base: Mapping[str, Any]
    status: Status
    phase: int

    def holds(self, state: State) -> bool:
        """Return whether it is still what there is to do."""
        return self.base is state.base and self.status is state.status and self.phase == state.phase


class Tries:
    """A save point of a store of bytes, through all its tries: it encodes a value once, however many they are.

    Only if another save of the session came in between, a try encodes anew: what the store has by then may be newer.
    """

    __slots__ = ("_base", "_encoded", "at", "discard", "prepared")

    _encoded: Encoded

    def __init__(self, at: Point, *, discard: bool = False) -> None:
        self.at, self.discard = at, discard
        self.prepared: Prepared | None = None
        self._base: Mapping[str, Any] | None = None  # what the encodings were compared with

    def encoded(self, state: State) -> Encoded:
        """Return what is encoded by now, at the beginning of a try."""
        if self._base is not state.base:
            self._base, self._encoded = state.base, {}
        return self._encoded

    def reloaded(self, state: State) -> None:
        """Note that the try itself has loaded what the store has."""
        self._base = state.base


class Saver:
    """Carries out save points.

    :param logins: ``None`` if the store keeps no sessions by user.
    :param extra: what new records say besides.
    """

    def __init__(
        self, calls: Calls, values: Values, events: EventLog, spans: Spans, logins: Logins | None, extra: Extra,
        listening: Listening | None, flashing: Flashing,
    ) -> None:  # fmt: skip
        self.events = events
        self.reload = (actions := Actions(calls, values, events, spans, extra, listening, flashing)).reload
        self._logins = logins
        self._extra = extra
        self._flashing = flashing
        self._listening = listening
        self._actions = actions
        self._verbs = calls.verbs
        self._clock = calls.clock
        self._values = values
        self._longest = min(spans.lifetime, spans.max_age)  # of a session whose cookie is issued only once

    # --- the start, on a live store ---

    def start_now(self, session: Session, state: State) -> bool:
        """Save a changed session at the start the fastest way; ``False``, and nothing done, if that cannot be.

        For a live store, a session without intents and a start that discards nothing. ``plan`` then says CREATE for a
        new session with attributes and UPDATE for a live one, whatever else holds.
        """
        clock = self._clock
        content, now = dict(dict.items(session)), clock()  # ``snapshot``, in place, as below: a call is 0.5 % of it all
        try:
            if state.status is LIVE:  # if nobody saved since this request loaded, there is nothing to merge with
                record = state.record  # None, if a thread has invalidated the session this moment
                if record is None or state.rare.lease is not None:
                    return False
                saved: bool = self._verbs.swap(record, state.verifier, state.base, content, now)
            else:
                saved = state.status is NEW and bool(content) and self._create_now(state, content, now)
        except FasterSessionError:
            raise
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error
        if saved:
            state.base = content  # ``settled``
        return saved

    def _create_now(self, state: State, content: dict[str, Any], now: float) -> bool:
        record_id, secret = state.ticket()
        record = self._verbs.record_type(
            secret, now, state.host.idle_timeout, now + self._longest, content, self._extra
        )
        if not self._verbs.create(record_id, record):  # taken: the slow way mints another
            return False
        state.created(record_id, record)
        state.hold()
        if self._listening is not None:
            self._listening.created(record_id)
        return True

    # --- any save point ---

    def prepare(self, session: Session, state: State, at: Point, *, discard: bool) -> Tries | None:
        """Find out what a commit would have to do now; return ``None`` if that is nothing. For one without intents.

        Changes nothing.
        """
        tries, status, phase = Tries(at, discard=discard), state.status, state.phase
        discard = discard or phase == FAILED
        work = Work(state.base) if discard else self._values.compare(state, session, tries.encoded(state))
        now, empty, dirty = self._clock(), not work.content, bool(work.sets or work.deletes)
        action = plan(situation(state, None, at, discard, now, empty=empty, dirty=dirty))
        if action is Action.NOTHING and not work.faults:
            return None
        tries.prepared = _new_tuple(Prepared, (action, work, state.base, status, phase))
        return tries

    def commit(
        self, session: Session, state: State, at: Point, *, discard: bool = False, tries: Tries | None = None
    ) -> Coroutine[Any, Any, None]:
        """Take what is asked for and what there is to save, and carry it out; what comes meanwhile is for the next one.

        :param tries: whose point and discard these are; ``None`` on a live store.
        :raises StoreError: the store failed.
        :raises SessionNotEstablished: attributes were written that no cookie can lead to any more.
        :raises AttributeNotSerializable: an attribute cannot be kept; the others are.
        :raises LeaseLost: the lease of an exclusive turn ended before.
        """
        if state.intents is not None:
            return self._commit_intents(session, state, at, discard, tries)
        prepared = None if tries is None else tries.prepared
        if prepared is not None and prepared.holds(state):
            action, work = prepared[:2]  # encoded already; what was written since is for the next commit
            if not work.faults:
                return CARRY_OUT[action](self._actions, state, work, None, self._clock())
        else:
            action, work = self._decide(session, state, None, at, discard, tries)
        return self._carry_out(action, state, work, None)

    async def _carry_out(self, action: Action, state: State, work: Work, intents: Intents | None) -> None:
        if action is Action.REGENERATE and intents is not None and intents.max_age is not None:
            await self._actions.renew(state, Work(state.base), intents, self._clock())
        if action is Action.LOGIN and intents is not None and intents.login is not None and self._logins is not None:
            await self._logins.login(state, work, intents, intents.login, self._clock())
            intents.login, intents.regenerate, intents.max_age = None, False, None
        elif action is Action.REGENERATE and intents is not None and self._is_stale(state):
            if self._logins is not None and not await self._logins.renew(state, work, intents, self._clock()):
                await self._actions.update(state, work, intents, self._clock())
        elif action is not Action.NOTHING:
            await CARRY_OUT[action](self._actions, state, work, intents, self._clock())
        if intents is not None and (intents.flashing or action is Action.LOGIN):
            await self._flashing.settle(state)
        if work.faults:
            what = "; ".join(work.faults.values())
            raise AttributeNotSerializable(f"session attributes that cannot come back as they were: {what}")

    def _is_stale(self, state: State) -> bool:
        return self._logins is not None and self._logins.is_stale(state)

    async def _commit_intents(
        self, session: Session, state: State, at: Point, discard: bool, tries: Tries | None
    ) -> None:
        """Carry out what verbs have asked for, with what there is to save; ask again for what could not be done."""
        intents, record_id, is_done = state.taken_intents() or Intents(), state.record_id, False
        action = Action.NOTHING
        try:
            await self._carry_out_first(session, state, intents, record_id, tries)
            if not is_time_to_log_in(at, started=state.phase != NOT_STARTED, discard=discard):
                state.login_dropped(session, intents)
            action, work = self._decide(session, state, intents, at, discard, tries)
            await self._carry_out(action, state, work, intents)
            is_done = True
        except AttributeNotSerializable:
            is_done = True  # all but the attributes that it names
            raise
        except LoginRefused:
            if state.record_id is not record_id:  # it has cost the record
                dict.clear(session)
            raise
        finally:
            same_session = state.record_id is record_id
            if intents.login is not None and same_session:
                state.not_logged_in(session, intents)
            if not is_done:
                state.put_back(intents, same_session=same_session)
            elif same_session:
                _keep_waiting(state, intents, action)

    def _decide(
        self, session: Session, state: State, intents: Intents | None, at: Point, discard: bool, tries: Tries | None
    ) -> tuple[Action, Work]:
        once = None if tries is None else tries.encoded(state)
        work, discard = self._compare_steadily(session, state, intents, discard or state.phase == FAILED, once)
        later = state.intents
        if later is not None and later.login is not None and (intents is None or intents.login is None):
            work = Work(state.base)  # of another thread, this moment: what is written for the user is not the guest's
        if discard and intents is not None:
            intents.flashing = False
        now, empty, dirty = self._clock(), not work.content, bool(work.sets or work.deletes)
        return plan(situation(state, intents, at, discard, now, empty=empty, dirty=dirty)), work

    async def _carry_out_first(
        self, session: Session, state: State, intents: Intents, record_id: bytes | None, tries: Tries | None
    ) -> None:
        """Carry out what comes before any comparison: reload, and the deletions of ``invalidate()``."""
        if intents.reload:
            await self._actions.reload(session, state, None if tries is None else tries.encoded(state))
            state.reloaded_beside_login(session, intents)
            if tries is not None:
                tries.reloaded(state)
        await self._actions.delete_doomed(intents)
        if record_id is not None and state.record_id is not record_id:
            intents.saved = intents.login = None  # invalidated while the store worked: that was of the session before

    async def touch(self, state: State) -> None:
        """Keep the session alive. A store failure is told only: nothing of the application's is at stake."""
        if state.status is not LIVE or state.passive:
            return
        try:
            await self._actions.touch(state, Work(state.base), None, self._clock())
        except StoreError:
            self.events.tell(TouchFailed(state.record_id))

    def forget_changes(self, session: Session, state: State, tries: Tries | None = None) -> None:
        """Take what has changed for no change any more."""
        once = None if tries is None else tries.encoded(state)
        self._values.settle(state, self._values.compare(state, session, once))

    def changed_inside(self, session: Session, state: State, longest: int) -> list[str]:
        """Return the names of attributes that have changed inside: see ``Values.changed_inside``."""
        return self._values.changed_inside(state, session, longest)

    def _compare_steadily(
        self, session: Session, state: State, intents: Intents | None, discard: bool, once: Encoded | None
    ) -> tuple[Work, bool]:
        """Compare, and again if another thread has invalidated the session meanwhile: that was of the one before."""
        of = state.record_id
        compared = self._compare(session, state, intents, discard, once)
        if state.record_id is of:
            return compared
        if intents is not None:
            intents.saved = intents.login = None
        return self._compare(session, state, intents, discard, once)

    def _compare(
        self, session: Session, state: State, intents: Intents | None, discard: bool, once: Encoded | None
    ) -> tuple[Work, bool]:
        """Return what to store, and whether the rest is still discarded."""
        if not discard:
            return self._values.compare(state, session, once), False
        if intents is None or intents.saved is None:
            return Work(state.base), True
        return self._values.compare(state, intents.saved, once), False


def _keep_waiting(state: State, intents: Intents, action: Action) -> None:
    """Put back what a commit could not carry out, for its time is still to come."""
    if intents.regenerate and action is not Action.REGENERATE and state.status is LIVE:
        state.wishes().regenerate = True  # only the start can send its cookie
    if intents.idle_timeout is not None and state.status is NEW and state.wishes().idle_timeout is None:
        state.wishes().idle_timeout = intents.idle_timeout  # there is no record yet to keep it
    if intents.max_age is not None and state.phase == NOT_STARTED and state.wishes().max_age is None:
        state.wishes().max_age = intents.max_age  # for the same reason, or only the start can send its cookie
