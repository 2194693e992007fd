"""What a request sends to Redis, counted by the server: round trips, bytes, changes of the data.

Rules of residence: requests one after another; nothing is timed, so the load of the machine changes no figure. How many
a second there are is in `stores`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from bench import servers
from bench.app import MEGABYTE
from bench.crowd import CASES, Case, Crowd
from bench.peers import versions
from bench.store_peers import StorePeer, pick

COUNTED = 50
"""Requests whose traffic is counted."""
KEYS = "read", "write", "untouched"


class Counters:
    """What the server has counted between two looks, less what looking costs.

    A message that arrives alone is one read of the server, so requests that are made one after another cost a round
    trip for each.
    """

    def __init__(self, url: str) -> None:
        from redis import Redis

        self._client = Redis.from_url(url)
        self._cost: dict[str, int] = {}
        self._last = self._look()
        self._cost = self.since()

    def since(self) -> dict[str, int]:
        """Return what was counted since the last look."""
        last, self._last = self._last, self._look()
        now = self._last
        return {key: now[key] - last.get(key, 0) - self._cost.get(key, 0) for key in now}

    def close(self) -> None:
        self._client.close()

    def _look(self) -> dict[str, int]:
        info: dict[str, Any] = self._client.info("all")  # type: ignore[assignment]
        ran = {key.removeprefix("cmdstat_"): value["calls"] for key, value in info.items() if key[:8] == "cmdstat_"}
        return {
            **ran,
            "trips": info["total_reads_processed"],
            "sent": info["total_net_input_bytes"],
            "changes": info["rdb_changes_since_last_save"],
        }


def measure(peers: Sequence[Any], options: Any, tell: Callable[[str], None]) -> dict[str, Any]:
    """Count for every case; the peers are those that work on Redis, whoever else is measured."""
    tell("redis")
    return asyncio.run(compare(pick(servers.Redis.key, options.peers), KEYS))


async def compare(peers: Sequence[StorePeer], keys: Sequence[str]) -> dict[str, Any]:
    """Count for every case and peer, on a server of their own."""
    cases: dict[str, Any] = {key: {"title": CASES[key].title, "peers": {}} for key in keys}
    beside = {}
    with servers.Redis() as server:
        for peer in peers:
            crowd = Crowd(peer, server, 1, 0)
            counters = Counters(crowd.url)
            try:
                await crowd.begin()
                for key in keys:
                    cases[key]["peers"][peer.key] = await traffic(crowd, CASES[key], counters)
                await crowd.verify()
                beside[peer.key] = await beside_a_megabyte(crowd, counters)
            finally:
                counters.close()
                await crowd.close()
        return {"cases": cases, "beside": beside, "versions": [server.version(), *versions("redis", "hiredis")]}


async def traffic(crowd: Crowd, case: Case, counters: Counters) -> dict[str, float]:
    """Count what the server gets for each of some requests that are made one after another."""
    (browser,) = crowd.browsers
    counters.since()
    for _ in range(COUNTED):
        await browser.get(case.path, case.expected(browser) or b"")
    return {key: value / COUNTED for key, value in counters.since().items() if value}


async def beside_a_megabyte(crowd: Crowd, counters: Counters) -> dict[str, float]:
    """Count what changing the counter sends when the session holds 1 MB that nobody touches."""
    (browser,) = crowd.browsers
    whole = b"%d" % MEGABYTE
    await browser.get("/large", whole)
    found = await traffic(crowd, CASES["write"], counters)
    await browser.get("/size", whole)
    return found
