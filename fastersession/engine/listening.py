"""Who tells the listeners: behind the responses, a few at a time, and of each ended session one worker.

Rules of residence: when a listener is called and how long it may take. What happened is told by others.

``destroyed`` is not told from where a session ends, which may be a job, another worker or nobody (it expires), but from
what the store keeps of it: each ended record is *claimed* by one worker, told of, and settled. One that is not settled
within a minute, for its worker has died, is claimed by another. A live store tells of each end itself, in this process.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from ..errors import ConfigError, StoreError
from ..events import Event, ListenerFailed, ListenersOverrun, RecordUnreadable, SweepFailed
from ..listeners import (
    DestroyedEvent,
    IdChangedEvent,
    LoginEvent,
    SessionEvent,
    SessionListener,
    SuspiciousEvent,
    hears,
)
from ..log import EventLog
from ..stores.base import Record
from .calls import Calls
from .packing import Packer, Unreadable
from .repeats import Repeats
from .tasks import on_asyncio

MOST_WAITING = 1000  # events that wait for a listener
MOST_ENDS = 100_000  # ended sessions of a live store that wait; of another they wait in the store
AT_ONCE = 10
LISTENER_SECONDS = 30.0  # a claim is for twice as long
SWEEP_SECONDS = 1.0
JITTER = 0.2  # of it, so that workers do not come at the same moment
METHODS = ("created", "login", "id_changed", "destroyed", "suspicious")
SUSPICIOUS = frozenset({"token.reused", "session.unreadable", "cookie.rejected", "csrf.rejected"})
Call = tuple[str, Any]  # a method of the listeners, and what it is given


class Listening:
    """Calls the listeners of one middleware.

    :param packer: ``None`` for a live store.
    """

    def __init__(
        self, listeners: tuple[SessionListener, ...], calls: Calls, packer: Packer | None, events: EventLog,
        repeats: Repeats, tasks: set[asyncio.Task[Any]],
    ) -> None:  # fmt: skip
        self._listeners = listeners
        self._calls = calls
        self._packer = packer
        self._events = events
        self._repeats = repeats
        self._tasks = tasks
        self._waiting: deque[Call] = deque()
        self._running = 0
        self._hears = {method for method in METHODS if hears(listeners, method)}
        self._sweeping: asyncio.Task[None] | None = None
        self._failing = False
        self._here: dict[bytes, bool] = {}  # sessions that this process has ended, and whether to ask for each again
        self._missed: dict[bytes, bool] = {}  # those that were not due yet when they were asked for
        self._loop: asyncio.AbstractEventLoop | None = None
        self.hears_ends = "destroyed" in self._hears
        if self.hears_ends and calls.live is not None:
            live: Any = calls.live
            live.watch(self.live_end)
        elif self.hears_ends:
            calls.on_end.append(self.ended)
        if "suspicious" in self._hears:
            events.listen(self.heard)

    # --- what is told of ---

    def created(self, record_id: bytes, user: str | None = None) -> None:
        """Tell of a new record."""
        self._tell("created", lambda: SessionEvent(record_id.hex(), user))

    def logged_in(self, record_id: bytes, user: str | None, label: str | None, old_id: bytes | None) -> None:
        """Tell of a login, and if the session had another id before, of that."""
        self._tell("login", lambda: LoginEvent(record_id.hex(), user, label))
        if old_id is not None:
            old = old_id.hex()
            self._tell("id_changed", lambda: IdChangedEvent(record_id.hex(), user, old))

    def heard(self, event: Event) -> None:
        """Tell of an event of the log that an attacker may have caused."""
        if event.name in SUSPICIOUS:
            session_id = None if event.record_id is None else event.record_id.hex()
            self._tell("suspicious", lambda: SuspiciousEvent(session_id, None, event.name, event.said()))

    def ended(self, record_id: bytes, reason: str) -> None:
        """Note that this process has ended a session: it is told of now, if nobody else was faster."""
        if reason != "replaced":  # which is over in a minute
            if len(self._here) < MOST_WAITING:  # what is above is found by looking at all
                self._here[record_id] = True
            self._sweep_soon()

    def live_end(self, record: Any, reason: str, is_over: bool) -> None:
        """Take the end of a record of a live store."""
        if is_over and record.extra.retention is not None:
            own, attributes = record.extra.identity, record.attributes
            content = None if own is None else own.user, attributes
            self._tell("destroyed", lambda: DestroyedEvent(record.record_id.hex(), reason, False, lambda: content))

    # --- the queue ---

    def _tell(self, method: str, event: Callable[[], Any]) -> None:
        if method not in self._hears:
            return
        if len(self._waiting) >= (MOST_ENDS if method == "destroyed" else MOST_WAITING):
            self._events.tell(ListenersOverrun())
            return
        self._waiting.append((method, event()))
        self._begin()

    def _begin(self) -> None:
        """Run what waits, a few at a time; outside of an event loop it waits for the next that comes."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._loop is not loop:
            self._loop, self._running = loop, 0
        while self._waiting and self._running < AT_ONCE:
            self._running += 1
            task = loop.create_task(self._run(loop, *self._waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, loop: asyncio.AbstractEventLoop, method: str, event: Any) -> None:
        try:
            await self._call(method, event)
        finally:
            if self._loop is loop:
                self._running -= 1
                self._begin()

    async def _call(self, method: str, event: Any) -> None:
        """Call a method of every listener, all at once: one after another, slow ones would outlast a claim."""
        await asyncio.gather(*(self._call_one(listener, method, event) for listener in self._listeners))

    async def _call_one(self, listener: SessionListener, method: str, event: Any) -> None:
        """Call a method of a listener; what it raises, or does not finish, is told only."""
        try:
            async with asyncio.timeout(LISTENER_SECONDS):
                result = getattr(listener, method)(event)
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            record_id = None if event.id is None else bytes.fromhex(event.id)
            self._events.tell(ListenerFailed(record_id, type(listener).__name__, method, type(error).__name__))

    # --- what has ended ---

    def start(self) -> None:
        """Look for ended sessions from here on, in this event loop.

        :raises ConfigError: it is not asyncio's.
        """
        if not on_asyncio():
            raise ConfigError("listeners need asyncio: run the application on it, not on trio")
        if self.hears_ends:
            self._repeats.once(self, SWEEP_SECONDS * random.random())  # noqa: S311 - it hides nothing

    def pause(self) -> float:
        """Return the seconds until the next look."""
        return SWEEP_SECONDS * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311

    def again(self) -> Coroutine[Any, Any, None]:
        """Look."""
        return self._look()

    def _sweep_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        task = loop.create_task(self._look())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self) -> None:
        """Tell of all that has ended, one look at a time."""
        sweeping = self._sweeping
        if sweeping is not None and not sweeping.done() and sweeping.get_loop() is asyncio.get_running_loop():
            return
        self._sweeping = asyncio.current_task()
        try:
            if self._calls.live is not None:
                await self._calls.store.purge()
            else:
                self._here, self._missed = {**self._missed, **self._here}, {}
                while await self._sweep():
                    pass
            self._failing = False
        except StoreError as error:
            if not self._failing:  # one line is enough until it succeeds
                self._events.tell(SweepFailed(error=str(error)))
            self._failing = True
        finally:
            self._sweeping = None

    async def _sweep(self) -> bool:
        """Claim, tell and settle; return whether there may be more."""
        first = next(iter(self._here), None)
        ended = await self._calls.call(self._calls.verbs.due, first)
        if first is not None and self._here.pop(first, False) and first not in [one.record_id for one in ended]:
            self._missed[first] = False  # a store may file it a moment after its end
        for one in ended:
            self._here.pop(one.record_id, None)
        await asyncio.gather(*(self._tell_end(*one) for one in ended))
        return bool(ended) or bool(self._here)

    async def _tell_end(self, record_id: bytes, record: Record, reason: str, redelivered: bool) -> None:
        event = DestroyedEvent(record_id.hex(), reason, redelivered, lambda: self._content(record_id, record))
        await self._call("destroyed", event)
        await self._calls.call(self._calls.verbs.settle, record_id)

    def _content(self, record_id: bytes, record: Record) -> tuple[str | None, Mapping[str, Any]]:
        assert self._packer is not None  # noqa: S101 - of a live store nothing is claimed
        try:
            attributes, _ = self._packer.unpack(record_id, record)
        except Unreadable as error:
            self._events.tell(RecordUnreadable(record_id, str(error)))
            return None, {}
        own = record.extra.identity
        return None if own is None else own.user, attributes
