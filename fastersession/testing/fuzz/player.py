"""Plays a story: browsers do its steps against a watched application, and every finished request is judged.

Rules of residence: what each step does, and the words for it. A world lives for one story.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..browser.connection import Exchange
from .browsers import Person, Request
from .driver import Stage
from .observer import KEY, Call
from .scenario import (  # fmt: skip
    Go,
    Junk,
    Leave,
    Login,
    Logout,
    Odd,
    Open,
    Plant,
    Replay,
    Script,
    Step,
    Target,
    Visit,
    Wait,
)
from .views import login, logout, look, script, write

__all__ = ["World"]

MOST_TABS = 3


class World(Stage):
    """Does the steps of one story."""

    tabs = 0

    async def play(self, story: Sequence[Step]) -> None:
        """Do the steps, then let every open tab read to its end.

        :raises StoryError: a rule was broken.
        """
        try:
            for step in story:
                await self._do(step, self.people[step.who])
            for person in self.people.values():
                while person.tabs:
                    await self._go(Go(person.name, 0, True), person)
        finally:
            for person in self.people.values():
                for request in person.tabs:
                    await self.give_up(request)

    async def _do(self, step: Step, person: Person) -> None:
        match step:
            case Visit():
                await self._whole(person, step.target)
            case Open():
                await self._open(person, step.target)
            case Go():
                await self._go(step, person)
            case Leave():
                await self._leave(step, person)
            case Replay():
                await self._replay(step, person)
            case Junk():
                await self._junk(step, person)
            case Plant():
                data = {**step.data, "canary": person.canary}
                await self._act(person, f"writes {data!r} into its session", functools.partial(write, data))
            case Login():
                await self._act(person, "has regenerate_id() called", login, if_live=True)
            case Logout():
                await self._act(person, "has its session ended", logout, if_live=True)
            case Wait():
                await self._wait(step)
            case Odd():
                await self._odd(step, person)
            case Script():
                await self._act(person, f"has sent {list(step.messages)!r}", functools.partial(script, step.messages))

    # --- steps ---

    async def _whole(self, person: Person, target: Target, **more: Any) -> Request:
        request = self.begin(person, target, **more)
        await self.read(request, whole=True)
        await self.end(request)
        return request

    async def _open(self, person: Person, target: Target) -> None:
        if len(person.tabs) >= MOST_TABS or target.method == "WS":
            return
        self.tabs += 1
        request = self.begin(person, target)
        request.number = self.tabs
        person.tabs.append(request)
        await self.read(request, whole=False)
        self.tell(request, f"opens {request.words} in tab {request.number}", of=request)
        self.take(request)
        if request.exchange.over:
            await self._finish(request)

    async def _go(self, step: Go, person: Person) -> None:
        if not person.tabs:
            return
        request = person.tabs[step.tab % len(person.tabs)]
        await self.read(request, whole=step.whole)
        self.tell(request, f"reads on in tab {request.number}" + (", to the end" if step.whole else ""))
        self.take(request)
        if request.exchange.over or step.whole:
            await self._finish(request)

    async def _leave(self, step: Leave, person: Person) -> None:
        if not person.tabs:
            return
        request = person.tabs[step.tab % len(person.tabs)]
        self.tell(request, {"leave": "leaves", "half-close": "closes its own side in",
                             "cancel": "has the server cancel"}[step.way] + f" tab {request.number}")  # fmt: skip
        request.left = True
        if step.way == "half-close":
            request.exchange.half_close()
            await self.read(request, whole=True)
        elif step.way == "leave":
            request.exchange.disconnect()
        else:
            request.exchange.task.cancel()
        await self._finish(request)

    async def _replay(self, step: Replay, person: Person) -> None:
        old = [value for value in person.values if value != person.value(self.cookie)]
        if not old:
            return
        value = old[step.which % len(old)]
        stale = "a cookie of an ended session" if person.is_dead(value) else "an old cookie"
        await self._whole(person, step.target, browser=self.thief(person, value), note=f", with {stale}")

    async def _junk(self, step: Junk, person: Person) -> None:
        """Ask with wrong cookies: first what only looks, which must set none, then the target."""
        tab = person.browser.tab()
        tab.jar.clear()
        note = f", with the cookies {_brief(step.headers)}"
        looking = self.begin(person, None, act=look, browser=tab, headers=step.headers, note=note, genuine=False)
        await self.end(looking)
        if looking.lines(self.cookie):
            self.fail("no Set-Cookie for wrong cookies and a session that nobody wrote to", "one is set")
        await self._whole(person, step.target, browser=tab, headers=step.headers, note=note, genuine=False)

    async def _odd(self, step: Odd, person: Person) -> None:
        words = f"{step.scope['method']} {step.scope['path']!r}, with the scope {_brief(step.scope)}"
        browser = person.browser.tab()
        call = Call()
        scope = {**step.scope, **browser.extra, KEY: call}
        exchange = Exchange(browser.app, scope, browser.jar, browser.url("/"), paced=True)
        exchange.feed({"type": "http.request", "body": b"", "more_body": False})
        exchange.begin()
        request = Request(person, call, exchange, words, None, was_dead=False, genuine=False)
        await self.read(request, whole=True)
        await self.end(request)

    async def _act(self, person: Person, words: str, act: Any, *, if_live: bool = False) -> None:
        """Do something in the application's place, as one of its views could."""
        if if_live and person.value(self.cookie) is None:
            return
        ended = act is logout
        request = self.begin(person, None, act=act, words=words)
        await self.end(request)
        if ended and request.call.before and person.value(self.cookie) == request.carried:
            self.fail("the cookie of the ended session is removed", "the browser still has it")

    async def _wait(self, step: Wait) -> None:
        if self.clock is None:
            return
        self.told.append(f"{step.timeouts:g} of the idle timeout pass")
        self.clock.advance(self.idle_timeout * step.timeouts)
        for person in self.people.values():
            for request in person.tabs:
                request.unsure = True
            if step.timeouts > 1 and not person.tabs:
                person.end(person.value(self.cookie))
                fault = await self.haunted(person, person.value(self.cookie))
                if fault is not None:
                    self.fail(*fault)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:180]}... ({len(text)} characters)"
