"""The ids of frames that clients hold: which run, and which frame of it.

Rules of residence: text to a cursor and back. Where it leads is not known here.

``1`` (the version), the first six bytes of the run's id in base64url, ``.``, the number of the frame. It comes back
from clients, so it may be anything. Whoever looks it up does so among the runs of one conversation of the caller's own.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import NamedTuple

_FORM = re.compile(r"1([A-Za-z0-9_-]{8})\.([0-9]{1,15})")


class Cursor(NamedTuple):
    """A place in a run: behind a frame, the first of which is number 1."""

    prefix: str
    seq: int

    def is_of(self, run: bytes) -> bool:
        """Return whether it is one of this run."""
        return self.prefix == prefix_of(run)


def prefix_of(run: bytes) -> str:
    """Return what names a run in a cursor."""
    return urlsafe_b64encode(run[:6]).decode()


def parse(text: object) -> Cursor | None:
    """Return the cursor that a client has sent; ``None`` if it is none."""
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else Cursor(found[1], int(found[2]))
