"""Sessions in Redis or Valkey: one server, one behind Sentinel, or a Cluster.

Rules of residence: the store contract over commands of Redis, and what a user of the store sees. How commands read is
in ``commands``, how they travel in ``link``, where to in ``route``, what the server does with them in ``scripts``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from ...errors import ConfigError, StoreError
from ..base import Change, Record

try:
    from redis.asyncio import Redis, RedisCluster
    from redis.exceptions import TryAgainError

    from ..words import shown
    from . import scripts as lua
    from .commands import Write, creation, merge
    from .link import pack
    from .record import RECORD_ID, number, to_record
    from .route import BULK, FAILED, FAST, SURE, Build, Client, Node, Route, client_of
    from .scripts import evaluation
except ImportError as missing:
    raise ImportError('RedisStore needs redis-py and hiredis: pip install "fastersession[redis]"') from missing

SMALL = 1024  # bytes of changes that go through a script: Lua costs the server 1 µs per KB, MULTI 60 µs of ours
LARGE = 65_536  # bytes that travel apart, so that they hold nothing else up
SCAN = 500  # keys looked at in one step of purge(): about a millisecond of the server's


class RedisStore:
    """Keeps sessions in Redis 7.0 or newer (or Valkey), which many processes on many machines may share.

    A session is one hash under ``{prefix}{{record id}}``: with the default prefix and in hex, ``fs:{0123...}``. The
    braces are part of the key: on a Cluster they keep all keys of a session in one slot. A second key with ``:hold``
    at its end exists only while a large value is being written. Metadata are fields of one letter, attributes fields
    ``a`` + name. The server removes a session by itself, a minute after its end.

    Reading is one command and one round trip, a save is another: a script, or for more than 1 KB of changes a
    transaction, so that large values go through no script. A script is called by its digest (EVALSHA), and sent
    (EVAL) to a server that does not know it, or refuses EVALSHA. Deletions and regenerations wait, for 100 ms at most,
    until a replica has them, where there is one.

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
        self.clock = clock
        self._given = client_or_url
        self._prefix = prefix.encode("utf-8", "surrogatepass")
        self._client: Client | None = None
        self._route: Route | None = None
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._keepers: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect, and check the server. A verb that finds the store closed does the same.

        :raises StoreError: the server cannot be reached, or refuses the password or a command.
        :raises ConfigError: the server is too old, or a cluster's node and the client is not a cluster's.
        """
        await self._opened()

    async def close(self) -> None:
        """Close every connection that was made here. The store can be opened again."""
        route, client = self._route, self._client
        self._route = self._client = None
        if route is not None and route.loop is asyncio.get_running_loop():
            await route.close()
        if client is not None and client is not self._given:
            await client.aclose()
        loop = asyncio.get_running_loop()
        for keeper in [keeper for keeper in self._keepers if keeper.get_loop() is loop]:
            keeper.cancel()
            await asyncio.wait((keeper,))

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
        return bool(await self._write(key, creation(key, record_id, record, self.clock())))

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        """Merge, in one round trip. Sends what has changed and some 250 bytes."""
        key, scripts = self._key(record_id), (lua.UPDATE, lua.FINISH_UPDATE)
        return bool(await self._write(key, merge(key, scripts, self.clock(), verifier, change)))

    async def touch(self, record_id: bytes, verifier: bytes, accessed_at: float) -> bool:
        return bool(await self._eval(record_id, lua.TOUCH, verifier, number(accessed_at)))

    async def delete(self, record_id: bytes) -> bool:
        """Remove. What was removed just before the connection was lost may be ``False``."""
        return await self._surely(record_id, await self._eval(record_id, lua.DELETE, kind=SURE))

    async def regenerate(
        self, record_id: bytes, verifier: bytes, new_verifier: bytes, not_after: float, change: Change
    ) -> bool:
        """Replace and merge. What finds the new verifier after a lost connection has succeeded."""
        key, scripts = self._key(record_id), (lua.REGENERATE, lua.FINISH_REGENERATE)
        write = merge(key, scripts, self.clock(), verifier, change, new_verifier, number(not_after))
        return await self._surely(record_id, await self._write(key, write))

    async def lock(self, record_id: bytes, verifier: bytes, owner: bytes, seconds: float) -> bool:
        until = number(self.clock() + seconds)
        return bool(await self._eval(record_id, lua.LOCK, verifier, owner, until))

    async def unlock(self, record_id: bytes, owner: bytes) -> bool:
        return bool(await self._eval(record_id, lua.UNLOCK, owner))

    async def purge(self) -> int:
        """Remove what has expired. Never needed: the server does so, a minute late. Looks at every key there is.

        A lost connection is not mended here: call it again.
        """
        route = await self._opened()
        try:
            return sum([await self._purge(node) for node in route.primaries()])
        except FAILED as error:
            raise _failed(error) from error

    # --- how the verbs are sent ---

    def _key(self, record_id: bytes) -> bytes:
        return b"%b{%b}" % (self._prefix, record_id.hex().encode())

    async def _opened(self) -> Route:
        loop = asyncio.get_running_loop()
        if self._opening is None or self._opening[0] is not loop:
            self._opening = loop, asyncio.Lock()
        async with self._opening[1]:
            if self._route is None or self._route.loop is not loop:
                self._route = await self._new_route()
            return self._route

    async def _new_route(self) -> Route:
        client = client_of(self._given) if isinstance(self._given, str) else self._given
        route = Route(client, shown(self._given) if isinstance(self._given, str) else "the client that was given")
        try:
            await route.open(self._prefix + b"{open}")
        except BaseException:
            await route.close()
            if client is not self._given:
                await client.aclose()
            raise
        self._client = client
        if client is not self._given:
            keeper = route.loop.create_task(_kept(client), context=Context())
            self._keepers.add(keeper)
            keeper.add_done_callback(self._keepers.discard)
        return route

    async def _ask(self, key: bytes, build: Build, replies: int = 1, kind: str = FAST) -> Any:
        route = self._route
        if route is None or route.loop is not asyncio.get_running_loop():
            route = await self._opened()
        try:
            return await route.ask(key, build, replies, kind)
        except FAILED as error:
            raise _failed(error) from error

    def _out_of_step(self, key: bytes) -> StoreError:
        """Leave connections that gave the reply to another command: redis-py's had that bug, a proxy may (S9)."""
        if self._route is not None:
            self._route.drop(key)
        return StoreError("Redis: the reply is not to what was asked")

    def _outcome(self, key: bytes, reply: Any) -> int:
        if not isinstance(reply, int):
            raise self._out_of_step(key)
        return reply

    async def _eval(self, record_id: bytes, script: lua.Script, *arguments: bytes, kind: str = FAST) -> int:
        key, now = self._key(record_id), number(self.clock())

        def build(_: bytes, known: bool) -> bytes:
            return evaluation(script, (key,), now, *arguments, known=known)

        return self._outcome(key, await self._ask(key, build, kind=kind))

    async def _write(self, key: bytes, write: Write) -> int:
        if write.size > SMALL:
            try:
                apart = BULK if write.size > LARGE and write.kind == FAST else write.kind
                replied = await self._ask(key, write.large, write.replies, apart)
                return self._outcome(key, replied[-1] if isinstance(replied, list) and replied else None)
            except StoreError as error:
                if not isinstance(error.__cause__, TryAgainError):
                    raise  # else the slot is on the move, where only commands on one key work
        return self._outcome(key, await self._ask(key, write.small, kind=write.kind))

    async def _surely(self, record_id: bytes, outcome: int) -> bool:
        """Wait for a replica if the outcome says that there are any."""
        if outcome > 1 and self._route is not None:
            try:
                await self._route.settle(self._key(record_id))
            except FAILED as error:
                raise _failed(error) from error
        return bool(outcome)

    async def _purge(self, node: Node) -> int:
        pattern = re.sub(rb"([*?\[\]\\^])", rb"\\\1", self._prefix) + b"{" + b"?" * 32 + b"}"
        cursor, removed, now = b"0", 0, number(self.clock())
        while True:
            scan = pack((b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % SCAN, b"TYPE", b"hash"))
            cursor, keys = await node.links[BULK].send(scan)
            packed = b"".join([evaluation(lua.REAP, (key,), now) for key in keys])
            replies = await node.links[BULK].send(packed + pack((b"PING",)), len(keys) + 1) if keys else [b"PONG"]
            removed += sum(reply for reply in replies[:-1] if isinstance(reply, int))  # a key may have moved away
            if cursor == b"0":
                return removed


async def _kept(client: Client) -> None:
    """Close a client when the event loop ends, which cancels what still runs: no other loop can."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await client.aclose()


def _failed(error: Exception) -> StoreError:
    return StoreError(f"Redis failed: {type(error).__name__}")
