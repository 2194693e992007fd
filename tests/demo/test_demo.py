"""The demo's chat in process: what of a turn is kept, however the turn ends."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from driver import Answer, Browser, in_loop, lifespan

from fastersession.demo.app import create_app
from fastersession.demo.model import BuiltinModel, ModelError, Turn

JSON = (b"content-type", b"application/json")


class Scripted:
    """Yields the pieces of its script; an exception in it is raised, an event is waited for."""

    name = "scripted"

    def __init__(self, *script: Any) -> None:
        self.script, self.closed, self.seen = script, 0, []

    async def answer(self, turns: Sequence[Turn]) -> AsyncGenerator[str, None]:
        self.seen.append([turn["question"] for turn in turns])
        try:
            for step in self.script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1


def chat(model: Any = None) -> Browser:
    return Browser(create_app(model or BuiltinModel(delay=0)))


def asking(text: str) -> dict[str, Any]:
    return {"method": "POST", "body": json.dumps({"message": text}).encode(), "headers": [JSON]}


def events(answer: Answer) -> list[tuple[str, Any]]:
    found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", answer.text)
    return [(name, json.loads(data)) for name, data in found]


async def say(browser: Browser, text: str) -> str:
    answer = await browser.request(target="/chat", **asking(text))
    return "".join(data for name, data in events(answer) if name == "token")


async def turns(browser: Browser) -> list[Turn]:
    return (await browser.get("/history")).json()["turns"]


@in_loop
async def test_the_conversation_lives_in_the_session() -> None:
    """Three turns of one browser are in its history, answers included, and the model sees them."""
    browser = chat()
    await say(browser, "My name is Ada")
    await say(browser, "I like tea")
    assert "“My name is Ada”" in await say(browser, "What did I say first?")
    assert [turn["status"] for turn in await turns(browser)] == ["done"] * 3
    assert (await turns(browser))[2]["answer"].startswith("You said")


@in_loop
async def test_two_browsers_are_two_conversations() -> None:
    """Nothing of one browser's conversation reaches another's."""
    ada = chat()
    grace = Browser(ada.app)
    await say(ada, "tea")
    await say(grace, "cake")
    assert [turn["question"] for turn in await turns(ada)] == ["tea"]
    assert [turn["question"] for turn in await turns(grace)] == ["cake"]


@in_loop
async def test_looking_makes_no_session() -> None:
    """Page, files and history set no cookie before the first message."""
    browser = chat()
    for path in ("/", "/chat.js", "/chat.css", "/history"):
        answer = await browser.get(path)
        assert (answer.status, answer.cookies) == (200, [])
    assert answer.json() == {"model": "built-in", "turns": [], "session": None, "user": None, "devices": []}


@in_loop
async def test_a_turn_streams_panel_tokens_and_ending() -> None:
    """The panel comes first, then one event per piece, then the ending; the cookie left with the headers."""
    browser = chat(Scripted("one ", "two\nlines"))
    answer = await browser.request(target="/chat", **asking("go"))
    (first, panel), *tokens, (last, ending) = events(answer)
    assert (first, tokens, last) == ("session", [("token", "one "), ("token", "two\nlines")], "end")
    assert (ending["status"], ending["session"]["turns"], ending["session"]["id"]) == ("done", 1, panel["id"])
    assert re.fullmatch(r"[0-9a-f]{32}", panel["id"])
    assert answer.header("content-type") == b"text/event-stream; charset=utf-8"
    (cookie,) = answer.cookies
    assert "httponly" in cookie.attributes
    assert "secure" not in cookie.attributes
    restored = (await browser.get("/history")).json()
    assert restored["session"]["id"] == panel["id"]
    assert restored["session"]["bytes"] == len(json.dumps(restored["turns"]))


@pytest.mark.parametrize("closing", [None, BrokenPipeError])
@in_loop
async def test_leaving_keeps_the_partial_answer(closing: type[OSError] | None) -> None:
    """A client that leaves stops the model; what was said until then is kept, whether or not send() raises."""
    model = Scripted("one ", "two ", asyncio.Event(), "never")
    browser = chat(model)
    answer = await browser.leave("/chat", after=3, closing=closing, **asking("go"))
    assert (answer.error, model.closed) == (None, 1)
    (turn,) = await turns(browser)
    assert turn == {"question": "go", "answer": "one two ", "status": "stopped", "error": ""}


@in_loop
async def test_leaving_before_the_first_word_keeps_the_question() -> None:
    """A model that has not begun is stopped all the same."""
    model = Scripted(asyncio.Event())
    browser = chat(model)
    await browser.leave("/chat", after=1, **asking("go"))
    assert [(turn["question"], turn["status"]) for turn in await turns(browser)] == [("go", "stopped")]
    assert model.closed == 1


@in_loop
async def test_shutdown_keeps_the_partial_answer() -> None:
    """A server that cancels the request loses nothing of the turn."""
    model = Scripted("one ", "two ", asyncio.Event())
    browser = chat(model)
    await browser.cancel("/chat", after=3, **asking("go"))
    (turn,) = await turns(browser)
    assert (turn["answer"], turn["status"], model.closed) == ("one two ", "stopped", 1)


@in_loop
async def test_a_closing_server_ends_answers_in_order() -> None:
    """Who is being answered when the server stops gets the end of the answer, and keeps what there is of it."""
    closing, model = asyncio.Event(), Scripted("one ", "two ", asyncio.Event())
    browser = Browser(create_app(model, closing=closing))
    async with browser.open("/chat", **asking("go")) as reader:
        await reader.until(lambda: len(reader.answer.chunks) >= 3)
        closing.set()
        answer = await reader.ended()
    assert (answer.error, model.closed) == (None, 1)
    assert [(name, data["status"]) for name, data in events(answer)[-1:]] == [("end", "stopped")]
    assert answer.messages[-1] == {"type": "http.response.body"}
    assert [(turn["answer"], turn["status"]) for turn in await turns(browser)] == [("one two ", "stopped")]


@in_loop
async def test_a_model_error_is_a_sentence_in_the_chat() -> None:
    """When the model fails, question, partial answer and reason are streamed and kept."""
    browser = chat(Scripted("half", ModelError("The server is tired.")))
    answer = await browser.request(target="/chat", **asking("go"))
    assert answer.status == 200
    assert events(answer)[-1][1]["error"] == "The server is tired."
    assert await turns(browser) == [
        {"question": "go", "answer": "half", "status": "error", "error": "The server is tired."}
    ]


@in_loop
async def test_a_bug_in_the_model_is_kept_and_raised() -> None:
    """An unexpected exception reaches the server's log; the turn says that it failed."""
    browser = chat(Scripted("half", ZeroDivisionError()))
    answer = await browser.request(target="/chat", catch=True, **asking("go"))
    assert isinstance(answer.error, ZeroDivisionError)
    assert [(turn["answer"], turn["status"]) for turn in await turns(browser)] == [("half", "error")]


