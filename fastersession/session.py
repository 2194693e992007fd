"""The session that the application sees: a dict, its metadata, and the verbs that say what shall happen to it.

Rules of residence: data, metadata, intents. No store, no clock, no cookie, no ASGI; all of that is behind ``Host``.
A verb acts on the object at once and notes the intent; the next save point, or awaiting the verb, carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from threading import Lock
from typing import Any, ClassVar, Protocol

from .attributes import Attributes
from .errors import HeadersSent, SessionNotEstablished

__all__ = [
    "ACCEPTED_WITHOUT_COOKIE",
    "EMPTY",
    "ENDED",
    "FAILED",
    "LEFT_WITHOUT_COOKIE",
    "NOT_STARTED",
    "STARTED",
    "Host",
    "Intents",
    "Lease",
    "Metadata",
    "Pending",
    "Request",
    "Session",
    "Status",
    "seconds",
]

EMPTY: Mapping[str, Any] = {}

LONGEST = 10**10  # seconds: three centuries, and far from what a datetime cannot hold

# Where the request is: FAILED is started with a status that discards what automatic saves would keep.
NOT_STARTED, STARTED, FAILED, ENDED = range(4)


LEFT_WITHOUT_COOKIE = (
    "the response headers have left without a session cookie, so nobody could ever read it: "
    "write the first attribute before streaming starts, or call session.establish() there"
)
ACCEPTED_WITHOUT_COOKIE = (
    "the WebSocket was accepted without a session cookie, so nobody could ever read it: "
    "write the first attribute before accept(), or call session.establish() there"
)


# Held while intents are put in place or taken away: what one thread asks for must not replace what another has asked
# for. For a few bytecodes, by no request that calls no verb.
_ASKING = Lock()


class Status(Enum):
    """How a request's session stands to the store."""

    NEW = auto()  # no record; the first attribute creates one
    LIVE = auto()  # a record that this request loaded or created
    SUPERSEDED = auto()  # the cookie's secret was regenerated a moment ago by another request
    GONE = auto()  # the record was lost while the request ran: deleted, expired, or regenerated twice elsewhere
    FOREIGN = auto()  # a WebSocket from a foreign origin: never saved


class Metadata(Protocol):
    """What a session shows of its record, times in seconds since the epoch; and what now runs on it."""

    created_at: float
    accessed_at: float
    idle_timeout: float
    user: str | None
    requests: int
    sockets: int


class Lease(Protocol):
    """What a session shows of its turn: under which owner saves are made, ``None`` while there is no lease."""

    owner: bytes | None


class Host(Protocol):
    """What a session needs from the manager that opened it."""

    live: bool
    idle_timeout: float

    def now(self) -> float:
        """Return the store's time."""

    def draw(self) -> tuple[bytes, bytes]:
        """Return a new record id and secret."""

    async def save(self, session: Session) -> None:
        """Carry out an awaited verb."""

    async def reload(self, session: Session) -> None:
        """Carry out an awaited ``reload()``."""

    def exclusive(self, session: Session, timeout: float) -> AbstractAsyncContextManager[Session]:
        """Return the context manager of ``session.exclusive()``."""

    def save_soon(self, session: Session) -> None:
        """Carry out a verb that sync code called after the end of the request."""

    def unsaved(self, session: Session, names: Iterable[str]) -> None:
        """Warn of what was written after the end and never saved."""


class Request(Protocol):
    """What a session needs from the request it belongs to."""

    reading: bool  # a message of a WebSocket was asked for, and none has come

    def look(self) -> None:
        """Take over what the application put in the session's place."""

    def hold(self) -> None:
        """Note that the session has another record."""

    def heard(self) -> None:
        """Keep the session of an open WebSocket alive: a message has come."""

    def turn(self) -> None:
        """Save what has changed: the application asks for the next message of a WebSocket."""


