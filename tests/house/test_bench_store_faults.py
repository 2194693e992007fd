"""Peers on a store that do not do the work they are timed for: each is refused, for what it does."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest
from paths import ROOT
from test_bench import _frozen  # noqa: F401 - each measurement would look through all that was collected
from test_bench_stores import LEVELS, _few, measure  # noqa: F401 - few browsers, few messages

from bench.app import BrokenPeerError
from bench.store_peers import StorePeer
from bench.store_rows import TABLE, Rows, alone


class Plain(Rows):
    """A driver that does what it is told, on SQLite."""

    async def open(self):
        self.memory = {}
        self.driver = sqlite3.connect(self.url.removeprefix("sqlite:///"), isolation_level=None)
        self.driver.execute(TABLE.format("text"))

    async def get(self, key):
        row = self.driver.execute("select data from kept where id = ?", (key,)).fetchone()
        return self.memory.get(key) or (row and row[0])

    async def add(self, key, data):
        self.driver.execute("insert into kept values (?, ?)", (key, data))

    async def put(self, key, data):
        self.driver.execute("update kept set data = ? where id = ?", (data, key))

    async def close(self):
        self.driver.close()


class Forgetful(Plain):
    """Keeps what was first written."""

    async def put(self, key, data):
        pass


class Twice(Plain):
    """Counts what nobody asked it to count."""

    async def put(self, key, data):
        await super().put(key, json.dumps({**(kept := json.loads(data)), "n": kept["n"] + 1}))


class InProcess(Plain):
    """Keeps in this process what should be in the store."""

    async def put(self, key, data):
        self.memory[key] = data


class Tiring(Plain):
    """Does so once everybody has logged in, so that the timed requests alone are lost."""

    async def put(self, key, data):
        written = self.memory.setdefault("written", 0)
        self.memory["written"] += 1
        if written < max(LEVELS) + 2 * 2:
            return await super().put(key, data)
        self.memory[key] = data
        return None


class Double(Plain):
    """Makes a second session for each."""

    async def add(self, key, data):
        await super().add(key, data)
        await super().add(key[:-1], data)


class NewInProcess(Plain):
    """Keeps new sessions in this process once everybody has logged in."""

    async def add(self, key, data):
        written = self.driver.execute("select count(*) from kept").fetchone()[0]
        if written < max(LEVELS) + 2:
            return await super().add(key, data)
        self.memory[key] = data
        return None


class Another(Plain):
    """Writes a new session under another name than the one that it gives away."""

    async def add(self, key, data):
        written = self.driver.execute("select count(*) from kept").fetchone()[0]
        await super().add(key if written < max(LEVELS) + 2 else key[::-1], data)
        self.memory[key] = data


class Stale(Plain):
    """Answers each request as the first session's once everybody has logged in; what is stored is sound."""

    async def get(self, key):
        read = self.memory.setdefault("read", 0)
        self.memory["read"] += 1
        if read < 3 * (max(LEVELS) + 2) + 2:
            return await super().get(key)
        return self.driver.execute("select data from kept").fetchone()[0]


class Cutting(Plain):
    """Drops a message of a large session as it is read by somebody else."""

    async def get(self, key):
        data = json.loads(await super().get(key))
        return json.dumps({**data, "messages": data.get("messages", [])[1:]})


def plain(kind: type[Rows]) -> StorePeer:
    return StorePeer(kind.__name__, kind.__name__, alone(kind), b"id", table="kept")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Forgetful, "/pile|there is no|in the store"),
        (Twice, "in the store"),
        (InProcess, "in the store|there is no"),
        (Double, "10 sessions in the store instead of 5"),
        (Cutting, "the messages in the store"),
    ],
)
def test_a_peer_that_does_not_do_the_work_is_refused_at_once(kind, said):
    """A lost write, a second one, one that is in no store, two sessions for one, and a part of a large one."""
    with pytest.raises(BrokenPeerError, match=said):
        measure("sqlite", plain(kind), cases=["large"])


@pytest.mark.parametrize(("kind", "case"), [(Tiring, "write"), (NewInProcess, "new"), (Another, "new")])
def test_timed_writes_that_are_not_in_the_store_are_noticed(kind, case):
    """Another instance of the peer, and the store's own count, know what the timed requests left behind."""
    with pytest.raises(BrokenPeerError, match=r"the (counter|user) in the store|sessions in the store|there is no"):
        measure("sqlite", plain(kind), cases=[case, "large"])


def test_an_answer_that_is_another_sessions_is_noticed():
    """Each timed answer is checked, not only what is in the store."""
    with pytest.raises(BrokenPeerError, match="Stale, read one key"):
        measure("sqlite", plain(Stale), cases=["read", "large"])


def test_a_sound_peer_made_the_same_way_is_not_refused():
    """What the tests above refuse is the fault, not the way the peer was made."""
    assert measure("sqlite", plain(Plain), cases=["write", "new", "large"], rounds=2)


@pytest.mark.parametrize(("sound", "said"), [(0, "/read: b'u1' instead"), (max(LEVELS), "one session for several")])
def test_one_session_for_several_visitors_is_refused(sound, said):
    """Each new session has a cookie of its own: those that log in, and those whose requests are timed."""
    told = []

    def wrap(application, url):
        middleware, close = alone(Plain)(application, url)

        async def same(scope, receive, send):
            async def sending(message):
                if scope["path"] == "/new" and message["type"] == "http.response.start":
                    told.append(message["headers"].pop())
                    message["headers"].append(told[-1] if len(told) <= sound else told[0])
                await send(message)

            await middleware(scope, receive, sending)

        return same, close

    with pytest.raises(BrokenPeerError, match=said):
        measure("sqlite", replace(plain(Plain), wrap=wrap), cases=["new"])


CACHED = """
import asyncio, sqlite3
from bench.crowd import Crowd
from bench.servers import Store
from bench.store_peers import STORE_PEERS

async def main():
    with Store() as store:
        (peer,) = (peer for peer in STORE_PEERS["sqlite"] if peer.key == "django-cached_db")
        crowd = Crowd(peer, store, 1, 0)
        await crowd.begin()
        connection = sqlite3.connect(store.folder / "django.db")
        connection.execute("update django_session set session_data = ''")
        connection.commit()
        connection.close()
        await crowd.verify()

asyncio.run(main())
"""


def test_the_database_is_asked_and_not_the_cache_before_it():
    """What Django has in its cache alone is not in the store. Its settings are those of a process of its own."""
    done = subprocess.run([sys.executable, "-c", CACHED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "BrokenPeerError: /read: there is no 'user' any more" in done.stderr
    assert "BrokenPeerError: django-cached_db: no answer, or not a 200" in done.stderr
