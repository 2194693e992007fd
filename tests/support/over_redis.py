"""A RedisStore over a real server or a bad network, for a while.

Rules of residence: what the tests of RedisStore share; no test. Servers are in `servers_redis`.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from servers_redis import RedisServer
from store_subject import ID

from fastersession.errors import StoreError
from fastersession.stores.base import Change
from fastersession.stores.redis import RedisStore

KEY = f"fs:{{{ID.hex()}}}"
BIG = secrets.token_bytes(1_000_000)


@contextlib.asynccontextmanager
async def opened(place: Any, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(place.url if isinstance(place, RedisServer) else place, **options)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


def change(at: float | None = None, **sets: bytes) -> Change:
    return Change(time.time() if at is None else at, sets)


async def eventually(verb: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Call until it no longer fails."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await verb()
        except StoreError:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


class Wire:
    """A proxy before a server. It cuts the connection instead of passing on the reply to a command that holds `word`.

    `inject` is sent before the next reply, as a server gone mad would; `instead` is sent in the place of it, as one
    that misroutes. `heard` is the reply that was passed on last, `sent` what came from the store, a piece at a time.
    `at_cut` is called between the server's reply and the cut. A command that holds the key of `denied` is not passed
    on: its value is the reply. The first that holds `lost` is not passed on either: the connection is cut. Another
    `server` serves the next connection; one that ends takes its own along.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server, self.word, self.lost, self.cuts = server, b"", b"", 0
        self.inject = self.instead = self.heard = b""
        self.sent: list[bytes] = []
        self.at_cut: Callable[[], object] = bool
        self.denied: dict[bytes, bytes] = {}

    async def __aenter__(self) -> Wire:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near, far = await asyncio.open_connection("127.0.0.1", self.server.port)
        cutting = False

        async def back() -> None:
            while (data := await near.read(65_536)) and not cutting:
                self.heard = self.inject + (self.instead or data)
                self.inject = self.instead = b""
                writer.write(self.heard)
            if cutting:
                self.at_cut()
            writer.close()

        backwards = asyncio.ensure_future(back())
        with contextlib.suppress(ConnectionError):
            while not cutting and (data := await reader.read(65_536)):
                self.sent.append(data)
                if said := [reply for word, reply in self.denied.items() if word in data]:
                    writer.write(said[0])
                    continue
                if self.lost and self.lost in data:
                    self.lost, self.cuts = b"", self.cuts + 1
                    break
                if self.word and self.word in data:
                    self.word, cutting, self.cuts = b"", True, self.cuts + 1
                far.write(data)
        await (backwards if cutting else asyncio.sleep(0))
        backwards.cancel()
        far.close()
        writer.close()
