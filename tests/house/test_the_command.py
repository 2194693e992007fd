"""`tests/run`: its steps, and that none of them keeps the others from running. The tools are stand-ins that tell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from paths import TESTS

RUN = TESTS / "run"
STEPS = {
    "fast": ["ruff check .", "ruff format --check .", "mypy", "pytest -m not long", "pytest --fuzz 180"],
    "long": ["pytest -m long", "pytest --fuzz 600 --fuzz-table tests/results/fuzz.md"],
}
TOOL = """#!/bin/sh
said="$(basename "$0") $*"
echo "ran ${said% }"
[ "${said% }" != "$FAILS" ]
"""


# What the command looks for: nothing shall be installed by a test, on whatever machine it runs.
SYSTEM = (
    *("redis-server", "redis-cli", "wrk", "valgrind", "mariadbd", "postgres"),
    *("firefox-esr", "WebKitWebDriver", "Xvfb", "npm"),
)


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment whose tools say what they are asked to do, and fail at what `FAILS` names."""
    for folder, names in (("bin", ("python", "ruff", "mypy", "pytest")), ("system", (*SYSTEM, "apt-get"))):
        tools = tmp_path / folder
        tools.mkdir()
        for name in names:
            (tools / name).write_text(TOOL)
            (tools / name).chmod(0o755)
    return tmp_path


def run(venv: Path, *arguments: str, fails: str = "") -> subprocess.CompletedProcess[str]:
    path = f"{venv / 'system'}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "FASTERSESSION_VENV": str(venv), "FAILS": fails}
    return subprocess.run(["bash", RUN, *arguments], env=env, capture_output=True, text=True, timeout=60)


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    said = [line.removeprefix("ran ") for line in done.stdout.splitlines() if line.startswith("ran ")]
    assert said.pop(0) == "python -m pip install --quiet --disable-pip-version-check --editable .[tests]"
    return said


@pytest.mark.parametrize("tier", STEPS)
def test_the_command_says_what_it_does_and_how_long_it_takes(tier: str, venv: Path) -> None:
    """Its first line; then every step in order, and it ends with 0."""
    done = run(venv, tier)
    assert (done.returncode, done.stderr) == (0, "")
    first = done.stdout.splitlines()[0]
    assert "on two cores" in first
    assert "fuzzing" in first
    assert ran(done) == STEPS[tier]


@pytest.mark.parametrize(("tier", "fails"), [(tier, step) for tier, steps in STEPS.items() for step in steps])
def test_a_step_that_fails_keeps_none_from_running(tier: str, fails: str, venv: Path) -> None:
    """All steps run; the command is red, and names the one that failed."""
    done = run(venv, tier, fails=fails)
    assert ran(done) == STEPS[tier]
    assert done.returncode == 1
    assert done.stderr == f"tests/run: failed: {fails}\n"


def test_fast_is_what_runs_if_nothing_is_said(venv: Path) -> None:
    """And a tier that does not exist is refused before anything is done."""
    assert ran(run(venv)) == STEPS["fast"]
    done = run(venv, "quick")
    assert (done.returncode, done.stdout) == (2, "")
