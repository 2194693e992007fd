"""The contract of stores/logs.py as tests: what is read, listed, said and kept.

Rules of residence: a mixin of `LogStoreContract`. No server, no sleep: time is the store's clock.
"""

from __future__ import annotations

from typing import Any

from ...stores.logs import Append, Entry, Listed, Log, Outcome, Place
from .logs import ALL, append, filled, look, made, numbers, token, values
from .subject import Subject, over_a_store

DONE, GONE, TAKEN, SAME, BUSY, SUPERSEDED, FULL = Outcome


class Listing:
    """A mixin of `LogStoreContract`."""

    @over_a_store
    async def test_c16_reading_makes_nothing(self, subject: Subject) -> None:
        """C16: a conversation that is not there is not there after any reading of it."""
        logs, log, owner = subject.store.logs, Log(Place(token()), token()), token()
        for _ in range(2):
            assert await logs.look([log.place, Place(token())], 10, ALL) is None
            assert await logs.entries(log, None, None, 10, ALL, newest=True) is None
            assert await logs.find(log, token(), None) is None
            assert await logs.owned(owner, 10, None) == []
            assert await logs.cut(log, (1, 1), None) == (GONE, (1, 0), None)
            assert await logs.describe(log, b"x", 1) is GONE
            assert await logs.delete(log.place) is False
            assert (await append(subject, log, (1, 1))).outcome is GONE

    @over_a_store
    async def test_many_logs_in_one_call(self, subject: Subject) -> None:
        """Each has an outcome of its own."""
        one, two, gone = await made(subject), await filled(subject, 3), await made(subject)
        assert await subject.store.logs.delete(gone.place) is True
        outcomes = await subject.store.logs.append(
            [Append(gone, Entry((1, 1), b"x")), Append(two, Entry((1, 3), b"x")), Append(one, Entry((1, 1), b"x"))]
        )
        assert outcomes == [(GONE, (1, 0), None), (TAKEN, (1, 3), None), (DONE, (1, 1), None)]
        assert await values(subject, one) == [b"x"]

    @over_a_store
    async def test_entries_between_positions(self, subject: Subject) -> None:
        """From the oldest on, or from the newest back; the positions need not be there."""
        log = await filled(subject, 9)
        assert await numbers(subject, log) == [*range(1, 10)]
        assert await numbers(subject, log, (1, 3), (1, 7)) == [4, 5, 6]
        assert await numbers(subject, log, (1, 3), (1, 7), 2) == [4, 5]
        assert await numbers(subject, log, (1, 3), (1, 7), 2, newest=True) == [5, 6]
        assert await numbers(subject, log, None, (1, 3), newest=True) == [1, 2]
        assert await numbers(subject, log, (1, 9)) == await numbers(subject, log, None, (1, 1)) == []
        assert await numbers(subject, log, (2, 0)) == await numbers(subject, log, (1, 5), (1, 5)) == []
        assert await numbers(subject, log, (0, 99), (3, 0), 3) == [1, 2, 3]

    @over_a_store
    async def test_entries_are_bounded_in_bytes(self, subject: Subject) -> None:
        """But one comes in any case, so whoever pages goes on."""
        log = await made(subject)
        for number, size in enumerate((10, 3000, 10, 10), 1):
            assert (await append(subject, log, (1, number), b"%d" % number * size)).outcome is DONE

        async def sizes(**more: Any) -> list[int]:
            found = await subject.store.logs.entries(log, more.pop("after", None), None, 10, **more)
            return [len(entry.value) for entry in found]

        assert await sizes(limit=2000, newest=False) == [10]
        assert await sizes(limit=2000, newest=False, after=(1, 1)) == [3000]
        assert await sizes(limit=3010, newest=False) == [10, 3000]
        assert await sizes(limit=2000, newest=True) == [10, 10]
        found = await subject.store.logs.look([log.place], 10, 15)
        assert [entry.position for entry in found.entries] == [(1, 4)]

    @over_a_store
    async def test_what_is_said_about_it(self, subject: Subject) -> None:
        """By compare-and-set: of two who change it, one looks again."""
        log = await made(subject)
        subject.clock.advance(5)
        assert await subject.store.logs.describe(log, b"one", 1) is DONE
        assert await subject.store.logs.describe(log, b"two", 1) is TAKEN
        found = await look(subject, log)
        assert found is not None
        assert (found.about, found.version, found.updated_at) == (b"one", 2, subject.clock())
        assert found.created_at == subject.clock() - 5
        assert await subject.store.logs.describe(log, b"x" * 20_000, 2) is DONE

    @over_a_store
    async def test_the_list_of_an_owner(self, subject: Subject) -> None:
        """The last updated first, in pages; nobody else's."""
        owner = token()
        logs = []
        for _ in range(5):
            subject.clock.advance(1)
            logs.append(await made(subject, owner))
        await made(subject)
        subject.clock.advance(1)
        assert (await append(subject, logs[1], (1, 1))).outcome is DONE
        expected = [logs[number] for number in (1, 4, 3, 2, 0)]
        listed: list[Listed] = await subject.store.logs.owned(owner, 10, None)
        assert [Log(one.place, one.log) for one in listed] == expected
        assert (listed[0].about, listed[0].created_at, listed[0].updated_at, listed[0].is_running) == (
            b"about", subject.clock() - 4, subject.clock(), False
        )  # fmt: skip
        pages, before = [], None
        while page := await subject.store.logs.owned(owner, 2, before):
            pages.append([Log(one.place, one.log) for one in page])
            before = page[-1].updated_at, page[-1].place.conversation
        assert pages == [expected[:2], expected[2:4], expected[4:]]
        assert await subject.store.logs.delete(logs[4].place) is True
        assert len(await subject.store.logs.owned(owner, 10, None)) == 4

    @over_a_store
    async def test_pages_of_all(self, subject: Subject) -> None:
        """Each that lives through all pages is on one."""
        logs = {await made(subject) for _ in range(7)}
        found: set[Log] = set()
        after = None
        while True:
            page, after = await subject.store.logs.page(after, 3)
            found |= {Log(one.place, one.log) for one in page}
            if after is None:
                break
        assert logs <= found

    @over_a_store
    async def test_it_is_kept_for_a_while_after_the_last_entry(self, subject: Subject) -> None:
        """Retention: each entry moves its end; what is kept for ever is not touched."""
        owner = token()
        log, for_ever = await made(subject, owner, keep=100.0), await made(subject, owner)
        subject.clock.advance(99)
        assert (await append(subject, log, (1, 1), keep=100.0)).outcome is DONE
        subject.clock.advance(99)
        assert await values(subject, log) == [b"value"]
        subject.clock.advance(1)
        assert await look(subject, log) is None
        assert (await append(subject, log, (1, 2), keep=100.0)).outcome is GONE
        assert [one.log for one in await subject.store.logs.owned(owner, 10, None)] == [for_ever.log]
        anew = await made(subject, owner, place=log.place)
        await subject.store.logs.purge()
        assert await values(subject, anew) == await values(subject, for_ever) == []

    @over_a_store
    async def test_purge_counts_what_is_over(self, subject: Subject) -> None:
        """And removes nothing else."""
        over, kept = [await made(subject, keep=10.0) for _ in range(3)], await filled(subject, 2)
        subject.clock.advance(10)
        assert await subject.store.logs.purge() >= len(over)
        assert await subject.store.logs.purge() == 0
        assert await numbers(subject, kept) == [1, 2]
