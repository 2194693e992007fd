"""The demo's guards: what is refused, what is let in, and the headers that every response carries."""

from __future__ import annotations

import json
import re

import pytest
from driver import Browser, in_loop

from fastersession.demo.app import MAX_QUESTION, create_app
from fastersession.demo.model import BuiltinModel

JSON = (b"content-type", b"application/json")


def chat() -> Browser:
    return Browser(create_app(BuiltinModel(delay=0)))


def message(text: str) -> bytes:
    return json.dumps({"message": text}).encode()


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/chat", [], b'{"message": "a"}', 415),
        ("POST", "/chat", [(b"content-type", b"text/plain")], b'{"message": "a"}', 415),
        ("POST", "/chat", [(b"content-type", b"application/x-www-form-urlencoded")], b"message=a", 415),
        ("POST", "/chat", [JSON, (b"origin", b"https://evil.example")], b'{"message": "a"}', 403),
        ("POST", "/chat", [JSON, (b"origin", b"http://testserver.evil.example")], b'{"message": "a"}', 403),
        ("POST", "/chat", [JSON, (b"origin", b"null")], b'{"message": "a"}', 403),
        ("POST", "/new", [JSON, (b"origin", b"http://testserver:81")], b"{}", 403),
        ("POST", "/new", [], b"{}", 415),
        ("POST", "/chat", [JSON], b"{", 400),
        ("POST", "/chat", [JSON], b"\xff\xfe", 400),
        ("POST", "/chat", [JSON], b"[" * 60_000, 400),
        ("POST", "/chat", [JSON], b"[]", 400),
        ("POST", "/chat", [JSON], b"{}", 400),
        ("POST", "/chat", [JSON], b'{"message": " "}', 400),
        ("POST", "/chat", [JSON], b'{"message": 7}', 400),
        ("POST", "/chat", [JSON], b" " * (64 * 1024 + 1), 413),
        ("POST", "/chat", [JSON], b'{"message": "%b"}' % (b"x" * 16_001), 413),
        ("GET", "/chat", [], b"", 405),
        ("DELETE", "/history", [], b"", 405),
        ("POST", "/", [JSON], b"{}", 405),
        ("GET", "/nothing", [], b"", 404),
        ("GET", "/../app.py", [], b"", 404),
    ],
)
@in_loop
async def test_refusals_are_short_and_change_nothing(
    method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, status: int
) -> None:
    """What is not a request of the page gets its status, one JSON sentence, and no session."""
    answer = await chat().request(method, path, headers=headers, body=body)
    assert (answer.status, answer.cookies) == (status, [])
    assert set(answer.json()) == {"error"}
    assert (answer.header("allow") is not None) == (status == 405)


@in_loop
async def test_the_own_page_and_clients_without_origin_are_let_in() -> None:
    """The page's own origin passes, in any case, with a charset on the content type."""
    browser = chat()
    typed = (b"content-type", b"Application/JSON; charset=utf-8")
    answer = await browser.post("/new", body=b"{}", headers=[typed, (b"origin", b"http://TestServer")])
    assert answer.status == 200


@in_loop
async def test_any_text_survives() -> None:
    """Lone surrogates, null characters and line breaks go through session, stream and history unharmed."""
    browser, odd = chat(), "\ud800 \x00 \r\n\u2028 <b>é🙂"
    await browser.post("/chat", body=message(odd), headers=[JSON])
    assert [turn["question"] for turn in (await browser.get("/history")).json()["turns"]] == [odd]


@pytest.mark.parametrize("letter", ["x", "\u0634", "\u6f22", "\U0001f642"])
@in_loop
async def test_the_longest_question_is_as_long_in_any_script(letter: str) -> None:
    """The bound counts characters, not bytes, and white space around them is not counted."""
    browser = chat()
    body = json.dumps({"message": f" {letter * MAX_QUESTION}\n"}, ensure_ascii=False).encode()
    assert (await browser.post("/chat", body=body, headers=[JSON])).status == 200
    assert (await browser.get("/history")).json()["turns"][0]["question"] == letter * MAX_QUESTION


@in_loop
async def test_a_client_that_leaves_while_asking_is_not_answered() -> None:
    """A request cut off in its body ends without a response and without a session."""
    exchange = chat().open("/chat", method="POST", headers=[JSON])
    await exchange._receive()
    exchange.feed({"type": "http.request", "body": b'{"mess', "more_body": True}, {"type": "http.disconnect"})
    async with exchange:
        answer = await exchange.ended()
    assert (answer.error, answer.messages) == (None, [])


@in_loop
async def test_every_response_is_locked_down() -> None:
    """Each response, refusals and streams included, carries the strict policy; the page needs nothing outside it."""
    browser = chat()
    answers = [await browser.get(path) for path in ("/", "/chat.js", "/chat.css", "/history", "/nothing")]
    answers.append(await browser.post("/chat", body=message("go"), headers=[JSON]))
    for answer in answers:
        assert (answer.header("content-security-policy") or b"").startswith(b"default-src 'none'; script-src 'self';")
        assert answer.header("x-content-type-options") == b"nosniff"
        assert answer.header("referrer-policy") == b"same-origin"
    page, script = answers[0].text, answers[1].text
    assert not re.search(r"https?://|<style|style=|\son\w+=|<script(?! src=\"/)", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|https?://", script)
