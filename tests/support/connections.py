"""Connections that a test takes away: a network that becomes a black hole, a server that has none left.

Rules of residence: sockets. No server, no store, no test.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any


class Proxy:
    """A TCP proxy that can become a black hole. It lives in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._leave())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def hold(self) -> None:
        """Forward nothing, of old connections or new ones."""
        self._loop.call_soon_threadsafe(self._flow.clear)

    def release(self) -> None:
        """Forward again, what was held too: a network that comes back."""
        self._loop.call_soon_threadsafe(self._flow.set)

    def forget(self) -> None:
        """Forward new connections only; the old ones stay silent: a firewall that has lost its table."""
        self._do(self._begin())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _begin(self) -> None:
        self._flow = asyncio.Event()
        self._flow.set()

    async def _listen(self) -> None:
        await self._begin()
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _leave(self) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(self._flow, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, flow: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await flow.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._behind)
            writers.append(far_writer)
            await asyncio.gather(_pump(flow, reader, far_writer), _pump(flow, far_reader, writer))
        except OSError:
            pass
        finally:
            for each in writers:
                each.transport.abort()


async def _pump(flow: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        await flow.wait()
        writer.write(data)
        await writer.drain()
    await flow.wait()
    raise ConnectionResetError


class Crowd:
    """Connections that are held only so that nobody else has them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._held: list[socket.socket] = []

    def join(self, *said: bytes) -> None:
        """Open one more, say something on it, and wait for each reply."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._held.append(connection)
        self.say(*said)

    def say(self, *said: bytes) -> None:
        """Say something on the connection that was opened last."""
        for each in said:
            self._held[-1].sendall(each)
            self._held[-1].recv(65_536)

    def leave(self) -> None:
        for connection in self._held:
            connection.close()
        self._held.clear()
