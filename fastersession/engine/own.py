"""The sessions of users in the hands of one request, whose own may be among them.

Rules of residence: what a request's handler asks of the directory, and what that means for the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .directory import Directory, id_of


class Request(Protocol):
    """The request that asks."""

    host: Any
    record_id: bytes | None
    session: Any


class OwnDirectory(Directory):
    """A directory whose request may end its own session, too: that is a logout."""

    def __init__(self, directory: Directory, request: Request) -> None:
        super().__init__(*directory.parts)
        self.on_revoked = directory.on_revoked
        self._request = request

    async def revoke(self, session_id: str, user: str | None = None) -> bool:
        """See ``Sessions.revoke``."""
        with self._sparing():
            ended = await super().revoke(session_id, user)
            self._log_out([id_of(session_id)] if ended else [])
        return ended

    async def revoked(self, user: str, keep: str | None) -> list[bytes]:
        """Do what ``revoke_user`` does; return the ids."""
        with self._sparing():
            ended = await super().revoked(user, keep)
            self._log_out(ended)
        return ended

    def _sparing(self) -> AbstractContextManager[None]:
        """Let the request go on: the watch may find its session ended before the directory has returned."""
        sparing: AbstractContextManager[None] = self._request.host.runs.watch.sparing(self._request)
        return sparing

    def _log_out(self, ended: Sequence[bytes | None]) -> None:
        """Log the request out if its session is among those that were ended, so that its answer clears the cookie."""
        request = self._request
        if request.record_id in ended and request.session is not None:  # else it has no record, or is over
            request.session.invalidate()
