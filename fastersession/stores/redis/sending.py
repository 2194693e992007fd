"""How the verbs of a store are sent, over a route that is opened when it is first needed.

Rules of residence: from keys and scripts to replies that make sense, or a ``StoreError``. No verb.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any

from redis.exceptions import TryAgainError

from ...errors import StoreError
from ..words import shown
from . import scripts as lua
from .client import Client, client_of
from .commands import Write
from .record import number
from .route import BULK, FAILED, FAST, SURE, Build, Route
from .scripts import evaluation
from .telling import Telling

SMALL = 1024  # bytes of changes that go through a script: Lua costs the server 1 µs per KB, MULTI 60 µs of ours
LARGE = 65_536  # bytes that travel apart, so that they hold nothing else up


class Sender:
    """A store's way to its server, one in each event loop."""

    def __init__(self, client_or_url: Client | str, prefix: bytes, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._given = client_or_url
        self._prefix = prefix
        self._client: Client | None = None
        self._route: Route | None = None
        self._telling: Telling | None = None
        self._opening: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._keepers: set[asyncio.Task[None]] = set()

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
        self._client, self._telling = client, Telling(route)
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
            raise failed(error) from error

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
        key = self._key(record_id)
        return self._outcome(key, await self._ask(key, self._calling(script, (key,), *arguments), kind=kind))

    def _calling(self, script: lua.Script, keys: tuple[bytes, ...], *arguments: bytes) -> Build:
        now = number(self.clock())

        def build(_: bytes, known: bool) -> bytes:
            return evaluation(script, keys, now, *arguments, known=known)

        return build

    async def _ask_all(
        self, asks: Sequence[tuple[bytes, Build]], kind: str = SURE, refusal: str | None = None
    ) -> list[Any]:
        try:
            return await (await self._opened()).ask_all(asks, kind, refusal) if asks else []
        except FAILED as error:
            raise failed(error) from error

    def _tell(self, key: bytes, *command: bytes) -> None:
        route, telling = self._route, self._telling
        if route is not None and telling is not None and route.loop is asyncio.get_running_loop():
            telling.tell(key, command)

    def _listed(self, key: bytes, reply: Any, *sizes: int) -> list[Any]:
        """Return an outcome as a list, of one of these sizes; what is no list is one of one part."""
        parts = reply if isinstance(reply, list) else [reply]
        if len(parts) not in sizes or not isinstance(parts[0], int):
            raise self._out_of_step(key)
        return parts

    def _with_ids(self, key: bytes, reply: Any) -> tuple[int, list[bytes]]:
        """Return an outcome and the ids behind it."""
        outcome, ids = self._listed(key, reply, 2)
        if not isinstance(ids, list):
            raise self._out_of_step(key)
        return outcome, ids

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

    async def _settled(self, *outcomes: tuple[bytes, int]) -> None:
        """Wait for replicas of those keys whose outcome says that there are any."""
        keys = [key for key, outcome in outcomes if outcome > 1]
        if keys and self._route is not None:
            try:
                await self._route.settle(keys)
            except FAILED as error:
                raise failed(error) from error


async def _kept(client: Client) -> None:
    """Close a client when the event loop ends, which cancels what still runs: no other loop can."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await client.aclose()


def failed(error: Exception) -> StoreError:
    """Return what a verb raises for an error of the client's, whose text could quote what was sent."""
    return StoreError(f"Redis failed: {type(error).__name__}")
