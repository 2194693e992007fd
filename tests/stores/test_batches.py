"""Requests that leave together, over an exchange that the test carries out, fails, or leaves unanswered."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastersession.stores.sql import batches
from fastersession.stores.sql.batches import AGAIN, ALONE, COUNT, LARGE, ROOM, UNHEARD, Again, Lane, Lines

Item = tuple[int, int, str | None]  # number, size, key


class Exchanges:
    """Carries out what lanes send, when the test says so."""

    def __init__(self, *, ordered: bool = True, least: int = 2) -> None:
        self.open: list[tuple[list[Item], asyncio.Future[str]]] = []
        self.sent: list[list[Item]] = []
        self.done: list[int] = []
        self.again: dict[int, Again | None] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.silences = self.begun = 0
        self.hanging: list[asyncio.Future[None]] | None = None  # of those that are cancelled, what they wait for then
        lines = Lines() if ordered else None
        self.lanes = [self.lane(lines, least) for _ in range(2)]

    def lane(self, lines: Lines | None, least: int) -> Lane[Item, int]:
        return Lane(self.together, self.alone, self.start, self.silent, lines=lines, least=least)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        self.begun += 1
        task.add_done_callback(self.tasks.discard)
        return task

    def silent(self) -> None:
        self.silences += 1

    def ask(self, item: Item, lane: int = 0) -> asyncio.Task[int]:
        _, size, key = item
        return asyncio.ensure_future(self.lanes[lane].ask(item, size, key))

    async def together(self, items: list[Item]) -> list[int | Again]:
        how = await self.exchange(items)
        if how == "fail":
            raise RuntimeError("the exchange failed")
        undecided = {"again": AGAIN, "unheard": UNHEARD}.get(how)
        decided = items if undecided is None else items[::2]
        self.done += [number for number, *_ in decided]
        return [
            number if undecided is None or place % 2 == 0 else undecided for place, (number, *_) in enumerate(items)
        ]

    async def alone(self, item: Item, again: Again | None) -> int:
        self.again[item[0]] = again
        how = await self.exchange([item])
        if how == "fail":
            raise RuntimeError(item[0])
        self.done.append(item[0])
        return item[0]

    async def exchange(self, items: list[Item]) -> str:
        self.sent.append(items)
        entry = items, asyncio.get_running_loop().create_future()
        self.open.append(entry)
        try:
            return await entry[1]
        except asyncio.CancelledError:
            if self.hanging is not None:
                self.hanging.append(asyncio.get_running_loop().create_future())
                await self.hanging[-1]
            raise
        finally:
            self.open.remove(entry)

    def answer(self, how: str = "ok", which: int = 0) -> None:
        waiting = [future for _, future in self.open if not future.done()]
        if waiting:
            waiting[which % len(waiting)].set_result(how)

    async def drain(self) -> None:
        """Answer everything, until nothing is under way."""
        while self.tasks:
            self.answer()
            await asyncio.sleep(0)


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@contextmanager
def bounds(**values: float) -> Iterator[None]:
    before = {name: getattr(batches, name) for name in values}
    try:
        for name, value in values.items():
            setattr(batches, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(batches, name, value)


def scenario(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a test in an event loop, in which nothing may be left over."""

    def run() -> None:
        async def main() -> None:
            strays: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))
            await test()
            assert strays == []

        with bounds(WIDTH=1):
            asyncio.run(main())

    run.__doc__ = test.__doc__
    return run


@scenario
async def test_what_is_asked_in_one_turn_leaves_together() -> None:
    """In the turn after it, without waiting for more; what comes meanwhile is the next batch."""
    exchanges = Exchanges(ordered=False)
    first = [exchanges.ask((number, 1, None)) for number in range(5)]
    await turns(2)
    assert exchanges.sent == [[(number, 1, None) for number in range(5)]]
    later = [exchanges.ask((number, 1, None)) for number in range(5, 9)]
    await turns()
    assert len(exchanges.sent) == 1
    exchanges.answer()
    await turns()
    assert exchanges.sent[1] == [(number, 1, None) for number in range(5, 9)]
    await exchanges.drain()
    assert await asyncio.gather(*first, *later) == list(range(9))


@scenario
async def test_who_has_just_missed_a_batch_need_not_wait_for_its_end() -> None:
    """As many are under way as may be, one connection each."""
    exchanges = Exchanges()
    with bounds(WIDTH=2):
        asked = []
        for start in (0, 10, 20):
            asked += [exchanges.ask((start + number, 1, str(start + number))) for number in range(2)]
            await turns()
        assert [items[0][0] for items, _ in exchanges.open] == [0, 10]
        exchanges.answer("ok", 1)
        await turns()
        assert [items[0][0] for items, _ in exchanges.open] == [0, 20]
        await exchanges.drain()
        assert await asyncio.gather(*asked) == [0, 1, 10, 11, 20, 21]
        assert exchanges.begun == 3
        asked = [exchanges.ask((number, 1, str(number))) for number in range(COUNT + 10)]
        await turns()
        assert [len(items) for items, _ in exchanges.open] == [COUNT, 10]
        await exchanges.drain()
    assert await asyncio.gather(*asked) == list(range(COUNT + 10))


