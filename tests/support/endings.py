"""How a streamed answer may end on a running server, and whether its session kept what it must.

Rules of residence: plays the clients of a server process that serves `ending_apps`; says what was kept, and knows
nothing of what is expected.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from driver import Browser, Cookie
from ending_apps import FRAMEWORKS, LAST_WORDS, TOKENS, of_raw_asgi
from server_stores import last_saves
from serving import Server, serve, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from fastersession.stores.sqlite import SQLiteStore

RETRIES = 5  # seconds that a late save is tried for
PATIENCE = 4  # seconds for the end of a broken answer: hypercorn over HTTP/2 tells it late, daphne never
WHILE = 5  # seconds in which an answer that was cut off must be kept; it is so at once
STREAMS = 3  # at once, when the server is told to stop
WELL = "✓"
LOST = "✗"
CANNOT = "n/a"


def said(how: str) -> str:
    return "".join(f"{number};" for number in range(TOKENS[how]))


def listen(client: httpx.Client, how: str, question: str = "?") -> Iterator[str]:
    """Read an answer; gives all that has arrived, as often as something does, until it ends one way or another."""
    text, query = "", {"how": how, "q": question}
    with contextlib.suppress(httpx.TransportError), client.stream("GET", "/chat", params=query) as response:
        for part in response.iter_text():
            text += part
            yield "".join(re.findall(r"\d+;", text))


def kept(client: httpx.Client) -> str:
    return client.get("/session").json().get("answer", "")


Clients = Callable[..., httpx.Client]


def finds(clients: Clients, before: httpx.Client, enough: Callable[[str], bool]) -> bool:
    """Come back over a new connection, and look into the session until it has enough, or for a while in vain."""
    with clients(cookies=dict(before.cookies)) as client, contextlib.suppress(AssertionError):
        return until(lambda: enough(kept(client)), "the answer to be kept", WHILE)
    return False


def finish(clients: Clients) -> bool:
    """The client reads to the end, and looks at once: all of it is there."""
    with clients() as client:
        *_, seen = listen(client, "whole")
        return seen == said("whole") == kept(client)


def leave(clients: Clients) -> bool:
    """The client goes in the middle and comes back: what it had read is there, or more."""
    with clients() as client, contextlib.closing(listen(client, "long")) as answer:
        seen = next(text for text in answer if text.count(";") >= 3)
    return finds(clients, client, lambda answer: answer.startswith(seen))


def fail(clients: Clients) -> bool:
    """The application raises: what it had written is there, which is more than it had said."""
    with clients(timeout=PATIENCE) as client:
        *_, seen = listen(client, "broken")  # perhaps not the last token: FastAPI has a queue for events
    written = said("broken") + LAST_WORDS
    return written.startswith(seen) and finds(clients, client, lambda answer: answer == written)


def withhold(clients: Clients) -> bool:
    """The store is away when the last chunk is due: the answer arrives, and never looks whole."""
    with clients(timeout=RETRIES + PATIENCE) as client:
        text, query = "", {"how": "whole", "q": "?"}
        try:
            with client.stream("GET", "/chat", params=query) as response:
                for part in response.iter_text():
                    text += part
        except httpx.TransportError:
            return said("whole").startswith("".join(re.findall(r"\d+;", text))) and text != ""
    return False


def close_code(kind: str, folder: Path) -> str:
    """Return the code that a WebSocket is closed with whose session could not be saved."""
    env = {"FRAMEWORK": FRAMEWORKS["raw ASGI"], "SESSIONS": str(folder / "sessions.jsonl")}
    with serve(kind, "ending_apps.served:app", env) as server:
        url = f"ws://127.0.0.1:{server.port}/socket"
        with connect(url, additional_headers={"store": "failing"}) as socket, contextlib.suppress(ConnectionClosed):
            socket.recv(RETRIES + PATIENCE)
        return str(socket.close_code)


def stop(server: Server, clients: Clients, sessions: Path) -> bool:
    """The server is told to stop in the middle of several answers: all that had been read by then is there."""
    seen, cookies = {f"question {number}": "" for number in range(STREAMS)}, {}

    def read(question: str) -> None:
        with clients() as client:
            for text in listen(client, "long", question):
                seen[question], cookies[question] = text, client.cookies["sid"]

    with ThreadPoolExecutor(STREAMS) as threads:
        readers = [threads.submit(read, question) for question in seen]
        until(lambda: all(text.count(";") >= 10 for text in seen.values()), "the answers to be under way")
        assert not any(reader.done() for reader in readers)
        before = dict(seen)
        server.terminate()
    answers = {session["question"]: session.get("answer", "") for session in left(sessions, cookies.values())}
    return all(answers.get(question, "").startswith(text) for question, text in before.items())


def left(sessions: Path, cookies: Any) -> list[dict[str, str]]:
    """Return the sessions that have outlived their server, as its successor shows them to who has the cookies."""
    if sessions.suffix != ".db":
        return last_saves(sessions)

    async def look() -> list[dict[str, str]]:
        found, store = [], SQLiteStore(sessions)
        browser = Browser(of_raw_asgi.make(store))
        for cookie in cookies:
            browser.jar["sid"] = Cookie("sid", cookie, {})
            found.append((await browser.get("/session")).json())
        await store.close()
        return found

    return asyncio.run(look())


ENDINGS = {"finish": finish, "leave": leave, "fail": fail}


def play(kind: str, framework: str, folder: Path) -> str:
    """Let answers of a framework end in every way on one server; returns a mark for each, the stop's last."""
    sessions = folder / ("saves.jsonl" if kind == "hypercorn-trio" else "sessions.db")
    env = {"FRAMEWORK": FRAMEWORKS[framework], "SESSIONS": str(sessions)}
    with serve(kind, "ending_apps.served:app", env) as server:

        def clients(store: str) -> Clients:
            return lambda **options: server.client(headers={"store": store}, **options)

        with clients("outside")() as client:
            if client.get("/session").is_server_error:
                return CANNOT
        with ThreadPoolExecutor(len(ENDINGS) * 2) as threads:
            marks = [threads.map(ending, (clients("memory"), clients("outside"))) for ending in ENDINGS.values()]
            away = ["failing"] if kind == "hypercorn-trio" else ["failing", "away"]
            withheld = threads.map(withhold, map(clients, away))
            kept_all = [*(all(of_both) for of_both in marks), all(withheld)]
        kept_all.append(stop(server, clients("outside"), sessions))
    return " ".join(WELL if kept else LOST for kept in kept_all)
