"""One timer calls many functions again and again, on the event loop of asyncio and on uvloop's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from fastersession.engine.repeats import Repeat, Repeats

Loop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])


@LOOPS
def test_more_may_be_added_while_one_is_due(make: Loop) -> None:
    """uvloop makes a handle that cannot tell its time where that has come already: adding must not ask it."""
    called: list[str] = []

    async def add() -> None:
        repeats = Repeats(set())

        async def call(name: str) -> None:
            called.append(name)

        every = [
            Repeat(lambda: 0, lambda: call("due")),
            Repeat(lambda: 3600, lambda: call("later")),
            Repeat(lambda: 0, lambda: call("due too")),
        ]
        for repeat in every:
            repeats.add(repeat, repeat.pause())
        while not {"due", "due too"} <= set(called):
            await asyncio.sleep(0)
        for repeat in every:
            repeats.remove(repeat)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(add())
    assert "later" not in called


@LOOPS
def test_a_loop_that_was_busy_catches_up_at_once(make: Loop) -> None:
    """What has come due while something else held up the loop is called in one turn of it, not one a turn."""
    called: list[int] = []

    async def add() -> None:
        repeats = Repeats(set())

        async def call(number: int) -> None:
            called.append(number)

        everything = [Repeat(lambda n=n: 0.001 * (n + 1), lambda n=n: call(n)) for n in range(50)]
        for repeat in everything:
            repeats.add(repeat, repeat.pause())
        time.sleep(0.1)
        turns = 0
        while len(set(called)) < 50:
            await asyncio.sleep(0)
            turns += 1
        for repeat in everything:
            repeats.remove(repeat)
        assert turns < 10

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(add())


@LOOPS
def test_the_sooner_of_two_comes_first(make: Loop) -> None:
    """The timer is set anew for a function that is due before all others, and goes on with those."""
    called: list[str] = []

    async def add() -> None:
        repeats = Repeats(set())

        async def call(name: str) -> None:
            called.append(name)

        slow = Repeat(lambda: 0.03, lambda: call("slow"))
        fast = Repeat(lambda: 0.001, lambda: call("fast"))
        repeats.add(slow, slow.pause())
        repeats.add(fast, fast.pause())
        while "slow" not in called:
            await asyncio.sleep(0.001)
        repeats.remove(slow)
        repeats.remove(fast)

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(add())
    assert called[0] == "fast"
