"""Who runs: the requests of a middleware, what keeps their sessions alive, and the drain at shutdown.

Rules of residence: which requests there are, and when something is due for them. What is saved is ``patience``'s.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from sys import getrefcount
from typing import Any

from ..errors import FasterSessionError
from ..facts import ENDED, FAILED, STARTED
from ..noting import keep_watch
from ..session import Session, state_of
from ..state import State
from ..stores.base import Record
from .own import OwnDirectory
from .patience import Saves, shielded
from .plan import TOUCH_FRACTION, Point
from .repeats import Repeated, Repeats
from .watch import Watch

DRAIN_SECONDS = 10.0  # bound on the drain at shutdown
# To a session when its request ends: in the middleware's frame, in the exchange, in our scope and in the one that was
# given, and the argument of ``getrefcount``. The frames of an application that has returned are gone.
OWN_REFERENCES = 5
NOTHING_HANDED: set[object] = set()
LATE_BYTES = 64 * 1024  # of a value that is encoded when a session is let go: that may be in a garbage collection


class RequestManager(State):
    """What stands at ``request.state.session``: the interface of the ancestor's session manager. Always truthy.

    To the engine it is a request that runs.
    """

    __slots__ = ("held", "session")

    held: Record | None  # the record that it is counted on
    session: Session  # while it runs

    def get_session(self) -> Session:
        """Return the session of this request, which may be kept longer.

        :raises FasterSessionError: the request has ended.
        """
        if self.phase == ENDED:
            raise FasterSessionError("request.state.session ends with its request: keep what get_session() returns")
        return self.session

    def get_session_id(self) -> str:
        """Return the session's public id, 32 hex digits."""
        return self.get_session().id

    @property
    def sessions(self) -> OwnDirectory:
        """What lists and ends sessions by user. See ``Sessions``, whose methods it has.

        To end the session of this very request is a logout: it goes on, and its answer clears the cookie.
        """
        return OwnDirectory(self.host.directory, self)

    def end(self, reason: str) -> None:
        """Note that others have ended the session."""
        self.has_ended(reason)

    def save_session(self) -> None:
        """Save the attributes as they are now. See ``Session.save``."""
        self.get_session().save()

    def clear_session(self) -> None:
        """Remove all attributes; with nothing written afterwards, the session ends."""
        self.get_session().clear()

    def hold(self) -> None:
        """Count the request on its session's record, which then is not evicted, and keep it alive; no more the last.

        Called anew when the session has another record, or another idle timeout.
        """
        if self.held is not None:
            self.let_go(self.held)
        self.held = record = None if self.phase == ENDED else self.record
        if record is not None:
            runs: Running = self.host.runs
            runs.requests.add(self)
            if self.rare.is_socket:  # its traffic keeps it alive
                record.sockets += 1
                return
            record.requests += 1
            if not runs.live:
                runs.repeats.add(self, record.idle_timeout * TOUCH_FRACTION)

    def watch_if_kept(self) -> None:
        """Have the session watched, if it has handed out anything and somebody has it although the request has ended.

        Only for a request that did not raise: an error's traceback keeps the session, too, for a moment.
        """
        if self.rare.handed == NOTHING_HANDED or self.host.runs.live:
            return
        if getrefcount(self.session) > OWN_REFERENCES:
            keep_watch(self.session)

    def let_go(self, record: Record) -> None:
        """Count no more on a record."""
        self.host.runs.requests.discard(self)
        if self.rare.is_socket:
            record.sockets -= 1
            return
        record.requests -= 1
        if not self.host.runs.live:
            self.host.runs.repeats.remove(self)

    # --- what keeps the session of a long request alive, if its store is no live one ---

    def pause(self) -> float:
        """Return the seconds between two touches."""
        return self.idle_seconds() * TOUCH_FRACTION

    def again(self) -> Coroutine[Any, Any, None]:
        """Touch the session."""
        runs: Running = self.host.runs
        return runs.saves.saver.touch(self)


class Running:
    """The running requests of one middleware."""

    def __init__(
        self, saves: Saves, repeats: Repeats, watch: Watch, requests: set[RequestManager], *, live: bool
    ) -> None:
        self.live = live
        self.requests = requests  # those that have a record
        self.watch = watch
        self.told_of_shutdown = False  # by the lifespan, which not every server runs
        self.repeats = repeats
        self.saves = saves
        self._watched: dict[int, weakref.ref[Session]] = {}  # of ended requests; sessions have no hash
        self._draining: asyncio.Task[None] | None = None
        self.first_drained: list[Callable[[], Coroutine[Any, Any, None]]] = []  # what may still write to sessions
        self.sweeper: Repeated | None = None  # looks for ended sessions until the shutdown

    async def flush_now(self, request: RequestManager) -> FasterSessionError | None:
        """Save what a running request has, and return the error, which the request's end raises, too."""
        if request.phase == ENDED:  # before this task began
            return None
        request.look()
        try:
            await self.saves.flush(request.session, request, Point.LAST_CHUNK)
        except FasterSessionError as error:
            request.failed(request.rare.failure or error)
            request.used()  # so that the end raises the failure, if it has nothing to save
            return error
        return None

    # --- sessions that somebody keeps after the end of their requests ---

    def keep_watch(self, session: Session) -> None:
        """Compare what this session has handed out when it is let go, or at the shutdown."""
        self._watched[id(session)] = weakref.ref(session)

    def let_go(self, session: Session, state: State) -> None:
        """Tell what was written after the end of the request and never saved: nobody can do so any more."""
        names = list(state.take_late()) if state.rare.late else []
        if self._watched.pop(id(session), None) is not None and not state.rare.adrift:
            names += self.saves.saver.changed_inside(session, state, LATE_BYTES)
        if names:
            self.saves.tell_unsaved(state, dict.fromkeys(names))

    def _let_go_of_all(self) -> None:
        for reference in list(self._watched.values()):
            session = reference()
            if session is not None:
                self.let_go(session, state_of(session))

    # --- the shutdown ---

    async def drain(self) -> None:
        """Save what streams still hold, and wait for the saves in flight, for at most ``DRAIN_SECONDS``."""
        if self.sweeper is not None:
            self.repeats.remove(self.sweeper)
        for drain in self.first_drained:
            await drain()
        streaming = [request for request in self.requests if request.phase in (STARTED, FAILED)]
        if self.live:
            for request in streaming:
                await self.flush_now(request)
            return
        loop = asyncio.get_running_loop()
        work: set[asyncio.Task[Any]] = {loop.create_task(self.flush_now(request)) for request in streaming}
        work.update(task for task in self.saves.tasks if task.get_loop() is loop)  # no other can end
        if work:
            await asyncio.wait(work, timeout=DRAIN_SECONDS)
        self._let_go_of_all()

    async def drain_unasked(self, error: BaseException) -> None:
        """Drain if it is a cancellation that a request ends with, and the server runs no lifespan to ask for it.

        daphne cancels all requests when it stops, and ends with the first of them. They share one drain.
        """
        if self.live or self.told_of_shutdown or not isinstance(error, asyncio.CancelledError):
            return
        loop, draining = asyncio.get_running_loop(), self._draining
        if draining is None or draining.done() or draining.get_loop() is not loop:
            draining = self._draining = loop.create_task(self.drain())
        await shielded(_ended(draining), set())


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait((task,))
