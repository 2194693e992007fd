"""What the facts about a session are made of.

Rules of residence: values and their classes. What changes them, and when, is in ``state``, which explains the words.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import isfinite
from threading import Lock
from typing import Any, NamedTuple

from .crypto.forms import FormTokens
from .errors import FasterSessionError

# By name, a value and how it looked (``plainjson.look_of``) when it was first handed out: as it was loaded.
Looks = dict[object, tuple[Any, bytes | None]]
EMPTY: Mapping[str, Any] = {}
NO_NAMES: dict[str, None] = {}  # never added to

NOT_STARTED, STARTED, FAILED, ENDED = range(4)
ASKING = Lock()  # held for a few bytecodes, by no request of the usual kind that calls no verb

SCALARS = frozenset({str, int, float, bool, bytes, type(None)})  # whose values cannot change inside

LEFT_WITHOUT_COOKIE = (
    "the response headers have left without a session cookie, so nobody could ever read it: "
    "write the first attribute before streaming starts, or call session.establish() there"
)
ACCEPTED_WITHOUT_COOKIE = (
    "the WebSocket was accepted without a session cookie, so nobody could ever read it: "
    "write the first attribute before accept(), or call session.establish() there"
)


class Status(Enum):
    """How a request's session stands to the store."""

    NEW = auto()  # no record; the first attribute creates one
    LIVE = auto()  # a record that this request loaded or created
    SUPERSEDED = auto()  # the cookie's secret was regenerated a moment ago by another request
    GONE = auto()  # the record was lost while the request ran: deleted, expired, or regenerated twice elsewhere
    FOREIGN = auto()  # a WebSocket from a foreign origin: never saved


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all sessions of one middleware share: above all, what carries out their verbs.

    It is made of parts that lie above. The functions take a session and its state.
    """

    directory: Any  # of the users' sessions
    idle_timeout: float  # seconds, of a session that has none of its own
    max_age: float  # seconds, the same; 0: as long as the browser is open
    now: Callable[[], float]  # the store's time
    save: Callable[[Any, Any], Coroutine[Any, Any, None]]
    reload: Callable[[Any, Any], Coroutine[Any, Any, None]]
    save_soon: Callable[[Any, Any], None]  # for a verb that sync code called after the end of the request
    exclusive: Callable[[Any, Any, float], Any]
    flashing: Any  # the store's part of flashes
    let_go: Callable[[Any, Any], None]  # tells what was written after the end and never saved
    runs: Any  # the running requests
    knows_users: bool  # the store keeps sessions by user
    forms: FormTokens
    verifier_of: Callable[[bytes], bytes]  # what the store keeps for a secret
    look_of: Callable[[Any], bytes | None]  # of a value that is handed out; ``None`` if that says too little
    conversations: Callable[[], Any]  # made when they are first asked for
    connection_of: Callable[[Any], Any]  # of a request whose answer may be detached; ``None`` for any other


class Identity(NamedTuple):
    """What a session is beyond its own times: whose it is, and how old its cookie may get. Times are seconds."""

    user: str | None = None
    authenticated_at: float | None = None
    logged_in_at: float | None = None  # the lifetime counts from it
    label: str | None = None
    max_age: float | None = None  # of this session's cookie; ``None``: the middleware's


def identity_of(user: str | None, *said: Any) -> Identity:
    """Return what was said of a user. Raises whatever, if it is something else."""
    authenticated_at, logged_in_at, label, max_age = said
    times = [None if time is None else float(time) for time in (authenticated_at, logged_in_at, max_age)]
    if not all(isinstance(text, str | None) for text in (user, label)) or not all(map(isfinite, filter(None, times))):
        raise ValueError("no identity")
    return Identity(user, times[0], times[1], label, times[2])


class Wanted(NamedTuple):
    """A login that was asked for, and the session before."""

    identity: Identity  # when it is carried out is not known yet
    keep: frozenset[str] | None  # names of attributes that stay; ``None``: all, for the user is the same
    attributes: Mapping[str, Any]
    base: Mapping[str, Any]
    encoded: Mapping[str, bytes]
    ticket: tuple[bytes, bytes] | None = None  # drawn already: the session was new, or its id or csrf_token was read
    strictly: bool = False  # when he has authenticated was given
    saved: dict[str, Any] | None = None  # what save() covered before


class Lease:
    """A session's turn, as its saves need it: under which owner they are made, ``None`` while there is no lease."""

    __slots__ = ("owner",)

    owner: bytes | None


class Loss:
    """Why the store takes nothing of a session any more, and the attributes that were told of so far."""

    __slots__ = ("lives_on", "told", "why")

    def __init__(self, why: str, *, lives_on: bool = False) -> None:
        self.why, self.lives_on = why, lives_on
        self.told: set[str] = set()


