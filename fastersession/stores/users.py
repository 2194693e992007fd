"""The contract of stores that know whose sessions they keep: ``UserStore`` for coroutines, ``LiveUserStore``.

Rules of residence: types and docstrings, no behaviour. Concrete stores import this module, ``base`` and their driver.

A store never learns a user's name. It knows *tags*: 16 bytes for each user and key of the middleware, so while keys
are swapped one user has several. A record has one, ``Record.extra.tag``, made with the first key; what is asked of a
user is asked by all tags of his.

A login is *bound* to its record, then *confirmed* in the user's index, and only then its cookie leaves. The index is
written after the record, in the one step that looks at the user's *mark* (when all his sessions were last revoked) and
at the limit. So a revocation before it is seen as the mark, and one after it finds the record: none slips between. An
index never names a record that is yet to come. A crash leaves at most a record whose cookie nobody has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from .base import LiveStore, Record, Store

ABOUT = "!"  # the attribute that says whose a record is; it stays at a login, and is all that ``find`` reads
MOST_ENTRIES = 100  # that a session keeps beside its attributes
FOUND = 1000  # sessions of one user that are listed, the last used
MARK_SECONDS = 31 * 86400  # for which a mark is kept: a login whose ``authenticated_at`` is older is refused elsewhere
CLAIMED = 10  # ended records that one ``due`` claims: as many as are told of at once, or a claim could run out
CLAIM_SECONDS = 60.0  # after which a claim that was not settled is another's


USER_VERBS = ("login", "retire", "find", "revoke", "ended", "take")
END_VERBS = ("due", "settle")


class Login(NamedTuple):
    """What a login makes of a record.

    ``record`` is the new one, or what the record becomes: of it count ``verifier``, ``accessed_at`` (the time of the
    login), ``idle_timeout``, ``not_after``, ``extra``, and ``attributes``, which are set.

    ``keep`` names the attributes that stay of those that the store has, with ``ABOUT``; ``None``: all, for the user
    stays the same. Of these, ``deletes`` go. ``strictly`` refuses a login authenticated *at* the mark, too.
    """

    record: Record
    tags: tuple[bytes, ...]  # of the user under each key, the first is the record's
    authenticated_at: float
    strictly: bool = False
    until: float = float("inf")  # the last moment to which the record's end may be moved
    keep: frozenset[str] | None = None
    deletes: tuple[str, ...] = ()
    lease: bytes | None = None  # as of ``Change``
    limit: int | None = None  # of confirmed sessions of the user
    evicts: bool = True  # at the limit the least recently used goes; else the login is refused


class Outcome(Enum):
    """What became of a login."""

    DONE = auto()
    ABSENT = auto()  # the id is taken; or the record is absent, or the verifier not its own, or the lease another's
    REVOKED = auto()  # refused: all sessions of the user were revoked since he has authenticated
    FULL = auto()  # refused: he has as many sessions as are allowed


class LoginOutcome(NamedTuple):
    """What became of a login, the sessions that were evicted for it, and whether a refusal has cost the record."""

    outcome: Outcome
    evicted: tuple[bytes, ...] = ()
    record_is_gone: bool = False


class Ended(NamedTuple):
    """A record that has ended, claimed to be told of. ``redelivered``: somebody claimed it before."""

    record_id: bytes
    record: Record
    reason: str
    redelivered: bool


class NotConfirmed(Exception):  # noqa: N818 - an outcome that nobody knows: a store raises it as the cause of its error
    """A login was bound, and then the store failed: the record must go, for nobody has its cookie."""


class UserStore(Store, Protocol):
    """A store that keeps sessions by user, and tells of those that have ended. What ``Store`` says holds for each verb.

    ``update`` takes ``Change.renewal``: it moves ``not_after``, and only for the record's own verifier; with the one
    before, such an update returns ``False`` and changes nothing.

    ``delete`` takes a reason. A record whose ``extra.retention`` is not ``None`` is not removed when it is deleted,
    evicted, revoked or expires: it becomes absent for every verb but ``due`` and ``settle``, and stays so many seconds
    more, so that its end can be told.
    """

    async def delete(self, record_id: bytes, reason: str = "invalidated") -> bool:
        """Remove the record, as ``Store.delete`` does. ``reason`` is kept where an ended record is."""

    async def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        """Create a record for a user (``verifier`` is ``None``), or make a record his, if the verifier is its own.

        An existing record gets the new verifier, and the attributes that stay, in the same step. ``regenerated_at``
        becomes the time of the login, the version grows by one, a lease and ``created_at`` stay. Where ``keep`` is
        ``None`` (the user was logged in already), ``verifier`` is the verifier before from here on. Else there is none:
        what requests that loaded the record before write is refused.

        Refused with ``REVOKED`` where a mark under any of the tags is later than ``authenticated_at`` (or, strictly,
        at it), unless the mark spares this very id. The limit counts live, confirmed sessions under all tags; a record
        that is one already needs no room. At the limit either the least recently used are ended, with the reason
        ``evicted``, or the outcome is ``FULL``. A refusal changes nothing; but where record and index cannot be changed
        in one step, it may have cost the record.

        Cancelled or failed in the middle, it leaves either the state before, or a record that is bound to a secret
        which nobody has; of the latter the error has ``NotConfirmed`` among its causes if the store knows.
        """

    async def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool:
        """Replace the verifier by one that nobody has, take the record from its user, and let it end at ``until``.

        For a session in whose place another one has come: until then its cookie is *superseded*. ``regenerated_at`` is
        now, there is no verifier before, the reason of its end will be ``replaced``. ``False`` as for ``regenerate``.
        """

    async def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        """Return the live sessions of a user, the last used first, at most ``FOUND``.

        Of the attributes only ``ABOUT`` is there. What the index names and is absent, or another user's, is left out
        (and out of the index from here on).
        """

    async def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]:
        """End the sessions of a user, but one. Set his mark: from here on no login authenticated before ``at`` works.

        A mark never moves back; it spares ``keep``, and is kept for ``MARK_SECONDS``. Return the ids that were ended,
        with the reason ``revoked``. When it has returned, no session of the user, whose login was confirmed or is under
        way, opens anything but the kept one. Called again after a failure it ends the rest.
        """

    async def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Return those of many ids that are absent, or retired, and why; ``""`` where nobody knows any more. One batch.

        So what runs on a session ends when another user's has come in its place, and not when its cookie ends.
        """

    async def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        """Remove the attributes whose names begin with ``prefix``, and return them: each is given to one caller only.

        With the record's own verifier or the one before; nothing otherwise. The version grows if there were any.
        """

    async def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        """Return live sessions, anybody's, about ``count`` of them, and where to go on; there ``None`` is the end.

        For administrators. Of the attributes only ``ABOUT`` is there. Each session that lives through all pages is on
        one at least; a page may be empty, or have a few more. What follows is asked for with ``after``.
        """

    async def due(self, first: bytes | None = None) -> list[Ended]:
        """Claim up to ``CLAIMED`` ended records (deleted, revoked, evicted, retired or expired) that have a retention.

        A claim ends after ``CLAIM_SECONDS``: what was not settled by then is given to the next, as *redelivered*. No
        two callers have a claim on one record at the same time. ``first`` is the id of one that ended this moment: a
        store that looks at a part of all looks where it is.
        """

    async def settle(self, record_id: bytes) -> None:
        """Remove an ended record: its end was told."""


class LiveUserStore(LiveStore, Protocol):
    """The verbs of ``UserStore`` as plain functions, for live objects.

    A login of another user than before puts a new record object in the old one's place, so that requests which hold the
    old one never become the user's. Instead of ``due`` and ``settle`` it has ``watch``.
    """

    def delete(self, record_id: bytes, reason: str = "invalidated") -> bool: ...
    def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome: ...
    def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool: ...
    def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]: ...
    def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]: ...
    def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]: ...
    def give(self, record_id: bytes, verifier: bytes, entries: Mapping[str, Any]) -> bool:
        """Keep entries beside the attributes, until they are taken. ``False`` as for ``update``.

        Of more than ``MOST_ENTRIES`` the first by name go. A login for which not all attributes stay drops them.
        """

    def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        """Remove and return entries that were given, as ``UserStore.take`` does attributes."""

    def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]: ...

    def watch(self, watcher: Any) -> None:
        """Call a method ``watcher(record, reason, is_over)`` for each record that ends, until its object is collected.

        One that is retired is told twice: at once, and when it is over.
        """
