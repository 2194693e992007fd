"""From the values of cookies to the session that they lead to.

Rules of residence: tokens, the store's ``load``, and which answer makes which session. Nothing is written here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from ..crypto.tokens import ID_BYTES, KeyRing, Secret, has_form, same, verifier_of
from ..errors import StoreError
from ..events import (
    ClockAhead,
    CookieAmbiguous,
    CookieOfAnotherKey,
    CookieRejected,
    RecordsUnreadable,
    RecordUnreadable,
    SessionUnknown,
    StoreNotShared,
    TokenReused,
)
from ..facts import USUAL, Host, Rare, Status
from ..log import EventLog
from ..noting import NotingSession
from ..session import Session, give_state
from ..state import State
from ..stores.base import AHEAD, Record
from .calls import Calls
from .packing import Unreadable
from .spans import Spans
from .tasks import run_now
from .values import Values

REJECTED = CookieRejected()  # made once, for anybody can cause it
Found = tuple[bytes, Record, Mapping[str, Any], Rare]  # record id, record, attributes, what else there is
SUPERSEDED_SECONDS = 60  # how long requests sent before a regeneration may still arrive with the old cookie


class Loader:
    """Opens the sessions of one middleware."""

    def __init__(
        self, calls: Calls, keys: KeyRing, values: Values, host: Host, spans: Spans, events: EventLog,
        revokes_reused: bool,
    ) -> None:  # fmt: skip
        self.calls = calls
        self._keys = keys
        self._values = values
        self._host = host
        self._spans = spans
        self._events = events
        self._revokes_reused = revokes_reused
        self._verifier_of: Callable[[bytes], bytes] = verifier_of if calls.live is None else Secret
        self._load_live: Callable[[bytes], Record | None] = calls.verbs.load
        self._is_live = calls.live is not None
        self._trusting = True  # until a cookie of our form has come that no key verifies
        if calls.live is not None:
            _IN_MEMORY[id(self)] = self

    def open_new(self, state: State) -> Session:
        """Return an empty session without a record."""
        state.opened(self._host)
        return self._session_of(state)

    def open_foreign(self, state: State, origin: str) -> Session:
        """Return the session of a WebSocket from a foreign origin: empty, and refusing every write."""
        state.opened(self._host, Status.FOREIGN)
        state.on_socket(f"the WebSocket comes from a foreign origin, {origin!r}; allowed_origins may name it")
        return self._session_of(state)

    def open_now(self, state: State, candidates: Sequence[bytes]) -> Session:
        """Do what ``open`` does, on a live store, faster for the usual single cookie."""
        if len(candidates) != 1:
            opening = self.open(state, candidates)
            del candidates
            return run_now(opening)
        pair = self._keys.unsign_pair(candidates[0])
        if pair is None:
            self._reject(self._trusting and has_form(candidates[0]))
            state.opened(self._host)
            session = Session()
            give_state(session, state)
            return session
        try:
            load = self._load_live
            record = load(pair[0])
            is_genuine = record is not None and same(record.verifier, pair[1])
        except Exception as error:
            del pair, candidates  # no traceback shall show them
            raise StoreError(f"the store failed: {type(error).__name__}") from error
        if record is not None and is_genuine:
            attributes = record.attributes
            state.loaded(self._host, pair[0], record, attributes)
            session = Session(attributes)
            give_state(session, state)
            return session
        opening = self.open(state, candidates)
        del pair, candidates
        return run_now(opening)

    async def open(self, state: State, candidates: Sequence[bytes] | None) -> Session:
        """Return the session that the cookie values lead to, and fill in its state; a new one if none does.

        ``None`` stands for no cookie, an empty sequence for cookies that were not looked at.

        :raises StoreError: the store failed: better no answer than an answer without the session.
        :raises ConfigError: the store needs asyncio, and something else runs.
        """
        if self.calls.opened_in is None:
            self.calls.check_loop()
        if candidates is None:
            return self.open_new(state)
        proofs = self._proofs(candidates)
        del candidates  # no traceback from here on shall show them
        found: list[Found] = []
        superseded, reused = None, list[bytes]()
        call, load = self.calls.call, self.calls.verbs.load
        for of, verifier in proofs:
            loaded: Record | None = await call(load, of)
            if loaded is None:
                continue
            if _is_proven(loaded, verifier):
                found += self._alive(of, loaded)
            elif _is_just_replaced(loaded, self.calls.clock()):
                superseded = of
            elif loaded.regenerated_at is not None:
                reused.append(of)
        if reused:
            await self._tell_reused(reused, [one[0] for one in found])
        if len(found) == 1:
            record_id, record, base, rare = found[0]
            state.loaded(self._host, record_id, record, base, rare)
            session = Session(base) if self._is_live else NotingSession(base)
            give_state(session, state)
            return session
        if found:
            self._events.tell(CookieAmbiguous())
        elif superseded is not None:
            state.opened(self._host, Status.SUPERSEDED, superseded)
            return self._session_of(state)
        elif proofs and not reused:
            self._unknown()
        return self.open_new(state)

    def _proofs(self, candidates: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Return the record ids and verifiers that the genuine ones among cookies lead to, each once."""
        proofs: list[tuple[bytes, bytes]] = []
        for candidate in candidates:
            pair = self._keys.unsign_pair(candidate)
            if pair is not None:
                proof = pair[0], self._verifier_of(pair[1])
                if proof not in proofs:
                    proofs.append(proof)
        if not proofs:
            self._reject(self._trusting and any(map(has_form, candidates)))
        return proofs

    def _alive(self, record_id: bytes, record: Record) -> tuple[Found, ...]:
        """Return what is found with a record, nothing if it has ended, or cannot be read.

        Whatever a store of bytes made of it, a record's own times count. One from ahead, written by a clock that was
        set back since, ends late: to hold it to this clock would end none, for the store's times decide; to end it
        would log out whoever was there meanwhile.
        """
        try:
            base, encoded = self._values.load(record_id, record)
        except Unreadable as error:
            self._events.tell(RecordUnreadable(record_id, str(error)))
            self._events.tell(RecordsUnreadable())
            return ()
        now = self.calls.clock()
        if record.accessed_at - now > AHEAD:
            self._events.tell(ClockAhead())
        absolute = self._spans.end_of(record.created_at, record.extra.identity)
        ends = min(absolute, record.accessed_at + record.idle_timeout)
        if now >= ends and not self._is_live:
            return ()
        return ((record_id, record, base, Rare(encoded) if encoded else USUAL),)

    async def _tell_reused(self, reused: Sequence[bytes], opened: Sequence[bytes]) -> None:
        """Tell of tokens that were replaced long ago, and end their sessions if so configured.

        Either the user or somebody else has kept a copy. Nobody knows which of the two has the new one, so the session
        ends for both. Who has brought the new one as well has proved more than a copy.
        """
        for record_id in dict.fromkeys(reused):
            if record_id in opened:
                continue
            self._events.tell(TokenReused(record_id))
            if self._revokes_reused:
                await self.calls.delete(record_id, "revoked")

    def _session_of(self, state: State) -> Session:
        session = Session() if self._is_live else NotingSession()
        give_state(session, state)
        return session

    # --- what is told of cookies that lead nowhere ---

    def _reject(self, of_form: bool) -> None:
        if of_form:
            self._trusting = False
            self._events.tell(CookieOfAnotherKey())
        else:
            self._events.tell(REJECTED)

    def _unknown(self) -> None:
        self._events.tell(SessionUnknown())
        if self.calls.live is not None and (_several_processes() or self._has_twin()):
            self._events.tell(StoreNotShared())

    def _has_twin(self) -> bool:
        """Return whether a middleware of this process keeps sessions elsewhere in memory, under the same key."""
        others = (reference() for reference in _IN_MEMORY.valuerefs())
        return any(
            other is not None
            and other.calls.store is not self.calls.store
            and self._keys.unsign(other.sign_anything()) is not None
            for other in others
        )

    def sign_anything(self) -> bytes:
        """Return a token that leads nowhere, signed as any other."""
        return self._keys.sign((bytes(ID_BYTES), bytes(ID_BYTES)))


# The loaders of live stores in this process, by id.
_IN_MEMORY: WeakValueDictionary[int, Loader] = WeakValueDictionary()


def _is_proven(record: Record, verifier: bytes) -> bool:
    try:
        return same(record.verifier, verifier)
    except (AttributeError, TypeError) as error:
        raise StoreError("the store gave something that is no record") from error


def _is_just_replaced(record: Record, now: float) -> bool:
    """Return whether requests may still arrive that were sent before the secret was."""
    return record.regenerated_at is not None and now - record.regenerated_at < SUPERSEDED_SECONDS


def _several_processes() -> bool:
    """Return whether this looks like one of several workers (multiprocessing, or many servers' WEB_CONCURRENCY)."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return True
    workers = os.environ.get("WEB_CONCURRENCY", "")
    return workers.isdigit() and int(workers) > 1
