"""Coroutines that must not suspend, and waiting that no cancellation ends."""

from __future__ import annotations

import asyncio

import pytest
from driver import in_loop

from fastersession.engine.tasks import begin, on_asyncio, outlasted, run_now


async def gives(result: int) -> int:
    return result


def test_a_coroutine_that_does_not_suspend_has_its_result_at_once() -> None:
    """No event loop is needed."""
    assert run_now(gives(1)) == 1


def test_a_coroutine_that_suspends_is_closed_and_said_to_be_wrong() -> None:
    """A store that says ``live`` and waits all the same must not hang anybody."""
    ended = []

    async def suspends() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(True)

    with pytest.raises(RuntimeError, match=r"^a store that says it is live suspended$"):
        run_now(suspends())
    assert ended == [True]


def test_what_no_task_of_asyncio_runs_is_told() -> None:
    """A worker thread, or trio."""
    assert on_asyncio() is False
    assert asyncio.run(asked()) is True


def test_where_there_is_no_loop_nothing_begins() -> None:
    """And the work is not made: nobody would await it."""
    assert begin(lambda: pytest.fail("made"), set()) is False


async def asked() -> bool:
    return on_asyncio()


@pytest.mark.parametrize("words", [(), ("why",)])
@in_loop
async def test_the_last_cancellation_of_who_waits_is_returned_as_it_came(words: tuple[str, ...]) -> None:
    """Waiting goes on, however often it is cancelled."""
    gate = asyncio.Event()
    work = asyncio.ensure_future(gate.wait())
    waiting = asyncio.ensure_future(outlasted(work))
    for each in (("an earlier one",), words):
        await asyncio.sleep(0)
        waiting.cancel(*each)
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    cancellation = await waiting
    assert cancellation is not None
    assert cancellation.args == words


@in_loop
async def test_work_that_is_done_is_not_waited_for() -> None:
    """Without a cancellation there is none to return."""
    done = asyncio.ensure_future(gives(1))
    assert await outlasted(done) is None
    assert await outlasted(done) is None
