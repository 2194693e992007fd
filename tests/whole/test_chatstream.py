"""ChatStream 0.3.0 from the package index, unmodified, with a conversation that lives in our session.

It runs in a virtual environment of its own at the repository's root, built at the first run and kept: torch is heavy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from environments import environment
from paths import ROOT
from serving import KINDS, Server, free_port, launch, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

# torch first and pinned: the version that its users of today get, before anything else asks for another.
# psutil: imported by chatstream, but not among its requirements.
STEPS = (["torch==2.13.0"], ["chatstream==0.3.0", "psutil", "fastapi", "uvicorn", "--editable", str(ROOT)])
IMPORTS = 120  # seconds that importing torch and transformers may take on a busy machine
END = "<::EOS::>"


@contextlib.contextmanager
def chatstream(**env: str) -> Iterator[Server]:
    python = environment("chatstream", *STEPS)
    port = free_port()
    argv = KINDS["uvicorn-h11"].argv(str(python), "chatstream_app:app", port)
    with launch(argv, port, env, ready="/turns", patience=IMPORTS) as server:
        yield server
        assert "Traceback" not in server.output, server.output


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One ChatStream for all tests that use the plain set-up."""
    with chatstream() as running:
        yield running


def ask(client: httpx.Client, question: str) -> str:
    """One turn, read to its end: ChatStream sends the answer so far, again and again."""
    answer = client.post("/chat_stream", json={"user_input": question})
    assert answer.status_code == 200, answer.text
    return answer.text.removesuffix(END).rpartition(END)[2]


def turns(client: httpx.Client) -> dict[str, Any]:
    return client.get("/turns").json()


def test_three_turns_grow_one_chat_prompt(server: Server) -> None:
    """Three turns in one cookie jar: the ChatPrompt in the session grows to three, and stays the same object."""
    with server.client() as client:
        conversation, objects = [], set()
        for turn, question in enumerate(("who?", "with whom?", "against whom?"), start=1):
            conversation += [question, ask(client, question)]
            seen = turns(client)
            objects.add(seen["object"])
            assert (seen["turns"], seen["messages"]) == (turn, conversation)
            assert conversation[-1].startswith(f"({turn}) ")
        assert len(objects) == 1


def test_a_second_client_is_isolated(server: Server) -> None:
    """Another browser begins at zero, and its turns are its own."""
    with server.client() as first, server.client() as second:
        ask(first, "mine")
        assert turns(second) == {"turns": 0}
        ask(second, "yours")
        assert turns(first)["messages"][0] == "mine"
        assert turns(second)["messages"][0] == "yours"


def test_a_client_that_leaves_keeps_its_turn(server: Server) -> None:
    """Leaving in the middle of an answer keeps the question, and the conversation goes on from there."""
    with server.client() as client:
        ask(client, "first")
        cookies = dict(client.cookies)
        with client.stream("POST", "/chat_stream", json={"user_input": "second"}) as response:
            assert next(response.iter_text())
    with server.client(cookies=cookies) as back:
        assert turns(back)["turns"] == 2
        assert turns(back)["messages"][2:] == ["second", None]
        third = until(lambda: ask(back, "third"), "the generator to be free again")
        assert turns(back)["messages"][2:] == ["second", None, "third", third]


def test_clearing_the_context_begins_anew(server: Server) -> None:
    """ChatStream's own "new chat" pops the ChatPrompt: the next turn is the first one."""
    with server.client() as client:
        ask(client, "forget me")
        assert client.post("/clear_context").json()["success"] is True
        assert turns(client) == {"turns": 0}
        ask(client, "again")
        assert turns(client)["turns"] == 1


def test_chatstream_adds_ours_as_it_adds_its_own() -> None:
    """ChatStream's own set-up code, with all of its ancestor's arguments, builds on ours under the ancestor's name."""
    with chatstream(DROPPED_IN="1") as server, server.client() as client:
        started = client.get("/turns")
        assert started.headers["set-cookie"].startswith("__Host-sid=")
        client.headers["cookie"] = started.headers["set-cookie"].partition(";")[0]
        for turn in (1, 2, 3):
            ask(client, f"question {turn}")
            assert turns(client)["turns"] == turn
