"""Runs scenarios of browsers against any application within the middleware, and reports the shortest that fails.

Rules of residence: hypothesis, the lifespan, and the making of a middleware for each scenario.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Flaky, HypothesisWarning

from ... import FasterSessionMiddleware, MemoryStore, Sessions
from ..browser.connection import Connection
from ..browser.jar import Jar
from ..browser.sessions import middleware_of
from ..clock import FakeClock
from .driver import ScenarioError
from .observer import Observer
from .player import Player
from .scenario import Step, Target, clients, fixed_scenarios

HALF_A_DAY = 12 * 60 * 60
SECRET = "a secret of the scenarios of check_app, and of nothing else"  # noqa: S105 - guards nothing


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
    """Run scenarios of browsers against an ASGI application within the middleware; raise the shortest that fails.

    A scenario has two browsers. They open tabs, log in and out, are logged out everywhere, reload, leave streams, send
    old and wrong cookies and odd scopes, and let time pass. Every request is checked:

    - no exception comes out that the application did not raise;
    - the application's messages arrive as it sent them;
    - at most one cookie is set, and none for wrong cookies;
    - nothing that only one browser knows reaches another;
    - a session that has ended never comes back;
    - what was written is there afterwards, also what a stream wrote.

    An error that the application raises itself fails no scenario. Call this from sync code: it runs an event loop.

    :param app: the application, one for all scenarios; its lifespan runs once. If a middleware of ours is in it, the
        application within that one is taken, and gets a middleware made of ``options``.
    :param targets: the requests that browsers make, each ``"METHOD /address"`` (``"WS /address"`` for a WebSocket) or a
        ``Target``. ``{canary}`` in one becomes a word that only one browser knows, and must never reach another.
    :param make_store: makes the store of each scenario, with its clock; ``None`` takes a ``MemoryStore``.
    :param wrap: puts another session middleware around the application; then give ``session_cookie``, too.
    :param examples: the number of scenarios that are drawn.
    :param steps: the greatest number of steps in a scenario.
    :param patience: seconds that a browser waits for the next message of the application, before it leaves.
    :param options: arguments of ``FasterSessionMiddleware``.
    :raises ScenarioError: describes the shortest scenario that fails; an ``AssertionError``.
    """
    app, extra = _bare(app)
    idle_timeout = options.get("idle_timeout", max(HALF_A_DAY, options.get("max_age", 0)))
    options = {"secret_key": SECRET, **options, "session_cookie": session_cookie, "idle_timeout": idle_timeout}

    def observed() -> Observer:
        return Observer(app, options.get("scope_key", "session"))

    def within(store: Any) -> FasterSessionMiddleware:
        return FasterSessionMiddleware(observed(), **{**options, "store": store})

    def sessions_of(store: Any) -> Sessions:
        kept = {key: options[key] for key in ("secret_key", "codec", "seal") if key in options}
        return Sessions(store, **kept, session_cookie=name)

    name = session_cookie or within(MemoryStore()).session_cookie

    async def play(scenario: Sequence[Any], state: dict[str, Any]) -> None:
        clock = FakeClock()
        store = MemoryStore(clock=clock) if make_store is None else make_store(clock)
        player = Player(
            within(store) if wrap is None else wrap(observed()),
            name,
            clock=clock if wrap is None else None,
            idle_timeout=idle_timeout / timedelta(seconds=1) if isinstance(idle_timeout, timedelta) else idle_timeout,
            patience=patience,
            state=state,
            extra=extra,
            sessions=None if wrap is not None else sessions_of(store),
        )
        try:
            await player.play(scenario)
        finally:
            await store.close()

    scenarios = clients(targets, session_cookie=name, max_steps=steps)
    with asyncio.Runner() as runner:
        living = _lifespan(app, extra)
        state = runner.run(living.__aenter__())
        try:
            for scenario in fixed_scenarios([Target.of(one) for one in targets]):
                runner.run(play(scenario, state))
            _search(scenarios, examples, lambda scenario: runner.run(play(scenario, state)))
        finally:
            runner.run(living.__aexit__(None, None, None))


def _search(scenarios: Any, examples: int, play: Callable[[Sequence[Step]], None]) -> None:
    """Play scenarios until one fails; then raise the shortest form of it."""
    failed: list[ScenarioError] = []

    @settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        print_blob=False, report_multiple_bugs=False, phases=[one for one in Phase if one is not Phase.explain],
    )  # fmt: skip
    @given(scenarios)
    def each(scenario: Sequence[Step]) -> None:
        try:
            play(scenario)
        except ScenarioError as error:
            failed.append(error)
            raise

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HypothesisWarning)  # of scenarios with large cookies
            each()
    except ScenarioError as error:
        raise ScenarioError(str(error)) from None  # without hypothesis's notes, which repeat the scenario as code
    except Flaky:
        text = f"{failed[-1]}\n  (once: when the scenario was played again, it passed)"
        raise ScenarioError(text) from None


def _bare(app: Any) -> tuple[Any, dict[str, Any]]:
    """Return the application within our middleware, if it has one, and what Starlette adds to scopes around that."""
    try:
        found = middleware_of(app)
    except LookupError:
        return app, {}
    return found.app, {} if found is app else {"app": app}


@contextlib.asynccontextmanager
async def _lifespan(app: Any, extra: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Start an application up, and shut it down, if it knows the lifespan."""
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state, **extra}
    connection = Connection(app, scope, Jar(), "")
    connection.feed({"type": "lifespan.startup"})
    sent = connection.answer.messages
    connection.begin()
    await connection.until(lambda: sent)
    if sent and sent[0]["type"] == "lifespan.startup.failed":
        raise AssertionError(f"the application does not start: {sent[0].get('message', '')}")
    yield state
    if not connection.over:
        connection.feed({"type": "lifespan.shutdown"})
    await asyncio.wait([connection.task], timeout=10)
    connection.task.cancel()
    await asyncio.wait([connection.task], timeout=1)
