"""Virtual environments of their own for tools that the tests of everything else should not have to install.

Rules of residence: building them, at the repository's root, at the first run; they are kept.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ROOT", "environment"]

ROOT = Path(__file__).parent.parent


def environment(name: str, *steps: Sequence[str]) -> Path:
    """Return the Python of the environment; each step is what one call of pip installs.

    A stamp says that every step was done, so a broken build is begun anew, and so is one that had other steps.
    """
    folder = ROOT / f".venv-{name}"
    python, stamp, done = folder / "bin" / "python", folder / "complete", repr(steps)
    if not stamp.exists() or stamp.read_text() != done:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for packages in steps:
            command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            subprocess.run(command, check=True, cwd=ROOT)
        stamp.write_text(done)
    return python
