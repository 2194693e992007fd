"""Where things lie: the checkout, its tests, their helpers, and the tables that they write.

Rules of residence: paths, and no work but finding them. Everything else asks here instead of counting folders.
"""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
ROOT = TESTS.parent
RESULTS = TESTS / "results"


def place_of(name: str) -> str:
    """Return where the test module of this name lies, from the root of the checkout."""
    (found,) = TESTS.glob(f"*/{name}.py")
    return found.relative_to(ROOT).as_posix()
