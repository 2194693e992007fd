"""The Pythons of this machine that the package is for.

Rules of residence: finding them; what pyproject.toml says of them is read there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from paths import ROOT

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOWEST: str = _PROJECT["requires-python"].removeprefix(">=")
NAMED = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(_PROJECT["classifiers"]), re.MULTILINE)
_NEXT = "3.14"  # not promised, and tried where it is found
_ASK = "import ensurepip, sys, venv; print(*sys.version_info[:2], sep='.')"


def candidates(version: str) -> Iterator[Path]:
    """Return the programs that may be this version: on the path, and where pyenv keeps those that are not."""
    name = f"python{version}"
    if (on_path := shutil.which(name)) is not None:
        yield Path(on_path)
    kept = Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")
    yield from sorted(
        kept, key=lambda path: [int(number) for number in re.findall(r"\d+", path.parts[-3])], reverse=True
    )


def works(program: Path, version: str) -> bool:
    """Tell if it is that version, and can make environments: a shim of pyenv may lead nowhere."""
    done = subprocess.run([program, "-c", _ASK], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == version


def found() -> dict[str, Path]:
    """Return by version a program of each that there is."""
    working = {
        version: next((program for program in candidates(version) if works(program, version)), None)
        for version in dict.fromkeys([*NAMED, _NEXT])
    }
    return {version: program for version, program in working.items() if program is not None}
