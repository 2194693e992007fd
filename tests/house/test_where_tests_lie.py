"""Tests lie on the floors of the package, and helpers beside them: `ls` shows which is which."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from paths import RESULTS, SUPPORT, TESTS

FOLDERS = sorted(path for path in TESTS.iterdir() if path.is_dir() and path.name != "__pycache__")
FLOORS = [folder for folder in FOLDERS if folder not in (SUPPORT, RESULTS)]
COUNTED = re.compile(r"Path\(__file__\)|(?<![.\w])__file__\.")


def test_tests_and_helpers_lie_apart() -> None:
    """A floor holds tests alone, `support` none, and the top what all of them need."""
    assert {path.name for path in TESTS.iterdir() if path.is_file()} == {"conftest.py", "run"}
    for floor in FLOORS:
        strangers = {path.name for path in floor.iterdir() if not re.fullmatch(r"test_\w+\.py", path.name)}
        assert strangers - {"__pycache__"} == {"README.md"}
    assert list(SUPPORT.rglob("test_*")) == []


def test_a_test_modules_name_is_its_own() -> None:
    """They are imported by their names alone, so two of one name would be taken for each other."""
    names = [path.stem for path in TESTS.rglob("*.py") if path.name != "__init__.py"]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_says_in_three_lines_what_it_is_for(folder: Path) -> None:
    """Whoever lists the folders finds in each what is proven or kept there."""
    lines = (folder / "README.md").read_text().splitlines()
    assert len(lines) == 3
    assert all(20 < len(line) <= 120 for line in lines)


def test_nobody_counts_folders() -> None:
    """Where something lies is asked of `paths`, so that a file can be moved."""
    assert [path.name for path in TESTS.rglob("*.py") if COUNTED.search(path.read_text())] == ["paths.py"]
