"""The indexes of users and their marks, and the records that an index names.

Rules of residence: what is asked of an index, and of many records at once. No verb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import TryAgainError

from ...errors import StoreError
from ..users import Login
from . import scripts as lua
from . import users_scripts as of_users
from .ends import Ends
from .link import pack
from .record import ACCESSED, IDLE, NOT_AFTER, RECORD_ID, USER, VERIFIER, is_over, number
from .route import SURE

ALIVE = RECORD_ID, VERIFIER, ACCESSED, IDLE, NOT_AFTER


class Index(Ends):
    """What a store keeps of users beside their records."""

    async def _at(
        self, tag: bytes, script: lua.Script, record_id: bytes, login: Login, *more: bytes
    ) -> tuple[int, list[bytes] | None]:
        """Run LOOK or CONFIRM: what it says, and the ids if it says any. 0 and none for a login that was revoked."""
        index = self._index(tag)
        asked = record_id, number(login.authenticated_at), b"1" if login.strictly else b""
        try:
            reply = await self._of_user(script, (index, _mark_of(index)), *asked, *more)
        except StoreError as error:
            if not isinstance(error.__cause__, TryAgainError):
                raise
            reply = await self._of_user(script, (index,), *asked, *more)
            if not self._outcome(index, await self._of_user(of_users.MARKED, (_mark_of(index),), *asked)):
                return 0, None
        return self._with_ids(index, reply) if isinstance(reply, list) else (self._outcome(index, reply), None)

    async def _members(self, tags: Sequence[bytes], now: float) -> list[list[bytes]]:
        """Return whom each index names."""
        indexes = [self._index(tag) for tag in tags]
        asks = [(index, command(b"ZRANGEBYSCORE", index, b"(" + number(now), b"+inf")) for index in indexes]
        replies = await self._ask_all(asks)
        for index, reply in zip(indexes, replies, strict=True):
            if not isinstance(reply, list):
                raise self._out_of_step(index)
        return replies

    async def _mark(self, index: bytes, *asked: bytes) -> tuple[int, list[bytes]]:
        """Run REVOKE."""
        try:
            reply = await self._of_user(of_users.REVOKE, (index, _mark_of(index)), *asked)
        except StoreError as error:
            if not isinstance(error.__cause__, TryAgainError):
                raise
            self._outcome(index, await self._of_user(of_users.MARK, (_mark_of(index),), *asked))
            reply = await self._of_user(of_users.REVOKE, (index,), *asked)
        return self._with_ids(index, reply)

    async def _of_user(self, script: lua.Script, keys: tuple[bytes, ...], *arguments: bytes) -> Any:
        return await self._ask(keys[0], self._calling(script, keys, *arguments), kind=SURE)

    async def _end(self, record_ids: Iterable[bytes], reason: str, tags: Sequence[bytes]) -> dict[bytes, int]:
        """Delete records that are a user's. Return those that were alive, and what the script said."""
        ids = list(record_ids)
        keys = [self._key(record_id) for record_id in ids]
        deletes = [(key, self._calling(lua.DELETE, (key,), reason.encode(), *tags)) for key in keys]
        replies = zip(ids, keys, await self._ask_all(deletes), strict=True)
        outcomes = {record_id: self._listed(key, reply, 1, 3) for record_id, key, reply in replies}
        self._over(outcomes)
        return {record_id: outcome[0] for record_id, outcome in outcomes.items() if outcome[0]}

    async def _alive(self, members: Mapping[bytes, bytes], tags: Sequence[bytes]) -> dict[bytes, tuple[bytes, float]]:
        """Return those members of indexes that live and are the user's, with the tag of the index and the last access.

        The others are taken out.
        """
        now, alive, over = self.clock(), dict[bytes, tuple[bytes, float]](), list[bytes]()
        for record_id, fields in (await self._read(members, (*ALIVE, USER))).items():
            if fields.get(USER) not in tags:
                self._unlist(members[record_id], [record_id])
                continue
            if not is_alive(fields, now):
                over.append(record_id)
            alive[record_id] = members[record_id], float(fields[ACCESSED])
        # What has expired by this clock could still be touched by a worker whose clock is behind: so it ends for good.
        ends = [(key, self._calling(of_users.OVER, (key,))) for key in map(self._key, over)]
        for record_id, is_gone in zip(over, await self._ask_all(ends), strict=True):
            if is_gone:
                self._unlist(alive.pop(record_id)[0], [record_id])
        return alive

    async def _read(self, record_ids: Iterable[bytes], names: tuple[bytes, ...]) -> dict[bytes, dict[bytes, bytes]]:
        """Return those of these fields that each record has. The id is one of them."""
        ids = list(record_ids)
        keys = [self._key(record_id) for record_id in ids]
        found = {}
        asks = [(key, command(b"HMGET", key, *names)) for key in keys]
        for record_id, key, reply in zip(ids, keys, await self._ask_all(asks), strict=True):
            if not isinstance(reply, list) or len(reply) != len(names) or reply[0] not in (None, record_id):
                raise self._out_of_step(key)
            found[record_id] = {name: value for name, value in zip(names, reply, strict=True) if value is not None}
        return found


def _mark_of(index: bytes) -> bytes:
    return index + b":m"


def is_alive(fields: Mapping[bytes, bytes], now: float) -> bool:
    """Return whether fields are those of a live record."""
    try:
        return VERIFIER in fields and not is_over(fields[ACCESSED], fields[IDLE], fields[NOT_AFTER], now)
    except (ValueError, KeyError):
        raise StoreError("Redis: the record is not one of ours") from None  # the cause would quote it


def command(*words: bytes) -> Callable[[bytes, bool], bytes]:
    """Return what packs a command that is the same at each try."""
    packed = pack(words)
    return lambda *_: packed
