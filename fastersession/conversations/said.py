"""What is said about a conversation: whose it is, its name, its title, and the application's own words.

Rules of residence: one value of the store, and back.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..engine.packing import Unreadable
from ..stores.logs import ORIGIN, Log
from .values import LiveValues, Values

MOST_TITLE = 255  # characters
MOST_METADATA = 16 * 1024  # bytes of JSON


class Said(NamedTuple):
    """What is said about one conversation."""

    user: str | None
    name: str
    title: str | None = None
    metadata: dict[str, Any] = {}  # noqa: RUF012 - never written to

    def packed(self, values: Values | LiveValues, log: Log) -> Any:
        """Return it as the store keeps it.

        :raises ValueError: the metadata are no JSON, or longer than 16 KB.
        """
        try:
            size = len(json.dumps(self.metadata, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise ValueError("set(): metadata must be JSON") from None
        if size > MOST_METADATA:
            raise ValueError(f"set(): metadata are {size} bytes of JSON, and may be {MOST_METADATA}")
        return values.pack("about", log, ORIGIN, self._asdict())[0]

    @classmethod
    def read(cls, values: Values | LiveValues, log: Log, stored: Any) -> Said | None:
        """Return what the store has; ``None`` if it is none of ours."""
        try:
            said = values.unpack("about", log, ORIGIN, stored)
            return cls(said["user"], said["name"], said["title"], said["metadata"])
        except (Unreadable, TypeError, KeyError):
            return None
