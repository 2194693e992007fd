"""A save point with no request around it: a store, what acts on it, and the state of requests made by hand.

Rules of residence: the engine's parts, put together as ``engine`` does. What a test proves stands in the test.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from clocks import FakeClock

from fastersession import JsonCodec, MemoryStore, Session
from fastersession.engine.calls import Calls
from fastersession.engine.carry_out import Actions
from fastersession.engine.flashing import Flashing
from fastersession.engine.packing import PackedValues, Packer
from fastersession.engine.spans import Spans
from fastersession.engine.values import LiveValues, Work
from fastersession.facts import Intents
from fastersession.session import give_state
from fastersession.state import State
from fastersession.stores.base import Extra
from fastersession.testing import FaultyStore

SPANS = Spans(60.0, 3600.0, 600.0)
EXTRA = Extra(retention=5.0)  # what new records say besides


class Request(State):
    """A request, which notes how often it has another record or idle timeout, and what is reloaded beside a login."""

    __slots__ = ("beside", "holds")

    beside: list[Any]
    holds: int

    def hold(self) -> None:
        self.holds += 1

    def reloaded_beside_login(self, *arguments: Any) -> None:
        self.beside.append(arguments)
        super().reloaded_beside_login(*arguments)


class Binding:
    """A sealer that only binds values to their record."""

    def record(self, record_id: bytes) -> Any:
        return SimpleNamespace(
            seal=lambda data, context: record_id + data,
            open=lambda stored, context: stored[len(record_id) :] if stored.startswith(record_id) else None,
        )


class Bench:
    """A store, what acts on it, and what was told."""

    def __init__(self, kind: str) -> None:
        self.clock, self.is_live, self.told = FakeClock(1_000.0), kind == "live", []  # type: ignore[var-annotated]
        self.inner = MemoryStore(clock=self.clock)
        self.store: Any = self.inner if self.is_live else FaultyStore(self.inner)
        events: Any = SimpleNamespace(tell=self.told.append)
        self.values: Any = LiveValues() if self.is_live else PackedValues(Packer(JsonCodec(), Binding()))
        self.calls = Calls(self.store, events, 1.0)
        self.ends: list[Any] = []
        self.calls.ended = lambda record_id, reason: self.ends.append((record_id, reason))
        self.made: list[bytes] = []  # records that listeners are told of
        self.listening: Any = SimpleNamespace(created=self.made.append)
        self.actions = Actions(
            self.calls, self.values, events, SPANS, EXTRA, self.listening, Flashing(self.calls, None)
        )
        self.host: Any = SimpleNamespace(idle_timeout=60.0, look_of=lambda value: None)

    def request(self) -> Request:
        state = Request()
        state.holds, state.beside = 0, []
        state.opened(self.host)
        return state

    def work(self, state: State, **attributes: Any) -> Work:
        work: Work = self.values.compare(state, attributes)
        return work

    async def begun(self, **attributes: Any) -> Request:
        """Return the state of a request that has made its session."""
        state = self.request()
        await self.actions.create(state, self.work(state, **attributes), None, self.clock())
        state.holds = 0
        return state

    async def another(self, state: State, **attributes: Any) -> Request:
        """Return the state of another request of the session."""
        other, record = self.request(), await self.store.load(state.record_id)
        base, encoded = self.values.load(state.record_id, record)
        other.loaded(self.host, state.record_id, record, base)  # type: ignore[arg-type]
        other.settled(base, encoded)
        return other

    async def content(self, state: State) -> Any:
        record = await self.store.load(state.record_id)
        return None if record is None else dict(self.values.load(state.record_id, record)[0])

    def after(self, verb: str, act: Callable[[], Any]) -> None:
        """Let another thread act while the store carries out a verb."""
        call = self.calls.call

        async def acting(called: Any, *arguments: Any) -> Any:
            result = await call(called, *arguments)
            if called == getattr(self.calls.verbs, verb):
                act()
            return result

        self.actions = Actions(
            SimpleNamespace(  # type: ignore[arg-type]
                call=acting, verbs=self.calls.verbs, live=self.calls.live, ended=self.calls.ended
            ),
            self.values, SimpleNamespace(tell=self.told.append), SPANS, EXTRA, self.listening,  # type: ignore[arg-type]
            Flashing(self.calls, None),
        )  # fmt: skip


def wished(**wishes: Any) -> Intents:
    intents = Intents()
    for name, value in wishes.items():
        setattr(intents, name, value)
    return intents


def session_of(state: State, **attributes: Any) -> Session:
    session = Session(attributes)
    give_state(session, state)
    return session
