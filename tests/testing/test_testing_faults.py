"""The faulty store fails exactly as told, and is a good store otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from driver import in_loop
from routes import serve

from fastersession import MemoryStore
from fastersession.stores.base import Record
from fastersession.testing import Browser, FakeClock, FaultyStore, InjectedError, session_of
from fastersession.testing.stores import StoreContract

ID, V = b"i" * 16, b"v" * 32


class TestContract(StoreContract):
    """Left alone it keeps the contract."""

    examples = 20

    def make_store(self, clock: Callable[[], float]) -> Any:
        return FaultyStore(MemoryStore(clock=clock))


@in_loop
async def test_each_fault_does_what_it_says() -> None:
    """raise: nothing done; lose: done, and raised; slow: done; hang: never."""
    store = FaultyStore(clock=FakeClock())
    record = Record(V, store.clock(), 60.0, store.clock() + 60.0, {})
    store.fail("create", "raise")
    with pytest.raises(InjectedError, match="no connection"):
        await store.create(ID, record)
    assert len(store) == 0
    store.fail("create", "lose")
    with pytest.raises(InjectedError, match="lost"):
        await store.create(ID, record)
    assert len(store) == 1
    store.fail("delete", "slow", seconds=0.001)
    assert await store.delete(ID) is True
    store.fail("load", "hang")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await store.load(ID)
    assert store.calls == ["create!", "create", "delete", "load!"]
    assert await store.load(ID) is None
    with pytest.raises(ValueError, match="explode"):
        store.fail("load", "explode")


@in_loop
async def test_the_nth_call_fails() -> None:
    """`after` lets so many calls pass, `times` lets so many fail."""
    store, outcomes = FaultyStore(), []
    store.fail("load", after=2, times=2)
    for _ in range(5):
        try:
            await store.load(ID)
            outcomes.append(True)
        except InjectedError:
            outcomes.append(False)
    assert outcomes == [True, True, False, False, True]


@pytest.mark.parametrize("after", [False, True])
@in_loop
async def test_a_gate_stops_one_call(after: bool) -> None:
    """Before it acts, or after; the next one passes."""
    store = FaultyStore(clock=FakeClock())
    gate = store.hold("create", after=after)
    call = asyncio.create_task(store.create(ID, Record(V, store.clock(), 60.0, store.clock() + 60.0, {})))
    await gate.reached.wait()
    assert (len(store), call.done()) == (int(after), False)
    gate.open.set()
    assert await call is True
    assert await store.load(ID) is not None


@in_loop
async def test_a_service_over_it_answers_as_the_readme_says() -> None:
    """Down at the load: a 503; down once at a late save: tried again, and nothing is lost."""
    store = FaultyStore()
    browser = Browser(serve(store=store))
    await browser.get("/set?a=1")
    store.fail("load")
    assert (await browser.get("/", catch=True)).status == 503
    store.fail("update")
    await browser.get("/stream?a=2")
    async with session_of(browser) as session:
        assert session == {"a": "2"}
