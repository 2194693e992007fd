"""Every Python that is promised, with the newest of everything, and with the oldest that pyproject.toml admits.

The fast tests of an environment run in it, but for what does not depend on the versions that a user has: the benchmark
(its peers are pinned, in an environment of their own) and the demo's pages in a browser. This Python with the newest is
what the fast tier runs on. The oldest is for the oldest Python: most of it was never built for a newer one.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from environments import environment, install
from floors import floors, requirements
from packaging.version import Version
from paths import ROOT
from pythons import LOWEST, NAMED, found

HERE = "{}.{}".format(*sys.version_info)
LEFT_OUT = ("test_bench*.py", "test_browser*.py")
ALL = ["--editable", ".[tests]"]
FOUND = found()
GUIDE = (ROOT / "GUIDE.md").read_text().partition("\n## Versions\n\n")[2].partition("\n## ")[0]


def run(python: Path, *left_out: str) -> None:
    """Run the fast tests in an environment, by its tools."""
    command = [python, "-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider"]
    command += [f"--ignore-glob=tests/*/{name}" for name in (*LEFT_OUT, *left_out)]
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-20_000:]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", [version for version in FOUND if version != HERE])
def test_the_newest_of_everything(version: str) -> None:
    """What `pip install` brings today to each of the Pythons that are here; warnings are errors there, too."""
    python = environment(f"py{version}", ALL, python=FOUND[version])
    install(python, "--upgrade", "--upgrade-strategy", "eager", *ALL)  # it is kept, and today goes on
    run(python)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", [version for version in FOUND if version == LOWEST])
def test_the_oldest_of_everything(version: str) -> None:
    """What was admitted works: each floor at once, and the environment has just these."""
    pins = [f"{name}=={version}" for name, version in floors().items()]
    python = environment("oldest", [*ALL, *pins], python=FOUND[version])
    frozen = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    has = dict(line.split("==") for line in frozen.lower().replace("_", "-").splitlines() if "==" in line)
    assert {name: Version(has[name]) for name in floors()} == floors()
    run(python, "test_examples_typed.py")  # what a checker says depends on how old libraries annotate themselves


def test_the_pythons_are_said_alike_everywhere() -> None:
    """The classifiers, tox and the guide name the same, from the lowest that is required; this one is among them."""
    assert NAMED[0] == LOWEST
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["tox:tox"]["envlist"].split(",") == [f"py{version.replace('.', '')}" for version in NAMED]
    assert GUIDE.startswith(f"Python {', '.join(NAMED[:-1])} and {NAMED[-1]} are tested")
    assert HERE in FOUND


def test_the_guide_names_the_floors() -> None:
    """What it calls the oldest of the frameworks and servers is what pyproject.toml admits."""
    said = re.search(r"from these on: (.+?)\. The", GUIDE, re.DOTALL)
    assert said is not None
    pairs = re.findall(r"(\w+) ([\d.]*\d)", said[1])
    assert len(pairs) == 9
    assert {name.lower(): Version(version) for name, version in pairs}.items() <= floors().items()


def test_no_upper_bound_without_a_reason() -> None:
    """A version that comes out tomorrow is admitted; the ancestor alone is what it was."""
    bounded = {
        each.name for each in requirements() if any(one.operator in ("<", "<=", "==", "~=") for one in each.specifier)
    }
    assert bounded == {"fastsession"}


def test_a_package_has_one_floor() -> None:
    """What a user is promised is what is tested: no extra admits an older version than another."""
    lowest: dict[str, set[str]] = {}
    for each in requirements():
        lowest.setdefault(each.name, set()).update(one.version for one in each.specifier)
    assert {name: versions for name, versions in lowest.items() if len(versions) != 1} == {}
