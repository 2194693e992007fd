"""Which sessions have ended, as far as what runs on them in this process must know.

Rules of residence: who waits for an end, who is told of one, and the batch that asks the store. What a request does
when its session has ended is its own affair.

What this process ends itself it tells at once (``end``); so does a live store of all that ends in it (``told``). What
others end is found by asking the store, once a second, for all at once. A push would be faster, but polling misses
nothing: a request that loads its session just before the end is in the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from ..errors import ConfigError
from ..events import WatchFailed
from ..facts import ENDED
from ..log import EventLog
from ..state import State
from ..stores.base import Record
from .calls import Calls
from .tasks import on_asyncio

PERIOD = 1.0  # seconds between two batches
# Seconds that a request or a waiter must have lived through before it is asked for: most have gone by then. With a
# whole period the worst case would be two seconds and the call; so it is one and a half.
OLD_ENOUGH = PERIOD / 2
OUTAGE_SECONDS = 10.0  # for which a store may fail before that is told: less is a restart


class OnEnd(NamedTuple):
    """What a middleware does when a session ends: the arguments of these names."""

    close_on_end: bool = False
    end_on_outage: bool = False

    def faults(self, store: Any) -> list[str]:
        """Return what is wrong with the arguments. ``store`` may be ``None``."""
        faults = [f"{name}: must be True or False" for name, value in self._asdict().items() if type(value) is not bool]
        if self.close_on_end is True and store is not None and not hasattr(store.live or store, "ended"):
            faults.append(
                f"close_on_end: {type(store).__name__} cannot tell which sessions have ended; it lacks `ended`"
            )
        return faults


class Request(Protocol):
    """A running request, as its session's end needs it. Hashed by identity."""

    record: Record | None
    record_id: bytes | None

    def end(self, reason: str) -> None:
        """Do what is to be done when the session has ended."""


class Waiter:
    """Somebody who awaits ``session.ended``, perhaps from before the session has a record."""

    __slots__ = ("_record_id", "future", "state")

    def __init__(self, state: State, future: asyncio.Future[str]) -> None:
        self._record_id: bytes | None = None
        self.future = future
        self.state = state

    @property
    def record_id(self) -> bytes | None:
        """The id of the session; from when it has a record it stays the same, whatever becomes of the request's."""
        if self._record_id is None and self.state.record is not None:
            self._record_id = self.state.record_id
        return self._record_id

    def finish(self, reason: str) -> None:
        """Wake who waits."""
        if not self.future.done():
            self.future.set_result(reason)


