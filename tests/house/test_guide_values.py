"""What GUIDE.md says of the values that a session may hold is so."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from examples import guided
from routes import SECRET, Call, serve
from stores import SuspendingStore

from fastersession.testing import Browser, session_of


def test_the_example_of_the_guide_keeps_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run as it stands there, and asked twice."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    app = guided("kept.py", tmp_path).app

    async def story() -> list[str]:
        browser = Browser(app)
        return [(await browser.post(f"/say?q={word}")).text for word in ("one", "two")]

    first, second = asyncio.run(story())
    assert first == '"nothing yet"'
    assert re.fullmatch(r"\"<Role\.USER: 'user'> said one, \d{4}\"", second)


@pytest.mark.parametrize("saved", [True, False])
@in_loop
async def test_what_a_task_writes_into_a_nested_value_after_the_request(saved: bool, caplog: Any) -> None:
    """`await session.save()` keeps it; without, it is lost, and nobody is told."""
    kept: list[Any] = []

    async def act(call: Call) -> None:
        call.session["turns"] = []
        kept.append(call.session)
        await call.reply()

    browser = Browser(serve({"/act": act}, store=SuspendingStore(), secure=True))
    await browser.get("/act")
    kept[0]["turns"].append("late")
    if saved:
        await kept[0].save()
    async with session_of(browser) as session:
        assert session["turns"] == (["late"] if saved else [])
    assert "written after" not in caplog.text
