"""The contract of stores/logs.py as tests: histories. Who writes, at which position, and what is read.

Rules of residence: a mixin of `LogStoreContract`, and the short names that its other parts use, too. No server, no
sleep: time is the store's clock.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from ...stores.logs import Append, Appended, Entry, Log, Look, Outcome, Place, Position
from .cancelled import cancelled
from .races import SIZES
from .subject import Subject, over_a_store

DONE, GONE, TAKEN, SAME, BUSY, SUPERSEDED, FULL = Outcome
ALL = 2**20  # bytes: more than a test writes


def token() -> bytes:
    """Return 16 bytes that no other test uses."""
    return secrets.token_bytes(16)


async def made(
    subject: Subject, owner: bytes | None = None, keep: float | None = None, place: Place | None = None
) -> Log:
    """Make a conversation."""
    place, log = place or Place(token()), token()
    created = await subject.store.logs.create(place, log, owner or token(), b"about", keep)
    assert created == (DONE, log, (1, 0))
    return Log(place, log)


async def append(
    subject: Subject, log: Log, position: Position, value: bytes = b"value", keep: float | None = None, **more: Any
) -> Appended:
    """Append one entry; ``more`` are its run and its key."""
    (appended,) = await subject.store.logs.append([Append(log, Entry(position, value, size=len(value), **more), keep)])
    assert isinstance(appended, Appended)
    return appended


async def filled(subject: Subject, count: int, **more: Any) -> Log:
    """Make a conversation of so many entries, whose values are their numbers."""
    log = await made(subject, **more)
    for number in range(1, count + 1):
        assert (await append(subject, log, (1, number), b"%d" % number)).outcome is DONE
    return log


async def look(subject: Subject, log: Log) -> Look | None:
    """Look at a conversation, at all of it."""
    found: Look | None = await subject.store.logs.look([log.place], 1000, ALL)
    return found


async def values(subject: Subject, log: Log) -> list[bytes]:
    """Return the values of a history that must be there."""
    found = await look(subject, log)
    assert found is not None
    return [entry.value for entry in found.entries]


async def numbers(
    subject: Subject, log: Log, after: Position | None = None, before: Position | None = None,
    count: int = 1000, limit: int = ALL, *, newest: bool = False,
) -> list[int]:  # fmt: skip
    """Return what ``entries`` gives, as numbers."""
    found = await subject.store.logs.entries(log, after, before, count, limit, newest=newest)
    return [int(entry.value) for entry in found]


class Histories:
    """A mixin of `LogStoreContract`."""

    @over_a_store
    async def test_create_is_insert_only(self, subject: Subject) -> None:
        """Whoever comes second gets what the first has made."""
        owner = token()
        log = await made(subject, owner)
        assert (await append(subject, log, (1, 1))).outcome is DONE
        assert await subject.store.logs.create(log.place, token(), token(), b"other") == (DONE, log.log, (1, 1))
        found = await look(subject, log)
        assert found is not None
        now = subject.clock()
        assert found == (log, (1, 1), b"about", 1, now, now, [Entry((1, 1), b"value", size=5)], None)

    @over_a_store
    async def test_of_several_creates_at_once_one_is_made(self, subject: Subject) -> None:
        """All learn of the same log."""
        place, logs = Place(token()), [token() for _ in range(8)]
        outcomes = await asyncio.gather(*(subject.store.logs.create(place, log, token(), b"") for log in logs))
        assert len({created.log for created in outcomes}) == 1
        assert outcomes[0].log in logs

    @pytest.mark.parametrize("size", SIZES)
    @over_a_store
    async def test_c1_what_was_appended_is_read(self, subject: Subject, size: int) -> None:
        """C1: at its place, with its run and key, byte by byte."""
        log, value, key = await made(subject), secrets.token_bytes(size), token()
        assert await append(subject, log, (1, 1), value, key=key) == (DONE, (1, 1), None)
        assert await append(subject, log, (1, 2), b"") == (DONE, (1, 2), None)
        expected = [Entry((1, 1), value, key=key, size=size), Entry((1, 2), b"")]
        found = await look(subject, log)
        assert found is not None
        assert found.entries == expected
        assert await subject.store.logs.entries(log, None, None, 10, ALL, newest=False) == expected
        assert await subject.store.logs.find(log, key, None) == expected[0]

    @over_a_store
    async def test_c2_only_the_next_position_is_free(self, subject: Subject) -> None:
        """C2: positions grow by one; all others are refused, and nothing is written."""
        log = await filled(subject, 2)
        for position in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 3), (0, 3), (1, 0)):
            assert await append(subject, log, position, b"9") == (TAKEN, (1, 2), None)
        assert await numbers(subject, log) == [1, 2]

    @over_a_store
    async def test_c12_a_retry_is_harmless(self, subject: Subject) -> None:
        """C12: the same value at its own position is the same entry, however late it comes again."""
        log, key = await filled(subject, 2), token()
        assert await append(subject, log, (1, 3), b"3", key=key) == (DONE, (1, 3), None)
        assert await append(subject, log, (1, 3), b"3", key=key) == (DONE, (1, 3), None)
        assert await append(subject, log, (1, 4), b"4") == (DONE, (1, 4), None)
        assert await append(subject, log, (1, 2), b"2") == (DONE, (1, 4), None)
        assert await numbers(subject, log) == [1, 2, 3, 4]

    @over_a_store
    async def test_of_several_at_one_position_one_is_written(self, subject: Subject) -> None:
        """The others learn of the top, and none is lost that was acknowledged."""
        log = await made(subject)
        outcomes = await asyncio.gather(*(append(subject, log, (1, 1), b"%d" % number) for number in range(8)))
        assert sorted(outcome.outcome.name for outcome in outcomes) == ["DONE"] + ["TAKEN"] * 7
        assert {outcome.top for outcome in outcomes} == {(1, 1)}
        (written,) = [number for number, outcome in enumerate(outcomes) if outcome.outcome is DONE]
        assert await numbers(subject, log) == [written]

    @over_a_store
    async def test_c7_a_key_is_used_once(self, subject: Subject) -> None:
        """C7: the first entry is returned, whatever is to be written now; in another log it is another key."""
        log, other, key = await made(subject), await made(subject), token()
        assert (await append(subject, log, (1, 1), b"1", key=key)).outcome is DONE
        first = Entry((1, 1), b"1", key=key, size=1)
        assert await append(subject, log, (1, 2), b"2", key=key) == (SAME, (1, 1), first)
        assert await append(subject, log, (1, 7), b"2", key=key) == (SAME, (1, 1), first)
        assert await append(subject, other, (1, 1), b"2", key=key) == (DONE, (1, 1), None)

    @over_a_store
    async def test_a_key_lives_as_long_as_its_entry(self, subject: Subject) -> None:
        """Cut off, it is free."""
        log, keys = await made(subject), [token() for _ in range(3)]
        for number, key in enumerate(keys, 1):
            assert (await append(subject, log, (1, number), b"%d" % number, key=key)).outcome is DONE
        assert (await subject.store.logs.cut(log, (1, 2), None)).outcome is DONE
        assert (await subject.store.logs.cut(log, None, (1, 2))).outcome is DONE
        assert [await subject.store.logs.find(log, key, None) is not None for key in keys] == [False, True, False]
        assert await append(subject, log, (2, 3), b"x", key=keys[2]) == (DONE, (2, 3), None)

    @over_a_store
    async def test_a_cut_tail_fences_who_was_about_to_append(self, subject: Subject) -> None:
        """The epoch is raised at once, also where nothing was cut; the seq goes on behind what stays."""
        log = await filled(subject, 5)
        assert await subject.store.logs.cut(log, (1, 3), None) == (DONE, (2, 3), None)
        for position in ((1, 4), (1, 6), (2, 3), (2, 5)):
            assert await append(subject, log, position, b"9") == (TAKEN, (2, 3), None)
        assert await append(subject, log, (2, 4), b"44") == (DONE, (2, 4), None)
        assert await numbers(subject, log) == [1, 2, 3, 44]
        assert await numbers(subject, log, (1, 4)) == [44]
        assert await subject.store.logs.cut(log, (2, 4), None) == (DONE, (3, 4), None)
        assert await append(subject, log, (2, 5)) == (TAKEN, (3, 4), None)
        assert await subject.store.logs.cut(log, (1, 4), None) == (DONE, (4, 3), None)
        assert await numbers(subject, log) == [1, 2, 3]
        assert await subject.store.logs.cut(log, (9, 9), None) == (DONE, (4, 3), None)
        assert await subject.store.logs.cut(log, (1, 0), None) == (DONE, (5, 0), None)
        assert await append(subject, log, (5, 1), b"1") == (DONE, (5, 1), None)
        assert await numbers(subject, log) == [1]

    @over_a_store
    async def test_a_cut_head(self, subject: Subject) -> None:
        """What is old goes; the top stays, also where all goes."""
        log = await filled(subject, 5)
        assert await subject.store.logs.cut(log, None, (1, 4)) == (DONE, (1, 5), None)
        assert await numbers(subject, log) == [4, 5]
        assert await subject.store.logs.cut(log, None, (9, 0)) == (DONE, (1, 5), None)
        assert await numbers(subject, log) == []
        assert await append(subject, log, (1, 6), b"6") == (DONE, (1, 6), None)
        assert await numbers(subject, log) == [6]
        assert await subject.store.logs.cut(log, (1, 2), None) == (DONE, (2, 2), None)
        assert await numbers(subject, log) == []

    @over_a_store
    async def test_c6_what_was_deleted_never_grows_again(self, subject: Subject) -> None:
        """C6, C15: also where a conversation of the same name was made anew."""
        log = await filled(subject, 5)
        assert await subject.store.logs.delete(log.place, token()) is False
        assert await subject.store.logs.delete(log.place, log.log, (1, 4)) is False
        assert await subject.store.logs.delete(log.place, log.log, (1, 5)) is True
        assert await subject.store.logs.delete(log.place) is False
        assert await look(subject, log) is None
        assert (await append(subject, log, (1, 6))).outcome is GONE
        anew = await made(subject, place=log.place)
        assert (await append(subject, log, (1, 1))).outcome is GONE
        assert await subject.store.logs.entries(log, None, None, 10, ALL, newest=False) is None
        assert await subject.store.logs.cut(log, (1, 0), None) == (GONE, (1, 0), None)
        assert await subject.store.logs.describe(log, b"", 1) is GONE
        assert await subject.store.logs.delete(log.place, log.log) is False
        assert await values(subject, anew) == []

    @over_a_store
    async def test_c12_cancelled_at_each_await(self, subject: Subject) -> None:
        """C12: what is given up is done wholly or not at all, a little later at most."""
        for verb in ("append", "keyed", "cut", "describe", "delete", "create"):
            at = 0
            while True:
                log = await filled(subject, 2)
                logs = subject.store.logs
                work: dict[str, Callable[[], Awaitable[Any]]] = {
                    "append": partial(append, subject, log, (1, 3), b"3"),
                    "keyed": partial(append, subject, log, (1, 3), b"3", key=token()),
                    "cut": partial(logs.cut, log, (1, 1), None),
                    "describe": partial(logs.describe, log, b"other", 1),
                    "delete": partial(logs.delete, log.place),
                    "create": partial(made, subject),
                }
                if not await cancelled(work[verb](), at):
                    break
                found = await look(subject, log)
                state = None if found is None else (found.top, found.about, [int(one.value) for one in found.entries])
                possible = [
                    None if verb == "delete" else ((1, 2), b"about", [1, 2]),
                    ((1, 2), b"about", [1, 2]),
                    ((1, 3), b"about", [1, 2, 3]),
                    ((2, 1), b"about", [1]),
                    ((1, 2), b"other", [1, 2]),
                ]
                assert state in possible
                at += 1
                assert at < 500
