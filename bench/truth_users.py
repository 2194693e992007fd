"""Yes or no: what becomes of a user's sessions when several things happen at once, asked by running each peer.

Rules of residence: one probe per fact, the same for every kind of store; what it sees is what browsers see, and what
the user is shown. No peer is known here. Some rounds of a probe have the moments that chance gives, and the first has
all at once. `control` holds the probes against a way that works as long as nothing happens at once, and must fail.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from bench.accounts import IDLE, Kind
from bench.app import BrokenPeerError
from bench.stage_users import Trial, cut_off, trial
from bench.usual import USUAL

ROUNDS = 6
AT_ONCE = 7
LIMIT = 2
SOON = 4.0
"""Seconds for an end to reach what runs elsewhere: twice as long as is promised, for the machine may be busy."""


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
    """Sessions expire; then all workers look for such ones at once, until they have seen all; and once more, later."""
    async with trial(kind) as here:
        users, looks = [f"user{number}" for number in range(AT_ONCE)], 0
        for user in users:
            await here.logged_in(user, 1)
        busy: list[str] = []  # who was told of so late that somebody may not be done when the clock moves
        for seconds in (IDLE + 1, 10 * IDLE):
            here.clock.move(seconds)
            least = looks + ROUNDS
            while looks < least or not set(users) <= set(here.house.ended):
                users += await look(here, f"look{looks}-")
                looks += 1
            busy = busy or users[-3 * len(here.house.workers) :]
        return Counter(here.house.ended) - Counter(busy * 2) == Counter(users) - Counter(busy * 2)


async def look(here: Trial, name: str) -> list[str]:
    """Log in and out on each worker, after which it looks for what has ended; return the users that are told of."""
    browsers = here.browsers(len(here.house.workers))
    users = [f"{name}{number}" for number in range(len(browsers))]
    for browser, user in zip(browsers, users, strict=True):
        await browser.get(f"/login/{user}")
    await asyncio.gather(*(browser.get("/logout") for browser in browsers))
    while not set(users) <= set(here.house.ended):  # noqa: ASYNC110 (who asks has a deadline)
        await asyncio.sleep(0.001)
    return users


async def running_elsewhere(kind: Kind) -> bool:
    """A logout by the last worker, while the first one streams and has a socket open."""
    async with trial(kind, closes=True) as here:
        (browser,) = await here.logged_in("user", 1)
        tasks = {await here.running(browser, "/stream", "http"), await here.running(browser, "/socket", "websocket")}
        other = here.browsers(len(here.house.workers))[-1]
        other.cookie = browser.cookie
        await other.get("/logout")
        _, left = await asyncio.wait(tasks, timeout=SOON)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return not left


Probe = Callable[[Kind], Awaitable[bool]]
FACTS: dict[str, tuple[str, Probe]] = {
    "revoke-logins": ("revoke-all beside logins: all of before it end", concurrent_logins),
    "revoke-lost": ("revoke-all finds a session that has outlived its entry in the index", outlived_entry),
    "revoke-flight": ("revoke-all beside a request: nothing comes back", request_in_flight),
    "revoke-begun": ("revoke-all while a password is checked: that login is refused", login_begun_before),
    "limit": ("seven logins at once where two sessions are allowed: two are left", limit_at_once),
    "prune": ("a list is pruned beside logins: it names all who are in", prune_beside_login),
    "expiry": ("two workers: each session's expiry is told once", expiry_told_once),
    "running": ("a logout elsewhere ends what streams, and open websockets", running_elsewhere),
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
