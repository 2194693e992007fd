"""Every store outside the process loses its server, its network, its disk: what a client sees, and what is kept."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from driver import Answer, Browser, in_loop, lifespan
from outages import PLACES, Fault, Faults, Watched
from routes import Call, content, events, serve, tab
from stores import shorten

from fastersession import StoreError

# fast, long: the tier. kill: -9, and a restart. silent: a black hole. lost: the same, and old connections never come
# back. full: disk, or maxmemory. crowded: no connection to be had. locked: by another process. failover: to a replica.
MATRIX = """
            kill    silent  lost    full    crowded  locked  failover
redis       fast    fast    long    fast    long     .       .
cluster     fast    long    .       long    long     .       .
sentinel    .       long    .       .       .        .       fast
asyncpg     fast    long    long    long    fast     .       .
psycopg     long    long    long    long    long     .       .
asyncmy     fast    long    long    fast    long     .       .
sqlite      .       .       .       fast    .        fast    .
"""
USERS = 8
Bounds = Callable[[], AbstractContextManager[None]]


def _cells() -> Iterator[Any]:
    heads, *rows = (line.split() for line in MATRIX.strip().splitlines())
    for store, *tiers in rows:
        for kind, tier in zip(heads, tiers, strict=True):
            if tier != ".":
                yield pytest.param(store, kind, marks=[pytest.mark.long] if tier == "long" else [])


CELLS = pytest.mark.parametrize(("store", "kind"), list(_cells()))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Faults]]:
    """What has been started, by name."""
    started: dict[str, Faults] = {}
    with contextlib.ExitStack() as stack:

        def place(name: str) -> Faults:
            if name not in started:
                started[name] = stack.enter_context(PLACES[name](tmp_path_factory.mktemp(name)))
            return started[name]

        yield place


@pytest.fixture
def fault(request: pytest.FixtureRequest, store: str, kind: str, tmp_path: Any) -> Iterator[Fault]:
    if store == "sentinel":  # a replica is promoted but once
        with PLACES[store](tmp_path) as faults:
            yield faults[kind]
    else:
        yield request.getfixturevalue("places")(store)[kind]


@pytest.fixture
def bounds(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractContextManager[None]]:
    """Make an outage shorter in the fast tier; the long one waits as long as users do."""

    @contextlib.contextmanager
    def shortened() -> Iterator[None]:
        with monkeypatch.context() as patch:
            if request.node.get_closest_marker("long") is None:
                shorten(patch, STORE_SECONDS=1.0, FLUSH_SECONDS=0.5)
            yield

    return shortened


class Service:
    """An application over a store that is about to fail, and its users."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.store = Watched(fault.store())
        self.app = serve({"/save": self._save, "/late": self._late}, store=self.store)
        self.gates: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def _save(self, call: Call) -> None:
        call.session["saved"] = call.query["n"]
        call.session["filler"] = "x" * int(call.query.get("size", 0))
        await call.reply()

    async def _late(self, call: Call) -> None:
        await call.start()
        await call.chunk("first ")
        await self.gates[call.query["n"]].wait()
        call.session["late"] = call.query["n"]
        call.session["filler"] = "x" * self.fault.size
        await call.chunk("last")
        await call.finish()

    async def user(self, n: int = 0) -> Browser:
        """Return a browser whose session has been saved."""
        browser = Browser(self.app)
        assert (await browser.get(f"/save?n={n}")).status == 200
        return browser

    @contextlib.asynccontextmanager
    async def stream(self, n: str) -> AsyncIterator[tuple[Browser, Any]]:
        """Begin an answer that waits in its middle."""
        browser = await self.user()
        async with browser.open(f"/late?n={n}") as stream:
            assert await stream.chunk() == b"first "
            yield browser, stream

    async def begin(self) -> None:
        await asyncio.to_thread(self.fault.begin)

    async def end(self) -> None:
        await asyncio.to_thread(self.fault.end)

    async def storm(self) -> dict[Browser, tuple[int, int]]:
        """Let the fault begin while all users save; return what was acknowledged last to each, and asked last."""
        users, over = [await self.user() for _ in range(USERS)], asyncio.Event()

        async def work(user: Browser) -> tuple[int, int]:
            acknowledged = asked = 0
            while acknowledged == asked and not over.is_set():
                asked += 1
                answer = await user.get(f"/save?n={asked}")
                if answer.status == 200:
                    acknowledged = asked
                else:
                    assert_unavailable(answer)
            return acknowledged, asked

        working = [asyncio.ensure_future(work(user)) for user in users]
        while sum(task.done() for task in working) < 1 and self.store.calls < 30 * USERS:
            await asyncio.sleep(0)
        await self.begin()
        over.set()
        return dict(zip(users, await asyncio.gather(*working), strict=True))