@scenario
async def test_one_goes_at_once() -> None:
    """Alone, where a batch has at least two; its error is its caller's."""
    exchanges = Exchanges()
    only = exchanges.ask((7, 1, "a"))
    await turns(2)
    assert exchanges.again == {7: None}
    exchanges.answer("fail")
    await turns()
    with pytest.raises(RuntimeError, match="7"):
        await only


@scenario
async def test_an_error_that_comes_when_its_caller_has_just_gone_is_no_stray() -> None:
    """It was there before the caller could be woken, who was cancelled in that turn."""
    exchanges = Exchanges()
    only = exchanges.ask((7, 1, "a"))
    await turns()
    exchanges.answer("fail")
    while exchanges.open:
        await asyncio.sleep(0)
    only.cancel()
    await asyncio.gather(only, return_exceptions=True)
    assert only.cancelled()
    del only
    gc.collect()


@scenario
async def test_a_batch_has_bounds() -> None:
    """In count and bytes; what is large goes alone, at once, beside it."""
    exchanges = Exchanges(ordered=False)
    asked = [exchanges.ask((number, LARGE, None)) for number in range(40)]
    asked += [exchanges.ask((number, 0, None)) for number in range(40, 40 + 2 * COUNT)]
    asked.append(exchanges.ask((-1, ALONE, None)))
    await turns()
    assert [(-1, ALONE, None)] in exchanges.sent
    await exchanges.drain()
    assert sorted(await asyncio.gather(*asked)) == list(range(-1, 40 + 2 * COUNT))
    together = [sent for sent in exchanges.sent if sent[0][0] >= 0]
    assert max(map(len, together)) == COUNT
    assert max(sum(size for _, size, _ in sent) for sent in together) == ROOM
    assert len(together) == 5


@scenario
async def test_what_a_batch_does_not_decide_is_asked_alone() -> None:
    """With what the batch has said of it; what failed as a whole, too, and then only the culprit fails."""
    exchanges = Exchanges()
    asked = [exchanges.ask((number, 1, str(number))) for number in range(4)]
    await turns()
    exchanges.answer("unheard")
    await turns()
    assert exchanges.again == {1: UNHEARD, 3: UNHEARD}
    await exchanges.drain()
    assert await asyncio.gather(*asked) == [0, 1, 2, 3]
    asked = [exchanges.ask((number, 1, str(number))) for number in range(4, 8)]
    await turns()
    exchanges.answer("fail")
    await turns()
    exchanges.answer("fail", 2)
    await exchanges.drain()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [outcome if isinstance(outcome, int) else repr(outcome) for outcome in outcomes] == [
        4, 5, "RuntimeError(6)", 7,
    ]  # fmt: skip
    assert exchanges.again[4] is AGAIN


@scenario
async def test_who_gives_up_ends_his_own_waiting_only() -> None:
    """The batch goes on while anybody waits; then it is ended, and the next leaves without waiting for its end."""
    exchanges = Exchanges()
    with bounds(ABANDON_SECONDS=0):
        asked = [exchanges.ask((number, 1, str(number))) for number in range(3)]
        await turns()
        asked[0].cancel()
        asked[1].cancel()
        await turns(8)
        assert len(exchanges.open) == 1
        exchanges.answer()
        assert await asked[2] == 2
        assert exchanges.done == [0, 1, 2]
        asked = [exchanges.ask((number, 1, str(number))) for number in range(3, 5)]
        await turns()
        behind = exchanges.ask((5, 1, "3"))
        for one in asked:
            one.cancel()
        await turns(8)
        assert exchanges.sent[-1] == [(5, 1, "3")]
        await exchanges.drain()
        assert await behind == 5
    assert exchanges.done == [0, 1, 2, 5]
    assert exchanges.silences == 0


@scenario
async def test_nothing_waits_for_the_end_of_what_is_broken_off() -> None:
    """A driver takes seconds for it if the server hangs: the next of its keys and the next batch leave before."""
    for count in (1, 2):
        exchanges = Exchanges()
        exchanges.hanging = []
        with bounds(ABANDON_SECONDS=0):
            asked = [exchanges.ask((number, 1, str(number))) for number in range(count)]
            await turns()
            behind = [exchanges.ask((number, 1, key)) for number, key in ((5, "0"), (6, "other"))]
            for one in asked:
                one.cancel()
            await turns(8)
            assert len(exchanges.hanging) == 1
            assert sorted(exchanges.sent[-1]) == [(5, 1, "0"), (6, 1, "other")]
            exchanges.answer("ok", -1)
            assert await asyncio.gather(*behind) == [5, 6]
        exchanges.hanging[0].set_result(None)
        exchanges.hanging = None
        await exchanges.drain()
        assert [lane._under_way for lane in exchanges.lanes] == [0, 0]
        last = [exchanges.ask((number, 1, "0")) for number in range(7, 9)]
        await turns()
        assert len(exchanges.open) == 1
        await exchanges.drain()
        assert await asyncio.gather(*last) == [7, 8]


