"""SQLiteStore, killed between any two steps of a login or a revocation: the file is as before, or as after it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from paths import SUPPORT

VERBS = ("login", "login of an anonymous session", "login again", "revoke", "retire")

# The parent forks before it has a thread. A child makes the same file each time, tells when it is about to act, and
# kills itself where the n-th statement from then on begins.
STEPS = """
import asyncio, itertools, json, os, signal, sys
sys.path.insert(0, {here!r})
from fastersession.stores.base import Extra, Record
from fastersession.stores.sqlite import SQLiteStore, store as sqlite
from fastersession.stores.users import ABOUT, Login
folder, verb = sys.argv[1:]
TAG, IDS, NOW = b"\\x01" * 16, [bytes([n]) * 16 for n in range(5)], 1e9
V, W, X = b"v" * 32, b"w" * 32, b"x" * 32
left = [-1]
connect = sqlite.connect_writer
def deadly(path):
    connection = connect(path)
    def step(statement):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    connection.set_trace_callback(step)
    return connection
sqlite.connect_writer = deadly
def terms(verifier, at, **more):
    record = Record(verifier, at, 100.0, at + 1000.0, {{ABOUT: b"about", "a": b"1"}}, Extra(TAG, 50.0))
    return Login(record, (TAG,), at, **more)
async def main(path, step):
    now = [NOW]
    store = SQLiteStore(path, clock=lambda: now[0])
    for one in IDS[:3]:
        await store.login(one, None, terms(W, now[0]))
        now[0] += 1
    await store.create(IDS[3], Record(V, now[0], 100.0, 9e9, {{"cart": b"1", "other": b"2"}}))
    left[0] = step
    if verb == "login":
        await store.login(IDS[4], None, terms(W, now[0], limit=2))
    elif verb == "login of an anonymous session":
        await store.login(IDS[3], V, terms(W, now[0], limit=2, keep=frozenset({{"cart"}})))
    elif verb == "login again":
        await store.login(IDS[0], W, terms(X, now[0]))
    elif verb == "revoke":
        await store.revoke((TAG,), IDS[0], now[0])
    elif verb == "retire":
        await store.retire(IDS[0], W, now[0] + 60)
    else:
        assert verb == "nothing"
    left[0] = -1
    await store.close()
for step in itertools.count(1):
    child = os.fork()
    if child == 0:
        asyncio.run(main(f"{{folder}}/{{step}}.db", step))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    if status == 0:
        break
print(json.dumps(step))
"""


def steps(folder: Path, verb: str) -> list[list[str]]:
    """Return what is in the file after a kill at each step, and at last without one."""
    folder.mkdir()
    command = [sys.executable, "-W", "error", "-c", STEPS.format(here=str(SUPPORT)), str(folder), verb]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return [content(folder / f"{step}.db") for step in range(1, json.loads(done.stdout) + 1)]


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.execute("UPDATE session SET verifier = x'' WHERE user_id IS NULL AND ended_reason = 'replaced'")
        return list(connection.iterdump())


@pytest.mark.parametrize("verb", VERBS)
def test_u1_killed_at_any_step(tmp_path: Path, verb: str) -> None:
    """U1: nothing opens that is not listed, nothing is listed that opens nothing, no mark without its revocation."""
    (before,) = steps(tmp_path / "nothing", "nothing")
    *killed, after = steps(tmp_path / "killed", verb)
    assert after != before
    assert len(killed) > 3
    assert killed == [before] * len(killed)
