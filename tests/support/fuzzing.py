"""`pytest --fuzz SECONDS`: every property of the suite, with new examples until the time is over.

Rules of residence: hooks of pytest; no test. A property is a test that `@given` drives; each gets an equal share of the
time. What fails is shrunk and shown as ever, with the line that repeats it.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROUND = 100  # examples before the clock is looked at, and hypothesis begins anew with small ones
tried: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzzing")
    group.addoption("--fuzz", type=float, metavar="SECONDS", help="run the properties only, for so long in all")
    group.addoption("--fuzz-table", type=Path, metavar="FILE", help="write what was tried as a table")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.fuzz:
        settings.register_profile(
            "fuzz",
            max_examples=ROUND,
            derandomize=False,  # CI would try the same examples for ever
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow],
        )
        settings.load_profile("fuzz")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.fuzz:
        chosen = [item for item in items if isinstance(item, pytest.Function) and hasattr(item.obj, "hypothesis")]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen
        for item in chosen:
            share = config.option.fuzz / len(chosen)
            item.obj = over_and_over(item.obj, share, item.nodeid)
            item.add_marker(pytest.mark.timeout(share + 600))  # to shrink what fails


def over_and_over(prove: Any, share: float, name: str) -> Callable[..., None]:
    """Return a test that repeats the rounds of a property for a share of the time, and counts its examples."""
    inner = prove.hypothesis.inner_test

    @functools.wraps(inner)
    def counted(*args: Any, **kwargs: Any) -> Any:
        tried[name] += 1
        return inner(*args, **kwargs)

    @functools.wraps(prove)
    def repeated(**fixtures: Any) -> None:
        end = time.monotonic() + share
        prove.hypothesis.inner_test = counted
        try:
            while True:
                prove(**fixtures)
                if time.monotonic() >= end:
                    return
        finally:
            prove.hypothesis.inner_test = inner

    return repeated


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.option.fuzz:
        terminalreporter.write_line(f"fuzz: {tried.total():,} examples of {len(tried)} properties")
    if config.option.fuzz_table:
        rows = [f"| `{name.removeprefix('tests/')}` | {count:,} |" for name, count in sorted(tried.items())]
        head = [f"`pytest --fuzz {config.option.fuzz:g}`", "", "| property | examples |", "| --- | ---: |"]
        config.option.fuzz_table.write_text("\n".join([*head, *rows, f"| all | {tried.total():,} |", ""]))
