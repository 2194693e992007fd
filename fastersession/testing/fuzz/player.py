"""Plays a scenario: its browsers do each step against the observed application.

Rules of residence: what each step does, and the words for it. A player plays one scenario.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..browser.connection import Connection
from .browsers import Client, ClientRequest
from .checks import short
from .driver import Driver
from .observer import KEY, Call
from .scenario import (  # fmt: skip
    Leave,
    Login,
    Logout,
    OddScope,
    Open,
    ReadOn,
    Regenerate,
    Replay,
    Respond,
    Revoke,
    Step,
    Target,
    Visit,
    Wait,
    Write,
    WrongCookies,
)
from .views import login, logout, probe, regenerate, respond, write

MOST_TABS = 3


class Player(Driver):
    """Does the steps of one scenario."""

    tabs = 0

    async def play(self, scenario: Sequence[Step]) -> None:
        """Do the steps, then read every open tab to its end.

        :raises ScenarioError: a check has found a violation.
        """
        try:
            for step in scenario:
                await self._do(step, self.clients[step.who])
            for client in self.clients.values():
                while client.tabs:
                    await self._read_on(ReadOn(client.name, 0, True), client)
        finally:
            for client in self.clients.values():
                for request in client.tabs:
                    await self.stop(request)

    async def _do(self, step: Step, client: Client) -> None:
        match step:
            case Visit():
                await self._whole(client, step.target)
            case Open():
                await self._open(client, step.target)
            case ReadOn():
                await self._read_on(step, client)
            case Leave():
                await self._leave(step, client)
            case Replay():
                await self._replay(step, client)
            case WrongCookies():
                await self._wrong_cookies(step, client)
            case Write():
                data = {**step.data, "canary": client.canary}
                await self._run_view(client, f"writes {data!r} into its session", functools.partial(write, data))
            case Login():
                await self._run_view(client, "logs in", functools.partial(login, client.canary))
            case Regenerate():
                await self._run_view(client, "has regenerate_id() called", regenerate, if_live=True)
            case Revoke():
                await self._revoke(client)
            case Logout():
                await self._run_view(client, "has its session ended", logout, if_live=True)
            case Wait():
                await self._wait(step)
            case OddScope():
                await self._odd_scope(step, client)
            case Respond():
                await self._run_view(
                    client, f"has sent {list(step.messages)!r}", functools.partial(respond, step.messages)
                )

    # --- steps ---

    async def _whole(self, client: Client, target: Target, **more: Any) -> ClientRequest:
        request = self.begin(client, target, **more)
        await self.read(request, whole=True)
        await self.end(request)
        return request

    async def _open(self, client: Client, target: Target) -> None:
        if len(client.tabs) >= MOST_TABS or target.method == "WS":
            return
        self.tabs += 1
        request = self.begin(client, target)
        request.number = self.tabs
        client.tabs.append(request)
        await self.read(request, whole=False)
        self.add_step(request, f"opens {request.words} in tab {request.number}", of=request)
        self.take(request)
        if request.connection.over:
            await self._finish(request)

    async def _read_on(self, step: ReadOn, client: Client) -> None:
        if not client.tabs:
            return
        request = client.tabs[step.tab % len(client.tabs)]
        await self.read(request, whole=step.whole)
        self.add_step(request, f"reads on in tab {request.number}" + (", to the end" if step.whole else ""))
        self.take(request)
        if request.connection.over or step.whole:
            await self._finish(request)

    async def _leave(self, step: Leave, client: Client) -> None:
        if not client.tabs:
            return
        request = client.tabs[step.tab % len(client.tabs)]
        self.add_step(request, {"leave": "leaves", "half-close": "closes its own side in",
                             "cancel": "has the server cancel"}[step.way] + f" tab {request.number}")  # fmt: skip
        request.left = True
        if step.way == "half-close":
            request.connection.half_close()
            await self.read(request, whole=True)
        elif step.way == "leave":
            request.connection.disconnect()
        else:
            request.connection.task.cancel()
        await self._finish(request)

    async def _replay(self, step: Replay, client: Client) -> None:
        old = [value for value in client.values if value != client.value(self.cookie)]
        if not old:
            return
        value = old[step.which % len(old)]
        stale = "a cookie of an ended session" if client.has_ended(value) else "an old cookie"
        await self._whole(client, step.target, browser=self.tab_with(client, value), note=f", with {stale}")

    async def _wrong_cookies(self, step: WrongCookies, client: Client) -> None:
        """Send wrong cookies with a probe, which must set none, and then to the target."""
        tab = client.browser.tab()
        tab.jar.clear()
        note = f", with the cookies {short(step.headers, 200)}"
        probed = self.begin(client, None, view=probe, browser=tab, headers=step.headers, note=note, genuine=False)
        await self.end(probed)
        if probed.lines(self.cookie):
            self.fail("no Set-Cookie for wrong cookies and a session that nobody wrote to", "one is set")
        await self._whole(client, step.target, browser=tab, headers=step.headers, note=note, genuine=False)

    async def _odd_scope(self, step: OddScope, client: Client) -> None:
        words = f"{step.scope['method']} {step.scope['path']!r}, with the scope {short(step.scope, 200)}"
        browser = client.browser.tab()
        call = Call()
        scope = {**step.scope, **browser.extra, KEY: call}
        connection = Connection(browser.app, scope, browser.jar, browser.url("/"), paced=True)
        connection.feed({"type": "http.request", "body": b"", "more_body": False})
        connection.begin()
        request = ClientRequest(client, call, connection, words, None, had_ended=False, genuine=False)
        await self.read(request, whole=True)
        await self.end(request)

    async def _run_view(self, client: Client, words: str, view: Any, *, if_live: bool = False) -> None:
        """Run a view in the application's place."""
        if if_live and client.value(self.cookie) is None:
            return
        request = self.begin(client, None, view=view, words=words)
        await self.end(request)
        if view is logout and request.call.before and client.value(self.cookie) == request.carried:
            self.fail("the cookie of the ended session is removed", "the browser still has it")

    async def _revoke(self, client: Client) -> None:
        """End the user's sessions, of which this browser has one at most that was not replaced."""
        value, seen = client.value(self.cookie), self.begin(client, None, view=probe)
        await self.stop(seen)
        if self.sessions is None or value is None or seen.call.user != client.canary:
            return
        ended = await self.sessions.revoke_user(client.canary)
        self.report.append(f"all sessions of browser {client.name}'s user are revoked: {ended}")
        for request in client.tabs:
            request.unsure = True
        client.end(value)
        violation = await self.revived(client, value)
        if not ended:
            self.fail("the session that the user is logged in with is ended", "none was")
        if violation is not None:
            self.fail(*violation)

    async def _wait(self, step: Wait) -> None:
        if self.clock is None:
            return
        self.report.append(f"{step.timeouts:g} of the idle timeout pass")
        self.clock.advance(self.idle_timeout * step.timeouts)
        for client in self.clients.values():
            for request in client.tabs:
                request.unsure = True
            if step.timeouts > 1 and not client.tabs:
                client.end(client.value(self.cookie))
                violation = await self.revived(client, client.value(self.cookie))
                if violation is not None:
                    self.fail(*violation)
