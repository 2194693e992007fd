"""What happens to a soak every few seconds: faults of the store, of the application, and of its clients.

Rules of residence: faults, each of which is over when its coroutine returns; no guest, no threshold.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from servers_redis import RedisServer
from serving import Wire
from soak_guests import Gathering

SECOND = 1.0  # how long a fault lasts that does not end by itself


@dataclass(frozen=True)
class Fault:
    """``excuses``: turns may fail while it lasts, and a little longer."""

    name: str
    happen: Callable[[], Awaitable[object]]
    excuses: bool = False


def of_clients(gathering: Gathering) -> list[Fault]:
    """Return what a server has to bear with whatever store."""

    async def drop() -> None:
        gathering.drop()

    async def break_() -> None:
        gathering.breaking_until = time.monotonic() + SECOND
        await asyncio.sleep(SECOND)

    return [
        Fault("half of the connections dropped at once", drop),
        Fault("the application raises in every turn begun in 1 s", break_),
    ]


def of_memory(gathering: Gathering, strangers: int) -> list[Fault]:
    """Return what can happen to sessions in memory. ``strangers``: how many come in a flood."""

    async def purge() -> None:
        wire = Wire(gathering.port)
        await wire.get("/purge")
        await wire.aclose()

    flood = Fault(f"{strangers:,} sessions begun at once, none returned to", lambda: gathering.flood(strangers))
    return [flood, *of_clients(gathering), Fault("purge()", purge)]


def of_redis(gathering: Gathering, server: RedisServer) -> list[Fault]:
    """Return what can happen to a Redis that is told to keep every write (``appendfsync always``)."""

    def at_once(*words: str) -> Callable[[], Awaitable[object]]:
        return lambda: asyncio.to_thread(server.cli, *words)

    def for_a_second(begin: Callable[[], object], end: Callable[[], object]) -> Callable[[], Awaitable[None]]:
        async def happen() -> None:
            await asyncio.to_thread(begin)
            try:
                await asyncio.sleep(SECOND)
            finally:
                await asyncio.to_thread(end)

        return happen

    def restart() -> None:
        server.kill()
        server.start()

    def limit(size: str) -> Callable[[], object]:
        return lambda: server.cli("config", "set", "maxmemory", size)

    def pause() -> None:
        server.cli("client", "pause", str(int(SECOND * 1000)))

    return [
        Fault("Redis silent for 1 s (SIGSTOP)", for_a_second(server.pause, server.resume), excuses=True),
        Fault("Redis ends all connections (CLIENT KILL)", at_once("client", "kill", "type", "normal"), excuses=True),
        Fault("Redis answers nobody for 1 s (CLIENT PAUSE)", for_a_second(pause, lambda: None), excuses=True),
        Fault("Redis forgets its scripts (SCRIPT FLUSH)", at_once("script", "flush")),
        Fault("Redis full for 1 s (maxmemory)", for_a_second(limit("1mb"), limit("0")), excuses=True),
        Fault("Redis killed and started again", lambda: asyncio.to_thread(restart), excuses=True),
        *of_clients(gathering),
    ]
