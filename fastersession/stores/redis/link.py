"""One connection to Redis that all tasks share: what they ask in one turn of the event loop leaves as one write.

Rules of residence: bytes out, replies in, in order. No command, key, session, retry or redirection is known here; how
to connect and to read replies is redis-py's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

SECONDS = 1.0  # to connect, and between two replies: below the 2 s that one store call may take, so a retry fits in
LOOKS = 4  # a second is counted in quarters: a loop that was blocked for longer has looked only once

Reply = asyncio.Future[Any]
pack = cast(Callable[[tuple[bytes, ...]], bytes], hiredis.pack_command)


class Link:
    """Sends commands over one shared connection, made at the first command and anew after any failure.

    A caller may be cancelled at any time: its command runs all the same, and its reply is read and dropped, so no
    reply ever reaches another caller. Whatever goes wrong on the connection (closed, silent for ``SECONDS``, a reply
    that is none) ends it, and fails all that wait for it with redis-py's ``ConnectionError``, whose ``__cause__``
    tells why. For one event loop.
    """

    def __init__(self, make: Callable[[], AbstractConnection]) -> None:
        self._make = make
        self._wire: _Wire | None = None
        self._wires: set[asyncio.Task[None]] = set()
        self._barrier: Reply | None = None

    def send(self, packed: bytes, replies: int = 1) -> Reply:
        """Send one or several packed commands in one piece.

        :return: a future of the reply. An error that the server replied is raised from it; of several replies it is
            a list, with the errors in it.
        """
        wire = self._wire
        if wire is None or wire.ended:
            wire = self._wire = _Wire()
            task = asyncio.get_running_loop().create_task(wire.run(self._make))
            self._wires.add(task)
            task.add_done_callback(self._wires.discard)
        return wire.send(packed, replies)

    def drop(self) -> None:
        """Leave the connection: what waits for it fails, the next command makes another one."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.end(RedisConnectionError("the connection was given up"))

    async def close(self) -> None:
        """Leave the connection, and wait until it is closed."""
        self.drop()
        if self._wires:
            await asyncio.wait(self._wires)

    async def settle(self) -> None:
        """Wait until a replica has what was written here, for 100 ms at most. Those who ask in one turn share it."""
        if self._barrier is None:
            self._barrier = self.send(pack((b"WAIT", b"1", b"100")))
            self._barrier.add_done_callback(lambda barrier: barrier.cancelled() or barrier.exception())
            asyncio.get_running_loop().call_soon(self._forget_barrier)
        await asyncio.shield(self._barrier)

    def _forget_barrier(self) -> None:
        self._barrier = None


class _Wire:
    """The life of one connection."""

    def __init__(self) -> None:
        self.ended = False
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._asked: deque[tuple[Reply, int]] = deque()
        self._wake = asyncio.Event()
        self._heard = False
        self._task: asyncio.Task[None] | None = None

    def send(self, packed: bytes, replies: int) -> Reply:
        reply = self._loop.create_future()
        self._out.append(packed)
        self._asked.append((reply, replies))
        self._wake.set()
        return reply

    def end(self, error: BaseException) -> None:
        """Fail all that waits. Nothing is sent or read any more."""
        self.ended = True
        while self._asked:
            reply, _ = self._asked.popleft()
            if not reply.done():
                failure = RedisConnectionError(str(error) or type(error).__name__)
                failure.__cause__ = error
                reply.set_exception(failure)
        if self._task is not None:
            self._task.cancel()

    async def run(self, make: Callable[[], AbstractConnection]) -> None:
        connection: AbstractConnection | None = None
        try:
            connection = _ours(make())
            connect: Callable[[], Awaitable[None]] = connection.connect
            self._task = asyncio.current_task()
            try:
                async with asyncio.timeout(SECONDS):
                    await connect()
            finally:
                self._task = None
            await self._converse(connection)
        except asyncio.CancelledError:  # at the end of the loop
            self.end(RedisConnectionError("the event loop is ending"))
            raise
        except Exception as error:
            self.end(error)
        finally:
            if connection is not None:
                await connection.disconnect(nowait=True)

    async def _converse(self, connection: AbstractConnection) -> None:
        """Write, read and watch until one of them fails or ``end`` is called. None of them runs after that."""
        if self.ended:
            return
        parts = (self._write(connection), self._read(connection), self._watch())
        tasks = [self._loop.create_task(part) for part in parts]
        self._task = tasks[-1]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.ended:
                return
            batch, self._out = self._out, []
            await connection.send_packed_command(batch, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            answer: Any = await _read_one(connection)
            if not self._asked:
                raise RedisConnectionError("a reply came that nobody had asked for")
            reply, replies = self._asked[0]
            if replies > 1:
                answer = [answer, *[await _read_one(connection) for _ in range(replies - 1)]]
            if self.ended:
                return
            self._asked.popleft()
            self._heard = True
            if not reply.done():
                if isinstance(answer, ResponseError):
                    reply.set_exception(answer)
                else:
                    reply.set_result(answer)

    async def _watch(self) -> None:
        """Fail when commands wait and no reply has come for a while."""
        silent = 0
        while silent < LOOKS:
            await asyncio.sleep(SECONDS / LOOKS)
            silent = silent + 1 if self._asked and not self._heard else 0
            self._heard = False
        raise TimeoutError(f"no reply for {SECONDS:g} s")


async def _read_one(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:  # a reply like any other: the connection is in order
        return error


def _ours(connection: AbstractConnection) -> AbstractConnection:
    """Take the time limits and retries off a connection that redis-py made: a link has its own."""
    connection.socket_timeout = None
    connection.health_check_interval = 0
    connection.retry = Retry(NoBackoff(), 0)
    return connection
