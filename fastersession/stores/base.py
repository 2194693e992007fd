"""The two contracts between the engine and stores: ``Store`` for coroutines, ``LiveStore`` for plain functions.

Rules of residence: types and docstrings, no behaviour. Concrete stores import this module and their driver only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

AHEAD = 60.0  # seconds: clocks that are kept by NTP differ by less; what is further ahead was written by a wrong one
AHEAD_TEXT = (
    "the last access to a session lies more than a minute ahead: this machine's clock was set back, or another one's "
    "runs ahead; such sessions do not idle out before that time has come, and then after their idle timeout"
)


class Extra(NamedTuple):
    """What few records say; see ``UserStore``."""

    tag: bytes | None = None  # of the user who is logged in
    retention: float | None = None  # seconds for which the record is kept when it has ended, to be told of
    identity: Any = None  # what the engine knows of the user; no store of bytes keeps it
    entries: Mapping[str, Any] | None = None  # what a live record keeps beside its attributes


NOTHING_MORE = Extra()


class Record:
    """One session as a store keeps it. Times are seconds of the store's clock.

    The constructor makes a new one: of version 1, last accessed when it was created, never regenerated.
    ``attributes`` is never changed in place: a store publishes a new mapping at each update, so who holds a record
    may read it without a lock. ``requests`` and ``sockets`` count what runs on this record object in this process.
    The engine counts, and a live store spares the records in use.

    ``verifier_before`` is the verifier that the last regeneration replaced, ``None`` if there was none; see ``Store``.
    """

    __slots__ = (
        "accessed_at", "attributes", "created_at", "extra", "idle_timeout", "not_after", "regenerated_at", "requests",
        "sockets", "verifier", "verifier_before", "version",
    )  # fmt: skip

    def __init__(
        self,
        verifier: bytes,
        created_at: float,
        idle_timeout: float,
        not_after: float,
        attributes: Mapping[str, Any],
        extra: Extra = NOTHING_MORE,
    ) -> None:
        self.verifier = verifier
        self.verifier_before: bytes | None = None
        self.regenerated_at: float | None = None
        self.extra = extra
        self.created_at = created_at
        self.accessed_at = created_at
        self.idle_timeout = idle_timeout
        self.not_after = not_after
        self.version = 1
        self.attributes = attributes
        self.requests = 0
        self.sockets = 0


class Renewal(NamedTuple):
    """A new absolute end of a record. ``until`` is the last moment to which it may be moved again."""

    not_after: float
    until: float
    identity: Any = None  # of a live record, which keeps it


class Change(NamedTuple):
    """What one save adds to a record: attributes to set and to delete, by name, and nothing else is touched.

    A name in both is deleted. ``idle_timeout`` is ``None`` when it stays as it is. ``accessed_at`` never moves a
    record's own back. ``lease`` is the owner of the lease that the save is made under, ``None`` outside of any.
    ``renewal`` moves the absolute end, and is for the record's own verifier only: see ``UserStore``.
    """

    accessed_at: float
    sets: Mapping[str, Any] = MappingProxyType({})
    deletes: tuple[str, ...] = ()
    idle_timeout: float | None = None
    lease: bytes | None = None
    renewal: Renewal | None = None

    def __repr__(self) -> str:
        return f"<Change sets={list(self.sets)!r} deletes={list(self.deletes)!r}>"  # names, never values


class Store(Protocol):
    """Keeps sessions under their public record id (16 bytes). Every verb is a coroutine.

    Outcomes are returned; exceptions mean that the system failed (connection, disk), never that a session is absent.
    A record is *absent* when it was never created, was deleted, or has expired: at ``accessed_at + idle_timeout`` or
    at ``not_after``, whichever comes first. No verb but ``create`` makes a record appear, so a late save can never
    revive a session that was logged out. Every verb is atomic, and may be called concurrently for one record.

    A verifier is a caller's proof that it may write. ``update``, ``touch`` and ``lock`` take the record's own, or *the
    verifier before*: the one that the last ``regenerate`` replaced, so that requests which had loaded the session
    before it can finish. It is one generation, the next ``regenerate`` forgets it; ``regenerate`` itself takes the
    record's own only. A store that keeps none (``verifier_before`` of its records is ``None``) loses what such requests
    write. Where older releases write to the same records, what they leave of it must open nothing: keep the verifier
    that came after it beside it, and let it count only while that is the record's own.

    The middleware gives it attributes as bytes, and the SHA-256 of the secret as ``verifier``.
    """

    clock: Callable[[], float]  # returns the time in seconds since the epoch

    @property
    def live(self) -> LiveStore | None:
        """The same sessions as live objects in this process, or ``None``, as for every store outside of it.

        Asked when a middleware is made, and not again. Where there is one, it is called instead of the coroutines.
        """

    async def open(self) -> None:
        """Make ready for use. Called at lifespan startup, else at the first use, and in each further event loop.

        A second call does nothing.
        """

    async def close(self) -> None:
        """Release what ``open`` took. Called at lifespan shutdown, after the last save."""

    async def load(self, record_id: bytes) -> Record | None:
        """Return the record, ``None`` if it is absent. Reading does not count as an access: see ``touch``."""

    async def create(self, record_id: bytes, record: Record) -> bool:
        """Insert a new record. Return ``False``, and change nothing, if the id is taken.

        The record stays the caller's, who may change its fields later: keep another object, or its fields.
        """

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Merge a change into the record as it is now, whose version grows by one.

        Return ``False``, and change nothing, if the record is absent, if ``verifier`` is neither its own nor the one
        before (its secret was regenerated twice since the caller loaded it), or if ``change.lease`` is given and the
        lease is not that owner's any more. A save without a lease is never held up by somebody else's.
        """

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        """Move ``accessed_at`` forward, never back, writing no data. ``False`` as for ``update``."""

    async def delete(self, record_id: bytes) -> bool:
        """Remove the record, whatever its verifier: a logout always wins. ``False`` if it was absent."""

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """Replace the verifier and merge a change, in one step, if ``verifier`` is still the record's own.

        ``not_after`` is the record's new absolute end. ``regenerated_at`` becomes ``change.accessed_at``, the version
        grows by one, a lease stays its owner's; ``verifier`` is the verifier before from here on. ``False`` as for
        ``update``, and if ``verifier`` is only the one before: of two that race, one gets ``True``.
        """

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        """Take the record's lease for ``owner`` (16 random bytes) if it is free, expired, or the owner's own already.

        It ends by itself ``seconds`` from now, by the store's clock. ``False`` if somebody else holds it, or as for
        ``update``. The caller tells the two apart by loading.
        """

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        """Give the lease back if it is still the owner's: compare and delete in one step.

        ``False`` if it is not, or has ended, for then it is nobody's.
        """

    async def purge(self) -> int:
        """Remove what has expired by now and return how many that were."""