def assert_unavailable(answer: Answer) -> None:
    """A clean 503: nothing but what we say, and no cookie."""
    assert (answer.status, answer.header("retry-after"), answer.cookies) == (503, b"5", [])
    assert len(answer.messages) == 2


def assert_whole(answer: Answer) -> None:
    """What a client got is the stream as it should be, to its end."""
    assert (answer.status, answer.text) == (200, "first last")
    assert answer.messages[-1] == {"type": "http.response.body"}


def run(fault: Fault, scenario: Callable[[Service], Any]) -> None:
    @in_loop
    async def main() -> None:
        service = Service(fault)
        try:
            async with lifespan(service.app):
                await scenario(service)
        finally:
            await service.store.close()

    main()


@CELLS
def test_what_an_outage_refuses_and_what_it_leaves(
    fault: Fault, bounds: Bounds, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the headers a clean 503; a late save is logged and raised, its stream is whole; then all is as before.

    The next request works, in the same process; all that was acknowledged is there, a logout too.
    """

    async def scenario(service: Service) -> None:
        gone = await service.user()
        thief = tab(gone)
        assert (await gone.get("/logout")).status == 200
        guest, host = Browser(service.app), await service.user(5)
        wanted = f"/save?n=6&size={fault.size}"
        async with service.stream("doomed") as (_, stream):
            with bounds():
                users = await service.storm()
                try:
                    service.gates["doomed"].set()
                    answers = await asyncio.gather(guest.get(wanted), host.get("/"), host.get(wanted), stream.ended())
                finally:
                    await service.end()
        first, read, saved, late = answers
        assert_unavailable(first)
        assert_unavailable(saved)
        if not fault.reads:
            assert_unavailable(read)
        assert guest.jar == {}
        assert (late.status, late.text) == (200, "first last")
        assert late.messages[-1]["more_body"]  # S11: it never looks whole
        assert isinstance(late.error, StoreError)
        assert "tried again" in events(caplog, "session.save_failed")[0].getMessage()
        # --- it is over ---
        assert (await host.get("/save?n=7")).status == 200
        assert (await content(host))["saved"] == "7"
        for user, (acknowledged, asked) in users.items():
            assert acknowledged <= int((await content(user))["saved"]) <= asked
        assert await content(thief) == {}
        assert (await guest.get(wanted)).status == 200

    run(fault, scenario)


@CELLS
def test_a_late_save_that_outlives_an_outage_loses_nothing(
    fault: Fault, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has failed at least once when the store comes back, within its bound; nobody notices."""
    if kind in ("kill", "failover"):  # which take as long as this machine needs
        shorten(monkeypatch, FLUSH_SECONDS=60.0, FLUSH_PAUSES=(0.2,) * 300)

    async def scenario(service: Service) -> None:
        async with service.stream("healed") as (browser, stream):
            await service.begin()
            try:
                before = service.store.failures
                service.gates["healed"].set()
                async with asyncio.timeout(10):
                    while service.store.failures == before:
                        await asyncio.sleep(0.01)
            finally:
                await service.end()
            answer = await stream.ended()
        assert_whole(answer)
        assert answer.error is None
        assert (await content(browser))["late"] == "healed"
        assert events(caplog) == []

    run(fault, scenario)


@pytest.mark.parametrize("kind", ["lost"])
@pytest.mark.parametrize(
    "store", ["asyncpg", *(pytest.param(store, marks=pytest.mark.long) for store in ("psycopg", "asyncmy", "redis"))]
)
def test_connections_that_the_network_has_forgotten_cost_one_request(fault: Fault) -> None:
    """However many stand idle, not each of them costs another request its answer when the network is back."""

    async def scenario(service: Service) -> None:
        users = [await service.user() for _ in range(USERS)]
        await asyncio.gather(*(user.get("/save?n=1") for user in users))
        await service.begin()
        try:
            assert_unavailable(await users[0].get("/"))
        finally:
            await service.end()
        for user in users:
            assert (await user.get("/save?n=2")).status == 200

    run(fault, scenario)


@pytest.mark.parametrize("store", ["redis", "cluster"])
def test_a_script_flush_is_not_noticed(store: str, places: Callable[[str], Faults]) -> None:
    """Before a request and within a stream."""

    async def scenario(service: Service) -> None:
        async with service.stream("flushed") as (browser, stream):
            await service.begin()
            other = await service.user(5)
            await service.begin()
            service.gates["flushed"].set()
            answer = await stream.ended()
        assert_whole(answer)
        assert answer.error is None
        assert service.store.failures == 0
        assert (await content(browser))["late"] == "flushed"
        assert (await content(other))["saved"] == "5"

    run(places(store)["flush"], scenario)
