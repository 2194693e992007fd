"""A store under test: opened over its server in a loop of its own, with short names for its verbs.

Rules of residence: what the contract, the state machine and the tests of single stores share; no test, no server.

    @over_a_store
    async def test_...(self, subject): ...     # in a class; pytest gives `factory`, see `Factory`
    await make(store, a=b"1")                  # one record under ID, for a test that brings its own store
    assert await content(store) == {"a": b"1"}
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from clocks import FakeClock

from fastersession.stores.base import Change, Record

__all__ = [
    "EVERY", "FIELDS", "ID", "OTHER_ID", "OWNER", "SHARED", "START", "V1", "V2", "V3", "Change", "Factory", "Subject",
    "content", "fields", "make", "opened", "over_a_store",
]  # fmt: skip

SHARED = ("sqlite", "redis", "redis_cluster", "asyncpg", "psycopg", "mariadb")  # kinds of stores that processes share
EVERY = ("memory", *SHARED)
Factory = Callable[[Callable[[], float]], Any]  # from a clock to a store that is not open yet
ID, OTHER_ID = b"\x00\xff'\"\\%;:$1?{}\n\r\x1a", bytes(16)
V1, V2, V3 = (bytes(range(start, start + 32)) for start in (0, 32, 200))
OWNER = b"'" * 16
START = 1_700_000_000.0
FIELDS = ("verifier", "created_at", "accessed_at", "idle_timeout", "not_after", "regenerated_at", "user", "version")


def fields(record: Record | None) -> dict[str, Any] | None:
    """All that a record says, to be compared; attributes as a copy."""
    if record is None:
        return None
    return {name: getattr(record, name) for name in FIELDS} | {"attributes": dict(record.attributes)}


async def make(store: Any, record_id: bytes = ID, verifier: bytes = V1, **attributes: bytes) -> Record:
    """Create a record that idles out after 100 s and ends after 1,000."""
    now = store.clock()
    record: Record | None = await store.create(record_id, verifier, now, 100.0, now + 1000, attributes)
    assert record is not None
    return record


async def content(store: Any, record_id: bytes = ID) -> dict[str, bytes]:
    """All attributes of a record that must be there."""
    record = await store.load(record_id)
    assert record is not None
    return dict(record.attributes)


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
        user: str | None = None,
    ) -> bytes:
        """Create a record and return its id."""
        record_id, now = secrets.token_bytes(16) if record_id is None else record_id, self.clock()
        record = await self.store.create(record_id, verifier, now, idle, now + life, dict(attributes or {}), user)
        assert record is not None
        return record_id

    async def update(self, record_id: bytes, verifier: bytes = b"v" * 32, /, *deletes: str, **more: Any) -> bool:
        outcome = await self.store.update(record_id, verifier, self.change(*deletes, **more))
        assert isinstance(outcome, bool)
        return outcome

    async def regenerate(self, record_id: bytes, old: bytes, new: bytes, life: float = 86_400.0, **more: Any) -> bool:
        outcome = await self.store.regenerate(record_id, old, new, self.clock() + life, self.change(**more))
        assert isinstance(outcome, bool)
        return outcome

    async def read(self, record_id: bytes) -> dict[str, Any]:
        """All fields of a record that must be there."""
        found = fields(await self.store.load(record_id))
        assert found is not None
        return found

    async def attributes(self, record_id: bytes) -> dict[str, Any]:
        return (await self.read(record_id))["attributes"]


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
