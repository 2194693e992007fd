"""Runs in real servers: a worker that is killed, one that is told to stop, one that resumes what another produces."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from runs_app import WORDS
from serving import serve, until


def data(text: str) -> list[str]:
    """Return the data of an event stream."""
    return re.findall(r"^data: (.*)$", text, re.M)


def begin(client: Any, frames: int) -> tuple[list[str], str]:
    """Ask, read so many frames, and leave; return them, and the id of the last."""
    found: list[str] = []
    last = ""
    with client.stream("POST", "/ask", params={"q": "w", "user": "ada", "key": "1"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                last = line[4:]
            elif line.startswith("data: "):
                found.append(line[6:])
                if len(found) == frames:
                    break
    return found, last


def everything() -> list[str]:
    """Return a whole answer."""
    return [f"w-{number} " for number in range(WORDS)]


def look(client: Any) -> Any:
    """Return what a page would draw."""
    return client.get("/look", params={"user": "ada"}).json()


def url_of(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a server."""
    return {"STORE": f"sqlite:///{tmp_path}/sessions.db"}


def test_another_process_resumes_what_one_produces(tmp_path: Path) -> None:
    """From the very frame, to the end; the reader who left has stopped nothing."""
    with (
        serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as one,
        serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as two,
        one.client() as here,
        two.client() as there,
    ):
        seen, last = begin(here, 5)
        assert seen == everything()[:5]
        answer = there.get("/resume", params={"user": "ada"}, headers={"last-event-id": last}, timeout=20)
        assert data(answer.text) == everything()[5:]
        until(lambda: len(look(there)["entries"]) == 2, "the answer to enter")
        assert look(here)["entries"][1]["content"] == "".join(everything())
        assert there.get("/resume", params={"user": "ada"}).status_code == 204


def test_what_a_killed_worker_has_said_enters_the_history(tmp_path: Path) -> None:
    """kill -9 in mid-answer: another process finds the run lost, and keeps what the log has: all that was seen."""
    with serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as two, two.client() as there:
        with serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as one, one.client() as here:
            seen, _ = begin(here, 10)
            one.kill()
        until(lambda: len(look(there)["entries"]) == 2, "the lost run to be found", 30)
        content = look(there)["entries"][1]["content"]
        assert content.startswith("".join(seen))
        assert "".join(everything()).startswith(content)
        again = there.post("/ask", params={"q": "w", "user": "ada", "key": "2"}, timeout=20)
        assert data(again.text) == everything()


LONG = [pytest.param(kind, marks=pytest.mark.long) for kind in ("uvicorn-h11", "hypercorn-h1", "granian-h1", "daphne")]


@pytest.mark.parametrize("server", ["uvicorn-httptools", *LONG])
def test_a_stop_reaches_the_process_that_produces(server: str, tmp_path: Path) -> None:
    """It is durable when it is answered, wherever it was asked; the answer so far is kept."""
    with (
        serve(server, "runs_app:app", url_of(tmp_path)) as one,
        serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as two,
        one.client() as here,
        two.client() as there,
    ):
        seen, _ = begin(here, 5)
        assert there.post("/stop", params={"user": "ada"}).json() is True
        until(lambda: len(look(there)["entries"]) == 2, "the answer so far to enter")
        content = look(there)["entries"][1]["content"]
        assert content.startswith("".join(seen))
        assert len(content) < len("".join(everything()))
        assert there.post("/stop", params={"user": "ada"}).json() is False


def test_a_server_that_is_told_to_stop_keeps_what_was_said(tmp_path: Path) -> None:
    """SIGTERM: the run may end within the grace; its answer is in the history of the next process."""
    with serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as one, one.client() as here:
        seen, _ = begin(here, 5)
        assert seen
    with serve("uvicorn-httptools", "runs_app:app", url_of(tmp_path)) as two, two.client() as there:
        until(lambda: len(look(there)["entries"]) == 2, "the answer to be there", 30)
        assert look(there)["entries"][1]["content"].startswith("".join(seen))
