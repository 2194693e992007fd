"""What a verb returns is a coroutine like any other: sent to, thrown into, closed."""

from __future__ import annotations

import types
from collections.abc import Generator
from typing import Any

import pytest

from fastersession.pending import Pending


@types.coroutine
def pause(say: object) -> Generator[object, Any, Any]:
    return (yield say)


class Work:
    """Work that pauses for ever, and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def __call__(self) -> None:
        try:
            while True:
                self.heard.append(await pause("paused"))
        except BaseException as error:
            self.heard.append(type(error))
            raise


def test_what_is_sent_and_thrown_reaches_the_work_that_runs() -> None:
    """It is begun by the first send, and once."""
    pending = Pending(work := Work())
    assert pending.send(None) == "paused"
    assert pending.send("go on") == "paused"
    with pytest.raises(ValueError, match="why"):
        pending.throw(ValueError("why"))
    assert work.heard == ["go on", ValueError]


def test_what_is_thrown_before_anything_was_sent_is_raised_and_the_work_does_nothing() -> None:
    """So it is with a task of it that is cancelled before it begins."""
    pending = Pending(work := Work())
    with pytest.raises(ValueError, match="why"):
        pending.throw(ValueError("why"))
    assert work.heard == []


def test_closing_ends_the_work_that_runs() -> None:
    """Closing what never began does nothing."""
    pending, left_alone = Pending(work := Work()), Pending(other := Work())
    pending.send(None)
    pending.close()
    left_alone.close()
    assert (work.heard, other.heard) == ([GeneratorExit], [])
