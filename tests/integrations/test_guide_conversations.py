"""GUIDE's examples of conversations in other libraries' hands, by these libraries' own clients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agents import set_tracing_disabled
from driver import in_loop
from echo import Echo
from examples import guided

from fastersession.testing import Browser

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Give a function that imports an example by the name it begins with."""
    monkeypatch.setenv("SESSION_SECRET", "a secret of GUIDE's examples, and of nothing else")
    return lambda name: guided(name, tmp_path)


@in_loop
async def test_an_agent_remembers(load: Load) -> None:
    """A visitor's second question is given the first one; another visitor's is not."""
    set_tracing_disabled(True)
    example = load("chat_agents.py")
    example.agent.model = Echo()
    ada, eve = Browser(example.app), Browser(example.app)
    answers = [(await browser.post(f"/chat?q={q}")).json() for browser, q in ((ada, "1"), (ada, "2"), (eve, "3"))]
    assert answers == ["1: 1", "3: 2", "1: 3"]


@in_loop
async def test_langchain_remembers(load: Load) -> None:
    """The same."""
    app = load("chat_langchain.py").app
    browser: Any = Browser(app)
    assert (await browser.post("/chat?q=hello")).json() == ["hello", "Hello."]
    assert (await browser.post("/chat?q=again")).json() == ["hello", "Hello.", "again", "You said hello before."]
    assert len((await Browser(app).post("/chat?q=hello")).json()) == 2