@in_loop
async def test_two_tabs_talk_at_once() -> None:
    """Turns that run side by side in one session each keep their own answer."""
    gate = asyncio.Event()
    model = Scripted("one ", gate, "two")
    browser = chat(model)
    gate.set()
    await say(browser, "zero")
    gate.clear()
    async with browser.open("/chat", **asking("first")) as left, browser.open("/chat", **asking("second")) as right:
        await left.until(lambda: len(left.answer.chunks) >= 2)
        await right.until(lambda: len(right.answer.chunks) >= 2)
        gate.set()
        await left.ended()
        await right.ended()
    assert [(turn["question"], turn["answer"]) for turn in await turns(browser)] == [
        ("zero", "one two"),
        ("first", "one two"),
        ("second", "one two"),
    ]
    assert model.seen == [["zero"], ["zero", "first"], ["zero", "first", "second"]]


@in_loop
async def test_new_chat_forgets() -> None:
    """After a new chat the history is empty, the cookie gone, and the old cookie opens nothing."""
    browser = chat()
    await say(browser, "tea")
    old = Browser(browser.app)
    old.jar = browser.jar.copy()
    answer = await browser.post("/new", json={})
    assert (answer.json(), dict(browser.jar)) == ({}, {})
    assert await turns(browser) == await turns(old) == []
    await say(browser, "cake")
    assert [turn["question"] for turn in await turns(browser)] == ["cake"]


@in_loop
async def test_a_late_answer_does_not_bring_a_forgotten_chat_back() -> None:
    """A stream that ends after "new chat" in another tab revives nothing."""
    gate = asyncio.Event()
    browser = chat(Scripted("one ", gate, "two"))
    async with browser.open("/chat", **asking("tea")) as held:
        await held.until(lambda: len(held.answer.chunks) >= 2)
        old = browser.jar.copy()
        await browser.post("/new", json={})
        gate.set()
        await held.ended()
    browser.jar = old
    assert await turns(browser) == []


@in_loop
async def test_head_and_lifespan_and_websocket() -> None:
    """HEAD is answered as GET is, lifespan is completed, and a WebSocket is turned away."""
    browser = chat()
    async with lifespan(browser.app):
        assert (await browser.request("HEAD", "/")).status == 200
        async with browser.websocket("/") as socket:
            assert (await socket.accepted()).messages[0]["type"] == "websocket.close"
