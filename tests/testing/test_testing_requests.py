"""The kit's browser takes forms, JSON and headers as HTTP clients do, and every framework reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from driver import in_loop
from fastapi import FastAPI
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import post as litestar_post
from quart import Quart
from quart import request as quart_request
from starlette.requests import Request

from fastersession.testing import Browser

FORM = b"application/x-www-form-urlencoded"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what came: headers but the host, and the body."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "headers": scope["headers"]})
        return
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"] if name != b"host"]
    body = json.dumps([headers, (await receive())["body"].decode()]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def sent(**options: Any) -> list[Any]:
    return (await Browser(echo).post("/", **options)).json()


@in_loop
async def test_a_form_is_encoded_and_declared() -> None:
    """A mapping or pairs; a list is several values; no character of a value gets out of it."""
    _, body = await sent(data={"name": "Ada & Söhne", "tag": ["a", "b"]})
    assert body == "name=Ada+%26+S%C3%B6hne&tag=a&tag=b"
    headers, body = await sent(data=iter([("a", "1"), ("a", "2")]))
    assert (body, headers) == ("a=1&a=2", [["content-type", FORM.decode()], ["content-length", "7"]])
    assert (await sent(data={}))[1] == ""


@in_loop
async def test_json_is_encoded_and_declared() -> None:
    """Any value that JSON has but None, which means no body; empty ones, too."""
    for value in ({"q": "hello"}, [], {}, 0, False, ""):
        headers, body = await sent(json=value)
        assert json.loads(body) == value
        assert headers == [["content-type", "application/json"], ["content-length", str(len(body))]]
    assert await sent(json=None) == [[], ""]


@in_loop
async def test_headers_are_a_mapping_or_pairs_of_text_or_bytes() -> None:
    """Text is encoded and its name lowered, as servers do; bytes arrive as they are, so that a test may send any."""
    expected = [["x-a", "1"], ["x-b", "ä"]]
    assert (await sent(headers={"X-A": "1", "x-b": "ä"}))[0] == expected
    assert (await sent(headers=[("X-A", b"1"), (b"x-b", "ä")]))[0] == expected
    assert (await sent(headers=iter([(b"X-Raw", b"\x00")])))[0] == [["X-Raw", "\x00"]]
    async with Browser(echo).websocket("/", headers={"Origin": "https://testserver"}) as socket:
        assert (await socket.accepted()).header("origin") == b"https://testserver"


@in_loop
async def test_a_content_type_that_is_given_stays_alone() -> None:
    """Headers win over what data and json declare."""
    headers, _ = await sent(json={}, headers={"Content-Type": "application/merge-patch+json"})
    assert headers == [["content-type", "application/merge-patch+json"], ["content-length", "2"]]


@pytest.mark.parametrize("two", [{"data": {}, "json": 1}, {"data": {}, "body": b"x"}, {"json": [], "body": b"x"}])
@in_loop
async def test_a_request_has_one_body(two: dict[str, Any]) -> None:
    """Two kinds of body at once are an error of the test, said at once."""
    with pytest.raises(TypeError, match="one of body, data and json"):
        Browser(echo).open("/", **two)


@in_loop
async def test_every_way_to_ask_takes_them() -> None:
    """What is held open or left in the middle sends a body like a whole exchange."""
    browser = Browser(echo)
    async with browser.open("/", method="PUT", json=[1]) as held:
        await held.ended()
        assert held.answer.json()[1] == "[1]"
    for way in (browser.leave, browser.half_close):
        assert (await way("/", data={"a": "1"})).json()[1] == "a=1"


def fastapi() -> Any:
    app = FastAPI()

    @app.post("/form")
    async def form(request: Request) -> dict[str, Any]:
        return dict(await request.form())

    @app.post("/json")
    async def body(request: Request) -> Any:
        return await request.json()

    return app


def litestar() -> Any:
    @litestar_post("/form", status_code=200)
    async def form(request: LitestarRequest) -> dict[str, Any]:
        return dict((await request.form()).multi_items())

    @litestar_post("/json", status_code=200)
    async def body(request: LitestarRequest) -> Any:
        return await request.json()

    return Litestar([form, body], openapi_config=None, logging_config=None)


def quart() -> Any:
    app = Quart(__name__)

    @app.post("/form")
    async def form() -> dict[str, Any]:
        return dict(await quart_request.form)

    @app.post("/json")
    async def body() -> Any:
        return await quart_request.get_json()

    return app


@pytest.mark.parametrize("make", [fastapi, litestar, quart])
@in_loop
async def test_frameworks_read_what_was_sent(make: Callable[[], Any]) -> None:
    """A form field and a JSON value come out as they went in."""
    browser = Browser(make())
    assert (await browser.post("/form", data={"name": "Ada & Söhne"})).json() == {"name": "Ada & Söhne"}
    assert (await browser.post("/json", json={"name": "ä"})).json() == {"name": "ä"}
