"""The guide's WebSocket chat is run: in memory and on SQLite, with two tabs at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import Browser, in_loop
from examples import GUIDED

from fastersession import MemoryStore
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import session_of

STORES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SQLiteStore(folder / "sessions.db"),
}


def example(store: Any) -> Any:
    """Return the application of the example, over a store; the example itself makes one in memory."""
    code = GUIDED["chat_websocket.py"]
    assert code.count("MemoryStore()") == 1
    names: dict[str, Any] = {"store": store}
    exec(code.replace("MemoryStore()", "store"), names)
    return names["app"]


@pytest.mark.parametrize("store", STORES)
@in_loop
async def test_two_tabs_of_the_chat_lose_nothing(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer that a tab has seen is in the session at once, while both sockets are open."""
    monkeypatch.setenv("SESSION_SECRET", "a secret of the guide's chat, and of nothing else")
    kept = STORES[store](tmp_path)
    browser = Browser(example(kept), scheme="https")
    answers = []
    async with browser.websocket("/chat") as first:
        await first.accepted()
        async with browser.websocket("/chat") as second:
            await second.accepted()
            for socket, question in ((first, "one"), (second, "two"), (first, "three"), (second, "four")):
                await socket.send(question)
                answers.append(await socket.receive())
                assert sorted(answers) == sorted(await turns(browser))
    words = ("one", "two", "three", "four")
    assert answers == [f"{word} is question {number}." for number, word in enumerate(words, 1)]
    assert await turns(browser) == answers
    await kept.close()


async def turns(browser: Browser) -> list[str]:
    async with session_of(browser) as session:
        return [session[name]["answer"] for name in sorted(session)]
