"""Whose a session is: what the application calls, and what its state makes of it.

Rules of residence: a part of ``Session`` and a part of ``State``. No store, no cookie, no ASGI. The design is that of
Django's and Flask-Login's ``login``; OWASP ASVS 5.0, chapter 7, asks for what it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .crypto.tokens import draw
from .errors import ConfigError, LoginRefused, SessionNotEstablished
from .facts import ASKING, Identity, Intents, Rare, Status, Wanted
from .remember import age_of

if TYPE_CHECKING:
    from .pending import Pending
    from .stores.base import Record

LABEL_CHARACTERS = 256
OLDEST = 30 * 86400.0  # seconds: marks are kept for 31 days, what is older cannot be compared with one


class OfUser:
    """A part of ``State``: whose the session is, and the transitions of a login.

    A login that is asked for shows at once: the attributes are those that it leaves, ``base`` is what of them the store
    has. If it is not carried out, all is as it was before (``not_logged_in``).
    """

    __slots__ = ()

    def identity(self: Any) -> Identity | None:
        """Return whose the session is: as was asked for, or as the record says."""
        intents, record = self.intents, self.record  # read once: another thread may take them at any time
        if intents is not None and intents.login is not None:
            asked: Identity = intents.login.identity
            return asked
        return None if record is None else record.extra.identity

    def owner(self: Any) -> str | None:
        """Return the user whose the record is, ``None`` if it is nobody's."""
        record = self.record
        own = None if record is None or self.status is not Status.LIVE else record.extra.identity
        return None if own is None else own.user

    def logging_in(
        self: Any, session: dict[str, Any], identity: Identity, keep: frozenset[str] | None, strictly: bool
    ) -> None:
        """Ask for a login. The last one asked for counts, and what was before the first."""
        intents = self.wishes()
        self.not_logged_in(session, intents)
        before = dict(dict.items(session)), self.base, self.rare.encoded
        ticket = self.ticket() if self.status is Status.NEW else None
        wanted = Wanted(identity, keep, *before, ticket, strictly, intents.saved)
        self.kept(session, wanted)
        with ASKING:  # after that: a save point of another thread carries out all of it or nothing
            intents = self.intents = self.intents or Intents()
            intents.login = wanted
        self.accessed = True

    def login_ticket(self: Any) -> tuple[bytes, bytes] | None:
        """Return the id and the secret that a login which is asked for gives the session, ``None`` if there is none.

        They are drawn here, if they were not yet. Where the store has lost the record by then, it gets others.
        """
        intents = self.intents
        wanted = None if intents is None else intents.login
        if wanted is None:
            return None
        if wanted.ticket is None:
            record_id, secret = draw()
            record_id = self.record_id if self.owner() in (None, wanted.identity.user) else record_id
            wanted = intents.login = wanted._replace(ticket=(record_id, secret))
        ticket: tuple[bytes, bytes] = wanted.ticket
        return ticket

    def kept(self: Any, session: dict[str, Any], wanted: Wanted) -> None:
        """Take what the login does not keep from the session, and from what the store is known to have."""
        if wanted.keep is None:
            return
        for name in [name for name in dict.keys(session) if name not in wanted.keep]:
            dict.pop(session, name, None)
        self._settle_kept(wanted.keep)

    def reloaded_beside_login(self: Any, session: dict[str, Any], intents: Intents | None) -> None:
        """Take from what was loaded anew what a login that is asked for does not keep."""
        wanted = None if intents is None else intents.login
        if intents is None or wanted is None or wanted.keep is None:
            return
        base = self.base
        going = {n: v for n, v in base.items() if n not in wanted.keep and dict.get(session, n) is v}
        before = {**wanted.attributes, **going}
        intents.login = wanted._replace(attributes=before, base=base, encoded=self.rare.encoded)
        for name in going:
            dict.pop(session, name, None)
        self._settle_kept(wanted.keep)

    def _settle_kept(self: Any, keep: frozenset[str]) -> None:
        encoded = {name: data for name, data in self.rare.encoded.items() if name in keep}
        self.settled({name: value for name, value in self.base.items() if name in keep}, encoded)
        self.accessed = True

    def logged_in(self: Any, record_id: bytes, record: Record, secret: bytes, *, is_new: bool) -> None:
        """Note that the store has the login; the secret leaves with the start."""
        state: Any = self  # or the type checker takes what is written here for declarations
        state.record_id, state.record, state.verifier = record_id, record, record.verifier
        state.status, state.secret, state.is_new = Status.LIVE, secret, is_new
        rare: Rare = state.rarely()
        rare.logged_in = True
        if is_new:
            rare.lease = None
        state.hold()

    def login_dropped(self: Any, session: dict[str, Any], intents: Intents) -> None:
        """Forget a login whose time is over, with all that was written for its user: the guest's session gets none."""
        wanted = intents.login
        if wanted is not None and wanted.keep is not None:
            dict.clear(session)
        self.not_logged_in(session, intents)

    def not_logged_in(self: Any, session: dict[str, Any], intents: Intents) -> None:
        """Note that a login is not carried out, and will not be: the session is as it was before."""
        wanted, intents.login = intents.login, None
        if wanted is None or wanted.keep is None:
            return
        if intents.saved is not None:
            intents.saved = wanted.saved
        for name, value in wanted.attributes.items():
            dict.setdefault(session, name, value)
        self.settled(wanted.base, wanted.encoded)
        self.accessed = True


