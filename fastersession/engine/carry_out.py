"""What a save point has decided, carried out: one coroutine an action.

Rules of residence: calls of the store that write, and what its answers mean for the state. Which action it is, and what
there is to store, was decided before. On a live store nothing here suspends.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ..attributes import snapshot
from ..crypto.tokens import draw, same, verifier_of
from ..errors import LeaseLost, SessionNotEstablished, StoreError
from ..events import NotRegenerated, NotRenewed, SessionDropped, SessionLost
from ..facts import LEFT_WITHOUT_COOKIE, Identity, Intents, Loss, Status
from ..log import EventLog
from ..session import Session
from ..state import State
from ..stores.base import Change, Extra, Record, Renewal
from .calls import Calls
from .flashing import Flashing
from .listening import Listening
from .plan import Action
from .spans import Spans
from .values import Encoded, Values, Work

CREATE_TRIES = 3  # a taken id is a broken random generator, not bad luck
WHY_SUPERSEDED = "its cookie was replaced a moment ago by another request"
WHY_GONE = "it was logged out elsewhere, or has expired"
WHY_REGENERATED = "another request has regenerated its secret, and not only once"

_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call
LIVE = Status.LIVE


class Actions:
    """What can be done to a session's record."""

    def __init__(
        self, calls: Calls, values: Values, events: EventLog, spans: Spans, extra: Extra, listening: Listening | None,
        flashing: Flashing,
    ) -> None:  # fmt: skip
        self._call = calls.call
        self._ended = calls.ended
        self._extra = extra
        self._flashing = flashing
        self._listening = listening
        self._verbs = calls.verbs
        self._values = values
        self._events = events
        self._is_live = calls.live is not None
        self._record_type: type[Record] = Record if calls.live is None else calls.live.record_type
        self._spans = spans

    async def reload(self, session: Session, state: State, once: Encoded | None = None) -> None:
        """Take the store's state, and put the unsaved changes on top.

        :param once: see ``Values.compare``.
        :raises StoreError: the store failed.
        """
        if state.status is not LIVE:
            return
        proof = state.proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        record_id, verifier = proof
        record = await self._call(self._verbs.load, record_id)
        if state.record_id is not record_id:  # invalidated while the store worked
            return
        mine = snapshot(session)
        work = self._values.compare(state, mine, once)
        if record is None or not _proves(verifier, record):
            self._lose(state, record_id, verifier, work, record)
            return
        base, encoded = self._values.load(record_id, record)
        state.settled(base, encoded)
        fresh = dict(base)
        fresh.update({name: value for name, value in mine.items() if name in work.sets or name not in work.content})
        for name in work.deletes:
            fresh.pop(name, None)
        dict.clear(session)
        dict.update(session, fresh)
        state.reloaded(record)
        state.reloaded_beside_login(session, state.intents)
        if state.record_id is not record_id:
            state.disowned()
            for name, value in fresh.items():
                if dict.get(session, name) is value:
                    dict.pop(session, name, None)

    async def delete_doomed(self, intents: Intents) -> None:
        while intents.doomed:
            record_id = intents.doomed[-1]
            await self._call(self._verbs.delete, record_id)
            self._ended(record_id, "invalidated")
            intents.doomed.remove(record_id)

    async def create(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        idle = state.idle_seconds() if intents is None or intents.idle_timeout is None else intents.idle_timeout
        own, extra = None, self._extra
        if intents is not None and intents.max_age is not None:
            own = Identity(max_age=intents.max_age)
            extra = extra._replace(identity=own)
            idle = self._spans.idle_of(idle, own) if intents.idle_timeout is None else idle
        for _ in range(CREATE_TRIES):
            record_id, secret = state.ticket()
            attributes = self._values.to_create(record_id, work, (own, now, idle))
            if intents is not None and intents.flashing:
                attributes, _ = self._flashing.added(state, record_id, attributes, (), anew=True)
            not_after = self._spans.not_after(now, now, own)
            record = self._record_type(self._verifier(secret), now, idle, not_after, attributes, extra)
            created = await self._call(self._verbs.create, record_id, record)
            if state.record_id is not record_id:  # invalidated while the store worked
                state.wishes().doomed.append(record_id)
                return
            if created:
                self._values.settle(state, work)
                state.created(record_id, record)
                if intents is not None:
                    intents.regenerate, intents.max_age = False, None  # the secret is new anyway
                state.hold()
                if self._listening is not None:
                    self._listening.created(record_id)
                return
            state.taken()
        raise StoreError(f"{CREATE_TRIES} new record ids in a row were taken: the random generator is broken")

    async def update(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        record_id, verifier = state.record_id, state.verifier  # the ``proof``
        if record_id is None or verifier is None:  # as there: invalidated by another thread
            return
        record = state.record
        accessed_at = record.accessed_at if state.passive and record is not None else now
        change = self._change(state, record_id, work, intents, accessed_at)
        if await self._call(self._verbs.update, record_id, verifier, change):
            self._saved(state, record_id, work, change)
        else:
            await self._refused(state, record_id, verifier, work, change)

    async def renew(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        proof, record = state.proof(), state.record
        if proof is None or record is None or intents is None:  # as there
            return
        record_id, verifier = proof
        renewal, idle = self._renewal(record, intents, now)
        accessed_at = record.accessed_at if state.passive else now
        change = self._change(state, record_id, work, intents, accessed_at, renewal, idle)
        if await self._call(self._verbs.update, record_id, verifier, change):
            self._saved(state, record_id, work, change)
            if state.record_id is record_id:
                if not self._is_live:
                    record.not_after, record.extra = renewal.not_after, record.extra._replace(identity=renewal.identity)
                state.wishes().reissued = True
        else:  # regenerated meanwhile, so our token is an old one: what this request wrote is kept
            await self.update(state, work, intents, now)
            if intents.max_age is not None and state.status is LIVE and state.record_id is record_id:
                self._events.tell(NotRenewed(record_id))
        intents.max_age = None

    async def regenerate(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        proof = state.proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        record_id, verifier = proof
        change = self._change(state, record_id, work, intents, now)
        _, secret = draw()
        new_verifier = self._verifier(secret)
        record = state.record  # read once: another thread may invalidate the session at any time
        created_at, own = (now, None) if record is None else (record.created_at, record.extra.identity)
        not_after = self._spans.not_after(created_at, now, own)
        won = await self._call(self._verbs.regenerate, record_id, verifier, new_verifier, not_after, change)
        if state.record_id is not record_id:  # invalidated while the store worked
            return
        if won:
            state.regenerated(secret, new_verifier)
            self._saved(state, record_id, work, change)
            return
        await self.update(state, work, intents, now)  # another request was faster: what this one wrote is kept
        if state.status is LIVE and state.record_id is record_id:
            self._events.tell(NotRegenerated(record_id))

    async def touch(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        proof = state.proof()
        if proof is None:  # invalidated by another thread: the next save point deletes the record
            return
        touched, record = await self._call(self._verbs.touch, *proof, now), state.record
        if touched and record is not None:  # else a save will find out; there is nothing to drop yet
            record.accessed_at = max(now, record.accessed_at)

    async def delete(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        state.invalidated()
        await self.delete_doomed(state.wishes())

    async def drop(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        if state.status is Status.SUPERSEDED:
            state.gave_up(Loss(WHY_SUPERSEDED))
        self._tell_dropped(state, work)

    async def refuse(self, state: State, work: Work, intents: Intents | None, now: float) -> None:
        name, why = next(iter(work.content), None), state.refusal_of_writes() or LEFT_WITHOUT_COOKIE
        raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {why}")

    # --- what became of it ---

    async def _refused(self, state: State, record_id: bytes, verifier: bytes, work: Work, change: Change) -> None:
        """Find out why the store refused a save: the lease is another's, or the record is not ours any more."""
        record = await self._call(self._verbs.load, record_id)
        if change.lease is not None and record is not None and _proves(verifier, record):
            raise LeaseLost("the lease of session.exclusive() ended before this save: another request may hold it")
        self._lose(state, record_id, verifier, work, record)

    def _saved(self, state: State, record_id: bytes, work: Work, change: Change) -> None:
        record = state.record
        if state.record_id is not record_id or record is None:  # invalidated meanwhile
            return
        self._values.settle(state, work)
        if state.record_id is not record_id:
            state.disowned()
        if not self._is_live:
            record.accessed_at = max(change.accessed_at, record.accessed_at)
            record.idle_timeout = change.idle_timeout or record.idle_timeout
        if change.idle_timeout is not None:
            state.hold()  # its keeper has another period now

    def _lose(self, state: State, record_id: bytes, verifier: bytes, work: Work, record: Record | None) -> None:
        """Note that the store refused this proof, unless the request itself has got another one meanwhile."""
        if state.record_id is record_id and state.verifier is verifier:
            state.lost(Loss(WHY_GONE) if record is None else Loss(WHY_REGENERATED, lives_on=True))
            self._tell_dropped(state, work)

    def _tell_dropped(self, state: State, work: Work) -> None:
        """Forget changes that the store takes no more, and tell: once, but name each attribute in a warning.

        Of a session that was ended nobody misses anything; of one that lives on somebody may. Values are never told.
        """
        self._values.settle(state, work)
        loss = state.rare.loss
        names = {*work.sets, *work.deletes} - loss.told if loss is not None else set()
        if loss is None or not names or (loss.told and not loss.lives_on):
            return
        loss.told |= names
        event = SessionLost if loss.lives_on else SessionDropped
        self._events.tell(event(state.record_id, loss.why, ", ".join(sorted(map(repr, names)))))

    def _renewal(self, record: Record, intents: Intents, now: float) -> tuple[Renewal, float | None]:
        """Return the new end of a record, and its new idle timeout, ``None`` if that stays."""
        own, idle, created_at = record.extra.identity, intents.idle_timeout, record.created_at
        if intents.max_age is not None:
            before, own = own, (own or Identity())._replace(max_age=intents.max_age)
            if idle is None:
                idle = self._spans.idle_after(record.idle_timeout, before, own)
        not_after, until = self._spans.not_after(created_at, now, own), self._spans.end_of(created_at, own)
        return Renewal(not_after, until, own), None if idle == record.idle_timeout else idle

    def _change(
        self, state: State, record_id: bytes, work: Work, intents: Intents | None, now: float,
        renewal: Renewal | None = None, idle_timeout: float | None = None,
    ) -> Change:  # fmt: skip
        about, record, lease = None, state.record, state.rare.lease
        if intents is not None and renewal is None:
            idle_timeout = intents.idle_timeout
        if (idle_timeout is not None or renewal is not None) and record is not None:
            own = record.extra.identity if renewal is None else renewal.identity
            if idle_timeout is not None or own is not record.extra.identity:  # else others may change it meanwhile
                about = (own, record.created_at, idle_timeout or record.idle_timeout)
        sets, deletes = self._values.to_change(record_id, work, about)
        if intents is not None and intents.flashing:
            sets, deletes = self._flashing.added(state, record_id, sets, deletes)
        owner = None if lease is None else lease.owner
        return _new_tuple(Change, (now, sets, deletes, idle_timeout, owner, renewal))

    def _verifier(self, secret: bytes) -> bytes:
        """Return what the store keeps for a secret."""
        return secret if self._is_live else verifier_of(secret)


def _proves(verifier: bytes, record: Record) -> bool:
    """Return whether a request that was loaded with this verifier may write to the record: see ``Store``."""
    before = getattr(record, "verifier_before", None)  # a store's own class of records may have none
    return same(record.verifier, verifier) or (before is not None and same(before, verifier))


CARRY_OUT: dict[Action, Callable[[Actions, State, Work, Intents | None, float], Coroutine[Any, Any, None]]] = {
    Action.CREATE: Actions.create,
    Action.UPDATE: Actions.update,
    Action.TOUCH: Actions.touch,
    Action.DELETE: Actions.delete,
    Action.REGENERATE: Actions.regenerate,
    Action.RENEW: Actions.renew,
    Action.DROP: Actions.drop,
    Action.REFUSE: Actions.refuse,
}
