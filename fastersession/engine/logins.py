"""A login, carried out: bound to a record, confirmed in the user's index, and only then its cookie may leave.

Rules of residence: which record a login takes, and what the store's outcome means for the state. What a store does for
it is the contract's (``stores.users``).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ..crypto.tags import UserTags
from ..crypto.tokens import draw, same, verifier_of
from ..errors import LeaseLost, LoginRefused, StoreError, TooManySessions
from ..facts import EMPTY, Identity, Intents, Status, Wanted
from ..state import State
from ..stores.base import Extra, Record
from ..stores.users import Login, LoginOutcome, NotConfirmed, Outcome
from .calls import Calls
from .carry_out import CREATE_TRIES
from .flashing import Flashing
from .listening import Listening
from .spans import Spans
from .values import Values, Work

REPLACED_SECONDS = 60.0  # for which the session of the user before is superseded, as after a regeneration
REVOKED = "all sessions of this user were revoked since he has authenticated: authenticate anew"
FULL = "this user has as many sessions as are allowed: end one of them first"


class Policy(NamedTuple):
    """What a middleware allows its users."""

    limit: int | None = None  # of sessions of one user
    evicts: bool = True  # at the limit the least recently used ends; else the login is refused
    retention: float | None = None  # seconds for which an ended record is kept to be told of


class Logins:
    """The logins of one middleware."""

    def __init__(
        self, calls: Calls, values: Values, spans: Spans, tags: UserTags, policy: Policy, listening: Listening | None,
        flashing: Flashing,
    ) -> None:  # fmt: skip
        self._call = calls.call
        self._ended = calls.ended
        self._verbs = calls.verbs
        self._values = values
        self._spans = spans
        self._tags = tags
        self._policy = policy
        self._listening = listening
        self._flashing = flashing
        self._is_live = calls.live is not None
        self._record_type: type[Record] = Record if calls.live is None else calls.live.record_type

    async def login(self, state: State, work: Work, intents: Intents, wanted: Wanted, now: float) -> None:
        """Carry out a login.

        :raises LoginRefused: the user's sessions were revoked since; or ``TooManySessions``.
        :raises StoreError: the store failed.
        """
        identity = wanted.identity._replace(logged_in_at=now)
        if intents.max_age is not None:
            identity = identity._replace(max_age=intents.max_age)
        proof = state.proof() if state.status is Status.LIVE else None
        owner = state.owner()
        if proof is not None and (owner is None or owner == identity.user):
            outcome = await self._bind(state, work, intents, wanted, identity, proof, now)
            if outcome is None or outcome.outcome is Outcome.DONE:
                return
            if outcome.outcome is not Outcome.ABSENT:
                self._refuse(state, outcome)
            await self._check_lease(state, proof)
            if state.record_id is not proof[0]:  # invalidated while the store worked
                return
        before = proof if owner not in (None, identity.user) else None  # of another user
        await self._begin(state, work, intents, wanted, identity, before, now)
        if before is not None:
            await self._retire(state, *before, now)

    async def _retire(self, state: State, record_id: bytes, verifier: bytes, now: float) -> None:
        """End the session of the user before. If that fails, the end of the request deletes it: the login stands.

        It fails, too, where another request has regenerated its secret meanwhile.
        """
        retired = False
        with suppress(StoreError):
            retired = await self._call(self._verbs.retire, record_id, verifier, now + REPLACED_SECONDS)
        if retired:
            self._ended(record_id, "replaced")
        else:
            state.wishes().doomed.append(record_id)

    # --- on the record that is there ---

    async def _bind(
        self, state: State, work: Work, intents: Intents, wanted: Wanted, identity: Identity,
        proof: tuple[bytes, bytes], now: float,
    ) -> LoginOutcome | None:  # fmt: skip
        """Make the request's record the user's; ``None`` if another thread has invalidated the session meanwhile."""
        record_id, verifier = proof
        record = state.record
        if record is None:
            return None
        secret = wanted.ticket[1] if wanted.ticket is not None else draw()[1]
        login = self._on_record(state, record, record_id, work, intents, wanted, identity, secret, now)
        outcome = await self._ask(state, record_id, verifier, login)
        if state.record_id is not record_id:
            state.wishes().doomed.append(record_id)
            return None
        if outcome.outcome is Outcome.DONE:
            self._values.settle(state, work)
            kept = login.record if wanted.keep is not None or not self._is_live else record
            state.logged_in(record_id, kept, secret, is_new=state.is_new)
            self._tell(record_id, identity, None, is_new=False)
        return outcome

    def _on_record(
        self, state: State, record: Record, record_id: bytes, work: Work, intents: Intents, wanted: Wanted,
        identity: Identity, secret: bytes, now: float,
    ) -> Login:  # fmt: skip
        """Return what the store is asked for: this record is to become the user's."""
        idle = intents.idle_timeout or self._spans.idle_after(record.idle_timeout, record.extra.identity, identity)
        sets, deletes = self._values.to_change(record_id, work, (identity, record.created_at, idle))
        sets, deletes = self._flashing.added(state, record_id, sets, deletes, anew=wanted.keep is not None)
        bound = self._record(secret, now, idle, identity, sets)
        bound.created_at = record.created_at
        bound.not_after = self._spans.not_after(record.created_at, now, identity)
        keep = None if wanted.keep is None else frozenset(map(self._values.stored_name, wanted.keep))
        login, lease = self._login(bound, wanted, identity, now, keep, deletes), state.rare.lease
        return login if lease is None else login._replace(lease=lease.owner)

    # --- a user's session whose tag is of another key than the first ---

    def is_stale(self, state: State) -> bool:
        """Return whether the index names the session's user by a key that is not the first any more."""
        record, owner = state.record, state.owner()
        return record is not None and owner is not None and not same(record.extra.tag or b"", self._tags.of(owner)[0])

    async def renew(self, state: State, work: Work, intents: Intents, now: float) -> bool:
        """Regenerate such a session, or it would be in no list once its key is dropped. ``False`` if it cannot be."""
        record, proof = state.record, state.proof()
        own = None if record is None else record.extra.identity
        if record is None or proof is None or own is None:
            return False
        secret, nothing = draw()[1], Wanted(own, None, {}, {}, {})
        login = self._on_record(state, record, proof[0], work, intents, nothing, own, secret, now)
        outcome = await self._ask(state, *proof, login._replace(limit=None))
        if state.record_id is not proof[0] or outcome.outcome is not Outcome.DONE:
            return False
        self._values.settle(state, work)
        state.regenerated(secret, login.record.verifier)
        if not self._is_live:
            record.extra = login.record.extra
        return True

    async def _check_lease(self, state: State, proof: tuple[bytes, bytes]) -> None:
        """Raise if it was the lease that the store missed."""
        lease = state.rare.lease
        if lease is not None and lease.owner is not None:
            record = await self._call(self._verbs.load, proof[0])
            if record is not None and same(record.verifier, proof[1]):
                raise LeaseLost("the lease of session.exclusive() ended before this login: another request may hold it")

    # --- on a new one ---

    async def _begin(
        self, state: State, work: Work, intents: Intents, wanted: Wanted, identity: Identity,
        other: tuple[bytes, bytes] | None, now: float,
    ) -> None:  # fmt: skip
        """Begin a session for the user: there was none, or it is another user's, or was regenerated meanwhile.

        :param other: the proof of another user's session, in whose place it comes.
        """
        before, ticket = state.record_id, wanted.ticket
        is_fresh = ticket is not None and (state.status is not Status.LIVE or ticket[0] != before)
        record_id, secret = ticket if ticket is not None and is_fresh else draw()
        idle = intents.idle_timeout or self._spans.idle_of(self._spans.idle, identity)
        whole = self._values.whole(work.content)
        for _ in range(CREATE_TRIES):
            attributes = self._values.to_create(record_id, whole, (identity, now, idle))
            attributes, _ = self._flashing.added(state, record_id, attributes, (), anew=True)
            record = self._record(secret, now, idle, identity, attributes)
            login = self._login(record, wanted, identity, now, frozenset(), ())
            outcome = await self._ask(state, record_id, None, login)
            if state.record_id is not before:  # invalidated while the store worked
                state.wishes().doomed.append(record_id)
                return
            if outcome.outcome is not Outcome.ABSENT:
                break
            record_id, secret = draw()  # taken: by this very login, if the answer to an earlier try was lost
        else:
            raise StoreError(f"{CREATE_TRIES} new record ids in a row were taken: the random generator is broken")
        if outcome.outcome is not Outcome.DONE:
            self._refuse(state, outcome)
        state.settled(EMPTY, EMPTY)  # or what the session before had were taken for what this one has
        self._values.settle(state, whole)
        state.logged_in(record_id, record, secret, is_new=True)
        self._tell(record_id, identity, None if other is None else other[0], is_new=True)

    # --- both ---

    def _record(
        self, secret: bytes, now: float, idle: float, identity: Identity, attributes: Mapping[str, Any]
    ) -> Record:
        not_after = self._spans.not_after(now, now, identity)
        extra = Extra(self._tags.of(str(identity.user))[0], self._policy.retention, identity)
        return self._record_type(
            secret if self._is_live else verifier_of(secret), now, idle, not_after, attributes, extra
        )

    def _login(
        self, record: Record, wanted: Wanted, identity: Identity, now: float, keep: frozenset[str] | None,
        deletes: tuple[str, ...],
    ) -> Login:  # fmt: skip
        return Login(
            record=record,
            tags=self._tags.of(str(identity.user)),
            authenticated_at=now if identity.authenticated_at is None else identity.authenticated_at,
            strictly=wanted.strictly,
            until=self._spans.end_of(now, identity),
            keep=keep,
            deletes=deletes,
            limit=self._policy.limit,
            evicts=self._policy.evicts,
        )

    async def _ask(self, state: State, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        try:
            outcome: LoginOutcome = await self._call(self._verbs.login, record_id, verifier, login)
        except StoreError as error:
            if _is_unconfirmed(error):
                state.wishes().doomed.append(record_id)
            raise
        for evicted in outcome.evicted:
            self._ended(evicted, "evicted")
        return outcome

    def _tell(self, record_id: bytes, identity: Identity, old_id: bytes | None, *, is_new: bool) -> None:
        listening = self._listening
        if listening is not None:
            if is_new:
                listening.created(record_id, identity.user)
            listening.logged_in(record_id, identity.user, identity.label, old_id)

    def _refuse(self, state: State, outcome: LoginOutcome) -> None:
        if outcome.record_is_gone:
            state.forgotten()
        if outcome.outcome is Outcome.FULL:
            raise TooManySessions(FULL)
        raise LoginRefused(REVOKED)


def _is_unconfirmed(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NotConfirmed):
            return True
        cause = cause.__cause__
    return False