class LiveStore(Protocol):
    """Keeps the very objects in this process. Its verbs are plain functions, and never suspend.

    What the verbs of ``Store`` say of outcomes, absence and verifiers holds here too. The attributes are the
    application's objects, and ``verifier`` is the secret itself. A record that ``load`` returns is the one in the
    store: it shows what is saved later, and the engine counts on it what runs.
    """

    record_type: type[Record]  # the class of its records; the constructor takes what ``Record`` takes

    def load(self, record_id: bytes) -> Record | None:
        """Return the record itself, ``None`` if it is absent."""

    def create(self, record_id: bytes, record: Any) -> bool:
        """Insert this very object, a new ``record_type``. Return ``False``, and change nothing, if the id is taken."""

    def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Merge a change into the record, as ``Store.update`` does."""

    def swap(
        self, record: Any, verifier: bytes, base: Mapping[str, Any], content: Mapping[str, Any], now: float
    ) -> bool:
        """Publish ``content`` as the attributes of a loaded record, accessed ``now``. Its version grows by one.

        For a save that has nothing to merge with, and is made under no lease. Return ``False``, and change nothing,
        unless the record is alive, ``verifier`` is the very object that is its own, and ``base`` the very mapping of
        its attributes. ``False`` is no refusal: it may be returned for any reason, and ``update`` decides.
        """

    def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        """Move ``accessed_at`` forward, as ``Store.touch`` does."""

    def delete(self, record_id: bytes) -> bool:
        """Remove the record, as ``Store.delete`` does."""

    def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """Replace the verifier and merge a change, as ``Store.regenerate`` does."""

    def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        """Take the record's lease, as ``Store.lock`` does."""

    def unlock(self, record_id: bytes, owner: bytes) -> bool:
        """Give the lease back, as ``Store.unlock`` does."""
