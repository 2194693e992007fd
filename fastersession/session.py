"""The session that the application sees: a dict, its metadata, and the verbs that say what shall happen to it.

Rules of residence: what users call. A verb acts on the object at once and notes the wish in the state; the next save
point, or awaiting the verb, carries it out. No store, no clock, no cookie, no ASGI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, ClassVar

from .attributes import Attributes, snapshot
from .chats import Chats
from .csrf import CsrfTokens
from .ends import Ending
from .errors import HeadersSent, SessionNotEstablished
from .facts import ENDED, NOT_STARTED, Status
from .flashes import Flashing
from .pending import Pending
from .remember import Remembered
from .state import State
from .users import Account

LONGEST = 10**10  # seconds: three centuries, and far from what a datetime cannot hold


def seconds(value: object) -> float | None:
    """Return a positive number of seconds from a number or ``timedelta``; ``None`` for anything else."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LONGEST:
        return None
    return float(value)


class Late:
    """Has it told what was written after the end. A class of its own: a finaliser costs every session that has one."""

    __slots__ = ()

    def __del__(self: Any) -> None:
        state = state_of(self)
        state.host.let_go(self, state)


class Session(Account, Chats, Ending, Flashing, Remembered, CsrfTokens):
    """The session of one request: a dict of attributes by name, empty and falsy when there are none.

    It may be used from other tasks and from worker threads. Copies (``copy``, ``|``, ``deepcopy``, ``pickle``) are
    plain dicts. Each verb may be called from sync code, or awaited to have it done now. Modelled on the
    ``HttpSession`` of Jakarta Servlet 6, chapter 7.
    """

    __slots__ = ()

    _late_as: ClassVar[type[Session]]  # what ``__class__`` becomes when it is written to after the end

    def __init_subclass__(cls) -> None:
        """Give Session and each subclass a late class."""
        if not issubclass(cls, Late):
            late: Any = type(f"Late{cls.__name__}", (Late, cls), {"__slots__": ()})
            cls._late_as = late

    # --- metadata ---

    @property
    def id(self) -> str:
        """The public record id, 32 lowercase hex digits. Not a credential: nobody can log in with it."""
        state = self._state
        state.accessed = True
        return (state.login_ticket() or (state.record_id or state.ticket()[0],))[0].hex()

    @property
    def is_new(self) -> bool:
        """``True`` until the client has come back with this session's cookie."""
        self._state.accessed = True
        return self._state.is_new

    @property
    def created_at(self) -> datetime:
        """When the session was created, in UTC; now, for a session that has no record yet."""
        record = self._state.record
        return self._time(None if record is None else record.created_at)

    @property
    def last_accessed_at(self) -> datetime:
        """The last access that the store has recorded, in UTC.

        Accesses are recorded to a tenth of the idle timeout. Before this request has saved anything, it is that of an
        earlier one.
        """
        record = self._state.record
        return self._time(None if record is None else record.accessed_at)

    @property
    def idle_timeout(self) -> timedelta:
        """How long the session lives without a request. Settable (seconds or ``timedelta``), saved like a change.

        :raises ValueError: not a positive, finite number of seconds.
        """
        self._state.accessed = True
        return timedelta(seconds=self._state.idle_seconds())

    @idle_timeout.setter
    def idle_timeout(self, value: float | timedelta) -> None:
        number = seconds(value)
        if number is None:
            raise ValueError("idle_timeout: must be a positive number of seconds, or a positive timedelta")
        self._state.wishes().idle_timeout = number

    # --- verbs ---

    def establish(self) -> Pending:
        """Issue a record and its cookie although the session is still empty. Nothing on an established one.

        :raises HeadersSent: the session is new and the headers have left.
        :raises SessionNotEstablished: a WebSocket from a foreign origin cannot have a session.
        """
        state = self._state
        if state.status is Status.FOREIGN:
            raise SessionNotEstablished(state.refusal_of_writes())
        if state.status in (Status.NEW, Status.SUPERSEDED):
            self._before_headers("establish()")
            state.renewed()
            state.wishes().establish = True
        elif state.intents is not None:
            state.intents.cleared = False
        return Pending(self._save)

    def invalidate(self) -> Pending:
        """Log out: the session is empty and new at once, its record is deleted, later writes are a new session.

        No later call undoes it, and it holds even if the handler fails afterwards. Only in a request whose cookie was
        replaced a moment ago nothing that is written afterwards is kept, as nothing before was.
        """
        state = self._state
        dict.clear(self)
        state.accessed = True
        if state.status in (Status.NEW, Status.LIVE, Status.GONE):
            state.invalidated()
            dict.clear(self)  # again: in another thread, a reload() may have filled it meanwhile
        else:
            state.taken()
        return self._done_now_if_ended()

    def regenerate_id(self) -> Pending:
        """Give the session a new secret and cookie, and kill the old one: after any change of privilege.

        Id and attributes stay. Without a record it does nothing. Awaiting it does nothing more: the new secret
        replaces the old one in one atomic step with the start of the response. Of two requests that race, one wins;
        the other sends no cookie. (OWASP ASVS 5.0, 7.2.4.)

        The old cookie opens nothing from then on. Requests that had loaded the session before may finish on it: what
        they save is kept, in ``exclusive()`` too, until a second regeneration. So whoever could plant a session may
        write into it once more, from a request that still runs.

        :raises HeadersSent: the headers have left.
        """
        self._before_headers("regenerate_id()")
        if self._state.status is Status.SUPERSEDED:
            self._state.renewed()
        elif self._state.status is Status.LIVE:
            self._state.wishes().regenerate = True
        return Pending(_nothing)

    def save(self) -> Pending:
        """Save the attributes as they are now, in the middle of a stream too, and whatever the status will be.

        Awaited, it returns when the store has them. Before the start of a new session it creates the record, whose
        cookie goes with the start; if no start comes, the record is deleted again.

        :raises StoreError: (awaited) the store failed.
        :raises SessionNotEstablished: (awaited) there are attributes, but no cookie can reach the client any more.
        """
        self._state.wishes().saved = snapshot(self)
        return self._done_now_if_ended()

    def reload(self) -> Pending:
        """Fetch what the store has now, and keep the unsaved changes of this request on top of it.

        :raises StoreError: (awaited) the store failed.
        """
        self._state.wishes().reload = True
        return Pending(self._reload)

    def exclusive(self, timeout: float = 30.0) -> AbstractAsyncContextManager[Session]:
        """Return an async context manager that one request of the session at a time is in.

        On entry pending changes are saved and the attributes reloaded, so what another request did in its turn is
        there; on exit what was changed is saved before the next may enter. Other saves are never held up. Entered by
        several tasks of the request, or again inside, it is the same turn, which begins with the first entry and ends
        with the last exit: it keeps requests apart, not the tasks of one. Entered again after an exit that failed, it
        goes on with that turn's lease.

        :param timeout: seconds to wait for the turn.
        :raises ExclusiveTimeout: (on entry) the turn did not come in time.
        :raises LeaseLost: (at a save inside) the turn was taken away, for this process stood still for too long; or,
            on entry, a turn whose exit had failed was.
        :raises ConfigError: (on entry) the code runs on trio, not on asyncio.
        """
        turn: AbstractAsyncContextManager[Session] = self._state.host.exclusive(self, self._state, timeout)
        return turn

    def mark_accessed(self) -> None:
        """Do what Starlette's ``request.session`` asks for: note the access."""
        self._state.accessed = True

    # --- how the verbs work ---

    def _time(self, timestamp: float | None) -> datetime:
        self._state.accessed = True
        return datetime.fromtimestamp(self._state.host.now() if timestamp is None else timestamp, UTC)

    def _before_headers(self, verb: str) -> None:
        if self._state.phase != NOT_STARTED:
            end = "accept()" if self._state.rare.is_socket else "the response starts"
            raise HeadersSent(f"session.{verb} must send a cookie: call it before {end}")

    def _done_now_if_ended(self) -> Pending:
        if self._state.phase == ENDED:
            self._state.host.save_soon(self, self._state)
        return Pending(self._save)

    def _saving(self) -> Pending:
        return Pending(self._save)

    async def _save(self) -> None:
        await self._state.host.save(self, self._state)

    async def _reload(self) -> None:
        await self._state.host.reload(self, self._state)

    # --- dict ---

    def clear(self) -> None:
        """Remove all attributes. With nothing written afterwards, this ends the session like a logout."""
        self._state.wishes().cleared = True
        super().clear()

    def __repr__(self) -> str:
        self._state.accessed = True
        return f"<Session {self._state.status.name.lower()} keys={list(dict.keys(self))!r}>"

    __str__ = __repr__

    def _adding(self, names: Iterable[object]) -> None:
        refusal = self._state.refusal_of_writes()
        if refusal is None:
            self._note(names)
        for name in names if refusal is not None else ():
            raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {refusal}")

    def _removed(self, names: Iterable[object]) -> None:
        if self._state.refusal_of_writes() is None:
            self._note(names)

    def _note(self, names: Iterable[object]) -> None:
        """Note what was written after the end of the request: nothing saves it any more but ``save()``."""
        self._state.wrote_late(names)
        self.__class__ = self._late_as


Session.__init_subclass__()
# From a session to its state, to its late class, and from the state: functions of C.
state_of: Callable[[Session], State] = attrgetter("_state")
late_class_of: Callable[[Session], type[Session]] = attrgetter("_late_as")
give_state: Callable[[Session, State], None] = Attributes.__dict__["_state"].__set__


async def _nothing() -> None:
    pass