@scenario
async def test_who_gives_up_before_it_has_left_has_asked_nothing() -> None:
    """Neither while a batch is under way, nor behind another of its key."""
    exchanges = Exchanges()
    first = [exchanges.ask((number, 1, str(number))) for number in range(2)]
    await turns()
    behind = [
        exchanges.ask((number, 1, key)) for number, key in ((92, "c"), (90, "a"), (91, "0"), (93, "a"), (94, "0"))
    ]
    await turns()
    for given_up in behind[1:3]:
        given_up.cancel()
    await turns()
    await exchanges.drain()
    assert await asyncio.gather(*first, behind[0], *behind[3:]) == [0, 1, 92, 93, 94]
    assert not {90, 91} & set(exchanges.done)


@scenario
async def test_a_silent_batch_holds_up_nobody() -> None:
    """After a second the next leaves beside it, and who gives up by then has the idle connections dropped."""
    exchanges = Exchanges()
    silent = [exchanges.ask((number, 1, str(number))) for number in range(2)]
    await turns()
    with bounds(SILENT_SECONDS=-1.0):
        later = [exchanges.ask((number, 1, str(number))) for number in range(2, 4)]
        await turns()
        assert [number for number, *_ in exchanges.open[-1][0]] == [2, 3]
        silent[0].cancel()
        await turns()
        assert exchanges.silences == 1
    await exchanges.drain()
    assert await asyncio.gather(silent[1], *later) == [1, 2, 3]


@scenario
async def test_an_exchange_that_is_cancelled_from_outside_cancels_its_callers() -> None:
    """As the end of an event loop does; nothing waits for ever, and no batch is begun for those who are cancelled."""
    for count in (1, 3):
        exchanges = Exchanges()
        asked = [exchanges.ask((number, 1, str(number))) for number in range(count)]
        await turns()
        behind = [exchanges.ask((number, 1, key)) for number, key in ((8, "0"), (9, "other"))]
        await turns()
        for given_up in behind:
            given_up.cancel()
        (task,) = exchanges.tasks
        task.cancel()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        await turns()
        assert exchanges.tasks == set()
        assert exchanges.begun == 1


ACTS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abcde"), st.sampled_from([0, 1000, LARGE, ALONE]), st.integers(0, 1)),
    st.tuples(st.just("cancel"), st.integers(0, 200)),
    st.tuples(st.sampled_from(["ok", "ok", "fail", "again", "unheard"]), st.integers(0, 5)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
)


@given(st.lists(ACTS, max_size=60), st.integers(1, 2), st.integers(1, 3))
def test_s12_every_caller_gets_his_own_outcome_in_the_order_of_its_key(acts: list[Any], least: int, width: int) -> None:
    """Whatever fails, is given up, or comes back in whatever order."""
    # Invariant: nobody gets another's outcome; a key is under way once at a time, and first come, first served; a batch
    # keeps its bounds; what was not given up is done exactly once, or failed alone; in the end nothing is left.

    async def main() -> None:
        exchanges, asked, keys = Exchanges(least=least), [], {}

        def check() -> None:
            under_way = Counter(key for items, _ in exchanges.open for *_, key in items)
            assert all(count == 1 for count in under_way.values())
            for items in exchanges.sent:
                assert len(items) == 1 or max(size for _, size, _ in items) <= LARGE
                assert len(items) <= COUNT
                assert len(items) == 1 or sum(size for _, size, _ in items) <= ROOM

        for act, *arguments in acts:
            if act == "ask":
                key, size, lane = arguments
                keys[len(asked)] = key
                asked.append(exchanges.ask((len(asked), size, key), lane))
            elif act == "cancel":
                if asked:
                    asked[arguments[0] % len(asked)].cancel()
            elif act == "turn":
                await turns(arguments[0])
            else:
                exchanges.answer(act, arguments[0])
            check()
        while not all(one.done() for one in asked) or exchanges.tasks:
            exchanges.answer()
            await asyncio.sleep(0)
            check()
        done = Counter(exchanges.done)
        assert set(done.values()) <= {1}
        for number, one in enumerate(asked):
            if one.cancelled():
                continue
            failed = one.exception()
            assert (one.result() if failed is None else failed.args[0]) == number
            assert done[number] == (failed is None)
        for key in set(keys.values()):
            order = [number for number in exchanges.done if keys[number] == key]
            assert order == sorted(order)
        assert all(lane._under_way == 0 and not lane._waiting for lane in exchanges.lanes)
        assert exchanges.lanes[0]._lines._waiting == {}  # type: ignore[union-attr]

    with bounds(ABANDON_SECONDS=0, WIDTH=width):
        asyncio.run(main())
