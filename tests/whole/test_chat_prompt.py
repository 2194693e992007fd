"""An application's own conversation object in Redis: changed in place while it streams, read by another process."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import httpx
from driver import Browser, lifespan
from prompt_app import CODEC, ChatPrompt, Message
from routes import Call
from routes import serve as in_process
from server_apps import SECRET
from servers_redis import standalone
from serving import serve

from fastersession.stores import from_url


async def read(url: str, cookies: httpx.Cookies) -> ChatPrompt:
    """Return the object as a middleware of this process gets it."""
    seen: list[ChatPrompt] = []

    async def look(call: Call) -> None:
        seen.append(call.session["chat_prompt"])
        await call.reply()

    app = in_process({"/look": look}, store=from_url(url), secret_key=SECRET, codec=CODEC)
    browser = Browser(app)
    browser.jar.take((b"set-cookie", f"{name}={value}".encode()) for name, value in cookies.items())
    async with lifespan(app):
        await browser.get("/look")
    return seen[0]


def test_a_conversation_object_goes_from_process_to_process(tmp_path: Path) -> None:
    """What a generator changes in place after the headers is there, as the same types, wherever the next turn runs."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(standalone(tmp_path)).url
        servers = [stack.enter_context(serve("uvicorn-httptools", "prompt_app:app", {"STORE": url})) for _ in range(2)]
        cookies = httpx.Cookies()
        for turn, server in enumerate((*servers, servers[0]), start=1):
            with server.client(cookies=cookies) as client:
                assert client.get("/ask", params={"text": f"text {turn}"}).text == f"turn {turn}: you said text {turn}"
                cookies.update(client.cookies)
        prompt = asyncio.run(read(url, cookies))
        assert not any("Traceback" in server.output for server in servers)
    assert prompt.turns() == 3
    said = [(("user", f"text {turn}"), ("assistant", f"turn {turn}: you said text {turn}")) for turn in (1, 2, 3)]
    assert prompt == ChatPrompt("be brief", [Message(*words) for pair in said for words in pair])
