"""The demo on a durable store: killed in the middle of a conversation, started again, and gone on with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from driver import Browser, in_loop
from serving import Server, free_port, launch
from test_demo import Scripted, asking, turns
from test_demo import say as say_in_process

from fastersession.__main__ import main
from fastersession.demo import app
from fastersession.demo.app import create_app
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import FaultyStore

SECRET = "the secret of the demo's tests: long, and of nothing else"


@contextlib.contextmanager
def demo(*arguments: str, secret: str = "", name: str = "FASTERSESSION_SECRET") -> Iterator[Server]:
    """Run the demo as a process; its last one, if any, was killed."""
    port = free_port()
    command = [sys.executable, "-m", "fastersession", "demo", "--port", str(port), *arguments]
    with launch(command, port, {name: secret}, ready="/") as server:
        yield server


def say(client: httpx.Client, text: str) -> str:
    answer = client.post("/chat", json={"message": text})
    assert answer.status_code == 200
    found = re.findall(r"event: token\ndata: (.*)\n\n", answer.text)
    return "".join(json.loads(data) for data in found)


def questions(client: httpx.Client) -> list[str]:
    return [turn["question"] for turn in client.get("/history").json()["turns"]]


def test_a_killed_demo_goes_on(tmp_path: Path) -> None:
    """Two turns, kill -9, start again: the history is there, the session is the same, and the model remembers."""
    store = f"sqlite:///{tmp_path}/chat.db"
    with demo("--store", store, secret=SECRET) as server, server.client() as client:
        first = [say(client, "My name is Ada"), say(client, "I like tea")]
        before = client.get("/history").json()
        cookies = client.cookies
        server.kill()
    with demo("--store", store, secret=SECRET) as server, server.client(cookies=cookies) as client:
        after = client.get("/history").json()
        assert after["turns"] == before["turns"]
        assert [turn["answer"] for turn in after["turns"]] == first
        assert after["session"]["id"] == before["session"]["id"]
        assert "“My name is Ada”" in say(client, "What did I say first?")
        assert questions(client) == ["My name is Ada", "I like tea", "What did I say first?"]
        assert "sqlite store" in server.output
        assert "restart ends" not in server.output


def test_a_demo_killed_within_an_answer_keeps_the_turns_before(tmp_path: Path) -> None:
    """What was acknowledged is there, the question that was being answered too, and a new turn follows it."""
    store = f"sqlite:///{tmp_path}/chat.db"
    arguments, environment = ("--store", store, "--secret-env", "DEMO_KEY"), {"name": "DEMO_KEY", "secret": SECRET}
    with demo(*arguments, **environment) as server, server.client() as client:
        whole = say(client, "My name is Ada")
        with client.stream("POST", "/chat", json={"message": "Tell me more"}) as answer:
            pieces = answer.iter_text()
            while "event: token" not in next(pieces):
                pass
            server.kill()
        cookies = client.cookies
    with demo(*arguments, **environment) as server, server.client(cookies=cookies) as client:
        kept = client.get("/history").json()["turns"]
        assert [turn["question"] for turn in kept] == ["My name is Ada", "Tell me more"]
        assert (kept[0]["answer"], kept[0]["status"]) == (whole, "done")
        assert kept[1]["status"] == "stopped"  # nobody is answering it any more
        say(client, "Again")
        assert questions(client) == ["My name is Ada", "Tell me more", "Again"]


def test_without_a_secret_a_restart_ends_sessions_and_says_so(tmp_path: Path) -> None:
    """The random secret is announced with the remedy; after a restart the old cookie is nobody's."""
    store = f"sqlite:///{tmp_path}/chat.db"
    with demo("--store", store) as server, server.client() as client:
        say(client, "My name is Ada")
        cookies = client.cookies
        said = server.output
        server.kill()
    assert "FASTERSESSION_SECRET is not set" in said
    assert "a restart ends all sessions" in said
    assert "python -m fastersession keygen" in said
    with demo("--store", store) as server, server.client(cookies=cookies) as client:
        assert questions(client) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [("mongodb://user:hidden@host", "known are memory://"), ("sqlite://", "three slashes"), ("nonsense", "scheme")],
)
def test_a_wrong_store_is_a_usage_error(url: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, one sentence that names the option and shows no password."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--store", url])
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert "--store: " in printed
    assert said in printed
    assert "hidden" not in printed


