"""The application and the browsers that the probes of users play with.

Rules of residence: pages that log in as an application would, and the browsers' steps, alone or at once, which a probe
puts in order. No verdict here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from bench.accounts import Clock, House, Kind
from bench.app import BrokenPeerError, answer
from bench.client import WIRES, Client, Wire
from bench.peers import Peer
from bench.stage import CHUNK, START

SPREAD = 0.004
"""Seconds within which things happen at once: what a few calls of a store take."""


class Pages:
    """The application: a login, with a password that is checked, and pages behind it."""

    def __init__(self, kind: Kind, clock: Clock) -> None:
        self.kind, self.clock = kind, clock
        self.reached, self.gate = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return None
        page, _, user = scope["path"].removeprefix("/").partition("/")
        if page in ("stream", "socket"):
            return await getattr(self, page)(scope, receive, send)
        return await answer(send, await getattr(self, page)(scope, user))

    async def pause(self) -> None:
        self.reached.set()
        await self.gate.wait()

    async def login(self, scope: Any, user: str) -> bytes:
        await self.kind.login(scope, user, None)
        return b"welcome"

    async def checked(self, scope: Any, user: str) -> bytes:
        """Check the password for a while, and log in."""
        at = self.clock()
        await self.pause()
        await self.kind.login(scope, user, at)
        return b"welcome"

    async def slow(self, scope: Any, user: str) -> bytes:
        """Read the session, think, and write to it."""
        scope["session"].get("user")
        await self.pause()
        scope["session"]["note"] = "late"
        return b"noted"

    async def work(self, scope: Any, user: str) -> bytes:
        """Use the session, and say if there is somebody logged in."""
        session = scope["session"]
        is_in = bool(session.get("user") if type(session) is dict else session.user)
        if is_in:
            session["uses"] = session.get("uses", 0) + 1
        return b"in" if is_in else b"out"

    async def stream(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer for as long as somebody listens."""
        await send(dict(START))
        while True:
            await send(dict(CHUNK))
            await asyncio.sleep(0.01)

    async def socket(self, scope: Any, receive: Any, send: Any) -> None:
        """Talk for as long as somebody listens."""
        await receive()
        await send({"type": "websocket.accept", "headers": []})
        await send({"type": "websocket.send", "bytes": b"hello"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def logout(self, scope: Any, user: str) -> bytes:
        await self.kind.logout(scope)
        return b"bye"


class Trial:
    """A house, its pages, and the browsers in front of it."""

    def __init__(self, kind: Kind, house: House, pages: Pages, clock: Clock) -> None:
        self.kind, self.house, self.pages, self.clock = kind, house, pages, clock
        self.chance = random.Random(0)
        self.stamps: dict[Client, float] = {}

    def browsers(self, count: int) -> list[Client]:
        """Return new browsers, in front of each worker in turn."""
        workers = self.house.workers
        wraps = [lambda app, clock=None, worker=worker: (worker, ()) for worker in workers]
        return [Client(Peer("", "", wraps[n % len(wraps)], self.kind.cookie), app=self.pages) for n in range(count)]

    def soon(self, jobs: Iterable[Callable[[], Awaitable[Any]]], *, at_once: bool) -> Awaitable[list[Any]]:
        """Do all of them within a moment; what fails has failed."""

        async def one(job: Callable[[], Awaitable[Any]], delay: float) -> Any:
            if delay:
                await asyncio.sleep(delay)
            with contextlib.suppress(BrokenPeerError):
                return await job()

        return asyncio.gather(*(one(job, 0.0 if at_once else SPREAD * self.chance.random()) for job in jobs))

    def login(self, browser: Client, user: str) -> Callable[[], Awaitable[Any]]:
        async def job() -> None:
            self.stamps[browser] = self.clock()
            await browser.get(f"/login/{user}")

        return job

    async def logged_in(self, user: str, count: int) -> list[Client]:
        """Log in one after the other, and look."""
        browsers = self.browsers(count)
        for browser in browsers:
            await self.login(browser, user)()
        if await self.inside(browsers) != browsers:
            raise BrokenPeerError(f"{self.kind.title} does not log in")
        return browsers

    async def inside(self, browsers: list[Client]) -> list[Client]:
        """Return those of the browsers that somebody is logged in with."""
        return [browser for browser in browsers if await browser.get("/work") == b"in"]

    async def running(self, browser: Client, path: str, kind: str) -> asyncio.Task[Any]:
        """Begin what does not end by itself, and wait until its first part has come."""
        wire = WIRES[kind]()
        task = asyncio.create_task(browser.middleware(browser.scope(path, kind), wire.receive, wire.send))
        while not wire.parts and not task.done():  # noqa: ASYNC110 (a wire has no event)
            await asyncio.sleep(0)
        if task.done():
            raise BrokenPeerError(f"{self.kind.title}: {path} has ended: {task.exception()}")
        return task

    async def paused(self, browser: Client, path: str) -> asyncio.Task[Any]:
        """Begin a request, and leave it where it pauses."""
        self.pages.reached.clear()
        self.pages.gate.clear()
        task = asyncio.create_task(browser.get(path))
        await self.pages.reached.wait()
        return task

    async def go_on(self, task: asyncio.Task[Any]) -> None:
        """Let it end; an error for an answer is as good as any."""
        self.pages.gate.set()
        with contextlib.suppress(Exception):
            await task

    async def leaves_nobody(self, user: str, browsers: list[Client]) -> bool:
        """Revoke all of a user's sessions, and look; a login after that must work."""
        await self.house.revoke(user)
        left = await self.inside(browsers)
        return not left and await self.house.listed(user) == 0 and len(await self.logged_in(user, 1)) == 1


@asynccontextmanager
async def trial(kind: Kind, limit: int | None = None, *, closes: bool = False) -> AsyncIterator[Trial]:
    clock = Clock()
    pages = Pages(kind, clock)
    async with kind.opened(pages, clock, limit, closes) as house:
        yield Trial(kind, house, pages, clock)


async def cut_off(browser: Client, path: str, turns: int) -> None:
    """Cancel a request after some turns of the event loop, and keep what had come by then."""
    wire = Wire()
    task = asyncio.create_task(browser.middleware(browser.scope(path), wire.receive, wire.send))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    if wire.answered:
        browser.keep(wire)
