"""The sessions of users: listed, and ended.

Rules of residence: what is asked of many sessions at once, outside of any. Nothing here returns what could log in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..crypto.tags import UserTags
from ..errors import ConfigError
from ..facts import Identity
from ..stores.base import Record
from .calls import Calls
from .packing import Packer, Unreadable

GUEST = Identity()
ID_DIGITS = 32


@dataclass(frozen=True)
class SessionInfo:
    """A session as lists show it. Times are in UTC. ``id`` is ``session.id``: public, nobody can log in with it."""

    id: str
    user: str | None
    label: str | None
    created_at: datetime
    last_accessed_at: datetime
    expires_at: datetime | None  # if it is not used again; ``None`` for never
    authenticated_at: datetime | None


class Directory:
    """Finds and ends the sessions of one middleware's users.

    :param packer: ``None`` for a live store.
    """

    def __init__(self, calls: Calls, packer: Packer | None, tags: UserTags) -> None:
        self.parts = calls, packer, tags
        self.on_revoked: list[Callable[[str], Awaitable[None]]] = []  # are told of a user whose sessions were revoked
        self._calls = calls
        self._packer = packer
        self._tags = tags

    async def of(self, user: str) -> list[SessionInfo]:
        """Return the live sessions of a user, the last used first, at most a thousand.

        :raises StoreError: the store failed.
        """
        found = await self._call("find", self._tags.of(user))
        shown = [(record_id, record, self._identity(record_id, record)) for record_id, record in found]
        return [
            _info(record_id, record, own) for record_id, record, own in shown if own is not None and own.user == user
        ]

    async def get(self, session_id: str) -> SessionInfo | None:
        """Return a session, a guest's too; ``None`` if there is none, or it cannot be read.

        :raises StoreError: the store failed.
        """
        found = await self._load(session_id)
        return None if found is None else _info(bytes.fromhex(session_id), *found)

    async def attributes(self, session_id: str) -> Mapping[str, Any] | None:
        """Return what is in a session; ``None`` as above.

        :raises StoreError: the store failed.
        """
        record_id = id_of(session_id)
        record = None if record_id is None else await self._call("load", record_id)
        if record is None or record_id is None:
            return None
        if self._packer is None:
            return dict(record.attributes)
        try:
            return self._packer.unpack(record_id, record)[0]
        except Unreadable:
            return None

    async def page(self, after: bytes | None = None, count: int = 100) -> tuple[list[SessionInfo], bytes | None]:
        """Return live sessions, anybody's, about ``count``, and where to go on; there ``None`` is the end.

        :raises StoreError: the store failed.
        """
        found, more = await self._call("page", after, count)
        shown = [(record_id, record, self._identity(record_id, record)) for record_id, record in found]
        return [_info(record_id, record, own) for record_id, record, own in shown], more

    async def revoke(self, session_id: str, user: str | None = None) -> bool:
        """End a session; return whether it was alive, and the user's if one is given.

        :raises StoreError: the store failed.
        """
        record_id = id_of(session_id)
        if record_id is None:
            return False
        if user is not None:
            found = await self._load(session_id)
            if found is None or found[1] is None or found[1].user != user:
                return False
        ended: bool = await self._call("delete", record_id, "revoked")
        if ended:
            self._calls.ended(record_id, "revoked")
        return ended

    async def revoke_user(self, user: str, keep: str | None = None) -> int:
        """End all sessions of a user but one; return how many that were.

        :raises StoreError: the store failed: call it again, it goes on where it stopped.
        """
        return len(await self.revoked(user, keep))

    async def revoked(self, user: str, keep: str | None) -> list[bytes]:
        """Do what ``revoke_user`` does; return the ids."""
        at = self._calls.clock()
        kept = None if keep is None else id_of(keep)
        ended: list[bytes] = await self._call("revoke", self._tags.of(user), kept, at)
        for record_id in ended:
            self._calls.ended(record_id, "revoked")
        for told in self.on_revoked:
            await told(user)
        return ended

    async def _call(self, verb: str, *arguments: Any) -> Any:
        if not self._calls.knows_users:
            raise ConfigError("the store keeps no sessions by user; it lacks the verbs of UserStore")
        return await self._calls.call(getattr(self._calls.verbs, verb), *arguments)

    async def _load(self, session_id: str) -> tuple[Record, Identity | None] | None:
        record_id = id_of(session_id)
        record = None if record_id is None else await self._call("load", record_id)
        if record is None or record_id is None:
            return None
        return record, self._identity(record_id, record)

    def _identity(self, record_id: bytes, record: Record) -> Identity | None:
        """Return whose a record is; ``None`` for what is not ours."""
        if self._packer is not None:
            try:
                self._packer.unpack(record_id, record)
            except Unreadable:
                return None
        own: Identity | None = record.extra.identity
        return own


def _info(record_id: bytes, record: Record, own: Identity | None) -> SessionInfo:
    own = own or GUEST
    return SessionInfo(
        id=record_id.hex(),
        user=own.user,
        label=own.label,
        created_at=_time(record.created_at),
        last_accessed_at=_time(record.accessed_at),
        expires_at=_end(min(record.accessed_at + record.idle_timeout, record.not_after)),
        authenticated_at=None if own.authenticated_at is None else _time(own.authenticated_at),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _end(seconds: float) -> datetime | None:
    try:
        return _time(seconds)
    except (OverflowError, ValueError):  # infinite, or beyond what a datetime holds
        return None


def id_of(session_id: str) -> bytes | None:
    """Return an id as stores have it; ``None`` for what is none, for ids come from clients, too."""
    if not isinstance(session_id, str) or len(session_id) != ID_DIGITS:
        return None
    try:
        record_id = bytes.fromhex(session_id)
    except ValueError:
        return None
    return record_id if 2 * len(record_id) == ID_DIGITS else None  # it passes over white space
