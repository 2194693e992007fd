"""Guests of the soak: browsers that come, ask, leave, log in and out for as long as it lasts, and check what is kept.

Rules of residence: the browsers of `visitors`, made lean, with lives; no process, no fault, no threshold.

    gathering = Gathering(server.port, 2000, pause=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(gathering.stay())
        ...; gathering.closing = True
    await gathering.go_home()           # what every session holds, then logout, then every dead cookie once more
    gathering.wrong                     # [] if nothing was lost, mixed up or brought back
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any
from urllib.parse import urlencode

from serving import RefusedError, Wire
from visitors import LEAVING, Crowd, Note, Visitor

TRIES = 60  # of a request that must succeed in the end, however the store fails meanwhile
SETTLE = 3.0  # seconds until a store that failed has carried out what it was still asked
DROPPING = 0.5  # seconds until a browser that has dropped its connections knows it
SECOND_TAB = 0.25  # of all logouts come while another tab is told an answer
FAILED = ("failed", "refused")
LOST = (OSError, asyncio.IncompleteReadError)


class Gathering(Crowd):
    """All guests, and what came of their visits. ``pause``: seconds, as long as the server's between two tokens."""

    visitors: list[Guest]

    def __init__(self, port: int, guests: int, pause: float) -> None:
        super().__init__(port, guests, 0, guests)
        self.until_kill = sys.maxsize
        self.pause = pause
        self.closing = False
        self.breaking_until = 0.0  # the turns begun by then are such that the application raises
        self.counts: Counter[str] = Counter()
        self.failures: list[tuple[float, Note]] = []  # and when
        self.wrong: list[str] = []

    def visitor(self, number: int) -> Guest:
        return Guest(self, number)

    async def stay(self) -> None:
        """Let everybody come, within the time of a few turns, and stay until closing time."""
        await asyncio.gather(*(guest.stay() for guest in self.visitors))

    async def go_home(self) -> None:
        """Look into every session, end it, and try all cookies that were ever valid."""
        await self._all(guest.check(settled=True) for guest in self.visitors if guest.cookie)
        await self._all(guest.end() for guest in self.visitors if guest.cookie)
        await self._all(guest.haunt(guest.dead) for guest in self.visitors)
        for guest in self.visitors:
            await guest.aclose()

    @staticmethod
    async def _all(work: Iterable[Coroutine[Any, Any, object]], at_once: int = 50) -> None:
        waiting = iter(list(work))

        async def take() -> None:
            for each in waiting:
                await each

        await asyncio.gather(*(take() for _ in range(at_once)))

    async def flood(self, number: int) -> None:
        """Let strangers begin sessions whose cookies will never come back."""

        async def come() -> None:
            wire = Wire(self.port)
            for _ in range(number // 50):
                await wire.get("/anonymous")
            await wire.aclose()

        await asyncio.gather(*(come() for _ in range(50)))
        self.counts["anonymous"] += number

    def drop(self) -> None:
        """Let half of the guests drop their connections in the same moment."""
        for guest in random.sample(self.visitors, len(self.visitors) // 2):
            guest.dropped_at = time.monotonic()
            for wire in guest.wires:
                wire.drop()

    def count(self, note: Note) -> None:
        self.counts[note.end] += 1
        self.counts["tokens"] += note.seen.count("[")
        if note.end in FAILED:
            self.failures.append((time.monotonic(), note))


class Guest(Visitor):
    """One browser of one person at a time: anonymous, then logged in, then gone, and somebody else comes."""

    crowd: Gathering

    def __init__(self, crowd: Gathering, number: int) -> None:
        super().__init__(crowd, number)
        self.name, self.lives = self.who, 0
        self.wires = Wire(crowd.port), Wire(crowd.port)
        self.cookie = ""
        self.dead: list[str] = []  # cookies that must lead nowhere any more
        self.dropped_at = 0.0

    async def stay(self) -> None:
        await asyncio.sleep(self.random.uniform(0, 8) * self.crowd.pause)
        while not self.crowd.closing:
            await self.live()

    async def live(self) -> None:
        """Take a few turns, log in, take a few more, log out; at closing time stop where that is."""
        self.lives += 1
        self.who = f"{self.name}-{self.lives}"
        self.cookie, self.tabs = "", ([], [], [])
        while (await self.turn(self.wires[0], self.tabs[0], "whole")).end != "acknowledged":
            if self.crowd.closing:
                return
        steps: list[Callable[[], Coroutine[Any, Any, bool]]] = [self.ask] * self.random.randint(0, 3)
        steps += [self.login, *[self.ask] * self.random.randint(0, 3), self.logout]
        for step in steps:
            await asyncio.sleep(self.random.uniform(0, 4) * self.crowd.pause)
            if self.crowd.closing or not await step():
                return

    # --- steps of a life: each tells if it goes on ---

    async def ask(self) -> bool:
        how = self.random.choice(("whole", "late", "own"))
        if time.monotonic() < self.crowd.breaking_until:
            how = "breaks"
        await self.turn(self.wires[0], self.tabs[1], how, leaves=self.random.random() < LEAVING)
        return True

    async def login(self) -> bool:
        """Get another cookie. Cut off on the way, that may be one that nobody has: then the session is over."""
        note = await self.turn(self.wires[0], self.tabs[1], "login")
        for other in self.tabs[1]:
            if other.end in ("left", "broken"):
                other.end = "overtaken"  # its last save may have come too late: a login shuts out all others
        if note.end == "acknowledged":
            self.crowd.counts["logins"] += 1
            return True
        await asyncio.sleep(SETTLE)
        if await self.content():
            return True
        self.crowd.counts["logins cut off"] += 1
        self.cookie = ""
        return False

    async def logout(self) -> bool:
        """End the session, while another tab is told an answer or not, and see that nothing brings it back."""
        await self.check(settled=False)
        if self.random.random() > SECOND_TAB:
            await self.end()
        else:
            how = self.random.choice(("whole", "late", "own"))
            other = asyncio.create_task(self.turn(self.wires[1], self.tabs[2], how))
            await asyncio.sleep(2 * self.crowd.pause)
            dead = await self.end()
            await other
            await self.haunt([dead])
            if self.cookie:  # the other tab's request came after the logout, and began a session
                await self.end()
        return False

    async def check(self, *, settled: bool) -> None:
        """Compare what the session holds with what was told."""
        self.crowd.wrong += self.faults(await self.content(), settled=settled)
        self.crowd.counts["sessions compared"] += 1

    async def end(self) -> str:
        """Log out; return the cookie that is dead now."""
        dead, self.cookie = self.cookie, ""
        await self.get("/logout", dead)
        self.dead.append(dead)
        self.crowd.counts["logouts"] += 1
        await self.haunt([dead])
        return dead

    async def haunt(self, dead: list[str]) -> None:
        """Come back with cookies that are dead."""
        for cookie in dead:
            headers, content = await self.get("/session", cookie)
            if content != {} or "set-cookie" in headers:
                self.crowd.wrong.append(f"{self.who}: a dead session came back: {content}")
            self.crowd.counts["dead cookies tried"] += 1

    # --- requests ---

    async def turn(self, wire: Wire, tab: list[Note], how: str, *, leaves: bool = False) -> Note:
        """Take a turn, and say how it ended; after a failure wait a little."""
        try:
            await super().turn(wire, tab, how, leaves=leaves)
        except RefusedError as refused:
            tab[-1].end = "refused"
            self.crowd.counts[f"answered {refused.status}"] += 1
            await wire.aclose()
        note = tab[-1]
        if note.end == "failed" and self.dropped_at > note.began - DROPPING:
            note.end = "left"
        elif note.end == "failed" and how == "breaks":
            note.end = "broken"
        self.crowd.count(note)
        if note.end in FAILED:
            await asyncio.sleep(self.random.uniform(0.2, 1))
        return note

    async def request(self, wire: Wire, path: str, query: dict[str, str]) -> dict[str, str]:
        """Ask with the one cookie that this browser has, and keep the one that comes."""
        headers = await wire.ask(f"{path}?{urlencode(query)}", self.cookie)
        if "set-cookie" in headers:
            if self.cookie:
                self.dead.append(self.cookie)
            self.cookie = headers["set-cookie"].partition(";")[0]
        return headers

    async def content(self) -> Any:
        return (await self.get("/session", self.cookie))[1]

    async def get(self, path: str, cookie: str) -> tuple[dict[str, str], Any]:
        """Return the headers and the content of an answer, however often it has to be asked for."""
        for _ in range(TRIES):
            try:
                headers, body = await self.wires[0].get(path, cookie)
                return headers, json.loads(body)
            except (*LOST, RefusedError):
                self.crowd.counts["asked again"] += 1
                await self.wires[0].aclose()
                await asyncio.sleep(self.random.uniform(0.2, 1))
        raise AssertionError(f"{self.who}: no answer from {path}")

    async def aclose(self) -> None:
        for wire in self.wires:
            await wire.aclose()