FLAGS = ("cleared", "establish", "flashing", "regenerate", "reissued", "reload", "rolling", "signed_out")


class Intents:
    """What the application asked for and no save point has carried out yet."""

    __slots__ = (
        "cleared",
        "doomed",
        "establish",
        "flashing",
        "idle_timeout",
        "login",
        "max_age",
        "regenerate",
        "reissued",
        "reload",
        "rolling",
        "saved",
        "signed_out",
    )

    def __init__(self) -> None:
        self.cleared = False  # clear() was called
        self.doomed: list[bytes] = []  # records to delete
        self.establish = False
        self.flashing = False  # there are flashes to store, or to remove
        self.idle_timeout: float | None = None
        self.login: Wanted | None = None
        self.max_age: float | None = None
        self.regenerate = False
        self.reissued = False  # the end has moved: the start carries the cookie again
        self.reload = False
        self.rolling = False  # the end is to be moved as far as the cookie's age allows
        self.saved: dict[str, Any] | None = None  # what save() covers, if nobody awaited it
        self.signed_out = False  # the browser holds a cookie whose record this request ended

    @classmethod
    def of_logout(cls, before: Intents | None, record_id: bytes | None, *, known: bool) -> Intents:
        """Return what is asked for when a session is ended: nothing of before but deletions.

        :param record_id: of the record to delete.
        :param known: whether the browser has its cookie.
        """
        intents = cls()
        if before is not None:
            intents.doomed, intents.signed_out = [*before.doomed], before.signed_out
        if record_id is not None:
            intents.doomed.append(record_id)
            intents.signed_out = intents.signed_out or known
        return intents

    def hand_on(self, later: Intents) -> None:
        """Note in the next intents what the headers still have to tell."""
        later.signed_out = later.signed_out or self.signed_out
        later.reissued = later.reissued or self.reissued

    def need_a_start(self) -> bool:
        """Return whether any of it is a cookie's to set or to remove: only a start that is still to leave has one."""
        return self.regenerate or self.establish or self.login is not None or bool(self.doomed)

    def put_back(self, later: Intents | None, *, same_session: bool) -> Intents:
        """Return these intents, whose save failed, together with what was asked for since."""
        kept = self if same_session else Intents()
        kept.doomed, kept.signed_out = self.doomed, self.signed_out
        if later is not None:
            kept.doomed = self.doomed + later.doomed
            for name in FLAGS:
                setattr(kept, name, getattr(kept, name) or getattr(later, name))
            kept.idle_timeout = kept.idle_timeout if later.idle_timeout is None else later.idle_timeout
            kept.login = kept.login if later.login is None else later.login
            kept.max_age = kept.max_age if later.max_age is None else later.max_age
            kept.saved = kept.saved if later.saved is None else later.saved
        return kept


class Rare:
    """What few requests know of their session. Those that know none of it share one; it is never written to."""

    __slots__ = (
        "adopted", "adrift", "commits", "encoded", "end_reason", "failure", "flashes", "handed", "is_shared",
        "is_socket", "late", "lease", "logged_in", "looks", "loss", "refusal",
    )  # fmt: skip

    def __init__(
        self, encoded: Mapping[str, bytes] = EMPTY, *, is_shared: bool = False, is_socket: bool = False
    ) -> None:
        self.adopted = False  # something in the session's place was taken over
        self.adrift = False  # the request has ended, and the store was not to have all that it changed, or could not
        self.commits: Any = None  # the lock that keeps two commits to a store of bytes apart, and its event loop
        self.encoded = encoded  # ``base`` as a store of bytes has it
        self.end_reason: str | None = None  # why the session has ended
        self.failure: FasterSessionError | None = None  # what a save of this request raised, to be raised at its end
        self.flashes: Any = None  # a ``flashes.Book``, once flashes were used
        self.handed: set[object] | None = set()  # names of what the application holds; None: all, and all to come
        self.is_shared = is_shared
        self.is_socket = is_socket
        self.late: dict[str, None] = NO_NAMES  # names written after the end and not saved
        self.lease: Lease | None = None  # once exclusive() was entered; only with a record
        self.logged_in = False  # a login was carried out: until its cookie has left, nobody else can open the record
        self.looks: Looks = {}
        self.loss: Loss | None = None  # once the store has refused something
        # Why writes after the headers are refused; None: they never leave.
        self.refusal: str | None = ACCEPTED_WITHOUT_COOKIE if is_socket else LEFT_WITHOUT_COOKIE

    def forget(self) -> None:
        """Forget what was of a session that is another one from here on."""
        self.lease = self.flashes = None


USUAL, USUAL_SOCKET = Rare(is_shared=True), Rare(is_shared=True, is_socket=True)