@pytest.mark.parametrize("url", ["sqlite:///{}/missing/chat.db", "redis://user:hidden@127.0.0.1:{}/0"])
def test_a_store_that_cannot_be_opened_is_one_line(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder or a server that is not there: exit status 1 and one sentence, without a password."""
    assert main(["demo", "--port", "0", "--store", url.format(free_port() if "redis" in url else tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"fastersession: the store cannot be used: .+\n", printed.err)
    assert "hidden" not in printed.err


@in_loop
async def test_two_tabs_at_once_each_keep_their_turn(tmp_path: Path) -> None:
    """Turns are attributes of their own: answers that overlap are all kept, in the order of their questions."""
    gate, store = asyncio.Event(), SQLiteStore(tmp_path / "chat.db")
    model = Scripted("one ", gate, "two")
    browser = Browser(create_app(model, store=store, secret_key=SECRET))
    gate.set()
    await say_in_process(browser, "zero")
    gate.clear()
    async with browser.open("/chat", **asking("left")) as left, browser.open("/chat", **asking("right")) as right:
        for tab in (left, right):
            await tab.until(lambda tab=tab: len(tab.answer.chunks) >= 2)
        gate.set()
        await left.ended()
        await right.ended()
    kept = await turns(browser)
    assert kept[0]["question"] == "zero"
    assert sorted(turn["question"] for turn in kept[1:]) == ["left", "right"]
    assert [(turn["answer"], turn["status"]) for turn in kept] == [("one two", "done")] * 3
    await store.close()


@in_loop
async def test_another_tab_sees_the_answer_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is in the store when the answer begins, the words as they come; it runs until its end is there."""
    monkeypatch.setattr(app, "SAVE_SECONDS", -1)
    first, second = asyncio.Event(), asyncio.Event()
    store = FaultyStore(SQLiteStore(tmp_path / "chat.db"))
    browser = Browser(create_app(Scripted(first, "one ", second, "two"), store=store, secret_key=SECRET))
    async with browser.open("/chat", **asking("go")) as reader:
        await reader.until(lambda: reader.answer.chunks)
        seen = [await turns(browser)]
        save = store.hold("update", after=True)
        first.set()
        await asyncio.wait_for(save.reached.wait(), 10)
        seen.append(await turns(browser))
        save.open.set()
        words, end = store.hold("update"), store.hold("update")
        words.open.set()
        second.set()
        await asyncio.wait_for(end.reached.wait(), 10)
        seen.append(await turns(browser))
        end.open.set()
        await reader.ended()
    seen.append(await turns(browser))
    assert [[(turn["question"], turn["answer"], turn["status"]) for turn in view] for view in seen] == [
        [("go", "", "running")],
        [("go", "one ", "running")],
        [("go", "one two", "running")],
        [("go", "one two", "done")],
    ]
    await store.close()


@in_loop
async def test_a_store_that_is_away_in_mid_answer_ends_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be saved while the answer goes on is saved at its end."""
    monkeypatch.setattr(app, "SAVE_SECONDS", -1)
    store = FaultyStore()
    store.fail("update", "raise", times=2)
    browser = Browser(create_app(Scripted("one ", "two"), store=store, secret_key=SECRET))
    assert await say_in_process(browser, "go") == "one two"
    assert "update!" in store.calls
    assert [(turn["answer"], turn["status"]) for turn in await turns(browser)] == [("one two", "done")]
