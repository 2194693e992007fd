"""What an application may say of all its conversations.

Rules of residence: arguments, their bounds and their checks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..session import seconds

MIN_BYTES = 64 * 1024
Fold = Callable[[list[Any]], Any]


class Bounds(NamedTuple):
    """Bounds on runs. Times are seconds, sizes bytes."""

    max_runs: int
    max_seconds: float
    abandon_after: float | None
    linger: float
    max_bytes: int


@dataclass(frozen=True, kw_only=True)
class ConversationOptions:
    """Bounds on conversations and runs, for the argument ``conversations`` of the middleware.

    :param fold: makes the answer that enters the history of a list of a run's frames, as they were yielded. It is for
        all runs, so that a worker can keep the answer of another one that was killed; ``None``: none is made.
    :param retention: seconds or ``timedelta`` after its last entry for which a user's conversation is kept; ``None``
        for until it is deleted. A session's ends with the session.
    :param max_runs: runs of one process at a time; what is above is ``Busy`` (503).
    :param max_seconds: seconds or ``timedelta`` after which a run has failed.
    :param abandon_after: seconds or ``timedelta`` without any reader in the process that produces it after which
        a run is cancelled; ``None``: never.
    :param linger: seconds or ``timedelta`` for which the frames of a run that has ended can be read.
    :param max_bytes: of the frames of one run; with more it has failed. At least 64 KiB.
    :param min_gap: seconds between two writes of the frames of a run; ``None``: 0.03, in SQL databases 0.1.
    :raises ConfigError: values that cannot work, all named in one text.
    """

    fold: Fold | None = None
    retention: float | timedelta | None = None
    max_runs: int = 1000
    max_seconds: float | timedelta = 1800
    abandon_after: float | timedelta | None = None
    linger: float | timedelta = 600
    max_bytes: int = 4 * 2**20
    min_gap: float | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.fold is not None and not callable(self.fold):
            faults.append("fold: must be a function that takes a list of frames")
        for name in ("retention", "max_seconds", "abandon_after", "linger", "min_gap"):
            optional = name not in ("max_seconds", "linger")
            given = getattr(self, name)
            if not (optional and given is None) and seconds(given) is None:
                faults.append(f"{name}: must be a positive number of seconds" + (", or None" if optional else ""))
        for name, least in (("max_runs", 1), ("max_bytes", MIN_BYTES)):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                faults.append(f"{name}: must be a whole number of at least {least}")
        if faults:
            raise ConfigError("\n".join(faults))

    def bounds(self) -> Bounds:
        """Return the bounds on runs, in seconds and bytes."""
        longest, lingers = seconds(self.max_seconds), seconds(self.linger)
        assert longest is not None  # noqa: S101 - it was checked
        assert lingers is not None  # noqa: S101
        abandoned = None if self.abandon_after is None else seconds(self.abandon_after)
        return Bounds(self.max_runs, longest, abandoned, lingers, self.max_bytes)

    def keep(self) -> float | None:
        """Return the retention in seconds."""
        return None if self.retention is None else seconds(self.retention)