class Pending(Coroutine[Any, Any, None]):
    """What a verb returns: await it, or make a task of it, to have the work done now.

    Left alone, the next save point does the work, and no warning is given.
    """

    __slots__ = ("_running", "_work")

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._running: Coroutine[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._work().__await__()

    def send(self, value: Any) -> Any:
        """See ``Coroutine.send``."""
        if self._running is None:
            self._running = self._work()
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        """See ``Coroutine.throw``."""
        if self._running is None:
            self._running = self._work()
        return self._running.throw(*error)

    def close(self) -> None:
        """See ``Coroutine.close``."""
        if self._running is not None:
            self._running.close()


class Intents:
    """What the application asked for and no save point has carried out yet."""

    __slots__ = ("cleared", "doomed", "establish", "idle_timeout", "regenerate", "reload", "saved", "signed_out")

    def __init__(self) -> None:
        self.cleared = False  # clear() was called
        self.doomed: list[bytes] = []  # records to delete
        self.establish = False
        self.idle_timeout: float | None = None
        self.regenerate = False
        self.reload = False
        self.saved: dict[str, Any] | None = None  # what save() covers, if nobody awaited it
        self.signed_out = False  # the browser holds a cookie whose record this request ended

    def put_back(self, later: Intents | None, *, same_session: bool) -> Intents:
        """Return these intents, whose save failed, together with what was asked for since."""
        kept = self if same_session else Intents()
        kept.doomed, kept.signed_out = self.doomed, self.signed_out
        if later is not None:
            kept.doomed = self.doomed + later.doomed
            for name in ("cleared", "establish", "regenerate", "reload", "signed_out"):
                setattr(kept, name, getattr(kept, name) or getattr(later, name))
            kept.idle_timeout = kept.idle_timeout if later.idle_timeout is None else later.idle_timeout
            kept.saved = kept.saved if later.saved is None else later.saved
        return kept


def seconds(value: object) -> float | None:
    """Return a positive number of seconds from a number or ``timedelta``; ``None`` for anything else."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LONGEST:
        return None
    return float(value)


class Late:
    """Warns of what was written after the end. A class of its own, for a finaliser costs every session that has one."""

    __slots__ = ()

    def __del__(self: Any) -> None:
        late = getattr(self, "_late", None)
        if late:
            self._host.unsaved(self, late)


class Session(Attributes):
    """The session of one request: a dict of attributes by name, empty and falsy when there are none.

    It may be used from other tasks and from worker threads. Copies (``copy``, ``|``, ``deepcopy``, ``pickle``) are
    plain dicts. Each verb may be called from sync code, or awaited to have it done now. Modelled on the
    ``HttpSession`` of Jakarta Servlet 6, chapter 7.
    """

    __slots__ = (
        "_base",
        "_encoded",
        "_host",
        "_intents",
        "_is_new",
        "_late",
        "_lease",
        "_loss",
        "_phase",
        "_record",
        "_record_id",
        "_refusal",
        "_request",
        "_secret",
        "_status",
        "_turn",
        "_unanswered",
        "_verifier",
    )

    _late_as: ClassVar[type[Session]]  # what ``__class__`` becomes when it is written to after the end

    _base: Mapping[str, Any]  # the attributes as last loaded or saved
    _encoded: Mapping[str, bytes]  # the same, as a store of bytes has it; none for a live one
    _host: Host
    _intents: Intents | None
    _is_new: bool  # not loaded: created in this request, or not at all
    _late: dict[str, None]  # names written after the end and not saved
    _lease: Lease | None  # once exclusive() was entered; only with a record
    _loss: Any  # why the store takes nothing of this session any more, once it has refused something
    _phase: int
    _record: Metadata | None
    _record_id: bytes | None
    _refusal: str  # only of a WebSocket: why nothing may be written to it, if nothing may
    _request: Request | None  # while it runs
    _secret: bytes | None  # of a new or regenerated session, until its cookie has left
    _status: Status
    _turn: Any  # the lock that makes commits of a suspending store take turns
    _unanswered: bool  # only of a request that ended without an answer: no headers have left
    _verifier: bytes | None  # what this request was loaded with: proves its saves; only with a record

    def __init_subclass__(cls) -> None:
        """Give Session and each subclass a late class."""
        if not issubclass(cls, Late):
            late: Any = type(f"Late{cls.__name__}", (Late, cls), {"__slots__": ()})
            cls._late_as = late

    # --- metadata ---

    @property
    def id(self) -> str:
        """The public record id, 32 lowercase hex digits. Not a credential: nobody can log in with it."""
        self._accessed = True
        return (self._record_id or self._ticket()[0]).hex()

    @property
    def is_new(self) -> bool:
        """``True`` until the client has come back with this session's cookie."""
        self._accessed = True
        return self._is_new

    @property
    def created_at(self) -> datetime:
        """When the session was created, in UTC; now, for a session that has no record yet."""
        record = self._record
        return self._time(None if record is None else record.created_at)

    @property
    def last_accessed_at(self) -> datetime:
        """The last access that the store has recorded, in UTC.

        Accesses are recorded to a tenth of the idle timeout. Before this request has saved anything, it is that of an
        earlier one.
        """
        record = self._record
        return self._time(None if record is None else record.accessed_at)

    @property
    def idle_timeout(self) -> timedelta:
        """How long the session lives without a request. Settable (seconds or ``timedelta``), saved like a change.

        :raises ValueError: not a positive, finite number of seconds.
        """
        self._accessed = True
        return timedelta(seconds=self._idle_seconds())

    @idle_timeout.setter
    def idle_timeout(self, value: float | timedelta) -> None:
        number = seconds(value)
        if number is None:
            raise ValueError("idle_timeout: must be a positive number of seconds, or a positive timedelta")
        self._plans().idle_timeout = number

    # --- verbs ---

    def establish(self) -> Pending:
        """Issue a record and its cookie although the session is still empty. Nothing on an established one.

        :raises HeadersSent: the session is new and the headers have left.
        :raises SessionNotEstablished: a WebSocket from a foreign origin cannot have a session.
        """
        if self._status is Status.FOREIGN:
            raise SessionNotEstablished(self._why_refused())
        if self._status in (Status.NEW, Status.SUPERSEDED):
            self._before_headers("establish()")
            self._become_new()
            self._plans().establish = True
        elif self._intents is not None:
            self._intents.cleared = False
        return Pending(self._save)

    def invalidate(self) -> Pending:
        """Log out: the session is empty and new at once, its record is deleted, later writes are a new session.

        No later call undoes it, and it holds even if the handler fails afterwards. Only in a request whose cookie was
        replaced a moment ago nothing that is written afterwards is kept, as nothing before was.
        """
        dict.clear(self)
        self._accessed = True
        if self._status in (Status.NEW, Status.LIVE, Status.GONE):
            self._start_anew()
            dict.clear(self)  # again: in another thread, a reload() may have filled it meanwhile
        else:
            self._record_id = None
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
        if self._status is Status.SUPERSEDED:
            self._become_new()
        elif self._status is Status.LIVE:
            self._plans().regenerate = True
        return Pending(_nothing)

    def save(self) -> Pending:
        """Save the attributes as they are now, in the middle of a stream too, and whatever the status will be.

        Awaited, it returns when the store has them. Before the start of a new session it creates the record, whose
        cookie goes with the start; if no start comes, the record is deleted again.

        :raises StoreError: (awaited) the store failed.
        :raises SessionNotEstablished: (awaited) there are attributes, but no cookie can reach the client any more.
        """
        self._plans().saved = self._snapshot()
        return self._done_now_if_ended()

    def reload(self) -> Pending:
        """Fetch what the store has now, and keep the unsaved changes of this request on top of it.

        :raises StoreError: (awaited) the store failed.
        """
        self._plans().reload = True
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
        return self._host.exclusive(self, timeout)

    def mark_accessed(self) -> None:
        """Do what Starlette's ``request.session`` asks for: note the access."""
        self._accessed = True

    # --- how the verbs work ---

    def _plans(self) -> Intents:
        intents = self._intents  # read once, as elsewhere: another thread may take them at any time
        if intents is None:
            with _ASKING:
                intents = self._intents
                if intents is None:
                    intents = self._intents = Intents()
        self._accessed = True  # last: what a save point meanwhile takes for seen is in the intents
        return intents

    def _ticket(self) -> tuple[bytes, bytes]:
        """Return the id and the secret of a new session."""
        record_id, secret = self._record_id, self._secret
        if record_id is not None and secret is not None:
            return record_id, secret
        draw = self._host.draw
        ticket = self._record_id, self._secret = draw()
        return ticket

    def _proof(self) -> tuple[bytes, bytes] | None:
        """Return the record id and the verifier that this request's saves prove themselves with.

        ``None`` if there is no record; of a live session only when another thread has invalidated it this moment.
        """
        record_id, verifier = self._record_id, self._verifier
        return None if record_id is None or verifier is None else (record_id, verifier)

    def _take_intents(self) -> Intents | None:
        """Return what is asked for, to be carried out now; what is asked for from here on is for the next commit."""
        if self._intents is None:
            return None
        with _ASKING:
            intents, self._intents = self._intents, None
        if intents is not None and intents.signed_out:
            self._plans().signed_out = True
        return intents

    def _put_back(self, intents: Intents, *, same_session: bool) -> None:
        """Ask for it again, for the save failed."""
        with _ASKING:
            self._intents = intents.put_back(self._intents, same_session=same_session)
        self._accessed = True

    def _idle_seconds(self) -> float:
        intents, record = self._intents, self._record
        if intents is not None and intents.idle_timeout is not None:
            return intents.idle_timeout
        return self._host.idle_timeout if record is None else record.idle_timeout

    def _time(self, timestamp: float | None) -> datetime:
        self._accessed = True
        return datetime.fromtimestamp(self._host.now() if timestamp is None else timestamp, UTC)

    def _before_headers(self, verb: str) -> None:
        if self._phase != NOT_STARTED:
            end = "accept()" if hasattr(self, "_refusal") else "the response starts"
            raise HeadersSent(f"session.{verb} must send a cookie: call it before {end}")

    def _become_new(self) -> None:
        if self._status is Status.SUPERSEDED:
            self._forget_record()

    def _start_anew(self) -> None:
        intents, record_id = Intents(), self._record_id
        with _ASKING:
            before = self._intents
            if before is not None:
                intents.doomed, intents.signed_out = [*before.doomed], before.signed_out
            if self._status is Status.LIVE and record_id is not None:
                intents.doomed.append(record_id)
                intents.signed_out = intents.signed_out or not self._is_new
            self._intents = intents
        self._accessed = True
        self._forget_record()
        if self._phase != NOT_STARTED:
            self._guarded = True

    def _why_refused(self) -> str | None:
        if self._status is Status.NEW and self._phase != NOT_STARTED and not hasattr(self, "_unanswered"):
            return getattr(self, "_refusal", LEFT_WITHOUT_COOKIE)
        return self._refusal if self._status is Status.FOREIGN else None

    def _forget_record(self) -> None:
        self._record_id = self._secret = self._verifier = self._lease = None  # first: by it others see what happens
        self._status, self._record, self._base = Status.NEW, None, EMPTY
        self._encoded = {}
        self._is_new = True

    def _disown(self, attributes: Mapping[str, Any] = EMPTY) -> None:
        """Take out again what came of a record that another thread has invalidated in this very moment."""
        for name, value in attributes.items():
            if dict.get(self, name) is value:
                dict.pop(self, name, None)
        self._record, self._base, self._encoded = None, EMPTY, {}

    def _orphan(self, record_id: bytes) -> None:
        """Let a record be deleted that was made for what another thread has invalidated in this very moment."""
        self._forget_record()
        self._plans().doomed.append(record_id)

    def _done_now_if_ended(self) -> Pending:
        if self._phase == ENDED:
            self._host.save_soon(self)
        return Pending(self._save)

    async def _save(self) -> None:
        await self._host.save(self)

    async def _reload(self) -> None:
        await self._host.reload(self)

    # --- dict ---

    def clear(self) -> None:
        """Remove all attributes. With nothing written afterwards, this ends the session like a logout."""
        self._plans().cleared = True
        super().clear()

    def __repr__(self) -> str:
        self._accessed = True
        return f"<Session {self._status.name.lower()} keys={list(dict.keys(self))!r}>"

    __str__ = __repr__

    def _adding(self, names: Iterable[object]) -> None:
        refusal = self._why_refused()
        if refusal is None:
            self._note(names)
        for name in names if refusal is not None else ():
            raise SessionNotEstablished(f"session attribute {name!r} cannot be kept: {refusal}")

    def _removed(self, names: Iterable[object]) -> None:
        if self._why_refused() is None:
            self._note(names)

    def _note(self, names: Iterable[object]) -> None:
        """Note what was written after the end of the request: nothing saves it any more but ``save()``."""
        self._late = {**getattr(self, "_late", {}), **dict.fromkeys(map(str, names))}
        self.__class__ = self._late_as


Session.__init_subclass__()


async def _nothing() -> None:
    pass
