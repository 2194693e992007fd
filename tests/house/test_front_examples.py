"""The guide's examples of error pages and of the environment do what stands beside them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from driver import Browser, in_loop, lifespan
from examples import guided

SECRET = "a secret of the guide's examples of the front door, used nowhere else"


@in_loop
async def test_error_pages_and_access_logs_know_who_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The session is read outside of the middleware, after an answer and after a crash."""
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    browser = Browser(guided("error_pages.py", tmp_path).app, scheme="https")
    await browser.get("/hello?name=alice")
    answer = await browser.get("/crash", catch=True)
    assert (answer.status, answer.json()) == (500, {"sorry": "alice"})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "access"]
    assert re.fullmatch("[0-9a-f]{32} alice", line)


@in_loop
async def test_all_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without an argument, the key and the store are those of the two variables."""
    caplog.set_level(logging.INFO, "fastersession")
    monkeypatch.setenv("FASTERSESSION_SECRET", SECRET)
    monkeypatch.setenv("FASTERSESSION_STORE", f"sqlite:///{tmp_path}/sessions.db")
    async with lifespan(guided("from_environment.py", tmp_path).app):
        assert (tmp_path / "sessions.db").exists()
    assert SECRET not in caplog.text
