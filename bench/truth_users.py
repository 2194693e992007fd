"""Yes or no: what becomes of a user's sessions when several things happen at once, asked by running each peer.

Rules of residence: one probe per fact, the same for every kind of store; what it sees is what browsers see, and what
the user is shown. No peer is known here. Some rounds of a probe have the moments that chance gives, and the first has
all at once. `control` holds the probes against a way that works as long as nothing happens at once, and must fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from bench.accounts import IDLE, Clock, House, Kind
from bench.app import BrokenPeerError, answer
from bench.client import Client, Wire
from bench.peers import Peer
from bench.usual import USUAL

ROUNDS = 6
AT_ONCE = 7
LIMIT = 2
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
            return
        page, _, user = scope["path"].removeprefix("/").partition("/")
        await answer(send, await getattr(self, page)(scope, user))

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
async def trial(kind: Kind, limit: int | None = None) -> AsyncIterator[Trial]:
    clock = Clock()
    pages = Pages(kind, clock)
    async with kind.opened(pages, clock, limit) as house:
        yield Trial(kind, house, pages, clock)


async def concurrent_logins(kind: Kind) -> bool:
    """R1: who stays has logged in after the call of revoke-all; and the next call ends them, too."""
    async with trial(kind) as here:
        for number in range(ROUNDS):
            user, browsers = f"user{number}", here.browsers(AT_ONCE)
            called = []

            async def revoke(user: str = user, called: list[float] = called) -> None:
                called.append(here.clock())
                await here.house.revoke(user)

            logins = [here.login(browser, user) for browser in browsers]
            jobs = logins if number == 0 else [*logins, revoke]
            await here.soon(jobs, at_once=number == 0)
            inside = await here.inside(browsers)
            if any(here.stamps[browser] < at for browser in inside for at in called):
                return False
            if not await here.leaves_nobody(user, browsers):
                return False
    return True


async def outlived_entry(kind: Kind) -> bool:
    """One session is used for long after its login; others of the user end, and are pruned; some logins are cut off."""
    async with trial(kind) as here:
        (used,) = await here.logged_in("user", 1)
        for _ in range(4):
            here.clock.move(IDLE * 0.7)
            if await here.inside([used]) != [used]:
                raise BrokenPeerError(f"{kind.title} does not keep alive what is used")
            await here.house.listed("user")
            await here.logged_in("user", 1)
        cut = here.browsers(12)
        for turns, browser in enumerate(cut):
            await cut_off(browser, "/login/user", turns)
        return await here.leaves_nobody("user", [used, *cut])


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


async def request_in_flight(kind: Kind) -> bool:
    async with trial(kind) as here:
        (browser,) = await here.logged_in("user", 1)
        task = await here.paused(browser, "/slow")
        await here.house.revoke("user")
        if await here.house.listed("user"):
            raise BrokenPeerError(f"{kind.title} does not revoke")
        await here.go_on(task)
        return not await here.inside([browser]) and await here.leaves_nobody("user", [browser])


async def login_begun_before(kind: Kind) -> bool:
    async with trial(kind) as here:
        browser = here.browsers(1)[0]
        task = await here.paused(browser, "/checked/user")
        await here.house.revoke("user")
        await here.go_on(task)
        return not await here.inside([browser]) and await here.leaves_nobody("user", [browser])


async def limit_at_once(kind: Kind) -> bool:
    async with trial(kind, LIMIT) as here:
        for number in range(ROUNDS):
            user, browsers = f"user{number}", here.browsers(AT_ONCE)
            await here.soon([here.login(browser, user) for browser in browsers], at_once=number == 0)
            if len(await here.inside(browsers)) != LIMIT or await here.house.listed(user) != LIMIT:
                return False
    return True


async def prune_beside_login(kind: Kind) -> bool:
    """The list is read, which prunes it of sessions that have expired, while others begin."""
    async with trial(kind) as here:
        for number in range(ROUNDS):
            user = f"user{number}"
            await here.logged_in(user, 2)
            here.clock.move(IDLE + 1)
            browsers = here.browsers(4)
            jobs: list[Callable[[], Awaitable[Any]]] = []
            for browser in browsers:
                jobs += [here.login(browser, user), lambda user=user: here.house.listed(user)]
            await here.soon(jobs, at_once=number == 0)
            if len(await here.inside(browsers)) != await here.house.listed(user):
                return False
            if not await here.leaves_nobody(user, browsers):
                return False
    return True


async def expiry_told_once(kind: Kind) -> bool:
    """Sessions expire; then each worker looks for such ones, as it does after each logout, until it has seen all."""
    async with trial(kind) as here:
        users = {f"user{number}" for number in range(AT_ONCE)}
        for user in users:
            await here.logged_in(user, 1)
        here.clock.move(IDLE + 1)
        ended = here.house.ended
        looks = 0
        while looks < ROUNDS or not users <= set(ended):
            more = {f"more{looks} of {worker}": worker for worker in range(len(here.house.workers))}
            pairs = list(zip(here.browsers(len(more)), more, strict=True))
            for browser, user in pairs:
                await browser.get(f"/login/{user}")
            await asyncio.gather(*(browser.get("/logout") for browser, _ in pairs))
            users.update(more)
            while not more.keys() <= set(ended):  # noqa: ASYNC110 (who asks has a deadline)
                await asyncio.sleep(0.001)
            looks += 1
        return Counter(ended) == Counter(users)


Probe = Callable[[Kind], Awaitable[bool]]
FACTS: dict[str, tuple[str, Probe]] = {
    "revoke-logins": ("revoke-all beside logins: all of before it end", concurrent_logins),
    "revoke-lost": ("revoke-all finds a session that has outlived its entry in the index", outlived_entry),
    "revoke-flight": ("revoke-all beside a request: nothing comes back", request_in_flight),
    "revoke-begun": ("revoke-all while a password is checked: that login is refused", login_begun_before),
    "limit": ("seven logins at once where two sessions are allowed: two are left", limit_at_once),
    "prune": ("a list is pruned beside logins: it names all who are in", prune_beside_login),
    "expiry": ("two workers: each session's expiry is told once", expiry_told_once),
}


async def works(kind: Kind) -> None:
    """Refuse a kind with which nothing works, although nothing happens at once."""
    async with trial(kind, LIMIT) as here:
        two = await here.logged_in("user", LIMIT)
        (third,) = await here.logged_in("user", 1)
        if len(await here.inside([*two, third])) != LIMIT or await here.house.listed("user") != LIMIT:
            raise BrokenPeerError(f"{kind.title} knows no limit")
        if not await here.leaves_nobody("user", [*two, third]):
            raise BrokenPeerError(f"{kind.title} does not revoke")
        (browser,) = await here.logged_in("other", 1)
        await browser.get("/logout")
        if await here.inside([browser]):
            raise BrokenPeerError(f"{kind.title} does not log out")


async def control(kind: Kind = USUAL) -> None:
    """Refuse the probes, if there is one that does not see what goes wrong in the usual way."""
    await works(kind)
    for key, (_, probe) in FACTS.items():
        if await probe(kind):
            raise BrokenPeerError(f"the probe {key} sees nothing go wrong")
