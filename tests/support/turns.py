"""Handlers that take turns of a session, in what stands for two processes over one store.

Rules of residence: what the tests of `exclusive()` share; no test. No wait but for events and turns of the loop.
"""

from __future__ import annotations

import asyncio
from typing import Any

from driver import Browser
from routes import Call, serve, tab

from fastersession import Session


class Turns:
    """Handlers that take turns, and what they saw."""

    def __init__(self, store: Any, **options: Any) -> None:
        self.store = store
        self.inside = self.most_inside = 0
        self.order: list[str] = []
        self.errors: list[BaseException] = []
        self.entered, self.leave = asyncio.Event(), asyncio.Event()
        routes = {"/turn": self.turn, "/hold": self.hold, "/late": self.late}
        self.apps = [serve(routes, store=store, **options) for _ in range(2)]  # as in two processes

    async def turn(self, call: Call) -> None:
        async with call.session.exclusive(float(call.query.get("timeout", 30))):
            await self._inside(call, call.session)
        await call.reply()

    async def late(self, call: Call) -> None:
        await call.start()
        async with call.session.exclusive() as session:
            assert session is call.session
            await self._inside(call, session)
        await call.finish()

    async def _inside(self, call: Call, session: Session) -> None:
        self.inside += 1
        self.most_inside = max(self.inside, self.most_inside)
        history = list(session.get("history", ()))
        for _ in range(5):
            await asyncio.sleep(0)
        session["history"] = [*history, call.query["name"]]
        self.order.append(call.query["name"])
        self.inside -= 1

    async def hold(self, call: Call) -> None:
        await call.start()
        try:
            async with call.session.exclusive():
                call.session["held"] = call.query["name"]
                self.entered.set()
                await self.leave.wait()
        except Exception as error:
            self.errors.append(error)
            raise
        await call.finish()

    async def browser(self) -> Browser:
        """Return a browser with a session."""
        browser = Browser(self.apps[0])
        await browser.get("/set?a=1")
        return browser

    def elsewhere(self, browser: Browser) -> Browser:
        """Return its second tab, served by the other process."""
        other = tab(browser)
        other.app = self.apps[1]
        return other

    @property
    def idle(self) -> bool:
        """Tell that no turn is waited for or held in either process."""
        return all(app._engine.turns.queue._lines == {} for app in self.apps)

    async def is_free(self) -> bool:
        """Tell that no lease is held of the session made last."""
        record_id = next(call[1] for call in reversed(self.store.arguments) if call[0] == "create")
        record, owner = await self.store.inner.load(record_id), b"a stranger's own"
        free: bool = await self.store.inner.lock(record_id, record.verifier, owner, 1)
        return free and await self.store.inner.unlock(record_id, owner)


async def spin(turns: int = 50) -> None:
    """Let everything that is ready run, so many times."""
    for _ in range(turns):
        await asyncio.sleep(0)
