"""The oldest versions that pyproject.toml admits, as constraints for pip: `python tests/support/floors.py`.

Rules of residence: reading pyproject.toml; nothing is kept by hand here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.version import Version
from paths import ROOT

PROJECT = ROOT / "pyproject.toml"


def requirements() -> Iterator[Requirement]:
    """Return what the package and its extras need, but for the package itself."""
    project = tomllib.loads(PROJECT.read_text())["project"]
    for lines in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from (each for each in map(Requirement, lines) if each.name != project["name"])


def floors() -> dict[str, Version]:
    """Return by package the lowest version that is admitted; of two floors, the one that a set of both has."""
    found: dict[str, Version] = {}
    for each in requirements():
        lowest = min(Version(one.version) for one in each.specifier if one.operator in (">=", "==", "~="))
        found[each.name] = max(lowest, found.get(each.name, lowest))
    return found


if __name__ == "__main__":
    for name, version in sorted(floors().items()):
        print(f"{name}=={version}")
