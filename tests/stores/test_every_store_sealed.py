"""What lies in every store outside the process, and whoever can write there: S1, S3 to S6, S9."""

from __future__ import annotations

import base64
import contextlib
import pickle
import sqlite3
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from driver import Browser, in_loop
from redis import Redis
from routes import content, events, record_id, secret_of, serve
from sealed import Bomb, SpyCodec
from servers_redis import RedisServer, until
from store_subject import SHARED, Factory, Subject, opened

from fastersession.crypto.tokens import verifier_of
from fastersession.engine.packing import ABOUT

pytestmark = pytest.mark.parametrize("kind", SHARED)
NAME, ROLE = ".name", ".role"  # as packed


# --- what is kept, and what is said ---


@pytest.fixture
def told(kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], bytes]]:
    """Return all that the server keeps, as a dump shows it, and what Redis was told to do."""
    ask = request.getfixturevalue
    if kind == "sqlite":
        yield lambda: b"".join(file.read_bytes() for file in ask("tmp_path").iterdir()) + _dump(ask("tmp_path"))
    elif kind.startswith("redis"):
        nodes = [ask("one")] if kind == "redis" else ask("three")
        with contextlib.ExitStack() as stack:
            heard = [stack.enter_context(monitored(node)) for node in nodes]
            yield lambda: b"".join([*map(_kept, nodes), *(hear() for hear in heard)])
    elif kind == "mariadb":
        server = ask("mariadb")
        command = ["mariadb-dump", "--no-defaults", "--hex-blob", f"--socket={server.folder}/s", "-u", "root", "t"]
        yield lambda: subprocess.run(command, capture_output=True, check=True).stdout
    else:
        server = ask("postgresql")
        tables = [f"fastersession_session{which}" for which in ("", "_attribute", "_user")]
        yield lambda: "".join(server.execute(f"copy {table} to stdout") for table in tables).encode()


def _dump(folder: Any) -> bytes:
    with contextlib.closing(sqlite3.connect(folder / "sessions.db")) as connection:
        return "".join(connection.iterdump()).encode()


def _kept(node: RedisServer) -> bytes:
    with Redis.from_url(node.url) as client:
        return repr({key: client.hgetall(key) for key in client.keys()}).encode()  # noqa: SIM118 - a command


@contextlib.contextmanager
def monitored(node: RedisServer) -> Iterator[Callable[[], bytes]]:
    """Return what MONITOR shows of a server, up to the moment of the call."""
    monitor = subprocess.Popen(["redis-cli", "-p", str(node.port), "monitor"], stdout=subprocess.PIPE)
    assert monitor.stdout is not None
    assert monitor.stdout.readline() == b"OK\n"
    lines: list[bytes] = []
    listener = threading.Thread(target=lambda: lines.extend(monitor.stdout or ()))
    listener.start()

    def heard() -> bytes:
        node.cli("echo", "up-to-here")
        until(lambda: any(b"up-to-here" in line for line in lines), "the monitor")
        return b"".join(lines)

    try:
        yield heard
    finally:
        monitor.kill()
        listener.join()
        monitor.stdout.close()
        monitor.wait()


def spellings(secret: bytes) -> Iterator[bytes]:
    """Every way a dump, a log or a protocol may show bytes."""
    yield secret
    yield from (secret.hex().encode(), secret.hex().upper().encode())
    yield repr(secret).encode()[2:-1]
    yield "".join(chr(c) if 32 <= c < 127 else f"\\x{c:02x}" for c in secret).encode()
    for start in range(3):  # in base64 it looks different at each of three places
        for encoded in (base64.b64encode(secret[start:]), base64.urlsafe_b64encode(secret[start:])):
            yield encoded[:16]


@in_loop
async def test_s1_no_secret_and_no_value_reaches_the_store(factory: Factory, told: Callable[[], bytes]) -> None:
    """S1: of a visit with a login the store keeps, and is told, the public id and names; no token, secret or value."""
    async with opened(factory) as subject:
        browser = Browser(serve(store=subject.store))
        await browser.get("/set?name=rosebud")
        secrets = [secret_of(browser)]
        tokens = [cookie.value.encode() for cookie in browser.jar.values()]
        await browser.get("/login")
        await browser.get("/set?answer=rosebud")
        secrets.append(secret_of(browser))
        tokens += [cookie.value.encode() for cookie in browser.jar.values()]
        shown = told()
    for known in (record_id(browser), verifier_of(secrets[-1]), b"answer"):  # a dump that would show the rest, too
        assert any(spelt in shown for spelt in spellings(known))
    for hidden in (*tokens, *(spelt for secret in secrets for spelt in spellings(secret)), *spellings(b"rosebud")):
        assert hidden not in shown


