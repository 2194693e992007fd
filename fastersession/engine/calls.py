"""The only caller of a store: what comes back is the store's answer or a ``StoreError``, within bounds of time.

Rules of residence: opening, bounds and errors. What is asked and what an answer means is the caller's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ..errors import ConfigError, FasterSessionError, StoreError
from ..events import StoreNotClosed
from ..log import EventLog
from ..stores.base import LiveStore, Store
from ..stores.users import USER_VERBS
from .tasks import on_asyncio

T = TypeVar("T")

TICKS = 20  # in which a time limit is counted
STORE_SECONDS = 2.0  # of one call, times the patience: a user waits no longer, and the stores' own bounds are below it
OPEN_SECONDS = 10.0  # bound on opening and closing the store


class TimeLimit:
    """Bounds many calls at once, with one timer that runs only while there are any.

    ``asyncio.timeout``, which makes a timer for each, costs ten times as much. A call is ended after ``seconds``, up
    to a twentieth earlier; an event loop that stood still is no reason to end one.
    """

    __slots__ = ("_loop", "_running", "_tick", "_ticks")

    def __init__(self, seconds: float) -> None:
        self._tick = seconds / TICKS
        self._ticks = 0
        self._running: dict[object, tuple[asyncio.Task[Any], int]] = {}  # and the tick of its end; the oldest first
        self._loop: asyncio.AbstractEventLoop | None = None  # that has the timer, while it runs

    async def run(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Call and await a function. The rules of cancelling are those of ``asyncio.timeout``.

        :raises TimeoutError: it took too long.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only a task awaits a store
        loop = task.get_loop()
        if self._loop is not loop:
            self._loop, self._running = loop, {}  # calls of a loop that is gone keep theirs
            loop.call_later(self._tick, self._count, loop)
        running, call, cancelling = self._running, object(), task.cancelling()
        running[call] = task, self._ticks + TICKS
        try:
            return await function(*arguments)
        except asyncio.CancelledError as error:
            if call not in running and task.cancelling() <= cancelling + 1:
                raise TimeoutError from error
            raise
        finally:
            if running.pop(call, None) is None:  # it was ended
                task.uncancel()
            del task, running  # an exception's traceback holds this frame: with its task it would be a cycle

    def _count(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        self._ticks += 1
        for call, (task, until) in list(self._running.items()):
            if until > self._ticks:
                break
            del self._running[call]
            task.cancel()
        if self._running:
            loop.call_later(self._tick, self._count, loop)
        else:
            self._loop = None


class Calls:
    """Calls of one store.

    ``verbs`` has the functions to be called: a live store's are plain ones, all others are coroutine functions.

    :param patience: what the bound on a call is multiplied by.
    """

    def __init__(self, store: Store, events: EventLog, patience: float) -> None:
        self.store = store
        self.live: LiveStore | None = store.live
        self.verbs: Any = self.live or store
        self.clock: Callable[[], float] = store.clock
        self.knows_users = all(hasattr(self.verbs, verb) for verb in USER_VERBS)
        self.call = self._call if self.live is None else self._call_live
        self.on_end: list[Callable[[bytes, str], None]] = []  # are told of what this process ends, and why
        self._events = events
        self._limit = TimeLimit(STORE_SECONDS * patience)
        self._opening: asyncio.Task[None] | None = None
        self.opened_in: asyncio.AbstractEventLoop | None = None  # of a live store: in none, for all are alike

    async def _call(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        """Call a verb of the store, after opening it if no lifespan did.

        :raises StoreError: it failed, or took too long.
        """
        try:
            if self.opened_in is not asyncio.get_running_loop():
                return await self._limit.run(self._open_and_call, verb, *arguments)
            return await self._limit.run(verb, *arguments)
        except FasterSessionError:
            raise  # a store's own clear words
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    async def _open_and_call(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        await self._open_shared()
        return await verb(*arguments)

    async def _call_live(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return verb(*arguments)
        except FasterSessionError:
            raise
        except Exception as error:
            raise StoreError(f"the store failed: {type(error).__name__}") from error

    def ended(self, record_id: bytes, reason: str) -> None:
        """Tell that this process has ended a session. A live store tells it itself, to whoever watches it."""
        for told in self.on_end if self.live is None else ():
            told(record_id, reason)

    async def delete(self, record_id: bytes, reason: str) -> bool:
        """Remove a record, and give the reason to a store that takes one."""
        reasons = (reason,) if self.knows_users else ()
        deleted: bool = await self.call(self.verbs.delete, record_id, *reasons)
        self.ended(record_id, reason)
        return deleted

    def check_loop(self) -> None:
        """Refuse what is no event loop of asyncio.

        :raises ConfigError: only a live store works there.
        """
        if self.live is None and not on_asyncio():
            name = type(self.store).__name__
            raise ConfigError(f"store: {name} needs asyncio: run the server on it, not on trio, or take a MemoryStore")

    async def open(self) -> None:
        """Open the store, at startup.

        :raises ConfigError: see ``check_loop``.
        """
        self.check_loop()
        if self.live is not None:
            await self.store.open()
        elif self.opened_in is not asyncio.get_running_loop():
            await self._open_shared()

    async def close(self) -> None:
        """Close the store; a save that comes later all the same opens it again."""
        self.opened_in = None
        try:
            await (_bounded(self.store.close()) if self.live is None else self.store.close())
        except Exception as error:
            self._events.tell(StoreNotClosed(error=str(error)))

    async def _open_shared(self) -> None:
        """Open the store once for all who wait for it, also where no lifespan did, and in each event loop anew."""
        loop, opening = asyncio.get_running_loop(), self._opening
        if opening is None or opening.get_loop() is not loop:
            opening = self._opening = loop.create_task(self._open_once(loop))
            opening.add_done_callback(self._forget_opening)
        await asyncio.shield(opening)

    async def _open_once(self, loop: asyncio.AbstractEventLoop) -> None:
        await _bounded(self.store.open())  # or one that hangs would keep every later request waiting
        self.opened_in = loop

    def _forget_opening(self, opening: asyncio.Task[None]) -> None:
        if self._opening is opening:
            self._opening = None
        if not opening.cancelled():
            opening.exception()  # seen: those who waited for it may have gone before


async def _bounded(call: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            await call
    except FasterSessionError:
        raise  # a store's own clear words
    except Exception as error:
        raise StoreError(f"the store could not be opened or closed: {type(error).__name__}") from error
