"""A value that another thread changes while a save encodes it: the save looks again, with every codec."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pydantic
import pytest
from driver import Browser, in_loop
from routes import Call, serve
from stores import SuspendingStore

from fastersession import AttributeNotSerializable, JsonCodec, MsgspecCodec, PickleCodec
from fastersession.testing import session_of


class Growing:
    """Stands for a thread that gets its turn while this is encoded: grows what holds it, so many times."""

    def __init__(self, grow: Callable[[], Any], times: int) -> None:
        self.grow, self.times = grow, times

    def __reduce__(self) -> tuple[Any, ...]:
        self.turn()
        return int, (-7,)

    def model_dump(self, mode: str) -> int:  # what MsgspecCodec asks of pydantic models
        self.turn()
        return -7

    def __eq__(self, other: object) -> bool:
        return other == -7

    def __hash__(self) -> int:
        return -7

    def turn(self) -> None:
        if self.times:
            self.times -= 1
            self.grow()


def growing_dict(times: int) -> Any:
    value: dict[str, Any] = {}
    value["it"] = Growing(lambda: value.update({str(len(value)): 1}), times)
    value["last"] = 1
    return value


def growing_set(times: int) -> Any:
    value: set[Any] = set()
    value.update([Growing(lambda: value.add(len(value)), times), "a", "b"])
    return value


def growing_list(times: int) -> Any:
    value: list[Any] = []
    value.extend([Growing(lambda: value.append(1), times), 2])
    return value


def growing_deque(times: int) -> Any:
    value: deque[Any] = deque()
    value.extend([Growing(lambda: value.append(1), times), 2, 3])
    return value


async def kept(codec: Any, value: Any) -> Any:
    """Return what a stream that sets this has kept, by the names of its attributes."""

    async def act(call: Call) -> None:
        call.session["first"] = 1
        await call.start()
        call.session["value"] = value
        await call.chunk()
        await call.finish()

    browser = Browser(serve({"/act": act}, store=SuspendingStore(), codec=codec))
    answer = await browser.get("/act", catch=True)
    async with session_of(browser) as session:
        return answer, dict(session)


@pytest.mark.parametrize("make", [growing_dict, growing_set, growing_deque])
@pytest.mark.parametrize("times", [1, 20])
@in_loop
async def test_pickle_looks_again(make: Callable[[int], Any], times: int) -> None:
    """A dict, a set or a deque that grows while it is pickled ends no stream: what is kept is a later state of it."""
    answer, session = await kept(PickleCodec(), make(times))
    assert answer.error is None
    assert len(session["value"]) == (2 if make is growing_dict else 3) + times


@in_loop
async def test_what_never_stands_still_is_named_and_the_others_are_saved() -> None:
    """It ends: an attribute that changes at every look is refused in words."""
    answer, session = await kept(PickleCodec(), growing_dict(10**9))
    assert isinstance(answer.error, AttributeNotSerializable)
    assert "'value' was changed by another thread" in str(answer.error)
    assert session == {"first": 1}


@pytest.mark.parametrize("make", [growing_dict, growing_set, growing_list])
@pytest.mark.parametrize("times", [1, 20])
@in_loop
async def test_msgspec_looks_again(make: Callable[[int], Any], times: int) -> None:
    """With a hook of Python in it msgspec writes half a dict, and fails at a set with an error of its own."""
    codec = MsgspecCodec(types={"value": {growing_dict: dict, growing_set: set, growing_list: list}[make]})
    answer, session = await kept(codec, make(times))
    assert answer.error is None
    assert len(session["value"]) == (3 if make is growing_set else 2) + times


@in_loop
async def test_a_pydantic_model_in_motion_is_looked_at_again() -> None:
    """pydantic-core panics at a dict that grows, with an exception that is no ``Exception``."""

    class Part(pydantic.BaseModel):
        @pydantic.model_serializer
        def dump(self) -> dict[str, int]:
            growing.turn()
            return {}

    class Whole(pydantic.BaseModel):
        parts: dict[str, Part]

    whole = Whole(parts={"a": Part(), "b": Part()})
    growing = Growing(lambda: whole.parts.update({str(len(whole.parts)): Part()}), 3)
    answer, session = await kept(MsgspecCodec(types={"value": Whole}), whole)
    assert answer.error is None
    assert len(session["value"].parts) == 5


@in_loop
async def test_a_thread_that_writes_all_the_time_ends_no_save() -> None:
    """A real one, beside each codec, in a dict with tuples: every save has some state of it."""
    for codec in (JsonCodec(), MsgspecCodec(types={"value": dict[str, tuple[int, int]]}), PickleCodec()):
        over = threading.Event()
        value: dict[str, tuple[int, int]] = {}

        def write(value: dict[str, tuple[int, int]] = value, over: threading.Event = over) -> None:
            number = 0
            while not over.is_set():
                number += 1
                value[str(number % 89)] = (number, number)
                value.pop(str(number % 97), None)

        async def act(call: Call, value: Any = value) -> None:
            call.session["value"] = value
            await call.start()
            for _ in range(100):
                await call.session.save()
            await call.finish()

        browser = Browser(serve({"/act": act}, store=SuspendingStore(), codec=codec))
        writing = asyncio.create_task(asyncio.to_thread(write))
        try:
            answer = await browser.get("/act", catch=True)
        finally:
            over.set()
            await writing
        assert answer.error is None
        async with session_of(browser) as session:
            assert all(one == other for one, other in session["value"].values())


@pytest.mark.parametrize("turn", range(8))
def test_json_that_is_in_motion_stays_plain_json(turn: int) -> None:
    """Other bytes for the same value would be taken for a change, and older versions could not read them."""
    value, codec, calls = [{"a": 1}], JsonCodec(), 0

    def profile(frame: Any, event: str, called: Any) -> None:
        nonlocal calls
        if event == "c_call":
            if calls == turn:  # a thread gets its turn where the encoder calls into C
                value.append({"a": 2})
            calls += 1

    sys.setprofile(profile)
    try:
        data = codec.encode("a", value)
    finally:
        sys.setprofile(None)
    assert data in (b'[{"a":1}]', b'[{"a":1},{"a":2}]')


@in_loop
async def test_an_error_of_the_application_is_no_motion() -> None:
    """What another RuntimeError says is not tried again."""
    looks = []

    class Broken:
        def __reduce__(self) -> tuple[Any, ...]:
            looks.append(1)
            raise RuntimeError("broken")

    answer, _ = await kept(PickleCodec(), Broken())
    assert "'value' (Broken, RuntimeError)" in str(answer.error)
    assert len(looks) == 2  # at the last chunk, and at the end of the call
