"""SECURITY.md keeps its word: a row for every guarantee, and tests that are there for every row."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

import pytest
from paths import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| ([A-Z][0-9]+[a-z]?) \|(.*?)\|(.*)\|$", TEXT, re.MULTILINE)
COUNTS = {"K": 9, "P": 9, "W": 8, "L": 11, "S": 12, "C": 17, "I": 2, "H": 4}
IDS = {f"{letter}{number}" for letter, count in COUNTS.items() for number in range(1, count + 1)} | {
    "K3b",
    "L3b",
    "L3c",
    "L3d",
    *(f"U{number}" for number in range(1, 13)),
    "U9b",
}
NAMED = re.compile(r"`((?:tests|fastersession/testing)/[\w/]+\.py)::([\w:]+)`")


@functools.cache
def named_in(file: str) -> dict[str, str]:
    """Return the tests of a file with their docstrings; one of a class as ``Class::test``."""
    return dict(_tests(ast.parse((ROOT / file).read_text()).body))


def _tests(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _tests(node.body, f"{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name, ast.get_docstring(node) or ""


def test_every_guarantee_has_one_row() -> None:
    """All ids are there, each once, in order."""
    ids = [row[0] for row in ROWS]
    assert sorted(ids) == sorted(IDS)
    order = [("KPWLSUCIH".index(one[0]), int(re.sub(r"\D", "", one))) for one in ids]
    assert order == sorted(order)


@pytest.mark.parametrize(("guarantee", "text", "tests"), ROWS, ids=[row[0] for row in ROWS])
def test_a_row_says_something_and_its_tests_exist(guarantee: str, text: str, tests: str) -> None:
    """Each is a test of the file, and one at least has the id in its name or at the beginning of its docstring."""
    assert len(text.split()) > 4
    named = NAMED.findall(tests)
    assert NAMED.sub("", tests).strip(" ,") == ""
    found = {name: named_in(file).get(name) for file, name in named}
    assert None not in found.values(), found
    begins = re.compile(rf"(\w+, )*{guarantee}\b")
    in_name = re.compile(rf"(^|::)test_(\w+_)??{guarantee.lower()}_")
    assert any(in_name.search(name) or begins.match(said or "") for name, said in found.items())


def test_nothing_else_is_called_a_test() -> None:
    """A name of a test anywhere else in the text exists too."""
    named = re.findall(r"([\w/]+\.py)::([\w:]+)", TEXT)
    assert len(named) >= len(ROWS)
    assert all(name in named_in(file) for file, name in named)
