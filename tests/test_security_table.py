"""SECURITY.md keeps its word: a row for every guarantee, and tests that are there for every row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| ([KPWLIH][0-9]+b?) \| (.+?) \| (.+) \|$", TEXT, re.MULTILINE)
COUNTS = {"K": 9, "P": 9, "W": 8, "L": 11, "I": 2, "H": 4}
IDS = {f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)} | {"K3b"}


def functions(path: Path) -> set[str]:
    """Name the tests that pytest collects from a file."""
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_guarantee_has_one_row() -> None:
    """All ids are there, each once, in order."""
    ids = [row[0] for row in ROWS]
    assert sorted(ids) == sorted(IDS)
    assert [one[0] for one in ids] == sorted((one[0] for one in ids), key="KPWLIH".index)


@pytest.mark.parametrize(("guarantee", "tests"), [(row[0], row[2]) for row in ROWS])
def test_the_tests_of_a_row_exist(guarantee: str, tests: str) -> None:
    """Each is a file and a function of it, and one at least is named after the guarantee or says its id."""
    named = [part.strip("`").partition("::") for part in tests.split(", ")]
    assert all(name in functions(ROOT / file) for file, _, name in named), tests
    sources = {file: (ROOT / file).read_text() for file, _, _ in named}
    mentions = re.compile(rf"\b{guarantee}\b|test_{guarantee.lower()}_")
    assert any(mentions.search(source) for source in sources.values())


def test_nothing_else_is_called_a_test() -> None:
    """A name of a test anywhere else in the text exists too."""
    named = re.findall(r"(tests/\w+\.py)::(\w+)", TEXT)
    assert len(named) >= len(ROWS)
    assert all(name in functions(ROOT / file) for file, name in named)
