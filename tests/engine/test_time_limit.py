"""One timer bounds many calls, by the rules of asyncio.timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from driver import in_loop

from fastersession.engine.calls import TICKS, TimeLimit

NEVER = 3600.0
SOON = 0.02  # seconds


async def limited(limit: TimeLimit, seconds: float = NEVER) -> str:
    await limit.run(asyncio.sleep, seconds)
    return "done"


@in_loop
async def test_a_call_that_lasts_too_long_ends_with_a_timeout() -> None:
    """Each of several, and none of those that are done before."""
    limit = TimeLimit(SOON)
    found = await asyncio.gather(limited(limit), limited(limit, 0), limited(limit), return_exceptions=True)
    assert [type(outcome) for outcome in found] == [TimeoutError, str, TimeoutError]
    assert await limited(limit, 0) == "done"  # and the limit goes on
    with pytest.raises(TimeoutError):
        await limited(limit)


@in_loop
async def test_a_call_is_not_ended_much_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may begin in the middle of a tick, so it is ended at most one tick early."""
    limit, loop, began = TimeLimit(0.2), asyncio.get_running_loop(), []

    async def one() -> None:
        began.append(loop.time())
        await limited(limit)

    first = asyncio.ensure_future(limited(limit))
    await asyncio.sleep(0.05)
    with pytest.raises(TimeoutError):
        await one()
    assert loop.time() - began[0] >= 0.2 - 2 * 0.2 / TICKS
    assert first.done()
    assert isinstance(first.exception(), TimeoutError)


@in_loop
async def test_a_cancellation_from_outside_stays_one() -> None:
    """It is no timeout, even if the time is over in the same turn of the loop."""
    limit = TimeLimit(SOON)
    task = asyncio.ensure_future(limited(limit))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    task = asyncio.ensure_future(limited(limit))
    await asyncio.sleep(0)
    limit._ticks += TICKS
    limit._count(task.get_loop())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_loop
async def test_a_timeout_leaves_no_cancellation_behind() -> None:
    """What the task awaits next is not cancelled, nor does an outer ``asyncio.timeout`` take it for its own."""
    limit = TimeLimit(SOON)
    async with asyncio.timeout(NEVER):
        with pytest.raises(TimeoutError):
            await limited(limit)
        await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_loop
async def test_a_call_that_returns_past_its_time_has_returned() -> None:
    """What came counts, and the task is not cancelled any more."""

    async def deaf() -> str:
        try:
            await asyncio.sleep(NEVER)
        except asyncio.CancelledError:
            return "done"
        return "not ended"

    assert await TimeLimit(SOON).run(deaf) == "done"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@in_loop
async def test_the_timer_stops_when_nothing_is_bounded() -> None:
    """An idle process is not woken twenty times in two seconds."""
    limit = TimeLimit(SOON)
    await limited(limit, 0)
    await asyncio.sleep(3 * SOON / TICKS)
    assert limit._loop is None
    assert not limit._running


def loops() -> Iterator[asyncio.AbstractEventLoop]:
    for _ in range(2):
        loop = asyncio.new_event_loop()
        yield loop
        loop.close()


def test_a_limit_outlives_its_event_loop() -> None:
    """A loop that was closed under a running call does not keep the next one from being bounded."""
    limit = TimeLimit(SOON)
    for loop in loops():
        left = loop.create_task(limited(limit))
        with pytest.raises(TimeoutError):
            loop.run_until_complete(limited(limit))
        another = loop.create_task(limited(limit))
        loop.run_until_complete(asyncio.sleep(0))
        for task in (left, another):
            task.cancel()
        loop.run_until_complete(asyncio.gather(left, another, return_exceptions=True))