class Watch:
    """Finds out which sessions have ended elsewhere, and ends what runs on them here.

    A timer and a task exist only while something is watched.

    :param requests: those that run and have a record.
    """

    def __init__(self, calls: Calls, events: EventLog, requests: set[Any], on_end: OnEnd) -> None:
        self._calls = calls
        self._events = events
        self._on_end = on_end
        self._requests: set[Request] = requests
        self._long: set[Request] = set()  # requests whose answers stream, and sockets
        self._waiters: set[Waiter] = set()
        self._spared: set[Request] = set()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the timer
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._old: set[int] = set()  # the identities of those who ran or waited half a second before the batch
        self._failing_since: float | None = None  # the loop's time
        self._told = False  # of the failure
        calls.on_end.append(self.ended)
        if calls.live is not None and hasattr(calls.live, "watch"):
            calls.live.watch(self.told)

    # --- who is watched ---

    def add(self, request: Request) -> None:
        """Watch a request until it is removed, and while there is one, all that run."""
        self._long.add(request)
        self._wake()

    def remove(self, request: Request) -> None:
        """Watch a request no more; nothing where it is not watched."""
        self._long.discard(request)
        self._rest()

    @property
    def can_tell(self) -> bool:
        """Whether the store can tell which sessions have ended, and the code runs where it can be asked."""
        return hasattr(self._calls.verbs, "ended") and on_asyncio()

    async def wait(self, state: State) -> str:
        """Carry out ``await session.ended``."""
        reason = state.end_reason()
        if reason is not None:
            return reason
        if not hasattr(self._calls.verbs, "ended"):
            raise ConfigError("session.ended: the store cannot tell which sessions have ended; it lacks `ended`")
        if not on_asyncio():
            raise ConfigError("session.ended: needs asyncio, and something else runs")
        waiter = Waiter(state, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        self._wake()
        try:
            return await waiter.future
        finally:
            self._waiters.discard(waiter)
            self._rest()

    @contextmanager
    def sparing(self, request: Request) -> Iterator[None]:
        """End a request not: it is ending its session itself, and its answer tells of it."""
        self._spared.add(request)
        try:
            yield
        finally:
            self._spared.discard(request)

    # --- what has ended ---

    def end(self, reasons: Mapping[bytes, str]) -> None:
        """End what runs here on these sessions, which have ended."""
        if not reasons:
            return
        for request in [request for request in self._requests if request.record_id in reasons]:
            if request not in self._spared:
                request.end(reasons[request.record_id])  # type: ignore[index]
        for waiter in [waiter for waiter in self._waiters if waiter.record_id in reasons]:
            if waiter.state.record_id == waiter.record_id:  # else the request has another session by now, or none
                waiter.state.has_ended(reasons[waiter.record_id])  # type: ignore[index]
            waiter.finish(reasons[waiter.record_id])  # type: ignore[index]

    def ended(self, record_id: bytes, reason: str) -> None:
        """Hear that this process has ended a session of a store of bytes."""
        self.end({record_id: reason})

    def told(self, record: Any, reason: str, is_over: bool) -> None:
        """Hear of a live store that a record has ended (``LiveUserStore.watch``).

        Few of those that expire have anything that runs on them, so they must cost nothing. Only where a login has put
        the record in the place of another, older requests of the session may hold that one.
        """
        if (
            record.requests
            or record.sockets
            or self._waiters
            or (reason != "expired" and record.regenerated_at is not None)
        ):
            self.end({record.record_id: reason})

    # --- the batch ---

    def _wake(self) -> None:
        """Begin to look, if nobody does. On trio nobody will."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._loop is not loop:
            self._loop, self._timer, self._looking = loop, None, None
        if self._timer is None and self._looking is None:
            self._note(loop)

    def _rest(self) -> None:
        if self._timer is not None and not self._long and not self._waiters:
            self._timer.cancel()
            self._timer = self._failing_since = None

    def stop(self) -> None:
        """Look no more: the store is about to be closed."""
        for going in (self._timer, self._looking):
            if going is not None:
                going.cancel()
        self._loop = self._timer = self._looking = None

    def _note(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note who is there: in half a second he is old enough."""
        self._old = {*map(id, self._requests), *map(id, self._waiters)}
        self._timer = loop.call_later(OLD_ENOUGH, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._looking = loop.create_task(self._look(loop))

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        begun = loop.time()
        try:
            await self._ask(begun)
        finally:
            if self._loop is loop:
                self._looking = None
                if self._long or self._waiters:
                    self._timer = loop.call_at(max(begun + PERIOD - OLD_ENOUGH, loop.time()), self._note, loop)
                else:
                    self._failing_since = None

    async def _ask(self, begun: float) -> None:
        """Ask the store for all that are old enough, and end what runs on those that are absent."""
        for waiter in [waiter for waiter in self._waiters if waiter.record_id is None]:
            if waiter.state.phase == ENDED:
                waiter.finish("ended")
        watched = self._watched()
        if not watched:
            return
        try:
            gone: Mapping[bytes, str] = await self._calls.call(self._calls.verbs.ended, list(watched))
        except Exception as error:
            self._failed(begun, error, watched)
            return
        self._failing_since, self._told = None, False
        now = self._calls.clock()
        self.end({record_id: gone[record_id] or _why(watched[record_id], now) for record_id in watched.keys() & gone})

    def _watched(self) -> dict[bytes, Record | None]:
        """Return the ids to ask for, with what this process knows of the records."""
        old = self._old
        requests: Iterable[Request] = self._requests if self._on_end.close_on_end else ()
        watched: dict[bytes | None, Record | None]
        watched = {one.record_id: one.record for one in requests if id(one) in old and one.record is not None}
        for waiter in self._waiters:
            if id(waiter) in old and waiter.record_id is not None:
                watched.setdefault(waiter.record_id, waiter.state.record)
        watched.pop(None, None)  # of one that another thread has invalidated this moment
        return watched  # type: ignore[return-value]

    def _failed(self, begun: float, error: Exception, watched: Iterable[bytes]) -> None:
        """Note that the store cannot be asked. Nothing ends by that, unless it lasts and the strict want it so."""
        if self._failing_since is None:
            self._failing_since = begun
        seconds = asyncio.get_running_loop().time() - self._failing_since
        if seconds < OUTAGE_SECONDS:
            return
        ends = self._on_end.end_on_outage
        if not self._told:
            self._told = True
            outcome = "what runs on sessions is ended" if ends else "what runs on them goes on"
            self._events.tell(WatchFailed(seconds=int(seconds), outcome=outcome, error=str(error)))
        if ends:
            self.end(dict.fromkeys(watched, "outage"))


def _why(record: Record | None, now: float) -> str:
    """Return why a record is absent, where the store does not know."""
    if record is not None and now >= min(record.accessed_at + record.idle_timeout, record.not_after):
        return "expired"
    return "ended"
