"""Event streams on the wire, read strictly as the HTML standard says, however they were cut."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from fastersession.conversations.blocks import MOST_OF_A_BLOCK, Blocks
from fastersession.conversations.cursor import parse, prefix_of
from fastersession.conversations.sse import Events

RUN = bytes(range(16))


class Event(NamedTuple):
    """What a client dispatches."""

    id: str
    type: str
    data: str


def read(stream: bytes) -> list[Event]:
    """Read line by line, as "Interpreting an event stream" of the HTML standard (9.2.6) has it."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[Event] = []
    last = data = kind = ""
    for line in re.split(r"\r\n|\n|\r", text)[:-1]:  # what has no end of line is no line yet
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ") if colon else ""
        if line == "":
            if data:
                events.append(Event(last, kind, data.removesuffix("\n")))
            data = kind = ""
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            last = value
        elif name == "event":
            kind = value
    return events


def cut(data: bytes, places: list[int]) -> list[str]:
    """Return the blocks of a stream whose chunks end at these places."""
    blocks, found, before = Blocks(), [], 0
    for place in sorted(place % (len(data) + 1) for place in places):
        found += blocks.cut(data[before:place])
        before = place
    return [*found, *blocks.cut(data[before:]), *blocks.end()]


ENDS = st.sampled_from(["\n", "\r\n", "\r"])
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)
PARTS = st.tuples(LINES | st.sampled_from([" ", ":", "id: 1", "data: x"]), ENDS | st.just(""))
TEXTS = st.lists(PARTS, max_size=5).map(lambda parts: "".join(line + end for line, end in parts))
FIELDS = st.sampled_from(["data: a", "data", "data: ü🎉", ": note", "event: e", "id: 7", "retry: 9", "data:\u2028"])
STREAMS = st.lists(st.tuples(FIELDS, ENDS, ENDS | st.just("")), max_size=12).map(
    lambda parts: "".join(field + one + two for field, one, two in parts).encode()
)
PLACES = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.lists(TEXTS, max_size=6))
@example(["\r\n", "a\rb", "", " x"])
def test_a_client_reads_back_what_was_put_in(frames: list[str]) -> None:
    """Each frame is one event, with its own id; line ends are read as line feeds."""
    # For any texts, the events are these texts, in order, each under the id of its frame.
    got = read(Events(RUN, 0, are_blocks=False).text(1, frames, True).encode())
    wanted = [re.sub(r"\r\n|\r", "\n", frame) for frame in frames]
    assert [event.data for event in got] == wanted
    assert [event.id for event in got] == [f"1{prefix_of(RUN)}.{seq}" for seq in range(1, len(frames) + 1)]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), PLACES)
def test_characters_come_whole_wherever_bytes_are_cut(text: str, places: list[int]) -> None:
    """Also for a client that comes back in the middle of one."""
    # For any cuts of a text's bytes, the data of all events is the text, and the rest after any cursor the rest of it.
    data, frames, before = text.encode(), [], 0
    for place in sorted(place % (len(data) + 1) for place in places):
        frames.append(data[before:place])
        before = place
    frames.append(data[before:])
    stream = Events(RUN, 0, are_blocks=False).dicts(1, frames, True)
    assert "".join(event["data"] for event in stream) == text
    for seq in range(len(frames)):
        first = max(seq - 3, 0)
        resumed = Events(RUN, seq, are_blocks=False).dicts(first + 1, frames[first:], True)
        later = [event for event in stream if int(event["id"].rpartition(".")[2]) > seq]
        if all(len(frame) > 0 for frame in frames):  # three frames before are as many bytes then
            assert resumed == later


@given(STREAMS, PLACES)
@example(b"data: a\r\ndata: b\r\n\r\n", [8])
@example(b"data: a\r\r\ndata: b\n\n", [9])
@example("\ufeffdata: a\n\n".encode(), [1])
def test_blocks_are_the_same_however_a_stream_is_cut(stream: bytes, places: list[int]) -> None:
    """And a client that reads them dispatches what one of the stream itself does."""
    # For any chunks, the blocks are those of the whole; joined, they are read as it is, but for an end that is missing.
    blocks = cut(stream, places)
    assert blocks == cut(stream, [])
    assert all(re.search(r"\A[^\r\n]", block) for block in blocks)
    joined = "".join(blocks)
    assert read(joined.encode()) == read(stream)
    for block in blocks[:-1]:
        assert len(re.findall(r"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)", block)) == 1


@given(STREAMS)
def test_ids_change_nothing_of_the_events(stream: bytes) -> None:
    """A block's own id stays, and every other event has ours."""
    # For any stream, types and data of its events are the same with our ids, and no event is without one.
    whole = stream + b"\n\n"
    blocks = cut(whole, [])
    got = read(Events(RUN, 0, are_blocks=True).text(1, blocks, True).encode())
    assert [event[1:] for event in got] == [event[1:] for event in read(whole)]
    for event in got:
        assert event.id == "7" or parse(event.id).is_of(RUN)


def test_no_block_of_ours_has_an_id_without_data() -> None:
    """Clients that parse the data of every block fail on one: an empty line before a block is no block."""
    text = Events(RUN, 0, are_blocks=True).text(1, cut(b"\n\n\r\n\ndata: 1\n\n\n\n\n: x\n\n", []), True)
    assert text == f"id: 1{prefix_of(RUN)}.1\nretry: 1000\ndata: 1\n\n: x\n\n"


def test_a_mark_of_the_byte_order_is_left_out() -> None:
    """An id before it would make it a part of a field's name."""
    assert cut("\ufeffdata: 1\n\n\ufeffdata: 2\n\n".encode(), [1]) == ["data: 1\n\n", "\ufeffdata: 2\n\n"]


def test_a_block_without_an_end_is_not_kept_for_ever() -> None:
    """Beyond a mebibyte it is given out as it is."""
    blocks = Blocks()
    assert blocks.cut(b"x" * MOST_OF_A_BLOCK) == []
    (given_out,) = blocks.cut(b"yz")
    assert len(given_out) == MOST_OF_A_BLOCK + 2
    assert blocks.end() == []


HOSTILE: list[Any] = [
    "", "1", "1.", "1AAAAAAAA", "1AAAAAAAA.", "1AAAAAAA.1", "1AAAAAAAAA.1", "2AAAAAAAA.1", "1AAAAAAAA.-1",
    "1AAAAAAAA.1\n", "1AAAAAAAA.\u0661", "1AAAAAAA\u00e9.1", "1AAAAAAAA.1 ", " 1AAAAAAAA.1", "1AAAA/AAA.1",
    "1AAAAAAAA.1.1", "1AAAAAAAA.9999999999999999", b"1AAAAAAAA.1", 1, None, ["1AAAAAAAA.1"], "\0", "1AAAAAAAA.1e3",
    "1AAAAAAAA.0x1", "1AAAAAAAA." + "9" * 10_000,
]  # fmt: skip


def test_c14_hostile_cursors_are_none() -> None:
    """C14: whatever is not of the one form leads nowhere."""
    assert [parse(text) for text in HOSTILE] == [None] * len(HOSTILE)
    assert parse("1AAAAAAAA.12") == ("AAAAAAAA", 12)
