"""The pytest plugin is found by its entry point, and costs a run that does not use it nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from paths import ROOT

ENTRY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]

TEST = """
import asyncio, sys

def test_fixtures(fastersession_clock, fastersession_store, fastersession_browser):
    from fastersession import FasterSessionMiddleware
    from fastersession.testing import session_of
    app = FasterSessionMiddleware(lambda scope: None, "a secret of the plugin's test, and of nothing else",
                                  store=fastersession_store, idle_timeout=60)
    async def story():
        ada, eve = fastersession_browser(app), fastersession_browser(app, host="testserver")
        async with session_of(ada) as session:
            session["a"] = 1
        async with session_of(eve) as session:
            assert not session
        fastersession_clock.advance(61)
        async with session_of(ada) as session:
            assert not session
        await fastersession_store.close()
    asyncio.run(story())

def test_nothing_is_paid_for():
    assert not {"hypothesis.core", "fastersession.testing.contract.suite"} & set(sys.modules)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, which is searched for plugins as if it were site-packages."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", *arguments]
    paths = {"PYTHONPATH": f"{folder}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env={**os.environ, **paths}, capture_output=True, text=True, timeout=60)


def installed(folder: Path) -> Path:
    """Make the metadata that an installation of this pyproject makes."""
    metadata = folder / "fastersession-0.dist-info"
    metadata.mkdir()
    lines = "\n".join(f"{name} = {target}" for name, target in ENTRY.items())
    (metadata / "entry_points.txt").write_text(f"[pytest11]\n{lines}\n")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fastersession\nVersion: 0\n")
    return folder


def test_the_fixtures_are_there_by_the_entry_point(tmp_path: Path) -> None:
    """Clock, store and browser work together."""
    (installed(tmp_path) / "test_it.py").write_text(TEST)
    done = run(tmp_path, "-W", "error")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_can_be_taken_out(tmp_path: Path) -> None:
    """`-p no:fastersession`."""
    (installed(tmp_path) / "test_it.py").write_text(TEST)
    assert "fixture 'fastersession_clock' not found" in run(tmp_path, "-p", "no:fastersession").stdout
