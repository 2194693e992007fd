"""A WebSocket chat on a real server, whose process is killed in the middle of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import server_apps
from driver import Browser, Cookie, in_loop
from serving import serve, until
from websockets.sync.client import connect

from fastersession import FasterSessionMiddleware
from fastersession.stores import from_url

LONG = [pytest.param(kind, marks=pytest.mark.long) for kind in ("uvicorn-h11", "hypercorn-h1", "granian-h1", "daphne")]


@pytest.mark.parametrize("kind", ["uvicorn-httptools", *LONG])
def test_what_a_chat_has_said_survives_kill_9(kind: str, tmp_path: Path) -> None:
    """The socket stays open, and says nothing of save(): another tab sees each message, and so does who comes after."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    with serve(kind, "server_apps:app", {"STORE": url}) as server, server.client() as client:
        assert client.get("/login", params={"name": "ada"}).status_code == 200
        cookie = client.cookies["sid"]
        with connect(f"ws://127.0.0.1:{server.port}/ws", additional_headers={"Cookie": f"sid={cookie}"}) as socket:
            for number in range(3):
                socket.send(f"message {number}")
                assert socket.recv(10) == f"done: message {number}"
                heard = [f"message {earlier}" for earlier in range(number + 1)]
                until(lambda heard=heard: client.get("/session").json()["heard"] == heard, "another tab to see it")
            server.kill()
    assert after(url, cookie)["heard"] == heard


@in_loop
async def _look(url: str, cookie: str, found: dict[str, Any]) -> None:
    store = from_url(url)
    app = FasterSessionMiddleware(server_apps.plain, server_apps.SECRET, store, secure=False, seal=False)
    browser = Browser(app)
    browser.jar["sid"] = Cookie("sid", cookie, {})
    found.update((await browser.get("/session")).json())
    await store.close()


def after(url: str, cookie: str) -> dict[str, Any]:
    """Return the session as the next process finds it."""
    found: dict[str, Any] = {}
    _look(url, cookie, found)
    return found
