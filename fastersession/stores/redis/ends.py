"""Records that have ended and are kept, so that one worker tells of each.

Rules of residence: the verbs ``delete``, ``due`` and ``settle``, and the shards of what is to be looked at: sixteen
sorted sets, by the first digit of the id. A shard is a hint; whose a claim is stands in the record.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from ...errors import StoreError
from ..base import Record
from ..users import CLAIM_SECONDS, CLAIMED, Ended
from . import scripts as lua
from . import users_scripts as of_users
from .client import Client
from .link import pack
from .record import REASON, RECORD_ID, ended_record, number
from .route import SURE, Build
from .scanning import Scans

SHARDS = 16
BESIDE_SECONDS = 0.5  # for a shard, where something is claimed already: far below the 2 s that a call may take
GROUPS = 3  # of the others, five shards each, so that what each gives is at most what one call claims


def _shard(record_id: bytes) -> int:
    return record_id[0] >> 4


class Ends(Scans):
    """What a store does with records that have ended."""

    def __init__(self, client_or_url: Client | str, prefix: bytes, clock: Callable[[], float]) -> None:
        super().__init__(client_or_url, prefix, clock)
        self._next = os.getpid() % SHARDS  # so that the workers of one machine do not all look at one

    async def delete(self, record_id: bytes, reason: str = "invalidated") -> bool:
        """Remove. What was removed just before the connection was lost may be ``False``."""
        key = self._key(record_id)
        said = () if reason == "invalidated" else (reason.encode(),)
        reply = await self._ask(key, self._calling(lua.DELETE, (key,), *said), kind=SURE)
        outcome = self._listed(key, reply, 1, 3)
        self._over({record_id: outcome})
        await self._settled((key, outcome[0]))
        return bool(outcome[0])

    async def due(self, first: bytes | None = None) -> list[Ended]:
        """Claim in one shard, another one at each call. With ``first`` that, wherever it is filed, and in its shard.

        If that cannot be claimed, in the others too. Two round trips, one where nothing is to be looked at.
        """
        if first is None:
            self._next = (self._next + 1) % SHARDS
            return await self._claimed([self._next])
        shard = _shard(first)
        if claimed := await self._claimed_first(first):
            with suppress(StoreError, TimeoutError):  # of the shard's server: what is claimed must be told of
                async with asyncio.timeout(BESIDE_SECONDS):
                    claimed += await self._claimed([shard], CLAIMED - 1)
            return claimed
        others = [n for n in range(SHARDS) if n != shard]
        for shards in ([shard], *(others[start::GROUPS] for start in range(GROUPS))):
            if claimed := await self._claimed(shards):
                return claimed
        return []

    async def settle(self, record_id: bytes) -> None:
        await self._eval(record_id, of_users.SETTLE, kind=SURE)
        self._tell(self._due_key(_shard(record_id)), b"ZREM", self._due_key(_shard(record_id)), record_id)

    # --- how they work ---

    def _due_key(self, shard: int) -> bytes:
        return b"%b{due:%d}" % (self._prefix, shard)

    def _index(self, tag: bytes) -> bytes:
        return b"%b{u:%b}" % (self._prefix, tag.hex().encode())

    async def _armed(self, record_id: bytes, record: Record, writing: Coroutine[Any, Any, int]) -> int:
        """Write a record, and where its end is to be told, before it, when to look at it."""
        if record.extra.retention is None:
            return await writing
        end = min(record.accessed_at + record.idle_timeout, record.not_after)
        key = self._due_key(_shard(record_id))
        arming = self._ask(key, lambda *_: pack((b"ZADD", key, number(end), record_id)))
        written: int
        _, written = await asyncio.gather(arming, writing)
        return written

    def _over(self, outcomes: dict[bytes, list[Any]], at: float | None = None) -> None:
        """Take records that have ended out of the indexes, and have those looked at that are kept, now or ``at``.

        What of this is lost is made good later: an index names no dead for long, and a shard looks at its time.
        A record that had ended before is among them, too: the first reply may have been lost.
        """
        gone: dict[bytes, list[bytes]] = {}
        kept: dict[int, list[bytes]] = {}
        when = number(self.clock() if at is None else at)
        for record_id, (_, *more) in outcomes.items():
            if more and more[0]:
                gone.setdefault(more[0], []).append(record_id)
            if more and more[1]:
                kept.setdefault(_shard(record_id), []).extend((when, record_id))
        for tag, ids in gone.items():
            self._unlist(tag, ids)
        for shard, pairs in kept.items():
            self._file(shard, *pairs)

    def _file(self, shard: int, *pairs: bytes) -> None:
        """Have records of a shard looked at: of each, when, and its id."""
        self._tell(self._due_key(shard), b"ZADD", self._due_key(shard), *pairs)

    def _unlist(self, tag: bytes, record_ids: Iterable[bytes]) -> None:
        self._tell(self._index(tag), b"ZREM", self._index(tag), *record_ids)

    async def _claimed_first(self, record_id: bytes) -> list[Ended]:
        """Claim a record, and file it for who comes if this process dies before it has told of it."""
        later = number(self.clock() + CLAIM_SECONDS)
        (reply,) = await self._ask_all(self._claims([record_id], later))
        ended, _ = self._claim(record_id, reply)
        if ended is None:
            return []
        self._file(_shard(record_id), later, record_id)
        return [ended]

    async def _claimed(self, shards: list[int], most: int = CLAIMED) -> list[Ended]:
        later = number(self.clock() + CLAIM_SECONDS)
        keys = [self._due_key(shard) for shard in shards]
        each = b"%d" % (most // len(shards))
        sweeps = [(key, self._calling(of_users.SWEEP, (key,), each, later)) for key in keys]
        swept = [self._with_ids(key, reply)[1] for key, reply in zip(keys, await self._ask_all(sweeps), strict=True)]
        ids = [record_id for found in swept for record_id in found]
        claimed = list[Ended]()
        rearmed: dict[int, list[bytes]] = {}
        for record_id, reply in zip(ids, await self._ask_all(self._claims(ids, later)), strict=True):
            ended, at = self._claim(record_id, reply)
            if ended is not None:
                claimed.append(ended)
            else:
                rearmed.setdefault(_shard(record_id), []).extend((record_id, at))
        again = [(self._due_key(shard), pairs) for shard, pairs in rearmed.items()]
        await self._ask_all([(key, self._calling(of_users.REARM, (key,), later, *pairs)) for key, pairs in again])
        return claimed

    def _claims(self, ids: list[bytes], later: bytes) -> list[tuple[bytes, Build]]:
        call = os.urandom(8)
        return [(key, self._calling(of_users.CLAIM, (key,), later, call)) for key in map(self._key, ids)]

    def _claim(self, record_id: bytes, reply: Any) -> tuple[Ended | None, bytes]:
        """Return what was claimed, or when to look again, nothing for never."""
        match reply:
            case int():
                return None, b""
            case [1, bytes(until)]:
                return None, until
            case [0, bytes(accessed), bytes(idle), bytes(end)]:
                return None, number(min(float(accessed) + float(idle), float(end)))
            case [2, bytes(again), list(parts)]:
                fields = dict(zip(parts[::2], parts[1::2], strict=True))
                if fields.get(RECORD_ID) == record_id:
                    try:
                        return Ended(record_id, ended_record(fields), fields[REASON].decode(), bool(again)), b""
                    except (ValueError, KeyError):  # it is not one of ours
                        return None, b""
        raise self._out_of_step(self._key(record_id))
