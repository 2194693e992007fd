"""Callers that give up: at each await of a verb, and after any number of turns of the loop.

Rules of residence: a mixin of `StoreContract`, and the means to cancel at an await. Nothing waits for a time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Generator
from typing import Any

from .races import SIZES, at_once
from .subject import Subject, over_a_store

V, W = b"v" * 32, b"w" * 32


class CancelAt:
    """Awaits a coroutine in the running task, which it cancels where that suspends for the n-th time."""

    def __init__(self, coroutine: Awaitable[Any], suspension: int) -> None:
        self.coroutine, self.suspension = coroutine, suspension

    def __await__(self) -> Generator[Any, None, Any]:
        steps = self.coroutine.__await__()
        try:
            waited, at = next(steps), 0
            while True:
                if at == self.suspension:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                at += 1
                try:
                    yield waited
                except BaseException as error:
                    waited = steps.throw(error)
                else:
                    waited = next(steps)
        except StopIteration as stop:
            return stop.value


async def cancelled(work: Awaitable[Any], suspension: int) -> bool:
    """Cancel work at its n-th suspension. Return whether it came to that."""

    async def call() -> None:
        await CancelAt(work, suspension)

    (outcome,) = await asyncio.gather(asyncio.create_task(call()), return_exceptions=True)
    assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
    return outcome is not None


async def cancel_each_await(subject: Subject) -> None:
    """Cancel every verb at each of its awaits; what is given up may still be done, a little later."""
    other = await subject.insert({"other": b"1"})
    for size in SIZES:
        value = secrets.token_bytes(size)
        pair = {"a": value, "b": value}
        verbs = (
            lambda one: subject.load(one),
            lambda one, pair=pair: subject.update(one, V, "none", sets=pair),
            lambda one, pair=pair: subject.regenerate(one, V, W, sets=pair),
            lambda one: subject.touch(one, V, subject.clock()),
            lambda one: subject.lock(one, V, b"o" * 16, 60.0),
            lambda one: subject.delete(one),
            lambda _, pair=pair: subject.insert(pair),
        )
        for verb in verbs:
            at = 0
            while await cancelled(verb(one := await subject.insert()), at):
                found, neighbour = await at_once(subject.load(one), subject.attributes(other))
                assert neighbour == {"other": b"1"}
                assert found is None or dict(found.attributes) in ({}, pair)
                assert found is None or found.verifier == V or dict(found.attributes) == pair
                at += 1
                assert at < 500


class Cancelled:
    """S9: a call that is given up acts wholly or not at all, and spoils no later call."""

    @over_a_store
    async def test_s9_cancelled_at_each_await(self, subject: Subject) -> None:
        """S9: every verb, at each await: nothing half done, and whoever comes next gets its own."""
        await cancel_each_await(subject)

    @over_a_store
    async def test_s9_cancelled_anywhere(self, subject: Subject) -> None:
        """S9: a call cancelled at any of its awaits acts wholly or not at all, and spoils no later call."""
        ids = [await subject.insert({"n": b"%d" % number}) for number in range(4)]
        tried: list[list[bytes | None]] = [[None] for _ in ids]  # what is given up may still be done, a little later
        for size in SIZES:
            for steps in range(40):
                number, value = steps % 4, secrets.token_bytes(size)
                tried[number].append(value)
                calls = [
                    asyncio.ensure_future(subject.load(ids[0])),
                    asyncio.ensure_future(subject.update(ids[number], V, sets={"x": value, "y": value})),
                ]
                for _ in range(steps):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                found = await at_once(*(subject.attributes(one) for one in ids))
                assert [int(one["n"]) for one in found] == [0, 1, 2, 3]
                for one, values in zip(found, tried, strict=True):
                    assert one.get("x") == one.get("y")
                    assert one.get("x") in values