# --- who can write there ---


class Vault:
    """A store with the sessions of alice and bob, and a hand in it."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.codec = subject, SpyCodec()
        app = serve(store=subject.store, codec=self.codec)
        self.alice, self.bob = Browser(app), Browser(app)

    async def fill(self) -> None:
        for browser, name in ((self.alice, "alice"), (self.bob, "bob")):
            await browser.get(f"/set?name={name}&role=user")

    async def kept(self, browser: Browser) -> dict[str, bytes]:
        return await self.subject.attributes(record_id(browser))

    async def put(self, browser: Browser, **values: bytes) -> None:
        """Write values as they stand; `about` stands for the reserved one."""
        sets = {{"about": ABOUT}.get(name, f".{name}"): value for name, value in values.items()}
        record = await self.subject.load(record_id(browser))
        assert await self.subject.update(record_id(browser), record.verifier, sets=sets)


@contextlib.asynccontextmanager
async def vault(factory: Factory) -> AsyncIterator[Vault]:
    async with opened(factory) as subject:
        filled = Vault(subject)
        await filled.fill()
        yield filled


Harm = Callable[[dict[str, bytes], dict[str, bytes]], dict[str, bytes]]
JSON = b"\0\4json"
HARMS: dict[str, Harm] = {
    "S3: another user's": lambda mine, yours: {"name": yours[NAME]},
    "S3: all of another user's": lambda mine, yours: {
        "name": yours[NAME], "role": yours[ROLE], "about": yours[ABOUT],
    },
    "S3: another user's identity": lambda mine, yours: {"about": yours[ABOUT]},
    "S3: another attribute's": lambda mine, yours: {"role": mine[NAME]},
    "S3: admin, in plain JSON": lambda mine, yours: {"role": JSON + b'"admin"'},
    "S3: one attribute more": lambda mine, yours: {"admin": mine[ROLE]},
    "S3: one bit": lambda mine, yours: {"name": mine[NAME][:-1] + bytes([mine[NAME][-1] ^ 1])},
    "S3: cut": lambda mine, yours: {"name": mine[NAME][:-1]},
    "S4: a pickle": lambda mine, yours: {"name": pickle.dumps(Bomb())},
    "S4: a pickle that says it is one": lambda mine, yours: {"name": b"\0\6pickle" + pickle.dumps(Bomb())},
    "S6: nothing": lambda mine, yours: {"name": b""},
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS.values(), ids=list(HARMS))
@in_loop
async def test_s3_s4_s5_s6_what_was_altered_is_no_session(harm: Harm, factory: Factory, caplog: Any) -> None:
    """S3, S4, S5, S6: nothing altered is decoded or shown; what is written then is new, and the record is kept."""
    async with vault(factory) as world:
        old = record_id(world.alice)
        await world.put(world.alice, **harm(await world.kept(world.alice), await world.kept(world.bob)))
        before, decoded = await world.subject.read(old), world.codec.decoded
        answer = await world.alice.get("/")
        assert (answer.status, answer.json(), answer.cookies) == (200, {}, [])
        assert [event.session_id for event in events(caplog, "session.unreadable")] == [old.hex()]
        assert (world.codec.decoded, Bomb.fuse) == (decoded, [])
        await world.alice.get("/logout")
        await world.alice.get("/set?name=again")
        assert record_id(world.alice) != old
        assert await content(world.alice) == {"name": "again"}
        assert await content(world.bob) == {"name": "bob", "role": "user"}
        assert await world.subject.read(old) == before


@in_loop
async def test_s9_a_record_given_for_another_shows_nothing(factory: Factory, monkeypatch: Any) -> None:
    """S9: if a server, a driver or a proxy gives bob's record for alice's id, alice is nobody, and bob is not shown."""
    async with vault(factory) as world:
        load, bob = world.subject.store.load, record_id(world.bob)
        monkeypatch.setattr(world.subject.store, "load", lambda _: load(bob))
        answer = await world.alice.get("/")
        assert (answer.status, answer.json(), answer.cookies) == (200, {}, [])
