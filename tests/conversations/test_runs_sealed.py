"""Frames under the seal: what comes back is what was yielded, where it was yielded, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from accounts import BytesStore
from driver import in_loop
from producers import Producer, read
from routes import SECRET

from fastersession import Conversations, Gone
from fastersession.stores.logs import Run

SAID: list[Any] = ["plain text", "ü \ud800", b"\x00\xff", {"a": [1, None, {"b": 1.5}]}, ["x", True], ""]


def chat_of(store: BytesStore, user: str = "ada", secret: str = SECRET) -> Any:
    """Return a user's conversation, as a worker of its own has it."""
    return Conversations(store, secret).of_user(user)["main"]


def frames_of(store: BytesStore, run: Any) -> Any:
    """Return what the store has of a run."""
    key: Run = run._ending.run
    return store.logs.shelf.of(key.log).runs[key.run]


@in_loop
async def test_frames_come_back_as_they_were_yielded() -> None:
    """Of whatever kind, in another worker and in the answer; nothing of them is legible in the store."""
    store = BytesStore()
    folded: list[Any] = []
    run = await chat_of(store).start(Producer(*SAID, ends=True).generate(), fold=folded.extend)
    assert await read(run) == SAID
    assert folded == SAID
    assert await read(await chat_of(store).run()) == SAID
    kept = frames_of(store, run)
    assert all(type(value) is bytes for value in kept.values)
    assert not any(b"plain" in value or b"completed" in value for value in kept.values)


@in_loop
async def test_what_the_codec_does_not_keep_fails_the_run() -> None:
    """What came before it is kept, and answered."""
    store = BytesStore()
    run = await chat_of(store).start(Producer("a", ends=False).generate(), key="1")
    await chat_of(store).stop()
    assert run.status == "cancelled"
    run = await chat_of(store).start(Producer({"x": object()}, ends=True).generate())
    assert await read(run) == []
    assert (run.status, run.error) == ("failed", "AttributeNotSerializable")


@pytest.mark.parametrize("how", ["swapped", "moved", "foreign", "cut short", "of another run"])
@in_loop
async def test_a_batch_that_was_tampered_with_is_never_shown(how: str) -> None:
    """A reader gets what is before it, and is told that something is missing."""
    store = BytesStore()
    other = await chat_of(store, "bob").start(Producer("b", ends=True).generate())
    await read(other)
    producer = Producer()
    run = await chat_of(store).start(producer.generate())
    frames = run.frames()
    for text in "abc":
        producer.say(text)
        assert (await anext(frames)).data == text
    producer.end()
    assert [frame async for frame in frames] == []
    kept = frames_of(store, run)
    if how == "swapped":
        kept.values[2], kept.values[3] = kept.values[3], kept.values[2]
    elif how == "moved":
        kept.values[2] = kept.values[1]
    elif how == "foreign":
        kept.values[2] = b"\x00junk"
    elif how == "cut short":
        kept.values[2] = kept.values[2][:-1]
    else:
        kept.values[2] = frames_of(store, other).values[1]
    found = (await chat_of(store).run()).frames()
    assert (await anext(found)).data == "a"
    with pytest.raises(Gone):
        await anext(found)


@in_loop
async def test_no_other_user_and_no_other_key_reaches_a_run() -> None:
    """The id of a frame leads nowhere but in its own conversation."""
    store = BytesStore()
    run = await chat_of(store).start(Producer("a", "b", ends=True).generate())
    ids = [frame.id async for frame in run.frames()]
    assert await chat_of(store, "bob").run(ids[0]) is None
    assert await chat_of(store, secret="another secret, which opens nothing of the first").run(ids[0]) is None
    assert not await chat_of(store, "bob").stop()
