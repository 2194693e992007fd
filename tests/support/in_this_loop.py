"""An application behind a real server in the event loop of the test, for clients that want an address.

Rules of residence: serving. ``serving`` launches servers as processes.

    async with served(app) as url:
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from serving import free_port
from uvicorn import Config, Server


class _Told(Server):
    """A server that says when it listens; the signals are pytest's."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an application for the block, and yield its address."""
    port = free_port()
    server = _Told(Config(app, port=port, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve())
    await server.listens.wait()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await running
