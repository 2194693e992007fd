"""A clock that ran ahead and is set back: its sessions live longer, and one warning says so."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import FakeClock
from driver import Browser, in_loop
from routes import content, events, serve, tab
from store_subject import EVERY, SHARED, START, Factory

HOUR = 3600.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


async def seen_ahead(store: Any, clock: FakeClock, by: float, *, browsers: int = 1) -> list[Browser]:
    """Return browsers whose sessions were written to by a clock that was set back afterwards."""
    app = serve(store=store, idle_timeout=HOUR, lifetime=100 * HOUR)
    found = [Browser(app) for _ in range(browsers)]
    for browser in found:
        await browser.get("/set?a=1")
    clock.advance(by)
    for browser in found:
        await browser.get("/set?a=2")
    clock.advance(-by)
    return found


@pytest.mark.parametrize("kind", EVERY)
@in_loop
async def test_the_first_record_from_ahead_is_warned_of_once(factory: Factory, clock: FakeClock, caplog: Any) -> None:
    """At the first save to one, in every store; the sessions go on, and end an idle timeout after that time."""
    store = factory(clock)
    first, second = await seen_ahead(store, clock, HOUR / 2, browsers=2)
    for browser in (first, second, first):
        await browser.get("/set?b=1")
        assert [record.levelname for record in events(caplog, "clock.ahead")] == ["WARNING"]
        assert await content(browser) == {"a": "2", "b": "1"}
    other = serve(store=store, idle_timeout=HOUR, lifetime=100 * HOUR)
    first.app = other
    clock.advance(1.4 * HOUR)
    assert await content(first) == {"a": "2", "b": "1"}
    clock.advance(1.2 * HOUR)
    assert await content(second) == {}
    await store.close()


@pytest.mark.parametrize("kind", SHARED)
@in_loop
async def test_outside_the_process_reading_one_is_enough(factory: Factory, clock: FakeClock, caplog: Any) -> None:
    """Each request loads its record there, and looks at its times anyway."""
    store = factory(clock)
    (browser,) = await seen_ahead(store, clock, 61)
    await content(browser)
    assert len(events(caplog, "clock.ahead")) == 1
    await store.close()


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize("notice", ["first return", "any save"])
@in_loop
async def test_in_memory_it_is_noticed_at_what_is_rare(
    notice: str, factory: Factory, clock: FakeClock, caplog: Any
) -> None:
    """When a cookie comes back for the first time, and at every save: a load is too hot for it."""
    store = factory(clock)
    browser = Browser(serve(store=store, idle_timeout=HOUR))
    if notice == "first return":
        clock.advance(HOUR)
        await browser.get("/set?a=1")
        clock.advance(-HOUR)
    else:
        (browser,) = await seen_ahead(store, clock, HOUR / 2)
    assert events(caplog, "clock.ahead") == []
    await browser.get("/" if notice == "first return" else "/set?b=1")
    assert len(events(caplog, "clock.ahead")) == 1


@pytest.mark.parametrize("kind", EVERY)
@in_loop
async def test_what_ntp_does_to_a_clock_is_no_warning(factory: Factory, clock: FakeClock, caplog: Any) -> None:
    """A minute and less: machines differ by so much."""
    store = factory(clock)
    (browser,) = await seen_ahead(store, clock, 60)
    await tab(browser).get("/set?b=1")
    await content(browser)
    assert events(caplog, "clock.ahead") == []
    await store.close()