class Account:
    """A part of ``Session``: the login."""

    __slots__ = ()

    @property
    def user(self: Any) -> str | None:
        """Who is logged in, as given to ``login()``; ``None`` for a guest."""
        own = self._own()
        return None if own is None else own.user

    @property
    def label(self: Any) -> str | None:
        """What the application has called this session at the login, say the device."""
        own = self._own()
        return None if own is None else own.label

    @property
    def authenticated_at(self: Any) -> datetime | None:
        """When the user has proved who he is, in UTC; ``None`` for a guest."""
        own = self._own()
        return (
            None if own is None or own.authenticated_at is None else datetime.fromtimestamp(own.authenticated_at, UTC)
        )

    def is_fresh(self: Any, within: float | timedelta) -> bool:
        """Return whether the user has authenticated within so many seconds: before what must not be done by a thief.

        (RFC 9470, ``max_age``; OWASP ASVS 5.0, 7.5.) A guest's session is never fresh.
        """
        seconds = within.total_seconds() if isinstance(within, timedelta) else within
        at = self.authenticated_at
        return at is not None and self._state.host.now() - at.timestamp() <= seconds

    def login(
        self: Any,
        user: str,
        keep: Iterable[str] = (),
        label: str | None = None,
        authenticated_at: float | datetime | None = None,
        max_age: float | timedelta | None = None,
    ) -> Pending:
        """Log a user in: a new secret and cookie, and of the attributes only those in ``keep`` stay.

        A guest's session keeps its id; that of another user ends, and a new one begins; where the same user is logged
        in already, all attributes stay, and label and max_age if they are not given. What requests that loaded the
        session before write is dropped, with a warning;
        those of the same user may finish. The absolute lifetime counts from here. (OWASP ASVS 5.0, 7.2.4.)

        Carried out with the start of the response, and not at all if its status is 500 or above: then nothing that was
        written after this call is saved. Awaited, it is carried
        out at once, and stands.

        :param user: compared byte by byte, not empty.
        :param keep: names of attributes that stay.
        :param label: the application's own words for this session, at most 256 characters.
        :param authenticated_at: when the credentials were checked, as seconds since the epoch or an aware
            ``datetime``: taken before the check of a password, or the ``auth_time`` of an ID token. A login is refused
            if all sessions of the user were revoked since. Not given: now, when this is called.
        :param max_age: see the attribute of this name. Not given, it stays as it is where the same user is logged in
            already, else it is the middleware's.
        :raises LoginRefused: (awaited) all sessions of the user were revoked since he has authenticated. Only marked,
            it replaces the answer by a 409.
        :raises TooManySessions: (awaited) the user has as many sessions as are allowed.
        :raises StoreError: (awaited) the store failed; the session is as it was before.
        :raises HeadersSent: the headers have left.
        :raises SessionNotEstablished: a WebSocket from a foreign origin cannot have a session.
        :raises ConfigError: the store does not keep sessions by user.
        """
        state = self._state
        age = None if max_age is None else age_of(max_age)
        identity = Identity(_name(user), _time(authenticated_at), None, _label(label), age)
        names, now, strictly = _names(keep), state.host.now(), identity.authenticated_at is not None
        if not state.host.knows_users:
            raise ConfigError("login(): the store keeps no sessions by user; it lacks the verbs of UserStore")
        identity = identity._replace(authenticated_at=_not_after(now, identity.authenticated_at))
        if state.status is Status.FOREIGN:
            raise SessionNotEstablished(state.refusal_of_writes())
        self._before_headers("login()")
        state.renewed()
        if state.status is Status.GONE:
            state.forgotten()
        same_user = state.owner() == identity.user
        if age is not None:
            state.wishes().max_age = None  # what was asked for before
        if same_user:
            own = state.record.extra.identity
            identity = identity._replace(
                label=own.label if label is None else identity.label,
                max_age=own.max_age if max_age is None else identity.max_age,
            )
        state.logging_in(self, identity, None if same_user else names, strictly)
        pending: Pending = self._saving()
        return pending

    def logout(self: Any) -> Pending:
        """Log out: what ``invalidate()`` does."""
        pending: Pending = self.invalidate()
        return pending

    def _own(self: Any) -> Identity | None:
        self._state.accessed = True
        own: Identity | None = self._state.identity()
        return own


def _name(user: object) -> str:
    if not isinstance(user, str):
        raise TypeError(f"login(): user must be a str, not {type(user).__name__}")
    name = str.__str__(user)  # not str(user): members of an Enum call themselves something else
    if not name:
        raise ValueError("login(): user must not be empty")
    name.encode()  # what is no text is nobody's name: UnicodeEncodeError is a ValueError
    return name


def _names(keep: Iterable[str]) -> frozenset[str]:
    if isinstance(keep, str):
        raise TypeError("login(): keep must be names of attributes, not one str: write keep=('cart',)")
    names = frozenset(keep)
    if not all(isinstance(name, str) for name in names):
        raise TypeError("login(): keep must be names of attributes")
    return frozenset(map(str.__str__, names))


def _time(at: object) -> float | None:
    if isinstance(at, datetime):
        if at.utcoffset() is None:
            raise ValueError("login(): authenticated_at must be aware of its time zone: datetime.now(UTC)")
        return at.timestamp()
    if at is None:
        return None
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e12:
        raise ValueError("login(): authenticated_at must be seconds since the epoch, or an aware datetime")
    return float(at)


def _not_after(now: float, at: float | None) -> float:
    """Return when he has authenticated: now, if nothing was given, and if what was given is still to come."""
    if at is None:
        return now
    if at < now - OLDEST:
        raise LoginRefused("authenticated_at is more than 30 days ago: authenticate anew")
    return min(at, now)


def _label(label: object) -> str | None:
    if label is None:
        return None
    if not isinstance(label, str):
        raise TypeError(f"login(): label must be a str, not {type(label).__name__}")
    words = str.__str__(label)
    if len(words) > LABEL_CHARACTERS:
        raise ValueError(f"login(): label must have at most {LABEL_CHARACTERS} characters")
    words.encode()
    return words
