"""Plays a story: browsers do its steps against a watched application, and every finished request is judged.

Rules of residence: what each step does, and the words for it; the rules are in ``rules``. A world lives for one story.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .browser import Browser
from .clock import FakeClock
from .exchange import Exchange, Socket
from .jar import Cookie, Headers
from .observer import KEY, Call
from .people import Person, Request
from .rules import broken, kept, lost
from .story import (
    BROWSERS,
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
)  # fmt: skip

__all__ = ["StoryError", "World"]

MARKS = itertools.count()  # no two stories share a canary: an application may remember those of another
MOST_TABS = 3
MOST_CHUNKS = 20  # of an answer that may be endless
FINE = {"type": "http.response.start", "status": 200, "headers": []}


class StoryError(AssertionError):
    """A story that ends badly, told in words."""


class World:
    """The browsers of one story.

    :param app: the application within the middleware; the middleware's application is an ``Observer``.
    :param cookie: the name of the session cookie.
    :param clock: moves with ``Wait``; ``None`` lets it do nothing.
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
    ) -> None:
        self.cookie, self.clock, self.idle_timeout, self.patience = cookie, clock, idle_timeout, patience
        mark = next(MARKS)
        self.people = {name: Person(name, Browser(app, state=state), f"canary-{name}{mark}") for name in BROWSERS}
        self.told: list[str] = []
        self.tabs = 0

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
                    await self._give_up(request)

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
                await self._act(person, f"writes {data!r} into its session", functools.partial(_write, data))
            case Login():
                await self._act(person, "has regenerate_id() called", _login, if_live=True)
            case Logout():
                await self._act(person, "has its session ended", _logout, if_live=True)
            case Wait():
                self._wait(step)
            case Odd():
                await self._odd(step, person)
            case Script():
                await self._act(person, f"has sent {list(step.messages)!r}", functools.partial(_script, step.messages))

    # --- steps ---

    async def _whole(self, person: Person, target: Target, **more: Any) -> Request:
        request = self._begin(person, target, **more)
        await self._read(request, whole=True)
        await self._end(request)
        return request

    async def _open(self, person: Person, target: Target) -> None:
        if len(person.tabs) >= MOST_TABS or target.method == "WS":
            return
        self.tabs += 1
        request = self._begin(person, target)
        request.number = self.tabs
        person.tabs.append(request)
        await self._read(request, whole=False)
        self._tell(request, f"opens {request.words} in tab {request.number}", of=request)
        self._take(request)
        if request.exchange.over:
            await self._finish(request)

    async def _go(self, step: Go, person: Person) -> None:
        if not person.tabs:
            return
        request = person.tabs[step.tab % len(person.tabs)]
        await self._read(request, whole=step.whole)
        self._tell(request, f"reads on in tab {request.number}" + (", to the end" if step.whole else ""))
        self._take(request)
        if request.exchange.over or step.whole:
            await self._finish(request)

    async def _leave(self, step: Leave, person: Person) -> None:
        if not person.tabs:
            return
        request = person.tabs[step.tab % len(person.tabs)]
        self._tell(request, {"leave": "leaves", "half-close": "closes its own side in",
                             "cancel": "has the server cancel"}[step.way] + f" tab {request.number}")  # fmt: skip
        if step.way == "half-close":
            request.exchange.half_close()
            await self._read(request, whole=True)
        else:
            request.left = True
            if step.way == "leave":
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
        tab = person.browser.tab()
        tab.jar.clear()
        tab.jar[self.cookie] = Cookie(self.cookie, value, _attributes(self.cookie))
        await self._whole(person, step.target, browser=tab, note=f", with {stale}")

    async def _junk(self, step: Junk, person: Person) -> None:
        """Ask with wrong cookies: first what only looks, which must set none, then the target."""
        tab = person.browser.tab()
        tab.jar.clear()
        note = f", with the cookies {_brief(step.headers)}"
        looking = self._begin(person, None, act=_look, browser=tab, headers=step.headers, note=note, genuine=False)
        await self._end(looking)
        if looking.lines(self.cookie):
            self._fail("no Set-Cookie for wrong cookies and a session that nobody wrote to", "one is set")
        await self._whole(person, step.target, browser=tab, headers=step.headers, note=note, genuine=False)

    async def _odd(self, step: Odd, person: Person) -> None:
        words = f"{step.scope['method']} {step.scope['path']!r}, with the scope {_brief(step.scope)}"
        browser = person.browser.tab()
        call = Call()
        scope = {**step.scope, KEY: call}
        exchange = Exchange(browser.app, scope, browser.jar, browser.url("/"), paced=True)
        exchange.feed({"type": "http.request", "body": b"", "more_body": False})
        exchange.begin()
        request = Request(person, call, exchange, words, None, was_dead=False, genuine=False)
        await self._read(request, whole=True)
        await self._end(request)

    async def _act(self, person: Person, words: str, act: Any, *, if_live: bool = False) -> None:
        """Do something in the application's place, as one of its views could."""
        if if_live and person.value(self.cookie) is None:
            return
        ended = act is _logout
        request = self._begin(person, None, act=act, words=words)
        await self._end(request)
        if ended and not request.was_dead and person.value(self.cookie) == request.carried:
            self._fail("the cookie of the ended session is removed", "the browser still has it")

    def _wait(self, step: Wait) -> None:
        if self.clock is None:
            return
        self.told.append(f"{step.timeouts:g} of the idle timeout pass")
        self.clock.advance(self.idle_timeout * step.timeouts)
        for person in self.people.values():
            for request in person.tabs:
                request.unsure = True
            if step.timeouts > 1 and not person.tabs:
                person.end(person.value(self.cookie))

    # --- requests ---

    def _begin(
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
        browser = browser or person.browser
        call = Call(act)
        target = (target or Target("GET", "/")).filled(person.canary)
        value = browser.jar.get(self.cookie)
        carried = None if value is None else value.value
        exchange = self._exchange(browser, target, [*(headers or ()), *target.headers], call)
        was_dead = carried is not None and person.is_dead(carried)
        request = Request(person, call, exchange, words or f"{target}{note}", carried, was_dead, genuine)
        request.unsure = browser is not person.browser
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

    async def _read(self, request: Request, *, whole: bool) -> None:
        """Read a chunk, or all; leave if nothing comes for too long, or if there is no end."""
        exchange = request.exchange
        for _ in range(MOST_CHUNKS if whole else 1):
            if exchange.over:
                return
            read = exchange.receive() if isinstance(exchange, Socket) else exchange.chunk()
            try:
                more = await asyncio.wait_for(read, self.patience)
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
        await self._end(request)

    async def _give_up(self, request: Request) -> None:
        """End the application's call, whatever it waits for."""
        exchange = request.exchange
        await asyncio.wait([exchange.task], timeout=0 if exchange.over else self.patience)
        while not exchange.task.done():
            request.left = True
            exchange.disconnect()
            exchange.task.cancel()
            await asyncio.wait([exchange.task], timeout=self.patience)

    async def _end(self, request: Request) -> None:
        """Let a request end, tell it, judge it, and look whether what it left is there."""
        await self._give_up(request)
        if not request.number:
            self._tell(request, request.words, of=request)
        self._take(request)
        fault = broken(request, self.cookie, list(self.people.values()))
        if fault is None and kept(request, self.cookie):
            fault = await self._compare(request)
        if fault is not None:
            self._fail(*fault)

    async def _compare(self, request: Request) -> tuple[str, str] | None:
        """Look at the session with another request, which touches nothing."""
        for other in request.person.tabs:
            request.rivals |= other.call.changed()
            other.rivals |= request.call.changed()
        look = self._begin(request.person, None, act=_look)
        await self._give_up(look)
        fault = broken(look, self.cookie, list(self.people.values()))
        return fault or lost(request, look.call.before)

    def _take(self, request: Request) -> None:
        """Note what the answer did to the session cookie; who runs at the same time may have lost the session by it."""
        person, changed = request.person, False
        for line in request.lines(self.cookie):
            if not line.expired and line.value not in person.keys:
                if request.genuine and request.carried and not request.was_dead:
                    key = person.keys.get(request.carried)
                    person.note(line.value)
                    if isinstance(key, bytes) and person.keys[line.value] != key:
                        person.end(request.carried)
                else:
                    person.note(line.value)
                changed = True
            elif line.expired and request.carried and not person.is_dead(request.carried):
                person.end(request.carried)
                changed = True
        if changed:
            for other in person.tabs:
                other.unsure = other.unsure or other is not request

    # --- words ---

    def _tell(self, request: Request, words: str, *, of: Request | None = None) -> None:
        self.told.append(f"Browser {request.person.name} {words}" + (self._came(of) if of else ""))

    def _came(self, request: Request) -> str:
        status = request.status
        parts = ["nothing" if status is None else str(status)]
        parts += ["cookie removed" if line.expired else "cookie set" for line in request.lines(self.cookie)]
        if request.call.error is not None:
            parts.append(f"the application raises {type(request.call.error).__name__}")
        return f" → {', '.join(parts)}"

    def _fail(self, expected: str, got: str) -> None:
        steps = [f"  {number}. {words}" for number, words in enumerate(self.told, 1)]
        raise StoryError("\n".join(["a session went wrong:", *steps, f"  expected: {expected}", f"  got: {got}"]))


async def _answer(send: Callable[[Any], Awaitable[None]]) -> None:
    await send(FINE)
    await send({"type": "http.response.body"})


async def _look(session: Any, send: Any) -> None:
    await _answer(send)


async def _write(data: dict[str, Any], session: Any, send: Any) -> None:
    session.update(data)
    await _answer(send)


async def _login(session: Any, send: Any) -> None:
    with contextlib.suppress(AttributeError):  # not every middleware can
        session.regenerate_id()
    await _answer(send)


async def _logout(session: Any, send: Any) -> None:
    getattr(session, "invalidate", session.clear)()
    await _answer(send)


async def _script(messages: Sequence[Any], session: Any, send: Any) -> None:
    for number, message in enumerate(messages):
        if session:
            session["script"] = number
        await send(message)


def _attributes(name: str) -> dict[str, str]:
    return {"path": "/", "secure": ""} if name.startswith("__") else {"path": "/"}


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:180]}... ({len(text)} characters)"
