"""Requests that do something with conversations, for tests: what a request does is a function of its session.

Rules of residence: how it gets into a request, and what comes out; what a test proves stands in the test.

    pages = Pages(store)                      # a middleware and its browsers
    browser = pages.browser()
    value = await pages.inside(browser, do)   # async def do(session): ... in a request of this browser
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from driver import Browser
from routes import Call, serve

from fastersession import Session

Do = Callable[[Session], Awaitable[Any]]


class Pages:
    """One middleware, whose requests do what a test gives them."""

    def __init__(self, store: Any, **options: Any) -> None:
        self.store = store
        routes = {"/do": self._run, "/in": self._in, "/out": self._out, "/revoke": self._revoke}
        self.app = serve(routes, store=store, **options)
        self._do: Do | None = None
        self._found: Any = None

    def browser(self) -> Browser:
        """Return a browser without cookies."""
        return Browser(self.app)

    async def inside(self, browser: Browser, do: Do, status: int = 200) -> Any:
        """Have a request do something, and return what it returns; the answer has this status."""
        self._do, self._found = do, None
        answer = await browser.get("/do")
        assert answer.status == status, answer.body
        return self._found

    async def log_in(self, browser: Browser, user: str) -> None:
        """Log a user in."""
        await browser.get(f"/in?user={user}")

    async def log_out(self, browser: Browser) -> None:
        """Log him out."""
        await browser.get("/out")

    async def revoke(self, browser: Browser, user: str) -> None:
        """End all sessions of a user."""
        await browser.get(f"/revoke?user={user}")

    async def _revoke(self, call: Call) -> None:
        await call.scope["state"]["session"].sessions.revoke_user(call.query["user"])
        await call.reply()

    async def _run(self, call: Call) -> None:
        assert self._do is not None
        self._found = await self._do(call.session)
        await call.reply()

    async def _in(self, call: Call) -> None:
        call.session.login(call.query["user"])
        await call.reply()

    async def _out(self, call: Call) -> None:
        call.session.logout()
        await call.reply()
