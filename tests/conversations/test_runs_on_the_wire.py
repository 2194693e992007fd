"""What clients of an event stream get, and what they send back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from driver import in_loop
from hypothesis import given
from hypothesis import strategies as st
from producers import Producer, Reader
from run_parts import Worker, shared

from fastersession import MemoryStore
from fastersession.conversations import reader
from fastersession.conversations.cursor import parse
from fastersession.conversations.sse import Events


def parsed(text: str) -> list[dict[str, str]]:
    """Parse an event stream as the HTML standard says."""
    events: list[dict[str, str]] = []
    last = ""
    for block in text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        event: dict[str, str] = {}
        data: list[str] = []
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "id":
                last = value
            elif name:
                event[name] = value
        if data:
            events.append({**event, "id": last, "data": "\n".join(data)})
        else:
            assert not event
    return events


async def sse(run: Any, after: str | None = None) -> list[dict[str, str]]:
    return parsed("".join([piece async for piece in run.sse(after)]))


@in_loop
async def test_an_event_stream_can_be_resumed_from_each_id() -> None:
    """Also where a character was cut: a resumed stream and the rest of the first one are the same."""
    text = "grüße 🎉\nzwei"
    frames: list[Any] = ["a\r\nb", {"x": "ü\n"}, *(bytes([byte]) for byte in text.encode()), "", "end"]
    chat = Worker(MemoryStore()).chat()
    run = await chat.start(Producer(*frames, ends=True).generate())
    whole = await sse(run)
    data = "".join(event["data"] for event in whole[2:])
    assert data == text + "end"
    assert [event["data"] for event in whole].count("") == 1
    assert whole[0]["data"] == "a\nb"
    assert json.loads(whole[1]["data"]) == {"x": "ü\n"}
    assert [event.get("retry") for event in whole] == ["1000"] + [None] * (len(whole) - 1)
    for number, event in enumerate(whole[:-1]):
        found = await chat.run(event["id"])
        assert [one["data"] for one in await sse(found)] == [one["data"] for one in whole[number + 1 :]]


@in_loop
async def test_blocks_are_passed_on_with_an_id() -> None:
    """A block's own id stays, and a comment gets none, here and elsewhere."""
    worker = Worker(MemoryStore())
    blocks = ["event: x\ndata: 1\n\n", b": ping\n\n", "id: own\ndata: 2\n\n", "data: 3\r\n\r\n", "data: 4"]
    run = await worker.chat().start(Producer(*blocks, ends=True).generate(), format="sse")
    here = "".join([piece async for piece in run.sse()])
    there = "".join([piece async for piece in (await shared(worker).chat().run()).sse()])
    assert here == there
    events = parsed(here)
    assert [event["data"] for event in events] == ["1", "2", "3", "4"]
    assert [event["id"] == "own" for event in events] == [False, True, False, False]
    assert "\n\n: ping\n\n" in here
    assert here.count("id: 1") == 3


@in_loop
async def test_a_last_block_may_tell_the_status() -> None:
    """Only where one is asked for."""
    run = await Worker(MemoryStore()).chat().start(Producer(ends=True).generate())
    pieces = [piece async for piece in run.sse(end=lambda status: f"event: end\ndata: {status}\n\n")]
    assert pieces == [": \n\n", "event: end\ndata: completed\n\n"]
    assert [piece async for piece in run.sse()] == [": \n\n"]


@in_loop
async def test_a_silent_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment comes again and again."""
    monkeypatch.setattr(reader, "COMMENT_SECONDS", 0.001)
    producer = Producer()
    run = await Worker(MemoryStore()).chat().start(producer.generate())
    pieces = run.sse()
    assert [await anext(pieces) for _ in range(3)] == [": \n\n"] * 3
    producer.say("a")
    while "data: a" not in await anext(pieces):
        pass
    await pieces.aclose()
    producer.end()


@in_loop
async def test_events_for_sse_starlette() -> None:
    """One dict for each frame."""
    run = await Worker(MemoryStore()).chat().start(Producer("a", {"b": 1}, ends=True).generate())
    events = [event async for event in run.events()]
    assert [event["data"] for event in events] == ["a", '{"b":1}']
    assert [event["data"] async for event in run.events(events[0]["id"])] == ['{"b":1}']


@in_loop
async def test_headers_keep_proxies_from_gathering() -> None:
    """They are the caller's own to change."""
    run = await Worker(MemoryStore()).chat().start(Producer(ends=True).generate())
    assert run.headers == {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    run.headers.clear()
    assert run.headers


@in_loop
async def test_a_frame_that_no_log_has_carries_no_id() -> None:
    """So the client's cursor stays where it is."""
    text = Events(b"r" * 16, 0, are_blocks=False).text(1, ["a"], False)
    assert text == "retry: 1000\ndata: a\n\n"
    assert Events(b"r" * 16, 0, are_blocks=False).dicts(1, ["a"], False) == [{"data": "a"}]


@given(st.text() | st.integers() | st.none())
def test_a_cursor_is_what_it_says_or_none(text: object) -> None:
    """Whatever a client sends is a cursor of exactly one spelling, or nothing."""
    cursor = parse(text)
    assert cursor is None or f"1{cursor.prefix}.{cursor.seq}" == text or str(text).rpartition(".")[2].startswith("0")


@given(st.binary(min_size=16, max_size=16), st.integers(0, 10**15 - 1))
def test_a_cursor_comes_back(run: bytes, seq: int) -> None:
    """What a block says is understood."""
    block = Events(run, 0, are_blocks=False).text(seq, [""], True) if seq else ""
    for line in block.splitlines():
        if line.startswith("id: "):
            cursor = parse(line[4:])
            assert cursor is not None
            assert (cursor.seq, cursor.is_of(run)) == (seq, True)


@given(st.lists(st.binary(max_size=3) | st.text(max_size=5), max_size=8))
def test_every_text_comes_through(frames: list[Any]) -> None:
    """Whatever lines a text has, a client gets it with line feeds."""
    events = parsed(Events(b"r" * 16, 0, are_blocks=False).text(1, frames, True))
    texts = [frame for frame in frames if isinstance(frame, str)]
    got = [event["data"] for event in events]
    for text in texts:
        wanted = text.replace("\r\n", "\n").replace("\r", "\n")
        assert wanted in got


@in_loop
async def test_a_reader_elsewhere_is_live() -> None:
    """Another worker's reader gets frames while the run runs, and its end."""
    here = Worker(MemoryStore())
    producer = Producer("a")
    await here.chat().start(producer.generate())
    run = await shared(here).chat().run()
    follower = Reader(run)
    await follower.until(1)
    producer.say("b")
    await follower.until(2)
    assert run.status == "running"
    producer.end(ValueError())
    await follower.task
    assert (run.status, run.error) == ("failed", "ValueError")
