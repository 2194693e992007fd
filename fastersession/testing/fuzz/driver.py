"""Drives the requests of a scenario: begins them, reads their answers, ends them, and has each checked.

Rules of residence: one request at a time, and its effect on the others of its browser. ``player`` has the steps of a
scenario, ``checks`` the checks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

from ..browser.browser import Browser
from ..browser.connection import Connection, Socket
from ..browser.jar import Cookie, Headers
from ..clock import FakeClock
from .browsers import Client, ClientRequest
from .checks import Violation, first_violation, lost_change, must_be_stored
from .observer import KEY, Call
from .scenario import BROWSERS, Target
from .views import probe

MARKS = itertools.count()  # no two scenarios share a canary: an application may remember them
MOST_CHUNKS = 20  # of an answer that may be endless


class ScenarioError(AssertionError):
    """A scenario that fails, described step by step."""


class Driver:
    """The requests of one scenario.

    :param app: the application within the middleware; the middleware's application is an ``Observer``.
    :param cookie: the name of the session cookie.
    :param clock: is advanced by ``Wait``, which does nothing if it is ``None``.
    :param extra: goes into each scope.
    :param sessions: a ``Sessions``, by which they are revoked; ``None``: that step does nothing.
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
        sessions: Any = None,
    ) -> None:
        self.sessions = sessions
        self.cookie, self.clock, self.idle_timeout, self.patience = cookie, clock, idle_timeout, patience
        mark = next(MARKS)
        self.clients = {
            name: Client(name, Browser(app, state=state, extra=extra), f"canary-{name}{mark}") for name in BROWSERS
        }
        self.report: list[str] = []

    def begin(
        self,
        client: Client,
        target: Target | None,
        *,
        view: Any = None,
        words: str = "",
        browser: Browser | None = None,
        headers: Headers | None = None,
        note: str = "",
        genuine: bool = True,
    ) -> ClientRequest:
        """Begin a request to a target, or to a view in the application's place; ``browser`` may be a tab."""
        browser = browser or client.browser
        call = Call(view)
        target = (target or Target("GET", "/")).filled(client.canary)
        value = browser.jar.get(self.cookie)
        carried = None if value is None else value.value
        connection = self._connect(browser, target, [*(headers or ()), *target.headers], call)
        had_ended = carried is not None and client.has_ended(carried)
        request = ClientRequest(client, call, connection, words or f"{target}{note}", carried, had_ended, genuine)
        request.unsure = browser is not client.browser
        request.talks = bool(target.body)
        connection.begin()
        return request

    def _connect(self, browser: Browser, target: Target, headers: Headers, call: Call) -> Connection:
        if target.method == "WS":
            socket: Socket = browser.websocket(target.address, headers=headers, **{KEY: call})
            socket.feed({"type": "websocket.connect"})
            if target.body:
                socket.feed({"type": "websocket.receive", "text": target.body.decode()})
            return socket
        opened = browser.open(
            target.address, method=target.method, body=target.body, headers=headers, paced=call.view is None
        )
        opened.scope[KEY] = call
        return opened

    async def read(self, request: ClientRequest, *, whole: bool) -> None:
        """Read a chunk, or to the end. Leave if nothing comes in time, or if there is no end."""
        connection = request.connection
        if isinstance(connection, Socket):
            with contextlib.suppress(TimeoutError):
                answer = connection.receive() if request.talks else connection.accepted()
                await asyncio.wait_for(answer, self.patience)
            connection.disconnect(1000)
            return
        for _ in range(MOST_CHUNKS if whole else 1):
            if connection.over:
                return
            try:
                more = await asyncio.wait_for(connection.chunk(), self.patience)
            except TimeoutError:
                break
            if not more:
                await asyncio.wait([connection.task], timeout=self.patience)
                return
        if whole and not connection.over:
            request.left = True
            connection.disconnect()

    async def _finish(self, request: ClientRequest) -> None:
        request.client.tabs.remove(request)
        await self.end(request)

    async def stop(self, request: ClientRequest) -> None:
        """End the application's call, by force if need be."""
        connection = request.connection
        await asyncio.wait([connection.task], timeout=0 if connection.over else self.patience)
        while not connection.task.done():
            request.left = True
            connection.disconnect()
            connection.task.cancel()
            await asyncio.wait([connection.task], timeout=self.patience)

    async def end(self, request: ClientRequest) -> None:
        """End a request, report it, and check it and the session that it leaves."""
        await self.stop(request)
        if not request.number:
            self.add_step(request, request.words, of=request)
        self.take(request)
        for other in request.client.tabs:
            request.contested |= other.call.changed()
            other.contested |= request.call.changed()
        violation = self._check(request)
        if violation is None and must_be_stored(request, self.cookie):
            violation = await self._compare(request)
        given = [line.value for line in request.lines(self.cookie) if not line.expired]
        if violation is None and request.genuine:
            violation = await self.revived(request.client, given[-1] if given else request.carried)
        if violation is not None:
            self.fail(*violation)

    def _check(self, request: ClientRequest) -> Violation | None:
        return first_violation(request, self.cookie, list(self.clients.values()))

    async def _compare(self, request: ClientRequest) -> Violation | None:
        """Compare what a request left with what a probe after it finds."""
        after = self.begin(request.client, None, view=probe)
        await self.stop(after)
        return self._check(after) or lost_change(request, after.call.before)

    async def revived(self, client: Client, value: str | None) -> Violation | None:
        """Check with a probe that a session which has ended is not back."""
        if value is None or not client.has_ended(value):
            return None
        after = self.begin(client, None, view=probe, browser=self.tab_with(client, value))
        await self.stop(after)
        return self._check(after)

    def tab_with(self, client: Client, value: str) -> Browser:
        """Return a tab whose only cookie is the session cookie of this value."""
        tab = client.browser.tab()
        tab.jar.clear()
        tab.jar[self.cookie] = Cookie(self.cookie, value, {"path": "/", "secure": ""})
        return tab

    def take(self, request: ClientRequest) -> None:
        """Note how the answer changes the session cookie. The client's other requests may lose the session by it."""
        client, changed = request.client, False
        for line in request.lines(self.cookie):
            if not line.expired and line.value not in client.keys:
                client.note(line.value, request.carried if request.genuine else None)
                changed = True
            elif line.expired and request.carried and not client.has_ended(request.carried):
                client.end(request.carried)
                changed = True
        if changed:
            for other in client.tabs:
                other.unsure = other.unsure or other is not request

    # --- the report ---

    def add_step(self, request: ClientRequest, words: str, *, of: ClientRequest | None = None) -> None:
        """Add a step to the report, and the result of a request."""
        self.report.append(f"Browser {request.client.name} {words}" + (_result(of, self.cookie) if of else ""))

    def fail(self, expected: str, got: str) -> None:
        """End the scenario with its report.

        :raises ScenarioError: always.
        """
        steps = [f"  {number}. {words}" for number, words in enumerate(self.report, 1)]
        raise ScenarioError("\n".join(["a session went wrong:", *steps, f"  expected: {expected}", f"  got: {got}"]))


def _result(request: ClientRequest, cookie: str) -> str:
    parts = ["nothing" if request.status is None else str(request.status)]
    parts += ["cookie removed" if line.expired else "cookie set" for line in request.lines(cookie)]
    if request.call.error is not None:
        parts.append(f"the application raises {type(request.call.error).__name__}")
    return f" → {', '.join(parts)}"
