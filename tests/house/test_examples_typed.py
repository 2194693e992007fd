"""Type checkers at their strictest find nothing to say about the examples of README and GUIDE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from examples import everything
from paths import ROOT

PYRIGHT = ROOT / ".venv-pyright"


@pytest.mark.timeout(320)
def test_mypy_has_nothing_to_say(tmp_path: Path) -> None:
    """Every example passes `mypy --strict`."""
    files = everything(tmp_path)
    assert len(files) > 8
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / f"examples-{zlib.crc32(sys.prefix.encode())}"),
        "--config-file",
        "",
    ]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    run = subprocess.run([*command, *files], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
def test_pyright_has_nothing_to_say(tmp_path: Path) -> None:
    """Every example passes pyright, which is installed from the npm registry into a folder of its own."""
    command = PYRIGHT / "node_modules" / ".bin" / "pyright"
    if not command.exists():
        npm = shutil.which("npm")
        assert npm is not None, "pyright needs node and npm: tests/run long installs them"
        PYRIGHT.mkdir(exist_ok=True)
        install = [npm, "install", "--prefix", str(PYRIGHT), "--no-fund", "--no-audit", "pyright"]
        done = subprocess.run(install, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    everything(tmp_path)
    settings = {"typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    run = subprocess.run(
        [str(command), "--pythonpath", sys.executable, "--project", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
