"""RedisStore's arguments, and the servers that it refuses: each is one clear error that shows no password."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from driver import in_loop
from over_redis import opened
from servers_redis import RedisServer, free_port
from store_subject import ID, make

from fastersession.errors import ConfigError, StoreError
from fastersession.stores.redis import RedisStore


@pytest.mark.parametrize("url", ["http://localhost", "redis:localhost", "redis://", "redis://h:port", "", "rediss"])
def test_a_url_that_cannot_work(url: str) -> None:
    """One error, at construction."""
    with pytest.raises(ConfigError, match=r"^store: "):
        RedisStore(url)


def test_arguments_that_cannot_work() -> None:
    """Each is named; a password in the URL is not shown."""
    for prefix in ("", "a{b", "}", 5):
        with pytest.raises(ConfigError, match=r"^prefix: "):
            RedisStore("redis://localhost", prefix=prefix)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^clock: "):
        RedisStore("redis://localhost", clock=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^store: "):
        RedisStore(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        RedisStore("redis://:hunter2@localhost:port")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


async def fails(place: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        async with opened(place):
            pass


@in_loop
async def test_a_server_that_will_not_do_is_told_at_the_opening(
    own: RedisServer, three: list[RedisServer], tmp_path: Any
) -> None:
    """Unreachable, a wrong password, a forbidden command, a cluster without its client, and the other way round."""
    await fails(f"redis://127.0.0.1:{free_port()}", StoreError, "cannot be used: .*refused|Connect")
    await fails(f"redis+cluster://127.0.0.1:{free_port()}", StoreError, "cannot be used: ")
    await fails(f"unix://{tmp_path}/none", StoreError, "cannot be used: ")
    await fails(three[0].url, ConfigError, r"redis\+cluster://")
    await fails(own.cluster_url, StoreError, "(?i)cluster")
    own.cli("acl", "setuser", "frail", "on", ">right", "~*", "+@all", "-rename")
    await fails(f"redis://frail:right@127.0.0.1:{own.port}", StoreError, "permission|NOPERM|can't run")
    own.cli("acl", "setuser", "modest", "on", ">right", "~fs:*", "+@all", "-@dangerous", "-@admin")
    async with opened(f"redis://modest:right@127.0.0.1:{own.port}") as store:
        await make(store)
        assert await store.delete(ID)
    with pytest.raises(StoreError) as caught:
        await RedisStore(f"redis://frail:hunter2@127.0.0.1:{own.port}").open()
    assert "WRONGPASS" in str(caught.value) or "invalid username" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("version", [b"6.2.14", b""])
def test_a_server_that_is_too_old(version: bytes) -> None:
    """Before 7.0 one error says so; before 6.0 there is not even HELLO."""
    hello = b"*4\r\n$7\r\nversion\r\n$6\r\n%b\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n" % version

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"HELLO"):
                writer.write(hello if version else b"-ERR unknown command `HELLO`\r\n")
            elif line.startswith(b"CLIENT"):
                writer.write(b"+OK\r\n")
        writer.close()

    @in_loop
    async def scenario() -> None:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        await fails(f"redis://127.0.0.1:{port}?protocol=2", ConfigError, "must be Redis 7.0 or newer")
        listener.close()
        await listener.wait_closed()

    scenario()


@pytest.mark.parametrize("blocked", ["redis", "hiredis"])
def test_the_missing_extra_is_named(blocked: str) -> None:
    """Without redis-py or hiredis the import says what to install."""
    code = f"import sys; sys.modules[{blocked!r}] = None; import fastersession.stores.redis"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60)
    assert 'ImportError: RedisStore needs redis-py and hiredis: pip install "fastersession[redis]"' in done.stderr
