"""The public kit's browser as our own tests use it: plain http, for most of them give `secure=False`.

Rules of residence: names of `fastersession.testing`, and what only our own tests need.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from fastersession.testing import Answer, Connection, Cookie, Jar, Message, Socket, lifespan
from fastersession.testing.browser import browser
from fastersession.testing.browser.connection import App

__all__ = [
    "Answer", "App", "Browser", "Connection", "Cookie", "Jar", "Message", "Socket", "in_loop", "lifespan", "shut_down",
]  # fmt: skip


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own: `@in_loop` above `async def test_...`, fixtures as usual."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


async def shut_down(app: App) -> None:
    """Start up, for a shutdown takes that, and shut down."""
    async with lifespan(app):
        pass


class Browser(browser.Browser):
    """A browser that speaks plain http unless told otherwise."""

    def __init__(self, app: App, *, scheme: str = "http", **options: Any) -> None:
        super().__init__(app, scheme=scheme, **options)
