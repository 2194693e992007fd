"""What tests of a session's end share: answers that go on until they are ended, and how they were.

Rules of residence: handlers, and waits on conditions; what a test proves stands in the test.

    streams = Streams()
    async with site(factory, {"/stream": streams.endless}, close_on_end=True) as (app, subject):
        running = await streams.begin(tab(browser))
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from accounts import ROUTES, BytesStore
from driver import Answer, Browser
from routes import Call, serve


async def until(there: Callable[[], Any]) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(20):
        while not there():
            await asyncio.sleep(0.001)


class Streams:
    """Answers without an end, and with what they have ended."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.is_over = False
        self.running = 0
        self.sessions: list[Any] = []

    async def endless(self, call: Call) -> None:
        """Send chunk by chunk until that fails."""
        await call.start()
        self.sessions.append(call.session)
        self.running += 1
        try:
            while not self.is_over:
                await call.chunk()
                await asyncio.sleep(0.002)  # as a model has it, or the kit would keep chunks by the million
            await call.finish()
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            self.running -= 1

    async def begin(self, browser: Browser, target: str = "/stream") -> asyncio.Task[Answer]:
        """Begin one, and wait until it runs."""
        before = self.running
        task = asyncio.ensure_future(browser.get(target, catch=True))
        await until(lambda: self.running > before or task.done())
        return task

    async def finish(self, *tasks: asyncio.Task[Answer]) -> None:
        """Let all end as they should."""
        self.is_over = True
        for task in tasks:
            assert (await task).error is None


async def waiting(call: Call) -> None:
    """Answer when the session has ended, with the reason."""
    await call.start()
    reason = await call.session.ended
    await call.send({"type": "http.response.body", "body": reason.encode()})


class CountingStore(BytesStore):
    """A store of bytes that counts what it is asked about ends, and fails as told."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.asked: list[list[bytes]] = []
        self.is_down = False

    async def ended(self, record_ids: Any) -> Any:
        self.asked.append(list(record_ids))
        if self.is_down:
            raise ConnectionError("the store is away")
        return await super().ended(record_ids)


class GatedStore(CountingStore):
    """A store of bytes whose updates wait at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    async def update(self, *arguments: Any) -> bool:
        self.reached.set()
        await self.gate.wait()
        return await super().update(*arguments)


@asynccontextmanager
async def two_workers(store: Any, handlers: Any, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Give two middlewares over one store, as two workers have them: neither is told what the other ends."""
    yield serve({**ROUTES, **handlers}, store=store, **options), serve({**ROUTES, **handlers}, store=store, **options)


def moved(browser: Browser, app: Any) -> Browser:
    """Return another tab of a browser that reaches another worker."""
    twin = Browser(app)
    twin.jar = browser.jar.copy()
    return twin
