"""A store under test: opened over its server in a loop of its own, with short names for its verbs.

Rules of residence: what the contract and the state machine share; no test, no server.

    @over_a_store
    async def test_...(self, subject): ...     # in a class; its fixture `factory` gives a `Factory`
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import pytest

from ...stores.base import Change, Extra, Record
from ..clock import FakeClock

Factory = Callable[[Callable[[], float]], Any]  # from a clock to a store that is not open yet
START = 1_700_000_000.0
FIELDS = (
    "verifier", "verifier_before", "created_at", "accessed_at", "idle_timeout", "not_after", "regenerated_at",
    "version",
)  # fmt: skip


def fields(record: Record | None) -> dict[str, Any] | None:
    """All that a record says, to be compared; attributes as a copy."""
    if record is None:
        return None
    return {name: getattr(record, name) for name in FIELDS} | {
        "attributes": dict(record.attributes), "tag": record.extra.tag
    }  # fmt: skip


class OverAFactory:
    """What every class of tests needs: a store."""

    def make_store(self, clock: Callable[[], float]) -> Any:
        """Return a store that is not open yet, and asks ``clock`` for the time."""
        raise NotImplementedError("give make_store(), or override the fixture factory")

    @pytest.fixture
    def factory(self) -> Factory:
        """Give a function from a clock to a store."""
        return self.make_store


class Subject:
    """The store, its clock, and the arguments that a test does not care about."""

    def __init__(self, store: Any, clock: FakeClock, factory: Factory) -> None:
        self.store, self.clock, self.factory = store, clock, factory

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.store, verb)

    def change(self, /, *deletes: str, at: float | None = None, **more: Any) -> Change:
        """Make a change at this moment, or `at`."""
        return Change(self.clock() if at is None else at, deletes=deletes, **more)

    async def insert(
        self,
        attributes: Mapping[str, bytes] | None = None,
        *,
        record_id: bytes | None = None,
        verifier: bytes = b"v" * 32,
        idle: float = 600.0,
        life: float = 86_400.0,
        tag: bytes | None = None,
    ) -> bytes:
        """Create a record and return its id."""
        record_id, now = secrets.token_bytes(16) if record_id is None else record_id, self.clock()
        record = Record(verifier, now, idle, now + life, dict(attributes or {}), Extra(tag))
        assert await self.store.create(record_id, record) is True
        return record_id

    async def update(self, record_id: bytes, verifier: bytes = b"v" * 32, /, *deletes: str, **more: Any) -> bool:
        """Update with the changes that a test cares about."""
        outcome = await self.store.update(record_id, verifier, self.change(*deletes, **more))
        assert isinstance(outcome, bool)
        return outcome

    async def regenerate(self, record_id: bytes, old: bytes, new: bytes, life: float = 86_400.0, **more: Any) -> bool:
        """Regenerate; ``life`` is in seconds from now."""
        outcome = await self.store.regenerate(record_id, old, new, self.clock() + life, self.change(**more))
        assert isinstance(outcome, bool)
        return outcome

    async def read(self, record_id: bytes) -> dict[str, Any]:
        """All fields of a record that must be there."""
        found = fields(await self.store.load(record_id))
        assert found is not None
        return found

    async def attributes(self, record_id: bytes) -> dict[str, Any]:
        """All attributes of a record that must be there."""
        attributes: dict[str, Any] = (await self.read(record_id))["attributes"]
        return attributes


@contextlib.asynccontextmanager
async def opened(factory: Factory, clock: FakeClock | None = None) -> AsyncIterator[Subject]:
    """Open a store for a while."""
    clock = FakeClock(START) if clock is None else clock
    store = factory(clock)
    await store.open()
    try:
        yield Subject(store, clock, factory)
    finally:
        await store.close()


def over_a_store(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test method over a store of its own, in an event loop of its own."""
    signature = inspect.signature(test)
    shown = [part.replace(name="factory") if name == "subject" else part for name, part in signature.parameters.items()]

    @functools.wraps(test)
    def run(self: Any, **given: Any) -> None:
        async def whole() -> None:
            async with opened(given.pop("factory")) as subject:
                await test(self, subject, **given)

        asyncio.run(whole())

    run.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]  # what pytest reads
    return run
