"""Runs any application within the middleware through stories of browsers, and tells the shortest one that goes wrong.

Rules of residence: hypothesis, the lifespan, and the making of a middleware for each story.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky, HypothesisWarning

from ...config import IDLE_TIMEOUT, default_cookie_name
from ...middleware import FasterSessionMiddleware
from ...session import seconds
from ...stores.memory import MemoryStore
from ..browser.connection import Exchange
from ..browser.jar import Jar
from ..browser.sessions import middleware_of
from ..clock import FakeClock
from .driver import StoryError
from .observer import Observer
from .player import World
from .scenario import Step, Target, certain_stories, clients

__all__ = ["check_app"]

SECRET = "a secret of the stories of check_app, and of nothing else"  # noqa: S105 - guards nothing


def check_app(
    app: Any,
    targets: Sequence[str | Target] = ("GET /",),
    *,
    make_store: Callable[[FakeClock], Any] | None = None,
    wrap: Callable[[Any], Any] | None = None,
    session_cookie: str | None = None,
    examples: int = 100,
    steps: int = 12,
    patience: float = 1.0,
    **options: Any,
) -> None:
    """Run an ASGI application within the middleware through stories of browsers; raise the shortest that goes wrong.

    A story has two browsers, with tabs, logins, logouts, reloads, streams that are left, old and wrong cookies, odd
    scopes, and time that passes. Of every request it is checked: no exception comes out that the application did not
    raise; its messages arrive as they were; at most one cookie is set, none for wrong cookies; nothing that only one
    browser knows reaches another; a session that has ended never comes back; and what was written, in a stream too, is
    there afterwards. Errors of the application are its own affair. Runs event loops of its own: call it from sync code.

    :param app: the application, one for all stories; its lifespan runs once. What it has within a middleware of ours is
        taken from there, and gets another, made of ``options``.
    :param targets: the requests that browsers make, each ``"METHOD /address"`` (``"WS /address"`` for a WebSocket) or a
        ``Target``. ``{canary}`` in one becomes a word that only one browser knows, and must never reach another.
    :param make_store: makes a store for each story, by its clock; ``None`` takes a ``MemoryStore``.
    :param wrap: puts another session middleware around the application than ours; then give ``session_cookie``, too.
    :param examples: how many stories are tried. :param steps: the most steps of one.
    :param patience: seconds that a browser waits for the next message of the application, before it leaves.
    :param options: arguments of ``FasterSessionMiddleware``.
    :raises StoryError: the shortest story found, in words; an ``AssertionError``.
    """
    app, extra = _bare(app)
    options = {"secret_key": SECRET, **options}
    place = {"secure": options.get("secure", True), "path": options.get("path", "/"), "domain": options.get("domain")}
    name = options["session_cookie"] = default_cookie_name(session_cookie, **place)

    async def tell(story: Sequence[Any], state: dict[str, Any]) -> None:
        clock = FakeClock()
        watched = Observer(app, options.get("scope_key", "session"))
        store = MemoryStore(clock=clock) if make_store is None else make_store(clock)
        world = World(
            FasterSessionMiddleware(watched, **{**options, "store": store}) if wrap is None else wrap(watched),
            name,
            clock=clock if wrap is None else None,
            idle_timeout=seconds(options.get("idle_timeout", IDLE_TIMEOUT)) or 0.0,
            patience=patience,
            state=state,
            extra=extra,
        )
        try:
            await world.play(story)
        finally:
            await store.close()

    stories = clients(targets, session_cookie=name, max_steps=steps)
    with asyncio.Runner() as runner:
        living = _lifespan(app, extra)
        state = runner.run(living.__aenter__())
        try:
            for story in certain_stories([Target.of(one) for one in targets]):
                runner.run(tell(story, state))
            _search(stories, examples, lambda story: runner.run(tell(story, state)))
        finally:
            runner.run(living.__aexit__(None, None, None))


def _search(stories: Any, examples: int, tell: Callable[[Sequence[Step]], None]) -> None:
    """Tell stories until one goes wrong; then find its shortest form, and raise that."""
    worst: list[StoryError] = []

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        print_blob=False, report_multiple_bugs=False, phases=[one for one in Phase if one is not Phase.explain],
    )  # fmt: skip
    @given(stories)
    def each(story: Sequence[Step]) -> None:
        try:
            tell(story)
        except StoryError as error:
            worst.append(error)
            raise

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # of stories with large cookies, which it tells in code
            each()
    except StoryError as error:
        raise StoryError(str(error)) from None  # without hypothesis's notes, which say it again in code
    except Flaky:
        text = f"{worst[-1]}\n  (once: when the story was told again, it ended well)"
        raise StoryError(text) from None


def _bare(app: Any) -> tuple[Any, dict[str, Any]]:
    """Return what is within the session middleware of an application, and what Starlette adds to scopes around it."""
    try:
        found = middleware_of(app)
    except LookupError:
        return app, {}
    return found.app, {} if found is app else {"app": app}


@contextlib.asynccontextmanager
async def _lifespan(app: Any, extra: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Start an application up, and shut it down; one that knows no lifespan is left alone."""
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state, **extra}
    exchange = Exchange(app, scope, Jar(), "")
    exchange.feed({"type": "lifespan.startup"})
    sent = exchange.answer.messages
    exchange.begin()
    await exchange.until(lambda: sent)
    if sent and sent[0]["type"] == "lifespan.startup.failed":
        raise AssertionError(f"the application does not start: {sent[0].get('message', '')}")
    yield state
    if not exchange.over:
        exchange.feed({"type": "lifespan.shutdown"})
    await asyncio.wait([exchange.task], timeout=10)
    exchange.task.cancel()
    await asyncio.wait([exchange.task], timeout=1)
