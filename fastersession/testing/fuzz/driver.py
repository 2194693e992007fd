"""Where a story is played: begins requests, reads them, lets them end, and has each judged.

Rules of residence: one request at a time, and what it means for the others of its browser; the steps of a story are in
``player``, the rules in ``checks``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from ..browser.browser import Browser
from ..browser.connection import Exchange, Socket
from ..browser.jar import Cookie, Headers
from ..clock import FakeClock
from .browsers import Person, Request
from .checks import broken, kept, lost
from .observer import KEY, Call
from .scenario import BROWSERS, Target
from .views import look

__all__ = ["Stage", "StoryError"]

MARKS = itertools.count()  # no two stories share a canary: an application may remember those of another
MOST_CHUNKS = 20  # of an answer that may be endless


class StoryError(AssertionError):
    """A story that ends badly, told in words."""


class Stage:
    """The browsers of one story.

    :param app: the application within the middleware; the middleware's application is an ``Observer``.
    :param cookie: the name of the session cookie.
    :param clock: moves with ``Wait``; ``None`` lets it do nothing.
    :param extra: goes into each scope.
    :param patience: seconds that a browser waits for the next message before it leaves.
    """

    def __init__(
        self,
        app: Any,
        cookie: str,
        *,
        clock: FakeClock | None = None,
        idle_timeout: float = 0.0,
        patience: float = 1.0,
        state: dict[str, Any] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        self.cookie, self.clock, self.idle_timeout, self.patience = cookie, clock, idle_timeout, patience
        mark = next(MARKS)
        self.people = {
            name: Person(name, Browser(app, state=state, extra=extra), f"canary-{name}{mark}") for name in BROWSERS
        }
        self.told: list[str] = []

    def begin(
        self,
        person: Person,
        target: Target | None,
        *,
        act: Any = None,
        words: str = "",
        browser: Browser | None = None,
        headers: Headers | None = None,
        note: str = "",
        genuine: bool = True,
    ) -> Request:
        """Begin a request of the browser, or of a tab of its own: a target, or an act in the application's place."""
        browser = browser or person.browser
        call = Call(act)
        target = (target or Target("GET", "/")).filled(person.canary)
        value = browser.jar.get(self.cookie)
        carried = None if value is None else value.value
        exchange = self._exchange(browser, target, [*(headers or ()), *target.headers], call)
        was_dead = carried is not None and person.is_dead(carried)
        request = Request(person, call, exchange, words or f"{target}{note}", carried, was_dead, genuine)
        request.unsure = browser is not person.browser
        request.talks = bool(target.body)
        exchange.begin()
        return request

    def _exchange(self, browser: Browser, target: Target, headers: Headers, call: Call) -> Exchange:
        if target.method == "WS":
            socket: Socket = browser.websocket(target.address, headers=headers, **{KEY: call})
            text = target.body.decode() if target.body else None
            socket.feed({"type": "websocket.connect"})
            if text is not None:
                socket.feed({"type": "websocket.receive", "text": text})
            return socket
        opened = browser.open(
            target.address, method=target.method, body=target.body, headers=headers, paced=call.act is None
        )
        opened.scope[KEY] = call
        return opened

    async def read(self, request: Request, *, whole: bool) -> None:
        """Read a chunk, or all; leave if nothing comes for too long, or if there is no end."""
        exchange = request.exchange
        if isinstance(exchange, Socket):
            with contextlib.suppress(TimeoutError):
                answer = exchange.receive() if request.talks else exchange.accepted()
                await asyncio.wait_for(answer, self.patience)
            exchange.disconnect(1000)
            return
        for _ in range(MOST_CHUNKS if whole else 1):
            if exchange.over:
                return
            try:
                more = await asyncio.wait_for(exchange.chunk(), self.patience)
            except TimeoutError:
                break
            if not more:
                await asyncio.wait([exchange.task], timeout=self.patience)
                return
        if whole and not exchange.over:
            request.left = True
            exchange.disconnect()

    async def _finish(self, request: Request) -> None:
        request.person.tabs.remove(request)
        await self.end(request)

    async def give_up(self, request: Request) -> None:
        """End the application's call, whatever it waits for."""
        exchange = request.exchange
        await asyncio.wait([exchange.task], timeout=0 if exchange.over else self.patience)
        while not exchange.task.done():
            request.left = True
            exchange.disconnect()
            exchange.task.cancel()
            await asyncio.wait([exchange.task], timeout=self.patience)

    async def end(self, request: Request) -> None:
        """Let a request end, tell it, judge it, and look whether what it left is there."""
        await self.give_up(request)
        if not request.number:
            self.tell(request, request.words, of=request)
        self.take(request)
        for other in request.person.tabs:
            request.rivals |= other.call.changed()
            other.rivals |= request.call.changed()
        fault = broken(request, self.cookie, list(self.people.values()))
        if fault is None and kept(request, self.cookie):
            fault = await self._compare(request)
        given = [line.value for line in request.lines(self.cookie) if not line.expired]
        if fault is None and request.genuine:
            fault = await self.haunted(request.person, given[-1] if given else request.carried)
        if fault is not None:
            self.fail(*fault)

    async def _compare(self, request: Request) -> tuple[str, str] | None:
        """Look at the session with another request, which touches nothing."""
        looking = self.begin(request.person, None, act=look)
        await self.give_up(looking)
        fault = broken(looking, self.cookie, list(self.people.values()))
        return fault or lost(request, looking.call.before)

    async def haunted(self, person: Person, value: str | None) -> tuple[str, str] | None:
        """Look, with the cookie of a session that has ended, whether it is back."""
        if value is None or not person.is_dead(value):
            return None
        looking = self.begin(person, None, act=look, browser=self.thief(person, value))
        await self.give_up(looking)
        return broken(looking, self.cookie, list(self.people.values()))

    def thief(self, person: Person, value: str) -> Browser:
        """Return a tab that has only this session cookie."""
        tab = person.browser.tab()
        tab.jar.clear()
        tab.jar[self.cookie] = Cookie(self.cookie, value, _attributes(self.cookie))
        return tab

    def take(self, request: Request) -> None:
        """Note what the answer did to the session cookie; who runs at the same time may have lost the session by it."""
        person, changed = request.person, False
        for line in request.lines(self.cookie):
            if not line.expired and line.value not in person.keys:
                person.note(line.value, request.carried if request.genuine else None)
                changed = True
            elif line.expired and request.carried and not person.is_dead(request.carried):
                person.end(request.carried)
                changed = True
        if changed:
            for other in person.tabs:
                other.unsure = other.unsure or other is not request

    # --- words ---

    def tell(self, request: Request, words: str, *, of: Request | None = None) -> None:
        """Add a line to the story, with what came of a request."""
        self.told.append(f"Browser {request.person.name} {words}" + (self._came(of) if of else ""))

    def _came(self, request: Request) -> str:
        status = request.status
        parts = ["nothing" if status is None else str(status)]
        parts += ["cookie removed" if line.expired else "cookie set" for line in request.lines(self.cookie)]
        if request.call.error is not None:
            parts.append(f"the application raises {type(request.call.error).__name__}")
        return f" → {', '.join(parts)}"

    def fail(self, expected: str, got: str) -> None:
        """End the story here.

        :raises StoryError: always.
        """
        steps = [f"  {number}. {words}" for number, words in enumerate(self.told, 1)]
        raise StoryError("\n".join(["a session went wrong:", *steps, f"  expected: {expected}", f"  got: {got}"]))


def _attributes(name: str) -> dict[str, str]:
    return {"path": "/", "secure": ""} if name.startswith("__") else {"path": "/"}
