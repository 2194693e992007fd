"""Every server, every framework, unmodified: an answer whose client leaves, reloads, stops it, or meets a shutdown."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ending_apps import FRAMEWORKS
from endings import said
from serving import KINDS, Server, serve, until

AROUND = "BaseHTTPMiddleware around "
STYLES = {
    **FRAMEWORKS,
    f"{AROUND}Starlette": f"{AROUND}of_starlette",
    "BaseHTTPMiddleware": "of_base_http",
    "sse-starlette": "of_sse_starlette",
}
NAMES = [kind for kind in KINDS if kind != "hypercorn-trio"]  # a run needs asyncio
FAST = [
    ("uvicorn-h11", "FastAPI, events"), ("uvicorn-httptools", f"{AROUND}Starlette"), ("hypercorn-h1", "raw ASGI"),
    ("hypercorn-h2", "Quart"), ("granian-h1", "Litestar"), ("daphne", "Django"),
]  # fmt: skip
EVERY = [
    *(pytest.param(pair, id="-".join(pair)) for pair in FAST),
    *(pytest.param((kind, style), id=f"{kind}-{style}", marks=pytest.mark.long) for kind in NAMES for style in STYLES
      if (kind, style) not in FAST),
]  # fmt: skip


@pytest.fixture
def server(request: Any, tmp_path: Path) -> Iterator[Server]:
    """Give a server of one kind with an application of one style."""
    kind, style = request.param
    env = {"FRAMEWORK": STYLES[style], "SESSIONS": str(tmp_path / "sessions.db")}
    with serve(kind, "ending_apps.served_detached:app", env) as server:
        yield server


def tokens(text: str) -> str:
    return "".join(re.findall(r"\d+;", text))


def begin(client: httpx.Client, count: int) -> str:
    """Read an answer until so many tokens are there, and leave; return all that came."""
    text = ""
    with client.stream("GET", "/chat", params={"how": "long", "q": "?"}) as response:
        assert response.status_code == 200
        for part in response.iter_text():
            text += part
            if tokens(text).count(";") >= count:
                return text
    raise AssertionError(f"the answer ended early: {text}")


def again(server: Server, client: httpx.Client) -> httpx.Client:
    """Return the same visitor over a new connection."""
    return server.client(cookies=dict(client.cookies))


@pytest.mark.parametrize("server", EVERY, indirect=True)
def test_an_answer_goes_on_when_its_client_leaves_and_is_resumed(server: Server) -> None:
    """Leave and reload: all of it is in the run, from where the client was, and in the session."""
    with server.client() as client:
        seen = begin(client, 5)
    ids = re.findall(r"^id: (\S+)$", seen, re.MULTILINE)
    with again(server, client) as client:
        whole = client.get("/runs/read").json()
        assert (tokens(whole["text"]), whole["status"]) == (said("long"), "completed")
        for cursor in ids[-1:]:
            rest = client.get("/runs/read", params={"after": cursor}).json()["text"]
            before = seen[: seen.index(f"id: {cursor}")] + seen[seen.index(f"id: {cursor}") :].partition("\n\n")[0]
            assert tokens(before) + tokens(rest) == said("long")
        assert until(lambda: client.get("/session").json()["answer"] == said("long"), "the session to have it")


@pytest.mark.parametrize("server", EVERY, indirect=True)
def test_a_stop_ends_it(server: Server) -> None:
    """The application is ended with the run, and says no more."""
    with server.client() as client:
        begin(client, 5)
    with again(server, client) as client:
        assert client.get("/runs/stop").json() is True
        stopped = client.get("/runs/read").json()
        assert stopped["status"] == "cancelled"
        assert tokens(stopped["text"]) != said("long")
        assert client.get("/runs/read").json() == stopped
        assert client.get("/runs/stop").json() is False


@pytest.mark.parametrize("server", EVERY, indirect=True)
def test_a_shutdown_leaves_what_was_said(server: Server, tmp_path: Path) -> None:
    """SIGTERM while nobody reads: the server ends, and its successor has what the client had, or more, and its end."""
    with server.client() as client:
        seen = begin(client, 5)
    server.terminate()
    env = {"FRAMEWORK": "of_raw_asgi", "SESSIONS": str(tmp_path / "sessions.db")}
    with serve("uvicorn-h11", "ending_apps.served_detached:app", env) as successor, again(successor, client) as later:
        found: dict[str, Any] = {}
        with contextlib.suppress(httpx.TransportError):
            found = later.get("/runs/read").json()
        assert tokens(found["text"]).startswith(tokens(seen))
        assert said("long").startswith(tokens(found["text"]))
        assert found["status"] in ("completed", "interrupted", "failed", "lost")
