"""What runs need of the conversation that they are runs of.

Rules of residence: protocols alone. Who fulfils them is ``handle`` and ``keeper``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from ..events import Event
from ..stores.logs import Entry, Log, Place, Position, Run

Fold = Callable[[list[Any]], Any]


class Bounds(Protocol):
    """The bounds on runs, of one middleware. Times are seconds."""

    @property
    def max_runs(self) -> int:
        """How many run in this process at once."""

    @property
    def max_seconds(self) -> float:
        """How long one may run."""

    @property
    def max_bytes(self) -> int:
        """How many bytes of frames one may have."""

    @property
    def abandon_after(self) -> float | None:
        """How long one runs that nobody in this process reads."""

    @property
    def linger(self) -> float:
        """How long the frames of one are kept after its end."""


class Values(Protocol):
    """Makes stored values of values, and back."""

    def pack(self, kind: str, log: Log | Run, position: Position, value: Any, count: int = 0) -> tuple[Any, int]:
        """Return what is stored at a position, and its size.

        :raises Exception: the codec does not keep it.
        """

    def unpack(self, kind: str, log: Log | Run, position: Position, value: Any, count: int = 0) -> Any:
        """Return what was stored.

        :raises Unreadable: another key, another codec, or foreign bytes.
        """


class Keys(Protocol):
    """Makes ids of the keys of requests."""

    def run_id(self, log: bytes, key: str) -> bytes:
        """Return the id of the run with this key: 16 bytes."""

    def key_digest(self, log: bytes, key: str) -> bytes:
        """Return the key of an entry: 16 bytes."""


class Events(Protocol):
    """The log."""

    def tell(self, event: Event, error: BaseException | None = None) -> None:
        """Tell one event; the traceback is logged, too."""


class Keeper(Protocol):
    """What the conversations of one middleware share. Hashed by identity."""

    events: Events
    fold: Fold | None
    retention: float | None

    @property
    def bounds(self) -> Bounds:
        """The bounds."""

    @property
    def values(self) -> Values:
        """What makes stored values."""

    @property
    def keys(self) -> Keys:
        """What makes ids."""

    @property
    def runs(self) -> Any:
        """The runs of this process on the store: ``runs_of(store, gap)``."""

    async def call(self, verb: str, *arguments: Any) -> Any:
        """Call a verb of ``LogStore``.

        :raises StoreError: it failed, or took too long.
        """


class Held(Protocol):
    """A session that is held: see ``Holding``."""

    def let_go(self) -> None:
        """Hold it no longer."""


class Known(Protocol):
    """A history that was reached."""

    @property
    def log(self) -> Log:
        """Which log it is."""

    @property
    def top(self) -> Position:
        """Its top, as far as it is known."""


class Handle(Protocol):
    """One conversation in the hands of one request, or of none."""

    @property
    def keeper(self) -> Keeper:
        """What it shares with others."""

    @property
    def places(self) -> Sequence[Place]:
        """Where it may be: one place for each key."""

    @property
    def guard(self) -> Callable[[], Awaitable[Any]] | None:
        """Returns when the session of the request has ended; ``None`` if there is no request."""

    @property
    def is_over(self) -> bool:
        """Whether the request has ended."""

    def hold(self) -> Held | None:
        """Hold the session for a run; ``None`` if it is not a session's conversation."""

    async def reached(self, make: bool) -> Known | None:
        """Find the conversation, or make it."""

    def entry_at(self, log: Log, position: Position, value: Any, key: bytes | None, run: bytes | None) -> Entry:
        """Return an entry of the history as it is stored.

        :raises Exception: the codec does not keep it.
        """

    def public(self, entry: Entry, log: Log) -> Any:
        """Return an entry as applications see it; ``None`` if it cannot be read."""
