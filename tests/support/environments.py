"""Virtual environments of their own for tools that the tests of everything else should not have to install.

Rules of residence: building them, at the repository's root, at the first run; they are kept.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from paths import ROOT


def environment(name: str, *steps: Sequence[str], python: str | Path = sys.executable) -> Path:
    """Return the Python of the environment; each step is what one call of pip installs.

    A stamp says that every step was done, so a broken build is begun anew, and so is one that had other steps.

    :param python: what makes it, and so its version.
    """
    folder = ROOT / f".venv-{name}"
    made, stamp, done = folder / "bin" / "python", folder / "complete", repr((str(python), steps))
    if not stamp.exists() or stamp.read_text() != done:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        for packages in steps:
            install(made, *packages)
        stamp.write_text(done)
    return made


def install(python: Path, *arguments: str) -> None:
    """Run pip, at the repository's root."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, cwd=ROOT)
