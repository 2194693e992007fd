"""Sessions in Redis or Valkey: one server, one behind Sentinel, or a Cluster.

Rules of residence: the contract ``Store`` over commands of Redis, and what a user of the store sees. What it does for
users is in ``users``. How commands read is in ``commands``, how they travel in ``sending`` and ``link``, where to in
``route``, what the server does with them in ``scripts``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ...errors import ConfigError, StoreError
from ..base import NOTHING_MORE, Change, Record

try:
    from redis.asyncio import Redis, RedisCluster

    from . import scripts as lua
    from .client import Client, client_of
    from .commands import creation, merge
    from .record import RECORD_ID, number, to_record
    from .users import Users
except ImportError as missing:
    raise ImportError('RedisStore needs redis-py and hiredis: pip install "fastersession[redis]"') from missing

if TYPE_CHECKING:
    from .logs import RedisLogs


class RedisStore(Users):
    """Keeps sessions in Redis 7.0 or newer (or Valkey), which many processes on many machines may share.

    A session is one hash under ``{prefix}{{record id}}``: with the default prefix and in hex, ``fs:{0123...}``. The
    braces are part of the key: on a Cluster they keep all keys of a session in one slot. A second key with ``:hold``
    at its end exists only while a large value is being written. Metadata are fields of one letter, attributes fields
    ``a`` + name. The server removes a session by itself, a minute after its end.

    Reading is one command and one round trip, a save is another: a script, or for more than 1 KB of changes a
    transaction, so that large values go through no script. A script is called by its digest (EVALSHA), and sent
    (EVAL) to a server that does not know it, or refuses EVALSHA. Deletions, regenerations, logins and revocations
    wait, for 100 ms at most, until a replica has them, where there is one.

    Of a user there are two keys more, which share a slot: ``{prefix}{u:TAG}``, his index, a sorted set of record ids by
    the last moment to which each may live, and ``{prefix}{u:TAG}:m``, his mark, which the server removes after a month.
    A login takes two round trips: it writes the session, and then enters it in the index, where mark and limit are
    looked at in the same step. Whatever ends a session takes it out of the index afterwards; what was left there by a
    process that died goes with the next look, or when its time is over. Sessions whose end is to be told are kept as
    ended, and ``{prefix}{due:0}`` to ``{due:15}`` say when to look at which. Where nobody logs in, nothing of this is
    there, and no command for it is needed: the first login checks that the account may call them, and warns
    (``redis.evicts``) if the server's ``maxmemory-policy`` is not ``noeviction``, for then it may forget an index.

    Connections: up to three per process and server, shared by all tasks, made when first needed: one for all small
    commands, one for values above 64 KB, one for what waits for a replica. They are made the way the client's own
    pool makes them (password, TLS, database, Sentinel), but do not come out of its ``max_connections``. A server that
    is silent for 1 s is given up; what was asked is asked again twice, within the 2 s that one store call may take.
    No verb can leave a half-done save or spoil a connection by being cancelled: it may be carried out all the same.

    :param client_or_url: a ``redis.asyncio.Redis`` (from a Sentinel's ``master_for`` too), a
        ``redis.asyncio.RedisCluster``, or a URL: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``,
        ``rediss+cluster://``, with the options that redis-py takes in it. A client that is given is never closed here.
    :param prefix: what all keys start with, at least one character, without braces. Two stores with different
        prefixes in one database never meet.
    :param clock: returns the time in seconds since the epoch, by which sessions end. The server's clock is not used.
    :raises ConfigError: an argument is none of these.
    """

    live = None

    def __init__(
        self, client_or_url: Client | str, *, prefix: str = "fs:", clock: Callable[[], float] = time.time
    ) -> None:
        if not isinstance(client_or_url, str | Redis | RedisCluster):
            raise ConfigError("store: give a URL, or a Redis or RedisCluster of redis.asyncio")
        if not isinstance(prefix, str) or not prefix or re.search("[{}]", prefix):
            raise ConfigError("prefix: must be a non-empty str without braces")
        if not callable(clock):
            raise ConfigError("clock: must be a function that returns seconds, like time.time")
        if isinstance(client_or_url, str):
            client_of(client_or_url)  # the one that is used is made in the event loop, at the opening
        super().__init__(client_or_url, prefix.encode("utf-8", "surrogatepass"), clock)

    async def open(self) -> None:
        """Connect, and check the server. A verb that finds the store closed does the same.

        :raises StoreError: the server cannot be reached, or refuses the password or a command.
        :raises ConfigError: the server is too old, or a cluster's node and the client is not a cluster's.
        """
        await self._opened()

    async def close(self) -> None:
        """Close every connection that was made here, after a second at most for what was sent last and nobody awaits.

        The store can be opened again.
        """
        route, client, telling = self._route, self._client, self._telling
        self._route = self._client = self._telling = None
        if route is not None and telling is not None and route.loop is asyncio.get_running_loop():
            await telling.close()
            await route.close()
        if client is not None and client is not self._given:
            await client.aclose()
        loop = asyncio.get_running_loop()
        for keeper in [keeper for keeper in self._keepers if keeper.get_loop() is loop]:
            keeper.cancel()
            await asyncio.wait((keeper,))

    @cached_property
    def logs(self) -> RedisLogs:
        """The conversations that this store keeps."""
        from .logs import RedisLogs
        from .logs_wire import Means

        return RedisLogs(
            Means(
                self._prefix, self.clock, self._calling, self._ask, self._ask_all, self._tell, self._settled,
                self._opened, self._out_of_step,
            )
        )  # fmt: skip

    async def load(self, record_id: bytes) -> Record | None:
        """Read, in one round trip, without a write."""
        key = self._key(record_id)
        command = b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)
        reply = await self._ask(key, lambda *_: command)
        try:
            fields = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        except (TypeError, ValueError):
            raise self._out_of_step(key) from None
        if fields.get(RECORD_ID, record_id) != record_id:
            raise self._out_of_step(key)
        try:
            return to_record(fields, self.clock())
        except (ValueError, KeyError):
            raise StoreError("Redis: the record is not one of ours") from None  # the cause would quote it

    async def create(self, record_id: bytes, record: Record) -> bool:
        """Insert. What finds its own verifier after a lost connection has succeeded."""
        key = self._key(record_id)
        writing = self._write(key, creation(key, record_id, record, self.clock()))
        return bool(await (writing if record.extra is NOTHING_MORE else self._armed(record_id, record, writing)))

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Merge, in one round trip. Sends what has changed and some 250 bytes."""
        if change.renewal is not None:
            return await self._renewed(record_id, verifier, change, change.renewal)
        key, scripts = self._key(record_id), (lua.UPDATE, lua.FINISH_UPDATE)
        return bool(await self._write(key, merge(key, scripts, self.clock(), verifier, change)))

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return bool(await self._eval(record_id, lua.TOUCH, verifier, number(accessed_at)))

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """Replace and merge. What finds the new verifier after a lost connection has succeeded."""
        key, scripts = self._key(record_id), (lua.REGENERATE, lua.FINISH_REGENERATE)
        write = merge(key, scripts, self.clock(), verifier, change, new_verifier, number(not_after))
        outcome = await self._write(key, write)
        await self._settled((key, outcome))
        return bool(outcome)

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        until = number(self.clock() + seconds)
        return bool(await self._eval(record_id, lua.LOCK, verifier, owner, until))

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return bool(await self._eval(record_id, lua.UNLOCK, owner))
