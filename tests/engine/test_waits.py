"""Waiting that somebody else can end: what was awaited, who is woken, and what of cancelling is left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from driver import in_loop

from fastersession.engine.tasks import Interrupted, Waits


async def until_waiting(waits: Waits, number: int) -> None:
    while len(waits._waiting) < number:
        await asyncio.sleep(0)


@in_loop
async def test_an_answer_is_given_as_it_comes() -> None:
    """One that is there comes without suspending, an error as the error that it is; nothing is remembered."""
    waits = Waits()

    async def there() -> int:
        return 7

    with pytest.raises(StopIteration) as found:
        waits.run(there).send(None)
    assert found.value.value == 7

    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await waits.run(broken)
    assert waits._waiting == {}
    waits.interrupt()


@in_loop
async def test_all_that_wait_are_interrupted() -> None:
    """No task is cancelled by it, and who waits anew waits."""
    waits, events = Waits(), [asyncio.Event() for _ in range(3)]

    async def waiting(event: asyncio.Event) -> Any:
        with pytest.raises(Interrupted):
            await waits.run(event.wait)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return await waits.run(event.wait)

    tasks = [asyncio.create_task(waiting(event)) for event in events]
    await until_waiting(waits, 3)
    waits.interrupt()
    assert waits._waiting == {}
    await until_waiting(waits, 3)
    for event in events:
        event.set()
    assert await asyncio.gather(*tasks) == [True] * 3


@pytest.mark.parametrize("first", ["cancelled", "interrupted"])
@in_loop
async def test_who_is_cancelled_too_is_cancelled(first: str) -> None:
    """In whatever order: a cancellation is never lost."""
    waits = Waits()
    task = asyncio.create_task(waits.run(asyncio.Event().wait))
    await until_waiting(waits, 1)
    for act in (task.cancel, waits.interrupt) if first == "cancelled" else (waits.interrupt, task.cancel):
        act()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@in_loop
async def test_a_cancellation_alone_is_one() -> None:
    """Who is cancelled while he waits is not told of an interruption."""
    waits = Waits()
    task = asyncio.create_task(waits.run(asyncio.Event().wait))
    await until_waiting(waits, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert waits._waiting == {}


@in_loop
async def test_an_answer_of_the_last_moment_is_kept() -> None:
    """Where the call swallows the interruption and answers all the same, its answer counts, and nothing is left."""
    waits = Waits()

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "answer"
        return ""

    async def asking() -> tuple[str, int]:
        task = asyncio.current_task()
        assert task is not None
        return await waits.run(stubborn), task.cancelling()

    task = asyncio.create_task(asking())
    await until_waiting(waits, 1)
    waits.interrupt()
    assert await task == ("answer", 0)


def test_elsewhere_it_is_a_plain_call() -> None:
    """On trio nobody is interrupted."""
    waits = Waits()

    async def there() -> int:
        return 7

    with pytest.raises(StopIteration) as found:
        waits.run(there).send(None)
    assert found.value.value == 7
